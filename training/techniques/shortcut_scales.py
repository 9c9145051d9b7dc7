"""Scales on identity shortcuts, so that shortcuts can be pruned, channel by channel (Tanaka et al. 2020).

The networks of Synaptic-Flow's code have such scales, all 1 and not trained, and an option to prune them that fails.
Here, networks have none unless this technique puts them in (`models.networks.shortcut_scales`); `prune_residual` prunes
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams

if TYPE_CHECKING:
    from torch import nn


def transform(model: nn.Module, _hparams: TechniqueHparams) -> None:
    """Put scales on the identity shortcuts of the network. Raises: UsageError for a network that has none."""
    from models.networks.shortcut_scales import add_shortcut_scales

    if not add_shortcut_scales(model):
        raise UsageError("shortcut_scales needs blocks with identity shortcuts; this network has none.", "technique")


SHORTCUT_SCALES = Technique(
    spelling="shortcut_scales",
    summary="scales of 1 on identity shortcuts, which --prune_residual prunes",
    paper="Tanaka et al. 2020 (Synaptic-Flow): its --prune-residual",
    differences="Synaptic-Flow's own --prune-residual fails.",
    hooks=Hooks,
    transform=transform,
)
