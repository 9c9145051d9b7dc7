"""The flags of all commands that compute runs, with those that only some values of other flags add."""

from __future__ import annotations

from branches.registry import BRANCHES
from cli.commands.branch import flags_of
from cli.commands.lottery import LOTTERY
from datasets.registry import DATASETS
from foundations.description.hparams import Hparams
from models.registry import FAMILIES


def owned_options(name: str, group: type[Hparams]) -> list[type[Hparams]]:
    """Return the classes of options that values of a group's flags add. name: the group's."""
    owned = [*group.owners().values()]
    owned += [each.hparams for each in FAMILIES if each.hparams] if name == "model" else []
    return owned + ([each.hparams for each in DATASETS if each.hparams] if name == "dataset" else [])


def names_of_all_flags() -> set[str]:
    """Return the names of the flags of all commands that compute runs, whatever adds them."""
    groups = {(name, group) for flags in (LOTTERY, *map(flags_of, BRANCHES)) for name, group in flags.groups.items()}
    return {field for name, group in groups for kind in (group, *owned_options(name, group)) for field in kind.names()}
