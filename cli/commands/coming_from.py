"""The command that prints our words for those of another code base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cli.display.plain_table import table
from cli.request.flags import command
from cli.request.foreign_words import CodeBase, code_bases
from foundations.description.hparams import Hparams, hparam
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from

_COLUMNS = ("there", "here", "note")
ACCEPTED = "accepted as it stands"
"""The note on a word that needs no translation."""


@dataclass(frozen=True, kw_only=True)
class ComingFromHparams(Hparams):
    """The form of the table."""

    format: str = hparam("text", choices=("text", "markdown"))
    """text, or markdown as in docs/coming_from.md."""


@command(output=ComingFromHparams)
def coming_from(names: list[str], environment: Environment, output: ComingFromHparams) -> int:  # noqa: ARG001
    """Print our words for those of another code base: coming-from NAME. Without a name, list the code bases."""
    bases = {base.name: base for base in code_bases()}
    if len(names) > 1:
        raise UsageError("coming-from takes nothing, or the name of one code base: coming-from synaptic-flow.")
    chosen = [_named(name, bases) for name in names] or list(bases.values())
    if output.format == "markdown":
        print("\n\n".join(map(markdown, chosen)))
    elif names:
        print(f"{chosen[0].title}: {chosen[0].source}\n\n{table(_rows(chosen[0]), _COLUMNS)}")
    else:
        rows = [{"name": base.name, "words": str(len(base.words)), "code base": _described(base)} for base in chosen]
        print(table(rows, ("name", "words", "code base")))
    return 0


def _named(name: str, bases: Mapping[str, CodeBase]) -> CodeBase:
    """Return the code base of a name, comparing letters and digits only. A unique prefix is enough."""

    def plain(text: str) -> str:
        return "".join(filter(str.isalnum, text.casefold()))

    meant = [base for base in bases.values() if plain(name) in (plain(base.name), plain(base.title))]
    meant = meant or [base for base in bases.values() if plain(name) and plain(base.name).startswith(plain(name))]
    if len(meant) != 1:
        raise UsageError(f"'{name}' is not a code base{choose_from(name, bases)}")
    return meant[0]


def markdown(base: CodeBase) -> str:
    """Return the section of a code base in docs/coming_from.md: a heading, its source, and a table."""
    lines = [f"## {base.title}", "", f"From {base.source}.", "", f"| {' | '.join(_COLUMNS)} |", "|---|---|---|"]
    for row in _rows(base):
        there, here = (f"`{text}`" if text else "" for text in (row["there"], row["here"]))
        lines.append(f"| {there} | {here} | {row['note']} |")
    return "\n".join(lines)


def _described(base: CodeBase) -> str:
    return f"{base.title}: {base.source}"


def _rows(base: CodeBase) -> list[dict[str, str]]:
    rows = []
    for word in base.words:
        there, here, note = word.shown()
        notes = [note, ACCEPTED if word.accepted else ""]
        rows.append({"there": there, "here": here, "note": "; ".join(filter(None, notes))})
    return rows
