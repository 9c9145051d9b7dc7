"""PX, path exclusion (Iurada et al. 2024): weights that add least to an upper bound of the kernel's trace are pruned.

The bound is a product of two sums over the paths from input to output: of the squared inputs of the paths that are
active, and of the squared weights of all paths. Labels are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import ExamplesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class PxHparams(ExamplesHparams):
    """Pruning of a network by PX."""

    score_in_train_mode: bool = hparam(False)
    """Score with batchnorm's statistics of the batch in both sums over paths, as PX's published code does. In networks
    that end in batchnorm and a mean over all positions, the scores of convolutions are then rounding errors."""

    px_as_published: bool = hparam(False)
    """Treat parameters as PX's published code does: the output layer, and batchnorm whose name contains 'bn', keep
    their values, and biases and other batchnorm count as weights of paths."""

    @property
    def scores_in_eval_mode(self) -> bool:
        """Whether batchnorm uses its running statistics while the network is scored."""
        return not self.score_in_train_mode

    def validate(self) -> None:
        """Check that one mode is asked for."""
        super().validate()
        if self.score_in_train_mode and self.score_in_eval_mode:
            raise UsageError("give one of them.", "score_in_train_mode", "score_in_eval_mode")

    def simplified(self) -> Self:
        """Return equal hyperparameters in canonical form: eval mode is the default."""
        return super().simplified().replaced({"score_in_eval_mode": False})


def px(scoring: Scoring, hparams: PxHparams) -> Scores:
    """Return s = |∂R/∂w²| ⊙ w², R = Σ_x Σ_k z_k(x²; a(x)) y_k(1; w²), k an output.

    z: the network with all weights 1 whose activations multiply by their factors a(x) in the network itself, such as 0
    or 1 for ReLU; it takes x². y: the network with squared weights, without activations, for an example of ones. Biases
    and shifts, unless they are prunable, lie on no path from the input and are 0; scales of batchnorm count as
    weights of paths, with the deviations that they divide by. In float64: z and y grow exponentially with depth.
    """
    import torch

    from pruning.scoring.activation_patterns import with_factors

    ones, squares = _values(scoring, hparams)
    value: Tensor | None = None
    for like, count, sums in _sums_of_active_paths(scoring, hparams, ones):
        rows = count if hparams.score_in_train_mode else 1  # all rows are equal
        x = scoring.example_of(
            lambda part: torch.ones(part.shape, device=scoring.device, dtype=scoring.dtype), rows, like
        )
        with scoring.entering(x, lambda _, embedded: torch.ones_like(embedded)), with_factors(scoring.network, None):
            paths = scoring.objective.scored(scoring.run(x, squares))[:1]
        value = (paths * sums).sum() if value is None else value + (paths * sums).sum()
    assert value is not None, "there are examples"
    gradient = scoring.gradient_of(value, {name: squares[name] for name in scoring.weights})
    return {name: gradient[name].abs() * weight.detach().square() for name, weight in scoring.weights.items()}


def _sums_of_active_paths(
    scoring: Scoring, hparams: PxHparams, ones: dict[str, Tensor]
) -> Iterator[tuple[Any, int, Tensor]]:
    """Yield, for the examples of one shape, the first, the size of its batch, and Σ_x z(x²; a(x)): (1, outputs)."""
    import torch
    from torch.utils._pytree import tree_leaves

    size = None if hparams.score_in_train_mode else scoring.examples_at_once()
    found: dict[tuple[torch.Size, ...], tuple[Any, int, Tensor]] = {}
    for part in (part for batch in scoring.next_pass() for part in batch.split(size)):
        x = scoring.tensors(part)[0]
        with torch.no_grad():
            sums = _active_paths(scoring, x, ones).sum(0, keepdim=True)
        shapes = tuple(leaf.shape[1:] for leaf in tree_leaves(x) if isinstance(leaf, torch.Tensor))
        like, count, before = found.get(shapes, (scoring.tensors(part.split(1)[0])[0], len(part), 0.0))
        found[shapes] = (like, count, before + sums)
    yield from found.values()


def _active_paths(scoring: Scoring, x: Any, ones: dict[str, Tensor]) -> Tensor:
    """Return z(x²; a(x)) for a batch: (examples, outputs)."""
    from foundations.multiply_adds import in_eval_mode
    from pruning.scoring.activation_patterns import Pattern, with_factors
    from pruning.scoring.scoring_network import filled_like

    embedded: dict[int, Tensor] = {}
    pattern = Pattern()
    with in_eval_mode(scoring.network), scoring.entering(x, embedded.setdefault), pattern:
        scoring.run(x)
    squared = filled_like(scoring.network, x, lambda part: part.to(scoring.dtype).square())
    with (
        scoring.entering(x, lambda place, _: embedded[place].square()),
        with_factors(scoring.network, pattern.factors),
    ):
        return scoring.objective.scored(scoring.run(squared, ones))


def _values(scoring: Scoring, hparams: PxHparams) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters and buffers of the two networks, by name: ones, and squares.

    Prunable weights are 0 where they are pruned, and require gradients among the squares.
    """
    kept = {name: scoring.mask[name].to(scoring.device, scoring.dtype) for name in scoring.weights}
    ones, squares = (_as_published if hparams.px_as_published else _of_paths)(scoring.network, set(kept))
    ones = {name: value * kept[name] if name in kept else value for name, value in ones.items()}
    squares = {name: value.requires_grad_() if name in kept else value for name, value in squares.items()}
    return ones, squares


