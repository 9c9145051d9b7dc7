"""Pruning keeps its promises for networks of any kind: random ones, made of everything that torch.nn has."""

from __future__ import annotations

import logging
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_map

from foundations.errors import UsageError
from models.copying import copied
from models.held import held_modules
from pruning.masks.mask import Mask
from pruning.prune import prune
from tests.pruning.random_cases import Case, build, clean
from tests.pruning.random_modules import LINEAR, PER_CLASS

WITH_EXAMPLES = [f"{name}{PER_CLASS - 1}" for name in ("snip", "grasp", "graspabs", "taylor", "force", "fisher")]
SCORERS = ["magnitude", "random", *WITH_EXAMPLES, "synflow", "synflowl2"]
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, amsgrad=True),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=0.01, momentum=0.9, centered=True),
    "lbfgs": lambda weights: torch.optim.LBFGS(weights, lr=0.1, max_iter=3),
}
networks = st.binary(min_size=20, max_size=100)
strategies = st.sampled_from(SCORERS)
fractions = st.one_of(st.sampled_from([0.8, 0.5, 0.0, 1.0]), st.floats(0, 1))
seeds = st.integers(0, 3)


def for_networks(**arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """Run a property for random networks: for a few in every run of the tests, for many where all tests run."""

    def decorate(check: Callable[..., None]) -> Any:
        def of(examples: int) -> Callable[..., None]:
            return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(
                given(tape=networks, **arguments)(check)
            )

        @pytest.mark.parametrize("examples", [pytest.param(100), pytest.param(3000, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            of(examples)()

        test.check = check  # type: ignore[attr-defined]
        return test

    return decorate


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.compiler.reset()


def mask_of(case: Case, strategy: str, **options: Any) -> Mask:
    arguments: dict[str, Any] = {"examples": case.examples, "loss": case.loss, "output": case.output}
    return prune(case.model, strategy, **(arguments | options))


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with prunable weights by all of their names."""
    return {
        clean(name): module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, (*LINEAR, nn.MultiheadAttention)) and "parametrizations" not in name.split(".")
    }


def stored(layer: nn.Module, tensor: str) -> nn.Parameter | None:
    """Return the parameter of the shape of a tensor of a layer that the tensor is computed from, or is."""
    if parametrize.is_parametrized(layer, tensor):
        return layer.parametrizations[tensor].original1  # type: ignore[index,union-attr]
    found = (layer._parameters.get(tensor + suffix) for suffix in ("", "_orig", "_v"))
    return next((parameter for parameter in found if parameter is not None), None)


def default_weights(model: nn.Module) -> int:
    """Return the number of weights that are prunable by default, each counted once."""
    names = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    parameters = [stored(layer, name) for layer in layers_of(model).values() for name in names]
    return sum({id(parameter): parameter.numel() for parameter in parameters if parameter is not None}.values())


@torch.no_grad()
def effective(model: nn.Module, name: str) -> Tensor:
    """Return the weight that a layer computes with."""
    prefix, _, tensor = name.rpartition(".")
    layer = layers_of(model)[prefix]
    if tensor in layer._parameters or parametrize.is_parametrized(layer, tensor):
        return getattr(layer, tensor).clone()
    if f"{tensor}_mask" in layer._buffers:
        return getattr(layer, f"{tensor}_orig") * getattr(layer, f"{tensor}_mask")
    (hook,) = (hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, WeightNorm))
    return hook.compute_weight(layer)


def left_by_torch(model: nn.Module, whole: Mask) -> int:
    """Return the number of weights that torch.nn.utils.prune kept."""
    return sum(int((effective(model, name) != 0).sum()) for name in whole)


def half_up(number: float) -> int:
    return math.floor(round(number, 9) + 0.5)


@for_networks(strategy=strategies, fraction=fractions, iterations=st.integers(1, 3), seed=seeds)
def test_counts_are_exact_and_masks_only_shrink(
    tape: bytes, strategy: str, fraction: float, iterations: int, seed: int
) -> None:
    case = build(tape)
    whole = Mask.ones(case.model)
    assert whole.total == default_weights(case.model)
    left = left_by_torch(case.model, whole)
    start = mask_of(case, "random", keep=min(left, half_up(whole.total * (1 - fraction / 2))), seed=seed)
    mask = mask_of(case, strategy, keep=start.kept - half_up(start.kept * fraction), iterations=iterations, mask=start)
    assert mask.kept == start.kept - half_up(start.kept * fraction)
    assert mask.intersection(start) == mask
    if half_up(whole.total * fraction) >= whole.total - left:
        assert mask_of(case, strategy, fraction=fraction, iterations=iterations).pruned == half_up(
            whole.total * fraction
        )


@for_networks(strategy=strategies, iterations=st.integers(1, 2))
def test_scoring_leaves_no_trace(tape: bytes, strategy: str, iterations: int) -> None:
    case = build(tape)
    inputs, targets = tree_map(Tensor.clone, case.inputs), case.targets.clone()
    before, randomness = trace_of(case), random_state()
    mask_of(case, strategy, iterations=iterations)
    assert same(random_state(), randomness)
    assert same(trace_of(case), before)
    assert same((case.inputs, case.targets), (inputs, targets))


@for_networks(strategy=st.just("phew"), fraction=fractions)
def test_walks_are_exact_and_leave_no_trace_or_are_refused(tape: bytes, strategy: str, fraction: float) -> None:
    case = build(tape)
    before, randomness = trace_of(case), random_state()
    try:
        mask = mask_of(case, strategy, fraction=fraction)
    except UsageError as error:
        assert len(str(error)) < 400
    else:
        assert mask.pruned == half_up(mask.total * fraction)
        assert mask.total == default_weights(case.model)
    assert same(random_state(), randomness)
    assert same(trace_of(case), before)


@for_networks()
def test_copies_are_equal_and_share_nothing(tape: bytes) -> None:
    case = build(tape)
    for runs_first in (False, True):
        if runs_first:
            case.outputs(case.model)  # now there are activations that the network keeps
        before = trace_of(case)
        one = copied(case.model)
        other = copied(one)
        for copy in (one, other):
            assert same(copy.state_dict(), case.model.state_dict())
            assert [m.training for m in copy.modules()] == [m.training for m in case.model.modules()]
            assert not storages(copy) & storages(case.model)
        assert not storages(one) & storages(other)
        assert same(trace_of(case), before)
    for model in (case.model, one, other):
        model.eval()
    expected = outputs_from(case, case.model)
    assert same(outputs_from(case, one), expected)
    assert same(outputs_from(case, other), expected)
    scramble(one)
    assert same(outputs_from(case, case.model), outputs_from(case, other))


@for_networks(optimizer=st.sampled_from(list(OPTIMIZERS)), fraction=fractions)
def test_pruned_weights_stay_zero_in_training(tape: bytes, optimizer: str, fraction: float) -> None:
    case = build(tape)
    model = case.model
    mask = mask_of(case, "random", keep=half_up(left_by_torch(model, Mask.ones(model)) * (1 - fraction)))
    before = {name: effective(model, name) for name in mask}
    mask.apply_(model)
    once = copied(model).state_dict()
    mask.apply_(model)
    assert same(model.state_dict(), once)
    for name, kept in mask.items():
        found = effective(model, name)
        assert not found[~kept].any()
        assert torch.allclose(found[kept], before[name][kept], rtol=2e-2 if found.dtype == torch.bfloat16 else 1e-5)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return
    for parameter in parameters:
        if optimizer == "lbfgs":
            parameter.data, parameter.grad = parameter.data.contiguous(), None
    stepper = OPTIMIZERS[optimizer](parameters)
    mask.attach(stepper, model)

    def closure() -> Tensor:
        stepper.zero_grad()
        loss = case.value(model)
        if loss.requires_grad:
            loss.backward()
        return loss

    for _ in range(3):
        closure()
        stepper.step(closure)  # type: ignore[arg-type]
        for name, kept in mask.items():
            found = effective(model, name)[~kept]
            assert not found[~found.isnan()].any(), name


@for_networks(strategy=strategies, seed=seeds)
def test_masks_are_the_same_from_files_for_copies_in_wrappers_and_without_dropout(
    tape: bytes, strategy: str, seed: int
) -> None:
    case, bare = build(tape), build(tape, wraps=False)
    mask = mask_of(case, strategy, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        mask.save(Path(folder) / "mask")
        assert Mask.load(Path(folder) / "mask") == mask
    torch.manual_seed(seed + 99)
    assert mask_of(case, strategy, seed=seed) == mask
    assert mask_of(build(tape, drops=False), strategy, seed=seed) == mask
    assert mask_of(bare, strategy, seed=seed) == mask
    bare.model = nn.DataParallel(bare.model)
    assert mask_of(bare, strategy, seed=seed) == mask

    mask.apply_(case.model)
    fresh = build(tape)
    scramble(fresh.model)
    fresh.model.load_state_dict(case.model.state_dict())
    mask.apply_(fresh.model)
    assert all(torch.equal(effective(fresh.model, name), effective(case.model, name)) for name in mask)
    assert mask_of(fresh, strategy, seed=seed) == mask_of(case, strategy, seed=seed)


def random_state() -> Any:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def trace_of(case: Case) -> Any:
    """Return everything that scoring could change in a network: values, and the identity of their containers."""
    found: list[Any] = [len(watch.seen) for watch in case.watches]
    for name, module in case.model.named_modules():
        found += [name, id(module), {key: id(value) for key, value in vars(module).items() if key != "training"}]
        found += [module.training, [value.clone() for value in tensors_in(vars(module))]]
        for value in vars(module).values():
            if isinstance(value, dict):
                found.append({key: id(part) for key, part in value.items()})
        for parameter in module._parameters.values():
            if parameter is not None:
                grad = parameter.grad
                found += [parameter.requires_grad, id(grad), None if grad is None else grad.clone()]
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in dictionaries, lists and tuples, without tensors of modules inside."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, list | tuple) else []


def storages(model: nn.Module) -> set[int]:
    tensors = [tensor for module in held_modules(model) for tensor in tensors_in(vars(module))]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


def outputs_from(case: Case, model: nn.Module) -> Tensor:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    with torch.no_grad():
        return case.outputs(model)


@torch.no_grad()
def scramble(model: nn.Module) -> None:
    for tensor in model.state_dict().values():
        tensor.fill_(3)


def same(one: Any, other: Any) -> bool:
    """Return whether two trees are equal, tensors bit for bit (NaN equals NaN)."""
    if isinstance(one, Tensor | np.ndarray):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor
