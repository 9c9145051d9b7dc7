"""How long the rest of a plan takes, from the runs that are complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from branches.desc import trained_of
from foundations.desc import RunRef
from foundations.plan import PlannedRun
from foundations.run import CHECKPOINT


class Estimate:
    """Seconds an iteration, by network and dataset, from what complete runs took."""

    def __init__(self, complete: Iterable[PlannedRun] = ()) -> None:
        """Take in some runs."""
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for planned in complete:
            self.add(planned)

    def add(self, planned: PlannedRun) -> None:
        """Take in what a run took, if it is complete."""
        desc = planned.desc
        iterations = desc.end.iteration - desc.start.iteration
        if planned.manifest is not None and iterations > 0:
            self._seconds[_kind_of(planned)].append(planned.manifest.wall_seconds / iterations)

    def seconds(self, rest: Iterable[PlannedRun], at_once: int) -> float | None:
        """Return about how long some runs take, several at once; None where no run like one of them is known."""
        total = 0.0
        for planned in rest:
            iterations = iterations_left(planned)
            known = self._seconds.get(_kind_of(planned))
            if iterations and known is None:
                return None
            total += iterations * median(known) if known else 0.0
        return total / at_once


def iterations_left(planned: PlannedRun) -> int:
    """Return how many iterations a run has to be trained for, as if there were no checkpoint."""
    if planned.is_done:
        return 0
    if planned.manifest is not None:  # it is replayed
        missing = planned.missing()
        return missing[-1].iteration - planned.desc.start.iteration if missing else 0
    return planned.until.iteration - planned.desc.start.iteration


def has_checkpoint(planned: PlannedRun) -> bool:
    """Return whether a run was begun and goes on from a checkpoint."""
    return (planned.run.folder / CHECKPOINT).exists()


def _kind_of(planned: PlannedRun) -> tuple[str, str]:
    trained = trained_of(RunRef(planned.desc))
    return trained.model.model_name, trained.dataset.dataset_name
