"""Finding runs under a root: all of them, or the one that an address means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foundations.address import MAIN, Location
from foundations.errors import UsageError
from foundations.run import DESCRIPTION, MANIFEST, Run


def all_runs(root: Path) -> Iterator[Run]:
    """Yield every run under a root, trunks before their branches. Folders with other names are somebody else's."""
    for trunk in sorted([*root.glob("train_*"), *root.glob("import_*")]):
        for replicate in sorted(trunk.glob("replicate_*")):
            number = replicate.name.removeprefix("replicate_")
            if number.isdecimal():
                for folder in [replicate / MAIN, *sorted(replicate.glob("branch_*"))]:
                    # A run that lost its description can still be named, to be mended or removed.
                    if (folder / DESCRIPTION).exists() or (folder / MANIFEST).exists():
                        yield Run(root, Location(trunk.name, int(number), folder.name))


def run_digest(run: Run) -> str:
    """Return the digest in a run's name."""
    named = run.location.trunk if run.location.part == MAIN else run.location.part
    return named.rpartition("_")[2]


def short_address(run: Run) -> str:
    """Return the first 8 digits of a run's digest, and its replicate: enough to name it to `show`."""
    return f"{run_digest(run)[:8]}/{run.location.replicate}"


def find_run(root: Path, address: str) -> Run:
    """Return the run of an address: any unique beginning of its digest or directory's name, with `/N` for a replicate.

    Raises: UsageError where no run, or more than one, is meant.
    """
    runs = list(all_runs(root))
    found = [run for run in runs if str(run.location) == address.rstrip("/") or str(run.folder) == address.rstrip("/")]
    if not found:
        stem, _, replicate = address.partition("/")
        found = [
            run for run in runs if _is_meant(run, stem) and (not replicate or str(run.location.replicate) == replicate)
        ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"No run under {root} is named '{address}'. `python open_prune.py ls` lists the runs.")
    some = ", ".join(short_address(run) for run in found[:6]) + (", ..." if len(found) > 6 else "")
    raise UsageError(f"'{address}' may mean {len(found)} runs: {some}. Give more digits, or the replicate.")


def _is_meant(run: Run, stem: str) -> bool:
    name = run.location.trunk if run.location.part == MAIN else run.location.part
    return bool(stem) and (run_digest(run).startswith(stem) or name.startswith(stem))
