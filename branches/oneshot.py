"""The oneshot branch: state to score -> scores -> mask -> transform of the mask -> state to train -> train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from branches.desc import OneshotDesc
from foundations.address import MAIN, Location
from foundations.errors import UsageError, did_you_mean
from foundations.run import Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context
from training.desc import TrainDesc
from training.job import Beginning, Job, TrainJob, provide

if TYPE_CHECKING:
    from torch import nn

    from pruning.mask import Mask


@dataclass(frozen=True)
class OneshotJob(Job):
    """Prune a state of a run, then train a state of a run with the mask."""

    desc: OneshotDesc

    @property
    def training(self) -> TrainDesc:  # type: ignore[override]
        """The parent's way of training."""
        return self.desc.parent

    @property
    def start(self) -> Step:  # type: ignore[override]
        """Where the schedule and the data order begin."""
        return self.desc.start_step

    def resolve(self, context: Context) -> None:
        """Make the parents' states that are needed, and no more of the parents than that."""
        needed: dict[str, set[Step]] = {self.desc.branch.prune_experiment: {self.desc.prune_step}}
        if not self.desc.branch.reinitialize:
            needed.setdefault(self.desc.branch.state_experiment, set()).add(self.desc.state_step)
        for experiment, steps in needed.items():
            if experiment == MAIN:
                provide(TrainJob(self.desc.parent), context, steps)
            else:
                self._check_branch(experiment, steps, context)

    def begin(self, run: Run, context: Context, platform: Platform) -> Beginning:
        """Compute the mask (or take it up from an earlier beginning) and prune the state to train."""
        from training.session import blank_model, load_state

        seed = context.replicate if self.desc.pruning.seed is None else self.desc.pruning.seed
        parents: dict[str, str] = {}
        mask = self.kept_mask(run)
        if mask is None:
            mask = self._make_mask(run, context, platform, seed)
        scored_run = self._parent_run(self.desc.branch.prune_experiment, context)
        parents |= scored_run.fingerprint_of_state(self.desc.prune_step)
        if self.desc.branch.reinitialize:
            model = blank_model(self.desc.parent, "reinitialize", seed)
        else:
            model = blank_model(self.desc.parent, context.replicate)
            trained_run = self._parent_run(self.desc.branch.state_experiment, context)
            load_state(model, trained_run.load_state(self.desc.state_step))
            parents |= trained_run.fingerprint_of_state(self.desc.state_step)
        mask.apply_(model)
        return Beginning(model.state_dict(), mask, parents)

    def kept_mask(self, run: Run) -> Mask | None:
        """Return the mask that the run holds."""
        from pruning.mask import Mask

        return Mask.from_tensors(*run.load_mask()) if run.has_mask() else None

    def results(self, run: Run) -> dict[str, float]:
        """Return density and sparsity as achieved."""
        achieved = (run.sparsity() or {})["achieved"]
        return {"density": achieved["density"], "sparsity": achieved["sparsity"]}

    def _make_mask(self, run: Run, context: Context, platform: Platform, seed: int) -> Mask:
        from datasets.loader import open_loader
        from datasets.prepared import ensure_prepared
        from pruning.level import kept_of
        from pruning.mask import Mask
        from pruning.prune import mask_from_hparams
        from pruning.report import sparsity_report
        from training.session import blank_model, load_state

        desc = self.desc
        model: nn.Module = blank_model(desc.parent, context.replicate)
        load_state(model, self._parent_run(desc.branch.prune_experiment, context).load_state(desc.prune_step))
        model.to(platform.device)
        examples = None
        per_class = desc.pruning.found_strategy.examples_per_class
        if per_class is not None and desc.pruning.level() > 0:
            name = desc.parent.dataset.dataset_name
            ensure_prepared(name, context.datasets, allow_download=context.may_download, report=context.reporter.say)
            loader = open_loader(desc.parent.dataset, context.datasets, device=platform.device)
            examples = loader.examples(per_class, seed)
        mask = mask_from_hparams(
            model,
            desc.pruning,
            examples=examples,
            batch_size=desc.parent.dataset.batch_size,
            seed=seed,
            input_shape=desc.parent.dataset.input_shape,
            on_iteration=lambda done, *_: context.reporter.progress(
                "prune", done, desc.pruning.prune_iterations, "iterations"
            ),
        )
        if desc.branch.randomize_layerwise:
            mask = mask.shuffled_layerwise(seed)
        if platform.is_primary:
            requested = kept_of(Mask.ones(model).total, desc.pruning.level())
            run.save_sparsity(sparsity_report(mask, requested))
            run.save_mask(*mask.to_tensors())
        return mask

    def _parent_run(self, experiment: str, context: Context) -> Run:
        main = self.desc.parent.location(context.replicate)
        return Run(context.root, Location(main.trunk, main.replicate, experiment))

    def _check_branch(self, experiment: str, steps: set[Step], context: Context) -> None:
        """Check that a branch that serves as parent is there and has the states."""
        run = self._parent_run(experiment, context)
        if not run.exists():
            folder = run.folder.parent
            there = sorted(path.name for path in folder.glob("branch_*")) if folder.exists() else []
            raise UsageError(
                f"--prune_experiment, --state_experiment: there is no run '{experiment}' in {folder}."
                f"{did_you_mean(experiment, there)} Possible: {', '.join([MAIN, *there])}."
            )
        run.record()
        run.manifest()
        kept = run.kept_states(self.desc.iterations_per_epoch)
        for step in sorted(steps - set(kept)):
            raise UsageError(f"{run} has no state at {step}. Kept: {', '.join(str(k) for k in kept) or 'none yet'}.")
