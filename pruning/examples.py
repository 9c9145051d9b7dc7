"""The `examples` of `prune`: converts users' data to rows of inputs and targets, and chooses the scoring examples."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.data import DataLoader, Dataset, default_collate

from foundations.errors import UsageError
from foundations.examples import Rows, choose_examples, draw_examples, rows_of
from foundations.random_streams import global_generator_from, stream_seed
from pruning.hparams import ExamplesHparams, PruningHparams

Examples = Any
"""(inputs, targets), a dictionary of both, a list of batches of either kind, a DataLoader or a Dataset."""
ExamplesOfPass = Callable[[int], Rows]
"""(number of a pass over the examples, from 0) -> the examples of that pass."""
LABELS = ("labels", "label")
"""The names of targets in a dictionary of inputs."""
_BATCH = 64
_ACCEPTED = (
    "it takes (inputs, targets), tensors or arrays; a dictionary of inputs with labels; a list of such batches; a "
    "DataLoader; or a Dataset."
)


def read_examples(examples: Examples, per_class: int, ignored: int | None, seed: int) -> tuple[Any, Any]:
    """Return inputs and targets, trees of tensors with one row for each example.

    A DataLoader or a Dataset is read once. If its targets are class labels, only the first `per_class` examples of each
    class are kept, in the loader's order; the global random state that shuffles them is a stream of `seed`, and the
    caller's is left as it was. ignored: the label that is not a class.

    Raises: UsageError for anything else, and where the numbers of rows differ.
    """
    if isinstance(examples, Dataset) and not isinstance(examples, DataLoader):
        examples = DataLoader(examples, batch_size=_BATCH)
    if isinstance(examples, DataLoader):
        inputs, targets = _from_loader(examples, per_class, ignored, seed)
    elif isinstance(examples, list) and examples and all(map(_is_item, examples)):
        inputs, targets = _batch(_collated(examples))
    elif isinstance(examples, list) and examples and all(isinstance(part, tuple | list | Mapping) for part in examples):
        inputs, targets = _joined([_batch(part) for part in examples])
    else:
        inputs, targets = _batch(examples)
    counts = {len(leaf) if leaf.dim() else None for leaf in tree_leaves((inputs, targets)) if isinstance(leaf, Tensor)}
    inputs_count = _count(inputs)
    if targets is not None and inputs_count != _count(targets):
        raise UsageError(f"there are {inputs_count} inputs and {_count(targets)} targets.", "examples")
    if len(counts) != 1 or None in counts:
        raise UsageError("every input and target must have one row for each example.", "examples")
    if not inputs_count:
        raise UsageError("there are none.", "examples")
    return inputs, targets


def batches_of_inputs(examples: Examples, read: Any, size: int | None, seed: int) -> Iterator[Any]:
    """Yield the inputs of all examples in batches: of a DataLoader or a Dataset its own, else of `size` examples.

    read: the inputs that `read_examples` returned, all unless they are from a DataLoader or a Dataset.
    """
    if isinstance(examples, Dataset) and not isinstance(examples, DataLoader):
        examples = DataLoader(examples, batch_size=size or _BATCH)
    if isinstance(examples, DataLoader):
        with _random_state_of_its_own(examples, seed):
            for raw in examples:
                yield _batch(_collated([raw]) if _is_item(raw) else raw)[0]
    else:
        count = _count(read)
        for start in range(0, count, size or count):
            yield rows_of(read, slice(start, start + (size or count)))


def chosen_examples(
    examples: tuple[Any, Any], hparams: PruningHparams, ignored: int | None, seed: int, batch_size: int | None = None
) -> Rows | ExamplesOfPass:
    """Return a method's scoring examples, chosen from inputs and targets, or a function that gives those of each pass.

    Of examples with class labels (one integer or bool for each), the method's number of each class is chosen by `seed`,
    unless there are exactly as many: then, as with other targets, all are taken in the order given. batch_size: of
    batches that are drawn again in every pass, by default all examples together.

    Raises: UsageError where a class has too few, or if examples without class labels are to be drawn.
    """
    inputs, targets = examples
    per_class = hparams.examples_per_class
    assert per_class is not None, "only methods that score with examples ask"
    labels = class_labels(targets)
    if isinstance(hparams, ExamplesHparams) and hparams.score_examples != "per_class":
        if labels is None:
            raise UsageError("without class labels, all examples are taken in the order given.", "score_examples")
        classes = set(labels.tolist()) - {ignored}
        count = per_class * len(classes)
        indices = draw_examples(len(labels), count, seed, batch=hparams.redrawn_batch(batch_size or count))
        return lambda number: _selected(inputs, targets, indices(number))
    if labels is None or set(Counter(labels.tolist()).values()) == {per_class}:
        return Rows.of(inputs, targets)
    return _selected(inputs, targets, choose_examples(labels, per_class, seed, ignored=ignored))


def class_labels(targets: Any) -> Tensor | None:
    """Return the targets if they are class labels, one integer or bool for each example, else None."""
    is_vector = isinstance(targets, Tensor) and targets.dim() == 1
    return targets if is_vector and not (targets.is_floating_point() or targets.is_complex()) else None


def tensors_of_inputs(inputs: Any) -> list[Tensor]:
    """Return the tensors that a network takes as inputs, without the labels of a dictionary."""
    if isinstance(inputs, dict):
        inputs = [value for name, value in inputs.items() if name not in LABELS]
    return [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]


def _selected(inputs: Any, targets: Any, chosen: Tensor) -> Rows:
    return Rows(rows_of(targets, chosen), lambda rows: rows_of(inputs, chosen[rows]), len(chosen))


def _batch(batch: Any) -> tuple[Any, Any]:
    """Return inputs and targets of one batch, or of all examples."""
    if isinstance(batch, Mapping):
        labels = next((name for name in LABELS if name in batch), None)
        if labels is None:
            raise UsageError(f"the dictionary has no labels, but {', '.join(map(str, batch))}. {_ACCEPTED}", "examples")
        rest = {name: value for name, value in batch.items() if name != labels}
        return _tensors(rest), _tensors(batch[labels])
    if isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
        targets = _stacked(targets, len(inputs) if isinstance(inputs, list) else _count(inputs))
        targets = _tensors(targets)
        return _tensors(_stacked(inputs, _count(targets))), targets
    described = f"{len(batch)} of them" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
    raise UsageError(f"{described}; {_ACCEPTED}", "examples")


def _stacked(value: Any, count: int) -> Any:
    """Return a list of rows as one array or tensor: numbers, or tensors if the list has `count` of them.

    Other lists are taken as they are, such as a list of several inputs.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | Tensor) or not len(value):
        return value
    if not any(isinstance(leaf, Tensor | np.ndarray) for leaf in tree_leaves(value)):
        if isinstance(value, tuple) and any(isinstance(part, Mapping) for part in value):
            return value
        try:
            return np.asarray(value)
        except ValueError as error:
            raise UsageError(f"lists must be rectangular ({str(error).partition('.')[0]}).", "examples") from error
    shapes = {tuple(part.shape) if isinstance(part, Tensor | np.ndarray) else None for part in value}
    shape = next(iter(shapes))
    if isinstance(value, tuple) or len(shapes) > 1 or shape is None:
        return value
    is_of_rows = not shape or (len(value) == count and shape[0] != count)
    return torch.stack([torch.as_tensor(part) for part in value]) if is_of_rows else value


