"""The branches by name, of a training or any other run, and of the levels of a lottery."""

from __future__ import annotations

from branches.lottery import LevelBranch
from branches.named_branch import Branch
from foundations.registry import Registry

BRANCHES = Registry(
    Branch,
    "branch",
    (
        "branches.oneshot",
        "branches.lottery_rewind",
        "branches.lr_rewind",
        "branches.finetune",
        "branches.randomize_layerwise",
        "branches.random_tickets",
        "branches.reinitialize",
        "branches.invert",
        "branches.gmp",
        "branches.singleshot",
        "branches.retrain",
        "branches.transplant",
        "branches.chain",
        "branches.mag",
    ),
)
LEVEL_BRANCHES = Registry(
    LevelBranch,
    "branch",
    ("branches.randomly_prune", "branches.randomly_reinitialize", "branches.retrain_level"),
)
