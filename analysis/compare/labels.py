"""Labels for the lines of a comparison: `snip10=SNIP,oneshot:magnitude=IMP`. Imports no torch.

Tables, figures and reports share them. A key is a strategy, branch:strategy, another value that tells lines apart, or
the whole name that a line has without labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from analysis.compare.points import Point
from foundations.errors import UsageError, did_you_mean

FLAG = "labels"
_MOST_LISTED = 12


@dataclass(frozen=True)
class Known:
    """The names that refer to a line."""

    whole: str
    """Its name without labels."""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The texts for its value of each key that tells lines apart, the usual text first."""
    pairs: frozenset[str] = frozenset()
    """The branch:strategy pairs of its runs, if all runs are of one branch."""

    def texts(self) -> Iterable[str]:
        """Yield all keys that a label can be given to, the most specific first."""
        yield self.whole
        yield from self.pairs
        for texts in self.parts.values():
            yield from texts


def known_line(whole: str, parts: Mapping[str, tuple[str, ...]], points: Iterable[Point]) -> Known:
    """Return the names of a line with some points."""
    rows = [row for point in points for row in point.members]
    pairs = {f"{row.branch}:{row.strategy}" for row in rows if row.branch and row.strategy}
    return Known(whole, parts, frozenset(pairs) if len(pairs) == 1 else frozenset())


@dataclass(frozen=True)
class Labels:
    """The labels of a comparison."""

    given: Mapping[str, str] = field(default_factory=dict)

    def part(self, line: Known, name: str) -> str:
        """Return the text for a line's value of a key: its label, or the usual text."""
        texts = line.parts.get(name, ())
        keys = (*line.pairs, *texts) if name == "strategy" else texts
        return next((self.given[key] for key in keys if key in self.given), texts[0] if texts else "")

    def of_line(self, line: Known) -> str:
        """Return the name of a line: its label, or its parts with theirs."""
        if line.whole in self.given:
            return self.given[line.whole]
        pair = next((pair for pair in line.pairs if pair in self.given), None)
        if pair is not None and "strategy" not in line.parts:
            return self.given[pair]
        covered = {"branch"} if pair is not None else set()  # the label stands for both
        changed = {name: self.part(line, name) for name in line.parts if name not in covered}
        if all(line.parts[name][0] == text for name, text in changed.items()):
            return line.whole
        return ", ".join(filter(None, changed.values()))


def labels_for(text: str | None, lines: Sequence[Known], others: Iterable[str] = ()) -> Labels:
    """Read the labels of the lines of a comparison from a text: KEY=LABEL, separated by commas.

    If the text has a semicolon, semicolons separate the entries, so that keys and labels can have commas.
    others: further keys, such as the columns of a table.
    Raises: UsageError for a key that no line has, one that is given twice, and lines that would have the same name.
    """
    if not (text or "").strip():
        return Labels()
    known = dict.fromkeys([each for line in lines for each in line.texts() if each] + list(others))
    given: dict[str, str] = {}
    for entry in entries_of(text):
        key, label = _split(entry, known, [line.whole for line in lines])
        if key in given:
            raise UsageError(f"'{key}' is given two labels, '{given[key]}' and '{label}'.", FLAG)
        given[key] = label
    labels = Labels(given)
    _refuse_same(labels, lines)
    return labels


def entries_of(text: str | None) -> list[str]:
    """Return the entries of a text, without matching them to lines. Raises: UsageError if one is not KEY=LABEL."""
    parts = (text or "").split(";" if ";" in (text or "") else ",")
    entries = [part.strip() for part in parts if part.strip()]
    for entry in entries:
        key, _, label = entry.partition("=")
        if not key.strip() or not label.strip():
            raise UsageError(f"'{entry}' is not KEY=LABEL, such as snip10=SNIP.", FLAG)
    return entries


def _split(entry: str, known: Mapping[str, None], wholes: Sequence[str]) -> tuple[str, str]:
    """Return the key and the label of an entry. Both may have equals signs; the longest known key is taken."""
    cuts = [place for place, letter in enumerate(entry) if letter == "="]
    pairs = [(entry[:cut].strip(), entry[cut + 1 :].strip()) for cut in reversed(cuts)]
    for key, label in pairs:
        if key in known and label:
            return key, label
    key = pairs[-1][0]
    names = [*dict.fromkeys(filter(None, wholes))]
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    listed = f"The lines are {'; '.join(names[:_MOST_LISTED])}{more}." if names else "There are no lines."
    raise UsageError(f"no line is '{key}'.{did_you_mean(key, known)} {listed}", FLAG)


def _refuse_same(labels: Labels, lines: Sequence[Known]) -> None:
    """Raise UsageError if the labels give two different lines one name."""
    names: dict[str, str] = {}
    for line in lines:
        before = names.setdefault(labels.of_line(line), line.whole)
        if before != line.whole:
            raise UsageError(
                f"'{before}' and '{line.whole}' would both be called '{labels.of_line(line)}'; give each a name of "
                "its own.",
                FLAG,
            )
