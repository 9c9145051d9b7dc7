"""Results of measures as they travel: files of a root that belong to the first run that they measure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundations.description.address import Location, digest
from foundations.files import read_file
from foundations.remotes.layout import CorruptError
from foundations.storage.store import MEASURES_FOLDER


def measure_files(root: Path) -> Iterator[tuple[Location, str, Path]]:
    """Yield the run, the measure and the file of each result under a root. Skip those that cannot be read."""
    for path in sorted((root / MEASURES_FOLDER).glob("*/*.json")):
        try:
            location = _first_run(json.loads(read_file(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            continue
        yield location, path.parent.name, path


def check_measure(data: bytes, location: Location, measure: str, address: str) -> None:
    """Check a result of a measure that arrived: that it is what its name says. Raises: CorruptError.

    Whether it fits the files of the runs is checked whenever it is reused.
    """
    try:
        tree = json.loads(data)
        description = tree["description"]
        is_right = description["measure"] == measure and digest("measure", description) == address
        is_right &= _first_run(tree) == location and isinstance(tree["values"], dict)
        is_right &= all(isinstance(text, str) for text in tree["files"].values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        is_right = False
    if not is_right:
        raise CorruptError("it is not the result of a measure that its name says", data)


def _first_run(tree: Any) -> Location:
    location = Location.parse(tree["description"]["runs"][0]["location"])
    if location is None:
        raise ValueError("it is of no run")
    return location
