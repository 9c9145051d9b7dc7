"""The copy of a network that is scored, and running it on any inputs that it takes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from foundations.errors import OpenPruneError, UsageError, invalid
from foundations.random_streams import global_generator_from, stream_seed
from models.held import convert_, held_modules
from pruning.examples import LABELS, tensors_of_inputs
from pruning.hparams import PruningHparams
from pruning.scoring.functional_dropout import NothingDropped
from pruning.weights.named_weights import plain_copy
from pruning.weights.normalization import has_statistics


class CannotRun(UsageError):
    """The network cannot run on inputs of this kind."""


class SingleExample(UsageError):
    """A layer cannot normalize one example by the statistics of its batch."""


@contextlib.contextmanager
def without_trace(device: torch.device, seed: int) -> Iterator[None]:
    """Turn gradients on, autocast and dropout off, and seed the global generators, inside the block only."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.random.fork_rng(devices=devices),
        global_generator_from("scoring", seed),
        NothingDropped(),
    ):
        for cuda in devices:
            torch.cuda.default_generators[cuda.index or 0].manual_seed(stream_seed("scoring", seed))
        yield


@torch.no_grad()
def scoring_copy(model: nn.Module, hparams: PruningHparams) -> nn.Module:
    """Return a copy of a network as a method scores it.

    All layers are in eval mode, so that nothing is dropped; only layers that normalize by statistics may be in train
    mode, if the method uses the batch's. Removes wrappers, makes computed weights parameters, and sets the precision.
    """
    method = hparams.method
    network = plain_copy(model)
    for module in held_modules(network):
        module.training = not hparams.scores_in_eval_mode and has_statistics(module)
        if isinstance(module, nn.RNNBase):
            module.training, module.dropout = True, 0.0  # cuDNN differentiates recurrent layers in train mode only
    if method.float64:
        convert_(network, torch.float64)
    elif any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in network.parameters()):
        convert_(network, torch.float32)
    if method.transform is not None:
        method.transform(network, hparams)
    return network


def run(network: nn.Module, inputs: Any, weights: Mapping[str, Tensor] | None = None) -> Any:
    """Return the outputs of a network for inputs: a tensor, a tuple of arguments, or a dictionary of them.

    A tuple or dictionary that does not fit the arguments of `forward` is passed as it is. weights: tensors in place of
    parameters and buffers, by name.

    Raises: UsageError that describes the inputs, if the network cannot run on them; for weights that it does not have.
    """
    args, kwargs = arguments(network, inputs)
    if weights is not None:
        _check_replacements(network, weights)
    try:
        if weights is not None:
            with _in_recurrent_layers(network, weights):
                return functional_call(network, dict(weights), args, kwargs)
        return network(*args, **kwargs)
    except (OpenPruneError, torch.OutOfMemoryError, MemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError) as error:
        if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
            reason = (
                "batchnorm cannot normalize one example by its own statistics, and one of the scoring batches has a "
                "single one; choose a size that leaves none, or score_in_eval_mode."
            )
            raise SingleExample(reason, "score_batch_size") from error
        raise _refused(network, inputs, error) from error


