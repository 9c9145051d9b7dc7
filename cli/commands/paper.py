"""The commands of papers: `papers` lists figures and tables, `paper NAME` computes the runs of one and draws it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.compare.points import GRID
from analysis.rows.run_row import Row, row_of
from branches.desc import is_untrained, trained_of
from cli.commands.drawing import Drawing, Measurement, drawing_of, measurement_of
from cli.commands.sweep import (
    SHARED,
    PlannedSweep,
    asked_by,
    compute_sweep,
    parse_whole,
    plan_sweep,
    said_in,
    with_shared,
)
from cli.display.plain_table import duration
from cli.progress.rates import Case, scoring_case
from cli.progress.reporting import reporting
from cli.request.flags import Flags, HelpRequested, command, positional
from cli.request.grid import Sweep
from cli.request.job_flags import RequestHparams
from cli.request.paper_file import FOLDER, SCALES, PaperFile, find_paper, paper_names, read_paper
from cli.request.request import Request
from cli.request.sweep_flags import without_shared
from foundations.description.address import Location
from foundations.description.desc import RunRef, flat_hyperparameters
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.plan import PlannedRun
from foundations.program import PROGRAM
from platforms.platform import PlatformHparams

_USAGE = f"usage: {PROGRAM} paper NAME [--scale=cpu|full] [FLAGS]    (NAME: see `papers`, or ./FILE.toml)"


@dataclass(frozen=True, kw_only=True)
class PaperHparams(Hparams):
    """Scale, and folder of the figures."""

    scale: str = hparam("cpu", choices=SCALES)
    """cpu: small networks and data, minutes to an hour on two cores. full: those of the paper."""
    out: str | None = hparam(None)
    """The folder that figures and tables are written to; by default one of the paper's name, here."""
    retry: str | None = hparam(None, choices=("failed",))
    """failed: start runs that failed before again."""


PAPER = Flags(
    "paper",
    "Compute the runs of a paper's figure or table, measure them, draw it: paper NAME (`papers` lists the names).",
    paper=PaperHparams,
    **SHARED,
)


@command()
def papers(environment: Environment) -> int:  # noqa: ARG001
    """List what there is to choose from."""
    blocks = []
    for name in paper_names():
        found = read_paper(FOLDER / f"{name}.toml")
        text = f"{found.figure} of {found.paper}: {found.title}. {found.shows}"
        text += "".join(f" (--scale={scale}: {words}.)" for scale, words in found.takes.items())
        blocks.append(f"{name}\n{textwrap.fill(text, 116, initial_indent='    ', subsequent_indent='    ')}")
    print("\n".join(blocks))
    return 0


def paper(argv: Sequence[str], environment: Environment) -> int:
    """`paper NAME`: compute the missing runs of a figure or a table, and draw it."""
    names, rest = positional(argv, PAPER)
    scale = parse_whole(PAPER, rest, environment).paper.scale
    if not names:
        raise HelpRequested(f"{_USAGE}\n\n`papers` lists the names, `paper --help` the flags.")
    if len(names) > 1:
        raise UsageError(f"give one name.\n{_USAGE}")
    found = find_paper(names[0])
    described = sweep_at(found, scale)
    with said_in(f"{found.name}, [{scale}.sweep]"):
        _, of_file, behind = without_shared(described)
        flags = parse_whole(PAPER, [*of_file, *behind, *rest], environment)
    own, job = flags.paper, flags.job
    environment = replace(
        environment,
        root=job.root_in(environment),
        datasets=job.datasets_in(environment),
        no_download=job.no_download or environment.no_download,
    )
    planned = planned_paper(found, own.scale, flags.platform, environment, job)
    measurements, drawings = parts_of(found, own.scale)
    title = f"{found.title} ({found.figure} of {found.paper}), {own.scale}\n"
    code = compute_sweep(planned, flags, environment, own.retry, title=title, measured=_scored(planned, measurements))
    if code or job.dry_run or job.display_output_location:
        return code
    rows = rows_of(planned)
    with reporting(job.quiet) as reporter:
        for each in measurements:
            began = time.monotonic()
            count = each.measure(rows, environment, flags.platform.device, reporter)
            reporter.say(f"measured {each}: {count} run{'s' * (count != 1)}, {duration(time.monotonic() - began)}")
    folder = Path(own.out or found.name).expanduser()
    for drawing in drawings:
        written = drawing.write(rows, folder)
        if not job.quiet:
            print("\n".join(written))
    return 0


