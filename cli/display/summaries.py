"""Plans and results of a command, formatted for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.display.plain_table import duration, figure, percent, table
from foundations.description.address import canonical_json
from foundations.description.desc import Desc
from foundations.metrics import METRICS, Metric, has_diverged, headline_of, written
from foundations.plan import Plan, PlannedRun
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.store import of_upstream, short_address


def to_do(planned: PlannedRun) -> str:
    """Return the plan's action for a run, as text."""
    if planned.is_done:
        return "nothing"
    missing = planned.missing()
    copied = "copy it here, " if planned.is_upstreams else ""
    if planned.manifest is None and planned.until > planned.desc.start:
        return f"train to {planned.until}"
    return f"{copied}keep the state at {', '.join(map(str, missing)) or planned.desc.start}"


def preview(made: Plan, runs: Mapping[str, PlannedRun], series: str) -> str:
    """Return the plan of a command, with the folder of each requested run."""
    if series:
        lines = [f"{series} {name}: {each.status}, {each.run.place}" for name, each in runs.items()]
    else:
        (planned,) = runs.values()
        desc: Desc = planned.desc
        facts = {
            "run": str(planned.run),
            "folder": str(planned.run.place),
            "status": f"{planned.status}: nothing to compute" if planned.is_done else planned.status,
            "training": f"{desc.start} to {desc.end} ({desc.iterations_per_epoch} iterations an epoch)",
            "described by": canonical_json(desc.canonical),
        }
        lines = [f"{name + ':':<14}{value}" for name, value in facts.items()]
    rows = [{"run": str(planned.run), "is": planned.status, "to do": to_do(planned)} for planned in made]
    left_out = [sentence for planned in made for sentence in planned.left_out]
    return "\n".join([*lines, "", table(rows, ("run", "is", "to do")), *left_out])


def results_rows(runs: Mapping[str, PlannedRun], computed: list[PlannedRun], series: str, root: Path) -> str:
    """Return the results of several runs as a table."""
    rows = [
        {
            series: name,
            **result_cells(planned.run, planned.manifest),
            "this time": "computed" if planned in computed else f"reused{of_upstream(planned.run.upstream)}",
        }
        for name, planned in runs.items()
    ]
    return f"{table(rows, (series, *result_names(rows), 'this time', 'address'))}\nresults under: {root}"


def result_cells(run: Run, manifest: Manifest | None) -> dict[str, str]:
    """Return the cells of a run in a table of results."""
    results = manifest.results if manifest else {}
    headline = headline_of(run.record())
    return {
        "sparsity": percent(results.get("sparsity", 0.0)),
        headline.label: measured(headline, results),
        "address": short_address(run),
    }


def result_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the columns of the results of rows that have `result_cells`: sparsity, and the headline metrics."""
    own = [list(row) for row in rows]
    metrics = dict.fromkeys(names[names.index("sparsity") + 1] for names in own)
    return ["sparsity", *metrics]


def measured(metric: Metric, results: Mapping[str, float | None], prefix: str = "test_") -> str:
    """Return the value of a metric as text: fractions as percentages, others with four digits behind the point.

    prefix: the examples, as in the results' names. A run whose loss is not finite is marked.
    """
    value = results.get(prefix + metric.spelling)
    if value is None:
        return ""
    text = percent(value) if metric.is_fraction else written(value)
    return text + " (diverged)" if has_diverged(results) else text


def summary(planned: PlannedRun, computed: list[PlannedRun]) -> str:
    """Return the results of one run."""
    assert planned.manifest is not None
    results = planned.manifest.results
    reused = f"reused: the run was complete{of_upstream(planned.run.upstream)}, nothing was computed"
    headline = headline_of(planned.run.record())
    metrics = [headline, *(metric for metric in METRICS if metric is not headline)]
    figures: dict[str, Any] = {
        **{f"{'test ' if metric is headline else ''}{metric.label}": measured(metric, results) for metric in metrics},
        "test loss": figure(results["test_loss"], ".4f") if "test_loss" in results else "",
        "held out": _validation(results, headline),
        "sparsity": percent(results.get("sparsity")),
        "effective": percent(results.get("effective_sparsity")),
        "collapsed": _collapsed(planned.run),
        "training time": duration(planned.manifest.wall_seconds),
        "this time": "computed" if planned in computed else reused,
        "results in": str(planned.run.place),
    }
    width = max(16, *(len(name) + 2 for name, value in figures.items() if value))
    return "\n".join(f"{name + ':':<{width}}{value}" for name, value in figures.items() if value)


def _validation(results: Mapping[str, float | None], headline: Metric) -> str:
    """Return the results on the examples that a run held out, as text; empty if it held out none."""
    if headline.best_by not in results:
        return ""
    selected = measured(headline, results, "selected_test_")
    found = measured(headline, results, "validation_")
    return f"{found} (where that was best, test {headline.label} was {selected})"


def _collapsed(run: Run) -> str:
    """Return the layers that have no weights left, as text: they cut the output off from the input."""
    report = run.sparsity() or {"collapsed_layers": [], "layers": []}
    names = report["collapsed_layers"]
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} of {len(report['layers'])} layers have no weights left: {some}" if names else ""
