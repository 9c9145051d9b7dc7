"""Techniques and masks in Lightning: `Trainer(callbacks=[lightning_callback("rigl", ...)])`.

Lightning's own checkpoints hold the mask and the state of the techniques, as the state of the callback.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from training.other_loops.planned_training import PlannedTraining
from training.sparse import SparseTraining

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_OTHERS = ("FSDPStrategy", "DeepSpeedStrategy")
"""Strategies that flatten the weights."""


def lightning_callback(
    technique: str | None = None, *, submodule: str = "", optimizer: int | None = None, **arguments: Any
) -> LightningHooks:
    """Return a callback of Lightning's Trainer that applies techniques, or keeps a mask: a Callback.

        callback = lightning_callback("rigl", density=0.1, mask_update_frequency=100)
        Trainer(max_steps=1000, callbacks=[callback]).fit(module, batches)

    technique: names of techniques, as `sparse` takes them; None keeps the mask of `mask=` alone. arguments: those of
    `sparse`; `end` is the Trainer's last step, unless given. `callback.mask` is the present mask, and
    `callback.training` the SparseTraining.
    submodule: the part of the LightningModule that is pruned, and in which the mask names weights; by default all.
    optimizer: the number of the optimizer that trains it, where the module has several.

    Raises: UsageError, here for names that are not valid and where Lightning is missing, and as training begins, as
    `sparse`; also with strategies that flatten the weights, FSDPStrategy and DeepSpeedStrategy.
    """
    return _callback_class()(technique, submodule, optimizer, arguments)


class LightningHooks:
    """The events of the Trainer at which the callback acts."""

    def __init__(
        self, technique: str | None, submodule: str, optimizer: int | None, arguments: Mapping[str, Any]
    ) -> None:
        self._planned = PlannedTraining(technique, arguments)
        self._submodule = submodule
        self._optimizer = optimizer
        self._loaded: Mapping[str, Any] | None = None
        self.training: SparseTraining | None = None
        """The training; None before it begins."""

    @property
    def state_key(self) -> str:
        """The name of its state in Lightning's checkpoints."""
        return f"open_prune.SparseCallback(submodule={self._submodule!r}, optimizer={self._optimizer})"

    @property
    def mask(self) -> Mask | None:
        """The present mask; None before training, and if nothing is pruned."""
        return None if self.training is None else self.training.mask

    def __reduce__(self) -> tuple[Any, ...]:
        planned = self._planned
        own: dict[str, Any] = {"submodule": self._submodule, "optimizer": self._optimizer}
        return functools.partial(lightning_callback, planned.technique, **planned.arguments, **own), ()

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begin, or continue from the checkpoint that the Trainer has loaded, or from the end of the fit before."""
        kind = type(trainer.strategy).__name__
        if kind in _OTHERS:
            raise UsageError(
                f"{kind} flattens weights, which masks cannot name; use ModelParallelStrategy.", "strategy"
            )
        state, self._loaded = self._loaded, None
        if self.training is not None:
            if state is None and trainer.global_step:
                state = self.training.state_dict()
            self.training.detach()
        steps = trainer.estimated_stepping_batches
        network = self._network(pl_module)
        self.training = self._planned.start(
            self._own_optimizer(trainer), network, int(steps) if math.isfinite(steps) else None, state
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, for a checkpoint."""
        return {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a checkpoint; the training continues from it once the optimizer is loaded too."""
        self._loaded = state_dict

    def teardown(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """Forget a state that was loaded to evaluate."""
        self._loaded = None

    def _network(self, module: nn.Module) -> nn.Module:
        try:
            return module.get_submodule(self._submodule)
        except AttributeError as error:
            names = ", ".join(name for name, _ in module.named_children())
            reason = f"{type(module).__name__} has no module '{self._submodule}'; it has {names}."
            raise UsageError(reason, "submodule") from error

    def _own_optimizer(self, trainer: Any) -> Any:
        count = len(trainer.optimizers)
        number = 0 if self._optimizer is None and count == 1 else self._optimizer
        if number not in range(count):
            raise UsageError(f"the module has {count} of them; give a number from 0 to {count - 1}.", "optimizer")
        return trainer.optimizers[number]


@functools.cache
def _callback_class() -> type[LightningHooks]:
    """Return the hooks as a Callback of Lightning. Raises: UsageError where it is not installed.

    Two packages hold it. Each refuses the callbacks of the other, so the imported one counts.
    """
    names = sorted(_PACKAGES, key=lambda name: name not in sys.modules)
    for name in names:
        try:
            base: Any = importlib.import_module(name).Callback
        except ImportError:
            continue
        return type("SparseCallback", (LightningHooks, base), {})
    raise UsageError("Lightning is not installed; pip install lightning.")
