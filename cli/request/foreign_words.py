"""The words of other code bases and ours, from `foreign_words.txt`: flags, keys of configuration files, names."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_suffix(".txt")
EVERYWHERE = "everywhere"
"""The value of `Word.accepted` for a word that every command accepts as it stands."""


def _percent(text: str) -> str:
    number = float(text.rstrip("%"))
    if number > 100:
        raise ValueError(text)
    return f"{number / 100 if number > 1 or text.endswith('%') else number:.10g}"


def _power(text: str) -> str:
    return f"{10 ** float(text):.10g}"


def _epochs(text: str) -> str:
    return ",".join(f"{number}ep" for number in re.findall(r"\d+", text))


def _dataset(text: str) -> str:
    """Return our name of a dataset that others write with dashes, or in one word: fashion_mnist for FashionMNIST."""
    from datasets.registry import DATASETS

    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    names = {each.spelling.replace("_", ""): each.spelling for each in DATASETS}
    return names.get(plain, text.lower())


@dataclass(frozen=True)
class Kind:
    """A kind of placeholder."""

    expression: str
    """The regular expression of its texts."""
    there: str
    """Its letters in tables, on their side."""
    here: str
    """Its letters in tables, on our side."""
    convert: Callable[[str], str] = str
    """Their text -> ours. Raises: ValueError, OverflowError."""


_NUMBER = r"\d*\.?\d+"
KINDS: Mapping[str, Kind] = {
    "value": Kind(r".+", "X", "X"),
    "n": Kind(r"\d+", "N", "N"),
    "vgg": Kind("11|13|16|19", "D", "D"),
    "small": Kind("20|32|44|56|110", "D", "D"),
    "deep": Kind("18|34|50|101|152", "D", "D"),
    "percent": Kind(_NUMBER + "%?", "P", "P/100", _percent),
    "exponent": Kind(_NUMBER, "C", "10^C", _power),
    "epochs": Kind(r"[\[(]?\s*\d+(?:[,\s]+\d+)*\s*[\])]?", "M,N", "Mep,Nep", _epochs),
    "seed": Kind(r"\d+", "N", "N", lambda text: str(max(1, int(text)))),
    "levels": Kind(r"\d+", "N", "N-1", lambda text: str(max(0, int(text) - 1))),
    "fraction": Kind(r"0?\.\d+|[01](?:\.0*)?", "X", "X"),
    "name": Kind(r"[\w.-]+", "NAME", "NAME", str.lower),
    "dataset": Kind(r"[\w.-]+", "NAME", "NAME", _dataset),
}
_PLACEHOLDER = r"\{(\w+)\}"


@dataclass(frozen=True)
class Word:
    """A word of another code base."""

    theirs: str
    ours: str
    """Flags of `branch train oneshot`, or a command; empty if there is no equivalent."""
    note: str
    """The difference in meaning."""
    accepted: str
    """The commands that accept it as it stands: `everywhere`, or their first words, separated by commas."""

    def is_accepted_by(self, argv: Sequence[str]) -> bool:
        """Return whether a command accepts it as it stands."""
        starts = [start.split() for start in self.accepted.split(",") if start]
        return self.accepted == EVERYWHERE or any(list(argv[: len(start)]) == start for start in starts)

    @property
    def flag(self) -> str:
        """The flag or key as `key_of` writes it; empty for a word that is several words."""
        return "" if " " in self.theirs else key_of(self.theirs.partition("=")[0])

    @property
    def pattern(self) -> str:
        """The value, with placeholders."""
        return self.theirs.partition("=")[2]

    @property
    def literal(self) -> str:
        """The part of the value besides the placeholder."""
        return re.sub(_PLACEHOLDER, "", self.pattern)

    @property
    def is_name(self) -> bool:
        """Whether it is a name alone."""
        return not self.theirs.startswith("-") and "=" not in self.theirs

    def translation(self, value: str | bool, *, ignore_case: bool = True) -> tuple[str, str] | None:
        """Return our words and the note for this word with a value, or None where the value does not fit.

        value: True where none was given.
        """
        if not self.pattern:
            return self.ours, self.note
        if isinstance(value, bool):
            return None if self.literal else (_shown(self.ours, "here"), _shown(self.note, "here"))
        match = self._expression(ignore_case).fullmatch(value)
        if match is None:
            return None
        try:
            texts = {kind: KINDS[kind].convert(text) for kind, text in match.groupdict().items()}
        except (ValueError, OverflowError):
            return None
        return self.ours.format(**texts), self.note.format(**texts)

    def shown(self) -> tuple[str, str, str]:
        """Return their word, ours and the note for tables, with letters in place of the placeholders."""
        return _shown(self.theirs, "there"), _shown(self.ours, "here"), _shown(self.note, "here")

    def _expression(self, ignore_case: bool) -> re.Pattern[str]:
        parts = re.split(_PLACEHOLDER, self.pattern)
        found = [f"(?P<{part}>{KINDS[part].expression})" if i % 2 else re.escape(part) for i, part in enumerate(parts)]
        return re.compile("".join(found), re.IGNORECASE if ignore_case else 0)


@dataclass(frozen=True)
class CodeBase:
    """A code base and its words."""

    name: str
    """The name that `coming-from` takes."""
    title: str
    source: str
    """The authors, and the source of its words."""
    words: tuple[Word, ...]

    def find(self, flag: str, value: str | bool) -> tuple[Word, str, str] | None:
        """Return the first word that fits a flag and its value, with our words for it and the note, or None."""
        for word in self.words:
            found = word.translation(value) if word.flag and word.flag == key_of(flag) else None
            if found is not None:
                return word, *found
        return None


def key_of(flag: str) -> str:
    """Return the form of a flag or key for comparisons: prune_epochs for --prune-epochs; -lr stays."""
    if flag.startswith("-") and not flag.startswith("--"):
        return flag
    return flag.removeprefix("--").replace("-", "_")


@functools.cache
def code_bases() -> tuple[CodeBase, ...]:
    """Return the code bases with their words, in the order of the file."""
    found: list[tuple[tuple[str, str, str], list[Word]]] = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            name, title, source = _cells(line.strip("[]"))
            found.append(((name, title, source), []))
        elif line and not line.startswith("#"):
            found[-1][1].append(Word(*_cells(line)))
    return tuple(CodeBase(*header, words=tuple(words)) for header, words in found)


def is_short_flag(text: str) -> bool:
    """Return whether some code base has a flag with one dash."""
    return text.startswith("-") and any(word.flag == text for base in code_bases() for word in base.words)


def translated(argv: Sequence[str]) -> list[str]:
    """Translate the words in arguments that are accepted as they stand, OpenLTH's, into ours."""
    accepted = [word for base in code_bases() for word in base.words if word.accepted]
    commands = {word.theirs: word.ours.split() for word in accepted if word.is_name}
    words = [*commands.get(argv[0], (argv[0],)), *argv[1:]] if argv else []
    known = [word for word in accepted if word.theirs.startswith("--") and word.is_accepted_by(words)]
    return list(_in_our_words(words, known))


def _in_our_words(words: list[str], known: Sequence[Word]) -> Iterator[str]:
    rest = list(words)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        fitting = [word for word in known if word.theirs.partition("=")[0] == name]
        takes_value = any(word.pattern for word in fitting)
        if takes_value and not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
            argument = f"{name}={value}"
        elif not fitting or takes_value != bool(equals):  # the command says what is wrong with it
            yield argument
            continue
        translations = [word.translation(value, ignore_case=False) for word in fitting]
        ours = next((each[0] for each in translations if each is not None), argument)
        if ours:
            yield ours


def _shown(text: str, side: Literal["there", "here"]) -> str:
    return re.sub(_PLACEHOLDER, lambda kind: str(getattr(KINDS[kind[1]], side)), text)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]
