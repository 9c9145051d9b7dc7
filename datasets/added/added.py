"""Datasets that users add (see `reading` for the kinds of files).

The headers of their prepared files hold the content of a `DatasetSpec`. A description names a dataset and not its
folder, so a process must register the added datasets of its folder before it builds descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from datasets.prepared import SPLITS, Header, is_prepared, locked, read_header, write_split
from datasets.registry import AUGMENTATIONS, DATASETS, TASKS
from datasets.spec import DatasetSpec
from foundations.errors import DamagedError, EnvironmentFailure, UsageError, invalid
from foundations.files import explain_os_errors
from foundations.inputs import IMAGES, SERIES, TOKENS, VECTORS
from foundations.program import PROGRAM

if TYPE_CHECKING:
    from datasets.added.options import AddOptions
    from datasets.formats.source_files import SourceFiles


def add_dataset(
    name: str, path: Path, folder: Path, options: AddOptions | None = None, *, report: Callable[[str], None]
) -> None:
    """Prepare a user's dataset from a path, and register it under a name.

    folder: the folder of all datasets. report: takes a line about each step.

    Raises: UsageError for a name or an option that is not valid, and for data that cannot be read; EnvironmentFailure
    if the path does not exist, the folder cannot be written, or a package is missing.
    """
    from datasets.added.options import AddOptions
    from datasets.added.reading import read_content

    options = options or AddOptions()
    _check_name(name, folder)
    if not AUGMENTATIONS.find(options.augmentation).can_stream and options.stream:
        choices = [augmentation.spelling for augmentation in AUGMENTATIONS if augmentation.can_stream]
        raise invalid(options.augmentation, "augmentation", choices)
    if not path.exists():
        raise EnvironmentFailure(f"{path} does not exist.")
    with explain_os_errors(f"prepare the dataset '{name}' in", folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = read_content(path, options, folder, report)
    metadata = content.metadata() | {"added": options.augmentation, "in_memory": str(not options.stream)}
    metadata["source"] = f"added from {path.resolve().name}"
    with locked(name, folder, report):
        for split in SPLITS:
            write_split(name, split, content.splits[split], folder, metadata)
    register_added(folder)
    if name not in DATASETS:
        raise EnvironmentFailure(f"{folder / name} was written and cannot be read. Repeat the command.")
    report(f"added {name}: {summary(DATASETS.find(name))}")


def summary(spec: DatasetSpec) -> str:
    """Return the sizes of a dataset and its targets in a few words."""
    if spec.inputs == TOKENS:
        counts = [
            f"{tokens:,} {split} tokens in {texts:,} text{'s' * (texts != 1)}"
            for split, tokens, texts in (
                ("training", spec.train_tokens, spec.num_train),
                ("test", spec.test_tokens, spec.num_test),
            )
        ]
        what = f"{' and '.join(counts)}, a vocabulary of {spec.vocabulary:,}"
    else:
        what = f"{spec.num_train:,} training and {spec.num_test:,} test {_INPUTS[spec.inputs]}"
        shape, plural = " x ".join(map(str, spec.input_shape)), "s" * (spec.input_shape != (1,))
        what += {VECTORS: f" of {shape} feature{plural}", SERIES: f" of {shape}"}.get(spec.inputs, "")
    if spec.task.has_classes:
        return f"{what}, {spec.num_classes} classes"
    kind = {"multi_label": "label", "regression": "target"}.get(spec.task.spelling)
    return f"{what}, {spec.num_outputs} {kind}{'s' * (spec.num_outputs != 1)}" if kind else what


_INPUTS = {IMAGES: "images", VECTORS: "examples", SERIES: "series"}


def register_added(folder: Path) -> None:
    """Register the datasets that users added to a folder, instead of another folder's."""
    found = []
    for path in sorted(folder.glob("*/train.safetensors")):
        spelled = DATASETS.spelled(path.parent.name)
        if spelled is not None and not spelled.is_added:
            continue
        try:
            train, test = (read_header(path.with_name(f"{split}.safetensors")) for split in SPLITS)
            spec = _spec(path.parent.name, train, test)
        except (DamagedError, OSError):
            continue  # its use raises an error that names the file
        if spec is not None:
            found.append(spec)
    DATASETS.replace_added(found)


def _check_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(
            f"'{name}' cannot be the name of a dataset: it takes small letters, digits and _, and begins with a letter."
        )
    register_added(folder)
    if any(spec.spelling == name and not spec.is_added for spec in DATASETS):
        raise UsageError(f"'{name}' is a dataset already; give yours another name.")
    if name in DATASETS and is_prepared(name, folder):
        raise UsageError(f"There is a dataset '{name}' already; remove {folder / name} to add it again.")


def _spec(name: str, train: Header, test: Header) -> DatasetSpec | None:
    """Return the specification in the headers of prepared files, or None if the dataset was not added by a user."""
    metadata, augmentation = train.metadata, train.metadata.get("added")
    if augmentation not in AUGMENTATIONS:
        return None
    try:
        task = TASKS.find(metadata.get("task", "classification"))
        tokens = [header.tensors["tokens"]["shape"][0] if "tokens" in header.tensors else 0 for header in (train, test)]
        spec = DatasetSpec(
            spelling=name,
            task=task,
            inputs=metadata.get("inputs", IMAGES),
            num_train=_examples(train),
            num_test=_examples(test),
            num_classes=int(metadata["num_classes"]) if task.has_classes else 0,
            num_outputs=int(metadata.get("num_outputs", 0)),
            input_shape=tuple(int(side) for side in metadata["input_shape"].split(",")),
            mean=_numbers(metadata, "mean"),
            std=_numbers(metadata, "std"),
            target_mean=_numbers(metadata, "target_mean"),
            target_std=_numbers(metadata, "target_std"),
            vocabulary=int(metadata.get("vocabulary", 0)),
            padding=int(metadata["padding"]) if "padding" in metadata else None,
            separator=int(metadata["separator"]) if "separator" in metadata else None,
            train_tokens=tokens[0],
            test_tokens=tokens[1],
            augmentation=AUGMENTATIONS.find(str(augmentation)),
            read=_refuse_to_read,
            origin=metadata["source"],
            in_memory=metadata["in_memory"] == "True",
            is_added=True,
        )
        spec.check_declared()
    except (KeyError, ValueError, IndexError, UsageError):
        return None
    return spec


def _examples(header: Header) -> int:
    """Return the number of examples, or of documents, of a prepared file."""
    for name, more in (("labels", 0), ("targets", 0), ("documents", 1)):
        if name in header.tensors:
            return int(header.tensors[name]["shape"][0]) - more
    raise KeyError("labels")


def _numbers(metadata: Mapping[str, str], name: str) -> tuple[float, ...]:
    return tuple(float(value) for value in metadata[name].split(",")) if name in metadata else ()


def _refuse_to_read(files: SourceFiles) -> NoReturn:
    raise EnvironmentFailure(
        f"The dataset '{files.name}' lacks prepared files in {files.folder / files.name}.\n"
        f"Add it again: {PROGRAM} datasets add {files.name} PATH"
    )
