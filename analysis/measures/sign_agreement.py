"""Agreement of signs: with the dense solution, and with the initialization.

    agreement = |{i kept: sign(w_i) = sign(v_i)}| / |{i kept}|,

with w the run's weights, and v the last weights of its dense training (with_dense), or the run's first weights
(with_start). Much of a ticket's information is in the signs of the dense solution (Zhou et al. 2019).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.measures.layers import in_order
from analysis.measures.measure import Columns, Measure, Measured, StepOptions

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(_: Measuring, options: StepOptions, run: MeasuredRun) -> Measured:
    """Return with_start and, for a branch, with_dense, over all kept weights. The table has them by layer.

    Empty layers, and layers that the dense network lacks, are NaN and do not count in the total.
    Raises: EnvironmentFailure if the dense training is not complete.
    """
    model = run.network()
    mask = run.mask_of(model)
    layers = in_order(model, mask)
    kept, weights = mask.kept_per_layer(), run.state(options.step)
    others = {"with_start": run.state(run.description.start)}
    if run.location != run.main.location:
        dense = run.main
        others = {"with_dense": dense.state(dense.description.end), **others}
    table: Columns = {"layer": layers, "kept": [kept[name] for name in layers]}
    values = {}
    for name, other in others.items():
        agreeing = {
            layer: int((weights[layer].sign() == other[layer].sign())[mask[layer]].sum())
            for layer in layers
            if layer in other and other[layer].shape == weights[layer].shape
        }
        table[name] = [_share(agreeing[layer], kept[layer]) if layer in agreeing else math.nan for layer in layers]
        values[name] = _share(sum(agreeing.values()), sum(kept[layer] for layer in agreeing))
    return Measured(values=values, table=table)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


SIGN_AGREEMENT = Measure(
    spelling="sign_agreement",
    summary="share of the kept weights with the sign that they have in the dense solution, and at the start",
    paper="Zhou et al. 2019, Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
    options=StepOptions,
    compute=compute,
)
