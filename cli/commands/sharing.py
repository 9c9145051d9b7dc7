"""The commands that make runs a file or a folder for others: share, publish and crate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.sharing.received import Received, receive
from analysis.sharing.shared_file import STATES, Shared, pages_for, write_shared
from cli.commands.chosen_runs import ChosenRunsHparams
from cli.display.plain_table import printable
from cli.request.flags import Flags, command
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.program import PROGRAM
from foundations.storage.root import check_output
from foundations.storage.run import Run
from foundations.storage.store import short_address

_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class ShareHparams(ChosenRunsHparams):
    """Runs and content of the file."""

    states: str = hparam("none", choices=STATES)
    """The states that go along: none, the last of each run, or all. States that are left out can be computed again."""
    sign: bool = hparam(False)
    """Sign the file with your key (`key make` makes one)."""
    quiet: bool = hparam(False)
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class ReceiveHparams(RootHparams):
    """Import of a shared file."""

    require_signed: bool = hparam(False)
    """Refuse the file unless a trusted key has signed it (`key trust` adds one)."""
    quiet: bool = hparam(False)
    """Print nothing but errors."""


RECEIVE = Flags(
    "import", "Import a shared file: its runs become runs of this root (import FILE).", reading=ReceiveHparams
)


@command(share=ShareHparams)
def share(names: list[str], environment: Environment, share: ShareHparams) -> int:
    """Write runs, their plug-ins, a table and a report as one file to send (share FILE ADDRESS...).

    Or those of a sweep (share FILE sweep.toml), or of a condition (--where). The runs that they depend on go along.
    `import FILE` makes them runs of another root.
    """
    if not names:
        raise UsageError(f"share takes a file and runs: {PROGRAM} share results.tar ADDRESS...")
    path, runs = Path(names[0]).expanduser(), share.runs(names[1:], environment)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it.")
    check_output(share.root_in(environment), path)
    key, say = environment.key_file if share.sign else None, (lambda _: None) if share.quiet else print
    found = write_shared(runs, path, states=share.states, key_file=key, pages=lambda shared: pages_for(shared, say))
    if not share.quiet:
        print("\n".join(_shared(found, path, share.states)))
    asked = {run.location for run in runs}
    return int(any(run.location in asked for run in found.not_complete))


def _shared(found: Shared, path: Path, states: str) -> list[str]:
    lines = [f"Wrote {_count(len(found.runs), 'run')} to {path}, {path.stat().st_size:,} bytes"]
    if found.states_left_out:
        number = _count(found.states_left_out, "state")
        more = "all" if states == "last" else "last or all"
        lines.append(f"Left out: {number}, {found.bytes_left_out:,} bytes (--states={more} takes them along)")
    if found.lost:
        lines.append(f"Of imported runs, states that are left out cannot be computed again: {_named(found.lost)}")
    if found.not_complete:
        lines.append(f"Left out, not complete: {_named(found.not_complete)}")
    if found.plugins:
        lines.append(f"With the files of plug-ins: {printable(', '.join(found.plugins))}")
    if found.missing_plugins:
        lines.append(
            f"Without the files of plug-ins, which are not kept: {printable(', '.join(found.missing_plugins))}"
        )
    return lines


def import_shared(path: Path, environment: Environment, rest: Sequence[str]) -> int:
    """Import a shared file, and print what came. Return 1 if a run of it is not complete here, and stays so."""
    try:
        flags = RECEIVE.parse(rest).reading
    except UsageError as error:
        raise UsageError(f"{path} is a shared file. {error.reason}", *error.hparams) from error
    root = flags.root_in(environment)
    found = receive(path, root, environment.trusted_keys, require_signed=flags.require_signed)
    if not flags.quiet:
        print("\n".join(_received(found, path, root)))
    return int(bool(found.not_complete))


def _received(found: Received, path: Path, root: Path) -> list[str]:
    signed = "not signed"
    if found.key:
        signed = f"signed by {found.signed_by}" if found.signed_by else f"signed by {found.key}, which is not trusted"
    lines = [f"Imported {path} ({signed}): {_count(len(found.new), 'new run')} under {root}"]
    if found.without_states:
        lines.append(
            f"Without some of their states, which a job that needs them computes again: {found.without_states}"
        )
    if found.known:
        lines.append(f"Here already: {_count(len(found.known), 'run')}")
    if found.states:
        lines.append(f"Added to them: {_count(found.states, 'state')}")
    if found.own:
        lines.append(f"Here already with other results or files, and kept as they are: {_named(found.own)}")
    if found.not_complete:
        lines.append(f"Left out, because these runs are here, and not complete or in use: {_named(found.not_complete)}")
    if found.plugins:
        lines.append("Plug-ins, not executed. Look at them before you use them with --plugin:")
        lines += [f"  {printable(str(file))}" for file in found.plugins]
    return lines


def _named(runs: tuple[Run, ...] | list[Run]) -> str:
    more = len(runs) - _MOST_NAMED
    return ", ".join(map(short_address, runs[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
