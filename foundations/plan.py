"""Plans: the runs to compute, their order, and the step to compute each to, so that some runs are complete.

Planning reads descriptions, manifests and the names of files. It computes nothing and needs no torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foundations.description.address import Location
from foundations.description.desc import Desc, MaskOf
from foundations.description.step import Step
from foundations.errors import EnvironmentFailure
from foundations.packs import exists
from foundations.storage.manifest import Manifest
from foundations.storage.root import Root
from foundations.storage.root_format import check_format
from foundations.storage.run import Run
from foundations.storage.store import of_upstream


@dataclass(frozen=True)
class Target:
    """The request for one run: to be complete, or only to keep some states."""

    desc: Desc
    replicate: int = 1
    keep: tuple[Step, ...] = ()
    """The steps whose states are kept; in a complete run, besides the first and the last."""
    is_complete: bool = True
    needs_mask: bool = False
    """Whether its mask is requested, too."""


@dataclass(eq=False)
class PlannedRun:
    """A run of a plan: the requests for it, and the results that exist."""

    desc: Desc
    run: Run
    keep: set[Step] = field(default_factory=set)
    """The steps whose states it must keep."""
    needs_mask: bool = False
    is_target: bool = False
    """Whether it must be complete, not only keep some states."""
    sources: list[PlannedRun] = field(default_factory=list)
    """The runs that it depends on; empty if it has nothing to compute."""
    manifest: Manifest | None = None
    exists: bool = False
    left_out: list[str] = field(default_factory=list)
    """Sentences on the runs of upstreams that do not count, because they are damaged."""

    def refresh(self) -> None:
        """Check again what exists; a damaged run of an upstream does not count.

        Raises: DamagedError where the existing run has another description; EnvironmentFailure.
        """
        self.run.look_again()
        try:
            self.manifest = self.run.manifest()
            self.exists = self.manifest is not None or self.run.exists()
            if self.exists:
                self.run.check(self.desc)
        except EnvironmentFailure as error:
            if self.run.upstream is None:
                raise
            self.leave_out(error)

    def leave_out(self, error: EnvironmentFailure) -> None:
        """Do not count the run of an upstream, note why, and refresh. Raises: EnvironmentFailure; as `refresh`."""
        assert isinstance(self.run.root, Root) and self.run.upstream is not None, "an upstream's run counts"
        self.run.root.leave_out(self.run.upstream, self.run.location)
        self.left_out.append(f"{str(error).splitlines()[0]} So this run of an upstream does not count.")
        self.refresh()

    @property
    def is_upstreams(self) -> bool:
        """Whether a complete run of an upstream counts as this run."""
        return self.manifest is not None and self.run.upstream is not None

    @property
    def until(self) -> Step:
        """The step to which it must be computed."""
        return self.desc.end if self.is_target else max(self.keep, default=self.desc.start)

    def missing(self) -> list[Step]:
        """Return the steps whose states are requested and not kept, ascending."""
        if self.manifest is not None:  # only what it lists counts: a replay that was killed may have left more
            return sorted(step for step in self.keep if Run.state_name(step) not in self.manifest.files)
        run = self.run
        return sorted(step for step in self.keep if not (self.exists and exists(run.path(run.state_name(step)))))

    def uses(self) -> list[str]:
        """Return the states of other runs that its computation may read, as `<location>/<file>`."""
        return [f"{source.run}/{Run.state_name(step)}" for source in self.sources for step in sorted(source.keep)]

    @property
    def is_done(self) -> bool:
        """Whether everything that is requested exists."""
        if self.is_target and self.manifest is None:
            return False
        return not self.missing() and (not self.needs_mask or self.run.has_mask())

    @property
    def together_key(self) -> Hashable:
        """A key that is equal for runs that one process can train together with this one; None if it trains alone."""
        return self.desc.together_key if self.is_target and self.manifest is None else None

    @property
    def status(self) -> str:
        """The state of the run: complete, incomplete or not begun."""
        if self.manifest:
            return f"complete{of_upstream(self.run.upstream)}"
        return "incomplete" if self.exists else "not begun"


class Plan:
    """The runs that some targets need, each once, every run after those that it depends on."""

    def __init__(self, root: Path) -> None:
        check_format(root)
        self._root = root
        self._runs: dict[Location, PlannedRun] = {}
        self._targets: list[PlannedRun] = []

    def __iter__(self) -> Iterator[PlannedRun]:
        # Ordered only now: a later target may ask for more of a run, whose sources then come into the plan before it.
        order: dict[Location, PlannedRun] = {}
        waiting = self._targets[::-1]
        while waiting:
            missing = [source for source in waiting[-1].sources if source.run.location not in order]
            if missing:
                waiting += reversed(missing)
            else:
                planned = waiting.pop()
                order.setdefault(planned.run.location, planned)
        return iter(order.values())

    def __getitem__(self, location: Location) -> PlannedRun:
        return self._runs[location]

    def to_do(self) -> list[PlannedRun]:
        """Return the runs that need computing, in order."""
        return [planned for planned in self if not planned.is_done]

    def add(self, target: Target) -> PlannedRun:
        """Add a target and the runs that it needs.

        Raises: DamagedError if an existing run has another description; UsageError for one that cannot be computed.
        """
        found = self._asked(target)
        self._targets.append(found)
        self._expand([found])
        return found

    def leave_out(self, planned: PlannedRun, error: EnvironmentFailure) -> None:
        """Plan to compute a run here, because that of an upstream is damaged. Raises: as `add`."""
        planned.leave_out(error)
        self._expand([planned])

    def _expand(self, waiting: list[PlannedRun]) -> None:
        """Add the runs that some runs of the plan need."""
        while waiting:
            planned = waiting.pop()
            if planned.manifest is None:
                planned.desc.check()
            if not planned.is_done and not planned.sources:
                waiting += self._expanded(planned)

    def _expanded(self, planned: PlannedRun) -> list[PlannedRun]:
        replicate = planned.run.location.replicate
        for source in planned.desc.sources().values():
            desc = source.run.desc
            step = desc.mask_step if isinstance(source, MaskOf) else source.step
            number = replicate if source.run.replicate is None else source.run.replicate
            is_mask = isinstance(source, MaskOf)
            needed = self._asked(Target(desc, number, (step or desc.start,), is_complete=False, needs_mask=is_mask))
            if needed not in planned.sources:
                planned.sources.append(needed)
        return planned.sources

    def _asked(self, target: Target) -> PlannedRun:
        location = target.desc.location(target.replicate)
        planned = self._runs.get(location)
        if planned is None:
            planned = self._runs[location] = PlannedRun(target.desc, Run(self._root, location))
            planned.refresh()
        planned.is_target |= target.is_complete
        planned.needs_mask |= target.needs_mask
        planned.keep.update(target.keep)
        if target.is_complete:
            # A complete run stays complete without the states that were evicted: who needs one, asks for it.
            evicted = planned.manifest.evicted if planned.manifest else {}
            ends = (target.desc.start, target.desc.end)
            planned.keep.update(step for step in ends if Run.state_name(step) not in evicted)
        return planned


def plan(targets: Iterable[Target], root: Path) -> Plan:
    """Plan the runs for some targets under a root. Raises: DamagedError if an existing run has another description."""
    made = Plan(root)
    for target in targets:
        made.add(target)
    return made
