"""`language_modelling`: the next token at each position (causal). Cross-entropy; perplexity and bits a byte.

Perplexity is exp(mean loss) over all tokens that count, each once. Bits a byte are the sum of the losses, in bits,
divided by the length of these tokens in bytes, so that tokenizers can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.tasks.task import Facts, Reduction, Task
from foundations.inputs import TOKENS
from foundations.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.spec import DatasetSpec

IGNORED = -100
"""The target of a position that does not count."""
PERPLEXITY = Metric(spelling="perplexity", label="perplexity", higher_is_better=False)
BITS_PER_BYTE = Metric(spelling="bits_per_byte", label="bits a byte", higher_is_better=False)


class LanguageModelling(Task):
    """Outputs float (B, T, vocabulary), targets int64 (B, T): the next tokens, or -100."""

    def outputs(self, spec: DatasetSpec) -> int:
        """Return the size of the vocabulary."""
        return spec.vocabulary

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the cross-entropy, in nats, over the tokens that count."""
        from torch.nn import functional as F

        total = F.cross_entropy(
            outputs.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
        return total if reduction == "sum" else total / self.count(targets).clamp(min=1)

    def count(self, targets: Tensor) -> Tensor:
        """Return the number of tokens that count, int64 ()."""
        return (targets != IGNORED).sum()

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return the length in bytes of the tokens that count, if it is known."""
        if facts.token_bytes is None:
            return []
        counted = targets != IGNORED
        return [(facts.token_bytes[targets.where(counted, targets.new_zeros(()))] * counted).sum()]

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        """Return perplexity and, if the lengths of tokens are known, bits_per_byte."""
        found = {PERPLEXITY.spelling: math.exp(loss) if loss < math.log(1e300) else math.inf}
        if sums and sums[0]:
            found[BITS_PER_BYTE.spelling] = loss * count / math.log(2) / sums[0]
        return found


LANGUAGE_MODELLING = LanguageModelling(
    spelling="language_modelling",
    summary="the next token at each position",
    metrics=(PERPLEXITY, BITS_PER_BYTE),
    inputs=(TOKENS,),
    stored_targets=None,
    per_token=True,
    smooths_labels=True,
)