@contextlib.contextmanager
def _in_recurrent_layers(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace weights of recurrent layers inside the block: those layers compute with a list of their own."""
    before = []
    for prefix, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, nn.RNNBase):
            before.append((module, module._flat_weights))
            names = [f"{prefix}.{name}" if prefix else name for name in module._flat_weights_names]
            pairs = zip(names, module._flat_weights, strict=True)
            module.__dict__["_flat_weights"] = [weights.get(name, own) for name, own in pairs]
    try:
        yield
    finally:
        for module, own in before:
            module.__dict__["_flat_weights"] = own


def _check_replacements(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}
    for name, weight in weights.items():
        if name not in own:
            raise invalid(name, "weights", own)
        if weight.shape != own[name].shape:
            shapes = f"{tuple(weight.shape)}; it must be {tuple(own[name].shape)}"
            raise UsageError(f"'{name}' has the shape {shapes}.", "weights")


def arguments(network: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of a network for inputs."""
    if isinstance(inputs, dict) and _fits(network, (), inputs):
        return (), inputs
    if isinstance(inputs, tuple) and _fits(network, inputs, {}):
        return inputs, {}
    return (inputs,), {}


def takes_argument(network: nn.Module, name: str) -> bool:
    """Return whether `forward` has an argument of this name."""
    try:
        return name in inspect.signature(network.forward).parameters
    except (TypeError, ValueError):
        return False


def _fits(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        inspect.signature(network.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def _refused(network: nn.Module, inputs: Any, error: Exception) -> CannotRun:
    shown = ", ".join(
        f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}"
        for leaf in tree_leaves(inputs)
        if isinstance(leaf, Tensor)
    )
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    hint = ""
    if isinstance(inputs, dict) and not _fits(network, (), inputs):
        taken = ", ".join(inspect.signature(network.forward).parameters)
        hint = f" Its forward takes {taken}, and the dictionary holds {', '.join(map(str, inputs))}."
    if "dtype" in reason or "scalar type" in reason:
        dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
        hint = f" The method scores in {dtype}: forward must not cast to another type."
    if any(isinstance(leaf, Tensor) and leaf.dtype == torch.uint8 for leaf in tree_leaves(inputs)):
        hint = " Pixels must be floats, as in training: x.float() / 255."
    return CannotRun(f"{type(network).__name__} cannot run on inputs {shown}: {reason}.{hint}", "examples")


def placed(tree: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """Return copies of the tensors of a tree on a device, floats of a dtype: networks may write into their inputs."""

    def place(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None, copy=True)

    return place(tree) if isinstance(tree, Tensor) else tree_map_only(Tensor, place, tree)


def has_embeddings(network: nn.Module) -> bool:
    """Return whether a network looks tokens up in tables."""
    return any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in network.modules())


def filled_like(network: nn.Module, example: Any, fill: Callable[[Tensor], Tensor], rows: int = 1) -> Any:
    """Return `rows` examples like a single one, with fill(tensor) in place of each tensor of numbers, of (rows, ...).

    Some integers and booleans are no such numbers and are repeated as they are: tokens of a network with embeddings;
    lengths, indices and masks beside floats; labels.
    """
    keeps_integers = has_embeddings(network) or any(part.is_floating_point() for part in tensors_of_inputs(example))

    def repeated(tensor: Tensor) -> Tensor:
        return tensor.expand(rows, *tensor.shape[1:]) if rows > 1 else tensor

    def filled(tensor: Tensor) -> Tensor:
        is_number = tensor.is_floating_point() or not keeps_integers
        return fill(repeated(tensor)) if is_number else repeated(tensor)

    if isinstance(example, dict):
        return {
            name: tree_map_only(Tensor, repeated if name in LABELS else filled, part) for name, part in example.items()
        }
    return filled(example) if isinstance(example, Tensor) else tree_map_only(Tensor, filled, example)


@contextlib.contextmanager
def entering_behind_embeddings(
    network: nn.Module, weights: Mapping[str, nn.Parameter], value: Callable[[int, Tensor], Tensor]
) -> Iterator[None]:
    """Make the embeddings of a network return other values inside the block: an example of numbers enters behind them.

    weights: the scored ones. value: (number of the embedding, in the order of the modules; its output) -> the value.

    Raises: UsageError if a scored weight belongs to an embedding only, through which nothing would flow.
    """
    tables = (nn.Embedding, nn.EmbeddingBag)
    used = {
        id(own) for module in network.modules() if not isinstance(module, tables) for own in module._parameters.values()
    }
    embedded = {id(module.weight) for module in network.modules() if isinstance(module, tables)}
    for name, weight in weights.items():
        if id(weight) in embedded - used:
            raise UsageError(
                f"nothing flows through '{name}', since the example enters behind the embeddings; score "
                "them by another method, or leave them out.",
                "prunable_layers",
            )
    with contextlib.ExitStack() as hooks:
        for number, module in enumerate(each for each in network.modules() if isinstance(each, tables)):
            hooks.enter_context(module.register_forward_hook(lambda *passed, at=number: value(at, passed[-1])))
        yield


def check_depends_on_weights(value: Tensor) -> None:
    """Check that a scalar has a history. Raises: UsageError."""
    if not value.requires_grad:
        raise UsageError("the outputs of the network, or the loss, do not depend on its prunable weights.", "loss")


def gradients_of(value: Tensor, weights: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Return the gradient of a scalar with respect to each weight; zero for weights that it is independent of.

    Raises: UsageError where it depends on none, or has no second derivatives and needs them.
    """
    check_depends_on_weights(value)
    return products_with([value], [None], weights, create_graph=create_graph)


def products_with(
    values: Sequence[Tensor],
    vectors: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> list[Tensor]:
    """Return the gradient of the inner product of values and vectors with respect to each weight, zero if it has none.

    vectors: None for a scalar stands for one. PyTorch imports its symbolic shapes for a tensor: most of a second.

    Raises: UsageError where a value has no such derivative.
    """
    try:
        gradients = torch.autograd.grad(
            values,
            weights,
            vectors,
            retain_graph=retain_graph or create_graph,
            create_graph=create_graph,
            materialize_grads=True,
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"the network cannot be differentiated as this method needs: {reason}", "strategy") from error
    return [gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients]


class _WrittenOut(TorchFunctionMode):
    """Replaces the hard sigmoid, which PyTorch can differentiate only once, by operations that it can twice."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.hardsigmoid, torch._C._nn.hardsigmoid, torch._C._nn.hardsigmoid_):
            x = args[0] if args else kwargs["input"]
            y = F.relu6(x + 3) / 6
            is_in_place = func is torch._C._nn.hardsigmoid_ or kwargs.get("inplace", args[1:] == (True,))
            return x.copy_(y) if is_in_place else y
        return func(*args, **kwargs)


@contextlib.contextmanager
def twice_differentiable(network: nn.Module) -> Iterator[None]:
    """Compute in the block without what has no second derivative: fused attention, and cuDNN's recurrent layers."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not any(isinstance(module, nn.RNNBase) for module in network.modules())
    try:
        with sdpa_kernel(SDPBackend.MATH), _WrittenOut():
            yield
    finally:
        torch.backends.cudnn.enabled = before
