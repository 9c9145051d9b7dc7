"""The job of a branch: load the weights to score, prune, load the weights to train, and put the mask on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from torch import nn

from branches.desc import BranchDesc, trained_of
from datasets.batches import LoaderConfig
from datasets.loader import open_loader
from foundations.desc import StateOf
from foundations.run import source_run
from models.build import output_layer
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from pruning.mask import Mask
from pruning.prune import mask_from_hparams
from pruning.report import sparsity_report
from training.desc import TrainDesc
from training.job import InitialState, Job, initialized_model
from training.session import load_state

B = TypeVar("B", bound=BranchDesc)


class BaseBranchJob(Job[B]):
    """What all branches share: their sources, their seed, their mask's files."""

    @property
    def trained(self) -> TrainDesc:
        """How the branch trains."""
        return self.desc.as_trained

    @property
    def seed(self) -> int:
        """What names the random streams of pruning, permutations and a new initialization."""
        return self.replicate if self.desc.branch.seed is None else self.desc.branch.seed

    def model_at(self, source: StateOf) -> nn.Module:
        """Return the network in a state of a run.

        Where that run's network has another number of outputs, as after a pretraining on another dataset, the output
        layer keeps the initialization of this run.
        """
        model = initialized_model(self.desc.as_trained, self.replicate)
        state = source_run(source, self.context.root, self.replicate).load_state(source.step)
        if trained_of(source.run).outputs != self.desc.as_trained.outputs:
            layer = output_layer(model)
            name = next(name for name, module in model.named_modules() if module is layer)
            state |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
        load_state(model, state)
        return model

    def starting_mask(self, model: nn.Module) -> Mask:
        """Return the mask that the branch starts from, for a model: that of another run, or of ones."""
        if self.desc.mask is None:
            return Mask.ones(model)
        run = source_run(self.desc.mask, self.context.root, self.replicate)
        return Mask.from_tensors(*run.load_mask()).for_model(model)

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of the files of other runs that are used."""
        found: dict[str, str] = {}
        for source in self.desc.sources().values():
            found |= source_run(source, self.context.root, self.replicate).fingerprint(source)
        return found

    def keep_mask(self, mask: Mask, model: nn.Module, requested_level: float | None) -> None:
        """Write a mask and its report. The mask comes last: where it is, its report is too."""
        if not self.platform.is_primary:
            return
        requested = None if requested_level is None else kept_of(mask.total, requested_level)
        shape = self.desc.main.dataset.input_shape
        self.run.save_sparsity(sparsity_report(mask, requested, model=model, input_shape=shape))
        self.run.save_mask(*mask.to_tensors())

    def prune_to(self, level: float, pruning: PruningHparams, model: nn.Module, start: Mask) -> Mask:
        """Return the mask that the strategy prunes from `start` to a prune fraction, scoring `model`."""
        dataset, examples = self.desc.main.dataset, None
        per_class = pruning.examples_per_class
        if per_class is not None:
            self.context.prepare(dataset.dataset_name)
            as_they_are = replace(dataset, do_not_augment=True)  # nothing is made ready for augmenting
            loader = open_loader(as_they_are, self.context.datasets, LoaderConfig(device=self.platform.device))
            examples = loader.examples(per_class, self.seed)
        return mask_from_hparams(
            model,
            replace(pruning, prune_fraction=level),
            examples=examples,
            batch_size=dataset.batch_size,
            seed=self.seed,
            input_shape=dataset.input_shape,
            # Constructive methods (PHEW) add to the mask that they are given; the others take away from it.
            mask=None if self.desc.mask is None and pruning.method.is_constructive else start,
            on_iteration=lambda done, *_: self.context.reporter.progress(
                "prune", done, pruning.iterations, "iterations"
            ),
        )

    def on_finish(self, mask: Mask | None) -> dict[str, float]:
        """Return density and sparsity as achieved."""
        return {} if mask is None else {"density": mask.density, "sparsity": mask.sparsity}


class BranchJob(BaseBranchJob[BranchDesc]):
    """Prune a state of a run, then train a state of a run with the mask."""

    def is_prepared(self) -> bool:
        """Return whether the run holds its mask and the report on it."""
        return self.run.has_mask()

    def initial_state(self) -> InitialState:
        """Compute the mask, or load the one that was kept, and put it on the weights to train."""
        desc = self.desc
        scored = None if desc.scored is None or self.run.has_mask() else self.model_at(desc.scored)
        if desc.state is None:
            model = initialized_model(desc.as_trained, "reinitialize", self.seed)
        elif scored is not None and desc.state == desc.scored:
            model = scored  # scoring leaves no trace in it
        else:
            model = self.model_at(desc.state)
        mask = self._mask(scored or model)
        mask.apply_(model)
        return InitialState(model, mask, self.fingerprints())

    def _mask(self, model: nn.Module) -> Mask:
        """Return the mask that the run holds, or else score `model`, prune, permute and keep it."""
        if self.run.has_mask():
            return Mask.from_tensors(*self.run.load_mask()).for_model(model)
        desc, mask, level = self.desc, self.starting_mask(model), None
        if desc.scored is not None and desc.pruning is not None:
            level = desc.pruning.level
            mask = self.prune_to(level, desc.pruning, model.to(self.platform.device), mask)
        if desc.branch.randomize_layerwise:
            mask = mask.shuffled_layerwise(self.seed)
        if desc.branch.randomize_globally:
            mask = mask.shuffled_globally(self.seed)
        self.keep_mask(mask, model.cpu(), level)
        return mask
