"""docs/methods.md names everything that a method may use of `Scoring`."""

from __future__ import annotations

import re

from torch import nn

from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.scoring.inputs import ScoringInputs
from pruning.scoring.scoring import Scoring
from tests.conftest import REPOSITORY


def test_the_page_about_methods_says_all_that_scoring_offers() -> None:
    page = (REPOSITORY / "docs" / "methods.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)[`(]", row)}
    model = nn.Linear(2, 2)
    hparams = PruningHparams(strategy="magnitude")
    scoring = Scoring(model, Mask.ones(model), hparams, ScoringInputs(seed=0))

    offered = {name for name in dir(scoring) if not name.startswith("_")}

    assert sorted(offered - named) == []
