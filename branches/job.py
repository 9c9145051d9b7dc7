"""The job of a branch: load the weights to score, prune, and load the weights to train with the mask."""

from __future__ import annotations

from torch import nn

from branches.desc import BranchDesc, techniques_in, trained_of
from branches.signs import transfer_signs, with_signs
from foundations.description.desc import RunRef, Source, StateOf
from foundations.errors import UsageError
from foundations.storage.run import Run
from models.build import initialize_masked, output_layer
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.paths.unit_groups import UnitGroup, permuted, unit_groups
from pruning.paths.weight_matching import weight_matching
from pruning.scoring.score_statistics import Statistics, score_statistics
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.job import InitialState, Job, initialized_model
from training.masking import (
    Requested,
    keep_mask,
    prunable_part,
    prune_with_data,
    say_left_out,
    saying_warnings,
    scoring_inputs,
)
from training.structure import load_state, state_for, without_added


def check_alignable(desc: TrainDesc, techniques: TechniquesHparams | None) -> None:
    """Check that the units of a network can be permuted. Raises: UsageError about `align`."""
    groups_of(initialized_model(desc, techniques=techniques), desc)


def groups_of(model: nn.Module, desc: TrainDesc) -> list[UnitGroup]:
    """Return the groups of units of the network of a training. Raises: UsageError about `align`."""
    try:
        return unit_groups(model, desc.dataset.inputs)
    except UsageError as error:
        raise UsageError(error.reason, "align") from error


