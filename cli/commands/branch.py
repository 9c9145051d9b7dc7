"""The command that branches a run: branch PARENT NAME."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from branches.desc import BranchDesc
from branches.kinds import load_ref
from branches.lottery.lottery import parse_levels
from branches.named.branch import Branch, main_run
from branches.registry import BRANCHES
from cli.commands.jobs import (
    COMPUTING,
    TRAIN,
    parent_desc,
    parse_job,
    series_request,
    single_request,
    taken_by_default,
)
from cli.commands.lottery import PREFIX, level_flags_of, lottery_defaults, lottery_of, naming_flags_of, of_branch
from cli.display.plain_table import table
from cli.request.described_run import described_run, words_of
from cli.request.flags import Flags, Groups, HelpRequested, RunOf, is_given, positional, value_of
from cli.request.help import split_help
from cli.request.job_flags import JobHparams
from cli.request.request import Request, run_request
from foundations.description.address import MAIN
from foundations.description.desc import Desc, RunRef
from foundations.description.hparams import Hparams
from foundations.description.step import BEST
from foundations.environment import Environment
from foundations.errors import UsageError, did_you_mean
from foundations.plugins.users_code import returned
from foundations.program import PROGRAM
from foundations.storage.run import Run
from foundations.storage.store import find_run
from pruning.hparams import PruningHparams
from pruning.level import LEVELS
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.recipes import lottery_recipe

_STEP, _EXPERIMENT = "_step", "_experiment"
"""Suffixes of the flags for a state of a run: the step, and the run."""
_TRAINING = ("dataset", "model", "training")
"""The groups of flags that say how a network trains, without techniques."""
_OF_ADDRESS = Flags("branch ADDRESS", "", techniques=TechniquesHparams, **COMPUTING)
"""The flags of a branch of a run that is named by its address: how it trains is known, but for techniques."""


def branch(argv: Sequence[str], environment: Environment) -> int:
    """`branch PARENT NAME`: compute a branch and the runs that it needs, or reuse it."""
    return run_request(branch_request(argv, environment), environment)


def branch_request(argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of a `branch` command. Raises: UsageError, HelpRequested."""
    names, rest = positional(argv)
    usage = f"usage: {PROGRAM} branch PARENT BRANCH [FLAGS]    (PARENT: train, lottery, or a run's address)"
    if names in ([], ["train"], ["lottery"]) and (not rest or split_help(rest)[0] is not None):
        parent = names[0] if names else "train"
        raise HelpRequested(f"{usage}\n\n{list_branches()}\n\n`branch {parent} BRANCH --help` lists the flags.")
    if len(names) != 2:
        raise UsageError(f"branch takes a parent and the branch's name, such as: branch train oneshot.\n{usage}")
    parent, name = names
    if name not in BRANCHES:
        raise UsageError(BRANCHES.unknown(name, "is not a branch").reason)
    found = BRANCHES.find(name)
    if parent == "lottery":
        return _of_levels(found, rest, environment)
    if parent == "train":
        flags = parse_job(flags_of(found), rest, environment, _run_of(None, environment))
        run = RunRef(parent_desc(flags))
    else:
        flags, run = _by_address(found, parent, rest, environment)
    own = _with_best_steps(flags.branch, run, flags.job.root_in(environment), flags.job.replicate)
    pruning, first_line = getattr(flags, "pruning", PruningHparams()), _defaults(found, flags, rest)
    _check_set(found, rest, {**pruning.values(), **own.values()})
    descs = _described(found, run, pruning, own, flags.techniques)
    if found.describe_each is None:
        return single_request(descs[""], flags, first_line)
    return series_request(descs, flags, found.each, first_line)


def _of_levels(found: Branch, argv: Sequence[str], environment: Environment) -> Request:
    """Return the request of `branch lottery NAME`: the branch of each chosen level. Raises: UsageError."""
    run_of = _run_of(None, environment)
    flags = parse_job(level_flags_of(found), argv, environment, run_of, recipe_of=lottery_recipe)
    wanted, levels = parse_levels(flags.lottery.levels), lottery_of(flags)
    descs: dict[str, Desc] = {}
    with naming_flags_of(flags.branch):
        pruning, own = of_branch(found, flags)
    _check_set(found, argv, {**pruning.values(), **own.values()}, flags.branch.names())
    for number, desc in levels.levels(max(wanted)):
        if number in wanted:
            with naming_flags_of(flags.branch):
                level = levels.as_parent(desc)
                best = _with_best_steps(own, level, flags.job.root_in(environment), flags.job.replicate)
                described = _described(found, level, pruning, best, TechniquesHparams())
            descs |= {f"{number} {name}".strip(): each for name, each in described.items()}
    amount = _amount(found, pruning, own, PREFIX)
    return series_request(descs, flags, "level", lottery_defaults(flags, argv, *amount))


@functools.lru_cache(maxsize=1024)
def _described(
    found: Branch, run: RunRef, pruning: PruningHparams, own: Hparams, techniques: TechniquesHparams
) -> Mapping[str, Desc]:
    """Return the descriptions of a branch by name, one without a name; the replicates of a sweep share them."""
    finish = partial(_with_techniques, techniques)
    if found.describe_each is None:
        return {"": finish(returned(found.describe(run, pruning, own), Desc, found.describe, found))}
    each = returned(found.describe_each(run, pruning, own, finish), Mapping, found.describe_each, found)
    return {str(name): returned(desc, Desc, found.describe_each, found) for name, desc in each.items()}


