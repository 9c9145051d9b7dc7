"""Degrees of units under a mask: the number of kept weights into each unit of a layer, and out of each input.

For a layer with the mask m (out, in, ...): in(u) = Σ m[u], over all else, and out(v) = Σ m[:, v].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.measures.measure import Measure, Measured, NoOptions, columns

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(_: Measuring, options: NoOptions, run: MeasuredRun) -> Measured:  # noqa: ARG001 (it has none)
    """Return the number of units without input and without output, and the spread of both degrees in each layer.

    In the table, `in_` columns describe the layer's output units, `out_` columns its input units; std divides by n (not
    n - 1), and `without` is the number of units of degree 0. A run without a mask keeps everything.
    Raises: UsageError for a network whose units cannot be traced.
    """
    from pruning.paths.connectivity import sums_by_unit
    from pruning.paths.graph import trace

    model = run.network()
    mask = run.mask_of(model)
    rows: list[dict[str, Any]] = []
    for node in trace(model, run.inputs).layers:
        name = str(node.layer)
        if name in mask:
            into, out_of = map(_spread, sums_by_unit(node, mask[name]))
            sides = {f"in_{each}": value for each, value in into.items()}
            rows.append({"layer": name, **sides, **{f"out_{each}": value for each, value in out_of.items()}})
    without = {side: sum(row[f"{side}_without"] for row in rows) for side in ("in", "out")}
    values = {"units_without_input": without["in"], "units_without_output": without["out"]}
    return Measured(values, columns(rows) or {"layer": []})


def _spread(degree: Tensor) -> dict[str, int | float]:
    numbers = degree.double()
    return {
        "units": len(degree),
        "mean": float(numbers.mean()),
        "std": float(numbers.std(correction=0)),
        "min": int(degree.min()),
        "max": int(degree.max()),
        "without": int((degree == 0).sum()),
    }


DEGREE_STATISTICS = Measure(
    spelling="degree_statistics",
    summary="kept weights into and out of the units of each layer",
    compute=compute,
)
