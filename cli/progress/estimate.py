"""Estimates of the time left for a plan, from complete runs, else from timings of this machine.

Complete runs have no seconds of their scoring alone. So a run takes the time of runs that are scored and trained alike;
without these, the time per iteration of those of its network and dataset that take the least, and that of its scoring.
A scoring that was not timed takes the time on another network, by the time of an iteration with each.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from statistics import median

from branches.desc import BranchDesc, techniques_in, trained_of
from cli.display.plain_table import duration
from cli.progress.rates import Case, Rates, scoring_case
from foundations.description.desc import Desc, RunRef
from foundations.plan import PlannedRun
from foundations.storage.run import CHECKPOINT
from pruning.hparams import PruningHparams
from training.desc import TrainDesc

_Kind = tuple[str, str]
"""The names of a network and of a dataset."""


class Estimate:
    """Estimated seconds of runs, by time per iteration of each network and dataset: of complete runs, or timed."""

    def __init__(
        self, complete: Iterable[PlannedRun] = (), rates: Rates | None = None, *, evaluate_every: float = 1
    ) -> None:
        """Add some runs. rates: timings of this machine. evaluate_every: in epochs; inf for the first and last step."""
        self._seconds: dict[_Kind, dict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._rates, self._evaluate_every = rates, evaluate_every
        self._scorings: set[Case] = set()
        for planned in complete:
            self.add(planned)

    def add(self, planned: PlannedRun) -> None:
        """Add the time of a run, if it is complete."""
        desc = planned.desc
        iterations = desc.end.iteration - desc.start.iteration
        if planned.manifest is not None and iterations > 0:
            seconds = planned.manifest.wall_seconds / iterations
            self._seconds[_kind_of(planned)][_work_of(planned)].append(seconds)

    def time(self, rest: Iterable[PlannedRun], measured: Iterable[Case] = ()) -> None:
        """Time the cases that no complete run covers: trainings with the most iterations first, then prunings."""
        if self._rates is None:
            return
        trainings: dict[Case, int] = defaultdict(int)
        scorings: Counter[Case] = Counter()
        for planned in rest:
            if _kind_of(planned) not in self._seconds:  # without iterations, it is initialized and may be evaluated
                trainings[trained_of(RunRef(planned.desc)), None] += iterations_left(planned)
            if self._recorded(planned) is None and (scoring := scoring_of(planned)) is not None:
                scorings[scoring] += 1
        in_order = sorted(trainings, key=lambda case: -trainings[case])
        trained = [case for case in in_order if trainings[case]]
        scored = [case for case, _ in (scorings + Counter(measured)).most_common()]
        self._scorings.update(scored)
        self._rates.time(dict.fromkeys([*trained, *scored, *in_order]))

    def seconds(self, rest: Iterable[PlannedRun], at_once: int, measured: Iterable[Case] = ()) -> float | None:
        """Return the estimated seconds of some runs, `at_once` at a time; None if one of them cannot be estimated.

        measured: the scoring cases of measures.
        """
        total = 0.0
        for planned in rest:
            seconds = self._recorded(planned)
            if seconds is None:
                training = self._training(planned)
                if training is None:
                    return None
                seconds = training + self._scoring(scoring_of(planned))
            total += seconds
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
        untimed = self._untimed(rest, measured)
        by_others = sorted({pruning.strategy for desc, pruning in untimed if self._by_another(desc, pruning)})
        unknown = sorted({pruning.strategy for _, pruning in untimed} - {*by_others})
        words += f", with scoring by {', '.join(by_others)} estimated from other networks" if by_others else ""
        words += f", without scoring by {', '.join(unknown)}" if unknown else ""
        return words + (f" (a few steps were timed, in {duration(rates.took)})" if rates and rates.timed else "")

    def _untimed(self, rest: Iterable[PlannedRun], measured: Iterable[Case]) -> list[tuple[TrainDesc, PruningHparams]]:
        """Return the scorings that were not timed and take more than a moment."""
        cases = {*measured, *(scoring_of(planned) for planned in rest if self._recorded(planned) is None)}
        found = [case for case in cases if case and not (self._rates and self._rates.get(*case))]
        return [(desc, pruning) for desc, pruning in found if pruning and not _is_quick(pruning)]

    def _recorded(self, planned: PlannedRun) -> float | None:
        """Return the seconds of a run by those that are scored and trained alike; None if none is complete."""
        known = self._seconds.get(_kind_of(planned), {}).get(_work_of(planned))
        iterations = iterations_left(planned)
        return iterations * median(known) if known and iterations else None

    def _training(self, planned: PlannedRun) -> float | None:
        """Return the seconds of training and evaluating a run; None if they are unknown."""
        iterations = iterations_left(planned)
        known = self._seconds.get(_kind_of(planned))
        if iterations and known is not None:
            return iterations * min(map(median, known.values()))
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
        if case is None or case[1] is None or self._rates is None:
            return 0.0
        timed = self._rates.get(*case)
        return self._by_another(case[0], case[1]) if timed is None else timed["scoring"]

    def _by_another(self, desc: TrainDesc, pruning: PruningHparams) -> float:
        """Return the seconds of a scoring by those on the network most alike of which it was timed; 0 without one.

        Scorings take as long as the forward and backward passes of their examples, nearly.
        """
        own, found = self._pass_seconds(desc, pruning), list[tuple[float, float]]()
        for other, of_other in self._scorings:
            timed = self._rates.get(other, of_other) if self._rates and of_other == pruning else None
            passed = self._pass_seconds(other, pruning)
            if timed is not None and own and passed:
                found.append((abs(math.log(own / passed)), timed["scoring"] * own / passed))
        return min(found)[1] if found else 0.0

    def _pass_seconds(self, desc: TrainDesc, pruning: PruningHparams) -> float:
        """Return the timed seconds of a pass of a method's examples through a network; 0 where it was not timed."""
        timed = None if self._rates is None else self._rates.get(desc)
        count, classes = pruning.examples_per_class, desc.dataset.num_classes
        examples = 1 if count is None else desc.dataset.task.scoring_examples(count, classes)
        return 0.0 if timed is None else timed["iteration"] / desc.dataset.batch_size * examples


