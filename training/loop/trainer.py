"""A training in progress: the model, its optimizer and loader, its metrics, and its checkpoints."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from foundations.description.step import Step
from foundations.errors import DamagedError, Interrupted, UsageError
from foundations.metrics import Metrics
from foundations.random_streams import generator
from foundations.storage.run import CHECKPOINT, Run
from models.dropout import Draws
from platforms.platform import Platform
from pruning.hparams import PruningHparams
from pruning.masks.attached_mask import AttachedMask
from pruning.masks.mask import Mask
from pruning.scoring.score_statistics import Statistics, score_statistics
from training.all_hooks import AllHooks
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.job import initialized_model
from training.loop.callbacks import (
    at_steps,
    checkpoint_in_time,
    continues_at,
    every_epoch,
    record,
    show_progress,
    stop_when_asked,
    where_best,
)
from training.loop.checkpoints import Progress, checkpoint_of, load_checkpoint
from training.loop.clipping import clip_gradients
from training.loop.cuda_graph import Replayed, recorder_for
from training.loop.divergence import active_in, say_divergence
from training.loop.epoch_means import EpochMeans
from training.loop.evaluation import evaluate
from training.loop.loading import opened_loader
from training.loop.loop import Batch, Callback, steps
from training.loop.lr_schedule import learning_rate
from training.loop.micro_batches import MicroBatches, weighted
from training.loop.optimizers import make_optimizer
from training.loop.parallel import Parallel
from training.loop.precision import autocast, grad_scaler, matrix_products
from training.loop.weight_decay import undecayed_parameters
from training.masking import prune_with_data, saying_warnings, scoring_inputs


class Trainer:
    """One process's training of one run."""

    def __init__(
        self,
        model: nn.Module,
        desc: TrainDesc,
        context: Context,
        platform: Platform,
        replicate: int,
        *,
        techniques: TechniquesHparams | None = None,
    ) -> None:
        """Take a model in its initial state and build the rest of the training."""
        self.model, self.desc, self.context, self.platform = model, desc, context, platform
        self.techniques = techniques
        pinned = None if techniques is None else techniques.technique_seed
        self.seed = replicate if pinned is None else pinned
        precision = desc.training.precision
        self.memory_format = platform.memory_format(precision, model)
        self.model.to(platform.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        undecayed = undecayed_parameters(self.model, desc.training)
        self.optimizer = make_optimizer(desc.training, self.model.parameters(), undecayed)
        self.scaler = grad_scaler(precision, platform.device)
        self.autocast = autocast(precision, platform.device)
        platform.agree(lambda: context.prepare(desc.dataset_name))
        self.loader = opened_loader(desc, context, platform, self.memory_format, replicate)
        self.parallel: Parallel | None = None
        if platform.world_size > 1:
            self.parallel = Parallel(model, self.loader, platform, sync_batchnorm=desc.training.sync_batchnorm)
        self.stacked = 1
        """Size of the largest stack that this network was in (`training.jobs.together`), itself included."""
        self.mask: Mask | None = None
        self.scores: Statistics = {}
        """Statistics of the scores that chose the present mask; empty if no scores did."""
        self._pruned: tuple[Mask, Statistics] | None = None
        self._attached: AttachedMask | None = None
        self._is_pruning = False
        """Whether a technique is scoring the network, which a signal may interrupt."""
        self.task, self.mean_loss = desc.dataset.task, desc.dataset.task.loss
        self.facts = desc.dataset.facts(desc.outputs, self.loader.token_bytes)
        self.micro_batches = MicroBatches(self.model, desc.training.accumulate, self.task, self.parallel)
        self.epoch = EpochMeans(platform.device, self.task, self.facts)
        self.best: dict[str, Tensor] = {}
        self.hooks = AllHooks.of(techniques, self)
        self.recorded: Replayed | None = None
        """The forward and backward pass, if it is recorded as a CUDA graph."""
        record = recorder_for(platform.device) if context.cuda_graphs else None
        if record is not None and self.has_fixed_passes:
            self.recorded = Replayed(self._pass, list(model.parameters()), list(model.buffers()), record)

    @property
    def is_structural(self) -> bool:
        """Whether techniques changed the structure of the network."""
        return self.techniques is not None and self.techniques.structural is not None

    @property
    def end(self) -> Step:
        """The last step."""
        return self.desc.end

    def step(self, text: str, hparam: str = "step") -> Step:
        """Read a step; see `training.technique.Training`."""
        return self.desc.step(text, hparam)

    def prepare(self, mask: Mask | None, start: Step) -> None:
        """Put the mask on the network; let the techniques prepare both, and act at the first step (it may be kept)."""
        with saying_warnings(self.context):
            self.hooks.start(self, mask, start)
        if self.parallel is not None:
            self.parallel.align()

    def prune(self, pruning: PruningHparams) -> Mask:
        """Return the mask that a strategy prunes from the present one (or from one of ones), scoring the network."""
        statistics: Statistics = {}

        def pruned() -> Mask:
            inputs = scoring_inputs(pruning, self.desc.dataset, self.context, self.platform.device, self.seed)
            start = self.mask or Mask.to_prune(self.model, pruning)
            return prune_with_data(
                self.model,
                pruning,
                start,
                inputs,
                self.context,
                lambda scores: statistics.update(score_statistics(scores)),
            )

        self._is_pruning = True
        with self.hooks.scored():
            mask = self.platform.agree(pruned)
        self._is_pruning = False
        self._pruned = mask, statistics
        return mask

    def batches(self, *keys: int | str) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield training batches without end, their order and augmentation from the stream that the keys name."""
        loader = self.loader.reordered(json.dumps(["technique", self.seed, *keys]))
        for epoch in itertools.count():
            yield from loader.train_batches(epoch)

    def initialization(self, *keys: int | str) -> dict[str, Tensor]:
        """Draw new initial parameters, by name, on the CPU, from the random stream that the keys name."""
        # The keys contain the seed already; pinned again, it would give added parameters the same values each time.
        techniques = self.techniques and self.techniques.replaced({"technique_seed": None})
        drawn = initialized_model(self.desc, "technique", self.seed, *keys, techniques=techniques)
        return {name: parameter.detach() for name, parameter in drawn.named_parameters(remove_duplicate=False)}

    def generator(self, *keys: int | str) -> torch.Generator:
        """Return a CPU generator at the start of a random stream of this run, which the keys name."""
        return generator("technique", self.seed, *keys)

    def set_mask(self, mask: Mask | None) -> None:
        """Keep the weights that a mask prunes, and the optimizer's state for them, at zero from now on."""
        if self._attached is not None:
            self._attached.detach()
        self.scores = self._pruned[1] if self._pruned is not None and self._pruned[0] is mask else {}
        self.mask = mask = self.platform.agree(lambda: mask)
        self._attached = None
        if mask is not None:
            chosen = {"keeps_state": self.hooks.keeps_state, "masks_gradients": self.hooks.masks_gradients}
            self._attached = mask.attach(self.optimizer, self.model, state=None, **chosen)

    def restart_optimizer(self) -> None:
        """Begin a new optimizer, without state."""
        self.optimizer.state.clear()

    def advance(
        self, run: Run, progress: Progress, until: Step, keep: Collection[Step], tell: Callable[[Metrics], None]
    ) -> Iterator[Batch]:
        """Train on from `progress`, measuring and checkpointing, and keep the states at some steps in the run.

        Yields the batch of each step to compute gradients of (`training.loop.loop.steps`).
        tell: called in the primary process at every step, with all metrics so far; must be cheap.
        Raises: Interrupted, after a checkpoint, when the process is asked to stop.
        """
        clock, before = self.context.clock(), progress.wall_seconds

        def note(step: Step) -> None:
            progress.step = step
            progress.wall_seconds = before + self.context.clock() - clock

        def save_checkpoint(step: Step) -> None:
            note(step)
            self.save_checkpoint(run, progress)

        callbacks: list[Callback] = [
            self.epoch.record_in(progress.metrics, self.desc.end),
            *self._evaluations(run, progress, until),
        ]
        if self.platform.is_primary:
            hold = where_best(progress.metrics, self.task.headline, self._hold_best)
            callbacks += [
                say_divergence(
                    progress.metrics, self.epoch, active_in(self.desc, self.techniques), partial(self._say, run)
                ),
                *([hold] if self.context.keep_best else []),
                at_steps(keep, partial(self._keep_state, run)),
                show_progress(self.context.reporter, "train", self.desc.start, until),
                lambda _: tell(progress.metrics),
                checkpoint_in_time(save_checkpoint, self.context.checkpoint_seconds, self.context.interrupts),
            ]
        step = progress.step
        try:
            for batch in self._steps(step, until, callbacks):
                yield batch
                step = step.at(step.iteration + 1)
        except Interrupted as stop:
            if self._is_pruning and self.hooks.prunes_first and self.platform.is_primary:
                save_checkpoint(step)
                raise self.context.interrupts.interrupted(continues_at(step)) from stop
            raise
        note(until)

    def replay(
        self, run: Run, start: Step, keep: Sequence[Step], known: Collection[Step], check: Callback
    ) -> Iterator[Batch]:
        """Train from the start only to keep states, leaving the run's metrics and checkpoint alone.

        Yields batches as `advance` does. check: called at the `known` steps, whose states the run keeps already.
        """
        callbacks: list[Callback] = []
        if self.platform.is_primary:
            callbacks = [
                at_steps(known, check),
                at_steps(keep, partial(self._keep_state, run)),
                show_progress(self.context.reporter, "replay", start, keep[-1]),
                stop_when_asked(self.context.interrupts),
            ]
        yield from self._steps(start, keep[-1], callbacks)

    def _steps(self, start: Step, until: Step, callbacks: Sequence[Callback]) -> Iterator[Batch]:
        def clip() -> None:
            trained = (*self.model.parameters(), *self.hooks.own_parameters)
            clip_gradients(trained, self.desc.training.clip_grad_norm, self._attached)

        self.model.train()
        with self.context.interrupts.deferred():
            yield from steps(
                self.optimizer,
                self.parallel or self.loader,
                learning_rate(self.desc.training, self.desc.iterations_per_epoch),
                start,
                until,
                callbacks,
                self.hooks,
                self.scaler,
                clip if self.desc.training.clip_grad_norm is not None else None,
            )

    def compute_gradients(self, inputs: Tensor, targets: Tensor) -> None:
        """Put the gradients of the loss of a training batch, multiplied by the scaler's scale, into the parameters."""
        if self.recorded is not None:
            value, outputs = self.recorded((inputs, targets))
            self.epoch.add(value.clone(), outputs, targets)  # the next replay changes it
            return
        self.optimizer.zero_grad(set_to_none=True)
        with matrix_products(self.desc.training.precision):
            for x, y, share in self.micro_batches.of(inputs, targets):
                with self.autocast():
                    value = self.loss((self.parallel or self.model)(x), y)
                self.scaler.scale(weighted(value, share)).backward()  # type: ignore[no-untyped-call]
        if self.parallel is not None:
            self.epoch.add_sums(self.parallel.sum_gradients(self.hooks.own_parameters))

    @property
    def has_fixed_passes(self) -> bool:
        """Whether the forward and backward pass is the same code at every step, on tensors of the device only."""
        is_changed = self.hooks.changes_loss or self.hooks.own is not None or self.is_structural
        is_split = self.parallel is not None or self.desc.training.accumulate > 1
        draws = any(isinstance(module, Draws) for module in self.model.modules())
        return not (is_changed or draws or is_split or self.scaler.is_enabled())

    def _pass(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        with matrix_products(self.desc.training.precision):
            with self.autocast():
                outputs = self.model(inputs)
                value = self.plain_loss(outputs, targets)
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), outputs.detach()

    def _evaluations(self, run: Run, progress: Progress, until: Step) -> list[Callback]:
        """Return callbacks that evaluate before epochs (or at the start only) and at the end of the training."""

        def measure() -> dict[str, float] | None:
            try:
                found = self._evaluated(self.loader.test_batches(), "test")
                if self.desc.dataset.validation_examples:
                    found |= self._evaluated(self.loader.validation_batches(), "validation")
                found |= self.hooks.metrics()
            except Interrupted:
                return None  # the checkpoint of this step follows
            return found

        measured = record(measure, progress.metrics, partial(self._say, run))
        ends = {self.desc.end} if until == self.desc.end else set()
        if self.context.evaluate_only_at_end:
            starts = set() if progress.metrics.values else {progress.step}
            return [at_steps(starts | ends, measured)]
        return [every_epoch(measured, self.context.evaluate_every), at_steps(ends, measured)]

    def _say(self, run: Run, line: str) -> None:
        if self.platform.is_primary:
            self.context.reporter.say(line)
            run.log(line)

    def _evaluated(self, batches: Iterable[tuple[Tensor, Tensor]], examples_are: str) -> dict[str, float]:
        """Return loss and metrics over the batches of all processes."""
        with (
            self.hooks.evaluated(),
            matrix_products(self.desc.training.precision),
            self.context.interrupts.at_once(),
        ):
            if self.parallel is not None:
                self.parallel.align_buffers()
            return evaluate(
                self.model,
                batches,
                self.desc.outputs,
                self.autocast,
                examples_are,
                self.reported_loss,
                self.platform,
                task=self.task,
                facts=self.facts,
            )

    def _keep_state(self, run: Run, step: Step) -> None:
        """Keep the state that is evaluated at a step."""
        with self.hooks.evaluated():
            run.save_state(step, self.model.state_dict())

    def _hold_best(self, _step: Step) -> None:
        with self.hooks.evaluated():
            self.best = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}

    def plain_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's mean loss of a batch, with smoothed labels if asked for."""
        return self.task.loss(outputs, targets, label_smoothing=self.desc.training.label_smoothing)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss, as techniques change it."""
        value = self.hooks.loss(self.plain_loss(outputs, targets), outputs, targets)
        if self.parallel is not None:
            of_each = None if self.task.counts_examples else targets[0].numel()
            return self.parallel.weighted(value, self.epoch.sums_of(value, outputs, targets), of_each)
        self.epoch.add(value, outputs, targets)
        return value

    def reported_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the reported loss, as techniques change it: the sum of the losses of a batch."""
        return self.hooks.reported_loss(self.task.loss(outputs, targets, reduction="sum"), outputs, targets)

    def save_checkpoint(self, run: Run, progress: Progress) -> None:
        """Write everything that resuming needs, and the metrics so far."""
        tensors, facts = checkpoint_of(self, progress)
        run.save_checkpoint(tensors, facts)
        run.save_metrics(progress.metrics)

    @classmethod
    def resume(
        cls,
        run: Run,
        desc: TrainDesc,
        context: Context,
        platform: Platform,
        *,
        techniques: TechniquesHparams | None = None,
    ) -> tuple[Trainer, Progress] | None:
        """Return the training and its progress from the run's checkpoint, or None if there is none.

        Raises: DamagedError for a checkpoint of another training.
        """
        kept = platform.agree(run.load_checkpoint)
        if kept is None:
            return None
        model = initialized_model(desc, techniques=techniques)
        trainer = cls(model, desc, context, platform, run.location.replicate, techniques=techniques)
        try:
            return trainer, load_checkpoint(trainer, *kept)
        except (DamagedError, UsageError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise run.damaged(CHECKPOINT, f"it is not one of this training ({error})") from error
