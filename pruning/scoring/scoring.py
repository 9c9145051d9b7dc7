"""The input of a method's score: a masked copy of the network, the examples in batches, and gradients.

Scoring works on a copy, so it leaves the model unchanged, even if it fails; random numbers that a network draws in its
forward pass come from a separate stream, and autocast is off. Scores have the network's precision, float32 if that is
lower, and float64 if the method needs it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

from foundations.errors import OpenPruneError, UsageError
from foundations.examples import Rows
from foundations.multiply_adds import in_eval_mode
from pruning.hparams import PruningHparams
from pruning.kernels.live_channels import LiveChannels
from pruning.kernels.second_derivatives import fast_second_derivatives
from pruning.masks.mask import Mask
from pruning.plugin_results import check_asks_for_examples
from pruning.scoring.activation_memory import (
    MOST_ACTIVATIONS,
    MOST_PER_INPUT,
    OF_SECOND_DERIVATIVES,
    activation_bytes,
    recompute_blocks,
)
from pruning.scoring.outputs import Loss, Objective
from pruning.scoring.scoring_network import (
    arguments,
    check_depends_on_weights,
    gradients_of,
    has_embeddings,
    ones_behind_embeddings,
    ones_like,
    placed,
    run,
    scoring_copy,
    without_cudnn,
)
from pruning.weights.normalization import any_couples_examples

Scores = dict[str, torch.Tensor]
_GRADIENT_ENTRIES = 1 << 22
"""The most numbers that the gradients of single examples have at a time, if no micro batch size is given.

