"""The environment variables of open_prune. Only the outermost functions read them: commands, and the read API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from foundations.errors import EnvironmentFailure, UsageError
from foundations.files import read_file
from foundations.home import home_folder
from foundations.storage.root import VARIABLE, Root


@dataclass(frozen=True)
class Environment:
    """The variables OPEN_PRUNE_ROOT, _UPSTREAM, _DATASETS, _PLUGINS, _SITE and others, or their defaults."""

    root: Path
    """The folder of all runs; as `read` returns it, a `Root` with its upstreams."""
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
        home = home_folder()
        own, usual = home / ".config" / "open_prune", site_file(home)
        site = usual if os.environ.get("OPEN_PRUNE_SITE") or usual.exists() else None
        return cls(
            root=_root(_folder(root, "OPEN_PRUNE_ROOT", home / "open_prune_data"), site),
            datasets=_folder(datasets, "OPEN_PRUNE_DATASETS", home / "open_prune_datasets"),
            no_download=is_switched_on("OPEN_PRUNE_NO_DOWNLOAD"),
            plugins=tuple(
                Path(file).expanduser() for file in os.environ.get("OPEN_PRUNE_PLUGINS", "").split(os.pathsep) if file
            ),
            cache=_cache(home),
            key_file=_folder(None, "OPEN_PRUNE_KEY", own / "key.pem").expanduser(),
            trusted_keys=_folder(None, "OPEN_PRUNE_TRUSTED_KEYS", own / "trusted_keys").expanduser(),
            site=site,
        )

    def root_at(self, folder: str) -> Root:
        """Return another root, with the upstreams of the same variable or settings."""
        return _root(Path(folder).expanduser(), self.site)


def _root(folder: Path, site: Path | None) -> Root:
    return folder if isinstance(folder, Root) else Root(folder, partial(_upstreams, os.environ.get(VARIABLE), site))


def _upstreams(variable: str | None, site: Path | None) -> list[Path]:
    """Return the upstreams that the variable names; if it is not set, those of the site's settings."""
    names = variable.split(os.pathsep) if variable is not None else [] if site is None else _upstreams_in(site)
    return [Path(name) for name in names if name]


def _upstreams_in(site: Path) -> Sequence[str]:
    """Return `upstream` in the site's settings: a list of folders, or one. Raises: UsageError, EnvironmentFailure."""
    import tomllib  # most people have no such file

    try:
        found = tomllib.loads(read_file(site).decode()).get("upstream", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{site} is not TOML: {error}.") from error
    except OSError as error:
        raise EnvironmentFailure(f"The site's settings in {site} cannot be read: {error.strerror}.") from error
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"{site}: upstream: {found!r} is not valid; it must be a list of folders, such as ['/lab/runs']."
        )
    return names


def _cache(home: Path) -> Path | None:
    named = os.environ.get("OPEN_PRUNE_CACHE")
    if named is None:
        return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "open_prune"
    return Path(named).expanduser() if named else None


def site_file(home: Path | None = None) -> Path:
    """Return the file for the settings of the site, whether or not it exists."""
    named = os.environ.get("OPEN_PRUNE_SITE")
    return Path(named).expanduser() if named else (home or home_folder()) / ".config" / "open_prune" / "site.toml"


def is_switched_on(variable: str) -> bool:
    """Return whether an environment variable is set to anything but 0, false or no."""
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


def _folder(given: Path | str | None, variable: str, usual: Path) -> Path:
    if given is None:
        return Path(os.environ.get(variable) or usual)
    return given if isinstance(given, Root) else Path(given).expanduser()
