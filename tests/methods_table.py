"""docs/methods_table.md from the registries: every method, allocation and technique. `python -m tests.methods_table`.

A test compares the page with the registries; `--write` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from foundations.errors import UsageError
from pruning.allocations.allocation import Allocation
from pruning.method import Method
from pruning.registry import ALLOCATIONS, METHODS
from pruning.rounding import NEAREST, Roundings, check_rounding
from tests.conftest import REPOSITORY
from tests.pruning.layer_table import markdown
from training.registry import TECHNIQUES
from training.technique import Technique

PAGE = REPOSITORY / "docs" / "methods_table.md"
_INTRODUCTION = """# The table of methods

All methods, allocations and techniques with their papers, what they need and what they can be combined with. *Tested
against* names the code whose scores, masks, counts or trajectories [tests compare](../tests/golden/README.md); where
it is empty, they compare with the definition. Every method prunes single weights, in any network whose [weights can
be pruned](prunable.md), and every combination is open to [`prune`](library.md), to the branches and to the lottery.
[`PruningWrapper`](pruning_wrapper.md) prunes by `magnitude` and `random`.

`python -m tests.methods_table --write` makes this page from the registries."""


def page() -> str:
    """Return the page as Markdown."""
    methods, allocations, techniques = (
        [entry for entry in METHODS if entry.plugin is None],
        [entry for entry in ALLOCATIONS if entry.plugin is None],
        [entry for entry in TECHNIQUES if entry.plugin is None],
    )
    sections = (
        _INTRODUCTION,
        "## Methods",
        "Each takes any number of iterations by any schedule. *Iterations* says whether these change its masks.",
        markdown(
            ("method", "paper", "data", "passes", "allocations", "iterations", "tested against"),
            (_of_method(method) for method in methods),
        ),
        _differences(methods),
        "## Allocations",
        "`--rounding` counts as a code base does in place of exactly; here it names those of the allocation.",
        markdown(
            ("allocation", "keeps", "paper", "`--rounding`", "tested against"),
            (_of_allocation(allocation) for allocation in allocations),
        ),
        _differences(allocations),
        "## Techniques",
        "Techniques compose with each other, and with a mask of any method.",
        markdown(
            ("technique", "does", "paper", "mask", "tested against"),
            (_of_technique(technique) for technique in techniques),
        ),
        _differences(techniques),
    )
    return "\n\n".join(sections) + "\n"


def _of_method(method: Method) -> tuple[str, ...]:
    if method.is_constructive:
        allocations, iterations = "its own", "none"
    else:
        some = [entry.spelling for entry in ALLOCATIONS if entry.normalize and method.prune_direction == "highest"]
        allocations = f"all but {', '.join(some)}" if some else "all"
        iterations = (
            "pruned weights can return" if method.can_regrow else "change it" if method.depends_on_mask else "no"
        )
    return (
        f"`{method.spelling}`",
        method.paper,
        _data(method),
        method.passes,
        allocations,
        iterations,
        method.tested_against,
    )


def _data(method: Method) -> str:
    if method.needs_examples:
        return "N examples of each class"
    return "the shape of an input" if method.needs_input_shape else "none"


def _of_allocation(allocation: Allocation) -> tuple[str, ...]:
    roundings = ", ".join(f"`{name}`" for name in _roundings(allocation))
    return (f"`{allocation.spelling}`", allocation.summary, allocation.paper, roundings, allocation.tested_against)


def _roundings(allocation: Allocation) -> Iterable[str]:
    for rounding in Roundings():
        try:
            check_rounding(rounding, allocation, "exponential", 1)
        except UsageError:
            continue
        if rounding != NEAREST:
            yield rounding


def _of_technique(technique: Technique) -> tuple[str, ...]:
    mask = "changes it" if technique.changes_mask else ""
    return (f"`{technique.spelling}`", technique.summary, technique.paper, mask, technique.tested_against)


def _differences(entries: Iterable[Method | Allocation | Technique]) -> str:
    grouped: dict[str, list[str]] = {}
    for entry in entries:
        if entry.differences:
            grouped.setdefault(entry.differences, []).append(f"`{entry.spelling}`")
    return "Known differences:\n\n" + "\n".join(f"- {', '.join(names)}: {text}" for text, names in grouped.items())


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
