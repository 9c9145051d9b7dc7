"""Pushes and pulls as tests use them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foundations.description.address import Location
from foundations.remotes.listing import Listing
from foundations.remotes.opening import open_storage
from foundations.remotes.pull import Pull
from foundations.remotes.push import Push
from foundations.remotes.storage import Storage
from foundations.remotes.transfer import Transferred
from foundations.reporter import NullReporter, Reporter
from foundations.storage.manifest import MANIFEST, manifest_number
from foundations.storage.run import LOG, Run
from foundations.storage.store import all_runs
from tests.foundations.toy_descriptions import ToyBranch, complete_run, state_of, toy


def push(
    url: str | Storage,
    root: Path,
    runs: Iterable[Run] | None = None,
    *,
    shallow: bool = False,
    reporter: Reporter | None = None,
    key_file: Path | None = None,
) -> Transferred:
    storage = open_storage(url) if isinstance(url, str) else url
    pushing = Push(root, storage, Listing.of(storage, may_be_new=True), reporter or NullReporter(), key_file)
    pushing.plan(all_runs(root) if runs is None else runs, shallow=shallow)
    return pushing.execute()


def pull(
    url: str | Storage,
    root: Path,
    locations: Iterable[Location] | None = None,
    *,
    shallow: bool = False,
    trusted_file: Path | None = None,
) -> Transferred:
    storage = open_storage(url) if isinstance(url, str) else url
    listing = Listing.of(storage)
    pulling = Pull(root, storage, listing, NullReporter(), trusted_file)
    found = pulling.receive(listing.complete() if locations is None else locations, shallow=shallow)
    pulling.finish()
    return found


def family(root: Path) -> tuple[Run, Run, Run]:
    """Return a training, a branch of its first state, and a branch of the last state of that."""
    parent = complete_run(root, toy())
    child = ToyBranch(main=toy(), state=state_of(toy(), 0))
    grandchild = ToyBranch(main=toy(), state=state_of(child, 10))
    return parent, complete_run(root, child), complete_run(root, grandchild)


def files_of(root: Path) -> dict[str, bytes]:
    """Return the files of the runs of a root that travel, by path; of the manifests the latest, as `manifest.json`."""
    paths = [path for path in root.glob("*/replicate_*/*/*") if path.is_file() and path.name != LOG]
    paths.sort(key=lambda path: manifest_number(path.name) or 0)
    names = [path.with_name(MANIFEST) if manifest_number(path.name) else path for path in paths]
    return {str(name.relative_to(root)): path.read_bytes() for name, path in zip(names, paths, strict=True)}
