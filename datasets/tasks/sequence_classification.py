"""`sequence_classification`: each sequence of tokens has one class. Losses and metrics of classification."""

from __future__ import annotations

from datasets.tasks.classification import ACCURACY, TOP5, Classification
from foundations.inputs import TOKENS

SEQUENCE_CLASSIFICATION = Classification(
    spelling="sequence_classification",
    summary="each sequence of tokens has one class",
    metrics=(ACCURACY, TOP5),
    inputs=(TOKENS,),
    has_classes=True,
    smooths_labels=True,
)
