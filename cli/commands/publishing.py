"""The command `publish`: a run as a folder for a model hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.rows.run import StoredRun
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.program import PROGRAM
from foundations.storage.store import find_run


@dataclass(frozen=True, kw_only=True)
class PublishHparams(RootHparams, DatasetsRootHparams):
    """Content of the folder."""

    license: str | None = hparam(None)
    """The identifier of the license, such as mit or cc-by-4.0; the card states it."""
    step: str | None = hparam(None, step=True)
    """The step of the state; by default the last."""
    replay: bool = hparam(False)
    """Compute the state if the run did not keep it; by default that is an error."""


@command(publish=PublishHparams)
def publish(names: list[str], environment: Environment, publish: PublishHparams) -> int:
    """Write a run as a folder for a model hub: card, weights, mask, configuration (publish DIR ADDRESS)."""
    from analysis.sharing.published import publish as write

    if len(names) != 2:
        raise UsageError(f"publish takes a folder and an address: {PROGRAM} publish DIR ADDRESS")
    folder, root = Path(names[0]).expanduser(), publish.root_in(environment)
    location = find_run(root, names[1]).location
    stored = StoredRun(location, replace(environment, root=root, datasets=publish.datasets_in(environment)))
    found = write(stored, folder, step=publish.step, license_name=publish.license, replay=publish.replay)
    print(f"Wrote {location} to {folder}: {', '.join(found.files)}")
    if found.no_graph:
        print(f"Without load.py and a graph in config.json: {found.no_graph}")
    if publish.license is None:
        print("The card states no license; give one with --license=mit or another identifier.")
    return 0
