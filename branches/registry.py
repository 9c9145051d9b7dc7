"""The branches by name, of a training or any other run, and of the levels of a lottery."""

from __future__ import annotations

from branches.lottery.lottery import LevelBranch
from branches.named.branch import Branch
from foundations.registry import Registry

BRANCHES = Registry(
    Branch,
    "branch",
    (
        "branches.named.oneshot",
        "branches.named.lottery_rewind",
        "branches.named.lr_rewind",
        "branches.named.finetune",
        "branches.named.randomize_layerwise",
        "branches.named.random_tickets",
        "branches.named.reinitialize",
        "branches.named.invert",
        "branches.named.gmp",
        "branches.named.singleshot",
        "branches.named.retrain",
        "branches.named.transplant",
        "branches.named.chain",
        "branches.named.mag",
    ),
)
LEVEL_BRANCHES = Registry(
    LevelBranch,
    "branch",
    ("branches.lottery.randomly_prune", "branches.lottery.randomly_reinitialize", "branches.lottery.retrain_level"),
)