On one CPU core this was 1.6 times as fast as one example at a time for ResNet-20, and as fast for LeNet-300-100 and
ResNet-18 (best of 4); sixteen times as many were slower for all three.
"""


class Scoring:
    """The masked copy of a network, and the computations that methods share.

    network: the copy, in eval mode but for the normalization layers that the method wants in train mode. weights: its
    prunable weights by name, sorted, zero if pruned; only they require gradients. batches: the batches of the current
    pass, read lazily; passes may have different ones. loss: (outputs, y) -> the mean over the batch.
    objective: the loss, and the choice among the outputs. example: inputs of one example; by default the first one.
    micro_batch_size: the most examples whose activations are in memory at a time; by default as many as have at most
    MOST_ACTIVATIONS. Where batchnorm couples the examples of a batch, a smaller batch would be another function; then
    activations are recomputed block by block: only those between blocks and inside one block are in memory.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mask,
        hparams: PruningHparams,
        *,
        batches: list[Rows] | Callable[[int], list[Rows]],
        input_shape: tuple[int, ...] | None,
        loss: Loss | Objective,
        seed: int,
        micro_batch_size: int | None = None,
        example: Any = None,
    ) -> None:
        self.network = scoring_copy(model, hparams)
        parameters = dict(self.network.named_parameters(remove_duplicate=False))
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in mask}
        for parameter in parameters.values():
            parameter.requires_grad_(False)
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.data = weight.data.contiguous()
        first = next(iter(self.weights.values()))
        self.device, self.dtype = first.device, first.dtype
        self._draw = batches if callable(batches) else None
        self._passes = 0
        self.batches: list[Rows] = batches(0) if callable(batches) else batches
        self.input_shape = input_shape
        self.objective = loss if isinstance(loss, Objective) else Objective(loss)
        self.loss = self.objective.loss
        self._example = example
        self.seed = seed
        self._hparams, self._micro_batch_size = hparams, micro_batch_size
        self._recomputes = False
        # cuDNN's recurrent layers have no second derivative, and their weights cannot be replaced for vmap.
        self._is_recurrent = any(isinstance(module, nn.RNNBase) for module in self.network.modules())
        self._vectorizes, self._has_run = not self._is_recurrent, False
        self._dense: Scores = {}
        if hparams.method.can_regrow:
            self._dense = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.mask = mask.of_same_shapes({name: torch.ones_like(tensor) for name, tensor in mask.items()})
        self.set_mask(mask)

    @property
    def size(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)

    def next_pass(self) -> list[Rows]:
        """Return the batches of a pass over the examples: the same in each pass, unless each draws its own."""
        check_asks_for_examples(self._hparams.method)
        if self._draw is not None and self._passes:
            self.batches = self._draw(self._passes)
        self._passes += 1
        return self.batches

    @property
    def dense_weights(self) -> Scores:
        """The weights as they are without a mask; only for methods that can regrow weights."""
        return self._dense

    @torch.no_grad()
    def set_mask(self, mask: Mask) -> None:
        """Set the weights that `mask` prunes to zero. Unless the method can regrow weights, masks must only shrink."""
        for name, weight in self.weights.items():
            if name in self._dense:
                weight.copy_(self._dense[name])
                weight.masked_fill_(~mask[name].to(weight.device), 0)
        if not self._dense:
            for name, pruned in self.mask.newly_pruned_by(mask).items():
                if len(pruned):
                    weight = self.weights[name]
                    weight.data.view(-1).index_fill_(0, pruned.to(weight.device), 0)
        self.mask = mask

    @torch.no_grad()
    def order_of_layers(self) -> list[str] | None:
        """Return the names of the weights in the order in which their layers first run, unused layers first.

        None if there are neither examples nor an input shape to run the network on.
        """
        example = self._first_example()
        if example is None:
            return None
        ran: list[str] = []
        layers = [(name, self.network.get_submodule(name.rpartition(".")[0])) for name in self.weights]
        hooks = [layer.register_forward_pre_hook(lambda *_, name=name: ran.append(name)) for name, layer in layers]
        with in_eval_mode(self.network):
            self.run(example)
        for hook in hooks:
            hook.remove()
        order = list(dict.fromkeys(ran))
        return [name for name in self.weights if name not in order] + order

    def run(self, inputs: Any) -> Any:
        """Return the outputs of the network. Raises: UsageError where it cannot run on such inputs."""
        return run(self.network, inputs)

    def ones(self) -> Any:
        """Return one example of all ones; where the network takes tokens, an example of tokens."""
        if self._example is not None:
            return ones_like(self.network, self._first_example(), self.dtype)
        assert self.input_shape is not None
        return torch.ones(1, *self.input_shape, device=self.device, dtype=self.dtype)

    def gradient_of(self, value: torch.Tensor, *, create_graph: bool = False) -> Scores:
        """Return the gradient of a scalar with respect to the weights (zero for weights that it is independent of)."""
        gradients = gradients_of(value, list(self.weights.values()), create_graph=create_graph)
        if create_graph:
            return dict(zip(self.weights, gradients, strict=True))
        return {name: part.detach().contiguous() for name, part in zip(self.weights, gradients, strict=True)}

    def scores_of_flow(self, score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Scores:
        """Return score(w, ∂R/∂w) by element, R = 1ᵀ f(1) the sum of the outputs for one example of all ones.

        It may be 0 for weights that the mask prunes, whatever their gradient. A network that takes tokens gets the ones
        in place of its embeddings. Raises: UsageError where an embedding is to be scored, through which nothing flows.
        """
        ones = self.ones()
        takes_tokens = any(not leaf.is_floating_point() for leaf in tree_leaves(ones) if isinstance(leaf, torch.Tensor))
        if self._example is None and has_embeddings(self.network):
            raise UsageError("this network takes tokens; pass examples, for the shape of its inputs.", "examples")
        behind = ones_behind_embeddings(self.network, self.weights) if takes_tokens else contextlib.nullcontext()
        with behind, self._live_channels.under(self.mask):
            return self._live_channels.scores(self.objective.scored(self.run(ones)).sum(), score)

    def gradient(self, temperature: float = 1.0) -> Scores:
        """Return ∂L/∂w, where L is the mean loss of all examples, each batch by itself in the forward pass.

        If batches count alike, L is the mean of their mean losses, here and below. Outputs are divided by `temperature`
        before the loss.
        """
        return self._gradient(self.next_pass(), temperature)

    def mean_over_batches(self, function: Callable[[Scores], Scores]) -> Scores:
        """Return Σ_b (n_b / n) function(∂L_b/∂w), where L_b is the mean loss of batch b, of n_b of the n examples."""
        shares = self._shares(self.next_pass())
        return self._sum((function(self._gradient([batch])), share) for batch, share in shares)

    def sum_over_batches(self) -> Scores:
        """Return Σ_b ∂L_b/∂w: every batch weighs the same."""
        return self._sum((self._gradient([batch]), 1.0) for batch in self._counted(self.next_pass()))

    def mean_squared_gradient(self) -> Scores:
        """Return (1 / n) Σ_i (∂L_i/∂w)², where L_i is the loss of example i by itself.

        Examples are vectorized by `torch.func.vmap`, as many at a time as micro_batch_size or, by default, a bound on
        memory allows; one by one where vmap cannot run the network or the loss.
        """
        entries = sum(weight.numel() for weight in self.weights.values())
        size = self._micro_batch_size or max(1, _GRADIENT_ENTRIES // max(1, entries))
        parts = (part for batch in self.next_pass() for part in batch.split(size))
        return self._sum((self._squared_gradients(part), 1 / self.size) for part in parts)

    def hessian_gradient(self, temperature: float) -> Scores:
        """Return Hg, where g = ∂L/∂w and H = ∂²L/∂w² of the mean loss L of all examples, outputs / `temperature`.

        Where each pass has its own examples, g is of one pass and H of the next.
        """
        batches = self.next_pass()
        if len(batches) == 1 and self._draw is None:
            return self._hessian_gradient_of(batches[0], temperature)
        gradient = self._gradient(batches, temperature)
        shares = self._shares_of_parts(self.next_pass(), OF_SECOND_DERIVATIVES)
        return self._sum((self._hessian_product(part, gradient, temperature), share) for part, share in shares)

    def hessian_gradient_per_batch(self, temperature: float) -> Scores:
        """Return Σ_b (n_b / n) H_b g_b: the gradient and the Hessian of the same batch, outputs / `temperature`."""
        shares = self._shares(self.next_pass())
        return self._sum((self._hessian_gradient_of(batch, temperature), share) for batch, share in shares)

    def _hessian_gradient_of(self, batch: Rows, temperature: float) -> Scores:
        """Return H_b g_b of a batch; the gradient needs no separate pass if the batch is in one part."""
        shares = self._shares_of_parts([batch], OF_SECOND_DERIVATIVES)
        if len(shares) == 1:
            return self._hessian_product(batch, None, temperature)
        gradient = self._gradient([batch], temperature)
        return self._sum((self._hessian_product(part, gradient, temperature), share) for part, share in shares)

    @torch.no_grad()
    def calibrate_batchnorm(self) -> None:
        """Set batchnorm's statistics to the average over the scoring batches, and hold them constant (eval mode).

        In eval mode the stored statistics stay.
        """
        if self._hparams.scores_in_eval_mode:
            return
        norms = [module.train() for module in self.network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum = None
            norm.reset_running_stats()
        for batch in self.next_pass():
            self.run(self.tensors(batch)[0])
        for norm in norms:
            norm.eval()

    def tensors(self, batch: Rows) -> tuple[Any, Any]:
        """Return inputs and targets of a batch on the device, floats among the inputs in the weights' precision."""
        x, y = batch.read()
        return placed(x, self.device, self.dtype), placed(y, self.device, None)

    @functools.cached_property
    def _live_channels(self) -> LiveChannels:
        return LiveChannels(self.network, self.weights)

    def _first_example(self) -> Any:
        """Return the inputs of one example, or None if they are unknown."""
        if self.batches:
            return self.tensors(self.batches[0].split(1)[0])[0]
        if self._example is not None:
            return placed(self._example, self.device, self.dtype)
        return None if self.input_shape is None else self.ones()

    @functools.cached_property
    def _bytes_of_example(self) -> int:
        """The bytes in memory between the forward and the backward pass of an example, or an upper bound."""
        example, largest = self._first_example(), max(len(batch) for batch in self.batches)
        size = sum(leaf.nbytes for leaf in tree_leaves(example) if isinstance(leaf, torch.Tensor))
        is_small = largest * size * MOST_PER_INPUT <= MOST_ACTIVATIONS // OF_SECOND_DERIVATIVES
        if is_small and not has_embeddings(self.network):  # a token is few bytes, and becomes many
            return size * MOST_PER_INPUT
        return activation_bytes(self.network, example, run)

    def _at_once(self, times: int) -> int | None:
        """Return the most examples that are in memory at a time, None for whole batches.

        times: the memory relative to a gradient's.
        """
        if self._micro_batch_size or not self.batches:
            return self._micro_batch_size
        most = MOST_ACTIVATIONS // max(1, times * self._bytes_of_example)
        return None if most >= max(len(batch) for batch in self.batches) else max(1, most)

    def _parts(self, batches: list[Rows], times: int = 1) -> list[Rows]:
        """Split the batches into parts that are in memory at a time."""
        if any_couples_examples(self.network):
            return batches
        return [part for batch in batches for part in batch.split(self._at_once(times))]

    def _recompute_if_coupled(self, times: int = 1) -> None:
        """Recompute activations if a batch has too many of them and a smaller batch would be another function."""
        if not self._recomputes and any_couples_examples(self.network) and self._at_once(times):
            recompute_blocks(self.network)
            self._recomputes = True

    def _mass(self, batches: Iterable[Rows]) -> float:
        """Return the divisor of the mean loss of some batches: the number of examples that count."""
        return sum(self.objective.mass(batch.targets, len(batch)) for batch in batches)

    def _counted(self, batches: Iterable[Rows]) -> Iterable[Rows]:
        """Return the batches in which some target counts; the mean loss of no targets is not a number."""
        return (batch for batch in batches if self._mass([batch]) > 0)

    def _shares(self, batches: list[Rows]) -> list[tuple[Rows, float]]:
        """Return the batches in which some target counts, each with its weight in the mean loss of all."""
        counted = list(self._counted(batches))
        masses = [1.0 if self._hparams.weighs_batches_equally else self._mass([batch]) for batch in counted]
        return [(batch, mass / sum(masses)) for batch, mass in zip(counted, masses, strict=True)]

    def _shares_of_parts(self, batches: list[Rows], times: int = 1) -> list[tuple[Rows, float]]:
        """Return `_shares` of the parts that are in memory at a time."""
        if not self._hparams.weighs_batches_equally:
            return self._shares(self._parts(batches, times))
        return [
            (part, share * self._mass([part]) / self._mass([batch]))
            for batch, share in self._shares(batches)
            for part in self._counted(self._parts([batch], times))
        ]

    def _mean_loss(self, batch: Rows, temperature: float) -> torch.Tensor:
        self._recompute_if_coupled()
        x, y = self.tensors(batch)
        return self.objective.value(self.run(x), y, temperature)

    def _gradient(self, batches: list[Rows], temperature: float = 1.0) -> Scores:
        shares = self._shares_of_parts(batches)
        if not shares:
            raise UsageError(
                "no target of the scoring examples counts: all have the label that is ignored.", "examples"
            )
        return self._sum((self.gradient_of(self._mean_loss(part, temperature)), share) for part, share in shares)

    def _squared_gradients(self, batch: Rows) -> Scores:
        """Return Σ_i (∂L_i/∂w)² over the examples of a batch."""
        if len(batch) > 1 and self._vectorizes and self._mass([batch]) == len(batch):
            if not self._has_run:
                check_depends_on_weights(self._mean_loss(batch.split(1)[0], 1.0))  # checks the examples, too
                self._has_run = True
            try:
                return self._vectorized(batch)
            except OpenPruneError:
                raise
            except (RuntimeError, TypeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self._vectorizes = False
        ones = ((self.gradient_of(self._mean_loss(part, 1.0)), 1.0) for part in self._counted(batch.split(1)))
        return self._sum(({name: part.square() for name, part in scores.items()}, one) for scores, one in ones)

    def _vectorized(self, batch: Rows) -> Scores:
        def loss(weights: Scores, x: Any, y: Any) -> torch.Tensor:
            x, y = (tree_map_only(torch.Tensor, lambda leaf: leaf[None], tree) for tree in (x, y))
            outputs = functional_call(self.network, weights, *arguments(self.network, x))
            return self.objective.value(outputs, y, checked=False)

        weights = {name: weight.detach() for name, weight in self.weights.items()}
        with sdpa_kernel(SDPBackend.MATH):  # the fused attentions cannot be vectorized
            gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, *self.tensors(batch))
        return {name: part.square().sum(0) for name, part in gradients.items()}

    def _hessian_product(self, batch: Rows, vector: Scores | None, temperature: float) -> Scores:
        """Return H_b v; v = g_b if no vector is given, from the same forward pass."""
        self._recompute_if_coupled(OF_SECOND_DERIVATIVES)  # before layers get another forward pass
        with fast_second_derivatives(self.network), without_cudnn() if self._is_recurrent else contextlib.nullcontext():
            with sdpa_kernel(SDPBackend.MATH):  # the fused attentions have no second derivative
                gradient = self.gradient_of(self._mean_loss(batch, temperature), create_graph=True)
            vector = gradient if vector is None else vector
            product = torch.stack([(gradient[name] * vector[name].detach()).sum() for name in gradient]).sum()
            return self.gradient_of(product)

    def _sum(self, terms: Iterable[tuple[Scores, float]]) -> Scores:
        total: Scores = {}
        for scores, factor in terms:
            for name, score in scores.items():
                if name in total:
                    total[name].add_(score.detach(), alpha=factor)
                else:
                    total[name] = score.detach() * factor
        return total
