"""Job files: a run and the requested results, as JSON, for a command on another slot or machine to compute.

A job file holds the records of the run and of all runs that it depends on (`Desc.record`), so it can be read before any
of them has started. It is data: nothing in it is executed, and each record must hash to the name of its directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from branches.kinds import load_desc
from foundations.access import reason
from foundations.description.address import Location
from foundations.description.desc import Desc, check_record
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import Flushes, read_file, write_atomically
from foundations.plan import PlannedRun, Target
from foundations.storage.run import Run

_SUFFIX = ".json"


def job_file(run: Run, folder: Path) -> Path:
    """Return the path of the job file of a run in a folder of job files."""
    return folder / f"{str(run).replace('/', '.')}{_SUFFIX}"


def run_of_job_file(path: Path, root: Path) -> Run | None:
    """Return the run of a job file by its name, whether or not it is there; None for any other file."""
    location = Location.parse(path.name.removesuffix(_SUFFIX).replace(".", "/"))
    return None if location is None else Run(root, location)


def write_job_file(planned: PlannedRun, path: Path, *, flushes: Flushes = "all") -> None:
    """Write the plan for one run. Raises: EnvironmentFailure if it cannot be written.

    flushes: as of `write_atomically`; nothing for a job that does not outlive this process.
    """
    location = planned.run.location
    tree = {
        "run": [location.training, location.replicate, location.name],
        "keep": sorted(step.iteration for step in planned.keep),
        "is_complete": planned.is_target,
        "needs_mask": planned.needs_mask,
        "records": _records(planned.desc, location.replicate),
    }
    write_atomically(path, json.dumps(tree).encode(), flushes=flushes)


def read_job_file(path: Path, root: Path) -> Target:
    """Return the run and the results that a job file requests. root: the directory of the runs.

    Raises: EnvironmentFailure if there is no such file; DamagedError if it is not a job file; UsageError about
    `plugin` if a plug-in that a run needs is not loaded.
    """
    try:
        tree = json.loads(read_file(path))
        records = tree["records"]

        def record_of(run: Run) -> Mapping[str, Any]:
            record: Mapping[str, Any] = records[str(run)]
            check_record(record, run.place)
            return record

        location = Location.of(*tree["run"])
        desc = load_desc(Run(root, location), record_of)
        if desc.location(location.replicate) != location:
            raise ValueError(f"{location} is not where the run belongs")
        keep = tuple(Step(int(iteration), desc.iterations_per_epoch) for iteration in tree["keep"])
        if not all(desc.start <= step <= desc.end for step in keep):
            raise ValueError(f"the run has no state at {max(keep)}")
        flags = (bool(tree["is_complete"]), bool(tree["needs_mask"]))
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{path} is not a job file ({type(error).__name__}: {error}).") from error
    return Target(desc, location.replicate, keep, is_complete=flags[0], needs_mask=flags[1])


def _records(desc: Desc, replicate: int) -> dict[str, Any]:
    """Return the records of a run and of each run that it depends on, by location."""
    found: dict[str, Any] = {}
    waiting = [(desc, replicate)]
    while waiting:
        desc, replicate = waiting.pop()
        name = str(desc.location(replicate))
        if name not in found:
            found[name] = desc.record()
            runs = [source.run for source in desc.sources().values()]
            waiting += [(run.desc, run.location(replicate).replicate) for run in runs]
    return found
