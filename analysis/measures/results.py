"""Results of measures: computed once, kept under the root, and reused while their inputs are the same.

    <root>/.measures/<measure>/<digest>.json

The digest is of the description: the measure, its version, its options, and the runs (their digests and replicates)
with the steps of the options. A result records its inputs: the SHA-256 of each state and mask that was read, and the
fingerprint of the data. If the files of a run have changed, the result is computed again.
Imports no torch to reuse a result.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.measures.inputs import Measuring, current_sha256, steps_of
from analysis.measures.measure import NOT_FINITE, Measure, Measured
from analysis.measures.registry import MEASURES
from analysis.rows.run import StoredRun
from branches.desc import trained_of
from foundations.description.address import digest
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams
from foundations.errors import ClosedError, UsageError, choose_from
from foundations.files import read_file, write_atomically
from foundations.plugins.plugins import load_plugins
from foundations.plugins.users_code import article, mistake, returned
from foundations.reporter import NullReporter, Reporter
from foundations.storage.store import MEASURES_FOLDER, find_run
from platforms.platform import PlatformHparams, make_platform
from training.context import Context
from training.desc import scoring_version
from training.jobs.provenance import versions

_OF_TEXTS = ("files", "dataset", "versions")
_NUMBERS = dict(zip(NOT_FINITE, (math.nan, math.inf, -math.inf), strict=True))


@dataclass(frozen=True, kw_only=True)
class MeasuredResult(Measured):
    """A stored result."""

    measure: str
    description: dict[str, Any]
    """The description that determines its address: measure, options, runs, steps."""
    files: dict[str, str]
    """SHA-256 of each file of a run that it depends on, by `<run>/<file>`."""
    dataset: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the prepared dataset by name, if data was used."""
    versions: dict[str, str] = field(default_factory=dict)
    computed: str = ""
    """The time of the computation."""
    path: Path
    """Its file."""
    is_kept: bool = True
    """Whether there is such a file: the root may be one that this user cannot write."""
    reused: bool = False
    note: str = ""
    """The reason for computing an existing result again, or for not keeping this one; empty otherwise."""

    @property
    def runs(self) -> list[str]:
        """The locations of the runs."""
        return [run["location"] for run in self.description["runs"]]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data. Numbers that are not finite are NaN, Infinity and -Infinity, as texts."""
        return {
            "description": self.description,
            "values": {name: _plain(value) for name, value in self.values.items()},
            "table": {name: [_plain(entry) for entry in column] for name, column in self.table.items()},
            "files": self.files,
            "dataset": self.dataset,
            "versions": self.versions,
            "computed": self.computed,
        }


def measure(
    name: str,
    *runs: StoredRun,
    replay: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    **options: Any,
) -> MeasuredResult:
    """Return the result of a measure of runs: the stored one, or else compute and keep it.

    name: see `open_prune.py measures`, or `analysis.measures.registry`. runs: as many as the measure takes.
    replay: compute states that the runs did not keep, and keep them. device: auto (CUDA, else MPS, else CPU), cpu,
    cuda, cuda:N or mps. reporter: receives the progress. options: options of the measure.
    Raises: UsageError for a name, an option or a number of runs that is not valid; EnvironmentFailure for a run that is
    not complete; DamagedError for one that is damaged, or was computed from other data.
    """
    if wrong := [run for run in runs if not isinstance(run, StoredRun)]:
        raise UsageError(f"it takes runs as open_run returns them, not {wrong[0]!r:.60}.", "runs")
    if runs:
        load_plugins(runs[0].environment.plugins)
    found = MEASURES.find(name)
    kind = found.options.group_for(options)
    for option in options:
        if option not in kind.names():
            raise UsageError(f"it is not an option of {name}{choose_from(option, kind.names())}", option)
    return result_of(found, runs, kind.of(options), replay=replay, device=device, reporter=reporter)


def result_of(
    measure: Measure,
    runs: Sequence[StoredRun],
    options: Hparams,
    *,
    replay: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    no_download: bool = False,
) -> MeasuredResult:
    """Return the result of a measure, as `measure` does. no_download: never download a dataset."""
    _check_number(measure, runs)
    environment = runs[0].environment
    context = Context(
        root=environment.root,
        datasets=environment.datasets,
        platform=make_platform(PlatformHparams(device=device)),
        reporter=reporter or NullReporter(),
        may_download=not (no_download or environment.no_download),
    )
    measuring = Measuring(context, replay)
    opened = [measuring.opened(run) for run in runs]
    for run in opened:
        _ = run.manifest  # damage is an error, whatever is kept
    options = options.simplified()
    steps = [steps_of(run, options) for run in opened]
    description = _description(measure, options, runs, steps)
    path = environment.root / MEASURES_FOLDER / measure.spelling / f"{digest('measure', description)}.json"
    kept, note = _kept(path, description, context)
    if kept is not None:
        return kept
    measuring.progress(f"measure {measure.spelling}", 0, 1, "results")
    found: Any = context.platform.launch(lambda _: measure.compute(measuring, options, *opened))
    measured = _checked(returned(found, Measured, measure.compute, measure), measure)
    measuring.progress(f"measure {measure.spelling}", 1, 1, "results")
    result = MeasuredResult(
        **{name: getattr(measured, name) for name in ("values", "table")},
        measure=measure.spelling,
        description=description,
        files=dict(sorted(measuring.files.items())),
        dataset=measuring.dataset,
        versions=versions(),
        computed=time.strftime("%Y-%m-%d %H:%M:%S"),
        path=path,
        note=note,
    )
    try:
        write_atomically(path, (json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n").encode())
    except ClosedError as error:
        note = f"{note} The result is not kept. {error}".lstrip()
        return dataclasses.replace(result, note=note, is_kept=False)
    return result


def _checked(measured: Measured, measure: Measure) -> Measured:
    """Return a measure's result; check a plug-in's, and convert its numpy and torch numbers to Python numbers.

    Raises: PluginError if values are not numbers, or columns have anything but names and numbers.
    """
    if measure.plugin is None:
        return measured
    values = {name: _of_python(value) for name, value in measured.values.items()}
    columns = {name: [_of_python(each) for each in column] for name, column in measured.table.items()}
    measured = Measured(values, columns)
    for name, value in measured.values.items():
        if not isinstance(value, int | float):
            raise mistake(measure.compute, measure, f"returned {article(value)} as '{name}'; it must be a number.")
    for name, column in measured.table.items():
        wrong = [each for each in column if not isinstance(each, str | int | float)]
        if wrong:
            reason = f"returned {article(wrong[0])} in the column '{name}'; it must hold names or numbers."
            raise mistake(measure.compute, measure, reason)
    return measured


def _of_python(value: Any) -> Any:
    """Return a numpy or torch scalar as a Python number; any other value as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def forget(root: Path, locations: Collection[str]) -> int:
    """Remove the results of runs at some locations; return their number. Keep unreadable files."""
    count = 0
    for path in (root / MEASURES_FOLDER).glob("*/*.json"):
        try:
            runs = _result(path, json.loads(read_file(path))).runs
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if not set(locations).isdisjoint(runs):
            path.unlink(missing_ok=True)
            count += 1
    return count


