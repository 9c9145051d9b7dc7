"""The commands for remotes: push, pull, and remote. They import no torch."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.rows.lineage import by_descent
from analysis.rows.run_row import row_of
from analysis.rows.runs import read_rows
from analysis.rows.selection import chosen
from cli.commands.choosing import ChosenHparams
from cli.commands.listing import listed
from cli.display.fitted_table import terminal_width
from cli.display.plain_table import printable_lines, table
from cli.progress.reporting import reporting
from cli.request.flags import command
from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from datasets.received import place_received, prepared_files
from foundations.description.address import Location
from foundations.description.hparams import hparam
from foundations.environment import Environment, site_file
from foundations.errors import OpenPruneError, UsageError
from foundations.files import explain_os_errors
from foundations.interrupts import CONTINUES, Interrupts
from foundations.program import PROGRAM
from foundations.remotes.listing import Listing
from foundations.remotes.names import add_remote, named_remotes, remove_remote, url_of
from foundations.remotes.opening import open_storage
from foundations.remotes.pull import Pull, view
from foundations.remotes.push import Push
from foundations.remotes.storage import Storage
from foundations.remotes.transfer import Transferred
from foundations.reporter import Reporter
from foundations.storage.locks import lock
from foundations.storage.run import Run
from foundations.storage.store import all_runs, find_run, is_meant


@dataclass(frozen=True, kw_only=True)
class TransferHparams(ChosenHparams, DatasetsRootHparams):
    """Selection of the runs, and of what comes along."""

    shallow: bool = hparam(False)
    """Of the runs that the chosen ones depend on, only those that they use directly, with the states that they use.
    Other states are replayed when they are needed."""
    datasets: bool = hparam(False)
    """The prepared datasets of the runs, too."""
    quiet: bool = hparam(False)
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class PushHparams(TransferHparams):
    """Selection of the runs, and of what goes along."""

    sign: bool = hparam(False)
    """Sign the manifests of the runs with your key (`key make` makes one)."""


@dataclass(frozen=True, kw_only=True)
class PullHparams(TransferHparams):
    """Selection of the runs, and of what comes along."""

    require_signed: bool = hparam(False)
    """Refuse runs that no trusted key has signed (`key trust` adds one)."""


@contextlib.contextmanager
def _working(name: str, flags: TransferHparams) -> Iterator[Reporter]:
    with reporting(flags.quiet) as reporter, Interrupts(CONTINUES, name).caught():
        yield reporter


@command(transfer=PushHparams)
def push(names: list[str], environment: Environment, transfer: PushHparams) -> int:
    """Send complete runs to a remote, with all that they depend on (push REMOTE [ADDRESS | SWEEP.toml]...).

    REMOTE is a URL, such as s3://bucket/prefix or file:///lab/remote, or a name of `remote add`. Without addresses: all
    runs. What is there is not sent again, and nothing there is overwritten.
    """
    storage, addresses = _opened(names, environment, "push"), names[1:]
    root = transfer.root_in(environment)
    with _working("push", transfer) as reporter:
        runs = _runs_here(addresses, transfer, environment)
        if not runs:
            print(f"No runs under {root}" + (f" with {transfer.where}." if transfer.where else "."))
            return 1
        key_file = environment.key_file if transfer.sign else None
        pushing = Push(root, storage, Listing.of(storage, may_be_new=True), reporter, key_file)
        planned = pushing.plan(runs, shallow=transfer.shallow)
        if transfer.dry_run:
            print(listed([row_of(run) for run in planned], [], terminal_width()))
            print(f"{len(planned)} run(s) would be in {storage.url}; {pushing.number_to_send()} are not there.")
            return _report_problems(pushing.found)
        found = pushing.execute()
        if transfer.datasets:
            _push_datasets(pushing, planned, transfer.datasets_in(environment))
    if not transfer.quiet:
        print(_summary("Pushed", "to", storage, found))
    return _report_problems(found)


def _push_datasets(pushing: Push, runs: Iterable[Run], folder: Path) -> None:
    from datasets.added.added import register_added

    register_added(folder)
    manifests = filter(None, (run.read_manifest() for run in runs))
    for name, fingerprint in sorted({each for manifest in manifests for each in manifest.dataset.items()}):
        if pushing.has_dataset(name, fingerprint):
            continue
        try:
            files = prepared_files(name, fingerprint, folder)
        except OpenPruneError as error:
            pushing.found.problems.append(str(error))
            continue
        pushing.send_dataset(name, fingerprint, files)


@command(transfer=PullHparams)
def pull(names: list[str], environment: Environment, transfer: PullHparams) -> int:
    """Receive runs from a remote, with all that they depend on (pull REMOTE [ADDRESS | SWEEP.toml]...).

    REMOTE is a URL or a name, as for `push`. Without addresses: all runs. Runs that are here stay as they are. Before a
    run appears under the root, its files are compared with its manifest, and its description with its address.
    """
    storage, addresses = _opened(names, environment, "pull"), names[1:]
    root = transfer.root_in(environment)
    with _working("pull", transfer) as reporter:
        listing = Listing.of(storage)
        trusted = environment.trusted_keys if transfer.require_signed else None
        pulling = Pull(root, storage, listing, reporter, trusted)
        with explain_os_errors("work in", root), lock(pulling.lock_path, f"a pull from {storage.url}", reporter.say):
            locations = _locations_there(addresses, transfer, environment, listing, pulling)
            if transfer.dry_run:
                missing = [location for location in locations if not pulling.is_here(location)]
                refused = pulling.refused(missing)
                pulling.found.problems += refused.values()
                missing = [location for location in missing if location not in refused]
                print("\n".join([*map(str, missing), f"{len(missing)} run(s) would be pulled from {storage.url}."]))
                return _report_problems(pulling.found)
            found = pulling.receive(locations, shallow=transfer.shallow)
            if transfer.datasets:
                _pull_datasets(pulling, root, listing, transfer.datasets_in(environment), reporter)
            pulling.finish()
    if not transfer.quiet:
        in_upstreams = sum(Run(root, location).upstream is not None for location in found.present)
        note = f" {in_upstreams} of them are in upstreams, whose runs count." if in_upstreams else ""
        print(_summary("Pulled", "from", storage, found) + note)
    return _report_problems(found)


def _pull_datasets(pulling: Pull, root: Path, listing: Listing, folder: Path, reporter: Reporter) -> None:
    used = set()
    for location in {*pulling.found.sent, *pulling.found.present}:
        manifest = Run(root, location).read_manifest()
        used |= set(manifest.dataset.items()) if manifest else set()
    for name, fingerprint in sorted(used):
        if (name, fingerprint) not in listing.datasets:
            pulling.found.notes.append(f"The dataset '{name}' of the runs is not in the remote.")
            continue
        arrived = None if (folder / name / "train.safetensors").exists() else pulling.receive_dataset(name, fingerprint)
        try:
            if arrived is not None and place_received(name, fingerprint, arrived, folder, reporter.say):
                pulling.found.others += 1
        except OpenPruneError as error:
            pulling.found.problems.append(str(error))


@command(root=RootHparams)
def remote(names: list[str], environment: Environment, root: RootHparams) -> int:
    """List remotes or runs (remote ls [REMOTE]), name a remote (remote add NAME URL), forget a name (remote rm NAME).

    Names are kept in the table [remotes] of the site's settings file. `remote rm` removes no object.
    """
    match names:
        case ["ls"]:
            found = named_remotes(environment.site)
            lines = [{"name": name, "url": url} for name, url in found.items()]
            print(table(lines, ("name", "url")) if found else f"No remote is named. {PROGRAM} remote add NAME URL")
        case ["ls", _]:
            return _list_remote(_opened(names[1:], environment, "remote ls"), root.root_in(environment))
        case ["add", name, url]:
            add_remote(name, url, site_file())
            print(f"Named {name}: {url} (in {site_file()})")
        case ["rm", name]:
            remove_remote(name, environment.site)
            print(f"Forgot the name {name}. What is in the remote stays.")
        case _:
            raise UsageError(f"write {PROGRAM} remote ls [REMOTE], remote add NAME URL, or remote rm NAME.")
    return 0


def _list_remote(storage: Storage, root: Path) -> int:
    listing = Listing.of(storage)
    complete = listing.complete()
    lines = [
        {
            "address": f"{location.digest[:8]}/{location.replicate}",
            "run": str(location),
            "here": _here(Run(root, location)),
        }
        for location in complete
    ]
    if lines:
        print(table(lines, ("address", "here", "run")))
    amount = _amount(sum(listing.sizes.values()))
    print(f"{len(complete)} run(s) in {storage.url}: {len(listing.sizes):,} objects, {amount}")
    started = len(listing.runs) - len(complete)
    if started:
        print(f"{started} run(s) without a manifest: their push is under way, or was cut and goes on when repeated.")
    for name in listing.unknown:
        print(f"Not of a remote, ignored: {name!r}")
    return 0


def _here(run: Run) -> str:
    return "no" if not run.is_published else "yes" if run.upstream is None else "in an upstream"


def _opened(names: Sequence[str], environment: Environment, words: str) -> Storage:
    if not names or (words == "remote ls" and len(names) > 1):
        raise UsageError(f"name a remote: {PROGRAM} {words} s3://bucket/prefix, or a name of `remote add`.")
    return open_storage(url_of(names[0], environment.site))


def _runs_here(addresses: Sequence[str], flags: TransferHparams, environment: Environment) -> list[Run]:
    """Return the runs to push."""
    root = flags.root_in(environment)
    if addresses and flags.where is not None:
        raise UsageError("give addresses, or a condition.", "where")
    if flags.where is not None:
        return [row.run for row in flags.rows(root)]
    if not addresses:
        return list(all_runs(root))
    found: dict[Location, Run] = {}
    for address in addresses:
        runs = (
            [Run(root, each) for each in _of_sweep(address, flags, environment)]
            if _is_file(address)
            else [find_run(root, address)]
        )
        found |= {run.location: run for run in runs}
    return list(found.values())


def _locations_there(
    addresses: Sequence[str], flags: TransferHparams, environment: Environment, listing: Listing, pulling: Pull
) -> list[Location]:
    """Return the locations of the runs to pull."""
    complete = listing.complete()
    if addresses and flags.where is not None:
        raise UsageError("give addresses, or a condition.", "where")
    if flags.where is not None:
        return _chosen_there(flags, flags.root_in(environment), list(complete), pulling)
    if not addresses:
        return list(complete)
    found: dict[Location, None] = {}
    for address in addresses:
        if _is_file(address):
            found |= dict.fromkeys(_of_sweep(address, flags, environment))
        else:
            found[_one_of(address, complete)] = None
    return list(found)


def _one_of(address: str, locations: Iterable[Location]) -> Location:
    """Return the run of an address in a remote. Raises: UsageError where it fits none, or more than one."""
    whole = address.rstrip("/")
    found = [each for each in locations if str(each) == whole or is_meant(each, whole)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"No run in the remote is named '{address}'. `{PROGRAM} remote ls REMOTE` lists them.")
    some = ", ".join(f"{each.digest[:8]}/{each.replicate}" for each in found[:6]) + (", ..." if len(found) > 6 else "")
    raise UsageError(f"'{address}' may mean {len(found)} runs: {some}. Give more digits, or the replicate.")


def _chosen_there(flags: TransferHparams, root: Path, locations: list[Location], pulling: Pull) -> list[Location]:
    """Return the runs of a remote that meet a condition. Reads descriptions and results of those that are not here."""
    if not (flags.where or "").strip(" ,"):
        raise UsageError("it chooses nothing; write a condition, such as strategy=snip10.", "where")
    heads = pulling.heads(location for location in locations if not pulling.is_here(location))
    with tempfile.TemporaryDirectory() as folder:
        for head in heads.values():
            view(head, Path(folder))
        there = set(locations)
        rows = [*read_rows(Path(folder)), *(row for row in read_rows(root) if row.run.location in there)]
        return [row.run.location for row in chosen(by_descent(rows), flags.where)]


def _is_file(address: str) -> bool:
    return address.endswith(".toml") or Path(address).is_file()


def _of_sweep(file: str, flags: TransferHparams, environment: Environment) -> list[Location]:
    """Return the locations of the runs of a sweep's file."""
    from cli.commands.sweep import asked_by, described_by
    from cli.request.sweep_flags import without_shared

    described, *_ = without_shared(described_by([file])[0])
    asked = asked_by(described, replace(environment, root=flags.root_in(environment)))
    targets = (target for each in asked for target in each.request.targets.values())
    return list(dict.fromkeys(target.desc.location(target.replicate) for target in targets))


def _summary(did: str, where: str, storage: Storage, found: Transferred) -> str:
    more = f", {found.others} other file(s)" if found.others else ""
    place = "there" if where == "to" else "here"
    return (
        f"{did} {len(found.sent)} run(s){more} ({_amount(found.size)}) {where} {storage.url}; "
        f"{len(found.present)} were {place} already."
    )


def _report_problems(found: Transferred) -> int:
    for line in dict.fromkeys((*found.notes, *found.problems)):
        print(printable_lines(line))
    return int(bool(found.problems))


def _amount(size: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
