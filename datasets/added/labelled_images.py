"""Users' images whose targets are in a table: image files named in a CSV or Parquet file, or images in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.measured import images_with_targets
from datasets.added.options import AddOptions, Report
from datasets.added.targets import make_targets
from datasets.added.user_folders import is_ignored
from datasets.added.user_images import decoded_image, say_remarks
from datasets.added.user_tables import Tables, find_roles, report_read, target_columns
from datasets.decode import image_suffixes
from datasets.formats.class_folders import files_under
from datasets.formats.content import Content, scratch_array
from datasets.formats.tables import IMAGES, TEXTS, Table
from datasets.prepared import SPLITS
from foundations.access import reason
from foundations.errors import UsageError

Blob = Callable[[Table, int, Any], tuple[bytes, str]]
"""(table, row, cell) -> the image's bytes, and its name for errors."""


def image_column(table: Table, folder: Path | None) -> str | None:
    """Return the column with images, or with the names of image files in a folder; None if there is none."""
    kinds = table.kinds()
    found = next((name for name in table.columns if kinds[name].name == IMAGES), None)
    if found is not None or folder is None:
        return found
    texts = [name for name in table.columns if kinds[name].name == TEXTS]
    for chunk in table.chunks(texts, texts):
        for name in texts:
            cell = chunk.cells[name][0]
            if cell is not None and Path(cell).suffix.lower() in image_suffixes():
                return name
        break
    return None


def read_labelled_images(
    tables: Tables, column: str, folder: Path | None, options: AddOptions, scratch: Path, report: Report
) -> Content:
    """Return images with the targets of a table. column: of the images, or of their files' names in `folder`.

    Raises: UsageError that names the row of a missing or damaged image.
    """
    options.refuse("images with a table", "stream", "categorical", "missing", "text", "vocabulary", "tokenizer")
    where = tables["train"].path
    roles = find_roles(tables, options, others=[column])
    if not roles.targets:
        raise UsageError(f"it is needed: the column of {where} to predict.", "target")
    if roles.features:
        report(f"not read: {', '.join(roles.features)}")
        roles.features = []
    read = {split: target_columns(table, roles, options) for split, table in tables.items()}
    targets, parts = make_targets(read, options, where, report)
    report_read(roles, targets.task, report)
    if tables["train"].kinds()[column].name == IMAGES:
        folder = None  # the table holds the images themselves
    blob = _in_table if folder is None else _FilesIn(folder)
    rest = _Decoding(blob, column, options.image_size)
    images: dict[str, NDArray[np.uint8]] = {}
    for split in SPLITS:
        file = split if parts.has_test_file else "train"
        images[split] = rest.decoded(tables[file], getattr(parts, split), scratch)
    say_remarks(rest.remarks, sum(map(len, images.values())), report)
    return images_with_targets(images, targets, where)


class _Decoding:
    """Decodes the images of some rows of a table; all must have one size."""

    def __init__(self, blob: Blob, column: str, image_size: int | None) -> None:
        self._blob, self._column, self._size = blob, column, image_size
        self._first: tuple[tuple[int, ...], str] | None = None
        self.remarks: Counter[str] = Counter()

    def decoded(self, table: Table, chosen: NDArray[np.int64], scratch: Path) -> NDArray[np.uint8]:
        """Return images, uint8 (N, 3, H, W). chosen: the numbers of rows, ascending. scratch: for temporary files."""
        wanted, done, number = np.zeros(int(chosen[-1]) + 1, bool), 0, 0
        wanted[chosen] = True
        images: NDArray[np.uint8] | None = None
        texts = [] if table.kinds()[self._column].name == IMAGES else [self._column]
        for chunk in table.chunks([self._column], texts):
            for row, cell in zip(chunk.rows, chunk.cells[self._column], strict=True):
                if number < len(wanted) and wanted[number]:
                    blob, name = self._blob(table, int(row), cell)
                    image = decoded_image(blob, f"{table.path}, row {row}: {name}", self._size, self.remarks).numpy()
                    self._check_size(image.shape, f"row {row}")
                    if images is None:
                        images = scratch_array((len(chosen), *image.shape), np.uint8, scratch)
                    images[done] = image
                    done += 1
                number += 1
        assert images is not None
        return images

    def _check_size(self, shape: tuple[int, ...], row: str) -> None:
        self._first = self._first or (shape, row)
        if self._first[0] != shape:
            differing = f"{self._first[1]} has {self._first[0][1:]} and {row} {shape[1:]}"
            raise UsageError(f"it is needed, since images differ in size: {differing}.", "image_size")


def _in_table(_table: Table, _row: int, cell: Any) -> tuple[bytes, str]:
    return cell, "the image"


class _FilesIn:
    """Finds image files by the names that a table gives them: paths in the folder, or names of files under it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: Mapping[str, list[Path]] = {}

    def __call__(self, table: Table, row: int, cell: Any) -> tuple[bytes, str]:
        path = None if cell is None else self._find(cell, table.path, row)
        if path is None:
            raise UsageError(f"{table.path}, row {row}: there is no image {cell!r} in {self._folder}.")
        try:
            return path.read_bytes(), str(path)
        except OSError as error:
            raise UsageError(f"{table.path}, row {row}: cannot read {path}: {reason(error, path)}.") from error

    def _find(self, name: str, table: Path, row: int) -> Path | None:
        path = self._folder / name
        if path.is_file() and path.resolve().is_relative_to(self._folder.resolve()):
            return path
        if not self._by_name:
            found: dict[str, list[Path]] = {}
            for file in files_under(self._folder, is_ignored):
                if file.suffix.lower() in image_suffixes():
                    found.setdefault(file.name, []).append(file)
            self._by_name = found or {"": []}
        files = self._by_name.get(Path(name).name, [])
        if len(files) > 1:
            raise UsageError(f"{table}, row {row}: {name!r} is {files[0]} or {files[1]}; write its folder, too.")
        return files[0] if files else None
