"""The job of a branch: load the weights to score, prune, load the weights to train, and put the mask on them."""

from __future__ import annotations

from torch import nn

from branches.desc import BranchDesc, trained_of
from foundations.desc import StateOf
from foundations.run import source_run
from models.build import output_layer
from pruning.mask import Mask
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.job import InitialState, Job, initialized_model
from training.masking import keep_mask, prune_with_data
from training.session import load_state


class BranchJob(Job[BranchDesc]):
    """Prune a state of a run, then train a state of a run with the mask."""

    @property
    def trained(self) -> TrainDesc:
        """How the branch trains."""
        return self.desc.as_trained

    @property
    def techniques(self) -> TechniquesHparams | None:
        """Those of the description."""
        return self.desc.techniques

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

    def is_prepared(self) -> bool:
        """Return whether the run holds its mask and the report on it; one that changes is kept at the end only."""
        return self.desc.changes_mask or self.run.has_mask()

    def initial_state(self) -> InitialState:
        """Compute the mask, or load the one that was kept, and put it on the weights to train."""
        desc, holds_mask = self.desc, self.run.has_mask() and not self.desc.changes_mask
        scored = None if desc.scored is None or holds_mask else self.model_at(desc.scored)
        if desc.state is None:
            which = desc.branch.initialization
            model = initialized_model(desc.as_trained, "reinitialize", self.seed, *([which] if which else []))
        elif scored is not None and desc.state == desc.scored:
            model = scored  # scoring leaves no trace in it
        else:
            model = self.model_at(desc.state)
        if holds_mask:
            mask = Mask.from_tensors(*self.run.load_mask()).for_model(model)
        else:
            mask = self._new_mask(scored or model)
        mask.apply_(model)
        return InitialState(model, mask, self.fingerprints())

    def _new_mask(self, model: nn.Module) -> Mask:
        """Score `model`, prune and permute; keep the mask, unless it changes while the network trains."""
        desc, mask, level = self.desc, self.starting_mask(model), None
        if desc.scored is not None and desc.pruning is not None:
            level = desc.pruning.level
            # Constructive methods (PHEW) add to the mask that they are given; the others take away from it.
            adds_to_nothing = desc.mask is None and desc.pruning.method.is_constructive
            mask = prune_with_data(
                model.to(self.platform.device),
                desc.pruning,
                None if adds_to_nothing else mask,
                dataset=desc.main.dataset,
                context=self.context,
                device=self.platform.device,
                seed=self.seed,
            )
        if desc.branch.randomize_layerwise:
            mask = mask.shuffled_layerwise(self.seed)
        if desc.branch.randomize_globally:
            mask = mask.shuffled_globally(self.seed)
        if desc.branch.layers_to_ignore:
            mask = mask.with_whole(desc.branch.layers_to_ignore.split(","), "layers_to_ignore")
        model.cpu()
        if not desc.changes_mask and self.platform.is_primary:
            keep_mask(self.run, mask, model, desc.main.dataset.input_shape, level)
        return mask
