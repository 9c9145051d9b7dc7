"""The input of scoring besides the network, its mask and the hyperparameters: examples, loss, seed and sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from foundations.errors import UsageError
from foundations.examples import Rows, rows_of
from foundations.inputs import TOKENS, Inputs
from pruning.examples import (
    Examples,
    ExamplesOfPass,
    batches_of_inputs,
    chosen_examples,
    read_examples,
    tensors_of_inputs,
)
from pruning.hparams import ExamplesHparams, PruningHparams
from pruning.scoring.outputs import Objective
from pruning.scoring.scoring_network import takes_argument
from pruning.weights.named_weights import unwrapped


def one_example(inputs: Inputs) -> dict[str, Any]:
    """Return the fields of `ScoringInputs` that describe one example: its shape, or, of tokens, an example."""
    return {"example": inputs.blank(1)} if inputs.kind == TOKENS else {"input_shape": inputs.shape}


@dataclass(frozen=True, kw_only=True)
class ScoringInputs:
    """Input of scoring. `pruning.prune.prune` describes the fields, which are arguments of it."""

    seed: int
    examples: Examples | Rows | ExamplesOfPass | None = None
    """Also chosen `Rows`, read in parts; or, for methods whose examples vary, a function from the number of a pass
    (from 0) to its `Rows`."""
    batch_size: int | None = None
    """Used if the hyperparameters do not say how to batch the examples."""
    input_shape: tuple[int, ...] | None = None
    objective: Objective = field(default_factory=Objective)
    """The loss, and the choice among the outputs."""
    micro_batch_size: int | None = None
    example: Any = None
    """Inputs of one example, if they are known and no shape is given."""
    training: Callable[[], Iterable[Any]] | None = None
    """Returns the inputs of batches of the whole training set; by default of all `examples`, unless they are chosen."""

    def for_method(self, model: nn.Module, hparams: PruningHparams) -> ScoringInputs:
        """Return the input for a method: `examples` are its scoring examples, None if it scores without any.

        Raises: UsageError if the method needs examples or their shape, and there are none.
        """
        found = self._with_rows(model, hparams)
        if self.input_shape is not None:
            found = replace(found, example=None)
        elif len(parts := tensors_of_inputs(found.example)) == 1:
            found = replace(found, input_shape=tuple(parts[0].shape[1:]))
        if hparams.method.needs_input_shape and found.input_shape is None and found.example is None:
            raise UsageError(f"{hparams.strategy} needs the shape of one example, such as (3, 32, 32).", "input_shape")
        if isinstance(hparams, ExamplesHparams):
            found = replace(found, batch_size=hparams.score_batch_size or self.batch_size)
        return found

    def _with_rows(self, model: nn.Module, hparams: PruningHparams) -> ScoringInputs:
        per_class, ignored = hparams.examples_per_class, self.objective.ignored_label
        if self.examples is None and per_class is not None:
            raise UsageError(f"{hparams.strategy} scores with examples; pass examples=(x, y).", "examples")
        is_function = callable(self.examples) and not any(
            hasattr(self.examples, name) for name in ("__len__", "__iter__")
        )
        if self.examples is None or isinstance(self.examples, Rows) or is_function:
            return self if per_class is not None else replace(self, examples=None)
        reads_all = isinstance(hparams, ExamplesHparams) and hparams.score_examples == "redrawn"
        most = sys.maxsize if reads_all else per_class or 1
        inputs, targets = read_examples(self.examples, most, ignored, self.seed)
        if isinstance(inputs, dict) and takes_argument(unwrapped(model), "labels"):
            inputs = {**inputs, "labels": targets}  # such a network computes its loss
        rows = (
            None
            if per_class is None
            else chosen_examples((inputs, targets), hparams, ignored, self.seed, self.batch_size)
        )
        training = self.training or partial(batches_of_inputs, self.examples, inputs, self.batch_size, self.seed)
        return replace(self, examples=rows, example=rows_of(inputs, slice(0, 1)), training=training)

    def batches(self, number: int) -> list[Rows]:
        """Return the batches of a pass (from 0) over a method's examples. Raises: UsageError if they are not `Rows`."""
        rows = self.examples(number) if callable(self.examples) else self.examples
        if rows is not None and not isinstance(rows, Rows):
            raise UsageError(f"it takes no function; pass the {type(rows).__name__} that it returns.", "examples")
        return [] if rows is None else rows.split(self.batch_size)
