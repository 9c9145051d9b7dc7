"""The commands that look at what is being computed on a root, and stop it: `watch` and `stop`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.flags import parse, positional
from cli.folder_flags import RootHparams
from cli.plain_table import duration, table
from cli.sweep_display import progress_of
from foundations.environment import Environment
from foundations.errors import Interrupted, UsageError
from foundations.hparams import hparam
from foundations.locks import is_held, read_holder
from foundations.store import all_runs, short_address
from foundations.sweeps import ask_to_stop, known_sweeps

_SILENT_SECONDS = 300.0
"""A process that has noted nothing for so long may hang, or be on a machine that is gone."""


@dataclass(frozen=True, kw_only=True)
class WatchHparams(RootHparams):
    """Where runs are, and how they are shown."""

    once: bool = hparam(False)
    """Print the table once and stop; on a terminal it is drawn anew every two seconds until Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class WatchFlags:
    """Show the runs and sweeps that processes work on, anywhere on the root."""

    watch: WatchHparams = field(default_factory=WatchHparams)


@dataclass(frozen=True, kw_only=True)
class StopFlags:
    """Ask a sweep, or all, to write checkpoints and end. The same sweep again goes on from there."""

    stop: RootHparams = field(default_factory=RootHparams)


def watch(argv: Sequence[str], environment: Environment) -> int:
    """`watch`: what is being computed."""
    flags = parse(WatchFlags, argv, "watch").watch
    root = flags.root_in(environment)
    if flags.once or not sys.stdout.isatty():
        print(drawn(root))
        return 0
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    try:
        with Live(console=Console(), auto_refresh=False, screen=True) as live:
            while True:
                live.update(Text(drawn(root), no_wrap=True), refresh=True)
                time.sleep(2)
    except Interrupted as stop:  # how one leaves it
        return stop.exit_code


def stop(argv: Sequence[str], environment: Environment) -> int:
    """`stop [SWEEP]`: ask sweeps to end."""
    names, rest = positional(argv)
    flags = parse(StopFlags, rest, "stop").stop
    if len(names) > 1:
        raise UsageError("stop takes one sweep, or none for all of them; `watch` lists them.")
    for name in ask_to_stop(flags.root_in(environment), *names):
        print(f"Asked {name} to stop. Its jobs write checkpoints first.")
    return 0


def drawn(root: Path) -> str:
    """Return the sweeps and runs that are worked on, or were until their process was killed, as tables."""
    parts = []
    sweeps = [
        {
            "sweep": each.name,
            "is": "running" if each.is_alive else "killed",
            "what": str(each.facts.get("what", "")),
            **{state: str(each.facts.get(state, "")) for state in ("done", "running", "waiting", "failed")},
        }
        for each in known_sweeps(root)
    ]
    if sweeps:
        parts.append(table(sweeps, tuple(sweeps[0])))
    rows = _run_rows(root)
    if rows:
        parts.append(table(rows, tuple(rows[0])))
    return "\n\n".join(parts) or f"Nothing is being computed under {root}."


def _run_rows(root: Path) -> list[dict[str, str]]:
    waiting = {path.name for path in (root / ".locks").glob("*.holder")}
    rows = []
    for run in all_runs(root) if waiting else ():
        facts = read_holder(run.lock_path) if run.lock_path.with_suffix(".holder").name in waiting else None
        if facts is None:
            continue
        step, speed = progress_of(facts)
        silent = time.time() - float(facts.get("at", 0))
        rows.append(
            {
                "address": short_address(run),
                "run": run.location.name,
                "is": _state(run.lock_path, silent),
                "step": step,
                "speed": speed,
                "since": duration(max(0.0, time.time() - float(facts.get("since", 0)))),
                "host": f"{facts.get('host')}:{facts.get('pid')}",
            }
        )
    return rows


def _state(lock_path: Path, silent: float) -> str:
    if not is_held(lock_path):
        return "stale: its process was killed"
    return "running" if silent < _SILENT_SECONDS else f"silent for {duration(silent)}"
