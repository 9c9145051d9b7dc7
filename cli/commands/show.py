"""The command that shows one run. It imports no torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.rows.run_row import Row, row_of
from analysis.rows.runs import with_origins
from cli.commands.listing import FormatHparams
from cli.display.family_tree import children, descent
from cli.display.plain_table import duration, figure, percent, printable_lines, table
from cli.request.flags import command
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.files import read_file
from foundations.plugins.kept import kept_path, kept_source, may_load
from foundations.plugins.plugins import is_loaded
from foundations.program import PROGRAM
from foundations.registry import Plugin, loaded_plugin, plugins_of
from foundations.storage.run import Run
from foundations.storage.store import find_run
from pruning.weights.fused import with_parts


@dataclass(frozen=True, kw_only=True)
class ShowHparams(FormatHparams):
    """Location of the runs, and output format."""

    plugin_diff: bool = hparam(False)
    """Print what has changed in the run's plug-ins since: a unified diff from the files that the run used to those that
    are there now."""


@command(showing=ShowHparams)
def show(names: list[str], environment: Environment, showing: ShowHparams) -> int:
    """Show one run: description, results, files, layers, line of descent and children (show ADDRESS)."""
    if len(names) != 1:
        raise UsageError(f"show takes one address: {PROGRAM} show ADDRESS (`ls` lists them).")
    run = find_run(showing.root_in(environment), names[0])
    if showing.plugin_diff:
        print(printable_lines("\n".join(plugin_diff(run))))
        return 0
    row = with_origins([row_of(run)], run.root)[0]
    if showing.json:
        print(json.dumps({**row.to_dict(), "sparsity_report": run.sparsity()}, indent=1, sort_keys=True))
    else:
        print(printable_lines("\n".join(_described(row))))
    return 0


def _described(row: Row) -> list[str]:
    run = row.run
    lines = [f"run:      {run.location}", f"folder:   {run.folder}", f"status:   {row.status}"]
    lines += [f"upstream: {row.upstream}"] if row.upstream else []
    lines += [f"from:     {row.origin}"] if row.origin is not None else []
    if row.problem:
        lines.append(row.problem)
    if not row.is_readable:
        return lines
    manifest = run.manifest()
    lines += ["", "Hyperparameters"]
    lines += _named({name: value for name, value in row.hyperparameters.items() if value not in (None, False)})
    lines += _plugins(run)
    if manifest is not None:
        lines += ["", "Results"]
        lines += _named({name: figure(value, ".6g") for name, value in manifest.results.items()})
        lines += ["", f"Computed in {duration(manifest.wall_seconds)} on {manifest.device}, {manifest.finished}, by"]
        lines += _named(manifest.versions)
        lines += ["", "Files"]
        lines += [f"  {name:<34}{record.size:>12,} bytes" for name, record in manifest.files.items()]
        lines += [f"  {name:<34}{'not kept here':>18}" for name in run.left_out()]
    report = run.sparsity()
    if report is not None:
        lines += ["", "Mask", *_mask(report, asks=row.learned_mask is None or row.learned_mask[1] is not None)]
    lines += ["", "Line of descent", *(f"  {line}" for line in descent(run))]
    below = children(run)
    return [*lines, "", "Children", *(f"  {line}" for line in below)] if below else lines


def _named(values: Mapping[str, Any]) -> list[str]:
    return [f"  {name:<24}{value}" for name, value in values.items()]


def _plugins(run: Run) -> list[str]:
    """Return lines on the plug-ins of the run and its main run: their kept files, and which need `--plugin`."""
    lines = []
    for plugin in _needed(run):
        lines.append(f"  {plugin.path}, SHA-256 {plugin.sha256[:12]}...")
        kept = kept_source(plugin, run.home) is not None
        lines += [f"    kept as {kept_path(plugin, run.home)}"] if kept else []
        if not is_loaded(plugin) and not may_load(plugin, run):
            which = "this" if kept else "the"
            lines.append(f"    not loaded: jobs that depend on this run need --plugin with {which} file")
    return ["", "Plug-ins", *lines] if lines else []


def plugin_diff(run: Run) -> list[str]:
    """Return, for each plug-in of a run, a unified diff from the file that the run used to the current one.

    The current file is that of a loaded plug-in of the same name, else the one at the path that the run recorded.
    """
    needed = _needed(run)
    return [line for plugin in needed for line in _difference(plugin, run)] or ["The run uses no plug-in."]


def _difference(plugin: Plugin, run: Run) -> list[str]:
    kept = kept_source(plugin, run.home)
    if kept is None:
        return [f"{plugin.name}: the file that the run used is not kept under {run.home}."]
    now = (loaded_plugin(plugin.name) or plugin).path
    try:
        current = read_file(now)
    except OSError as error:
        reason = f"{now} cannot be read now: {error.strerror}"
        return [f"{plugin.name}: {reason}. The run's file is {kept_path(plugin, run.home)}"]
    before, after = (source.decode(errors="replace").splitlines() for source in (kept, current))
    names = (f"{kept_path(plugin, run.home)} (of the run)", f"{now} (now)")
    lines = list(difflib.unified_diff(before, after, *names, lineterm=""))
    return lines or [f"{plugin.name}: {now} is as the run used it."]


def _needed(run: Run) -> list[Plugin]:
    record = run.record()
    parts = (record.get("main", {}), record)
    return list({plugin.name: plugin for part in parts for plugin in plugins_of(part)}.values())


def _mask(report: dict[str, Any], *, asks: bool) -> list[str]:
    """asks: whether a density was requested."""
    requested, achieved, effective = report["requested"], report["achieved"], report.get("effective")
    lines = [
        f"  kept {achieved['kept']:,} of {report['total']:,}"
        + (f" (requested {requested['kept']:,})" if asks else "")
        + (", the outcome of training" if report.get("is_outcome") else ""),
        f"  density {percent(achieved['density'])}, sparsity {percent(achieved['sparsity'])}",
    ]
    if structure := report.get("structure"):
        without = ", ".join(f"{name} ({reason})" for name, reason in structure["without"].items())
        lines.append(f"  structure {structure['name']}" + (f"; without it: {without}" if without else ""))
    if effective:
        on_paths = f"{effective['kept']:,} kept weights lie on a path from the input to the output"
        lines.append(f"  effective density {percent(effective['density'])}: {on_paths}")
    products = report.get("multiply_adds")
    if products:
        of = f"of {products['total']:,} ({percent(products['density'])})"
        others = f"{products['others']:,} more of biases and normalization"
        lines.append(f"  multiply-adds {products['kept']:,} {of}, and {others}")
    lines.append(f"  collapsed layers: {', '.join(report['collapsed_layers']) or 'none'}")
    rows = [_layer(name, layer) for name, layer in with_parts(report["layers"]).items()]
    columns = ("layer", "kept", "of", "density", "effective", "mean in", "mean out", "units without")
    return [*lines, *(f"  {line}" for line in table(rows, columns).splitlines())]


def _layer(name: str, layer: Mapping[str, Any]) -> dict[str, str]:
    into, out_of = layer.get("in_degree"), layer.get("out_degree")
    return {
        "layer": name,
        "kept": f"{layer['kept']:,}",
        "of": f"{layer['total']:,}",
        "density": percent(layer["density"]),
        "effective": percent(layer.get("effective_density")),
        "mean in": f"{into['mean']:.1f}" if into else "",
        "mean out": f"{out_of['mean']:.1f}" if out_of else "",
        "units without": f"{into['units_without']} in, {out_of['units_without']} out" if into and out_of else "",
    }
