"""Recipes: the hyperparameters that `--default_hparams` sets, one file for each code base.

A recipe belongs to a family of networks, under the family's own names, or has a name that stands for a network and
everything else that a paper's code base does with it: `grasp_vgg_19` for `cifar_vgg_19` with GraSP's initialization,
data and training. The name of a recipe is not a hyperparameter and is part of no address. Recipes do not set pruning,
so that they fit any strategy: the code of Synaptic-Flow, ToST, PHEW and GraSP scores with `--score_batches_equally`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from datasets.hparams import DatasetHparams
from foundations.description.hparams import Hparams
from foundations.errors import PluginError, UsageError, did_you_mean
from foundations.plugins.users_code import place_of_entry
from foundations.registry import Registered, Registry, load
from models.family import Family
from models.hparams import ModelHparams
from models.registry import FAMILIES, canonical_model_name
from training.hparams import TechniquesHparams, TrainingHparams

NOT_MEASURED = "not measured"
"""Stands for the result of a recipe in lists, where open_prune has none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(Registered):
    """Hyperparameters under a name, or under all names of one pattern."""

    source: str
    """The paper or code base of the recipe."""
    model: str = ""
    """The network's name, with the pattern's groups in braces: `cifar_resnet_{depth}_32`; the recipe's own without."""
    hparams: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters by name, without `model_name`."""
    lottery: Mapping[str, Any] = field(default_factory=dict)
    """Further hyperparameters, for the lottery only, such as tensors that it does not prune."""
    reached: Mapping[str, str] = field(default_factory=dict)
    """Results that were measured with open_prune, by the recipe's names: the headline metric, n and hardware."""

    @classmethod
    def of_family(
        cls,
        family: Family,
        hparams: Mapping[str, Any],
        lottery: Mapping[str, Any] | None = None,
        reached: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the recipe with the names of a family."""
        return cls(
            spelling=family.spelling,
            pattern=family.pattern,
            examples=family.examples,
            source=family.source,
            hparams=hparams,
            lottery=lottery or {},
            reached=reached or {},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names to list."""
        return self.examples or (self.spelling,)


class RecipeRegistry(Registry[Recipe]):
    """The recipes of the TOML files beside this file, and those of plug-ins."""

    def _declared_in(self, module: str) -> Iterable[object]:
        """Read one of the files."""
        found: Iterable[Recipe] = load("training.recipes.files:recipes_in")(module)
        return found


RECIPES = RecipeRegistry(
    Recipe,
    "default_hparams",
    (
        "openlth",
        "standard",
        "transformers",
        "other_inputs",
        "missing_the_mark",
        "synaptic_flow",
        "synaptic_flow_imagenet",
        "phew",
        "grasp",
        "tost",
        "tost_lottery",
        "pruning_wrapper",
    ),
)
"""In the order of lists. A file uses groups of files before it."""


def recipes() -> list[Recipe]:
    """Return all recipes. Families without a file have one that sets only the network."""
    spellings = RECIPES.spellings()
    return [*RECIPES, *(Recipe.of_family(family, {}) for family in FAMILIES if family.spelling not in spellings)]


def recipe(name: str) -> dict[str, Any]:
    """Return the hyperparameters that a recipe sets, including `model_name`.

    Raises: UsageError about `default_hparams` for a name, or a depth of the network, that does not exist.
    """
    if name not in RECIPES and name in FAMILIES:
        return {"model_name": canonical_model_name(name)}
    found, groups = RECIPES.match(name)
    try:
        model = canonical_model_name(found.model.format(**groups) or name)
    except UsageError as error:
        raise UsageError(error.reason, "default_hparams") from error
    values = {"model_name": model, **found.hparams}
    if found.plugin is not None:
        _check_values(found, values)
    return values


def _check_values(found: Recipe, values: Mapping[str, Any]) -> None:
    """Check the hyperparameters of a plug-in's recipe. Raises: PluginError that names an unknown one."""
    from pruning.hparams import PruningHparams  # for plug-ins only

    place = f"{place_of_entry(found)}: the recipe '{found.spelling}'"
    try:
        kinds: list[type[Hparams]] = [DatasetHparams, ModelHparams, TrainingHparams, TechniquesHparams, PruningHparams]
        groups = [kind.of(values) for kind in kinds]
    except UsageError as error:
        raise PluginError(f"{place} has a value that is not valid: {error}") from error
    known = [name for group in groups for name in group.names()]
    for name in found.hparams:
        if name not in known:
            raise PluginError(f"{place} sets {name}, which is not a hyperparameter.{did_you_mean(name, known)}")


def lottery_recipe(name: str) -> dict[str, Any]:
    """Return the hyperparameters of a recipe, including those for the lottery only. Raises: as `recipe`."""
    own: Mapping[str, Any] = RECIPES.find(name).lottery if name in RECIPES else {}
    return {**recipe(name), **own}
