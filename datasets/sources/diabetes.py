"""`diabetes`: the progress of a disease after a year, from ten measurements of 442 patients, shipped beside this file.

Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression (Annals of Statistics, 2004), data
that the authors published at https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html, as scikit-learn (BSD 3-Clause)
distributes them: `load_diabetes(scaled=False)`. The order is numpy's `RandomState(0).permutation(442)` of theirs. The
first 353 are for training, the last 89 for testing.
"""

from __future__ import annotations

from pathlib import Path

from datasets.formats.shipped_tables import shipped_table
from datasets.tasks.regression import REGRESSION

DIABETES = shipped_table(
    Path(__file__).with_name("diabetes.safetensors"),
    REGRESSION,
    source="Efron et al. 2004, diabetes, as distributed with scikit-learn (BSD 3-Clause)",
    origin="diabetes (Efron et al. 2004), as distributed with scikit-learn, shipped with open_prune",
)
