"""The commands `measures` and `measure`. They import torch only to compute a result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.measures.measure import Measure
from analysis.measures.registry import MEASURES
from analysis.measures.results import MeasuredResult, result_of
from analysis.rows.run import StoredRun, open_run
from cli.commands.catalogue import listing
from cli.display.plain_table import table
from cli.progress.reporting import reporting
from cli.request.flags import Flags, positional
from cli.request.folder_flags import DatasetsRootHparams, RootHparams
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.program import PROGRAM
from foundations.storage.store import of_upstream

_ROWS_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class MeasureHparams(RootHparams, DatasetsRootHparams):
    """Options of the measurement."""

    replay: bool = hparam(False)
    """Compute states that the runs did not keep, and keep them; by default that is an error."""
    device: str = hparam("auto")
    """auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:N or mps."""
    no_download: bool = hparam(False)
    """Never download a dataset (OPEN_PRUNE_NO_DOWNLOAD=1 does the same)."""
    json: bool = hparam(False)
    """Print the results as JSON, a list."""


measures = listing(
    "measures", MEASURES, {"name": "spelling", "takes": "takes", "measures": "summary", "paper": "paper"}
)
MEASURE = Flags(
    "measure",
    "Measure runs: measure NAME ADDRESS... (`measures` lists the names, `ls` the runs).",
    work=MeasureHparams,
)


def measure(argv: Sequence[str], environment: Environment) -> int:
    """`measure NAME ADDRESS...`: compute a measure of runs, or reuse it."""
    names, rest = positional(argv, MEASURE)
    if names and names[0] not in MEASURES:
        raise UsageError(MEASURES.unknown(names[0]).reason)  # it is not given by a flag
    found = MEASURES.find(names[0]) if names else None
    flags = (MEASURE if found is None else flags_of(found)).parse(rest)
    if found is None:
        raise UsageError(f"measure takes a name: {PROGRAM} measure NAME ADDRESS... (`measures` lists them).")
    if len(names) == 1:
        raise UsageError(f"measure takes addresses: {PROGRAM} measure {names[0]} ADDRESS... (`ls` lists them).")
    results = list(_results(found, names[1:], flags.options, flags.work, environment))
    if flags.work.json:
        print(
            json.dumps(
                [{"file": str(result.path) if result.is_kept else None, **result.to_json()} for result in results],
                indent=1,
            )
        )
    return 0


def flags_of(measure: Measure) -> Flags:
    """Return the flags of `measure` with the options of a measure."""
    summary = f"{MEASURE.summary}\n\n{measure.spelling}: {measure.summary}."
    return Flags(f"measure {measure.spelling}", summary, **MEASURE.groups, options=measure.options)


def _results(
    measure: Measure, addresses: Sequence[str], options: Hparams, work: MeasureHparams, environment: Environment
) -> Iterator[MeasuredResult]:
    """Yield a result for each run, or one for all, and print each as soon as it is known."""
    runs = [open_run(address, work.root_in(environment), work.datasets_in(environment)) for address in addresses]
    groups = [[run] for run in runs] if measure.takes == "one run" else [runs]
    with reporting(quiet=work.json) as reporter:
        for group in groups:
            result = result_of(
                measure,
                group,
                options,
                replay=work.replay,
                device=work.device,
                reporter=reporter,
                no_download=work.no_download,
            )
            if not work.json:
                reporter.say("\n".join([*_shown(result, group), *([""] if group is not groups[-1] else [])]))
            yield result


def _shown(result: MeasuredResult, measured: Sequence[StoredRun]) -> list[str]:
    said = result.description
    options = [f"{name}={value}" for name, value in said.get("options", {}).items()]
    lines = [result.note] if result.note else []
    lines.append(" ".join([said["measure"], *options]))
    for run, stored in zip(said["runs"], measured, strict=True):
        steps = [f"{name}={at}" for name, at in run.get("steps", {}).items()]
        lines.append(" ".join([f"  {run['location']}", *steps]) + of_upstream(stored.upstream))
    width = max(map(len, result.values), default=0)
    lines += ["", *(f"{name:<{width}}  {_number(value)}" for name, value in result.values.items())]
    number = len(next(iter(result.table.values()), []))
    if number:
        rows = [{name: _number(column[row]) for name, column in result.table.items()} for row in range(number)]
        lines += ["", *table(rows[:_ROWS_SHOWN], tuple(result.table)).splitlines()]
    if number > _ROWS_SHOWN:
        lines.append(f"... {number - _ROWS_SHOWN:,} more rows; the file has all of them, as --json does.")
    file = f": {result.path}" if result.is_kept else ", not kept"
    return [*lines, "", f"{'reused' if result.reused else 'computed'}, {result.computed}{file}"]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
