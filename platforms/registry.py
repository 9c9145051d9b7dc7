"""The platforms by name."""

from __future__ import annotations

from foundations.errors import UsageError, did_you_mean
from platforms.base import Platform, PlatformHparams
from platforms.local import LocalPlatform

PLATFORMS = {"local": LocalPlatform}


def make_platform(hparams: PlatformHparams) -> Platform:
    """Return the platform of that name. Raises: UsageError for an unknown one."""
    if hparams.platform not in PLATFORMS:
        raise UsageError(
            f"'{hparams.platform}' is not known.{did_you_mean(hparams.platform, PLATFORMS)} "
            f"Possible: {', '.join(PLATFORMS)}.",
            "platform",
        )
    return PLATFORMS[hparams.platform](hparams)
