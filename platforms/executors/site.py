"""The settings of a site: a small TOML file with values of the executors' flags, such as the partition to use.

executor = "slurm"
slurm_partition = "gpu"
slurm_gpus = 1

upstream = ["/lab/runs"]

[remotes]
lab = "s3://bucket/prefix"

`foundations.environment` reads the upstreams, `foundations.remotes.names` the remotes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundations.access import reason
from foundations.description.hparams import fields_of
from foundations.errors import EnvironmentFailure, UsageError, choose_from
from foundations.files import read_file
from platforms.executors.registry import EXECUTORS

_UPSTREAM = "upstream"


def site_settings(path: Path | None) -> Mapping[str, Any]:
    """Return the hyperparameters of executors that a file sets, by name; none if there is no file.

    Raises: UsageError that names the file, for an unknown hyperparameter or an invalid value; EnvironmentFailure if
    the file cannot be read.
    """
    if path is None:
        return {}
    try:
        changed = path.stat().st_mtime_ns
        return _read(path, changed)
    except OSError as error:
        raise EnvironmentFailure(f"The site's settings in {path} cannot be read: {reason(error)}.") from error


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Mapping[str, Any]:
    """Read a file once, however many runs a sweep has."""
    import tomllib  # most people have no such file

    from foundations.remotes.names import TABLE, remotes_in

    try:
        settings = tomllib.loads(read_file(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    remotes_in(settings, path)  # a mistake in the file is an error, whoever reads it
    settings.pop(TABLE, None)
    settings.pop(_UPSTREAM, None)
    if not settings:
        return settings
    known = {field.name: field for kind in EXECUTORS for field in fields_of(kind.hparams)}
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"{path}: '{name}' is not a flag of an executor{choose_from(name, known)}")
        try:
            known[name].check(value)
            if name == "executor":
                EXECUTORS.find(value)
        except UsageError as error:
            raise UsageError(f"{path}: {name}: {error.reason}") from error
    return settings
