"""Checks the flags that plug-ins add, when these are loaded: none may have the name of another flag of its commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from foundations.description.hparams import Hparams
from foundations.errors import PluginError, UsageError
from foundations.plugins.users_code import place_of
from foundations.registry import loaded_plugins, plugin_that_declares

if TYPE_CHECKING:
    from cli.request.flags import Flags


def check_flags_of_plugins() -> None:
    """Check the options that loaded plug-ins declare. Raises: PluginError that names the file and line of the class."""
    if not loaded_plugins():
        return
    from pruning.registry import METHODS

    list(METHODS)  # refuses names that are taken, before a class is made of the options of all methods
    for flags, groups, owner in _flags_with_options():
        try:
            flags.refuse_shared_names(tuple(groups.items()))
        except UsageError as error:
            words = f"'{', '.join(error.hparams)}' of {owner.__name__}: {error.reason}"
            raise PluginError(f"{place_of(owner)}: {words}", "plugin") from error


def _flags_with_options() -> Iterator[tuple[Flags, dict[str, type[Hparams]], type[Hparams]]]:
    """Yield the flags of commands with the options of one entry of a plug-in: the flags, their groups, the options."""
    from analysis.figures.registry import FIGURES
    from analysis.measures.registry import MEASURES
    from branches.registry import BRANCHES
    from cli.commands import branch, lottery, measures, plots
    from cli.commands.all_flags import owned_options

    for flags in (branch.flags_of(BRANCHES.find("oneshot")), lottery.LOTTERY):
        for name, group in flags.groups.items():
            for options in owned_options(name, group):
                if plugin_that_declares(options) is not None:
                    yield flags, {**flags.groups, name: options}, options
    own = [
        *((branch.flags_of(each), each.flags) for each in BRANCHES if each.plugin),
        *((lottery.level_flags_of(each), each.flags) for each in BRANCHES if each.plugin),
        *((measures.flags_of(each), each.options) for each in MEASURES if each.plugin),
        *((plots.flags_of(each), each.options) for each in FIGURES if each.plugin),
    ]
    for flags, options in own:
        yield flags, flags.groups, options
