"""Results of benchmarks: their files, the machine that they were measured on, and their table."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import benchmarks

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "results"
README = HERE / "README.md"
BEGIN, END = "<!-- table: python -m benchmarks --table -->", "<!-- end of table -->"
_HEAD = ("what", "measured", "aim", "met", "n", "spread", "how")


def names() -> list[str]:
    """Return the names of the benchmarks."""
    found = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
    return [name.removeprefix("bench_") for name in found if name.startswith("bench_")]


def machine() -> dict[str, Any]:
    """Return processor, memory, versions, commit and date, in the format of results."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}},
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def load(path: Path) -> dict[str, Any]:
    """Return the results in a file. Raises: KeyError if it lacks an entry that the table needs."""
    result: dict[str, Any] = json.loads(path.read_text())
    _ = result["processor"], result["versions"], result["date"], [row["what"] for row in result["rows"]]
    return result


def in_words(row: Mapping[str, Any]) -> str:
    """Return a row as a line of text."""
    what, value, aim, met, count, spread, how = _cells(row)
    return f"{what:<66}{value:>12}   {aim:<16}{met:<5}n={count} {spread}   {how}"


def table(folder: Path = FOLDER) -> str:
    """Return all results in a folder as Markdown: a table for each benchmark, below its machine and date."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        result = load(path)
        lines = [_markdown(_HEAD), _markdown(["---"] * len(_HEAD)), *(_markdown(_cells(row)) for row in result["rows"])]
        parts.append(f"### {path.stem}\n\n{_place(result)}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) or "No results yet."


def write_table(folder: Path = FOLDER, readme: Path = README) -> None:
    """Write the table of results between the two marks in a file."""
    text = readme.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{before}\n{table(folder)}\n{after}")


def about(name: str) -> str:
    """Return the first paragraph of a benchmark's docstring."""
    doc = inspect.getdoc(importlib.import_module(f"benchmarks.bench_{name}")) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def _cells(row: Mapping[str, Any]) -> list[str]:
    unit = f" {row['unit']}" if row["unit"] else ""
    met = {True: "yes", False: "no", None: ""}[row["is_met"]]
    spread = "" if row["n"] == 1 else f"{_number(row['low'])} to {_number(row['high'])}"
    return [row["what"], _number(row["value"]) + unit, row["aim"], met, str(row["n"]), spread, row["detail"]]


def _number(value: float) -> str:
    """Return a number with three significant digits, and at most four decimals."""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 4}f}"
    )


def _markdown(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _place(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    gpu = f", {result['gpu']}" if result["gpu"] else ""
    return (
        f"{result['processor']}, {result['cores']} cores, {result['memory_gib']} GiB{gpu}; {result['system']}; "
        f"{versions}; commit {result['commit']}; {result['date']}; {result['took_seconds']:.0f} s."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
