"""Iterative pruning of any network by hand: wrap it, train it, prune it, rewind it, again and again."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from foundations.errors import UsageError, invalid
from foundations.files import write_atomically
from foundations.random_streams import global_generator_from
from pruning.attached_mask import AttachedMask, PrunedToZero
from pruning.mask import Mask
from pruning.prunable import LAYER_TYPES
from pruning.prune import prune

ROUNDS = "rounds.csv"
"""The name of the log of the rounds."""


class PruningWrapper(nn.Module):
    """A network together with its mask and the weights to rewind to.

        wrapper = PruningWrapper(model, prune_rate=0.2, device="cuda", dir_name="run")
        wrapper.set_initial_weights()
        for round in range(25):
            train(wrapper, torch.optim.SGD(wrapper.parameters(), lr=0.1))
            *_, percent_pruned = wrapper.calculate_percent_pruned()
            wrapper.prune_weights()
            wrapper.reinitialize()

    Pruned weights stay at zero: every step of an optimizer of `torch.optim` (or of a class that derives from its
    `Optimizer`) sets them and their momentum to zero, whether it was made from the wrapper's parameters or from the
    network's. Other ways to change the weights are undone when the wrapper is called. The network itself carries no
    hooks: the names in its `state_dict` do not change, and a copy of it is an ordinary network. A copy of the wrapper
    keeps its own mask.

    prune_rate: the share of the weights that are left that each round prunes. device: where the network is moved to.
    dir_name: the folder of the log `rounds.csv` and of the mask of each round, written from the first round on; those
    of an earlier wrapper are replaced. None: nothing is written. method: 'magnitude' (global) or 'random'.
    init_method: what `reinitialize` does, 'rewind' or 'random'. layer_types: the layers whose weights are pruned.
    seed: of random pruning and random reinitialization.
    """

    def __init__(
        self,
        model: nn.Module,
        prune_rate: float = 0.2,
        device: str | torch.device = "cuda",
        dir_name: str | Path | None = "run",
        *,
        method: Literal["magnitude", "random"] = "magnitude",
        init_method: Literal["rewind", "random"] = "rewind",
        layer_types: tuple[type[nn.Module], ...] = LAYER_TYPES,
        seed: int = 0,
    ) -> None:
        """Wrap `model`, which is moved to `device`; its present state is the one to rewind to.

        Raises: UsageError for a wrong rate or method, or a device that this machine does not have.
        """
        super().__init__()
        if not 0 <= prune_rate <= 1:
            raise _wrong_rate(prune_rate)
        if method not in ("magnitude", "random"):
            raise invalid(method, "method", ("magnitude", "random"))
        if init_method not in ("rewind", "random"):
            raise invalid(init_method, "init_method", ("rewind", "random"))
        self.model = model.to(_available(device))
        self.prune_rate = prune_rate
        self.dir_name = None if dir_name is None else Path(dir_name)
        self.method = method
        self.init_method = init_method
        self.seed = seed
        self.rounds = 0
        self._log = ["round,pruned,total,percent_pruned"]
        self._attached: AttachedMask | None = None
        self._initial: dict[str, Any] = {}
        self._set_mask(Mask.ones(model, layer_types))
        self.set_initial_weights()
        self._watch_optimizers()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        if self.mask.pruned and not torch.compiler.is_compiling():
            # `data`: between two forward passes and their backward pass, autograd must not see a weight change.
            weights: Any = {name: self.model.get_parameter(name).data for name in self.mask}
            self._pruned.enforce(weights, None)
        return self.model(*args, **kwargs)

    def set_initial_weights(self) -> None:
        """Store the present state (buffers included) as the one that `reinitialize` goes back to."""
        self._initial = copy.deepcopy(self.model.state_dict())

    def attach(self, optimizer: torch.optim.Optimizer) -> AttachedMask:
        """Keep pruned weights at zero while `optimizer` trains, which every optimizer of `torch.optim` does anyway.

        The optimizer attached before is detached.
        """
        if self._attached is not None:
            self._attached.detach()
        self._attached = self.mask.attach(optimizer, self.model)
        return self._attached

    def prune_weights(self, prune_rate: float | None = None) -> Mask:
        """Prune another share of the weights that are left, set them to zero, log the round, and return the mask.

        Raises: UsageError for a rate outside [0, 1]; EnvironmentFailure where the log cannot be written.
        """
        rate = self.prune_rate if prune_rate is None else prune_rate
        if not 0 <= rate <= 1:
            raise _wrong_rate(rate)
        if self._attached is not None:
            self._attached.detach()
            self._attached = None
        keep = self.mask.kept - round(self.mask.kept * rate)
        self.rounds += 1
        self._set_mask(prune(self.model, self.method, keep=keep, mask=self.mask, seed=self.seed + self.rounds))
        self.mask.apply_(self.model)
        self._log_round()
        return self.mask

    def reinitialize(self, *, randomly: bool | None = None) -> None:
        """Go back to the stored state and apply the mask.

        randomly: draw new weights by each layer's `reset_parameters` instead; by default, `init_method` decides.
        """
        if self.init_method == "random" if randomly is None else randomly:
            with global_generator_from("reinitialization", self.seed, self.rounds):
                for module in self.model.modules():
                    reset = getattr(module, "reset_parameters", None)
                    if callable(reset):
                        reset()
        else:
            self.model.load_state_dict(self._initial)
        self.mask.apply_(self.model)

    def calculate_percent_pruned(self) -> tuple[int, int, float]:
        """Return the number of pruned weights, the number of prunable ones, and the percentage that is pruned."""
        return self.mask.pruned, self.mask.total, 100 * self.mask.sparsity

    def _set_mask(self, mask: Mask) -> None:
        self.mask = mask
        self._pruned = PrunedToZero(mask)

    def _log_round(self) -> None:
        pruned, total, percent = self.calculate_percent_pruned()
        self._log.append(f"{self.rounds},{pruned},{total},{percent:.6f}")
        if self.dir_name is not None:
            write_atomically(self.dir_name / ROUNDS, ("\n".join(self._log) + "\n").encode())
            self.mask.save(self.dir_name / f"mask_round_{self.rounds}.safetensors")

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero the pruned weights that an optimizer holds, and its state for them."""
        if not self.mask.pruned:
            return
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        weights = {name: self.model.get_parameter(name) for name in self.mask}
        self._pruned.enforce({name: weight for name, weight in weights.items() if id(weight) in held}, optimizer)

    def _watch_optimizers(self) -> None:
        """Have `_after_step` called after each step of any optimizer, for as long as the wrapper lives."""
        own = weakref.ref(self)

        def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            wrapper = own()
            if wrapper is not None:
                wrapper._after_step(optimizer)

        weakref.finalize(self, register_optimizer_step_post_hook(after_step).remove).atexit = False

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: everything but the optimizer that is attached."""
        return {**self.__dict__, "_attached": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a wrapper that was copied, and watch optimizers for the own weights."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._watch_optimizers()


def _available(device: str | torch.device) -> torch.device:
    """Return the device. Raises: UsageError where this machine does not have it."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = f"'{device}' is not a device of this machine; choose another one, such as cpu."
        raise UsageError(reason, "device") from error
    return found


def _wrong_rate(rate: float) -> UsageError:
    return UsageError(f"{rate} is not a valid value; it must be at least 0 and at most 1.", "prune_rate")