def _check_set(found: Branch, argv: Sequence[str], values: Mapping[str, Any], of_levels: Collection[str] = ()) -> None:
    """Raise UsageError if a flag is given another value than the one that the branch sets.

    values: of the flags, by name. of_levels: the names of the flags of a branch of levels.
    """
    for name, value in found.sets.items():
        flag = PREFIX + name if PREFIX + name in of_levels else name
        if is_given(flag, argv) and values.get(name) != value:
            raise UsageError(
                f"the branch {found.spelling} sets it to {value}; leave it out, or branch by oneshot.", flag
            )


def _defaults(found: Branch, flags: Any, argv: Sequence[str]) -> str:
    """Return a line with the defaults of the flags of pruning and techniques that were not given."""
    choices = list(flags.techniques.choices)
    if found.prunes:
        strategy = [] if "strategy" in found.sets else [({"strategy": flags.pruning.strategy}, ("strategy",))]
        choices = [*strategy, *_amount(found, flags.pruning, flags.branch), *choices]
    return taken_by_default(argv, *choices)


def _amount(
    found: Branch, pruning: PruningHparams, own: Hparams, prefix: str = ""
) -> list[tuple[Mapping[str, Any], Sequence[str]]]:
    """Return the value of the flag for the amount that a branch prunes, and the flags of which any one gives it."""
    if not found.prunes or pruning.structure is not None or found.sets.keys() & set(LEVELS):
        return []
    if found.levels:
        return [({found.levels: getattr(own, found.levels)}, (found.levels,))]
    amounts = [prefix + name for name in LEVELS]
    return [({amounts[0]: pruning.level}, amounts)]


def _with_techniques(techniques: TechniquesHparams, desc: Desc) -> Desc:
    """Return the description of a branch with techniques added after the branch's own."""
    if not techniques.parts:
        return desc
    if not isinstance(desc, BranchDesc):
        raise UsageError("this branch trains in a way of its own and takes no techniques.", "technique")
    return replace(desc, techniques=techniques.after(desc.techniques))


def _with_best_steps(flags: Hparams, parent: RunRef, root: Path, replicate: int) -> Hparams:
    """Replace `best` in a branch's flags by the best step of the run named beside it, or of the parent."""
    steps = {}
    for name in flags.names():
        if name.endswith(_STEP) and getattr(flags, name) == BEST:
            ref = getattr(flags, name.removesuffix(_STEP) + _EXPERIMENT, None) or parent
            run = Run(root, ref.location(replicate))
            best = run.best_step(ref.desc.iterations_per_epoch) if run.manifest() else None
            if best is None:
                why = "measured nothing on held out examples" if run.manifest() else "is not complete"
                raise UsageError(f"{run} {why}, so it has no best state.", name)
            steps[name] = str(best)
    return flags.replaced(steps)


def list_branches() -> str:
    """Return a table of the branches, with a summary of each."""
    rows = [{"branch": each.spelling, "what it does": summary_of(each.describe)} for each in BRANCHES]
    return table(rows, ("branch", "what it does"))


def summary_of(function: Any) -> str:
    """Return the first line of a function's docstring, or nothing where it has none."""
    return next(iter((function.__doc__ or "").splitlines()), "")


def _by_address(
    found: Branch, address: str, argv: Sequence[str], environment: Environment
) -> tuple[SimpleNamespace, RunRef]:
    """Return the flags of a branch of a run that an address names, and the run."""
    root = value_of("root", argv)
    arguments = [] if root is None else [f"--root={root}"]
    job: JobHparams = parse_job(_OF_ADDRESS, arguments, environment).job
    run = _parent(job.root_in(environment), address)
    replicate = run.location.replicate
    parent = load_ref(run, replicate)
    flags = parse_job(flags_of(found, address), argv, environment, _run_of(parent, environment, replicate))
    flags.job = replace(flags.job, replicate=replicate)
    return flags, parent


def _parent(root: Path, address: str) -> Run:
    """Return the run of an address. Raises: UsageError, which suggests `train` and `lottery` where one is meant."""
    try:
        return find_run(root, address)
    except UsageError as error:
        meant = did_you_mean(address, ("train", "lottery")) if address.isalpha() else ""  # addresses have digits
        raise UsageError(f"{error.reason}{meant}") from error


def _run_of(parent: RunRef | None, environment: Environment, replicate: int | None = None) -> RunOf:
    """Return a function from the text of a flag to a run.

    The text is `main`, a directory's name, any prefix of an address, or the command of a run.
    """

    def run_of(text: str, groups: Groups) -> RunRef:
        job: Any = groups["job"]
        number = job.replicate if replicate is None else replicate
        if words := words_of(text):
            training = (groups[name] for name in _TRAINING) if parent is None else _groups_of(main_run(parent))
            return described_run(words, training, replace(job, replicate=number), environment)
        if text != MAIN:
            return load_ref(find_run(job.root_in(environment), text, prefer=number), number)
        if parent is not None:
            return main_run(parent)
        own = (*_TRAINING, *(["techniques"] if "lottery" in groups else []))
        parts: dict[str, Any] = {name: groups[name] for name in own}
        return RunRef(TrainDesc(**parts))

    return run_of


def _groups_of(run: RunRef) -> list[Hparams]:
    """Return the hyperparameters of a run's training, without techniques."""
    fields = run.desc.fields()
    return [fields[name] for name in _TRAINING]


@functools.lru_cache(maxsize=256)
def flags_of(found: Branch, parent: str = "train") -> Flags:
    """Return the flags of a branch: the parent's (unless an address says it), pruning's and its own."""
    groups = TRAIN.groups if parent == "train" else _OF_ADDRESS.groups
    pruning = {"pruning": PruningHparams} if found.prunes else {}
    command, summary = f"branch {parent} {found.spelling}", found.describe.__doc__ or ""
    return Flags(command, summary, **groups, **pruning, branch=found.flags)
