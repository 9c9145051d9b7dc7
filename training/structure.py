"""Networks whose structure techniques change: building them, and giving them states and masks of other networks.

A network without techniques is called plain. A state of a plain network fits a changed one, and vice versa: tensors
that only the network has keep their initial values, and tensors that only the state has are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from foundations.errors import DamagedError
from foundations.random_streams import global_generator_from
from models.build import construct, freeze
from models.hparams import ModelHparams
from training.checked_hooks import transform_checked
from training.desc import TrainDesc
from training.hparams import TechniquesHparams


def transform(
    model: nn.Module, hparams: ModelHparams, techniques: TechniquesHparams, seed_keys: tuple[int | str, ...]
) -> None:
    """Let the techniques change a plain network in place, each with a random stream of its own.

    seed_keys: keys of the network's own random stream; `technique_seed` replaces them. Raises: UsageError if a
    technique cannot change this network.
    """
    keys = seed_keys if techniques.technique_seed is None else (techniques.technique_seed,)
    for technique, own in techniques.parts:
        if technique.transform is not None:
            with global_generator_from("transform", technique.spelling, *keys):
                transform_checked(technique, model, own)
    if techniques.structural is not None:
        freeze(model, hparams)


def state_for(model: nn.Module, state: Mapping[str, Tensor], desc: TrainDesc) -> dict[str, Tensor]:
    """Adapt a state to `model`, whatever techniques added to the network that the state comes from.

    desc: the description of `model`. Does not check the plain network's tensors; loading does.
    """
    plain, own = plain_names(desc), model.state_dict()
    return {name: tensor for name, tensor in own.items() if name not in plain} | without_added(model, state, desc)


def without_added(model: nn.Module, tensors: Mapping[str, Tensor], desc: TrainDesc) -> dict[str, Tensor]:
    """Return tensors by name, without those that neither `model` nor its plain network has. desc: of `model`."""
    known = plain_names(desc) | set(model.state_dict())
    return {name: tensor for name, tensor in tensors.items() if name in known}


def plain_names(desc: TrainDesc) -> set[str]:
    """Return the names of the parameters and buffers of the description's network without techniques."""
    with torch.device("meta"):
        return set(construct(desc.model, desc.outputs, desc.dataset.inputs).state_dict())


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights and buffers into a model. Raises: DamagedError if they are of another model."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n")[1:2]).strip()
        raise DamagedError(f"The state is not one of this model. {reason}") from error
