"""The commands that write folders for others: publish, a run for a model hub, and crate, runs as an RO-Crate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.rows.run import StoredRun
from analysis.sharing.crate import Facts, write_crate
from analysis.sharing.shared_file import STATES, pages_for
from cli.commands.chosen_runs import SWEEP_ENDING, ChosenRunsHparams
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.program import PROGRAM
from foundations.storage.root import check_output
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
    check_output(root, folder)
    location = find_run(root, names[1]).location
    stored = StoredRun(location, replace(environment, root=root, datasets=publish.datasets_in(environment)))
    found = write(stored, folder, step=publish.step, license_name=publish.license, replay=publish.replay)
    print(f"Wrote {location} to {folder}: {', '.join(found.files)}")
    if found.no_graph:
        print(f"Without load.py and a graph in config.json: {found.no_graph}")
    if publish.license is None:
        print("The card states no license; give one with --license=mit or another identifier.")
    return 0


@dataclass(frozen=True, kw_only=True)
class CrateHparams(ChosenRunsHparams):
    """Runs and content of the crate."""

    states: str = hparam("none", choices=STATES)
    """The states that go along: none, the last of each run, or all."""
    name: str = hparam(Facts.name)
    """The name of the crate."""
    author: str | None = hparam(None)
    """The name of the person who computed the runs."""
    license: str | None = hparam(None)
    """The license of the crate's content, best as a URL."""


@command(crate=CrateHparams)
def crate(names: list[str], environment: Environment, crate: CrateHparams) -> int:
    """Write runs as an RO-Crate of the profile Workflow Run Crate (crate DIR sweep.toml).

    Or runs by address (crate DIR ADDRESS...), or by a condition (--where).
    """
    if not names:
        raise UsageError(f"crate takes a folder and runs: {PROGRAM} crate DIR sweep.toml")
    folder, words = Path(names[0]).expanduser(), names[1:]
    check_output(crate.root_in(environment), folder)
    runs = crate.runs(words, environment)
    sweep = Path(words[0]) if len(words) == 1 and words[0].endswith(SWEEP_ENDING) else None
    complete = [run for run in runs if run.exists() and run.read_manifest() is not None]
    pages = pages_for(complete, print) if complete else {}
    facts = Facts(name=crate.name, author=crate.author or "", license=crate.license or Facts.license)
    found = write_crate(runs, folder, facts, sweep=sweep, states=crate.states, pages=pages)
    print(f"Wrote a crate of {len(found.runs)} run(s) to {folder}")
    if found.not_complete:
        print(f"Left out, not complete: {len(found.not_complete)} run(s)")
    return int(bool(found.not_complete))
