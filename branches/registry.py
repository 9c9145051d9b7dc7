"""The branches by name."""

from __future__ import annotations

from branches.named.branch import Branch
from foundations.registry import Registry

BRANCHES = Registry(
    Branch,
    "branch",
    (
        "branches.named.oneshot",
        "branches.named.lottery_rewind",
        "branches.named.presets",
        "branches.named.finetune",
        "branches.named.gmp",
        "branches.named.singleshot",
        "branches.named.retrain",
        "branches.named.transplant",
        "branches.named.sign_transfer",
        "branches.named.chain",
        "branches.named.mag",
        "branches.lottery.randomly_prune",
        "branches.lottery.randomly_reinitialize",
    ),
    of_methods=True,
)
