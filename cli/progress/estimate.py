"""Estimates of the time left for a plan, from complete runs, else from timings of this machine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from branches.desc import BranchDesc, trained_of
from cli.display.plain_table import duration
from cli.progress.rates import Case, Rates, scoring_case
from foundations.description.desc import RunRef
from foundations.plan import PlannedRun
from foundations.storage.run import CHECKPOINT


class Estimate:
    """Estimated seconds of runs, by time per iteration of each network and dataset: of complete runs, or timed."""

    def __init__(
        self, complete: Iterable[PlannedRun] = (), rates: Rates | None = None, *, evaluate_every: float = 1
    ) -> None:
        """Add some runs. rates: timings of this machine. evaluate_every: in epochs; inf for the first and last step."""
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._rates, self._evaluate_every = rates, evaluate_every
        for planned in complete:
            self.add(planned)

    def add(self, planned: PlannedRun) -> None:
        """Add the time of a run, if it is complete."""
        desc = planned.desc
        iterations = desc.end.iteration - desc.start.iteration
        if planned.manifest is not None and iterations > 0:
            self._seconds[_kind_of(planned)].append(planned.manifest.wall_seconds / iterations)

    def time(self, rest: Iterable[PlannedRun], measured: Iterable[Case] = ()) -> None:
        """Time the cases that no complete run covers: trainings with the most iterations first, then prunings."""
        if self._rates is None:
            return
        trainings: dict[Case, int] = defaultdict(int)
        scorings: dict[Case, None] = {}
        for planned in rest:
            if _kind_of(planned) not in self._seconds:  # without iterations, it is initialized and may be evaluated
                trainings[trained_of(RunRef(planned.desc)), None] += iterations_left(planned)
            if (scoring := scoring_of(planned)) is not None:
                scorings[scoring] = None
        in_order = sorted(trainings, key=lambda case: -trainings[case])
        trained = [case for case in in_order if trainings[case]]
        self._rates.time(dict.fromkeys([*trained, *scorings, *measured, *in_order]))

    def seconds(self, rest: Iterable[PlannedRun], at_once: int, measured: Iterable[Case] = ()) -> float | None:
        """Return the estimated seconds of some runs, `at_once` at a time; None if one of them cannot be estimated.

        measured: the scoring cases of measures.
        """
        total = 0.0
        for planned in rest:
            training = self._training(planned)
            if training is None:
                return None
            total += training + self._scoring(scoring_of(planned))
        return total / at_once + sum(map(self._scoring, measured))

    def said(self, rest: Sequence[PlannedRun], at_once: int, measured: Sequence[Case] = ()) -> str:
        """Return the estimate for the rest and its basis, as text."""
        seconds, rates = self.seconds(rest, 1, measured), self._rates
        if seconds is None:
            elsewhere = rates is not None and not rates.is_here
            return "time not known yet" + (", and not timed: the jobs run elsewhere" if elsewhere else "")
        words = (f"about {duration(seconds)}" if seconds >= 1 else "less than a second") + " of computing"
        if at_once > 1 and seconds >= 1:
            words += f", with {at_once} jobs at once about {duration(self.seconds(rest, at_once, measured) or 0.0)}"
        untimed = [case for case in {*map(scoring_of, rest), *measured} if case and not (rates and rates.get(*case))]
        if untimed:
            words += f", without scoring by {', '.join(sorted({case[1].strategy for case in untimed if case[1]}))}"
        return words + (f" (a few steps were timed, in {duration(rates.took)})" if rates and rates.timed else "")

    def _training(self, planned: PlannedRun) -> float | None:
        """Return the seconds of training and evaluating a run; None if they are unknown."""
        iterations = iterations_left(planned)
        known = self._seconds.get(_kind_of(planned))
        if iterations and known is not None:
            return iterations * median(known)
        desc = trained_of(RunRef(planned.desc))
        timed = None if self._rates is None else self._rates.get(desc)
        if timed is None:
            return None if iterations else 0.0
        evaluations = 0
        if planned.is_target and planned.manifest is None:
            epochs = math.ceil(iterations / desc.iterations_per_epoch)
            evaluations = 1 + max(min(1, epochs), math.ceil(epochs / self._evaluate_every))
        examples = desc.dataset.spec.num_test + desc.dataset.validation_examples
        states = len(planned.missing()) * timed["state"]
        return timed["start"] + states + iterations * timed["iteration"] + evaluations * examples * timed["example"]

    def _scoring(self, case: Case | None) -> float:
        """Return the seconds of scoring a network; 0 if they are unknown."""
        timed = None if case is None or self._rates is None else self._rates.get(*case)
        return 0.0 if timed is None else timed["scoring"]


def scoring_of(planned: PlannedRun) -> Case | None:
    """Return the scoring case of a run; None if it scores no network, or has its mask already."""
    desc = planned.desc
    if not isinstance(desc, BranchDesc) or desc.pruning is None or desc.scored is None or planned.is_done:
        return None
    if planned.run.has_mask() or desc.pruning.level == 0:
        return None
    return scoring_case(desc.main, desc.pruning)


def iterations_left(planned: PlannedRun) -> int:
    """Return the number of iterations to train a run for, ignoring its checkpoint."""
    if planned.is_done:
        return 0
    if planned.manifest is not None:  # it is replayed
        missing = planned.missing()
        return missing[-1].iteration - planned.desc.start.iteration if missing else 0
    return planned.until.iteration - planned.desc.start.iteration


def has_checkpoint(planned: PlannedRun) -> bool:
    """Return whether a run has a checkpoint to continue from."""
    return planned.run.path(CHECKPOINT).exists()


def _kind_of(planned: PlannedRun) -> tuple[str, str]:
    trained = trained_of(RunRef(planned.desc))
    return trained.model.model_name, trained.dataset.dataset_name
