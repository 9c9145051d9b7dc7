"""The job of a branch: state to score -> scores -> mask -> transform of the mask -> state to train -> train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from branches.desc import BranchDesc
from branches.lineage import job_of, load_desc, run_of_experiment
from foundations.address import MAIN
from foundations.run import Run
from foundations.step import Step
from platforms.base import Platform
from training.completion import provide
from training.context import Context
from training.desc import TrainDesc
from training.job import Beginning, Job

if TYPE_CHECKING:
    from torch import nn

    from pruning.mask import Mask


@dataclass(frozen=True)
class BranchJob(Job):
    """Prune a state of a run, then train a state of a run with the mask."""

    desc: BranchDesc

    @property
    def training(self) -> TrainDesc:  # type: ignore[override]
        """How the branch trains."""
        return self.desc.training

    @property
    def start(self) -> Step:  # type: ignore[override]
        """Where the schedule and the data order begin."""
        return self.desc.start_step

    def resolve(self, context: Context) -> None:
        """Make the parents' states that are needed, and no more of the parents than that."""
        self._describe_trunk(context)
        needed: dict[str, set[Step]] = {}
        if self.desc.scores_a_state:
            needed.setdefault(self.desc.branch.prune_experiment, set()).add(self.desc.prune_step)
        if not self.desc.branch.reinitialize:
            needed.setdefault(self.desc.branch.state_experiment, set()).add(self.desc.state_step)
        if self.desc.starts_from_a_mask:
            needed.setdefault(self.desc.branch.prune_experiment, set())
        for experiment, steps in needed.items():
            job, there = self._source(experiment, context)
            # Where only the mask is needed, the first state stands for it: the mask is made before it.
            provide(job, there, {_step_of(job, step) for step in steps} or {job.start})

    def _describe_trunk(self, context: Context) -> None:
        """Write the trunk's description, even where none of its states is needed: the branch is read back with it."""
        trunk = self._run(MAIN, context)
        if not trunk.exists():
            with trunk.locked(context.reporter.say):
                trunk.begin(self.desc.parent)

    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Compute the mask (or take it up from an earlier beginning) and prune the state to train."""
        from training.session import blank_model

        desc = self.desc
        parents: dict[str, str] = {}
        if desc.scores_a_state:
            parents |= self._fingerprint(desc.branch.prune_experiment, desc.prune_step, context)
        if desc.starts_from_a_mask:
            parents |= self._run(desc.branch.prune_experiment, context).fingerprint_of_mask()
        mask = self.first_mask(run, context, platform)
        if desc.branch.reinitialize:
            model = blank_model(desc.training, "reinitialize", self._seed(context))
        else:
            model = self._model_at(desc.branch.state_experiment, desc.state_step, context)
            parents |= self._fingerprint(desc.branch.state_experiment, desc.state_step, context)
        mask.apply_(model)
        return Beginning(model.state_dict(), mask, parents)

    def first_mask(self, run: Run, context: Context, platform: Platform) -> Mask:
        """Return the mask to begin with: what the run holds, or scored, selected, transformed and then kept there."""
        from pruning.mask import Mask

        if run.has_mask() and run.sparsity() is not None:
            return Mask.from_tensors(*run.load_mask())
        desc, seed = self.desc, self._seed(context)
        mask = self.inherited_mask(context)
        if desc.scores_a_state:
            model = self._model_at(desc.branch.prune_experiment, desc.prune_step, context).to(platform.device)
            mask = self.prune_to(desc.pruning.level(), model, mask, context, platform)
        if desc.branch.randomize_layerwise:
            mask = mask.shuffled_layerwise(seed)
        if desc.branch.randomize_globally:
            mask = mask.shuffled_globally(seed)
        if platform.is_primary:
            self.keep_mask(run, mask, desc.pruning.level() if desc.scores_a_state else None)
        return mask

    def inherited_mask(self, context: Context) -> Mask:
        """Return the mask of the run to prune, or of ones where it has none."""
        from pruning.mask import Mask
        from training.session import blank_model

        model = blank_model(self.desc.parent, context.replicate)
        if not self.desc.starts_from_a_mask:
            return Mask.ones(model)
        source = self._run(self.desc.branch.prune_experiment, context)
        return Mask.from_tensors(*source.load_mask()).for_model(model)

    def keep_mask(self, run: Run, mask: Mask, requested_level: float | None) -> None:
        """Write a mask and its report. The mask comes last: where it is, its report is too."""
        from pruning.level import kept_of
        from pruning.report import sparsity_report
        from training.session import blank_model

        requested = None if requested_level is None else kept_of(mask.total, requested_level)
        # Which weights lie on a path follows from the network's form alone, whatever its weights are.
        model, input_shape = blank_model(self.desc.parent, "report"), self.desc.parent.dataset.input_shape
        run.save_sparsity(sparsity_report(mask, requested, model=model, input_shape=input_shape))
        run.save_mask(*mask.to_tensors())

    def prune_to(self, level: float, model: nn.Module, start: Mask, context: Context, platform: Platform) -> Mask:
        """Return the mask that the strategy prunes from `start` to a prune fraction, scoring `model`."""
        from datasets.batches import Feed
        from datasets.loader import open_loader
        from pruning.prune import mask_from_hparams

        pruning, dataset, seed = self.desc.pruning, self.desc.parent.dataset, self._seed(context)
        examples = None
        per_class = pruning.examples_per_class
        if per_class is not None:
            context.prepare(dataset.dataset_name)
            as_they_are = replace(dataset, do_not_augment=True)  # nothing is made ready for augmenting
            loader = open_loader(as_they_are, context.datasets, Feed(device=platform.device))
            examples = loader.examples(per_class, seed)
        return mask_from_hparams(
            model,
            replace(pruning, prune_fraction=level),
            examples=examples,
            batch_size=dataset.batch_size,
            seed=seed,
            input_shape=dataset.input_shape,
            # Methods that build a mask (PHEW) add to what they are given; the others take away from it.
            mask=start if self.desc.starts_from_a_mask or not pruning.method.is_constructive else None,
            on_iteration=lambda done, *_: context.reporter.progress("prune", done, pruning.iterations, "iterations"),
        )

    def results(self, run: Run) -> dict[str, float]:
        """Return density and sparsity as achieved."""
        from pruning.mask import Mask

        mask = Mask.from_tensors(*run.load_mask())
        return {"density": mask.density, "sparsity": mask.sparsity}

    def _seed(self, context: Context) -> int:
        return context.replicate if self.desc.branch.seed is None else self.desc.branch.seed

    def _run(self, experiment: str, context: Context) -> Run:
        trunk = self.desc.parent.location(context.replicate)
        return run_of_experiment(context.root, trunk, experiment)

    def _source(self, experiment: str, context: Context) -> tuple[Job, Context]:
        """Return the job of a source, and the context in which it is done (its replicate may be another)."""
        run = self._run(experiment, context)
        desc = self.desc.parent if experiment == MAIN else load_desc(run)
        return job_of(desc), replace(context, replicate=run.location.replicate)

    def _fingerprint(self, experiment: str, step: Step, context: Context) -> dict[str, str]:
        job, there = self._source(experiment, context)
        return job.run(there).fingerprint_of_state(_step_of(job, step))

    def _model_at(self, experiment: str, step: Step, context: Context) -> nn.Module:
        from training.session import blank_model, load_state

        job, there = self._source(experiment, context)
        model = blank_model(self.desc.parent, context.replicate)
        load_state(model, job.run(there).load_state(_step_of(job, step)))
        return model


def _step_of(job: Job, step: Step) -> Step:
    """Return a step as one of the source's training, whose epochs may have another length."""
    return job.training.start.at(step.iteration)
