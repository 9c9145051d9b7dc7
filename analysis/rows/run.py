"""Reader of one run: its description, results, weights, mask, parents and children."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.rows.run_row import Row, row_of
from branches.desc import techniques_in, trained_of
from branches.kinds import load_desc
from datasets.added.added import register_added
from foundations.description.address import MAIN, Location
from foundations.description.desc import Desc, RunRef, flat_hyperparameters
from foundations.description.step import BEST, Step
from foundations.environment import Environment
from foundations.errors import EnvironmentFailure, UsageError
from foundations.metrics import Metrics
from foundations.plugins.plugins import load_plugins
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.store import find_run, short_address, source_locations, users_by_location

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from pruning.masks.mask import Mask
    from training.context import Context


def open_run(
    address: str | os.PathLike[str] | Location, root: Path | str | None = None, datasets: Path | str | None = None
) -> StoredRun:
    """Return a run under a root, complete or not, without reading its files.

    address: any unique prefix of its digest or its directory's name, with `/N` for a replicate, as `ls` prints it; or
    its whole location, or its folder.
    root: where runs are; by default OPEN_PRUNE_ROOT, or ~/open_prune_data.
    datasets: where prepared datasets are; by default OPEN_PRUNE_DATASETS, or ~/open_prune_datasets.
    Raises: UsageError if the address matches no run, or several, or is of another type.
    """
    environment = Environment.read(root, datasets)
    text = os.fspath(address) if isinstance(address, os.PathLike) else address
    if not isinstance(text, str | Location):
        raise UsageError(f"it takes a text such as '1a2b3c4d/1', or a run's folder, not {address!r:.60}.", "address")
    return StoredRun(find_run(environment.root, str(text)).location, environment)


@dataclass(frozen=True, repr=False)
class StoredRun:
    """A run in its directory. Each property and method reads the present content of the files that it needs.

    Raises: DamagedError, from all but `status` and `problem`, if a file differs from what was written. The error names
    the file and the command that repairs it.
    """

    location: Location
    """Its folder under the root; as text, its whole address."""
    environment: Environment

    def __str__(self) -> str:
        return str(self.location)

    def __repr__(self) -> str:
        return f"StoredRun({str(self)!r})"

    # What it is.

    @property
    def address(self) -> str:
        """The first 8 digits of the digest, and the replicate: enough to open the run again."""
        return short_address(self._run)

    @property
    def digest(self) -> str:
        """The digest of the run's description, 32 hex digits, the same for all replicates."""
        return self.location.digest

    @property
    def replicate(self) -> int:
        """The number of the replicate, from 1."""
        return self.location.replicate

    @property
    def folder(self) -> Path:
        """The directory with the run's files."""
        return self._run.folder

    @property
    def upstream(self) -> Path | None:
        """The upstream that has its files, which are only read; None for a run in the root itself."""
        return self._run.upstream

    @property
    def status(self) -> str:
        """complete, running (a process works on it now), incomplete, damaged, or missing (nothing is there)."""
        return self.row().status

    @property
    def problem(self) -> str:
        """A message on why the run cannot be read; empty if it can."""
        return self.row().problem

    def row(self) -> Row:
        """Return the run's row, as in `ls` and `runs`."""
        return row_of(self._run)

    @property
    def description(self) -> Desc:
        """The description of the run: groups of hyperparameters, and the sources that it depends on.

        Reading it loads the plug-ins in OPEN_PRUNE_PLUGINS.
        Raises: UsageError if it needs another plug-in; DamagedError also if it has an unknown name.
        """
        load_plugins(self.environment.plugins)
        register_added(self.environment.datasets)
        return self._description

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters by name. A branch inherits those of its training that it does not set itself."""
        return flat_hyperparameters(self._run.record())

    # Its results.

    @property
    def manifest(self) -> Manifest | None:
        """Files, versions, device, seconds of computing; None if the run is not complete."""
        return self._run.manifest()

    @property
    def results(self) -> dict[str, float | None]:
        """The last value of each metric, density and sparsity; empty if the run is not complete.

        A value that was not a finite number is None.
        """
        manifest = self.manifest
        return dict(manifest.results) if manifest else {}

    @property
    def metrics(self) -> Metrics:
        """The metrics measured so far, by name and iteration."""
        return self._run.metrics()

    def metrics_frame(self) -> pd.DataFrame:
        """Return the metrics measured so far, one row per value: name, iteration (int), epoch and value (float)."""
        import pandas as pd

        measured = sorted(self.metrics.values.items(), key=lambda item: (item[0][1], item[0][0]))
        iterations = [iteration for (_, iteration), _ in measured]
        columns = {
            "name": pd.Series([name for (name, _), _ in measured], dtype="str"),
            "iteration": pd.Series(iterations, dtype="int64"),
            "epoch": pd.Series([each / self._iterations_per_epoch for each in iterations], dtype="float64"),
            "value": pd.Series([value for _, value in measured], dtype="float64"),
        }
        return pd.DataFrame(columns)

    @property
    def sparsity_report(self) -> dict[str, Any] | None:
        """The report on the mask, requested and achieved, in total and by layer; None if there is none.

        See `pruning.report.sparsity_report` for its content.
        """
        return self._run.sparsity()

    # Its tensors.

    def mask(self) -> Mask | None:
        """Return the mask, bool tensors on the CPU; None if the run has none, or not yet."""
        from pruning.masks.mask import Mask

        return Mask.of_run(self._run) if self._run.has_mask() else None

    @property
    def steps(self) -> list[Step]:
        """The steps with a kept state, ascending."""
        manifest, kept = self.manifest, self._run.kept_states(self._iterations_per_epoch)
        # A replay that was killed may have left states that the manifest does not list.
        return [step for step in kept if manifest is None or Run.state_name(step) in manifest.files]

    @property
    def evicted_steps(self) -> list[Step]:
        """The steps whose states `gc` removed, ascending: a replay gives them back."""
        return self._run.evicted_states(self._iterations_per_epoch)

    @property
    def best_step(self) -> Step | None:
        """The first step with the best accuracy so far on held out examples; None without held out examples.

        A job with `--keep_best` keeps its state.
        """
        return self._run.best_step(self._iterations_per_epoch)

    def step(self, wanted: Step | str | None = None) -> Step:
        """Return the step that a text names, whether or not its state was kept.

        wanted: such as `50it`, `3ep` or a Step; `best` for `best_step`; by default the last whose state was kept, even
        if `gc` has removed it since.
        Raises: UsageError if there is no such step; EnvironmentFailure if no state was kept at all.
        """
        if wanted is None:
            steps = [*self.steps, *self.evicted_steps]
            if not steps:
                raise EnvironmentFailure(self._run.why_no_state())
            return max(steps)
        if wanted == BEST:
            best = self.best_step
            if best is None:
                raise UsageError(f"{self} measured nothing on held out examples, so no state is its best.", "step")
            return best
        step = wanted if isinstance(wanted, Step) else Step.parse(wanted, self._iterations_per_epoch)
        if step.iterations_per_epoch != self._iterations_per_epoch:
            raise UsageError(
                f"{step} is a step of {step.iterations_per_epoch} iterations an epoch; {self} has "
                f"{self._iterations_per_epoch}.",
                "step",
            )
        return step

    def state(self, step: Step | str | None = None, *, replay: bool = False) -> dict[str, Tensor]:
        """Return weights and buffers at a step, on the CPU, with the names of `state_dict`. Pruned weights are 0.

        step: such as `50it`, `3ep` or a Step; `best` for `best_step`; by default the last with a kept state.
        replay: if the state was not kept, train again to that step, which needs the dataset, and keep the state in the
        run's directory.
        Raises: UsageError if the run has no such step, or did not keep its state; EnvironmentFailure if the state
        cannot be computed, or no state was kept at all.
        """
        return self._run.load_state(self._kept(step, replay=replay))

    def model(self, step: Step | str | None = None, *, replay: bool = False) -> nn.Module:
        """Return the network with the weights of a step, on the CPU, in eval mode.

        Frozen parameters have requires_grad False, all others True. The mask is not attached: to train on,
        `mask().attach(optimizer)` keeps pruned weights at 0. The arguments and errors are those of `state`.
        """
        from training.structure import load_state

        state = self.state(step, replay=replay)
        model = self._network()
        load_state(model, state)
        return model.eval()

    # Its relatives.

    @property
    def main(self) -> StoredRun:
        """The training whose directory contains the run; a training is its own."""
        return self._at(dataclasses.replace(self.location, name=MAIN))

    @property
    def parents(self) -> Mapping[str, StoredRun]:
        """The runs that it depends on, by role: `scored` and `state` (weights) and `mask`.

        `description.sources()` has the steps of the states.
        """
        return {name: self._at(location) for name, location in source_locations(self._run, self._run.record()).items()}

    def children(self) -> list[StoredRun]:
        """Return the runs under the root that depend on it. Unreadable runs are excluded."""
        found = users_by_location(self.environment.root).get(self.location, [])
        return [self._at(run.location) for run in found]

    @cached_property
    def _run(self) -> Run:
        return Run(self.environment.root, self.location)

    @cached_property
    def _description(self) -> Desc:
        return load_desc(self._run)

    @cached_property
    def _iterations_per_epoch(self) -> int:
        return int(self._run.record()["iterations_per_epoch"])

    def _network(self) -> nn.Module:
        from training.job import initialized_model

        run = RunRef(self.description)
        return initialized_model(trained_of(run), self.replicate, techniques=techniques_in(run))

    def _at(self, location: Location) -> StoredRun:
        return StoredRun(location, self.environment)

    def _kept(self, wanted: Step | str | None, *, replay: bool) -> Step:
        """Return the requested step, after making sure that its state is kept."""
        step, steps = self.step(wanted), self.steps
        if step not in steps:
            if not replay:
                kept = ", ".join(map(str, steps)) or "none"
                has = "no longer has" if step in self.evicted_steps else "did not keep"
                raise UsageError(
                    f"{self} {has} its state at {step}; it kept {kept}. With replay=True it is computed.", "step"
                )
            self._replay([step])
        return step

    def _replay(self, steps: Sequence[Step]) -> None:
        from training.jobs.compute import ensure_states

        context = dataclasses.replace(self._replay_context(), replicate=self.replicate)
        ensure_states(self.description, context, steps)
        self._run.look_again()  # an upstream's run was copied to the root itself

    def _replay_context(self) -> Context:
        """Return the context for computing states that were not kept."""
        from platforms.platform import PlatformHparams, make_platform
        from training.context import Context

        return Context(
            root=self.environment.root,
            datasets=self.environment.datasets,
            platform=make_platform(PlatformHparams()),
            may_download=not self.environment.no_download,
        )
