"""Copies of upstreams' runs, for states that the upstream did not keep."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from foundations.errors import EnvironmentFailure
from foundations.files import explain_os_errors, read_file, replace_file, replacing
from foundations.packs import names_in, open_file
from foundations.storage.manifest import FileRecord, manifest_number
from foundations.storage.origins import keep_origin, origins
from foundations.storage.run import Run


def adopt(run: Run, say: Callable[[str], None]) -> None:
    """Copy an upstream's complete run to the root itself, byte for byte. The run's lock is held.

    A run that the upstream has from a shared file is marked as such here, too.

    Files are copied, not linked: a link would change the upstream's file. The copy is made in a working folder, which
    becomes the final one here once it is whole. Raises: DamagedError where a file is not what the manifest lists;
    EnvironmentFailure; PublishedFirst where another process has completed the run here.
    """
    source = Run.at(run.root, run.location, run.upstream)
    latest, manifest = source.latest(source.manifest_number() or 1)
    if source.upstream is None or manifest is None:
        raise EnvironmentFailure(f"There is no complete run in {source.place} any more. Run the command again.")
    say(f"Copying {run} from the upstream {source.upstream}, which is never written.")
    with run.copied(manifest.generation) as folder:
        for name, record in manifest.files.items():
            _copy(source, name, folder, record)
        with explain_os_errors("copy", source.place):
            for name in names_in(source.place):
                number = manifest_number(name)
                if number is not None and number <= latest:  # a later one may list what was not copied
                    replace_file(folder / name, read_file(source.path(name)))
    origin = origins(source.upstream).get(str(run))
    if origin is not None:
        keep_origin(dataclasses.replace(origin, runs={str(run): origin.runs[str(run)]}), run.root)


def _copy(source: Run, name: str, folder: Path, record: FileRecord) -> None:
    path = source.path(name)
    with explain_os_errors("copy", path), open_file(path) as content, replacing(folder / name) as part:
        with part.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        problem = record.difference(str(part), of_bytes=True)
        if problem:
            raise source.damaged(name, problem)