def scoring_of(planned: PlannedRun) -> Case | None:
    """Return the scoring case of a run; None if it scores no network, or has its mask already."""
    case = None if planned.is_done else _scoring_case_of(planned.desc)
    return None if case is None or planned.run.has_mask() else case


def _scoring_case_of(desc: Desc) -> Case | None:
    if not isinstance(desc, BranchDesc) or desc.pruning is None or desc.scored is None or desc.pruning.level == 0:
        return None
    return scoring_case(desc.main, desc.pruning)


def _is_quick(pruning: PruningHparams) -> bool:
    """Return whether scoring takes a moment, timed or not: once, without running the network."""
    method = pruning.method
    runs_network = method.needs_examples or method.needs_input_shape or method.is_constructive
    return not runs_network and pruning.prune_iterations == 1 and pruning.effective_density is None


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


def _kind_of(planned: PlannedRun) -> _Kind:
    trained = trained_of(RunRef(planned.desc))
    return trained.model.model_name, trained.dataset.dataset_name


def _work_of(planned: PlannedRun) -> Hashable:
    """Return the scoring, the iterations, the size of a batch and the techniques: runs alike in these take as long."""
    desc = planned.desc
    case = _scoring_case_of(desc)
    techniques = techniques_in(RunRef(desc))
    names = () if techniques is None else tuple(technique.spelling for technique, _ in techniques.parts)
    iterations = desc.end.iteration - desc.start.iteration
    return case and case[1], iterations, trained_of(RunRef(desc)).dataset.batch_size, names