def _is_item(part: Any) -> bool:
    """Return whether something is a single example, as a Dataset returns it: its target is one number."""
    if isinstance(part, Mapping):
        target: Any = next((part[name] for name in LABELS if name in part), None)
    else:
        target = part[1] if isinstance(part, tuple | list) and len(part) == 2 else None
    if isinstance(target, Tensor | np.ndarray):
        return not target.ndim
    return isinstance(target, int | float | np.generic)


def _collated(items: list[Any]) -> Any:
    """Return single examples as a batch. Raises: UsageError if they are not alike."""
    try:
        return default_collate([dict(item) if isinstance(item, Mapping) else item for item in items])
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the examples cannot be joined to a batch: {reason}", "examples") from error


def _tensors(value: Any) -> Any:
    """Convert the arrays of a tree to tensors. Raises: UsageError for leaves of other types, besides None."""
    if isinstance(value, Mapping):
        return {name: _tensors(part) for name, part in value.items()}
    return tree_map(_tensor, value)


def _tensor(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.is_meta:
            raise UsageError("a tensor on the meta device has no values.", "examples")
        return value if value.layout == torch.strided else value.to_dense()
    if value is None or isinstance(value, bool):
        return value
    try:
        array = np.asarray(value)
        if not array.ndim:
            return value
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{type(value).__name__} cannot be made a tensor ({error}). {_ACCEPTED}", "examples"
        ) from error


def _count(tree: Any) -> int:
    return next((len(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.dim()), 0)


def _joined(batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return batches as one. Raises: UsageError if they are not alike."""
    try:
        joined: tuple[Any, Any] = tree_map(
            lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *batches
        )
        return joined
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"the batches cannot be joined: {str(error).splitlines()[0]}", "examples") from error


def _from_loader(loader: Any, per_class: int, ignored: int | None, seed: int) -> tuple[Any, Any]:
    try:
        length = len(loader)
    except TypeError:
        raise UsageError("this loader has no length; pass a list of some of its batches.", "examples") from None
    kept: Counter[int] = Counter()
    batches = []
    with _random_state_of_its_own(loader, seed):
        for raw in loader:
            inputs, targets = _batch(_collated([raw]) if _is_item(raw) else raw)
            labels = class_labels(targets)
            if labels is not None:
                wanted = []
                for row, label in enumerate(labels.tolist()):
                    if label != ignored and kept[label] < per_class:
                        kept[label] += 1
                        wanted.append(row)
                if not wanted:
                    continue
                index = torch.tensor(wanted)
                inputs, targets = rows_of(inputs, index), rows_of(targets, index)
            # Loaders may give their batches memory that they use again.
            batches.append(tree_map_only(Tensor, Tensor.clone, (inputs, targets)))
    if not batches:
        raise UsageError(f"the loader has no examples in its {length} batches.", "examples")
    return _joined(batches)


@contextlib.contextmanager
def _random_state_of_its_own(loader: Any, seed: int) -> Iterator[None]:
    """Seed a loader's shuffling from a stream, inside the block; restores its generator and the global ones."""
    own = getattr(loader, "generator", None) or torch.Generator()
    state = own.get_state()
    with global_generator_from("scoring examples", seed):
        try:
            own.manual_seed(stream_seed("scoring examples", seed))
            yield
        finally:
            own.set_state(state)
