"""The command that explains why another command would or would not compute something. It computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.compare.described import Described
from analysis.compare.differences import PLUGIN, VERSION
from analysis.compare.nearest import Nearest, nearest
from analysis.rows.run_row import Row, row_of
from cli.display.difference_cells import difference_cells
from cli.display.fitted_table import banded_table, terminal_width, wrapped
from cli.display.plain_table import duration, printable_lines
from cli.display.summaries import to_do
from cli.request.flags import HelpRequested
from cli.request.foreign_words import translated
from cli.request.request import REQUESTS, Request
from datasets.prepared import fingerprint
from foundations.environment import Environment
from foundations.errors import OpenPruneError, UsageError, choose_from
from foundations.plan import Plan, PlannedRun, Target, plan
from foundations.program import PROGRAM
from foundations.registry import load
from foundations.storage.run import CHECKPOINT, Run
from foundations.storage.store import of_upstream, short_address

_USAGE = f"""usage: {PROGRAM} why COMMAND FLAGS

Say whether the run of a command is there, and else which run is nearest and what differs, or what would be computed.
Nothing is computed. COMMAND is train, branch or lottery with its flags. `--plugin FILE`
loads a file of your own, as for every command.

  {PROGRAM} why branch train oneshot --strategy=snip10 --lr=0.2"""

_MOST_NEEDED = 8
"""The most runs to compute that are listed for each requested run."""


def why(argv: Sequence[str], environment: Environment) -> int:
    """`why COMMAND...`: report whether its runs exist, and why they would be computed."""
    command = _command(argv)
    if not command or command[0] in ("-h", "--help", "help"):
        raise HelpRequested(_USAGE)
    if command[0] not in REQUESTS:
        raise UsageError(f"'{command[0]}' is not a command that computes one run{choose_from(command[0], REQUESTS)}")
    request: Request = load(REQUESTS[command[0]])(command[1:], environment)
    root, datasets = request.job.root_in(environment), request.job.datasets_in(environment)
    width = terminal_width()
    parts = ["\n".join(wrapped(request.first_line, width))] if request.first_line else []
    for name, target in request.targets.items():
        heading = f"{request.series} {name}: " if name else ""
        parts.append("\n".join(_answer(heading, target, root, datasets, width)))
    print(printable_lines("\n\n".join(parts)))
    return 0


def _command(argv: Sequence[str]) -> list[str]:
    """Return the command in our words, without the program's name, which people paste too."""
    words = list(argv)
    for place, word in enumerate(words[:3]):
        if Path(word).name in ("open_prune", "open_prune.py"):
            words = words[place + 1 :]
            break
    return translated(words)


def _answer(heading: str, target: Target, root: Path, datasets: Path, width: int | None) -> Iterator[str]:
    """Yield the lines on one requested run. heading: its name among several, such as its level."""
    desc = target.desc
    row = row_of(Run(root, desc.location(target.replicate)))
    of = "" if desc.main is desc else f" of {desc.main.digest[:8]}/{target.replicate}"
    yield from wrapped(f"{heading}{short_address(row.run)}, {desc.kind}{of}", width)
    if row.status in ("damaged", "closed"):
        yield from wrapped(f"The run is there and {row.status}, so the command stops with an error:", width)
        yield row.problem
        return
    if row.status == "running":
        yield from wrapped(
            "A process is computing this run now; the command waits for it and reuses the result.", width
        )
        return
    try:
        made = plan([target], root)
        needs = made.to_do()
    except OpenPruneError as error:
        yield from wrapped("The command stops with an error, before anything is computed:", width)
        yield str(error)
        return
    other_data = [line for planned in made for line in _other_data(planned.run, datasets)]
    if row.status == "complete":
        yield from wrapped(_of_complete(row, made), width)
    elif row.status == "incomplete":
        yield from wrapped(_of_incomplete(row), width)
    else:
        yield from _of_missing(target, root, width)
    left_out = [text for planned in made for text in planned.left_out]
    yield from (line for text in (*left_out, *other_data) for line in wrapped(text, width))
    if needs:
        yield "To compute:"
        yield from map(_line, needs[-_MOST_NEEDED:])
    if len(needs) > _MOST_NEEDED:
        yield f"  and {len(needs) - _MOST_NEEDED} runs before these"


def _line(planned: PlannedRun) -> str:
    return f"  {short_address(planned.run)}  {planned.desc.kind:<8}  {planned.status:<10}  {to_do(planned)}"


def _of_complete(row: Row, made: Plan) -> str:
    age = "" if row.age is None else f", computed {duration(row.age)} ago"
    where = of_upstream(row.run.upstream)
    if made.to_do():
        how = "copied here and replayed" if row.upstream else "replayed"
        return f"The run is complete{where}{age}, but lacks states that the command asks for; it is {how} to keep them."
    return f"The run is complete{where}{age}: the command computes nothing and reuses it."


def _of_incomplete(row: Row) -> str:
    has_checkpoint = row.run.path(CHECKPOINT).exists()
    how = "goes on from its last checkpoint" if has_checkpoint else "begins it again: it has no checkpoint"
    failed = row.run.failure()
    why_ = " Its last process failed (see `show`)." if failed else ""
    return f"The run was begun and is not complete; the command {how}.{why_}"


def _of_missing(target: Target, root: Path, width: int | None) -> Iterator[str]:
    found = nearest(Described.asked(target.desc, target.replicate), root)
    if found is None:
        yield from wrapped("There is no such run, and no other one to compare with; it is computed.", width)
        return
    yield from wrapped(_reason(found), width)
    cells = [difference_cells(each) for each in found.differences]
    yield banded_table(cells, ["", found.row.address, "asked for"], width, {})


def _reason(found: Nearest) -> str:
    row = found.row
    what = f"{row.address} ({row.branch or row.kinds[0]}, {row.status}{', in an upstream' if row.upstream else ''})"
    kinds = {each.kind for each in found.differences}
    if not found.differences:
        return f"There is no such run, although {what} is described alike; it is computed."
    if kinds == {VERSION}:
        names = ", ".join(each.name.removesuffix("_version") for each in found.differences)
        return f"The version of {names} was raised since {what} was computed: results change, so it is computed again."
    if kinds == {PLUGIN}:
        names = ", ".join(f"{each.name}.py" for each in found.differences)
        return f"The plug-in {names} has changed since {what} was computed, so it is computed again."
    return f"There is no such run, so it is computed. The nearest is {what}; they differ in:"


def _other_data(run: Run, datasets: Path) -> Iterator[str]:
    """Yield a message for each dataset that has changed since a complete run used it: commands refuse such a run."""
    manifest = run.read_manifest()
    for name, recorded in (manifest.dataset if manifest else {}).items():
        found = fingerprint(name, datasets)
        if found is not None and found != recorded:
            yield (
                f"{short_address(run)} was computed from other data: the fingerprint of {name} was "
                f"{recorded[:12]}..., now it is {found[:12]}... The command stops with an error: put the former data "
                "back, or choose another root."
            )
