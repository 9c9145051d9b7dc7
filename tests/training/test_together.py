"""Trainings that one process runs together, compared with the same trainings alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.description.desc import Desc
from foundations.description.step import Step
from foundations.errors import DamagedError, Interrupted
from foundations.plan import Target, plan
from foundations.reporter import NullReporter
from foundations.storage.run import CHECKPOINT, Run
from foundations.storage.upkeep import verify
from models.dropout import Dropout
from pruning.prune import prune
from tests.training.small_runs import FORK, context, oneshot_desc, run_of, tensor_digests, train_desc
from training.context import Context
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.compute import execute
from training.jobs.together import SharedClock, Stack, Turns
from training.loop.trainer import Trainer

METHODS = ("dense", "random", "magnitude", "snip10", "grasp10", "synflow", "taylor10", "phew")
TOLERANCE = 1e-9


def trainings(desc: TrainDesc, methods: Sequence[str], place: Context) -> list[Trainer]:
    """Return one training in float64 for each method, of one network pruned by it, each with its own data order."""
    shape = desc.dataset.input_shape
    x, y = torch.rand(100, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10
    found = []
    for replicate, method in enumerate(methods):
        model = initialized_model(desc, 1)
        examples = (x, y) if method.endswith("10") else None
        mask = None
        if method != "dense":
            mask = prune(model, method, density=0.3, examples=examples, input_shape=shape, seed=replicate)
        trainer = Trainer(model, desc, place, place.platform, replicate)
        trainer.model.double()
        trainer.prepare(mask, desc.start)
        trainer.model.train()
        found.append(trainer)
    return found


def batches(trainers: Sequence[Trainer], steps: int) -> list[list[tuple[Tensor, Tensor]]]:
    """Return the batches of some steps: a list for each step, with a batch for each training."""
    orders = [trainer.loader.train_batches(0) for trainer in trainers]
    return [[(x.double(), y) for x, y in (next(order) for order in orders)] for _ in range(steps)]


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    momentum = {
        f"momentum.{name}": trainer.optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in trainer.model.named_parameters()
    }
    return {name: tensor.clone() for name, tensor in (trainer.model.state_dict() | momentum).items()}


@pytest.mark.parametrize(
    ("model_name", "methods", "steps"),
    [("digits_lenet_40_20", METHODS, 20), ("digits_resnet_20", METHODS[1:5], 6)],
)
def test_stacked_trainings_are_those_alone_step_by_step(
    model_name: str, methods: Sequence[str], steps: int, tmp_path: Path, digits: Path
) -> None:
    desc = train_desc(model_name=model_name, batch_size=32, label_smoothing=0.1)
    place = context(tmp_path, digits)
    alone, together = (trainings(desc, methods, place) for _ in range(2))
    stack = Stack(together)

    for asked in batches(alone, steps):
        stack.compute_gradients(asked)
        for trainer, other, batch in zip(alone, together, asked, strict=True):
            trainer.compute_gradients(*batch)
            for each in (trainer, other):
                each.optimizer.step()
            torch.testing.assert_close(tensors_of(other), tensors_of(trainer), rtol=TOLERANCE, atol=TOLERANCE)
            assert other.epoch.state_dict()["sums"].tolist() == pytest.approx(
                trainer.epoch.state_dict()["sums"].tolist(), rel=1e-9
            )
    assert len({str(trainer.model.state_dict()) for trainer in alone}) == len(methods)


@pytest.mark.parametrize(
    "options",
    [({"mixup": 0.8, "cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}), ({"cutmix": 1.0}, {})],
    ids=["all", "some"],
)
def test_stacked_trainings_mix_and_clip_and_average_as_alone(
    options: tuple[dict[str, Any], ...], tmp_path: Path, digits: Path
) -> None:
    place = context(tmp_path, digits)

    def trained(*, in_stack: bool) -> list[Trainer]:
        trainers = []
        for replicate, flags in enumerate(options):
            more = {"clip_grad_norm": 0.2, "technique": "ema", "ema_decay": 0.5, "training_steps": "6it", **flags}
            desc = train_desc(batch_size=32, **more)
            model = initialized_model(desc, replicate, techniques=desc.techniques)
            trainer = Trainer(model, desc, place, place.platform, replicate, techniques=desc.techniques)
            trainer.model.double()
            trainer.prepare(None, desc.start)
            trainers.append(trainer)
        stack = Stack(trainers) if in_stack else None
        for drawn in zip(*(each._steps(each.desc.start, each.desc.end, ()) for each in trainers), strict=True):
            asked = [(x.double(), y) for x, y in drawn]
            if stack is not None:
                stack.compute_gradients(asked)
            else:
                for trainer, batch in zip(trainers, asked, strict=True):
                    trainer.compute_gradients(*batch)
        return trainers

    for found, expected in zip(trained(in_stack=True), trained(in_stack=False), strict=True):
        torch.testing.assert_close(tensors_of(found), tensors_of(expected), rtol=TOLERANCE, atol=TOLERANCE)


def test_a_released_network_has_tensors_of_its_own(tmp_path: Path, digits: Path) -> None:
    trainers = trainings(train_desc(), METHODS[:2], context(tmp_path, digits))
    stack = Stack(trainers)
    stack.release()
    before = {name: tensor.clone() for name, tensor in trainers[1].model.state_dict().items()}

    with torch.no_grad():
        for parameter in trainers[0].model.parameters():
            parameter.add_(1)

    for name, tensor in trainers[1].model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in trainers[0].model.parameters())


def test_a_network_that_cannot_be_stacked_takes_turns(tmp_path: Path, digits: Path) -> None:
    trainers = trainings(train_desc(), ("dense", "random"), context(tmp_path, digits))
    for trainer in trainers:
        trainer.model = nn.Sequential(trainer.model, Dropout(0.5)).double()
    (asked,) = batches(trainers, 1)

    assert Stack.of(trainers, asked[0][0]) is None
    Turns().compute_gradients(list(zip(trainers, asked, strict=True)))

    assert all(parameter.grad is not None for trainer in trainers for parameter in trainer.model.parameters())
    assert {trainer.stacked for trainer in trainers} == {1}


# Whole runs. The small network takes a stack on a CPU, the residual one does not.

RESNET = {"model_name": "digits_resnet_8_4", "training_steps": "2ep"}
BRANCHES = (
    train_desc(lr=0.03),
    oneshot_desc("snip10", density=0.2),
    oneshot_desc("random", density=0.3, technique="rigl", mask_update_frequency="2it"),
    oneshot_desc("synflow", density=0.1, technique="smoothing"),
)
SECOND = 2
"""The replicate of the runs."""


def place_of(root: Path, datasets: Path, **changes: Any) -> Context:
    return context(root, datasets, **{"replicate": SECOND, **changes})


def computed(descs: Sequence[Desc], place: Context) -> list[Run]:
    """Compute some runs of the second replicate, as many at once as the context says."""
    execute(plan([Target(desc, SECOND) for desc in descs], place.root), place)
    return [run_of(desc, place) for desc in descs]


def devices(runs: Sequence[Run]) -> list[str]:
    manifests = [run.manifest() for run in runs]
    return [manifest.device for manifest in manifests if manifest is not None]


def check_alike(runs: Sequence[Run], others: Sequence[Run]) -> None:
    """Check that runs are complete and differ by rounding only."""
    for run, other in zip(runs, others, strict=True):
        assert verify(run) == []
        for step in other.kept_states(6):
            torch.testing.assert_close(run.load_state(step), other.load_state(step), rtol=1e-3, atol=1e-4)
        found, expected = run.metrics().values, other.metrics().values
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx(list(expected.values()), abs=0.01)


def test_runs_that_take_turns_have_the_bytes_of_runs_alone(tmp_path: Path, digits: Path) -> None:
    descs = [
        train_desc(**RESNET),
        train_desc(**RESNET, lr=0.03, technique="smoothing"),
        train_desc(**RESNET, accumulate=2, clip_grad_norm=0.5, mixup=1.0, technique="ema"),
        train_desc(**{**RESNET, "training_steps": "1ep2it"}),
        oneshot_desc("snip10", RESNET, density=0.2, technique="rigl", mask_update_frequency="2it"),
        oneshot_desc("synflow", RESNET, density=0.1),
    ]

    alone = computed(descs, place_of(tmp_path / "alone", digits))
    together = computed(descs, place_of(tmp_path / "together", digits, together=8))

    assert [tensor_digests(run) for run in together] == [tensor_digests(run) for run in alone]
    assert devices(together) == devices(alone)


def test_stacked_runs_differ_from_runs_alone_by_rounding_and_say_so(tmp_path: Path, digits: Path) -> None:
    alone = computed(BRANCHES, place_of(tmp_path / "alone", digits))
    together = computed(BRANCHES, place_of(tmp_path / "together", digits, together=8))

    check_alike(together, alone)
    assert all(device.endswith("stacked with 3 other runs") for device in devices(together))
    assert not any("stacked" in device for device in devices(alone))


def test_runs_are_trained_together_in_groups_of_at_most_so_many(tmp_path: Path, digits: Path) -> None:
    runs = computed(BRANCHES, place_of(tmp_path, digits, together=3))

    assert sorted(device.partition("stacked")[2] for device in devices(runs)) == ["", *[" with 2 other runs"] * 3]


def _cut_off(place: Context, signal_number: int, at: int) -> None:
    """In a forked process: be struck by a signal at some training step of the last run."""

    class Striker(NullReporter):
        def progress(self, what: str, done: int, total: int, unit: str) -> None:
            if what == "train" and done == at:
                os.kill(os.getpid(), signal_number)

    struck = replace(place, reporter=Striker(), checkpoint_seconds=0.0)
    with struck.interrupts.caught():
        try:
            computed(BRANCHES, struck)
        except Interrupted:
            os._exit(3)


@pytest.mark.parametrize("how", [8, 1], ids=["together", "alone"])
@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGTERM, 3), (signal.SIGKILL, -9)])
def test_runs_that_were_cut_off_together_go_on_together_or_alone(
    signal_number: int, code: int, how: int, tmp_path: Path, digits: Path
) -> None:
    place = place_of(tmp_path / "cut", digits, together=8)
    process = FORK.Process(target=_cut_off, args=(place, signal_number, 7))
    process.start()
    process.join(60)
    assert process.exitcode == code
    runs = [run_of(desc, place) for desc in BRANCHES]
    assert all((run.folder / CHECKPOINT).exists() and not run.manifest() for run in runs)

    computed(BRANCHES, replace(place, together=how))

    check_alike(runs, computed(BRANCHES, place_of(tmp_path / "alone", digits)))
    assert all("stacked with 3 other runs" in device for device in devices(runs))


def test_runs_that_were_cut_off_at_different_steps_go_on_together(tmp_path: Path, digits: Path) -> None:
    place = place_of(tmp_path / "cut", digits)
    descs = [replace(desc, techniques=None) for desc in BRANCHES]
    for at, desc in enumerate(descs):
        made = plan([Target(desc, SECOND, (Step(2 * at, 6),), is_complete=False)], place.root)
        execute(made, place)

    runs = computed(descs, replace(place, together=8))

    check_alike(runs, computed(descs, place_of(tmp_path / "alone", digits)))


def test_a_run_that_cannot_be_computed_leaves_the_others_complete(tmp_path: Path, digits: Path) -> None:
    place = place_of(tmp_path, digits, together=8)
    made = plan([Target(BRANCHES[1], SECOND, (Step(3, 6),), is_complete=False)], place.root)
    execute(made, place)
    damaged, *others = [run_of(desc, place) for desc in (BRANCHES[1], BRANCHES[0], *BRANCHES[2:])]
    (damaged.folder / CHECKPOINT).write_bytes(b"not a checkpoint")

    with pytest.raises(DamagedError, match=CHECKPOINT):
        computed(BRANCHES, place)

    assert damaged.manifest() is None
    assert all(verify(run) == [] and run.manifest() for run in others)


def test_a_run_that_another_process_works_on_is_computed_after_the_others(tmp_path: Path, digits: Path) -> None:
    place = place_of(tmp_path, digits, together=8)
    runs = [run_of(desc, place) for desc in BRANCHES]
    said: list[str] = []

    class Releasing(NullReporter):
        def say(self, line: str) -> None:
            said.append(line)
            if line.startswith("Waiting for"):
                assert all(run.manifest() for run in runs[1:])
                held.close()

    with contextlib.ExitStack() as held:
        held.enter_context(runs[0].locked(lambda _: None))
        computed(BRANCHES, replace(place, reporter=Releasing()))

    assert all(run.manifest() for run in runs)
    assert sum(line.startswith("Waiting for") for line in said) == 1


def test_the_seconds_of_several_runs_add_up_to_those_of_the_process() -> None:
    times = iter([10.0, 13.0, 16.0, 20.0, 21.0, 24.0])
    clock = SharedClock(3, lambda: next(times))

    assert clock() == 1
    clock.leave()  # after 2 seconds of each of the three
    assert clock() == 4
    clock.leave()  # after 4.5 seconds of each of the two
    assert clock() == 7.5
    assert 2 + 4.5 + 7.5 == 24 - 10


def test_runs_together_say_no_more_seconds_than_have_passed(tmp_path: Path, digits: Path) -> None:
    began = time.monotonic()
    runs = computed(BRANCHES, place_of(tmp_path, digits, together=8))

    seconds = [manifest.wall_seconds for run in runs if (manifest := run.manifest()) is not None]
    assert 0 < sum(seconds) <= time.monotonic() - began
