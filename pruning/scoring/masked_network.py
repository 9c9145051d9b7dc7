"""The masked copy of a network that is scored: its weights, its outputs and the gradients of values.

Scoring works on a copy, so it leaves the model unchanged, even if it fails; random numbers that a network draws in its
forward pass come from a separate stream, and autocast is off. Scores have the network's precision, float32 if that is
lower, and float64 if the method needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foundations.examples import Rows
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.scoring.scoring_network import (
    entering_behind_embeddings,
    gradients_of,
    has_embeddings,
    placed,
    products_with,
    run,
    scoring_copy,
    twice_differentiable,
)

Scores = dict[str, Tensor]


class MaskedNetwork:
    """The masked copy of a network.

    network: the copy, in eval mode but for the normalization layers that the method wants in train mode. weights: its
    prunable weights by name, sorted, zero if pruned; only they require gradients. dense_weights: the same without a
    mask, only for methods that can regrow weights.
    """

    def __init__(self, model: nn.Module, mask: Mask, hparams: PruningHparams) -> None:
        self.network = scoring_copy(model, hparams)
        parameters = dict(self.network.named_parameters(remove_duplicate=False))
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in mask}
        self.network.requires_grad_(False)
        for weight in self.weights.values():
            weight.requires_grad_(True)
            weight.data = weight.data.contiguous()
        first = next(iter(self.weights.values()))
        self.device, self.dtype = first.device, first.dtype
        self.dense_weights: Scores = {}
        if hparams.method.can_regrow:
            self.dense_weights = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.mask = mask.of_same_shapes({name: torch.ones_like(tensor) for name, tensor in mask.items()})
        self.set_mask(mask)

    @torch.no_grad()
    def set_mask(self, mask: Mask) -> None:
        """Set the weights that `mask` prunes to zero. Unless the method can regrow weights, masks must only shrink."""
        for name, dense in self.dense_weights.items():
            self.weights[name].copy_(dense).masked_fill_(~mask[name].to(dense.device), 0)
        if not self.dense_weights:
            for name, pruned in self.mask.newly_pruned_by(mask).items():
                if len(pruned):
                    weight = self.weights[name]
                    weight.data.view(-1).index_fill_(0, pruned.to(weight.device), 0)
        self.mask = mask

    def parameters(self) -> Scores:
        """Return the values of all real parameters by name, detached: prunable ones masked, the others as they are.

        A tensor that layers share is there once; a prunable one under its name in `weights`.
        """
        own = {id(weight) for weight in self.weights.values()}
        others = {
            name: parameter
            for name, parameter in self.network.named_parameters()
            if id(parameter) not in own and parameter.is_floating_point()
        }
        return {name: tensor.detach() for name, tensor in {**self.weights, **others}.items()}

    def tensors(self, batch: Rows) -> tuple[Any, Any]:
        """Return inputs and targets of a batch on the device, floats among the inputs in the weights' precision."""
        x, y = batch.read()
        return placed(x, self.device, self.dtype), placed(y, self.device, None)

    @contextlib.contextmanager
    def entering(self, inputs: Any, value: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        """Inside the block, values enter behind the embeddings if `inputs` are tokens (`entering_behind_embeddings`).

        Raises: UsageError if a scored weight is that of an embedding alone.
        """
        takes_tokens = any(not leaf.is_floating_point() for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
        if takes_tokens and has_embeddings(self.network):
            with entering_behind_embeddings(self.network, self.weights, value):
                yield
        else:
            yield

    def run(self, inputs: Any, weights: Mapping[str, Tensor] | None = None, *, create_graph: bool = False) -> Any:
        """Return the outputs of the network for inputs of any kind: a tensor, a tuple or a dictionary of arguments.

        weights: tensors in place of some of the network's parameters and buffers, by name. They are used as they are,
        whatever the mask, and may have any history, such as w ⊙ m; outputs can be differentiated with respect to them.
        create_graph: whether their gradient is to be differentiated again.

        Raises: UsageError where the network cannot run on such inputs, or has no tensors of these names and shapes.
        """
        with twice_differentiable(self.network) if create_graph else contextlib.nullcontext():
            return run(self.network, inputs, weights)

    def gradient_of(
        self, value: Tensor, weights: Mapping[str, Tensor] | None = None, *, create_graph: bool = False
    ) -> Scores:
        """Return the gradient of a scalar with respect to tensors by name, by default the prunable weights.

        It is zero for tensors that the scalar is independent of. create_graph: whether it can be differentiated again;
        the outputs must have been computed with create_graph, too.

        Raises: UsageError where the scalar depends on none of the tensors, or has no such derivatives.
        """
        weights = self.weights if weights is None else weights
        with twice_differentiable(self.network) if create_graph else contextlib.nullcontext():
            gradients = gradients_of(value, list(weights.values()), create_graph=create_graph)
        if not create_graph:
            gradients = [gradient.detach().contiguous() for gradient in gradients]
        return dict(zip(weights, gradients, strict=True))

    def hessian_times(
        self,
        gradient: Mapping[str, Tensor],
        vector: Mapping[str, Tensor],
        weights: Mapping[str, Tensor] | None = None,
        *,
        retain_graph: bool = False,
    ) -> Scores:
        """Return Hv, where H is the Jacobian of a gradient, and v a vector by the gradient's names.

        gradient: of `gradient_of` with create_graph. weights: the tensors it was taken at whose entries of Hv are
        returned, by default the prunable weights. retain_graph: keep the graph of the gradient for another product.

        Raises: UsageError where the gradient has no such derivative.
        """
        weights = self.weights if weights is None else weights
        curved = [name for name in gradient if gradient[name].requires_grad]
        if not curved:
            return {name: torch.zeros_like(weight) for name, weight in weights.items()}
        with twice_differentiable(self.network):
            products = products_with(
                [gradient[name] for name in curved],
                [vector[name].detach() for name in curved],
                list(weights.values()),
                retain_graph=retain_graph,
            )
        return {name: product.contiguous() for name, product in zip(weights, products, strict=True)}