class BranchJob(Job[BranchDesc]):
    """Prune a state of a run, then train a state of a run with the mask."""

    @property
    def trained(self) -> TrainDesc:
        """The training of the branch."""
        return self.desc.as_trained

    @property
    def techniques(self) -> TechniquesHparams | None:
        """The techniques of the description."""
        return self.desc.techniques

    @property
    def prunings(self) -> list[PruningHparams]:
        """The pruning hyperparameters of its techniques and of the branch itself."""
        return [*super().prunings, *([self.desc.pruning] if self.desc.pruning is not None else [])]

    @property
    def seed(self) -> int:
        """The seed of the random streams of pruning, permutations and a new initialization."""
        return self.replicate if self.desc.branch.seed is None else self.desc.branch.seed

    def model_at(self, source: StateOf) -> nn.Module:
        """Return the network in a state of a run.

        If that run's network has another number of outputs, as after a pretraining on another dataset, the output layer
        keeps this run's initialization. So do parts that only this run's techniques add to the network; parts that only
        that run's techniques added are omitted.
        """
        model = initialized_model(self.desc.as_trained, self.replicate, techniques=self.techniques)
        state = self._run_of(source).load_state(source.step)
        if trained_of(source.run).outputs != self.desc.as_trained.outputs:
            layer = output_layer(model)
            name = next(name for name, module in model.named_modules() if module is layer)
            state |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
        if self._structure_differs(source.run):
            state = state_for(model, state, self.desc.as_trained)
        load_state(model, state)
        return model

    def _structure_differs(self, run: RunRef) -> bool:
        """Return whether techniques may have changed the network of this run or of another one."""
        return any(found and found.structural for found in (self.techniques, techniques_in(run)))

    def starting_mask(self, model: nn.Module) -> Mask:
        """Return the starting mask of the branch for a model: another run's mask, or all ones."""
        if self.desc.mask is None:
            pruning = self.desc.pruning
            return Mask.to_prune(model, pruning or PruningHparams())
        run = self._run_of(self.desc.mask)
        mask = Mask.of_run(run)
        if self._structure_differs(self.desc.mask.run):
            mask = Mask(without_added(model, mask, self.desc.as_trained))
        return self._aligned(mask.for_model(model), model)

    def _aligned(self, mask: Mask, model: nn.Module) -> Mask:
        """Return the mask, with its units permuted if the branch aligns it. Raises: UsageError about `align`."""
        source, target = self.desc.units_from, self.desc.units_to
        if source is None or target is None:
            return mask
        groups = groups_of(model, self.desc.main)
        try:
            first, second = (self._run_of(each).load_state(each.step) for each in (target, source))
            orders = weight_matching(first, second, groups, [name for name, _ in model.named_parameters()])
        except UsageError as error:
            raise UsageError(error.reason, "align") from error
        return Mask(permuted(mask, groups, orders), model)

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of the files of other runs that the branch uses."""
        found: dict[str, str] = {}
        for source in self.desc.sources().values():
            found |= self._run_of(source).fingerprint(source)
        return found

    def is_prepared(self) -> bool:
        """Return whether the run holds its mask and the mask's report; a mask that changes is stored only at the end.

        Raises: DamagedError if the report was changed.
        """
        return self.desc.changes_mask or (self.run.has_mask() and self.run.sparsity() is not None)

    def initial_state(self) -> InitialState:
        """Compute the mask, or load the stored one, and load the weights to train."""
        desc, holds_mask = self.desc, not self.desc.changes_mask and self.platform.agree(self.run.has_mask)
        scored = None if desc.scored is None or holds_mask else self.model_at(desc.scored)
        if desc.pruning is not None and desc.pruning.replaces_weights is not None and desc.scored is not None:
            model = self._with_own_weights(desc.pruning, desc.scored)
        elif desc.state is None:
            which = desc.branch.initialization
            keys: list[int | str] = ["reinitialize", self.seed, *([which] if which else [])]
            model = initialized_model(desc.as_trained, *keys, techniques=self.techniques)
        elif scored is not None and desc.state == desc.scored:
            model = scored  # scoring does not change it
        else:
            model = self.model_at(desc.state)
        mask = Mask.of_run(self.run).for_model(model) if holds_mask else self._new_mask(scored or model)
        if desc.branch.masked_init is not None:
            initialize_masked(model, mask, desc.branch.masked_init, (self.seed,))
        if desc.signs is not None:
            trained = self._run_of(desc.signs).load_state(desc.signs.step)
            transfer_signs(model, mask, trained, output=desc.branch.sign_output)
        if desc.statistics is not None:
            self._take_statistics(model, desc.statistics)
        return InitialState(model, mask, self.platform.agree(self.fingerprints))

    def _with_own_weights(self, pruning: PruningHparams, scored: StateOf) -> nn.Module:
        """Return the network with the weights that the pruning method sets in place of the scored ones."""
        model = self.model_at(scored)
        assert pruning.method.set_weights is not None, "its hyperparameters replace weights"
        pruning.method.set_weights(model, pruning, self.seed)
        return model

    def _take_statistics(self, model: nn.Module, source: StateOf) -> None:
        """Load the buffers of a run's state into a network: batchnorm's running means and variances."""
        state = self._run_of(source).load_state(source.step)
        load_state(model, {**model.state_dict(), **{name: state[name] for name, _ in model.named_buffers()}})

    def _new_mask(self, model: nn.Module) -> Mask:
        """Score `model`, prune and permute; store the mask, unless it changes while the network trains."""
        desc, requested = self.desc, Requested()
        with saying_warnings(self.context):
            mask = self.starting_mask(model)
        if desc.pruning is not None and desc.mask is None:
            say_left_out(model, desc.pruning, mask, self.context)
        statistics: Statistics = {}
        if desc.scored is not None and desc.pruning is not None:
            # If the mask covers more than the prunable weights, no share of the whole was requested.
            # Nor of a structure, but it is reported: groups have numbers of their own.
            if desc.pruning.structure is not None or mask.keys() <= prunable_part(model, desc.pruning, mask).keys():
                requested = Requested.of(desc.pruning)
            # Constructive methods (PHEW) add to the given mask; the others prune it further.
            adds_to_nothing = desc.mask is None and desc.pruning.method.is_constructive
            start, pruning, device = None if adds_to_nothing else mask, desc.pruning, self.platform.device

            def pruned() -> Mask:
                inputs = scoring_inputs(pruning, desc.main.dataset, self.context, device, self.seed)
                return prune_with_data(
                    model.to(device),
                    pruning,
                    start,
                    inputs,
                    self.context,
                    lambda scores: statistics.update(score_statistics(scores)),
                )

            mask = self.platform.agree(pruned)
        if desc.branch.randomize_layerwise:
            mask = mask.shuffled_layerwise(self.seed)
        if desc.branch.randomize_width is not None:
            mask = mask.shuffled_over_width(self.seed, desc.branch.randomize_width)
        if desc.branch.randomize_globally:
            mask = mask.shuffled_globally(self.seed)
        if desc.branch.layers_to_ignore:
            mask = mask.with_whole(desc.branch.layers_to_ignore.split(","), "layers_to_ignore")
        if desc.signs is not None:
            mask = with_signs(mask, self._run_of(desc.signs).load_state(desc.signs.step))
        model.cpu()
        if not desc.changes_mask and self.platform.is_primary:
            keep_mask(self.run, mask, model, desc.main.dataset.inputs, requested, statistics)
        return mask

    def _run_of(self, source: Source) -> Run:
        """Return the run that a source refers to."""
        return Run(self.context.root, source.run.location(self.replicate))
