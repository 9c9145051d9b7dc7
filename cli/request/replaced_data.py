"""Recipes whose dataset or network a flag replaces: their values that do not fit are left out, and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from cli.request.flags import Flags, RunOf, arguments_of, is_given, value_of
from datasets.registry import DATASETS
from foundations.errors import UsageError
from models.registry import check_takes

_REPLACED = ("dataset_name", "model_name")


def parsed_over(
    flags: Flags,
    argv: Sequence[str],
    recipe: Mapping[str, Any],
    site: Mapping[str, Any],
    run_of: RunOf | None,
    check: Callable[[Any], object],
) -> SimpleNamespace:
    """Return the groups of a command line over a recipe and a site's settings, and `left_out`, a line for users.

    Where a flag replaces the dataset or the network, the first error is that they do not suit each other. Else values
    of the recipe that cause errors are left out, and named in the line: nobody gave them.
    check: raises UsageError for values that do not fit. Raises: UsageError; HelpRequested.
    """
    if all(value_of(name, argv) in (None, recipe.get(name)) for name in _REPLACED):
        return _with_line(flags.parse(argv, {**site, **recipe}, run_of), "")
    kept, left_out = dict(recipe), dict[str, Any]()
    while True:
        try:
            parsed = flags.parse(argv, {**site, **kept}, run_of)
            check(parsed)
        except UsageError as error:
            _check_pair(argv, recipe)
            of_recipe = [name for name in error.hparams if name in kept and not _is_given(name, argv)]
            if not of_recipe or len(of_recipe) < len(error.hparams):
                raise
            left_out |= {name: kept.pop(name) for name in of_recipe}
        else:
            named = " and ".join(f"{name}={value_of(name, argv)}" for name in _REPLACED if is_given(name, argv))
            values = " ".join(arguments_of(left_out))
            return _with_line(parsed, f"Of the recipe, not possible with {named}: {values}" if left_out else "")


def _with_line(parsed: SimpleNamespace, line: str) -> SimpleNamespace:
    return SimpleNamespace(**vars(parsed), left_out=line)


def _is_given(name: str, argv: Sequence[str]) -> bool:
    return is_given(name, argv) or is_given(f"no_{name}", argv)


def _check_pair(argv: Sequence[str], recipe: Mapping[str, Any]) -> None:
    """Raise UsageError if the network does not take the dataset. Unknown names have an error of their own."""
    dataset, model = (value_of(name, argv) or recipe.get(name) for name in _REPLACED)
    if dataset is None or model is None:
        return
    spec = DATASETS.find(dataset)
    check_takes(model, spec.inputs_of(spec.input_shape), dataset)
