"""The page of a report: one file of HTML with its styles, its scripts and its data. Imports no torch."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.compare.looks import DASHES, DENSE_LOOK, PALETTE, Look
from analysis.compare.points import SPREADS, Point
from analysis.report.details import short
from analysis.report.page import Page, level_of, percent
from analysis.report.table import levels_of, table_of
from foundations.program import version

HERE = Path(__file__).parent
SCRIPTS = ("chart.js", "script.js")
DASH_LENGTHS = dict(zip(DASHES, ("", "6 3", "1.5 3"), strict=True))
"""Lengths of dashes and gaps in pixels."""
ROLES = {
    "line": "tells lines apart",
    "level": "the level of sparsity",
    "averaged": "averaged over, on purpose",
    "": "goes along with these",
}
"""Descriptions of the roles of hyperparameters in which runs differ."""


def html_of(page: Page) -> str:
    """Return the file's text. The same page has the same text.

    Names in it, of hyperparameters, layers, metrics and machines, come from runs and are not trusted: the template
    escapes them, the scripts write them as text, and the page's policy runs no script but its own.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    templates.filters |= {"percent": percent, "duration": _duration}
    style, script = _read("style.css"), "".join(map(_read, SCRIPTS))
    return templates.get_template("template.html").render(
        page=page,
        table=table_of(page),
        levels=levels_of(page),
        spread=SPREADS[page.spread],
        roles=ROLES,
        has_layers=any(page.layers),
        has_training=any(page.training),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=json_for_script(_data(page)),
        version=version(),
    )


def json_for_script(data: Any) -> str:
    """Return JSON for a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of a style or script, for the page's content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(page: Page) -> dict[str, Any]:
    """Return the data for the scripts. Repeated numbers are stored once."""
    grids: dict[tuple[float, ...], int] = {}
    names: dict[tuple[str, ...], int] = {}
    runs = {run.location: place for place, run in enumerate(page.runs)}
    training = [
        {
            name: [grids.setdefault(curve.epochs, len(grids)), curve.mean, curve.low, curve.high]
            for name, curve in curves.items()
        }
        for curves in page.training
    ]
    layers = [each and [names.setdefault(each.names, len(names)), each.direct, each.effective] for each in page.layers]
    return {
        "value": {"name": str(page.value), "fraction": page.value.is_fraction},
        "spread": SPREADS[page.spread],
        "lines": [
            {"label": line.label, "dense": line.is_dense, **({} if line.is_dense else look_data(line.look))}
            for line in page.comparison.lines
        ],
        "points": [
            {"line": place, **_point(point, page, runs)}
            for place, line in enumerate(page.comparison.lines)
            for point in line.points
        ],
        "training": training,
        "grids": list(grids),
        "layers": layers,
        "layerNames": list(names),
        "runs": [list(asdict(run).values()) for run in page.runs],
    }


def _point(point: Point, page: Page, runs: Mapping[str, int]) -> dict[str, Any]:
    low, high = point.interval(page.spread) or (None, None)
    return {
        "level": level_of(point),
        "density": _short(point.density),
        "mean": point.mean,
        "low": low,
        "high": high,
        "half": point.half_width(page.spread),
        "runs": [runs[row.location] for row in point.rows],
        "leftOut": len(point.left_out),
        "mixed": bool(point.differing),
    }


def look_data(look: Look) -> dict[str, Any]:
    """Return a look for the scripts: the number of its colour in the style sheet, its dashes, its marker's name."""
    if look == DENSE_LOOK:  # of trainings without branches, which are lines like any other
        look = Look(PALETTE[0], DASHES[1], "o")
    return {"color": PALETTE.index(look.color), "dash": DASH_LENGTHS[look.linestyle], "mark": look.marker}


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else short(value)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
