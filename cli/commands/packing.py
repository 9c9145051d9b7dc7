"""The commands `pack` and `unpack`, which put complete runs into few files and back. They import no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.rows.run_row import row_of
from cli.commands.choosing import ChosenHparams
from cli.commands.listing import listed
from cli.display.fitted_table import terminal_width
from cli.display.plain_table import printable
from cli.request.flags import command
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.storage import packing
from foundations.storage.root import alone
from foundations.storage.run import Run
from foundations.storage.store import all_runs, find_run_here


@command(choice=ChosenHparams)
def pack(names: list[str], environment: Environment, choice: ChosenHparams) -> int:
    """Put complete runs into few files, which are read like folders (pack, pack ADDRESS..., pack --where ...)."""
    root = choice.root_in(environment)
    runs = _chosen(names, choice, root)
    if choice.dry_run:
        return _would(runs, "packed")
    if not runs:
        print(f"No runs under {root}.")
        return 0
    packed, stayed = packing.pack(runs, print)
    for line in stayed:
        print(printable(line))
    print(f"{len(packed):,} of {len(runs):,} run(s) are packed.")
    return int(bool(stayed) and bool(names))


@command(choice=ChosenHparams)
def unpack(names: list[str], environment: Environment, choice: ChosenHparams) -> int:
    """Give packed runs folders of their own again (unpack, unpack ADDRESS..., unpack --where ...)."""
    root = choice.root_in(environment)
    runs = _chosen(names, choice, root)
    if choice.dry_run:
        return _would(runs, "unpacked")
    unpacked = list(packing.unpack(runs))
    packing.sweep_packs(alone(root))
    print(f"Unpacked {len(unpacked):,} of {len(runs):,} run(s).")
    return 0


def _chosen(names: Sequence[str], choice: ChosenHparams, root: Path) -> list[Run]:
    """Return the runs of some addresses, or those that a condition holds for, or all."""
    if names and choice.where is not None:
        raise UsageError("give addresses or a condition, not both.", "where")
    if names:
        return list({run.location: run for run in (find_run_here(root, name) for name in names)}.values())
    own = alone(root)
    return list(all_runs(own)) if choice.where is None else [row.run for row in choice.rows(own)]


def _would(runs: Sequence[Run], done: str) -> int:
    if runs:
        print(listed([row_of(run) for run in runs], [], terminal_width()))
    print(f"{len(runs):,} run(s) would be {done}, as far as they are complete.")
    return 0