def _of_paths(network: nn.Module, prunable: set[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return ones and squares for the paths from the input: without biases, and batchnorm only scales."""
    import torch
    from torch.nn.modules.batchnorm import _NormBase

    ones, squares = {}, {}
    for name, parameter in _parameters(network, prunable).items():
        is_bias = "bias" in name.rpartition(".")[2] and name not in prunable
        value = torch.zeros_like(parameter) if is_bias else parameter.detach()
        ones[name] = torch.zeros_like(value) if is_bias else torch.ones_like(value)
        squares[name] = value.square()
    for prefix, module in network.named_modules():
        if isinstance(module, _NormBase) and module.running_var is not None and module.running_mean is not None:
            start = f"{prefix}." if prefix else ""
            mean, variance = module.running_mean, module.running_var
            ones |= {f"{start}running_mean": torch.zeros_like(mean), f"{start}running_var": torch.ones_like(variance)}
            squares[f"{start}running_mean"] = torch.zeros_like(mean)
            squares[f"{start}running_var"] = (variance + module.eps).square() - module.eps  # of the squared division
    return ones, squares


def _as_published(network: nn.Module, prunable: set[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return ones and squares by the published rule; names with 'bn', and the output layer, keep their values."""
    import torch

    from models.build import output_layer

    layer = output_layer(network)
    own = {id(tensor) for tensor in layer.parameters()}
    ones, squares = {}, {}
    for name, tensor in (*_parameters(network, prunable).items(), *network.named_buffers()):
        value = tensor.detach().clone()
        if not value.is_floating_point():
            continue
        stays = "bn" in name or id(tensor) in own
        ones[name] = value if stays else torch.ones_like(value)
        squares[name] = value.clone() if stays else value.square()
    return ones, squares


def _parameters(network: nn.Module, prunable: set[str]) -> dict[str, nn.Parameter]:
    """Return the parameters of a network, each under one name: that of the prunable weight, where layers share it."""
    every = dict(network.named_parameters(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in every.items() if name not in prunable}
    names |= {id(every[name]): name for name in prunable}
    return {name: every[name] for name in names.values()}


PX = Method(
    spelling="pxN",
    known_as=("path_exclusion",),
    pattern=f"px{EXAMPLES_PER_CLASS}",
    examples=("px10",),
    paper="Iurada et al. 2024, Finding Lottery Tickets in Vision Models via Data-driven Spectral Foresight Pruning",
    passes="two forward passes over the examples, and a forward and a backward pass for one example",
    tested_against="iurada/px-ntk-pruning",
    differences="In eval mode, since train mode gives rounding errors where batchnorm and a global mean end a network "
    "(score_in_train_mode), and without biases, all weights squared (px_as_published for the code's rule).",
    hparams=PxHparams,
    score=px,
    mode="eval",
    float64=True,
)
