"""The command that writes a report on many runs. It imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.compare.points import SPREADS
from analysis.rows.result_value import Value
from analysis.rows.runs import read_rows
from analysis.rows.selection import chosen
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import write_atomically
from foundations.storage.root import check_output


@dataclass(frozen=True, kw_only=True)
class ReportHparams(RootHparams):
    """Selection of the runs, and contents of the report."""

    where: str | None = hparam(None)
    """Only runs with key=value, several with commas, as in `ls` ('density<0.3'). The trainings that they prune are
    shown as well."""
    value: str | None = hparam(None)
    """The metric or result that is compared: at the end (test_accuracy), where it is best on held out examples
    (test_accuracy@best), at a step (test_accuracy@10ep), or the highest or lowest of all (test_loss@min). By default
    the headline metric of the runs' task."""
    lines: str | None = hparam(None)
    """Keys to tell lines apart, separated by commas, such as strategy,allocation. By default the strategy and whatever
    else is needed for runs of one line and level to be one experiment."""
    over: str | None = hparam(None)
    """Hyperparameters over which means are taken on purpose, separated by commas, such as data_order_seed."""
    labels: str | None = hparam(None)
    """Names of lines, KEY=LABEL, with commas between, or semicolons where names have commas: snip10=SNIP,
    oneshot:magnitude=IMP. A key is a strategy, branch:strategy, another value that tells lines apart, or a whole
    name."""
    spread: str = hparam("std", choices=tuple(SPREADS))
    """std, sem, minmax or ci95: standard deviation, standard error, extremes, 95% confidence interval of the mean."""
    out: str = hparam("report.html")
    """The file to write; one that is there is replaced."""


@command(report=ReportHparams)
def report(environment: Environment, report: ReportHparams) -> int:
    """Write a report on many runs: one file that any browser opens, without a network."""
    from analysis.report.page import page_of
    from analysis.report.render import html_of

    path = Path(report.out).expanduser()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it.", "out")
    root = report.root_in(environment)
    check_output(root, path)
    rows = read_rows(root)
    if not rows:
        raise UsageError(f"there are no runs under {root}.")
    lines = None if report.lines is None else _names(report.lines)
    value = Value.of_runs(report.value, chosen(rows, report.where))
    over = _names(report.over or "")
    page = page_of(rows, value, where=report.where, by=lines, over=over, spread=report.spread, labels=report.labels)
    if not page.runs:
        raise UsageError(f"no run under {root} is {report.where}.", "where")
    write_atomically(path, html_of(page).encode(errors="replace"))
    print(f"{path}: {_counted(page.provenance.number, 'run')}, {_counted(len(page.warnings), 'warning')}")
    for warned in page.warnings:
        print(f"  {warned.title}. {warned.text}")
    return 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
