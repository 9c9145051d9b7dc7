"""Unit-wise conservation of scores (Tanaka et al. 2020, theorem 1 and figure 3).

For every hidden unit u, with the scores S of all weights w and of its bias b,

    in(u) = Σ_{w into u} S(w) + S(b_u),   out(u) = Σ_{w out of u} S(w).

The two are equal for scores that are synaptic saliencies, w ∂R/∂w. This holds for SynFlow, whose network is linear for
its positive input, but not for magnitude, and not for SNIP, which takes absolute values. Batch normalization is
between the two: at initialization, and in eval mode, it only scales a unit, which conserves. Its shift adds to `out`
but not to `in`; like Synaptic-Flow's code, this measure leaves the scores of batch normalization out.

That code considers only convolutions (its figure has the 4,992 hidden units between the convolutions of a VGG-19). Here
linear layers count too. If one follows a convolution, a unit's outgoing weights are those of all its positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.measures.measure import Measure, Measured
from analysis.measures.scores import ScoringOptions, bias_of, score
from analysis.measures.statistics import correlation
from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring
    from pruning.paths.graph import Graph, Node


def compute(measuring: Measuring, options: ScoringOptions, run: MeasuredRun) -> Measured:
    """Return the correlation of in and out and their largest relative deviation, |in - out| / max(|in|, |out|).

    The table has a row for each hidden unit: the layer that has it as an output, its number there, in and out.
    Raises: UsageError for a network with more than one path from layer to layer, such as a ResNet; as `scores.score`.
    """
    from pruning.paths.graph import trace

    model = run.model(options.step).to(measuring.device)
    pairs = consecutive_layers(trace(model, run.inputs))
    return by_unit(pairs, score(measuring, run, options, model))


def by_unit(pairs: Sequence[tuple[Node, Node, int]], scores: Mapping[str, Tensor]) -> Measured:
    """Return the same as `compute`, from scores by name. pairs: from `consecutive_layers`."""
    from pruning.paths.connectivity import sums_by_unit

    layers: list[str] = []
    units: list[int] = []
    into: list[float] = []
    out_of: list[float] = []
    for first, second, repeat in pairs:
        name, following = str(first.layer), str(second.layer)
        entering, leaving = sums_by_unit(first, scores[name])[0], sums_by_unit(second, scores[following])[1]
        if bias_of(name) in scores:
            entering = entering + scores[bias_of(name)]
        layers += [name] * first.units
        units += range(first.units)
        into += entering.tolist()
        out_of += leaving.view(-1, repeat).sum(1).tolist()
    deviations = [abs(a - b) / max(abs(a), abs(b)) for a, b in zip(into, out_of, strict=True) if a or b]
    return Measured(
        values={"correlation": correlation(into, out_of), "max_relative_deviation": max(deviations, default=0.0)},
        table={"layer": layers, "unit": units, "in": into, "out": out_of},
    )


def consecutive_layers(graph: Graph) -> list[tuple[Node, Node, int]]:
    """Return the consecutive layers of a chain, with the number of inputs of the second per unit of the first.

    Raises: UsageError if the graph is not a chain of layers, or a layer's weight is not a parameter.
    """
    pairs: list[tuple[Node, Node, int]] = []
    for second in (node for node in graph.nodes if node.kind == "layer"):
        first, repeat = second.inputs[0], 1
        while first.kind == "flatten":
            first, repeat = first.inputs[0], repeat * first.repeat
        if first.kind == "layer":
            pairs.append((first, second, repeat))
    number = sum(node.kind == "layer" for node in graph.nodes)
    is_chain = len({first for first, _, _ in pairs}) == len(pairs) == number - 1
    if not is_chain or any(node.kind in ("sum", "concat") for node in graph.nodes):
        raise UsageError(
            "a unit of this network feeds several layers, or is a sum of units, as in ResNets; conservation by unit is "
            "measured where each layer feeds just the next one, as in VGG, LeNet and convnets."
        )
    if len(graph.layers) < number:
        raise UsageError("the weight of a layer of this network is not one of its parameters.")
    return pairs


UNIT_CONSERVATION = Measure(
    spelling="unit_conservation",
    summary="sums of the scores into and out of each hidden unit",
    paper="Tanaka et al. 2020, Pruning neural networks without any data (SynFlow), figure 3",
    options=ScoringOptions,
    compute=compute,
    scores_with=lambda options: options.pruning,
)
