"""The command that prints our words for those of another code base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.display.plain_table import table
from cli.request.flags import parse, positional
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


@dataclass(frozen=True, kw_only=True)
class ComingFromFlags:
    """Print our words for those of another code base: coming-from NAME. Without a name, list the code bases."""

    output: ComingFromHparams = field(default_factory=ComingFromHparams)


def coming_from(argv: Sequence[str], _environment: Environment) -> int:
    """`coming-from`: the code bases; `coming-from NAME`: the words of one of them."""
    names, rest = positional(argv, ComingFromFlags)
    is_markdown = parse(ComingFromFlags, rest, "coming-from").output.format == "markdown"
    bases = {base.name: base for base in code_bases()}
    if len(names) > 1:
        raise UsageError("coming-from takes nothing, or the name of one code base: coming-from synaptic-flow.")
    chosen = [_named(name, bases) for name in names] or list(bases.values())
    if is_markdown:
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
    rows = [{key: _in_code(key, text) for key, text in row.items()} for row in _rows(base)]
    lines = [" | ".join(row[column] for column in _COLUMNS) for row in rows]
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    body = "\n".join(f"| {line} |" for line in lines)
    return f"## {base.title}\n\nFrom {base.source}.\n\n{head}\n{body}"


def _described(base: CodeBase) -> str:
    return f"{base.title}: {base.source}"


def _rows(base: CodeBase) -> list[dict[str, str]]:
    rows = []
    for word in base.words:
        there, here, note = word.shown()
        notes = [note, ACCEPTED if word.accepted else ""]
        rows.append({"there": there, "here": here, "note": "; ".join(filter(None, notes))})
    return rows


def _in_code(column: str, text: str) -> str:
    """Return a cell formatted as code, unless it is a note."""
    return text if column == "note" or not text else f"`{text}`"
