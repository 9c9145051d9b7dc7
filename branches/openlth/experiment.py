"""A whole experiment of OpenLTH's: `train_<hash>` or `lottery_<hash>`, with its replicates, levels, masks and metrics.

    lottery_<hash>/replicate_1/level_0/main/         hparams.log, model_ep*_it*.pth, mask.pth, logger
    lottery_<hash>/replicate_1/level_1/main/         the same without hparams.log
    lottery_<hash>/replicate_1/level_pretrain/main/  where weights come from a pretraining or are rewound
    train_<hash>/replicate_1/main/                   hparams.log, model_ep*_it*.pth, logger

Level 0 becomes an imported run, and each other level a branch of it, pruned within the mask of the level before.
`branches.openlth.level_branches` describes the branches of levels and of trainings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from branches.desc import BranchHparams, mask_of
from branches.imported.imported_run import Computed, ImportedBranchDesc, OriginHparams, import_run
from branches.kinds import load_desc
from branches.openlth.files import read_openlth
from branches.openlth.level_branches import branch_folders, describe_branch
from branches.openlth.log import HPARAMS, OpenLTHLog, read_log
from foundations.description.address import MAIN
from foundations.description.desc import Desc, RunRef, StateOf
from foundations.description.step import Step
from foundations.errors import EnvironmentFailure
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from training.context import Context
from training.desc import TrainDesc

_REPLICATE = re.compile(r"replicate_([1-9]\d*)")
_LEVEL = re.compile(r"level_(\d+)")
_PRETRAIN = "level_pretrain"


@dataclass(frozen=True)
class ImportedRun:
    """An imported run of an experiment."""

    run: Run
    replicate: int
    level: int | None = None
    """The level of the lottery; None for a training."""
    branch: str | None = None
    """The name of the branch of the level or training there; None for the level or training itself."""


def is_experiment(folder: Path) -> bool:
    """Return whether a directory is an OpenLTH experiment or a replicate of one, not a single run."""
    return next(folder.glob("model_*.pth"), None) is None and bool(_replicates(folder))


def log_of(folder: Path) -> OpenLTHLog | None:
    """Return the hyperparameters of an experiment, of a replicate or of a single run; None for a run without any.

    Raises: EnvironmentFailure if an experiment has none; DamagedError, see `read_log`.
    """
    places = [folder, folder.parent.parent / "level_0" / MAIN]
    for replicate in _replicates(folder).values():
        places += [replicate / MAIN, replicate / "level_0" / MAIN]
    found = next((read_log(place / HPARAMS) for place in places if (place / HPARAMS).exists()), None)
    if found is None and is_experiment(folder):
        raise EnvironmentFailure(f"There is no {HPARAMS} in {folder}, neither in main nor in level_0/main.")
    return found


def import_experiment(folder: Path, main: TrainDesc, log: OpenLTHLog, context: Context) -> list[ImportedRun]:
    """Import every finished run of an experiment, under its own replicate; report the others by name.

    main: the training that `log` describes. Raises: EnvironmentFailure if no run is finished; DamagedError.
    """
    found: list[ImportedRun] = []
    for number, replicate in _replicates(folder).items():
        found += _Replicate(replicate, main, log, replace(context, replicate=number)).imported()
    if not found:
        raise EnvironmentFailure(f"There is no finished run in {folder}: no model_ep<E>_it<I>.pth of {main.end}.")
    return found


@dataclass(frozen=True)
class _Replicate:
    """The runs of one replicate."""

    folder: Path
    main: TrainDesc
    log: OpenLTHLog
    context: Context

    def imported(self) -> Iterator[ImportedRun]:
        """Import the runs, and yield each."""
        levels = _numbered(self.folder, _LEVEL)
        base = self._finished(levels.get(0, self.folder) / MAIN, 0 if levels else None)
        if base is None:
            return
        base = self._with_pretraining(base)
        dense = before = import_run(_with_outputs(self.main, base), base, self.context)
        main = load_desc(dense)
        assert isinstance(main, TrainDesc)
        for level in sorted({0, *levels}):
            if level > 0:
                computed = self._finished(levels[level] / MAIN, level)
                if computed is None:
                    continue
                before = import_run(main, computed, self.context, self._describe_level(main, before, level))
            number = level if levels else None
            yield ImportedRun(before, self.context.replicate, number)
            # A branch whose last state is not at the end of the training, such as OpenLTH's `retrain` with another
            # length, is excluded like an unfinished one.
            for name, path in branch_folders(levels.get(level, self.folder)):
                computed = self._finished(path, number)
                if computed is not None:
                    computed = replace(computed, branch=name)
                    run = import_run(main, computed, self.context, describe_branch(dense, before, computed))
                    yield ImportedRun(run, self.context.replicate, number, name)

    def _finished(self, folder: Path, level: int | None) -> Computed | None:
        """Return the results in a `main` directory, or None if its training did not finish."""
        computed = read_openlth(folder, self.main, level) if folder.is_dir() else None
        if computed is not None and self.main.end in computed.states:
            return computed
        self.context.reporter.say(f"Left out {folder}: its training did not end.")
        return None

    def _with_pretraining(self, base: Computed) -> Computed:
        """Return level 0 with the states before the rewinding step; any other pretraining becomes a separate run."""
        folder = self.folder / _PRETRAIN / MAIN
        if not self.log.pretraining or not folder.is_dir():
            return base
        if self.log.rewinds:
            before = read_openlth(folder, self.main)
            metrics = replace(before.metrics, values={**before.metrics.values, **base.metrics.values})
            return replace(base, states={**before.states, **base.states}, metrics=metrics)
        pretraining = TrainDesc.of(self.log.pretraining)
        computed = read_openlth(folder, pretraining)
        if computed.states:
            import_run(_with_outputs(pretraining, computed), computed, self.context)
        return base

    def _describe_level(self, main: TrainDesc, before: Run, level: int) -> Callable[[OriginHparams], Desc]:
        """Return the function from a level's origin to its description. before: the run of the level before."""
        source = RunRef(load_desc(before))
        fraction = 1 - (1 - self.log.pruning_fraction) ** level
        start = main.start.at(Step.parse(self.log.start_step, main.iterations_per_epoch).iteration)
        return partial(
            ImportedBranchDesc.of,
            main=main,
            pruning=PruningHparams.of({**self.log.pruning, "prune_fraction": fraction}),
            scored=StateOf(source, source.desc.end),
            mask=mask_of(source),
            state=StateOf(RunRef(main), start),
            branch=BranchHparams(start_step=str(start)),
        )


def _with_outputs(main: TrainDesc, computed: Computed) -> TrainDesc:
    """Return the training with its states' number of outputs: OpenLTH's networks keep their default number."""
    output = next(iter(computed.states.values())).get("fc.weight")
    if output is None or len(output) == main.outputs:
        return main
    return replace(main, model=replace(main.model, outputs=len(output)))


def _replicates(folder: Path) -> dict[int, Path]:
    """Return the replicates' directories in an experiment's directory, or the directory itself if it is a replicate."""
    own = _REPLICATE.fullmatch(folder.resolve().name)
    if own is not None:
        return {int(own[1]): folder}
    return _numbered(folder, _REPLICATE)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Return the entries of a directory that a pattern matches, sorted by name, by the number in its group."""
    matches = [(pattern.fullmatch(path.name), path) for path in sorted(folder.glob("*"))]
    return {int(match[1]): path for match, path in matches if match is not None}
