"""Differences between the descriptions of runs, also of different kinds: each once, by its cause. Imports no torch.

A missing hyperparameter equals one with its omitted default: it was added later, or belongs to an option that the run
does not use. Steps are equal if they are the same iteration or the same epoch. A difference that follows from a listed
one, such as another parent if the parents differ in just that, is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from analysis.compare.described import Described, DescribedSource
from foundations.storage.manifest import Manifest
from foundations.storage.store import SOURCE_FLAGS

HYPERPARAMETER, LINEAGE, VERSION, PLUGIN = "hyperparameter", "lineage", "version", "plug-in"
"""Kinds of differences between descriptions."""
DATA, PROGRAM = "data", "program"
"""Kinds of differences between the manifests of complete runs."""
STEPS = re.compile(r"\d+it(,\d+it)*", re.ASCII)
_SELECTING = frozenset({"strategy", "technique", "model_name", "kind"})
"""Hyperparameters that select the code of a run: if they differ, versions are of different code."""
_MOST_GENERATIONS = 64
"""The most generations of parents that are compared."""


@dataclass(frozen=True)
class Difference:
    """A difference between some runs."""

    name: str
    """A hyperparameter, a flag that names a run or a step (mask_experiment, state_step), a version, or a plug-in."""
    kind: str
    """hyperparameter, lineage, version, plug-in, data or program."""
    values: tuple[Any, ...]
    """The value of each run, None if it has none. For lineage, addresses and steps as text."""


def differences(runs: Sequence[Described]) -> list[Difference]:
    """Return the differences between runs, hyperparameters first."""
    found = _Comparison().of(runs)
    if len({run.replicate for run in runs}) > 1:
        found.append(Difference("replicate", LINEAGE, tuple(run.replicate for run in runs)))
    return found


def differences_in_computing(manifests: Sequence[Manifest | None]) -> list[Difference]:
    """Return the differences of complete runs outside their descriptions: data, device and versions of programs."""
    found = []
    for kind, facts_of in _FACTS.items():
        facts = [facts_of(manifest) if manifest else {} for manifest in manifests]
        for name in dict.fromkeys(name for each in facts for name in each):
            values = tuple(each.get(name) or None for each in facts)
            if len(set(values) - {None}) > 1:
                found.append(Difference(name, kind, values))
    return found


_FACTS: dict[str, Callable[[Manifest], Mapping[str, str]]] = {
    DATA: lambda manifest: manifest.dataset,
    PROGRAM: lambda manifest: {**manifest.versions, "device": manifest.device},
}


class _Comparison:
    """A comparison of runs and of their sources, each once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], list[Difference]] = {}

    def of(self, runs: Sequence[Described], generation: int = 0) -> list[Difference]:
        """Return the differences of runs, and those of their sources that do not follow from them."""
        found = [*_of_kinds(runs), *_of_hyperparameters(runs)]
        found += [*_of_versions(runs, found), *_of_plugins(runs, found)]
        if generation < _MOST_GENERATIONS:
            found += _named("main.", _causes(self._of_main(runs, generation), found))
            for name in sorted({name for run in runs for name in run.sources}):
                found += _of_step(runs, name, found)
                found += self._of_source(runs, name, found, generation)
        return found

    def _of_main(self, runs: Sequence[Described], generation: int) -> list[Difference]:
        mains = [run.main for run in runs]
        is_of_branches = any(main is not run for main, run in zip(mains, runs, strict=True))
        are_same = len({main.digest for main in mains}) == 1
        return self.of(mains, generation + 1) if is_of_branches and not are_same else []

    def _of_source(
        self, runs: Sequence[Described], name: str, known: Sequence[Difference], generation: int
    ) -> list[Difference]:
        """Return the difference in the source of a name, and the differences between these sources."""
        flag = f"{SOURCE_FLAGS.get(name, name)}_experiment"
        sources = [run.sources.get(name) for run in runs]
        drawing = [source for run, source in zip(runs, sources, strict=True) if run.sources]
        row = Difference(flag, LINEAGE, tuple(source and source.address for source in sources))
        are_same = len({source.identity if source else "" for source in drawing}) < 2
        if are_same or row.values in [each.values for each in known] or _follows(drawing, known):
            return []
        nodes = [source.described for source in sources if source and source.described and not source.is_own_main]
        if len(nodes) < len(runs) or len({node.generations for node in nodes}) > 1:
            return [row]
        key = tuple(node.identity for node in nodes)
        if key not in self._found:
            self._found[key] = self.of(nodes, generation + 1)
        inner = self._found[key]
        causes = _causes(inner, known)
        if inner and not causes:
            return []
        named = {_last(each.name) for each in known}
        deepest = [each for each in causes if not any(other.name.startswith(f"{each.name}.") for other in causes)]
        return [row, *_named(f"{flag}.", [each for each in deepest if _last(each.name) not in named])]


