"""Layer-wise conservation of scores (Tanaka et al. 2020, theorem 2 and figure 4).

If scores are conserved, every layer has the same sum of scores, so the average is inversely proportional to the size:

    average(l) = |Σ_{w in l} S(w)| / n_l   against   1 / n_l,

over the weights and biases of layer l, n_l of them. In log-log coordinates the points are then on a line of slope 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.measures.measure import Measure, Measured
from analysis.measures.scores import ScoringOptions, bias_of, score
from analysis.measures.statistics import power_law

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(measuring: Measuring, options: ScoringOptions, run: MeasuredRun) -> Measured:
    """Return correlation and slope of log average over log 1 / size.

    The table has a row for each layer, in the network's order. Raises: as `scores.score`.
    """
    model = run.model(options.step).to(measuring.device)
    scores = score(measuring, run, options, model)
    layers = [name for name, _ in model.named_parameters() if name in scores and scores[name].dim() > 1]
    sizes, averages = [], []
    for name in layers:
        parts = [scores[part] for part in (name, bias_of(name)) if part in scores]
        size = sum(part.numel() for part in parts)
        sizes.append(size)
        averages.append(abs(sum(float(part.sum()) for part in parts)) / size)
    inverse = [1 / size for size in sizes]
    return Measured(
        values=power_law(inverse, averages),
        table={"layer": layers, "size": sizes, "inverse_size": inverse, "average_score": averages},
    )


LAYER_CONSERVATION = Measure(
    spelling="layer_conservation",
    summary="average score of each layer against its inverse size",
    paper="Tanaka et al. 2020, Pruning neural networks without any data (SynFlow), figure 4",
    options=ScoringOptions,
    compute=compute,
    scores_with=lambda options: options.pruning,
)
