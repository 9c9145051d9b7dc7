"""The techniques and the schedules of the learning rate by name: a line for each file that declares one.

Imports no torch.
"""

from __future__ import annotations

from foundations.registry import Registry
from training.schedules.schedule import LrSchedule
from training.technique import Technique

TECHNIQUES = Registry(
    Technique,
    "technique",
    (
        "training.techniques.acdc",
        "training.techniques.continuous_sparsification",
        "training.techniques.edge_popup",
        "training.techniques.gem_miner",
        "training.techniques.ghost_skips",
        "training.techniques.gmp",
        "training.techniques.gradinit",
        "training.techniques.cyclic",
        "training.techniques.early_bird",
        "training.techniques.interpolated_norm",
        "training.techniques.powerpropagation",
        "training.techniques.rigl",
        "training.techniques.set",
        "training.techniques.itop",
        "training.techniques.granet",
        "training.techniques.snfs",
        "training.techniques.mest",
        "training.techniques.srigl",
        "training.techniques.srste",
        "training.techniques.smoothing",
        "training.techniques.soft_activation",
        "training.techniques.str",
        "training.techniques.topkast",
        "training.techniques.bias_masks",
        "training.techniques.freeze_small",
        "training.techniques.shortcut_scales",
        "training.techniques.ema",
    ),
    of_methods=True,
)
LR_SCHEDULES = Registry(
    LrSchedule,
    "lr_schedule",
    (
        "training.schedules.milestones",
        "training.schedules.cosine",
        "training.schedules.linear",
        "training.schedules.inverse_sqrt",
    ),
)
