"""Techniques in a training loop of a user's own."""

from __future__ import annotations

import copy
import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.loading.batches import LoaderConfig
from datasets.loading.loader import open_loader
from foundations import registry
from foundations.description.step import Step
from foundations.errors import UsageError
from open_prune import Mask, SparseTraining, UnprunedWarning, load_plugins, prune, sparse
from tests.conftest import REPOSITORY
from tests.training.small_runs import context, run_of, train_desc
from training.job import initialized_model
from training.jobs.compute import ensure_states
from training.registry import TECHNIQUES

RIGL: dict[str, Any] = {"mask_update_frequency": "3it"}
END = 12


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4))


def batch(number: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(number)
    return torch.randn(16, 12, generator=drawn), torch.randint(4, (16,), generator=drawn)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2, **options)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = END) -> Iterator[int]:
    """Train, and yield after each step."""
    for number in range(first, last):
        optimizer.zero_grad()
        inputs, targets = batch(number)
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        yield number + 1


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, others) for mine, others in pairs)


@pytest.mark.parametrize(
    ("technique", "flags"),
    [
        ("rigl", {**RIGL, "start_density": 0.2}),
        ("rigl", {**RIGL, "start_density": 0.2, "grow_init": "random_normal", "mask_update_begin": "2it"}),
        ("set", {**RIGL, "start_density": 0.2, "grow_init": "initial_dist"}),
        ("gmp", {"gmp_density": 0.1, "gmp_frequency": "2it"}),
        ("gmp,rigl", {**RIGL, "gmp_density": 0.1, "gmp_frequency": "2it"}),
        ("itop", {**RIGL, "start_density": 0.2, "itop_growth": "random"}),
        ("granet", {**RIGL, "granet_density": 0.2}),
        ("snfs", {**RIGL, "start_density": 0.2}),
        ("mest", {**RIGL, "start_density": 0.2, "mest_lambda": 0.1}),
        ("srigl", {**RIGL, "start_density": 0.4}),
    ],
)
def test_a_loop_trains_step_by_step_as_a_job_does(
    technique: str, flags: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    desc, place = train_desc(technique=technique, **flags), context(tmp_path, digits)
    steps = [Step(number, desc.iterations_per_epoch) for number in range(desc.end.iteration + 1)]
    run = ensure_states(desc, place, steps)
    options = {name: value for name, value in flags.items() if "density" not in name}

    model = initialized_model(desc, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
    training = sparse(
        optimizer, model, technique, density=next(value for name, value in flags.items() if "density" in name),
        end=18, seed=1, **options,
    )  # fmt: skip
    loader = open_loader(desc.dataset, place.datasets, LoaderConfig(order_key=1, augmentation_key=1))
    batches = [each for epoch in range(3) for each in loader.train_batches(epoch)]

    for step, (images, labels) in zip(steps, [*batches, batches[0]], strict=True):
        kept, found = run.load_state(step), model.state_dict()
        assert all(torch.equal(kept[name], found[name]) for name in kept), step
        if step == steps[-1]:
            break
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert training.mask is not None
    assert training.steps == 18
    assert run_of(desc, place).folder.exists()


def two_groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 1e-4}]


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": lambda model: torch.optim.AdamW(model.parameters()),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), momentum=0.5),
    "adagrad": lambda model: torch.optim.Adagrad(model.parameters()),
    "two groups": lambda model: torch.optim.Adam(two_groups(list(model.parameters()))),
}


TECHNIQUES_OF_LOOPS = ("rigl", "set", "gmp", "itop", "granet", "snfs", "mest")


