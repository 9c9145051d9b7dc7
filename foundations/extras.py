"""Packages that only some features need, and that open_prune installs as extras."""

from __future__ import annotations

import importlib.util

from foundations.errors import EnvironmentFailure


def need_package(package: str, extra: str, used_for: str) -> None:
    """Raise EnvironmentFailure with the command that installs a package, where it is missing.

    extra: the extra of open_prune that includes it. used_for: the feature, for the sentence.
    """
    if importlib.util.find_spec(package) is None:
        raise EnvironmentFailure(
            f"{used_for} need the package {package}, which is not installed here: pip install 'open_prune[{extra}]'."
        )
