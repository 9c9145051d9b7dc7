"""Tables in Parquet files, and in folders that Hugging Face's `datasets` has saved; both are read by pyarrow alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets.formats.tables import ARRAYS, IMAGES, NUMBERS, TEXTS, Chunk, Kind, Table
from foundations.access import reason
from foundations.errors import EnvironmentFailure, UsageError
from foundations.extras import need_package

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_SUFFIXES = (".parquet", ".pq")
_ROWS = 20_000


class ArrowTable(Table):
    """A table whose file says the types of its columns."""

    schema: pa.Schema
    class_names: dict[str, tuple[str, ...]]
    """The names of the classes of a column of numbers, where the files have them."""
    _shapes: dict[str, tuple[tuple[int, ...], int]]
    """The shape of the first array of a column, and its row, while rows are read."""

    def _set_schema(self, schema: pa.Schema) -> None:
        self.schema, self.columns, self.class_names = schema, list(schema.names), {}
        self.refuse_repeated(self.path)

    def kinds(self) -> dict[str, Kind]:
        """Return the kind of each column by its type; other types are named as they are."""
        return {field.name: Kind(declared=_kind_of(field.type)) for field in self.schema}

    def chunks(self, columns: Collection[str], texts: Collection[str] = ()) -> Iterator[Chunk]:
        """Yield the rows. Raises: UsageError that names the row of an array of another shape."""
        first, self._shapes = 1, {}
        for batch in self._batches([name for name in self.columns if name in columns]):
            rows = np.arange(first, first + batch.num_rows)
            cells = {name: self._cells(name, batch.column(name), rows, name in texts) for name in batch.schema.names}
            first += batch.num_rows
            if len(rows):
                yield Chunk(rows, cells)

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _cells(self, name: str, column: pa.Array, rows: NDArray[np.int64], as_text: bool) -> NDArray[Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = _kind_of(column.type)
        if name in self.class_names and as_text:
            names = self.class_names[name]
            values = [None if not _is_class(value, names) else names[value] for value in column.to_pylist()]
        elif kind == NUMBERS and not as_text:
            return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        elif kind == ARRAYS and not as_text:
            return self._stacked(name, column.to_pylist(), rows)
        elif kind == IMAGES:
            values = [self._encoded(name, value, row) for value, row in zip(column.to_pylist(), rows, strict=True)]
        elif kind == ARRAYS:
            values = column.to_pylist()
        else:
            values = [None if value is None or value == "" else _text(value) for value in column.to_pylist()]
        return np.array([*values, None], object)[:-1]

    def _stacked(self, name: str, values: Sequence[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        arrays = []
        for row, value in zip(rows, values, strict=True):
            try:
                array = np.array(value, np.float64)
            except (ValueError, TypeError):
                array = np.empty(0)
            shape, first = self._shapes.setdefault(name, (array.shape, int(row)))
            if not array.size or array.shape != shape:
                other = f", unlike {shape} in row {first}" if first != row else ""
                raise UsageError(
                    f"{self.path}, row {row}: column '{name}' holds an array of shape {array.shape}{other}."
                    + f" If these are token ids, give --tokens={name}." * (array.ndim == 1)
                )
            arrays.append(array)
        return np.stack(arrays)

    def _encoded(self, name: str, value: Any, row: int) -> bytes:
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            with contextlib.suppress(OSError):
                content = Path(value["path"]).read_bytes()
        if not content:
            raise UsageError(f"{self.path}, row {row}: column '{name}' holds no image.")
        return bytes(content)


class ParquetTable(ArrowTable):
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        """Read the schema. Raises: UsageError for a file of another format; EnvironmentFailure without pyarrow."""
        need_package("pyarrow", "tables", "Parquet files")
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        try:
            self._set_schema(pq.read_schema(path))
        except OSError as error:
            raise EnvironmentFailure(f"Cannot read {path}: {reason(error)}.") from error
        except pa.ArrowException as error:
            raise UsageError(f"{path} is not a whole Parquet file ({_line(error)}).") from error

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(_ROWS, columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{self.path} is not a whole Parquet file ({_line(error)}).") from error


class SavedTable(ArrowTable):
    """One split that Hugging Face's `datasets` has written with save_to_disk: Arrow files, and JSON about them."""

    def __init__(self, path: Path) -> None:
        """Read the names of the files and their schema. Raises: UsageError where something is missing."""
        need_package("pyarrow", "tables", "saved Hugging Face datasets")
        self.path = path
        state = read_json(path / "state.json")
        try:
            self._files = [path / str(entry["filename"]) for entry in state["_data_files"]]
        except (KeyError, TypeError) as error:
            raise UsageError(f"{path / 'state.json'} lists no Arrow files under _data_files.") from error
        if state.get("_indices_data_files"):
            raise UsageError(f"{path} holds a selection of rows by indices: call flatten_indices() before saving it.")
        missing = [file for file in self._files if not file.is_file()]
        if missing or not self._files:
            raise UsageError(f"{missing[0] if missing else path} is missing: the saved dataset is not whole.")
        self._set_schema(next(self._opened(self._files[0]))[0])
        self._read_class_names()

    def _read_class_names(self) -> None:
        features = read_json(self.path / "dataset_info.json").get("features")
        for name, feature in features.items() if isinstance(features, dict) else ():
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
                self.class_names[name] = tuple(map(str, feature["names"]))

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            for schema, batch in self._opened(file):
                if schema.names != self.schema.names:
                    raise UsageError(f"{file} has other columns than {self._files[0]}.")
                for start in range(0, batch.num_rows if batch is not None else 0, _ROWS):
                    yield batch.slice(start, _ROWS).select(list(columns))

    @staticmethod
    def _opened(file: Path) -> Iterator[tuple[pa.Schema, Any]]:
        """Yield the schema without rows, then with each batch; of Arrow's stream format, or of its file format."""
        import pyarrow as pa

        try:
            with pa.memory_map(str(file)) as mapped:
                is_file = mapped.read(6) == b"ARROW1"
                mapped.seek(0)
                if is_file:
                    reader = pa.ipc.open_file(mapped)
                    batches: Any = (reader.get_batch(number) for number in range(reader.num_record_batches))
                else:
                    reader = batches = pa.ipc.open_stream(mapped)
                yield reader.schema, None
                for batch in batches:
                    yield reader.schema, batch
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{file} is not a whole Arrow file ({_line(error)}).") from error