def _causes(inner: Sequence[Difference], known: Sequence[Difference]) -> list[Difference]:
    """Return the differences of the sources that are not listed already."""
    same = {(each.name, each.values) for each in known}
    return [each for each in inner if not {(each.name, each.values), (_last(each.name), each.values)} & same]


def _named(prefix: str, found: Sequence[Difference]) -> list[Difference]:
    return [Difference(prefix + each.name, each.kind, each.values) for each in found]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _follows(drawing: Sequence[DescribedSource | None], known: Sequence[Difference]) -> bool:
    """Return whether a listed difference explains why some runs have no source and others have their training."""
    return bool(known) and all(source is None or source.is_own_main for source in drawing)


def _of_step(runs: Sequence[Described], name: str, known: Sequence[Difference]) -> list[Difference]:
    """Return the difference in the step of a source's state. Trainings have no sources, so no such step."""
    sources = [run.sources.get(name) for run in runs]
    drawing = [source for run, source in zip(runs, sources, strict=True) if run.sources]
    steps = [source.step for source in drawing if source and source.step]
    if len(steps) < len(drawing):
        if not steps or _follows(drawing, known):
            return []
    elif not differ(steps, [source.iterations_per_epoch for source in drawing if source]):
        return []
    values = tuple(source and in_epochs(source.step, source.iterations_per_epoch) for source in sources)
    return [Difference(f"{SOURCE_FLAGS.get(name, name)}_step", LINEAGE, values)]


def _of_kinds(runs: Sequence[Described]) -> list[Difference]:
    kinds = tuple(run.kind for run in runs)
    return [Difference("kind", LINEAGE, kinds)] if len(set(kinds)) > 1 else []


def _of_hyperparameters(runs: Sequence[Described]) -> Iterator[Difference]:
    for name in dict.fromkeys(name for run in runs for name in run.hyperparameters):
        having = [run for run in runs if name in run.hyperparameters]
        are_same = not differ(
            [run.hyperparameters[name] for run in having], [run.iterations_per_epoch for run in having]
        )
        is_elided = len(having) == len(runs) or not any(run.is_written(name) for run in having)
        if not (are_same and is_elided):
            values = (in_epochs(run.hyperparameters.get(name), run.iterations_per_epoch) for run in runs)
            yield Difference(name, HYPERPARAMETER, tuple(values))


def _of_versions(runs: Sequence[Described], known: Sequence[Difference]) -> Iterator[Difference]:
    """Yield the versions that differ, except versions of different methods, techniques or networks."""
    if {each.name for each in known} & _SELECTING:
        return
    for name in dict.fromkeys(name for run in runs for name in run.versions):
        values = tuple(run.versions.get(name, 1) for run in runs)
        if len(set(values)) > 1:
            yield Difference(name, VERSION, values)


def _of_plugins(runs: Sequence[Described], known: Sequence[Difference]) -> Iterator[Difference]:
    """Yield the plug-ins that differ. Runs without a plug-in already differ in the names that it provides."""
    for name in dict.fromkeys(name for run in runs for name in run.plugins):
        values = tuple(run.plugins.get(name) for run in runs)
        compared = {value for value in values if value is not None or not known}
        if len(compared) > 1:
            yield Difference(name, PLUGIN, values)


def differ(values: Sequence[Any], per_epoch: Sequence[int]) -> bool:
    """Return whether some values differ. Steps differ if neither the iterations nor the epochs are the same."""
    if len({(isinstance(value, bool), value) for value in values}) < 2:
        return False
    if not all(isinstance(value, str) and STEPS.fullmatch(value) for value in values):
        return True
    return len({_epochs(value, each) for value, each in zip(values, per_epoch, strict=True)}) > 1


def _epochs(steps: str, per_epoch: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(step.removesuffix("it")), per_epoch) for step in steps.split(","))


def in_epochs(value: Any, per_epoch: int) -> Any:
    """Return steps in whole epochs as such (62560it is 160ep), and any other value as it is."""
    if not isinstance(value, str) or not STEPS.fullmatch(value):
        return value
    found = []
    for step, epochs in zip(value.split(","), _epochs(value, per_epoch), strict=True):
        found.append(f"{epochs}ep" if epochs.denominator == 1 and epochs else step)
    return ",".join(found)
