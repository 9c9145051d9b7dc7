"""Weights from a file: the state of a network that was trained elsewhere, such as torchvision's pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from branches.imported.imported_run import Computed, check_weights, import_run
from branches.imported.pickled_tensors import read_content
from branches.imported.reparametrizations import Whole
from branches.imported.state_dicts import find_state, tied_names
from branches.imported.state_names import count, some
from branches.imported.tickets import is_ticket
from foundations.errors import DamagedError, UsageError
from foundations.storage.run import Run
from training.context import Context
from training.desc import TrainDesc

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask


def import_weights(path: Path, main: TrainDesc, context: Context) -> Run:
    """Create a run from the weights in a file, as its only state, at its first step, and report how they were read.

    The file is one of torch.save, safetensors or numpy.savez. It holds a state dict of the network, alone or inside a
    checkpoint, under the network's names or torchvision's for the same network, with any prefix. Parts of
    torch.nn.utils.prune and of weight_norm are combined; masks become the run's (see `_mask`). The address contains the
    SHA-256 of the tensors and the mask. main: the network, and the training of branches.

    Raises: EnvironmentFailure if there is no such file; DamagedError if it holds anything but the network's tensors;
    UsageError if it is a ticket.
    """
    from training.job import initialized_model
    from training.structure import load_state

    content = read_content(path, "a state dict")
    if is_ticket(path):
        raise UsageError(f"{path} is a ticket, which names its own network; leave out the flag.", "weights")
    model = initialized_model(main, context.replicate)
    network, source = model.state_dict(), str(path)
    found = find_state(content, network, source)
    _check_shapes(found.tensors, network, main, source)
    load_state(model, {**network, **found.tensors, **_tied(found.tensors, network, source)})
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    mask = _mask(model, found.masks, source)
    computed = Computed(states={main.start: state}, mask=mask, source=source)
    check_weights(computed)
    run = import_run(main, computed, context)
    if notes := _notes(found, mask):
        context.reporter.say(f"{path}: {'; '.join(notes)}.")
    return run


def _tied(tensors: Mapping[str, Tensor], network: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors that the network has under several names, and the file under fewer.

    Raises: DamagedError if the file has one of them under no name.
    """
    found: dict[str, Tensor] = {}
    for names in tied_names(network):
        held = [name for name in names if name in tensors]
        if not held:
            raise DamagedError(f"{source}: The state is not one of this model.\nMissing: {' or '.join(names)}.")
        found |= {name: tensors[held[0]] for name in names if name not in tensors}
    return found


def _mask(model: nn.Module, masks: Mapping[str, Tensor], source: str) -> Mask | None:
    """Return the mask of the run: it covers all prunable weights, and keeps tensors without a mask in the file whole.

    A mask of another parameter, such as a bias, is included if it prunes anything. Raises: DamagedError.
    """
    from pruning.masks.mask import Mask

    if not masks:
        return None
    prunable = Mask.ones(model)
    pruning = {name: mask for name, mask in masks.items() if name in prunable or not mask.all()}
    try:
        return Mask({**prunable, **pruning}, model)
    except UsageError as error:
        raise DamagedError(f"{source}: {error.reason}") from error


def _notes(found: Whole, mask: Mask | None) -> list[str]:
    notes = list(found.notes)
    if mask is not None:
        where = "of torch.nn.utils.prune" if found.is_by_torch else "beside their weights"
        notes.append(f"{count(len(found.masks), 'mask')} {where}: {mask.sparsity:.1%} pruned")
        others = [name for name in found.masks if name not in mask]
        if others:
            notes.append(f"left out {count(len(others), 'mask')} where nothing is pruned: {some(others)}")
    return notes


def _check_shapes(tensors: Mapping[str, Tensor], network: Mapping[str, Tensor], main: TrainDesc, source: str) -> None:
    """Check shapes and dtypes. Raises: DamagedError about the first wrong shapes, with advice, or integer weights."""
    other = [name for name, tensor in tensors.items() if tensor.shape != network[name].shape]
    if other:
        parts = [f"'{name}' is {tuple(tensors[name].shape)}, here {tuple(network[name].shape)}" for name in other[:2]]
        more = f", and {len(other) - 2} more differ" if len(other) > 2 else ""
        raise DamagedError(
            f"{source}: The state is not one of this model, whose shapes differ: {'; '.join(parts)}{more}.\n"
            f"{_advice({name: tensors[name] for name in other}, tensors, main)}"
        )
    for name, tensor in tensors.items():
        if network[name].is_floating_point() and not tensor.is_floating_point():
            raise DamagedError(f"{source}: '{name}' is of {tensor.dtype}; weights are floating-point numbers.")


def _advice(other: Mapping[str, Tensor], tensors: Mapping[str, Tensor], main: TrainDesc) -> str:
    """Return advice about wrong shapes: the number of outputs to give, if nothing else differs."""
    outputs = {len(tensor) if tensor.dim() else 0 for tensor in other.values()}
    number = outputs.pop()
    if outputs or number < 1 or not _fits_with(number, tensors, main):
        return "Choose the network that the weights are of, with --model_name and its flags, and its dataset."
    has = f"The file's network has {number} outputs"
    if number < main.dataset.num_classes:
        return f"{has}, too few for the {main.dataset.num_classes} classes of '{main.dataset.dataset_name}'."
    return f"{has}: give --outputs={number}."


def _fits_with(outputs: int, tensors: Mapping[str, Tensor], main: TrainDesc) -> bool:
    """Return whether the shapes match the network with another number of outputs."""
    import torch

    from models.build import construct

    with torch.device("meta"):
        network = construct(replace(main.model, outputs=outputs), outputs, main.dataset.inputs).state_dict()
    return all(tensor.shape == network[name].shape for name, tensor in tensors.items() if name in network)