@pytest.mark.parametrize(
    ("technique", "kind"),
    # Adagrad has no momentum, by which snfs grows.
    [each for each in itertools.product(TECHNIQUES_OF_LOOPS, OPTIMIZERS) if each != ("snfs", "adagrad")],
)
def test_a_loop_stays_sparse_with_any_optimizer_and_schedule(kind: str, technique: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[kind](model)
    options: dict[str, Any] = {"gmp_frequency": 2} if technique == "gmp" else {"mask_update_frequency": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = sparse(optimizer, model, technique, density=0.25, end=END, **options)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
        before = training.mask
        for _ in train(model, optimizer):
            schedule.step()

    assert training.mask is not None and before is not None
    assert training.mask != before
    assert training.mask.kept == round(0.25 * training.mask.total)
    assert all(not model.get_parameter(name)[~kept].any() for name, kept in training.mask.items())


def test_sparse_momentum_needs_an_optimizer_with_momentum() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with pytest.raises(UsageError, match="^technique: snfs grows weights by momentum, and the optimizer has none"):
        sparse(optimizer, model, "snfs", density=0.25, end=END, mask_update_frequency=2)


def test_a_schedule_that_was_made_before_does_not_warn_of_a_step_that_rigl_skips() -> None:
    model = network()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    sparse(optimizer, model, "rigl", density=0.25, end=END)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in train(model, optimizer):
            schedule.step()


@pytest.mark.parametrize("technique", ["rigl", "set", "gmp,set", "bias_masks"])
def test_a_loop_that_is_resumed_ends_with_the_same_bytes(technique: str) -> None:
    options: dict[str, Any] = {} if technique == "bias_masks" else {"mask_update_frequency": 3, "density": 0.25}
    if technique == "rigl":
        options["grow_init"] = "random_uniform"
    if technique == "gmp,set":
        options["gmp_frequency"] = 2

    def begin() -> tuple[nn.Module, torch.optim.Optimizer, SparseTraining]:
        model = network()
        optimizer = sgd(model)
        masked: dict[str, Any] = {"mask": Mask({"0.weight": torch.eye(20, 12)})} if technique == "bias_masks" else {}
        return model, optimizer, sparse(optimizer, model, technique, end=END, **options, **masked)

    model, optimizer, training = begin()
    states = {}
    for number in train(model, optimizer):
        buffer = io.BytesIO()
        torch.save([each.state_dict() for each in (model, optimizer, training)], buffer)
        states[number] = buffer
    for number in (1, 4, 7, END - 1, END):
        states[number].seek(0)
        resumed: tuple[Any, ...] = begin()
        for each, state in zip(resumed, torch.load(states[number], weights_only=True), strict=True):
            each.load_state_dict(state)
        list(train(resumed[0], resumed[1], first=number))

        assert same(model, resumed[0])
        assert resumed[2].mask == training.mask


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler_scales_the_loss_and_not_what_techniques_see(fused: bool) -> None:
    plain, scaled = network(), network()
    options: dict[str, Any] = {"density": 0.25, "end": END, "mask_update_frequency": 3, "grow_init": "grad_scale"}
    optimizer = sgd(plain)
    training = sparse(optimizer, plain, "rigl", **options)
    list(train(plain, optimizer))
    other = sgd(scaled, fused=fused)
    with_scaler = sparse(other, scaled, "rigl", **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for number in range(END):
        other.zero_grad()
        inputs, targets = batch(number)
        scaler.scale(F.cross_entropy(scaled(inputs), targets)).backward()
        scaler.step(other)
        scaler.update()

    assert with_scaler.mask == training.mask
    for name, weight in plain.named_parameters():
        assert torch.allclose(weight, scaled.get_parameter(name), atol=1e-6)


def test_steps_that_a_grad_scaler_leaves_out_do_not_count() -> None:
    for fused in (False, True):
        model = network()
        optimizer = sgd(model, fused=fused)
        training = sparse(optimizer, model, "set", density=0.25, end=END)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(model(batch(0)[0]).sum() * torch.inf).backward()
        scaler.step(optimizer)

        assert training.steps == 0


def test_accumulated_gradients_are_one_step() -> None:
    model, whole = network(), network()
    for each, parts in ((model, 2), (whole, 1)):
        optimizer = sgd(each)
        sparse(optimizer, each, "rigl", density=0.25, end=END, mask_update_frequency=3)
        for number in range(END):
            optimizer.zero_grad()
            inputs, targets = batch(number)
            for x, y in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
                (F.cross_entropy(each(x), y) / parts).backward()
            optimizer.step()

    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_closure_is_computed_once_a_step() -> None:
    model, other = network(), network()
    optimizer, plain = sgd(model), sgd(other)
    sparse(optimizer, model, "rigl", density=0.25, end=END, mask_update_frequency=3)
    sparse(plain, other, "rigl", density=0.25, end=END, mask_update_frequency=3)
    calls = []

    for number in range(END):

        def closure(number: int = number) -> Tensor:
            calls.append(number)
            optimizer.zero_grad()
            inputs, targets = batch(number)
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        assert torch.is_tensor(optimizer.step(closure))  # type: ignore[arg-type]
    list(train(other, plain))

    assert calls == list(range(END))
    assert same(model, other)


def test_a_technique_that_changes_the_loss_is_asked_for_it() -> None:
    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, "smoothing", end=END, smoothing_alpha=0.2, smoothing_over="all")
    inputs, targets = batch(0)
    outputs = model(inputs)
    loss = training.loss(F.cross_entropy(outputs, targets), outputs, targets)
    loss.backward()
    optimizer.step()

    assert torch.allclose(loss, F.cross_entropy(outputs, targets, label_smoothing=0.2))
    with pytest.raises(UsageError, match=r"training\.loss\(loss, outputs, targets\)"):
        next(train(model, optimizer))


def test_gradinit_takes_batches_and_gmp_examples() -> None:
    model = network()
    before = copy.deepcopy(model)
    sparse(sgd(model), model, "gradinit", end=END, gradinit_iters=3, batches=[batch(0), batch(1)])
    assert not same(model, before)

    options: dict[str, Any] = {"density": 0.5, "end": END, "gmp_frequency": 2, "gmp_strategy": "snip1"}
    optimizer = sgd(before)
    training = sparse(optimizer, before, "gmp", examples=batch(0), **options)
    list(train(before, optimizer))
    assert training.mask is not None
    assert training.mask.density == pytest.approx(0.5, abs=0.01)


def test_after_the_end_the_mask_stays_and_a_warning_says_so() -> None:
    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, "set", density=0.25, end=END)
    list(train(model, optimizer))
    mask = training.mask

    with pytest.warns(UserWarning, match="ended at step 12"):
        list(train(model, optimizer, last=5))

    assert training.mask is mask
    assert mask is not None
    assert all(not model.get_parameter(name)[~kept].any() for name, kept in mask.items())


def test_a_detached_optimizer_moves_all_weights_and_can_be_used_again() -> None:
    model = network()
    optimizer = sgd(model)
    sparse(optimizer, model, "set", density=0.25, end=END).detach()
    list(train(model, optimizer))

    assert all(parameter.all() for parameter in model.parameters())
    assert sparse(optimizer, model, "gmp", density=0.25, end=END, gmp_frequency=2).steps == 0


@pytest.mark.parametrize(
    ("technique", "options", "message"),
    [
        ("rigel", {}, "technique: 'rigel' is not a valid value.*rigl"),
        ("", {}, "technique: name one"),
        (None, {}, "technique: None is not a valid value"),
        ("rigl", {}, "density: rigl needs a mask to start from; pass density or mask"),
        ("rigl", {"density": 2}, "density.* must be above 0 and at most 1"),
        ("rigl", {"density": 0.1, "start_density": 0.1}, "density, start_density: they are the same"),
        ("rigl", {"density": 0.1, "mask_update_frequeny": 3}, "mask_update_frequeny: .*mask_update_frequency"),
        ("rigl", {"density": 0.1, "mask_update_end": 99}, "mask_update_begin, mask_update_end: "),
        ("rigl", {"density": 0.1, "mask_update_frequency": 1.5}, "mask_update_frequency: 1.5"),
        ("rigl", {"density": 0.1, "mask_update_frequency": "1ep"}, "mask_update_frequency: .*pass steps_per_epoch"),
        ("rigl", {"density": 0.1, "end": "3ep"}, "end: 3ep counts epochs; pass steps_per_epoch"),
        ("rigl", {"density": 0.1, "end": -3}, "end: '-3it' is not a step"),
        ("rigl", {"density": 0.1, "end": None}, "end: None is not a step"),
        ("rigl", {"density": 0.1, "mask": torch.ones(3)}, "mask: "),
        ("gmp", {"density": 0.1}, "gmp_frequency: 1ep counts epochs; pass steps_per_epoch"),
        ("gmp", {"density": 0.1, "gmp_frequency": 3, "gmp_strategy": "snip2"}, "examples: snip2 scores with examples"),
        ("smoothing", {"density": 0.1}, "density: smoothing has none"),
        ("gradinit", {}, "batches: gradinit .*pass batches"),
        ("gradinit", {"batches": []}, "batches: there are none"),
        ("ghost_skips", {}, "technique: ghost_skips replaces layers.*--technique=ghost_skips"),
        ("set", {"density": 0.1, "optimizer": "SGD"}, "optimizer: it must be a torch.optim.Optimizer"),
    ],
)
def test_what_a_loop_cannot_use_is_refused_in_one_sentence(
    technique: Any, options: dict[str, Any], message: str
) -> None:
    model = network()
    optimizer = options.pop("optimizer", None) or sgd(model)

    with pytest.raises(UsageError, match=message):
        sparse(optimizer, model, technique, **{"end": END, **options})

    if isinstance(optimizer, torch.optim.Optimizer):
        list(train(model, optimizer, last=2))  # as it was


def test_an_optimizer_is_used_once_and_lbfgs_never() -> None:
    model = network()
    optimizer = sgd(model)
    sparse(optimizer, model, "set", density=0.25, end=END)

    with pytest.raises(UsageError, match="'gmp,rigl'"):
        sparse(optimizer, model, "rigl", density=0.25, end=END)
    with pytest.raises(UsageError, match="LBFGS"):
        sparse(torch.optim.LBFGS(model.parameters()), model, "rigl", density=0.25, end=END)
    with pytest.raises(UsageError, match="no parameter has a gradient"):
        optimizer.step()
    with pytest.raises(UsageError, match="holds none"):
        sparse(sgd(network()), model, "rigl", density=0.25, end=END)


def test_a_state_of_another_training_is_refused() -> None:
    model = network()
    training = sparse(sgd(model), model, "set", density=0.25, end=END)
    state = training.state_dict()

    with pytest.raises(UsageError, match="state: it is of a training with another value of technique"):
        training.load_state_dict({**state, "hparams": {**state["hparams"], "technique": "rigl"}})
    with pytest.raises(UsageError, match="state: it is of step 99"):
        training.load_state_dict({**state, "step": 99})
    with pytest.raises(UsageError, match="state: it is not a state"):
        training.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        3,
        {},
        {"step": "4"},
        {"step": -1},
        {"mask": None},
        {"mask": 3},
        {"hparams": 1},
        {"tensors": {"set.x": 1}},
        {"tensors": None},
        {"seed": 4},
        {"end": END + 1},
    ],
)
def test_a_state_that_was_changed_is_refused_and_changes_nothing(wrong: Any) -> None:
    model = network()
    training = sparse(sgd(model), model, "set", density=0.25, end=END)
    state, mask = training.state_dict(), training.mask

    with pytest.raises(UsageError, match="^state: "):
        training.load_state_dict({**state, **wrong} if isinstance(wrong, dict) and wrong else wrong)

    assert (training.steps, training.mask) == (0, mask)