def _check_number(measure: Measure, runs: Sequence[StoredRun]) -> None:
    """Raise UsageError if a measure does not take that many runs, or they are under several roots."""
    least, most = {"one run": (1, 1), "two runs": (2, 2), "several runs": (2, len(runs))}[measure.takes]
    if not least <= len(runs) <= most:
        raise UsageError(f"{measure.spelling} takes {measure.takes}, not {len(runs)}.")
    if len({run.environment.root for run in runs}) > 1:
        raise UsageError("the runs are under several roots; measure runs of one root.", "root")


def _description(
    measure: Measure, options: Hparams, runs: Sequence[StoredRun], steps: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return the description of a result, which determines its address.

    steps: the resolved steps of the options, for each run; the options in the description omit them.
    """
    normal = options.replaced(steps[0]).normalized(runs[0].description.iterations_per_epoch)
    plugins = {plugin.name: plugin.sha256 for plugin in (*normal.plugins(), measure.plugin) if plugin is not None}
    tree: dict[str, Any] = {
        "measure": measure.spelling,
        "version": measure.version,
        "scoring": _scoring_version(measure, options, runs),
        "options": {name: value for name, value in normal.canonical().items() if name not in steps[0]},
        "runs": [
            {"location": str(run.location), **({"steps": dict(own)} if own else {})}
            for run, own in zip(runs, steps, strict=True)
        ],
        "plugins": dict(sorted(plugins.items())),
    }
    omitted = (("version", 1), ("scoring", 1))
    return {name: part for name, part in tree.items() if part != {} and (name, part) not in omitted}


def _scoring_version(measure: Measure, options: Hparams, runs: Sequence[StoredRun]) -> int:
    if measure.scores_with is None:
        return 1
    pruning = measure.scores_with(options)
    return max(scoring_version(trained_of(RunRef(run.description)).model, pruning) for run in runs)


def _kept(path: Path, description: Mapping[str, Any], context: Context) -> tuple[MeasuredResult | None, str]:
    """Return the result in a file; or None, with the reason if there is a file that cannot be used."""
    try:
        result = _result(path, json.loads(read_file(path)))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, "The result that was there is damaged."
    if result.description != description:
        return None, "The result that was there is of something else."
    for file, sha256 in result.files.items():
        location, _, name = file.rpartition("/")
        if sha256 != _now(location, name, context):
            return None, f"{file} is another file than the one that the former result rests on."
    for name, fingerprint in result.dataset.items():
        if context.fingerprint(name) not in (None, fingerprint):
            return None, f"The former result rests on other data of {name}."
    return dataclasses.replace(result, reused=True), ""


def _now(location: str, name: str, context: Context) -> str | None:
    """Return the SHA-256 of a file of a run in its present manifest; None if there is no such file or run."""
    try:
        return current_sha256(find_run(context.root, location), name)
    except UsageError:
        return None


def _result(path: Path, tree: Mapping[str, Any]) -> MeasuredResult:
    """Read a stored result. Raises: KeyError, TypeError or AttributeError for anything else."""
    texts = [tree["computed"], *(text for name in _OF_TEXTS for text in tree[name].values())]
    entries = [*tree["values"].values(), *(entry for column in tree["table"].values() for entry in column)]
    if not all(isinstance(text, str) for text in texts) or not all(type(each) in (int, float, str) for each in entries):
        raise TypeError("it is not a result")
    if len({len(column) for column in tree["table"].values()}) > 1:
        raise TypeError("its columns differ in length")
    return MeasuredResult(
        values={name: _NUMBERS.get(value, value) for name, value in tree["values"].items()},
        table={name: _column(column) for name, column in tree["table"].items()},
        measure=tree["description"]["measure"],
        path=path,
        **{name: tree[name] for name in ("description", "files", "dataset", "versions", "computed")},
    )


def _plain(value: float | str) -> float | str:
    if isinstance(value, float) and not math.isfinite(value):
        return NOT_FINITE[0] if math.isnan(value) else NOT_FINITE[1 if value > 0 else 2]
    return value


def _column(entries: list[Any]) -> Any:
    """Return a column, with the texts for numbers that are not finite as numbers if it has no other texts."""
    texts = {entry for entry in entries if isinstance(entry, str)}
    return [_NUMBERS.get(entry, entry) for entry in entries] if texts <= set(NOT_FINITE) else entries
