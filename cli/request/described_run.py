"""Flags that name a run by the command that would compute it: such runs need not exist, and are planned first."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.request.flags import arguments_of, is_given, value_of
from cli.request.help import split_help
from cli.request.job_flags import JobHparams
from cli.request.request import REQUESTS, Request
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.registry import load

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDERS = ("root", "datasets_root")
"""Flags of the job that cannot be others in the described command."""


def words_of(text: str) -> Sequence[str]:
    """Return the words of a text that is the command of a run, such as 'branch train oneshot --density=0.2'.

    Empty for other texts, such as an address: a single word is one. Raises: UsageError for quotes that do not match.
    """
    first, space, _ = text.strip().partition(" ")
    if first not in REQUESTS or not space:
        return ()
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is not a command: {error}.") from error


def _takes_training(words: Sequence[str]) -> bool:
    """Return whether a command takes the flags of a training: not a branch of a run that an address names."""
    return words[0] != "branch" or words[1:2] in (["train"], ["lottery"])


def described_run(words: Sequence[str], groups: Iterable[Hparams], job: JobHparams, environment: Environment) -> RunRef:
    """Return the run that a command computes, as a run of the job's replicate names it.

    Flags that the command does not give are those of `groups` (dataset, network and training), unless it gives
    --default_hparams; its replicate is by default the job's, and its folders are the job's.
    Raises: UsageError, also where the command computes several runs.
    """
    own = list(words)
    flags = next((place for place, word in enumerate(own) if word.startswith("-")), len(own))
    for name in _FOLDERS:
        if is_given(name, own):
            raise UsageError(f"the described run has the folders of this one; give --{name} outside its command.")
    shared = {name: getattr(job, name) for name in (*_FOLDERS, "replicate") if not is_given(name, own)}
    taken = {name: value for name, value in shared.items() if value is not None}
    if value_of("default_hparams", own) is None and _takes_training(own):
        taken |= {name: value for group in groups for name, value in group.values().items()}
    arguments = arguments_of({name: value if isinstance(value, bool) else str(value) for name, value in taken.items()})
    if split_help(own)[0] is not None:
        raise UsageError("--help is not expected in the command of a run.")
    try:
        request: Request = load(REQUESTS[own[0]])([*own[1:flags], *arguments, *own[flags:]], environment)
    except UsageError as error:
        if not error.hparams:
            raise
        wrong = ", ".join(f"--{name}" for name in error.hparams)  # not the flag that takes the command
        raise UsageError(f"in its command, {wrong}: {error.reason}") from error
    if len(request.targets) != 1:
        last = list(request.targets)[-1]
        how = f", such as by --levels={last}-{last}" if "lottery" in own[:2] else ""
        runs = f"{request.series} {', '.join(request.targets)}".strip()
        raise UsageError(f"'{shlex.join(words)}' computes several runs ({runs}); name one{how}.")
    (target,) = request.targets.values()
    return RunRef(target.desc, None if target.replicate == job.replicate else target.replicate)
