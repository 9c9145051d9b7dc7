"""Users' texts: a file, a folder of files, folders of files by class, or a column of a table; they become tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.added.options import AddOptions, Report
from datasets.added.split_names import split_of
from datasets.added.targets import CLASSIFICATION, Parts, make_targets, random_parts
from datasets.added.user_folders import is_ignored, said_of_skipped, subfolders
from datasets.added.user_tables import Tables, find_roles, missing, target_columns
from datasets.formats.class_folders import files_under
from datasets.formats.content import Content
from datasets.formats.source_files import Arrays
from datasets.formats.tables import TEXTS
from datasets.formats.tokens import ByteTokenizer, TokenFile, Tokenizer, parts_of, read_tokenizer, train_bpe
from datasets.prepared import SPLITS
from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import TOKENS

TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex")
MODELLING, SEQUENCES = "language_modelling", "sequence_classification"
_LENGTH = 128
"""The default length of a sequence in language modelling."""
_LONGEST = 512
"""The longest default length of a sequence of other tasks."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_TEST_SHARE = 0.1

Document = tuple[str, Iterator[bytes]]
"""The place of a text, for errors; and the text in UTF-8, in parts."""


@dataclass(frozen=True)
class Texts:
    """The texts of a file or a folder, which are read any number of times."""

    count: int
    read: Callable[[], Iterator[Document]]

    @classmethod
    def of_files(cls, files: Sequence[Path]) -> Texts:
        """Return the texts of files, one of each."""
        return cls(len(files), lambda: ((str(file), _whole(file)) for file in files))

    @classmethod
    def of_part(cls, path: Path, start: int, end: int) -> Texts:
        """Return a part of a file as one text."""
        return cls(1, lambda: iter([(str(path), _part(path, start, end))]))


