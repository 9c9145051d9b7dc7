"""Weights from a file: a state dict of the network that was made elsewhere, such as torchvision's pretrained ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from branches.imports import Computed, check_weights, import_run
from branches.pickled_tensors import read_named_tensors
from foundations.run import Run
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor

_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""How the names of torchvision's DenseNets were written when their weights were published."""
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that only help GoogLeNet and Inception to train; networks here are without."""
_PREFIX = "model."
"""Before torchvision's names, in families that are OpenLTH's too."""


def import_weights(path: Path, main: TrainDesc, context: Context) -> Run:
    """Make a state dict, a pickle of tensors or a safetensors file, a run whose only state is that of its first step.

    The names are those of the network, or torchvision's for the same network. The address has the SHA-256 of the
    tensors. main: which network it is, and how branches of it train. Raises: EnvironmentFailure where there is no such
    file; DamagedError where it holds anything but the network's tensors.
    """
    from training.job import initialized_model
    from training.structure import load_state

    model = initialized_model(main, context.replicate)
    names = model.state_dict()
    load_state(model, _renamed(read_named_tensors(path, "a state dict"), names))
    # Old files lack the batches that batchnorm has counted; the network has them.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    computed = Computed(states={main.start: state}, source=str(path))
    check_weights(computed)
    return import_run(main, computed, context)


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, object]) -> dict[str, Tensor]:
    renamed = {_DENSE_LAYER.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
    if not any(name in names for name in renamed):
        renamed = {_PREFIX + name: tensor for name, tensor in renamed.items()}
    return {name: tensor for name, tensor in renamed.items() if name in names or not name.startswith(_AUXILIARY)}
