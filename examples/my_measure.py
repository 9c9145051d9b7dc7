"""`distance`: the distance of each layer's weights from the first weights of training, a measure as a plug-in."""

from __future__ import annotations

from dataclasses import dataclass

from open_prune import Measure, Measured, MeasuredRun, Measuring, StepOptions, hparam


@dataclass(frozen=True, kw_only=True)
class DistanceOptions(StepOptions):
    """State to measure, and the kind of distance."""

    relative: bool = hparam(False)
    """Divide each distance by the norm of the layer's first weights."""


def distance(measuring: Measuring, options: DistanceOptions, run: MeasuredRun) -> Measured:
    """Return |w_t - w_0| of each weight tensor, w_t at the step of the options, and the largest of them."""
    import torch

    first, later = run.state(run.description.start), run.state(options.step)
    layers = [name for name, weight in first.items() if weight.dim() > 1]
    distances = []
    for done, name in enumerate(layers, start=1):
        weight = first[name].to(measuring.device)
        moved = torch.linalg.vector_norm(later[name].to(measuring.device) - weight)
        distances.append(float(moved / torch.linalg.vector_norm(weight) if options.relative else moved))
        measuring.progress("distance", done, len(layers), "layers")
    return Measured(values={"largest_distance": max(distances)}, table={"layer": layers, "distance": distances})


DISTANCE = Measure(
    spelling="distance",
    summary="how far weights are from where training began",
    options=DistanceOptions,
    compute=distance,
)
