"""The input of a score: a masked copy of the network, the examples in batches, their losses and derivatives."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

from foundations.errors import OpenPruneError, UsageError
from foundations.examples import Rows
from foundations.multiply_adds import in_eval_mode
from pruning.hparams import BatchesHparams, PruningHparams
from pruning.masks.mask import Mask
from pruning.plugin_results import check_asks_for_examples
from pruning.scoring.activation_memory import (
    MOST_ACTIVATIONS,
    MOST_PER_INPUT,
    OF_SECOND_DERIVATIVES,
    activation_bytes,
    recompute_blocks,
)
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.linearized import linearized
from pruning.scoring.masked_network import MaskedNetwork
from pruning.scoring.masked_network import Scores as Scores
from pruning.scoring.scoring_network import (
    arguments,
    check_depends_on_weights,
    filled_like,
    has_embeddings,
    placed,
    run,
    twice_differentiable,
    without_trace,
)
from pruning.weights.normalization import any_couples_examples

_GRADIENT_ENTRIES = 1 << 22
"""The most numbers that the gradients of single examples have at a time, if no micro batch size is given.

On one CPU core this was 1.6 times as fast as one example at a time for ResNet-20, and as fast for LeNet-300-100 and
ResNet-18 (best of 4); sixteen times as many were slower for all three.
"""


class Scoring(MaskedNetwork):
    """The masked copy of a network, and the computations that methods share.

    batches: the batches of the current pass, read lazily; passes may have different ones. objective: the loss, and the
    choice among the outputs. input_shape: of one example, None if it is not known or there are several inputs. seed:
    names random streams. iteration: the number of the present iteration, from 1.
    """

    def __init__(self, model: nn.Module, mask: Mask, hparams: PruningHparams, inputs: ScoringInputs) -> None:
        """Take a network, a mask, and the inputs of the method (`ScoringInputs.for_method`)."""
        super().__init__(model, mask, hparams)
        self._hparams, self._inputs = hparams, inputs
        self._weighs_equally = isinstance(hparams, BatchesHparams) and hparams.score_batches_equally
        self.input_shape, self.objective, self.seed = inputs.input_shape, inputs.objective, inputs.seed
        self.loss = self.objective.loss
        self.batches, self.iteration = inputs.batches(0), 1
        self._passes = 0
        self._recomputes = False
        # The weights of recurrent layers cannot be replaced for vmap.
        self._vectorizes = not any(isinstance(module, nn.RNNBase) for module in self.network.modules())
        self._has_run = False

    @property
    def size(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)

    def next_pass(self) -> list[Rows]:
        """Return the batches of a pass over the examples: the same in each pass, unless each draws its own."""
        check_asks_for_examples(self._hparams.method)
        if self._varies and self._passes:
            self.batches = self._inputs.batches(self._passes)
        self._passes += 1
        return self.batches

    @property
    def _varies(self) -> bool:
        return callable(self._inputs.examples)

    def order_of_modules(self) -> list[str]:
        """Return the names of the weights in the order in which the network has their modules."""
        places = {name: place for place, (name, _) in enumerate(self.network.named_modules())}
        return sorted(self.weights, key=lambda name: (places[name.rpartition(".")[0]], name))

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
        with in_eval_mode(self.network), contextlib.ExitStack() as hooks:
            for name, layer in layers:
                hooks.enter_context(layer.register_forward_pre_hook(lambda *_, name=name: ran.append(name)))
            self.run(example)
        order = list(dict.fromkeys(ran))
        return [name for name in self.weights if name not in order] + order

    def ones(self) -> Any:
        """Return one example of all ones; where the network takes tokens, an example of tokens."""
        return self.example_of(lambda tensor: torch.ones(tensor.shape, device=self.device, dtype=self.dtype))

    def example_of(self, fill: Callable[[Tensor], Tensor], rows: int = 1, like: Any = None) -> Any:
        """Return examples with fill(tensor of `rows`) in place of their numbers (`filled_like`).

        like: inputs of one example, by default of the first.

        Raises: UsageError if the network takes tokens and there is no example of them.
        """
        if like is None and self._inputs.example is None and not self.batches:
            assert self.input_shape is not None
            like = torch.empty(1, *self.input_shape, device=self.device, dtype=self.dtype)
            if has_embeddings(self.network):
                raise UsageError("this network takes tokens; pass examples, for the shape of its inputs.", "examples")
        return filled_like(self.network, self._first_example() if like is None else like, fill, rows)

    def loss_of(
        self,
        batch: Rows,
        weights: Mapping[str, Tensor] | None = None,
        *,
        temperature: float = 1.0,
        create_graph: bool = False,
    ) -> Tensor:
        """Return the mean loss of a batch, a scalar, of outputs divided by a temperature.

        weights, create_graph: as `run` takes them. Raises: UsageError as `run`, and where the loss does not suit.
        """
        self._recompute_if_coupled(OF_SECOND_DERIVATIVES if create_graph else 1)
        x, y = self.tensors(batch)
        return self.objective.value(self.run(x, weights, create_graph=create_graph), y, temperature)

    def gradient(
        self,
        temperature: float = 1.0,
        *,
        weights: Mapping[str, Tensor] | None = None,
        batches: list[Rows] | None = None,
    ) -> Scores:
        """Return ∂L/∂w, where L is the mean loss of all examples, each batch by itself in the forward pass.

        If batches count alike, L is the mean of their mean losses, here and below. Outputs are divided by `temperature`
        before the loss. weights: other values at which it is taken, as `run` takes them, and with respect to which; by
        default the prunable weights. batches: by default those of the next pass.
        """
        if weights is not None:
            weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        return _sum(
            (self.gradient_of(self.loss_of(part, weights, temperature=temperature), weights), share)
            for part, share in self.parts(batches)
        )

    def mean_over_batches(
        self,
        function: Callable[[Scores], Scores],
        temperature: float = 1.0,
        *,
        batches: list[Rows] | None = None,
    ) -> Scores:
        """Return Σ_b (n_b / n) function(∂L_b/∂w), where L_b is the mean loss of batch b, of n_b of the n examples.

        temperature, batches: as in `gradient`.
        """
        shares = self.shares(self.next_pass() if batches is None else batches)
        return _sum((function(self.gradient(temperature, batches=[batch])), share) for batch, share in shares)

    def sum_over_batches(self) -> Scores:
        """Return Σ_b ∂L_b/∂w: every batch weighs the same."""
        return _sum((self.gradient(batches=[batch]), 1.0) for batch in self._counted(self.next_pass()))

    def mean_squared_gradient(self, temperature: float = 1.0, *, batches: list[Rows] | None = None) -> Scores:
        """Return (1 / n) Σ_i (∂L_i/∂w)², where L_i is the loss of example i by itself.

        Examples are vectorized by `torch.func.vmap`, as many at a time as micro_batch_size or, by default, a bound on
        memory allows; one by one where vmap cannot run the network or the loss. temperature, batches: as in `gradient`.
        """
        entries = sum(weight.numel() for weight in self.weights.values())
        size = self._inputs.micro_batch_size or max(1, _GRADIENT_ENTRIES // max(1, entries))
        batches = self.next_pass() if batches is None else batches
        count = sum(len(batch) for batch in batches)
        parts = (part for batch in batches for part in batch.split(size))
        return _sum((self._squared_gradients(part, temperature), 1 / count) for part in parts)

    def hessian_product(
        self,
        vector: Mapping[str, Tensor] | None = None,
        temperature: float = 1.0,
        *,
        batches: list[Rows] | None = None,
    ) -> Scores:
        """Return Hv, where H = ∂²L/∂w² of the mean loss L of all examples, outputs / `temperature`.

        vector: v, by the names of the prunable weights; by default the gradient of L. batches: as in `gradient`.
        """
        batches = self.next_pass() if batches is None else batches
        parts = self.parts(batches, OF_SECOND_DERIVATIVES)
        if vector is None and len(parts) > 1:
            vector = self.gradient(temperature, batches=batches)
        return _sum((self._product_of(part, vector, temperature), share) for part, share in parts)

    def hessian_gradient(self, temperature: float) -> Scores:
        """Return Hg, where g = ∂L/∂w and H = ∂²L/∂w² of the mean loss L of all examples, outputs / `temperature`.

        Where each pass has its own examples, g is of one pass and H of the next.
        """
        return self.hessian_product(self.gradient(temperature) if self._varies else None, temperature)

    def hessian_gradient_per_batch(self, temperature: float) -> Scores:
        """Return Σ_b (n_b / n) H_b g_b: the gradient and the Hessian of the same batch, outputs / `temperature`."""
        shares = self.shares(self.next_pass())
        return _sum((self.hessian_product(None, temperature, batches=[batch]), share) for batch, share in shares)

    def scores_of_flow(self, score: Callable[[Tensor, Tensor], Tensor]) -> Scores:
        """Return score(w, ∂R/∂w) by element, R = 1ᵀ f(1) the sum of the outputs for one example of all ones.

        A network that takes tokens gets the ones in place of its embeddings. Of a network with layer norm, such as a
        transformer, f is the linearized form (`pruning.scoring.linearized`).
        """
        ones = self.ones()
        with self.entering(ones, lambda _, embedded: torch.ones_like(embedded)), linearized(self.network):
            flow = self.gradient_of(self.objective.scored(self.run(ones)).sum())
        return {name: score(weight.detach(), flow[name]).contiguous() for name, weight in self.weights.items()}

    def training_inputs(self) -> Iterator[Any]:
        """Yield the inputs of batches of the whole training set, in the library of all given examples, as they are.

        Raises: UsageError where it is unknown.
        """
        if self._inputs.training is None:
            raise UsageError("only the scoring examples are known here, and not the training set.", "examples")
        return (placed(x, self.device, self.dtype) for x in self._inputs.training())

    @torch.no_grad()
    def calibrate_batchnorm(
        self, inputs: Iterable[Any] | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Set batchnorm's statistics to the average over the scoring batches, and hold them constant (eval mode).

        inputs: inputs of other batches. weights: as `run` takes them. In eval mode the stored statistics stay.
        """
        if self._hparams.scores_in_eval_mode:
            return
        norms = [module.train() for module in self.network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum = None
            norm.reset_running_stats()
        for x in (self.tensors(batch)[0] for batch in self.next_pass()) if inputs is None else inputs:
            self.run(x, weights)
        for norm in norms:
            norm.eval()

    def examples_at_once(self, memory: int = 1) -> int | None:
        """Return the most examples of a batch that may be in memory at a time, None for whole batches.

        memory: the memory of the computation for one example, relative to that of its gradient. The bound is
        micro_batch_size or, by default, as many as have MOST_ACTIVATIONS bytes of activations.
        """
        if self._inputs.micro_batch_size or not self.batches:
            return self._inputs.micro_batch_size
        most = MOST_ACTIVATIONS // max(1, memory * self._bytes_of_example)
        return None if most >= max(len(batch) for batch in self.batches) else max(1, most)

    def shares(self, batches: list[Rows]) -> list[tuple[Rows, float]]:
        """Return the batches in which some target counts, each with its weight in the mean loss of all."""
        counted = list(self._counted(batches))
        masses = [1.0 if self._weighs_equally else self._mass([batch]) for batch in counted]
        return [(batch, mass / sum(masses)) for batch, mass in zip(counted, masses, strict=True)]

    def parts(self, batches: list[Rows] | None = None, memory: int = 1) -> list[tuple[Rows, float]]:
        """Return batches in parts that may be in memory at a time, each with its weight in the mean loss of all.

        Where batchnorm couples the examples of a batch, a smaller batch would be another function. Then batches stay
        whole and, if the bound requires it, activations are recomputed block by block: only those between blocks and
        inside one block are in memory. Batches in which no target counts are omitted.

        batches: by default those of the next pass. memory: as `examples_at_once` takes it.

        Raises: UsageError if no target counts.
        """
        batches = self.next_pass() if batches is None else batches
        self._recompute_if_coupled(memory)
        size = None if any_couples_examples(self.network) else self.examples_at_once(memory)
        if self._weighs_equally:
            shares = [
                (part, share * self._mass([part]) / self._mass([batch]))
                for batch, share in self.shares(batches)
                for part in self._counted(batch.split(size))
            ]
        else:
            shares = self.shares([part for batch in batches for part in batch.split(size)])
        if not shares:
            raise UsageError(
                "no target of the scoring examples counts: all have the label that is ignored.", "examples"
            )
        return shares

    def _first_example(self) -> Any:
        """Return the inputs of one example, or None if they are unknown."""
        if self.batches:
            return self.tensors(self.batches[0].split(1)[0])[0]
        if self._inputs.example is not None:
            return placed(self._inputs.example, self.device, self.dtype)
        return None if self.input_shape is None else self.ones()

    @functools.cached_property
    def _bytes_of_example(self) -> int:
        """The bytes in memory between the forward and the backward pass of an example, or an upper bound."""
        example, largest = self._first_example(), max(len(batch) for batch in self.batches)
        size = sum(leaf.nbytes for leaf in tree_leaves(example) if isinstance(leaf, Tensor))
        is_small = largest * size * MOST_PER_INPUT <= MOST_ACTIVATIONS // OF_SECOND_DERIVATIVES
        if is_small and not has_embeddings(self.network):  # a token is few bytes, and becomes many
            return size * MOST_PER_INPUT
        return activation_bytes(self.network, example, run)

    def _recompute_if_coupled(self, memory: int) -> None:
        """Recompute activations if a batch has too many of them and a smaller batch would be another function."""
        if not self._recomputes and any_couples_examples(self.network) and self.examples_at_once(memory):
            recompute_blocks(self.network)
            self._recomputes = True

    def _mass(self, batches: Iterable[Rows]) -> float:
        """Return the divisor of the mean loss of some batches: the number of examples that count."""
        return sum(self.objective.mass(batch.targets, len(batch)) for batch in batches)

    def _counted(self, batches: Iterable[Rows]) -> Iterable[Rows]:
        """Return the batches in which some target counts; the mean loss of no targets is not a number."""
        return (batch for batch in batches if self._mass([batch]) > 0)

    def _squared_gradients(self, batch: Rows, temperature: float) -> Scores:
        """Return Σ_i (∂L_i/∂w)² over the examples of a batch."""
        if len(batch) > 1 and self._vectorizes and self._mass([batch]) == len(batch):
            if not self._has_run:
                check_depends_on_weights(self.loss_of(batch.split(1)[0]))  # checks the examples, too
                self._has_run = True
            try:
                return self._vectorized(batch, temperature)
            except (OpenPruneError, torch.OutOfMemoryError):
                raise
            except (RuntimeError, TypeError, ValueError):
                self._vectorizes = False
        losses = (self.loss_of(part, temperature=temperature) for part in self._counted(batch.split(1)))
        return _sum(({name: part.square() for name, part in self.gradient_of(loss).items()}, 1.0) for loss in losses)

    def _vectorized(self, batch: Rows, temperature: float) -> Scores:
        def loss(weights: Scores, x: Any, y: Any) -> Tensor:
            x, y = (tree_map_only(Tensor, lambda leaf: leaf[None], tree) for tree in (x, y))
            outputs = functional_call(self.network, weights, *arguments(self.network, x))
            return self.objective.value(outputs, y, temperature, checked=False)

        weights = {name: weight.detach() for name, weight in self.weights.items()}
        with sdpa_kernel(SDPBackend.MATH):  # the fused attentions cannot be vectorized
            gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, *self.tensors(batch))
        return {name: part.square().sum(0) for name, part in gradients.items()}

    def _product_of(self, part: Rows, vector: Mapping[str, Tensor] | None, temperature: float) -> Scores:
        """Return Hv for the mean loss of a part; v = g if no vector is given, from the same forward pass."""
        with twice_differentiable(self.network):
            loss = self.loss_of(part, temperature=temperature, create_graph=True)
            gradient = self.gradient_of(loss, create_graph=True)
            return self.hessian_times(gradient, gradient if vector is None else vector)


@contextlib.contextmanager
def open_scoring(model: nn.Module, hparams: PruningHparams, mask: Mask, inputs: ScoringInputs) -> Iterator[Scoring]:
    """Yield a method's `Scoring`; inside the block, random generators and autocast are set for scoring."""
    of_method = inputs.for_method(model, hparams)
    with without_trace(next(iter(model.parameters())).device, inputs.seed):
        yield Scoring(model, mask, hparams, of_method)


def _sum(terms: Iterable[tuple[Scores, float]]) -> Scores:
    total: Scores = {}
    for scores, factor in terms:
        for name, score in scores.items():
            if name in total:
                total[name].add_(score.detach(), alpha=factor)
            else:
                total[name] = score.detach() * factor
    return total
