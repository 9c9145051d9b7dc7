"""The state dict in a checkpoint of another program: found by the network's names, anywhere in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from branches.imported.pickled_tensors import check_stored
from branches.imported.reparametrizations import Whole, whole
from branches.imported.state_names import Naming, count, is_averaged, namings, some
from foundations.errors import DamagedError

if TYPE_CHECKING:
    from torch import Tensor

_USUAL = ("", "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""The entries that hold the weights, the usual one first; the first is the whole file."""
_NO_WEIGHTS = re.compile(r"^opt(_|$|im)|optim|sched|^grad|mask|exp_avg", re.IGNORECASE)
"""Entries whose tensors may have the names of weights but are not weights."""
_DEEPEST = 4


@dataclass(frozen=True)
class Entry:
    """A dict of named tensors in a file."""

    path: tuple[str, ...]
    """The keys that lead to it; empty for the whole file."""
    tensors: Mapping[str, Tensor]
    others: tuple[str, ...]
    """The names in it whose values are neither tensors nor dicts."""

    def __str__(self) -> str:
        return f"'{'.'.join(self.path)}'" if self.path else "the file itself"

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The sort key of the choice among entries; the lowest wins."""
        name = self.path[-1].lower() if self.path else ""
        place = _USUAL.index(name) if name in _USUAL else len(_USUAL)
        return any(map(is_averaged, self.path)), place, len(self.path)


@dataclass(frozen=True)
class _Reading:
    """An entry, read as the state of a network."""

    entry: Entry
    whole: Whole
    naming: Naming
    refusal: DamagedError | None = None
    """The error of reading its tensors, if any."""
    several: tuple[str, ...] = ()
    """Other prefixes under which the network's names occur."""

    @property
    def fits(self) -> bool:
        """Whether it has the names of the network's state; shapes may differ."""
        return self.naming.fits and self.refusal is None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the network's names."""
        return {own: self.whole.tensors[name] for own, name in self.naming.names.items()}

    def notes(self) -> list[str]:
        """Return sentences about the changes that reading made."""
        found = self.naming.notes()
        if self.several:
            found.append(f"the names are there under {some(self.several)} as well")
        if self.entry.others:
            found.append(f"left out entries other than tensors: {some(self.entry.others)}")
        return [*found, *self.whole.notes]


def tied_names(network: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of each tensor that a network's state holds under several; files may hold one of them."""
    found: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in network.items():
        if tensor.numel() and tensor.device.type != "meta":
            found.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def find_state(content: object, network: Mapping[str, Tensor], source: str) -> Whole:
    """Return the state of a network that a file holds, by the network's names.

    The state is the entry that has all names of the network, and no others except those that `state_names` allows.
    Among several, usual names win, and running means come last. network: its own state, whose names must be there;
    integer tensors may be missing. source: the file, for errors. The notes of the result are sentences about chosen,
    renamed, computed and omitted entries.

    Raises: DamagedError if no entry matches, or if several match and differ.
    """
    readings = [_read(entry, network, source) for entry in _entries(content)]
    if not readings:
        raise DamagedError(f"{source} holds something other than named tensors: {_kind(content)}.")
    fitting = sorted((each for each in readings if each.fits), key=lambda each: each.entry.rank)
    if not fitting:
        closest = min(readings, key=lambda each: each.naming.distance)
        raise closest.refusal or DamagedError(_differences(source, closest.entry, closest.naming, network))
    reading, names = fitting[0], [str(each.entry) for each in fitting]
    rivals = [each for each in fitting[1:] if each.entry.rank == reading.entry.rank]
    if not all(_is_same(reading.tensors, rival.tensors) for rival in rivals):
        raise DamagedError(
            f"{source} holds several state dicts that fit, {some(names)}: save one of them in a file of its own."
        )
    masks = reading.whole.masks
    return Whole(
        reading.tensors,
        {own: masks[name] for own, name in reading.naming.names.items() if name in masks},
        reading.whole.is_by_torch,
        (*_chosen(content, reading.entry, names[1:]), *reading.notes()),
    )


def _read(entry: Entry, network: Mapping[str, Tensor], source: str) -> _Reading:
    """Read an entry as it is, for networks that have parametrizations themselves, or with its parts combined."""
    tensors = Whole(entry.tensors, {}, is_by_torch=True)
    # Integers of a network other than weights: batches that batchnorm has counted, seeds of dropout, indices.
    optional = {name for name, tensor in network.items() if not tensor.is_floating_point()}
    tied = {name for names in tied_names(network) for name in names}
    optional |= tied
    ways = namings(list(tensors.tensors), network, optional)
    try:
        check_stored(source, entry.tensors)
        if not ways[0].fits:
            tensors = whole(entry.tensors, source)
            ways = namings(list(tensors.tensors), network, optional)
        first, *others = (_Reading(entry, tensors, way) for way in ways)
        for other in others:
            if other.naming.rank == ways[0].rank and not _is_same(first.tensors, other.tensors):
                prefixes = some([f"'{way.removed}'" for way in ways[1:]])
                raise DamagedError(
                    f"{source} has the network's names under several prefixes, '{ways[0].removed}', {prefixes}: "
                    "save one of these networks in a file of its own."
                )
    except DamagedError as refusal:
        return _Reading(entry, tensors, ways[0], refusal)
    naming = replace(first.naming, lacking=tuple(name for name in first.naming.lacking if name not in tied))
    return replace(first, naming=naming, several=tuple(f"'{way.removed}'" for way in ways[1:]))


def _is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _entries(content: object, path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Yield the dicts of named tensors in a file, except optimizers'."""
    import torch

    if not isinstance(content, Mapping) or len(path) > _DEEPEST:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and torch.is_tensor(value)}
    others = [str(name) for name, value in content.items() if name not in tensors and not isinstance(value, Mapping)]
    if tensors:
        yield Entry(path, tensors, tuple(others))
    for name, value in content.items():
        if isinstance(name, str) and not _NO_WEIGHTS.search(name):
            yield from _entries(value, (*path, name))


def _chosen(content: object, entry: Entry, others: list[str]) -> list[str]:
    """Return a note on the chosen entry; none if the file is just the state dict."""
    assert isinstance(content, Mapping)
    if not entry.path and not others:
        return []
    left = [repr(name) for name in content if name not in entry.path[:1]] if entry.path else []
    fits = f" ({some(others)} would fit as well)" if others else ""
    unread = f"; not read: {some(left)}" if left else ""
    return [f"took {entry} of {count(len(content), 'entry', 'entries')}{fits}{unread}"]


def _kind(content: object) -> str:
    import torch

    if torch.is_tensor(content):
        return f"one tensor of shape {tuple(content.shape)}"
    if isinstance(content, Mapping):
        names = some([repr(name) for name in content])
        return f"a dict without tensors in it, of {names}" if content else "an empty dict"
    return f"a {type(content).__name__}" if isinstance(content, list | tuple | str | int | float) else "another object"


def _differences(source: str, entry: Entry, naming: Naming, network: Mapping[str, Tensor]) -> str:
    """Return the names in which an entry differs from a network, as two lines."""
    where = f" in {entry}" if entry.path else ""
    parts = []
    if naming.missing:
        parts.append(f"Missing: {len(naming.missing)} of {len(network)} tensors ({some(naming.missing)}).")
    if naming.unknown:
        parts.append(f"Unexpected: {len(naming.unknown)} in the file ({some(naming.unknown)}).")
    removed = f", also without the prefix '{naming.removed}'" if naming.removed else ""
    return f"{source}: The state{where} is not one of this model{removed}.\n{' '.join(parts)}"