def read_text_file(path: Path, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return one text for language modelling, of which the last tenth is for testing."""
    options.check_task("a text file", MODELLING)
    cut, size = _place_of_test(path), path.stat().st_size
    texts = {"train": Texts.of_part(path, 0, cut), "test": Texts.of_part(path, cut, size)}
    return tokenized(texts, random_parts(1, 1, path), options, path, scratch, report)


def _place_of_test(path: Path) -> int:
    """Return the place of the first line of the last tenth of a text. Raises: UsageError for a text of one line."""
    size = path.stat().st_size
    at = max(0, size - max(1, int(size * _TEST_SHARE)))
    with _opened(path) as file:
        if file.read(2) in _UTF16:
            raise UsageError(f"{path}, row 1: the text is UTF-16; save it as UTF-8.")
        file.seek(at)
        file.readline()
        if file.tell() < size:
            return int(file.tell())
        file.seek(0)
        start = 0
        for line in file:  # the last line is long
            if start + len(line) >= size:
                break
            start += len(line)
    if not start:
        raise UsageError(f"{path} holds {'no text' if not size else 'one line'}; training and testing need one each.")
    return start


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error, path)}.") from error


def _part(path: Path, start: int, end: int) -> Iterator[bytes]:
    with _opened(path) as file:
        file.seek(start)
        yield from parts_of(file, end - start)


def _whole(path: Path) -> Iterator[bytes]:
    with _opened(path) as file:
        for number, part in enumerate(parts_of(file)):
            if not number and part[:2] in _UTF16:
                raise UsageError(f"{path}, row 1: the text is UTF-16; save it as UTF-8.")
            yield part


def read_text_folder(path: Path, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return the texts of a folder: one document a file, and its class by its folder for sequence classification."""
    options.check_task("a folder of texts", MODELLING, SEQUENCES)
    places = _splits(path, report)
    classes = {split: _class_folders(found) for split, found in places.items()}
    if options.task is None and classes["train"]:
        raise UsageError(
            f"{path} holds texts in folders; give sequence_classification if these are classes, or else "
            "language_modelling.",
            "task",
        )
    files = {split: _text_files(found, report) for split, found in places.items()}
    for split, found in files.items():
        if not found:
            raise UsageError(
                f"{places[split][0] if places[split] else path} holds no texts ({', '.join(TEXT_SUFFIXES)})."
            )
    texts = {split: Texts.of_files(found) for split, found in files.items()}
    if options.task != SEQUENCES:
        if len(files["train"]) == 1 and "test" not in texts:
            return read_text_file(files["train"][0], options, scratch, report)
        parts = random_parts(texts["train"].count, texts["test"].count if "test" in texts else None, path)
        return tokenized(texts, parts, options, path, scratch, report)
    files = {split: _in_classes(found, places[split], path, report) for split, found in files.items()}
    texts = {split: Texts.of_files(found) for split, found in files.items()}
    labels = {split: _labels(found, places[split]) for split, found in files.items()}
    return _with_targets(
        texts, {split: {"class": each} for split, each in labels.items()}, options, path, scratch, report
    )


def _splits(path: Path, report: Report) -> dict[str, list[Path]]:
    """Return the files and folders of each split of a folder: by their names, or all as `train`."""
    entries = sorted(entry for entry in path.iterdir() if not is_ignored(entry.name))
    named = [(split_of(entry.name if entry.is_dir() else entry.stem), entry) for entry in entries]
    train = [entry for split, entry in named if split is not None and split[0] == "train"]
    tests = sorted((split[1], entry) for split, entry in named if split is not None and split[0] == "test")
    if not train or not tests:
        if tests and not train:
            raise UsageError(f"{path} holds {tests[0][1].name}, but nothing named train.")
        return {"train": train or entries}
    used = [*train, tests[0][1]]
    unread = [str(entry) for entry in entries if entry not in used]
    if unread:
        report(f"not read: {', '.join(unread)}")
    return {"train": train, "test": [tests[0][1]]}


def _class_folders(places: Sequence[Path]) -> list[Path]:
    """Return the folders of classes: those in the only folder of a split, or those among the places."""
    if len(places) == 1 and places[0].is_dir():
        return subfolders(places[0])
    return [place for place in places if place.is_dir()]


def _text_files(places: Sequence[Path], report: Report) -> list[Path]:
    files = [file for place in places for file in (files_under(place, is_ignored) if place.is_dir() else [place])]
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    skipped = Counter(file.suffix.lower() for file in files if file.suffix.lower() not in TEXT_SUFFIXES)
    if skipped:
        report(said_of_skipped(skipped))
    return texts


def _in_classes(files: Sequence[Path], places: Sequence[Path], path: Path, report: Report) -> list[Path]:
    """Return the files in folders of classes; report the others. Raises: UsageError where there is none."""
    folders = _class_folders(places)
    found = [file for file in files if any(file.is_relative_to(folder) for folder in folders)]
    if not found:
        raise UsageError(
            f"{path} holds no texts in folders of classes, such as {places[0].parent / 'CLASS' / 'a.txt'}."
        )
    inside = set(found)
    loose = [file for file in files if file not in inside]
    if loose:
        more = ", ..." * (len(loose) > 3)
        report(f"skipped {len(loose):,} text{'s' * (len(loose) != 1)} in no class folder: {listed(loose)}{more}")
    return found


def listed(paths: Sequence[Path]) -> str:
    """Return the first three paths, for a line."""
    return ", ".join(map(str, paths[:3]))


def _labels(files: Sequence[Path], places: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Return the name of the class of each file, as objects (N,)."""
    folders = _class_folders(places)
    names = [next(folder.name for folder in folders if file.is_relative_to(folder)) for file in files]
    return np.array([*names, None], object)[:-1]


def read_text_tables(tables: Tables, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return the texts of a column of a table, with the targets of other columns if there are some."""
    for table in tables.values():
        table.need([options.text], "text")
        kind = table.kinds()[options.text].name
        if kind not in (TEXTS, "numbers", "numbers and texts"):
            raise UsageError(f"{table.path}: column '{options.text}' holds {kind}, not texts.", "text")
    texts = {split: _column(table, options.text) for split, table in tables.items()}
    return read_columns(tables, texts, [options.text], options, scratch, report)


def read_columns(
    tables: Tables,
    texts: Mapping[str, Texts],
    columns: Sequence[str],
    options: AddOptions,
    scratch: Path,
    report: Report,
    tokenizer: Tokenizer | None = None,
) -> Content:
    """Return texts that some columns hold, with the targets of other columns if there are some.

    tokenizer: in place of the one that the options name. Raises: UsageError.
    """
    where = tables["train"].path
    options.refuse("texts", "categorical", "missing")
    roles = find_roles(tables, options, others=columns)
    if roles.features:
        report(f"not read: {', '.join(roles.features)}")
    roles.features = []
    if roles.targets:
        read = {split: target_columns(table, roles, options) for split, table in tables.items()}
        return _with_targets(texts, read, options, where, scratch, report, tokenizer)
    options.check_task("texts without a target", MODELLING)
    parts = random_parts(texts["train"].count, texts["test"].count if "test" in texts else None, where)
    return tokenized(texts, parts, options, where, scratch, report, tokenizer=tokenizer)


def _column(table: Any, name: str) -> Texts:
    def read() -> Iterator[Document]:
        for chunk in table.chunks([name], [name]):
            empty = np.flatnonzero(missing(chunk.cells[name]))
            if len(empty):
                raise UsageError(f"{table.path}, row {chunk.rows[empty[0]]}, column '{name}': the text is empty.")
            for row, cell in zip(chunk.rows, chunk.cells[name], strict=True):
                yield f"{table.path}, row {row}", iter([cell.encode(errors="replace")])

    return Texts(sum(len(chunk.rows) for chunk in table.chunks([name], [name])), read)


def _with_targets(
    texts: Mapping[str, Texts],
    read: Mapping[str, Any],
    options: AddOptions,
    where: Path,
    scratch: Path,
    report: Report,
    tokenizer: Tokenizer | None = None,
) -> Content:
    asked = CLASSIFICATION if options.task == SEQUENCES else options.task
    targets, parts = make_targets(read, options.replaced({"task": asked}), where, report)
    task = SEQUENCES if targets.task == CLASSIFICATION else targets.task
    report(f"{task}: {targets.summary}")
    found = tokenized(texts, parts, options, where, scratch, report, task, tokenizer)
    splits = {
        split: Arrays(
            {**found.splits[split].arrays(), **targets.splits[split]}, found.splits[split].source, targets.class_names
        )
        for split in SPLITS
    }
    facts = {**targets.facts, "more": {**found.more, **targets.facts.get("more", {})}}
    return Content(splits, task, TOKENS, found.input_shape, vocabulary=found.vocabulary, padding=found.padding, **facts)


def tokenized(
    texts: Mapping[str, Texts],
    parts: Parts,
    options: AddOptions,
    where: Path,
    scratch: Path,
    report: Report,
    task: str = MODELLING,
    tokenizer: Tokenizer | None = None,
) -> Content:
    """Return tokens of texts: those of the training and the test file, or of the parts of the training file.

    Raises: UsageError for texts that are not UTF-8, where the tokenizer needs it, and for texts without tokens.
    """
    options.refuse("texts", "augmentation", "image_size", "stream")
    tokenizer = tokenizer or _tokenizer(texts, parts, options, report, fills=task != MODELLING)
    files = {split: TokenFile(tokenizer, scratch, with_special=task != MODELLING) for split in SPLITS}
    empty = 0
    for split, (place, text) in _documents(texts, parts):
        length = files[split].append(_readable(place, text))
        if not length and task == MODELLING:
            del files[split].ends[-1]
            empty += 1
        elif not length:
            raise UsageError(f"{place}: the text is empty; remove it.")
    if empty:
        report(f"skipped {empty:,} empty text{'s' * (empty != 1)}")
    arrays = {split: file.arrays() for split, file in files.items()}
    for split in SPLITS:
        if not len(arrays[split]["tokens"]):
            raise UsageError(f"{where}: the {split}ing texts hold no tokens.")
    arrays["train"]["tokenizer"] = np.frombuffer(tokenizer.content, np.uint8)
    lengths = tokenizer.token_bytes()
    if lengths is not None:
        arrays["train"]["token_bytes"] = lengths
    longest = int(np.diff(arrays["train"]["documents"]).max())
    is_modelling = task == MODELLING
    return Content(
        {split: Arrays(arrays[split], f"added from {where.name}") for split in SPLITS},
        task,
        TOKENS,
        (_LENGTH if is_modelling else min(longest, _LONGEST),),
        vocabulary=tokenizer.vocabulary,
        padding=None if is_modelling else tokenizer.special,
        separator=tokenizer.special if is_modelling else None,
        more={"tokens": tokenizer.about, "tokenizer": tokenizer.sha256},
    )


def _readable(place: str, text: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a text that is checked to be UTF-8. place: for the error."""
    for part in text:
        try:
            part.decode()
        except UnicodeDecodeError as error:
            row = part[: error.start].count(b"\n") + 1
            raise UsageError(f"{place}: the text is not UTF-8 (line {row} of it); save it in that encoding.") from error
        yield part


def _documents(texts: Mapping[str, Texts], parts: Parts) -> Iterator[tuple[str, Document]]:
    """Yield each text with its split."""
    tested = set() if parts.has_test_file else set(parts.test.tolist())
    for file, found in texts.items():
        for number, document in enumerate(found.read()):
            yield "test" if number in tested else file, document


def _tokenizer(
    texts: Mapping[str, Texts], parts: Parts, options: AddOptions, report: Report, *, fills: bool
) -> Tokenizer:
    if options.tokenizer:
        if options.vocabulary is not None:
            raise UsageError("a tokenizer has its own vocabulary; give one of the two.", "tokenizer", "vocabulary")
        return read_tokenizer(Path(options.tokenizer).expanduser(), fills=fills)
    if options.vocabulary is None:
        return ByteTokenizer()
    report(f"training a byte-pair encoding of {options.vocabulary:,} tokens on the training texts")
    training = (document for split, document in _documents(texts, parts) if split == "train")
    return train_bpe((part for document in training for part in _readable(*document)), options.vocabulary)
