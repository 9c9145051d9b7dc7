"""The commands that list what there is to choose from. They import no torch, but for counting parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.flags import parse
from cli.main import Environment
from cli.table import table
from datasets.registry import DATASETS
from foundations.hparams import Hparams
from models.registry import families
from platforms.registry import PLATFORMS
from pruning.registry import STRATEGIES


@dataclass(frozen=True, kw_only=True)
class NoHparams(Hparams):
    """No flags."""


@dataclass(frozen=True, kw_only=True)
class NoFlags:
    """List what there is to choose from."""

    none: NoHparams = field(default_factory=NoHparams)


def models(argv: Sequence[str], _environment: Environment) -> int:
    """`models`: the families of networks."""
    parse(NoFlags, argv, "models", NoFlags())
    rows = [
        {"name": family.spelling, "examples": ", ".join(family.examples[:3]), "source": family.source}
        for family in families()
    ]
    print(table(rows, ("name", "examples", "source")))
    return 0


def datasets(argv: Sequence[str], _environment: Environment) -> int:
    """`datasets`: the datasets."""
    parse(NoFlags, argv, "datasets", NoFlags())
    rows = [
        {
            "name": spec.name,
            "train": f"{spec.num_train:,}",
            "test": f"{spec.num_test:,}",
            "classes": str(spec.num_classes),
            "image": "x".join(map(str, spec.input_shape)),
        }
        for spec in DATASETS
    ]
    print(table(rows, ("name", "train", "test", "classes", "image")))
    return 0


def strategies(argv: Sequence[str], _environment: Environment) -> int:
    """`strategies`: the pruning strategies."""
    parse(NoFlags, argv, "strategies", NoFlags())
    rows = [
        {"name": strategy.spelling, "prunes": f"{strategy.removes} scores", "paper": strategy.paper}
        for strategy in STRATEGIES
    ]
    print(table(rows, ("name", "prunes", "paper")))
    return 0


def platforms(argv: Sequence[str], _environment: Environment) -> int:
    """`platforms`: the platforms."""
    parse(NoFlags, argv, "platforms", NoFlags())
    rows = [{"name": name, "runs": (kind.__doc__ or "").split(".")[0]} for name, kind in PLATFORMS.items()]
    print(table(rows, ("name", "runs")))
    return 0
