"""`make bench`: all benchmarks or some by name, as results in JSON and as the table of benchmarks/README.md.

    python -m benchmarks [NAME ...] [--repeats=N] [--results=FOLDER]
    python -m benchmarks --table            write the table again from the stored results

A benchmark is a file bench_NAME.py with a function `rows` that returns or yields `benchmarks.timing.Row`. Each runs in
its own process, so that its imports and memory do not affect the others, and its failure does not lose their results.
With --repeats or --results, README.md does not change.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, in_words, load, machine, names, write_table


def main(argv: Sequence[str]) -> int:
    """Run benchmarks; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks, or some by name.")
    parser.add_argument("name", nargs="*", help=f"which; all by default: {', '.join(names())}")
    parser.add_argument("--repeats", type=int, help="measure each row so often; 1 for a quick look")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where the results are written")
    parser.add_argument("--table", action="store_true", help="only write the table of README.md from the results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    unknown = [name for name in flags.name if name not in names()]
    if unknown:
        parser.error(f"there is no benchmark '{unknown[0]}'; choose from {', '.join(names())}")
    if flags.table:
        write_table()
        return 0
    if flags.here:
        _measure(flags.name[0], flags.repeats, flags.results)
        return 0
    failed = [name for name in flags.name or names() if not _run(name, flags.repeats, flags.results)]
    if failed:
        print(f"Failed: {', '.join(failed)}. The results of the others are kept.", file=sys.stderr)
    if flags.repeats is None and flags.results == FOLDER:
        write_table()
    return int(bool(failed))


def _run(name: str, repeats: int | None, folder: Path) -> bool:
    """Run one benchmark in a process of its own; return whether it succeeded."""
    print(f"\n{name}", flush=True)
    command = [sys.executable, "-m", "benchmarks", "--here", name, f"--results={folder}"]
    command += [] if repeats is None else [f"--repeats={repeats}"]
    return subprocess.run(command, check=False).returncode == 0


def _measure(name: str, repeats: int | None, folder: Path) -> None:
    """Run one benchmark in this process, print its rows as they come, and write them at the end."""
    rows = importlib.import_module(f"benchmarks.bench_{name}").rows
    takes = "repeats" in inspect.signature(rows).parameters
    began, found = time.perf_counter(), []
    for row in rows(repeats=repeats) if takes and repeats is not None else rows():
        found.append(row.to_json())
        print(in_words(found[-1]), flush=True)
    result: dict[str, Any] = {**machine(), "took_seconds": round(time.perf_counter() - began, 1), "rows": found}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    load(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
