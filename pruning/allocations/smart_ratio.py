"""The smart ratio (Su et al. 2020, section 4): density falls from the input to the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from pruning.allocations.allocation import Allocation, Counts, Shape, apportion, is_convolution, within

if TYPE_CHECKING:
    from pruning.method import Method

LAST_DENSITY = Fraction(3, 10)
Form = Callable[[int, int], int | Fraction]
"""(place of a layer from the input, from 1; its place from the output, from 1) -> its density, up to a factor."""


def smart_ratio(form: Form, shapes: Mapping[str, Shape], room: Mapping[str, int], keep: int) -> Counts:
    """Return counts with densities proportional to `form`, by default k² + k for the k-th layer from the output.

    Layers are in running order. The last one keeps 0.3 of its weights, whatever the level.
    """
    *others, last = shapes
    densities = {name: form(place, len(shapes) - place + 1) for place, name in enumerate(shapes, 1)}
    proportions = {name: math.prod(shapes[name]) * densities[name] for name in others}
    of_last = min(room[last], keep, round(LAST_DENSITY * math.prod(shapes[last])))
    of_last = max(of_last, keep - sum(room[name] for name in others))
    return {last: of_last, **apportion(proportions, {name: room[name] for name in others}, keep - of_last)}


def published(form: Form, shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, _: Method) -> Counts:
    """Return the counts of the published code, which truncates, and gives a full layer's surplus to the next ones.

    Every linear layer keeps 0.3 of its weights. Where these alone are more than the level leaves, the others keep none.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    convolutions = [name for name in shapes if is_convolution(shapes[name])]
    linear = sum(size for name, size in sizes.items() if name not in convolutions)
    weights = {name: float(form(place, len(shapes) - place + 1)) for place, name in enumerate(shapes, 1)}
    goal = max(0, int(keep) - int(0.3 * linear))
    scale = goal / max(1, sum(int(sizes[name] * weights[name]) for name in convolutions))
    densities = {name: weights[name] * scale for name in convolutions}
    for place, name in enumerate(convolutions):
        surplus = int((densities[name] - 1) * sizes[name])
        if surplus <= 0:
            break
        for later in convolutions[place + 1 :]:
            missing = max(0, int((1 - densities[later]) * sizes[later]))
            filled = densities[later] + surplus / sizes[later]
            densities[later] = filled if surplus < missing else max(1.0, densities[later])
            surplus = max(0, surplus - missing)
    return within({name: densities.get(name, 0.3) * size for name, size in sizes.items()}, room)


def _allocation(spelling: str, rule: str, form: Form) -> Allocation:
    return Allocation(
        spelling=spelling,
        summary=f"{rule}, and 0.3 in the last layer",
        paper="Su et al. 2020, Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot",
        tested_against="JingtongSu/sanity-checking-pruning",
        differences=(
            "Counts add up, full layers give their surplus to all others, and the last layer alone keeps 0.3. "
            "--rounding=sanity_checking truncates, gives the surplus to the next layers, and keeps 0.3 of every "
            "linear layer. The published code has smart_ratio for ResNets, and smart_ratio_vgg for all other networks; "
            "the paper has the former alone."
        ),
        kept_per_layer=partial(smart_ratio, form),
        needs_order=True,
        published={"sanity_checking": partial(published, form)},
    )


SMART_RATIO = _allocation("smart_ratio", "denser at the input than towards the output", lambda _, k: k * k + k)
VGG = _allocation(
    "smart_ratio_vgg",
    "smart_ratio, divided by the square of the layer's place",
    lambda place, k: Fraction(k * k + k, place**2),
)
LINEAR = _allocation("smart_ratio_linear", "density falls linearly towards the output", lambda _, k: k)
CUBIC = _allocation("smart_ratio_cubic", "density falls with the third power towards the output", lambda _, k: k**3)
ASCENDING = _allocation(
    "smart_ratio_ascending", "denser at the output than towards the input", lambda place, _: place * place + place
)
EVEN = _allocation("smart_ratio_uniform", "the same density in every layer", lambda *_: 1)
