"""The platforms by name."""

from __future__ import annotations

from foundations.registry import Registry
from foundations.users_code import returned
from platforms.base import Platform, PlatformHparams, PlatformKind

PLATFORMS = Registry(PlatformKind, "platform", ("platforms.local", "platforms.multi_gpu"))


def make_platform(hparams: PlatformHparams) -> Platform:
    """Return the platform that the hyperparameters name. Raises: UsageError for an unknown one."""
    found = PLATFORMS.find(hparams.platform)
    return returned(found.make(PlatformHparams.of(hparams.values())), Platform, found.make, found)
