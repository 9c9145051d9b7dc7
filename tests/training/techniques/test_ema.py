"""The exponential moving average of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.loading.loader import open_loader
from foundations.errors import UsageError
from open_prune import sparse
from pruning.masks.mask import Mask
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from tests.training.techniques.toy_training import network, run, toy_training
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.compute import complete, ensure_states
from training.loop.evaluation import evaluate

BATCHNORM: dict[str, Any] = {"model_name": "digits_resnet_8_4", "training_steps": "2ep"}


def weights_by_step(iterations: int, **flags: Any) -> list[dict[str, Tensor]]:
    """Return the weights before each step of a training without the average."""
    training, found = toy_training(None), list[dict[str, Tensor]]()

    def note(_: object) -> None:
        found.append({name: p.detach().clone() for name, p in training.model.named_parameters()})

    run(training, iterations, [note], **flags)
    return found


@pytest.mark.parametrize(("begin", "warmup"), [(0, False), (3, False), (2, True)])
def test_the_last_weights_are_the_average_by_its_definition(begin: int, warmup: bool) -> None:
    steps = weights_by_step(18)
    expected = steps[begin]
    for t, weights in enumerate(steps[begin + 1 :], 1):
        decay = min(0.7, (1 + t) / (10 + t)) if warmup else 0.7
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in weights}
    training = toy_training(None)

    run(training, 18, technique="ema", ema_decay=0.7, ema_begin=f"{begin}it", ema_warmup=warmup)

    torch.testing.assert_close(dict(training.model.named_parameters()), expected, rtol=1e-12, atol=1e-12)


def accuracy_of(desc: TrainDesc, state: dict[str, Tensor], digits: Path) -> float:
    model = initialized_model(desc, 1)
    model.load_state_dict(state)
    return evaluate(model, open_loader(desc.dataset, digits).test_batches(), 10)["test_loss"]


def test_the_average_is_evaluated_and_kept_at_every_step(tmp_path: Path, digits: Path) -> None:
    desc, plain = (train_desc(**BATCHNORM, **more) for more in ({"technique": "ema", "ema_decay": 0.9}, {}))
    place = context(tmp_path, digits)

    states = [ensure_states(each, place, [each.start.at(6), each.start.at(7)]) for each in (desc, plain)]
    done = complete(desc, place).run

    for iteration in (6, 12):
        state = done.load_state(desc.start.at(iteration))
        assert done.metrics().values["test_loss", iteration] == pytest.approx(
            accuracy_of(desc, state, digits), rel=1e-5
        )
    average, weights = (run.load_state(desc.start.at(7)) for run in states)
    first = states[0].load_state(desc.start.at(6))
    name = "fc.weight"
    torch.testing.assert_close(average[name], 0.9 * first[name] + 0.1 * weights[name])
    statistics = next(name for name in average if name.endswith("running_mean"))
    torch.testing.assert_close(average[statistics], 0.9 * first[statistics] + 0.1 * weights[statistics])


def test_only_at_the_end_other_states_are_those_that_train(tmp_path: Path, digits: Path) -> None:
    desc = train_desc(technique="ema", ema_decay=0.9, ema_only_at_end=True)
    place = context(tmp_path, digits)

    done, plain = complete(desc, place).run, complete(train_desc(), place).run
    ensure_states(desc, place, [desc.start.at(6)])
    ensure_states(train_desc(), place, [desc.start.at(6)])

    same = [
        all(torch.equal(t, plain.load_state(step)[name]) for name, t in done.load_state(step).items())
        for step in (desc.start.at(6), desc.end)
    ]
    assert same == [True, False]


def test_the_best_state_is_the_average_however_it_is_kept(tmp_path: Path, digits: Path) -> None:
    flags = {"lr": 0.8, "validation_examples": 157, "training_steps": "4ep", "technique": "ema", "ema_decay": 0.5}
    desc, states = train_desc(**flags), []
    for name, first in (("at once", True), ("replayed", False)):
        complete(desc, context(tmp_path / name, digits, keep_best=first))
        run = complete(desc, context(tmp_path / name, digits, keep_best=True)).run
        best = run.best_step(5)
        assert best is not None and best < desc.end
        states.append(run.load_state(best))

    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_pruned_weights_of_the_average_are_zero(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random", density=0.5, technique="gmp,ema", gmp_density=0.1, gmp_frequency="2it", ema_decay=0.9)
    place = context(tmp_path, digits)
    complete(desc, place)
    ensure_states(desc, place, [desc.start.at(6)])
    run = run_of(desc, place)
    mask = Mask.from_tensors(*run.load_mask())

    last = run.load_state(desc.end)

    assert all(not last[name][~kept].any() and last[name][kept].all() for name, kept in mask.items())


def test_an_average_that_begins_at_the_end_is_refused() -> None:
    with pytest.raises(UsageError, match="ema_begin: 18it is not before the end of training, 18it"):
        train_desc(technique="ema", ema_begin="18it")


def test_the_average_serves_a_loop_of_ones_own() -> None:
    model = network()
    weight = model.get_parameter("0.weight")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training = sparse(optimizer, model, "ema", end=3, ema_decay=0.5)
    before = weight.detach().clone()
    model(torch.ones(1, 12).double()).sum().backward()
    optimizer.step()
    after = weight.detach().clone()

    with training.evaluated():
        torch.testing.assert_close(weight.detach(), (before + after) / 2)

    assert torch.equal(weight, after)
