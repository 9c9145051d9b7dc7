"""The command that branches a run: branch PARENT NAME."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

from branches.desc import NO_PRUNING
from branches.lineage import Parent, job_of, parent_of
from branches.named import BRANCHES, NamedBranch
from cli.addresses import find_run
from cli.flags import positional
from cli.job_flags import JobHparams, root_of
from cli.jobs import TrainFlags, parse_job, run_job
from cli.lottery import branch_lottery
from cli.main import Environment
from cli.table import table
from foundations.errors import UsageError, did_you_mean
from foundations.hparams import Hparams
from platforms.base import PlatformHparams
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class AddressFlags:
    """Branch a run that is named by its address: how it trains is known."""

    job: JobHparams = field(default_factory=JobHparams)
    platform: PlatformHparams = field(default_factory=PlatformHparams)


def branch(argv: Sequence[str], environment: Environment) -> int:
    """`branch PARENT NAME`: compute a branch, making what it needs of its parent, or reuse it."""
    names, rest = positional(argv)
    usage = "usage: python open_prune.py branch PARENT BRANCH [FLAGS]    (PARENT: train, lottery, or a run's address)"
    if not names and (not rest or rest[0] in ("-h", "--help")):
        rows = [{"branch": name, "what it does": named.summary} for name, named in BRANCHES.items()]
        print(f"{usage}\n\n{table(rows, ('branch', 'what it does'))}\n\n`branch train BRANCH --help` lists the flags.")
        return 0
    if len(names) != 2:
        raise UsageError(f"branch takes a parent and the branch's name, such as: branch train oneshot.\n{usage}")
    parent_name, name = names
    if parent_name == "lottery":
        return branch_lottery(name, rest, environment)
    if name not in BRANCHES:
        raise UsageError(f"'{name}' is not a branch.{did_you_mean(name, BRANCHES)} Possible: {', '.join(BRANCHES)}.")
    kind = _flags_of(BRANCHES[name], of_train=parent_name == "train")
    flags = parse_job(kind, rest, f"branch {parent_name} {name}", environment)
    if parent_name == "train":
        parent = Parent(flags.train_desc())
    else:
        run = find_run(root_of(flags.job, environment), parent_name)
        parent = parent_of(run)
        flags = replace(flags, job=replace(flags.job, replicate=run.location.replicate))
    pruning = getattr(flags, "pruning", NO_PRUNING)
    desc = BRANCHES[name].describe(parent, pruning, flags.branch)
    return run_job(job_of(desc), flags.job, flags.platform, environment)


def _flags_of(named: NamedBranch, of_train: bool) -> Any:
    """Return the dataclass of a branch's flags: the trunk's (unless an address says it), pruning's and its own."""
    groups: list[type[Hparams]] = [PruningHparams] if named.prunes else []
    names = ["pruning"] if named.prunes else []
    kind = make_dataclass(
        "BranchFlags",
        [
            (name, group, field(default_factory=group))
            for name, group in zip([*names, "branch"], [*groups, named.flags], strict=True)
        ],
        bases=(TrainFlags if of_train else AddressFlags,),
        frozen=True,
        kw_only=True,
    )
    kind.__doc__ = named.describe.__doc__
    return kind
