"""`breast_cancer`: 569 examples of 30 features of cell nuclei, malignant or benign, shipped beside this file.

Source: UCI Machine Learning Repository, Breast Cancer Wisconsin (Diagnostic) (W. H. Wolberg, W. N. Street and O. L.
Mangasarian, 1995, CC BY 4.0), as scikit-learn's `load_breast_cancer` has it. The order is numpy's
`RandomState(0).permutation(569)` of theirs. The first 455 are for training, the last 114 for testing.
"""

from __future__ import annotations

from pathlib import Path

from datasets.formats.shipped_tables import shipped_table
from datasets.tasks.classification import CLASSIFICATION

BREAST_CANCER = shipped_table(
    Path(__file__).with_name("breast_cancer.safetensors"),
    CLASSIFICATION,
    source="UCI, Breast Cancer Wisconsin (Diagnostic) (CC BY 4.0)",
    origin="UCI Breast Cancer Wisconsin, diagnostic (Wolberg et al.), shipped with open_prune",
)
