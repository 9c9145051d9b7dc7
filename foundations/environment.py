"""The environment variables of open_prune. Only the outermost functions read them: commands, and the read API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from foundations.errors import EnvironmentFailure


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        if {"OPEN_PRUNE_ROOT", "OPEN_PRUNE_DATASETS"} <= os.environ.keys():
            return Path("/nonexistent")
        raise EnvironmentFailure(
            "There is no home directory. Set OPEN_PRUNE_ROOT and OPEN_PRUNE_DATASETS, the folders of runs and datasets."
        ) from None


@dataclass(frozen=True)
class Environment:
    """The variables OPEN_PRUNE_ROOT, _DATASETS, _PLUGINS, _SITE and others, or their defaults."""

    root: Path
    datasets: Path
    no_download: bool
    plugins: tuple[Path, ...] = ()
    site: Path | None = None
    """The file with the settings of the site (`platforms.executors.site`), if there is one."""
    cache: Path | None = None
    """The folder for cached measurements, such as the speed of this machine; None to cache nothing."""
    key_file: Path = Path("key.pem")
    """The file of the user's private key for signatures."""
    trusted_keys: Path = Path("trusted_keys")
    """The file with the public keys that the user trusts."""

    @classmethod
    def read(cls, root: Path | str | None = None, datasets: Path | str | None = None) -> Environment:
        """Read the variables. root, datasets: folders to use in place of those in the variables."""
        home = _home()
        own, site = home / ".config" / "open_prune", site_file(home)
        return cls(
            root=_folder(root, "OPEN_PRUNE_ROOT", home / "open_prune_data"),
            datasets=_folder(datasets, "OPEN_PRUNE_DATASETS", home / "open_prune_datasets"),
            no_download=is_switched_on("OPEN_PRUNE_NO_DOWNLOAD"),
            plugins=tuple(
                Path(file).expanduser() for file in os.environ.get("OPEN_PRUNE_PLUGINS", "").split(os.pathsep) if file
            ),
            cache=_cache(home),
            key_file=_folder(None, "OPEN_PRUNE_KEY", own / "key.pem").expanduser(),
            trusted_keys=_folder(None, "OPEN_PRUNE_TRUSTED_KEYS", own / "trusted_keys").expanduser(),
            site=site if os.environ.get("OPEN_PRUNE_SITE") or site.exists() else None,
        )


def _cache(home: Path) -> Path | None:
    named = os.environ.get("OPEN_PRUNE_CACHE")
    if named is None:
        return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "open_prune"
    return Path(named).expanduser() if named else None


def site_file(home: Path | None = None) -> Path:
    """Return the file for the settings of the site, whether or not it exists."""
    named = os.environ.get("OPEN_PRUNE_SITE")
    return Path(named).expanduser() if named else (home or _home()) / ".config" / "open_prune" / "site.toml"


def used_plugins_file() -> Path:
    """Return the user's file with the SHA-256 of each plug-in that the user has run (`foundations.plugins.kept`)."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else _home() / ".local" / "state") / "open_prune" / "plugins"


def is_switched_on(variable: str) -> bool:
    """Return whether an environment variable is set to anything but 0, false or no."""
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


def _folder(given: Path | str | None, variable: str, usual: Path) -> Path:
    return Path(os.environ.get(variable) or usual) if given is None else Path(given).expanduser()
