"""Answers to flags and names of other code bases: their names here."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cli.request.foreign_words import CodeBase, Word, code_bases, is_short_flag, key_of
from foundations.errors import UsageError
from foundations.program import PROGRAM

Given = Mapping[str, str | bool]
"""The flags that were given, as `key_of` writes them, with their values; True for no value."""
COMMON = "common"
"""The code base of words that many code bases share: an answer from a specific one takes precedence."""
_NETWORK = ("default_hparams", "model_name")
_ELSEWHERE = "branch train oneshot"
"""The command that takes our words that are flags."""
_REFUSALS = ("is not a branch", "is not a command", "is not expected here")
"""The words of errors about a name that is not the value of a hyperparameter."""
_AT_MOST = 3, 5
"""The most meanings of one word that an answer lists, and the most further words that it translates."""


@dataclass(frozen=True)
class _Meaning:
    """A foreign word that was typed, with our words for it."""

    base: CodeBase
    word: Word
    ours: str
    note: str


def typed(flag: str, value: str | bool = True) -> str:
    """Return a flag as it may have been typed."""
    name = flag if flag.startswith("-") else f"--{flag}"
    return name if value is True else f"{name}={value}"


def given_in(argv: Sequence[str]) -> dict[str, str | bool]:
    """Return the flags among arguments and their values; words after the value of a flag belong to it."""
    found: dict[str, str | bool] = {}
    last = ""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument == "--":
            last = ""
        elif name.startswith("--") or is_short_flag(name):
            last = key_of(name)
            found[last] = value if equals else True
        elif last:
            found[last] = argument if found[last] is True else f"{found[last]} {argument}"
    return found


def answer_to_flag(flag: str, given: Given, known: Collection[str], command: str) -> str | None:
    """Return our name of an unknown flag, in two lines, or None if no code base has the flag.

    known: the names of the flags of the command. Only commands that train are answered: others have no such flags.
    """
    value = given.get(flag)
    if value is None or not set(_NETWORK) & set(known):
        return None
    meanings = [_Meaning(base, *found) for base in code_bases() if (found := base.find(flag, value))]
    if not meanings:
        return None
    chosen = _most_likely(meanings, given)
    owner = _of(_owner(chosen))
    if chosen[-1].ours:
        meaning = f"{owner}{typed(flag, value)} is {_alternatives(chosen, known, command)}"
    else:
        meaning = _nothing(f"{owner}{typed(flag)}", chosen[-1].note)
    return f"There is no flag {typed(flag)} here: {meaning}.\n{_others(chosen, flag, given, known, command)}"


def answer_to_value(error: UsageError, argv: Sequence[str]) -> str | None:
    """Return our name for one that an error refuses, in two lines, or None if no code base has it."""
    if not error.hparams and not any(words in error.reason for words in _REFUSALS):
        return None
    texts = {text for argument in argv for text in re.split("[=,^]", argument) if text}
    for text in sorted(text for text in texts if f"'{text}'" in error.reason):
        meanings = _named(text, error.hparams, exact=True) or _named(text, error.hparams, exact=False)
        if meanings:
            given = given_in(argv)
            chosen = _most_likely(meanings, given)
            flag = error.hparams[0] if error.hparams else ""
            what = f"{typed(error.hparams[0])}: '{text}' is not a valid value" if error.hparams else f"'{text}'"
            verb = "; here it is" if error.hparams else " is here"
            return f"{what}{verb} {_alternatives(chosen, (), '')}.\n{_others(chosen, flag, given, (), '')}"
    return None


def _named(text: str, hparams: Sequence[str], exact: bool) -> list[_Meaning]:
    """Return the meanings of a name as the value of a hyperparameter or, if none is given, as a branch or command.

    Without those that are the same name: it was refused.
    """
    found: dict[str, _Meaning] = {}
    for base in code_bases():
        for word in base.words:
            meant = None if word.accepted or " " in word.theirs else _translation(word, text, exact)
            repeats = meant and any(each.endswith(f"={text}") for each in meant[0].split())
            if meant and _is_about(meant[0], hparams) and not repeats:
                found.setdefault(base.name, _Meaning(base, word, *meant))
    return list(found.values())


def _translation(word: Word, text: str, exact: bool) -> tuple[str, str] | None:
    if word.is_name:
        same = word.theirs == text if exact else word.theirs.casefold() == text.casefold()
        return (word.ours, word.note) if same else None
    return word.translation(text, ignore_case=not exact) if word.literal else None


def _is_about(ours: str, hparams: Sequence[str]) -> bool:
    is_command = not ours.startswith("--")
    if not hparams:
        return bool(ours) and is_command
    names = _NETWORK if hparams[0] in _NETWORK else hparams
    return any(f"--{name}=" in ours for name in names) or (hparams[0] == "strategy" and is_command)


def _most_likely(meanings: Sequence[_Meaning], given: Given) -> list[_Meaning]:
    """Return the meanings in the code bases that have most of the given flags; specific code bases come first."""
    useful = [each for each in meanings if each.ours] or list(meanings)
    specific = [each for each in useful if each.word.literal or each.word.is_name] or useful
    foreign = {flag: value for flag, value in given.items() if flag not in _our_flags()}
    scores = [sum(_differs(each.base, *pair) is not None for pair in foreign.items()) for each in specific]
    best = [each for each, score in zip(specific, scores, strict=True) if score == max(scores)]
    owned = [each for each in best if each.base.name != COMMON]
    agreed = len({each.ours for each in best}) == 1
    return best if agreed or not owned else owned


@functools.cache
def _our_flags() -> frozenset[str]:
    """Return our flags that translate foreign words: a user who types one means ours."""
    words = (word.ours for base in code_bases() for word in base.words)
    return frozenset(flag for ours in words for flag in re.findall(r"--(\w+)", ours))


def _differs(base: CodeBase, flag: str, value: str | bool) -> _Meaning | None:
    """Return the meaning of a flag in a code base, or None if it has none or means the same here."""
    found = base.find(flag, value)
    if found is None or found[1] == typed(flag, value) or (found[0].is_name and flag in _our_flags()):
        return None
    return _Meaning(base, *found)


def _alternatives(chosen: Sequence[_Meaning], known: Collection[str], command: str) -> str:
    by_ours = {each.ours: each for each in chosen}
    if len(by_ours) == 1:
        return _placed(chosen[-1].ours, known, command) + _in_brackets(chosen[-1].note)
    listed = list(by_ours.values())[: _AT_MOST[0]]
    return " or ".join(f"{_placed(each.ours, known, command)} ({each.base.title})" for each in listed)


def _placed(ours: str, known: Collection[str], command: str) -> str:
    """Return our words as the command takes them, or with the name of a command that takes them."""
    if command and ours.startswith(f"{command} --"):
        return ours.removeprefix(f"{command} ")
    if not ours.startswith("--"):
        return f"`{ours}`"
    first = key_of(ours.split()[0].partition("=")[0])
    return f"{ours} of `{_ELSEWHERE}`" if known and first not in known else ours


def _in_brackets(note: str) -> str:
    return f" ({note})" if note else ""


def _owner(chosen: Sequence[_Meaning]) -> CodeBase | None:
    """Return the one code base of some meanings, or None if there are several, or if its words are shared ones."""
    bases = {each.base.name: each.base for each in chosen}
    return chosen[-1].base if len(bases) == 1 and COMMON not in bases else None


def _of(owner: CodeBase | None) -> str:
    return "" if owner is None else f"{owner.title}'s "


def _nothing(named: str, note: str) -> str:
    """Return the note on a word that has no equivalent here, as a sentence."""
    if note.startswith("not needed"):
        return f"{named} is {note}"
    return f"{named} {note}" if note.startswith(("does ", "fails ")) else note


def _others(chosen: Sequence[_Meaning], asked: str, given: Given, known: Collection[str], command: str) -> str:
    """Return the line that translates the other given foreign words, and refers to `coming-from`."""
    only = _owner(chosen)
    found = []
    for flag, value in given.items():
        if flag == asked:
            continue
        is_ours = flag in known or flag in _our_flags()
        bases = [] if only is None else [only]
        bases += [] if is_ours else reversed(code_bases())
        meaning = next((each for base in bases if (each := _differs(base, flag, value))), None)
        if meaning and meaning.ours:
            ours = _placed(meaning.ours, (), command) + _in_brackets(meaning.note)
            found.append((_of(_owner([meaning])), f"{typed(flag, value)} is {ours}"))
    owners = ["", *(owner for owner, _ in found)]
    listed = [("" if owner == before else owner) + what for before, (owner, what) in zip(owners, found, strict=False)]
    also = f"Also: {'; '.join(listed[: _AT_MOST[1]])}. " if found else ""
    return f"{also}See: {PROGRAM} coming-from{f' {only.name}' if only else ''}"