def saved_splits(path: Path) -> list[str]:
    """Return the names of the splits of a saved dataset: its folders, or none where the folder itself is one.

    Raises: UsageError for a folder that `datasets` has not saved.
    """
    if (path / "dataset_dict.json").is_file():
        splits = read_json(path / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not splits:
            raise UsageError(f"{path / 'dataset_dict.json'} lists no splits.")
        return [str(split) for split in splits]
    if not (path / "state.json").is_file():
        raise UsageError(
            f"{path} is not a saved dataset: it holds neither dataset_dict.json nor state.json, which Hugging Face's "
            "save_to_disk writes."
        )
    return []


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises: UsageError that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} is missing or cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {_line(error)}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no JSON object.")
    return content


def _kind_of(kind: pa.DataType) -> str:
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return NUMBERS
    if types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return TEXTS
    if types.is_binary(kind) or types.is_large_binary(kind):
        return IMAGES
    if types.is_struct(kind) and {kind.field(at).name for at in range(kind.num_fields)} == {"bytes", "path"}:
        return IMAGES
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return ARRAYS if _kind_of(kind.value_type) in (NUMBERS, ARRAYS) else str(kind)
    return str(kind)


def _is_class(value: Any, names: Sequence[str]) -> bool:
    return isinstance(value, int) and 0 <= value < len(names)  # -1 stands for a missing label


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
