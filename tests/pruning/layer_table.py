"""The table of docs/prunable_table.md: the pruned tensors of each type of layer. `python -m tests.pruning.layer_table`.

It is computed by pruning each layer, so it says what the code does; tests compare it with the page.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from foundations.errors import UsageError
from pruning.prune import prune
from tests.conftest import REPOSITORY
from tests.pruning.layer_types import (
    LAZY_LAYERS,
    OTHER_LAYERS,
    PRUNABLE_COMPUTATIONS,
    REFUSED_COMPUTATIONS,
    TORCH_LAYERS,
    in_a_network,
)

PAGE = REPOSITORY / "docs" / "prunable_table.md"
START, END = "<!-- table of layers: start -->", "<!-- table of layers: end -->"
_HEADER = ("layer", "pruned by default", "asked for by type", "with prune_bias, also", "with prune_batchnorm, also")


def table() -> str:
    """Return the tables as Markdown."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, make in {**TORCH_LAYERS, **OTHER_LAYERS}.items():
        rows.setdefault(_cells(make()), []).append(name)
    lazy = f"{', '.join(LAZY_LAYERS)}: refused until they have run once; then they are layers of the types above."
    computed = [(name, "pruned and counted like a plain weight") for name in PRUNABLE_COMPUTATIONS]
    computed += [(name, _refusal(name)) for name in REFUSED_COMPUTATIONS]
    parts = (
        markdown(_HEADER, ((", ".join(names), *cells) for cells, names in rows.items())),
        lazy,
        markdown(("a weight computed by", "what happens to it"), computed),
    )
    return "\n\n".join(parts)


def page_with(text: str, content: str) -> str:
    """Return a page with `content` between its markers."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{content}\n\n{END}{rest.partition(END)[2]}"


def _cells(layer: nn.Module) -> tuple[str, ...]:
    network, kind = in_a_network(layer), type(layer)
    default = _pruned(network)
    by_type = _pruned(network, prunable_layers=(kind,))
    biases = _pruned(network, prunable_layers=("all", kind), prune_bias=True) - by_type - default
    scales = _pruned(network, prune_batchnorm=True) - default
    return tuple(_names(names) for names in (default, by_type, biases, scales))


def _pruned(network: nn.Module, **options: Any) -> set[str]:
    """Return the names of the pruned tensors of a network's `layer`, without that prefix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = prune(network, "random", density=0.5, **options)
    return {name.removeprefix("layer.") for name in mask if name.startswith("layer.")}


def _names(names: Iterable[str]) -> str:
    """Return names for a cell; names of equal layers in a stack are written once."""
    shown = dict.fromkeys(re.sub(r"^(?:\w+\.)?layers\.\d+\.", "*.", name) for name in sorted(names))
    return ", ".join(f"`{name}`" for name in shown) or "-"


def _refusal(computation: str) -> str:
    network = in_a_network(nn.Linear(3, 5))
    REFUSED_COMPUTATIONS[computation](network["layer"], "weight")
    try:
        _pruned(network)
    except UsageError as error:
        return f"refused: {error}"
    raise AssertionError(f"{computation} is not refused")


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table as Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page_with(PAGE.read_text(), table()))
    else:
        sys.stdout.write(table() + "\n")
