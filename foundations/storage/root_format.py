"""The format of a root, in `<root>/format.json` (docs/format.md)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from foundations.access import for_owner, reason
from foundations.errors import EnvironmentFailure
from foundations.files import create_file, explain_os_errors, is_there, make_folder, read_file
from foundations.storage import sealed_json

FORMAT_FILE = "format.json"


def check_format(root: Path) -> None:
    """Refuse a root of a newer format. A root without the file is empty, or of format 1.

    Raises: EnvironmentFailure that names the format, or where the file cannot be read.
    """
    path = root / FORMAT_FILE
    try:
        sealed_json.from_bytes(read_file(path), path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error)}.") from error
    except ValueError as error:
        raise EnvironmentFailure(
            f"{path} is damaged: {error}. "
            + for_owner(path, "Remove it if no newer version has written into this root.")
        ) from error


def state_format(root: Path) -> None:
    """Write the format into a root that does not state it. Raises: EnvironmentFailure; as `check_format`."""
    check_format(root)
    path = root / FORMAT_FILE
    if not is_there(path):
        with explain_os_errors("write", path):
            make_folder(root)
            with contextlib.suppress(FileExistsError):
                create_file(path, sealed_json.to_bytes({}))
