"""Small runs in which each technique acts within a few steps."""

from __future__ import annotations

from typing import Any

from branches.desc import BranchDesc
from foundations.errors import UsageError
from tests.training.small_runs import oneshot_desc, train_desc
from training.desc import TrainDesc

LAST = 6
"""Two epochs of three steps; the last batch of an epoch has one example."""
_NORM = {"model_name": "digits_resnet_8_2"}
"""The small network that has batch normalization and shortcuts."""
_MOVES = {"start_density": 0.3, "mask_update_frequency": "2it"}
OPTIONS: dict[str, dict[str, Any]] = {
    "acdc": {"acdc_density": 0.3, "acdc_prune_at": "1it,4it", "acdc_restore_at": "3it"},
    "continuous_sparsification": {"cs_rounds": 2, "cs_temperature_frequency": "1it", "cs_rewind": "1it"},
    "cyclic": {"cycles": 2},
    "early_bird": {
        "early_bird_threshold": 0.5,
        "early_bird_masks": 2,
        "early_bird_frequency": "2it",
        "early_bird_prune_fraction": 0.8,
    },
    "edge_popup": {"edge_popup_density": 0.4},
    "ema": {"ema_decay": 0.8},
    "gem_miner": {"gem_miner_density": 0.3, "gem_miner_begin": "2it", "gem_miner_period": "2it"},
    "ghost_skips": {**_NORM, "skip_fade_begin": "1it", "skip_fade_end": "4it"},
    "gmp": {"gmp_density": 0.2, "gmp_frequency": "2it", "gmp_end": "4it"},
    "gradinit": {"gradinit_iters": 2},
    "granet": {"granet_density": 0.2, "mask_update_frequency": "2it"},
    "interpolated_norm": _NORM,
    "itop": _MOVES,
    "mest": {**_MOVES, "mest_mode": "em_s"},
    "rigl": {**_MOVES, "mask_update_end": "4it"},
    "set": {**_MOVES, "mask_update_end": "4it"},
    "shortcut_scales": _NORM,
    "snfs": _MOVES,
    "soft_activation": {"soft_fade_begin": "1it", "soft_fade_end": "4it"},
    "srigl": {**_MOVES, "start_density": 0.6, "srigl_gamma": 0.6, "mask_update_end": "4it"},
    "srste": {"srste_lambda": 0.01},
    "str": {"str_s_init": -4.0},
    "topkast": {"topkast_density": 0.3, "topkast_refresh": "2it"},
}
"""Options by technique; one that is not here acts with its defaults."""


def flags_of(*techniques: str) -> dict[str, Any]:
    """Return the flags of a training with these techniques. An option that several share is that of the last one."""
    options = {name: value for technique in techniques for name, value in OPTIONS.get(technique, {}).items()}
    return {"technique": ",".join(techniques), **options}


def desc_of(*techniques: str) -> TrainDesc | BranchDesc:
    """Return a training, or that of a random mask if one is needed.

    Raises: UsageError where the techniques do not go together.
    """
    small = {"batch_size": 718, "training_steps": f"{LAST}it"}
    flags = flags_of(*techniques)
    try:
        return train_desc(**small, **flags)
    except UsageError:
        model = {name: flags.pop(name) for name in ("model_name",) if name in flags}
        return oneshot_desc("random", {**small, **model}, density=0.6, **flags)
