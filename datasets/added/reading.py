"""The choice of the reader of a user's data, by the options and by the files that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.added.labelled_images import image_column, read_labelled_images
from datasets.added.options import AddOptions, Report
from datasets.added.split_names import split_of
from datasets.added.user_arrays import read_arrays
from datasets.added.user_folders import holds_images, is_ignored
from datasets.added.user_images import read_images
from datasets.added.user_tables import Tables, read_tables
from datasets.added.user_texts import TEXT_SUFFIXES, read_text_file, read_text_folder, read_text_tables
from datasets.added.user_tokens import ids_column, read_token_tables
from datasets.formats.arrow_tables import PARQUET_SUFFIXES, ParquetTable, SavedTable, saved_splits
from datasets.formats.class_folders import files_under
from datasets.formats.content import Content
from datasets.formats.tables import CSV_SUFFIXES, TEXTS, CsvTable, Table
from foundations.errors import UsageError

_OF_TABLES = ("target", "categorical", "ignore", "missing", "text", "tokens")


def read_content(path: Path, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return the content of a user's data. scratch: the folder of temporary files.

    Raises: UsageError for other data, and for options that do not suit them.
    """
    if options.from_hf:
        return _read_table_files(_saved_tables(path, report), None, options, scratch, report)
    if path.is_dir():
        return _read_folder(path, options, scratch, report)
    if _is_table(path):
        return _read_table_files({"train": _table(path)}, path.parent, options, scratch, report)
    if path.suffix.lower() == ".npz":
        options.refuse("arrays", *_OF_TABLES, "vocabulary", "tokenizer")
        found = read_arrays(path, options, report)
        assert found is not None
        return found
    if path.suffix.lower() in TEXT_SUFFIXES or options.task == "language_modelling":
        options.refuse("a text file", *_OF_TABLES)
        return read_text_file(path, options, scratch, report)
    raise UsageError(
        f"{path} is a file of another kind: give a table (.csv, .tsv, .parquet), a text ({', '.join(TEXT_SUFFIXES)}), "
        "an .npz file, or a folder of images, texts or .npy files. Unpack archives first."
    )


def _read_folder(path: Path, options: AddOptions, scratch: Path, report: Report) -> Content:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        raise UsageError(f"{path} is a saved Hugging Face dataset; give it by --from_hf in place of PATH.")
    tables = sorted(entry for entry in path.iterdir() if _is_table(entry) and not is_ignored(entry.name))
    has_images = holds_images(path)
    if tables and (options.target or options.text or options.tokens or not has_images):
        return _read_table_files(
            _split_tables(path, tables, report), path if has_images else None, options, scratch, report
        )
    if not has_images:
        options.refuse("arrays and texts in a folder", *_OF_TABLES)
    if any(path.glob("*.npy")):
        found = read_arrays(path, options, report)
        if found is not None:
            return found
    is_text = any(file.suffix.lower() in TEXT_SUFFIXES for file in files_under(path, is_ignored))
    if is_text and (not has_images or options.task in ("language_modelling", "sequence_classification")):
        return read_text_folder(path, options, scratch, report)
    if options.target:
        raise UsageError(f"{path} holds no table with the targets of its images, such as labels.csv.", "target")
    return read_images(path, options, report)


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((*CSV_SUFFIXES, *PARQUET_SUFFIXES))


def _table(path: Path) -> Table:
    return ParquetTable(path) if path.suffix.lower() in PARQUET_SUFFIXES else CsvTable(path)


def _split_tables(path: Path, files: Sequence[Path], report: Report) -> Tables:
    """Return the tables of a folder: the only one, or those that are named like splits. Raises: UsageError."""
    chosen = _by_split({file.name.partition(".")[0]: file for file in files}, report)
    if not chosen:
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise UsageError(f"{path} holds the tables {names}; name them train and test, or give one of them as PATH.")
        chosen = {"train": files[0]}
    return {split: _table(file) for split, file in chosen.items()}


def _saved_tables(path: Path, report: Report) -> Tables:
    splits = saved_splits(path)
    if not splits:
        return {"train": SavedTable(path)}
    chosen = _by_split({name: path / name for name in splits}, report)
    if not chosen:
        if len(splits) > 1:
            raise UsageError(
                f"{path} has the splits {', '.join(splits)}, of which none is train; give the folder of one."
            )
        chosen = {"train": path / splits[0]}
    return {split: SavedTable(folder) for split, folder in chosen.items()}


def _by_split(named: dict[str, Path], report: Report) -> dict[str, Path]:
    """Return the training and the test part by their names; empty if none is named like training."""
    found = {name: split for name in named if (split := split_of(name)) is not None}
    train = [name for name, (split, _) in found.items() if split == "train"]
    tests = sorted((rank, name) for name, (split, rank) in found.items() if split == "test")
    if len(train) != 1:
        return {}
    chosen = [train[0], *(name for _, name in tests[:1])]
    unread = [str(path) for name, path in named.items() if name not in chosen]
    if unread:
        report(f"not read: {', '.join(unread)}")
    return dict(zip(("train", "test"), (named[name] for name in chosen), strict=False))


def _read_table_files(
    tables: Tables, folder: Path | None, options: AddOptions, scratch: Path, report: Report
) -> Content:
    """Return the content of tables: of images, of texts, or of numbers and categories."""
    options = _completed(tables["train"], options, report)
    tokens = ids_column(tables["train"], options)
    if tokens is not None:
        return read_token_tables(tables, tokens, options, scratch, report)
    if options.text:
        return read_text_tables(tables, options, scratch, report)
    if options.task in ("language_modelling", "sequence_classification"):
        raise UsageError(
            f"{options.task} needs the column of {tables['train'].path} with the texts, or with token ids.",
            "text",
            "tokens",
        )
    images = image_column(tables["train"], folder if folder and holds_images(folder) else None)
    if images is not None and images not in options.targets:
        return read_labelled_images(tables, images, folder, options, scratch, report)
    return read_tables(tables, options, scratch, report)


def _completed(table: Table, options: AddOptions, report: Report) -> AddOptions:
    """Return the options with the columns that the table itself makes clear, where they were not given.

    A single column with named classes is the target, and a column of texts named `text` or `sentence`, or the only
    column, is the text.
    """
    changes = {}
    classes = list(getattr(table, "class_names", {}))
    if not options.target and len(classes) == 1 and options.task != "language_modelling":
        changes["target"] = classes[0]
        report(f"target: {classes[0]}, the column with named classes")
    others = [name for name in table.columns if name not in (*options.targets, *changes.values())]
    if not options.text and (
        options.task in _OF_TEXT or options.vocabulary or options.tokenizer or table.columns == others
    ):
        kinds = table.kinds()
        texts = [name for name in others if kinds[name].name == TEXTS]
        named = [name for name in texts if name.lower() in ("text", "sentence", "content")]
        if len(named) == 1 or (len(others) == 1 and texts):
            changes["text"] = (named or texts)[0]
    if not options.text and "text" not in changes and "target" in changes:
        kinds = table.kinds()
        named = [
            name for name in others if name.lower() in ("text", "sentence", "content") and kinds[name].name == TEXTS
        ]
        changes |= {"text": named[0]} if len(named) == 1 else {}
    if "text" in changes:
        report(f"text: {changes['text']}")
    return options.replaced(changes) if changes else options


_OF_TEXT = ("language_modelling", "sequence_classification")
