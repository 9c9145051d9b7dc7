"""open_prune: the command line as a script, and the names that users' own files import."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from foundations.registry import load

if TYPE_CHECKING:
    from branches.desc import BranchDesc as BranchDesc
    from branches.named_branch import Branch as Branch
    from branches.oneshot import OneshotFlags as OneshotFlags
    from branches.oneshot import oneshot as oneshot
    from datasets.source_files import SourceFiles as SourceFiles
    from datasets.source_files import Split as Split
    from datasets.spec import DatasetSpec as DatasetSpec
    from foundations.desc import RunRef as RunRef
    from foundations.hparams import hparam as hparam
    from models.family import Family as Family
    from models.family import NetworkSpec as NetworkSpec
    from models.hparams import ModelHparams as ModelHparams
    from pruning.hparams import PruningHparams as PruningHparams
    from pruning.method import Method as Method
    from pruning.scoring import Scores as Scores
    from pruning.scoring import Scoring as Scoring
    from training.recipes import Recipe as Recipe

_PLACES = {
    "Branch": "branches.named_branch:Branch",
    "BranchDesc": "branches.desc:BranchDesc",
    "DatasetSpec": "datasets.spec:DatasetSpec",
    "Family": "models.family:Family",
    "Method": "pruning.method:Method",
    "ModelHparams": "models.hparams:ModelHparams",
    "NetworkSpec": "models.family:NetworkSpec",
    "OneshotFlags": "branches.oneshot:OneshotFlags",
    "PruningHparams": "pruning.hparams:PruningHparams",
    "Recipe": "training.recipes:Recipe",
    "RunRef": "foundations.desc:RunRef",
    "Scores": "pruning.scoring:Scores",
    "Scoring": "pruning.scoring:Scoring",
    "SourceFiles": "datasets.source_files:SourceFiles",
    "Split": "datasets.source_files:Split",
    "hparam": "foundations.hparams:hparam",
    "oneshot": "branches.oneshot:oneshot",
}
"""Where each name is, as `module:name`. It is imported when it is asked for, so that most names need no torch."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return load(_PLACES[name])


if __name__ == "__main__":
    from cli.main import main

    sys.exit(main(sys.argv[1:]))
