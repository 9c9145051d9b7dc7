"""Matching the names of a state dict to a network's: prefixes, wrappers, old names, and names that may be omitted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Parts of names that wrappers such as DataParallel and torch.compile put before a module, anywhere in a network."""
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""Names of torchvision's DenseNets at the time when their weights were published."""
_AUXILIARY = re.compile(r"(aux[12]|AuxLogits)\..*")
"""Auxiliary heads of GoogLeNet and Inception, for training only; the networks here do not have them."""
_COUNTERS = re.compile(r"(?:.*\.)?(num_batches_tracked|n_averaged|total_ops|total_params)")
"""Counts: batches of batchnorm, averages of AveragedModel, operations and parameters of thop."""
_COUNTED_BATCHES = "num_batches_tracked"
"""Old files lack these counts; messages do not mention it."""
_AVERAGED = re.compile(r"ema|avg|averag|swa|teacher|momentum|target|shadow|_k\b", re.IGNORECASE)
"""Parts of the names of copies whose weights are running means of a training."""
_MOST_PREFIXES = 12
_OTHERS = "not under that prefix"


@dataclass(frozen=True)
class Naming:
    """The names of a state dict as names of a network."""

    names: Mapping[str, str]
    """By name in the network, the name in the file."""
    removed: str = ""
    """The prefix that was taken off."""
    added: str = ""
    """The prefix that was put on."""
    unwrapped: int = 0
    """Number of names that contained a wrapper's part."""
    dropped: Mapping[str, list[str]] = field(default_factory=dict)
    """Names in the file that the network does not use, by their kind."""
    lacking: tuple[str, ...] = ()
    """The network's names that the file lacks and may lack."""
    missing: tuple[str, ...] = ()
    """The network's names that the file lacks but needs."""
    unknown: tuple[str, ...] = ()
    """Names in the file that are not the network's."""

    @property
    def fits(self) -> bool:
        """Whether the file has all required names of the network, and no unknown ones."""
        return not self.distance

    @property
    def distance(self) -> int:
        """Number of missing and unknown names."""
        return len(self.missing) + len(self.unknown)

    @property
    def rank(self) -> tuple[bool, bool]:
        """The sort key of readings that fit: running means of a network last, those without omitted tensors first."""
        return is_averaged(self.removed), _OTHERS in self.dropped

    def notes(self) -> list[str]:
        """Return sentences about the changes of the names."""
        found, names = [], count(len(self.names), "name")
        if self.removed:
            found.append(f"removed the prefix '{self.removed}' from {names}")
        if self.added:
            found.append(f"put the prefix '{self.added}' before {names}")
        if self.unwrapped:
            found.append(f"removed a wrapper's 'module.' or '_orig_mod.' inside {count(self.unwrapped, 'name')}")
        found += [f"left out {len(left)} {what}: {some(left)}" for what, left in self.dropped.items()]
        unsaid = [name for name in self.lacking if not name.endswith(_COUNTED_BATCHES)]
        return [*found, *([f"kept the network's own {some(unsaid)}"] if unsaid else [])]


def some(names: Collection[str], most: int = 3) -> str:
    """Return the first names of a list, for a sentence."""
    return ", ".join(list(names)[:most]) + (", ..." if len(names) > most else "")


def count(number: int, one: str, several: str = "") -> str:
    """Return a number and its noun, as text. several: the plural; by default with an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def is_averaged(name: str) -> bool:
    """Return whether a name belongs to a running mean of a network."""
    return bool(_AVERAGED.search(name))


def namings(names: Collection[str], network: Collection[str], optional: Collection[str] = ()) -> list[Naming]:
    """Return the readings of names as a network's, best first: all that fit, or else the closest one.

    A reading removes one prefix from the names, or adds one. Among several that fit, running means come last; among the
    others, one that omits nothing comes first. optional: names of the network that the file may lack.
    """
    own = frozenset(network)
    found: list[Naming] = []
    for spelled in _spellings(names, own):
        found += [_naming(spelled, own, optional, *prefixes) for prefixes in _prefixes(spelled.values(), own)]
        if any(naming.fits for naming in found):
            break
    fitting: dict[frozenset[tuple[str, str]], Naming] = {}
    for naming in found:
        if naming.fits:
            fitting.setdefault(frozenset(naming.names.items()), naming)
    if fitting:
        return sorted(fitting.values(), key=lambda naming: naming.rank)
    return [min(found, key=lambda naming: naming.distance)]


def _spellings(names: Collection[str], network: frozenset[str]) -> Iterator[dict[str, str]]:
    """Yield variants of the names: unchanged, then torchvision's current ones, then without wrappers."""
    spelled = {name: name for name in names}
    yield spelled
    current = {name: _DENSE_LAYER.sub(r"\1\2.", name) for name in names}
    if current != spelled:
        yield current
    unwrapped = {
        name: ".".join(part for part in other.split(".") if part not in _WRAPPERS) for name, other in current.items()
    }
    if unwrapped != current and not any(_WRAPPERS.intersection(name.split(".")) for name in network):
        yield unwrapped


def _prefixes(names: Collection[str], network: frozenset[str]) -> list[tuple[str, str]]:
    """Return pairs of a prefix to remove and one to add, sorted by the number of names that become the network's."""
    added = [""]
    first = min(network, default="").split(".")
    for depth in range(1, len(first)):
        prefix = ".".join(first[:depth]) + "."
        if all(name.startswith(prefix) for name in network):
            added.append(prefix)
    votes: Counter[tuple[str, str]] = Counter({("", ""): 0})
    for name in names:
        starts = [0, *(at.end() for at in re.finditer(r"\.", name))]
        votes.update((name[:at], prefix) for at in starts for prefix in added if prefix + name[at:] in network)
    ordered = sorted(votes.items(), key=lambda item: (-item[1], len(item[0][0]) + len(item[0][1])))
    return [prefixes for prefixes, _ in ordered[:_MOST_PREFIXES]]


def _naming(
    spelled: Mapping[str, str], network: frozenset[str], optional: Collection[str], removed: str, added: str
) -> Naming:
    names: dict[str, str] = {}
    dropped: dict[str, list[str]] = {}
    unknown: list[str] = []
    others: list[str] = []
    for name, other in spelled.items():
        inner, is_inside = other.removeprefix(removed), other.startswith(removed)
        own, counter = added + inner, _COUNTERS.fullmatch(other)
        if is_inside and own in network and own not in names:
            names[own] = name
        elif counter is not None:
            dropped.setdefault(f"'{counter[1]}'", []).append(name)
        elif not is_inside:
            others.append(name)
        elif _AUXILIARY.fullmatch(inner):
            dropped.setdefault("of the auxiliary heads", []).append(name)
        else:
            unknown.append(name)
    lacking = sorted(network - names.keys())
    missing = tuple(name for name in lacking if name not in optional)
    if others and not missing and not unknown:
        dropped[_OTHERS] = others
    else:
        unknown += others
    wrappers = len(_wrappers(removed))
    unwrapped = sum(len(_wrappers(name)) > wrappers and spelled[name] != name for name in names.values())
    lacks = tuple(name for name in lacking if name in optional)
    return Naming(names, removed, added, unwrapped, dropped, lacks, missing, tuple(unknown))


def _wrappers(name: str) -> list[str]:
    return [part for part in name.split(".") if part in _WRAPPERS]
