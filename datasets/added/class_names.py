"""The names of the classes of users' datasets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from datasets.formats.tables import shortened
from foundations.errors import UsageError

_MOST_LETTERS = 1 << 20
_LISTED = 5


def check_class_names(names: Sequence[str], where: object) -> None:
    """Check the names of the classes of a dataset, in their order. where: for errors.

    Raises: UsageError for fewer than two, for a name that cannot be stored, and for more than a file's header holds.
    """
    if len(names) < 2:
        raise UsageError(f"{where} holds one class, {listed_names(names)}; two or more are needed.")
    for name in names:
        if not name.isprintable() or "," in name or not name:
            raise UsageError(f"{where}: {shortened(name)} cannot be the name of a class; rename it.")
    if sum(map(len, names)) > _MOST_LETTERS:
        raise UsageError(f"{where}: {len(names):,} classes are too many.")


def listed_names(names: Sequence[str]) -> str:
    """Return names for a sentence: the first five of them."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(map(shortened, names[:_LISTED])) + more


def say_untested(names: Sequence[str], tested: Collection[str], report: Callable[[str], None]) -> None:
    """Report the classes without test examples. tested: the names of the classes that have some."""
    known = set(tested)
    missing = [name for name in names if name not in known]
    if missing:
        report(f"the test set holds no examples of {listed_names(missing)}")