def test_an_optimizer_that_needs_the_loss_at_other_weights_is_refused() -> None:
    class MovesFirst(torch.optim.Optimizer):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model.parameters(), {})

        def step(self, closure: Any) -> None:  # type: ignore[override]
            with torch.no_grad():
                for weight in self.param_groups[0]["params"]:
                    weight.add_(weight.grad)
            closure()

    class AsksTwice(MovesFirst):
        def step(self, closure: Any) -> None:  # type: ignore[override]
            closure(), closure()

    for kind in (MovesFirst, AsksTwice):
        model = network()
        optimizer = kind(model)
        sparse(optimizer, model, "set", density=0.25, end=END)

        def loss(model: nn.Module = model) -> Tensor:
            value = F.cross_entropy(model(batch(0)[0]), batch(0)[1])
            value.backward()
            return value

        with pytest.raises(UsageError, match=f"optimizer: {kind.__name__} computes the loss several times in a step"):
            optimizer.step(loss)


class OwnMomentum(torch.optim.Optimizer):
    """An optimizer that is not one of torch, with a state per weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for weight in self.param_groups[0]["params"]:
            speed = self.state[weight].setdefault("speed", torch.zeros_like(weight))
            weight.sub_(speed.mul_(0.9).add_(weight.grad), alpha=0.1)


@pytest.mark.parametrize("technique", ["rigl", "set"])
def test_the_state_of_an_optimizer_of_ones_own_is_zeroed_where_it_is_named(technique: str) -> None:
    model = network()
    optimizer = OwnMomentum(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = sparse(optimizer, model, technique, density=0.25, end=END, mask_update_frequency=3, state=("speed",))
        list(train(model, optimizer))

    assert training.mask is not None
    for name, kept in training.mask.items():
        assert not optimizer.state[model.get_parameter(name)]["speed"][~kept].any()


def test_an_optimizer_around_another_that_has_no_hooks_is_refused() -> None:
    class Around(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.param_groups, self.state = inner.param_groups, inner.state

    model = network()
    with pytest.raises(UsageError, match="optimizer: Around does not call Optimizer.__init__; pass the optimizer that"):
        sparse(Around(sgd(model)), model, "set", density=0.25, end=END)


def test_layers_that_are_not_prunable_are_named_with_the_way_to_prune_them() -> None:
    model = nn.ModuleDict({"words": nn.Embedding(5, 4), "out": nn.Linear(4, 3)})
    options: dict[str, Any] = {"density": 0.5, "end": END}
    choice = "'all,Embedding'"

    with pytest.warns(UnprunedWarning, match=rf"words.*mask=prune\(.*, prunable_layers={choice}\)\."):
        sparse(sgd(model), model, "rigl", **options)
    with pytest.warns(UnprunedWarning, match=f"words.* gmp_prunable_layers={choice}"):
        sparse(sgd(model), model, "gmp", gmp_frequency=2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparse(sgd(model), model, "gmp", gmp_frequency=2, gmp_prunable_layers="all,Embedding", **options)
        mask = prune(model, "random", density=0.5, prunable_layers="all,Embedding")
        sparse(sgd(model), model, "rigl", mask=mask, end=END, mask_update_frequency=2)


def test_batches_of_several_inputs_are_refused_in_a_sentence() -> None:
    model = network()
    inputs, targets = batch(0)

    with pytest.raises(UsageError, match="batches: each must be two tensors"):
        sparse(sgd(model), model, "gradinit", end=END, batches=[((inputs, inputs), targets)])  # type: ignore[list-item]


def test_layers_without_a_gradient_keep_their_mask() -> None:
    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, "rigl", density=0.25, end=END, mask_update_frequency=1)
    before = training.mask
    for number in range(3):
        optimizer.zero_grad()
        model[:3](batch(number)[0]).square().mean().backward()
        optimizer.step()

    assert before is not None and training.mask is not None
    assert torch.equal(training.mask["4.weight"], before["4.weight"])
    assert not torch.equal(training.mask["0.weight"], before["0.weight"])


def test_a_plug_in_with_a_state_is_used_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PLUGINS", {})
    monkeypatch.setattr(TECHNIQUES, "_entries", [*TECHNIQUES])
    monkeypatch.setattr(TECHNIQUES, "_found", {})
    monkeypatch.setattr(TECHNIQUES, "_taken", set())
    load_plugins([REPOSITORY / "examples/my_clipping.py"])

    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, "set,autoclip", density=0.5, end=END, autoclip_percentile=30.0)
    states = {}
    for number in train(model, optimizer):
        states[number] = copy.deepcopy([each.state_dict() for each in (model, optimizer, training)])
    assert states[7][2]["tensors"]["autoclip.state.norms"].shape == (7,)

    other = network()
    of_other = sgd(other)
    resumed = sparse(of_other, other, "set,autoclip", density=0.5, end=END, autoclip_percentile=30.0)
    other.load_state_dict(states[7][0])
    of_other.load_state_dict(states[7][1])
    resumed.load_state_dict(states[7][2])
    list(train(other, of_other, first=7))
    assert same(model, other)


def test_without_a_technique_a_mask_is_kept_and_other_options_are_refused() -> None:
    model = network()
    optimizer, mask = sgd(model), prune(model, "magnitude", density=0.25)
    training = sparse(optimizer, model, None, mask=mask, end=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is nothing that ends at the last step
        for _ in train(model, optimizer):
            assert all(not model.get_parameter(name)[~kept].any() for name, kept in mask.items())

    assert training.mask == mask
    assert training.steps == 3
    for options, message in (
        ({"gmp_end": 3}, "gmp_end: no technique"),
        ({"density": 0.1}, "density: the mask has its own"),
    ):
        with pytest.raises(UsageError, match=message):
            sparse(sgd(network()), network(), None, mask=mask, end=3, **options)


@pytest.mark.parametrize("technique", ["rigl", "gmp"])
def test_a_state_that_is_passed_at_the_start_leaves_the_loaded_network_as_it_is(technique: str) -> None:
    options: dict[str, Any] = {"density": 0.25, "end": END}
    options |= {"gmp_frequency": 2} if technique == "gmp" else {"mask_update_frequency": 3}
    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, technique, **options)
    for number in train(model, optimizer):
        if number == 7:
            states = copy.deepcopy([each.state_dict() for each in (model, optimizer, training)])

    resumed = network()
    of_resumed = sgd(resumed)
    resumed.load_state_dict(states[0])
    of_resumed.load_state_dict(states[1])
    again = sparse(of_resumed, resumed, technique, **options, resume_from=states[2])
    assert all(torch.equal(weight, states[0][name]) for name, weight in resumed.state_dict().items())
    list(train(resumed, of_resumed, first=7))

    assert same(model, resumed)
    assert again.mask == training.mask
    assert again.steps == END
    with pytest.raises(UsageError, match="state: it is not a state of this training"):
        sparse(sgd(network()), network(), technique, **options, resume_from={})


def test_a_closure_that_leaves_its_batch_out_is_no_step() -> None:
    model = network()
    optimizer = sgd(model)
    training = sparse(optimizer, model, "set", density=0.25, end=END)

    optimizer.step(lambda: None)  # type: ignore[arg-type, return-value]

    assert training.steps == 0