def planned_paper(
    found: PaperFile,
    scale: str,
    platform: PlatformHparams,
    environment: Environment,
    job: RequestHparams = RequestHparams(),  # noqa: B008 (it is frozen)
) -> PlannedSweep:
    """Plan the runs of a file at a scale. Raises: UsageError that names the run."""
    described = sweep_at(found, scale)
    with said_in(f"{found.name}, [{scale}.sweep]"):
        described, *_ = without_shared(described)
        measurements, drawings = parts_of(found, scale)
        parts: list[Measurement | Drawing] = [*measurements, *drawings]
        asked = asked_by(with_shared(described, job, platform), environment)
        if not any(each.reads_metrics for each in parts):
            asked = [replace(each, request=_without_evaluation(each.request)) for each in asked]
        planned = plan_sweep(asked, environment)
    names = {name for each in planned.requested() for name in flat_hyperparameters(each.desc.record())}
    for part in parts:
        part.check_keys(names)
    return planned


def _without_evaluation(request: Request) -> Request:
    """Return a request for only the first state and mask of untrained runs, whose metrics are not read.

    Their bytes are the same as in a complete run, and the command of the run continues from there.
    """
    targets = dict(request.targets)
    for name, target in request.targets.items():
        desc = target.desc
        if is_untrained(desc):
            has_mask = desc.mask_step is not None
            targets[name] = replace(target, keep=(desc.start,), is_complete=False, needs_mask=has_mask)
    return replace(request, targets=targets)


def sweep_at(found: PaperFile, scale: str) -> Sweep:
    """Return the sweep of a file at a scale. Raises: UsageError where it has none."""
    if scale not in found.sweeps:
        raise UsageError(f"{found.name} has no [{scale}.sweep], only {', '.join(found.sweeps)}.", "scale")
    return found.sweeps[scale]


def parts_of(found: PaperFile, scale: str) -> tuple[list[Measurement], list[Drawing]]:
    """Return the measurements and the drawings at a scale. Raises: UsageError that names the part of the file."""
    parts = found.parts[scale]
    return (
        [measurement_of(part) for part in parts if part.command == "measure"],
        [drawing_of(part) for part in parts if part.command != "measure"],
    )


def rows_of(planned: PlannedSweep) -> list[Row]:
    """Return a row for each run that a sweep requests, with the name of its grid under `grid`.

    A run that several named grids request has a row for each of them. Where runs prune trainings, dense trainings have
    no grid: they are the reference of all. Trainings that make their own mask have theirs.
    """
    found = dict.fromkeys((each.run.location, asked.grid) for asked, _, each in planned.targets())
    rows = {each.run.location: _row_of(each) for each in planned.requested()}
    has_branches = any(row.branch for row in rows.values())
    named: dict[tuple[Location, str], Row] = {}
    for location, grid in found:
        row = rows[location]
        if grid and (row.branch or row.makes_its_mask or not has_branches):
            named[location, grid] = replace(row, hyperparameters={**row.hyperparameters, GRID: grid})
        else:
            named[location, ""] = row
    return list(named.values())


def _scored(planned: PlannedSweep, measurements: Sequence[Measurement]) -> list[Case]:
    """Return the scoring cases of the measures, one for each run that is not computed yet."""
    return [
        scoring_case(trained_of(RunRef(each.desc)), pruning)
        for measurement in measurements
        if (pruning := measurement.scoring) is not None
        for each in planned.requested()
        if not each.is_done
    ]


def _row_of(planned: PlannedRun) -> Row:
    """Return the row of a run, which may not be there; a run that has everything requested counts as complete."""
    row = row_of(planned.run)
    if row.status == "missing":
        row = replace(row, hyperparameters=flat_hyperparameters(planned.desc.record()))
    if row.status != "incomplete" or planned.is_target or not planned.is_done:
        return row
    report = planned.run.sparsity()
    achieved = {} if report is None else {name: report["achieved"][name] for name in ("density", "sparsity")}
    return replace(row, status="complete", results=achieved)
