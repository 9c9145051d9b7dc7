"""Loggers show every value of metrics.csv once, whatever happened meanwhile, and do not change the run."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundations.metrics import Metrics
from foundations.storage.run import METRICS, Run
from foundations.storage.store import all_runs
from tests.cli.conftest import BRANCH
from tests.cli.terminal import LENET, SHORT, Terminal, tensors_of
from tests.training.loggers.readers import Points, curves_of_events, curves_of_wandb, hparams_of_events

WHERE_INSTALLED = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed: pip install 'open_prune[{name}]'"
    )
    for name in ("tensorboard", "wandb")
}
EVERY_EPOCH = (*LENET, "--training_steps=60ep", "--checkpoint_seconds=0.05")
"""About a second of training, with evaluations."""


@pytest.fixture
def terminal(tmp_path: Path, digits: Path) -> Terminal:
    return Terminal(tmp_path / "root", digits, {"WANDB_MODE": "offline", "WANDB_SILENT": "true"})


def folder_of(name: str, run: Run) -> Path:
    return run.location.under(run.root / ".logs" / name)


def tensorboard_curves(run: Run) -> Points:
    found = curves_of_events(folder_of("tensorboard", run))
    return {name: points for name, points in found.items() if not name.startswith("results/")}


def wandb_curves(run: Run) -> Points:
    return curves_of_wandb(wandb_file(run))[0]


def wandb_file(run: Run) -> Path:
    (file,) = folder_of("wandb", run).glob("wandb/offline-run-*/run-*.wandb")
    return file


LOGS: dict[str, tuple[Callable[[Run], Points], Callable[[float], float]]] = {
    "tensorboard": (tensorboard_curves, lambda value: float(np.float32(value))),
    "wandb": (wandb_curves, float),
}
"""By name: the reader of the curves, and the rounding of a value there."""
EACH = pytest.mark.parametrize("name", [pytest.param(name, marks=WHERE_INSTALLED[name]) for name in LOGS])


def logged_files(terminal: Terminal) -> dict[Path, int]:
    """Return when each file of loggers changed, but for wandb's own debugging, which goes on after a run has ended."""
    paths = (terminal.root / ".logs").rglob("*")
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file() and path.suffix != ".log"}


def assert_equal_metrics(name: str, run: Run) -> None:
    """Assert that a log has the values of metrics.csv, each once and in order."""
    read, stored = LOGS[name]
    metrics = Metrics.from_csv((run.folder / METRICS).read_text())
    expected = {
        metric: [(at, stored(value)) for (other, at), value in sorted(metrics.values.items()) if other == metric]
        for metric in metrics.names()
    }
    assert read(run) == expected


def only_run(terminal: Terminal) -> Run:
    (run,) = all_runs(terminal.root)
    return run


@EACH
def test_a_log_has_the_values_of_metrics_csv(name: str, terminal: Terminal) -> None:
    result = terminal.run("train", *SHORT, f"--{name}")

    assert (result.code, result.err) == (0, "")
    assert_equal_metrics(name, only_run(terminal))


@pytest.mark.slow
@EACH
def test_a_run_that_was_killed_goes_on_without_a_value_twice_or_missing(name: str, terminal: Terminal) -> None:
    for epoch in (10, 30):
        running = terminal.start("train", *EVERY_EPOCH, f"--{name}")
        running.wait_for(f"ep {epoch} it 0")
        assert running.kill()

    result = terminal.run("train", *EVERY_EPOCH, f"--{name}")

    assert result.code == 0, result.err
    assert "Resuming" in result.out
    assert_equal_metrics(name, only_run(terminal))


@EACH
def test_a_run_that_is_complete_gets_its_log_later_and_once(name: str, terminal: Terminal) -> None:
    assert terminal.run("train", *SHORT).code == 0
    before = tensors_of(only_run(terminal).folder)

    first = terminal.run("train", *SHORT, f"--{name}")
    written = logged_files(terminal)
    second = terminal.run("train", *SHORT, f"--{name}")

    assert first.code == second.code == 0, first.err + second.err
    assert "reused" in first.out
    assert_equal_metrics(name, only_run(terminal))
    assert written == logged_files(terminal)
    assert tensors_of(only_run(terminal).folder) == before


@EACH
def test_a_logger_changes_neither_the_address_nor_a_byte_of_the_run(
    name: str, terminal: Terminal, digits: Path, tmp_path: Path
) -> None:
    plain = Terminal(tmp_path / "plain", digits)
    for each, flags in ((terminal, (f"--{name}",)), (plain, ())):
        assert each.run(*BRANCH, *flags).code == 0

    with_log, without = ({str(run): run for run in all_runs(each.root)} for each in (terminal, plain))
    assert with_log.keys() == without.keys()
    for location, run in with_log.items():
        other = without[location].folder
        assert sorted(path.name for path in run.folder.iterdir()) == sorted(path.name for path in other.iterdir())
        for path in run.folder.iterdir():
            if path.name not in ("manifest.json", "log.txt"):  # which have times
                assert path.read_bytes() == (other / path.name).read_bytes(), path
    assert terminal.run("verify").code == 0


@WHERE_INSTALLED["tensorboard"]
def test_jobs_of_an_executor_are_logged_and_so_are_runs_that_were_done_before(terminal: Terminal) -> None:
    assert terminal.run("train", *SHORT, "--replicate=1").code == 0

    result = terminal.run("sweep", "--grid", "replicate=1-2", "--jobs=2", "--", "train", *SHORT, "--tensorboard")

    assert result.code == 0, result.out + result.err
    runs = list(all_runs(terminal.root))
    assert len(runs) == 2
    for run in runs:
        assert_equal_metrics("tensorboard", run)


@pytest.mark.slow
@WHERE_INSTALLED["tensorboard"]
def test_of_several_processes_one_logs(terminal: Terminal) -> None:
    several = ("--platform=multi_gpu", "--device=cpu", "--num_processes=2")

    result = terminal.run("train", *LENET, "--training_steps=1ep", *several, "--tensorboard")

    assert result.code == 0, result.out + result.err
    assert_equal_metrics("tensorboard", only_run(terminal))


@EACH
def test_a_logger_that_fails_is_reported_once_and_the_run_completes(name: str, terminal: Terminal) -> None:
    (terminal.root / ".logs").mkdir(parents=True)
    (terminal.root / ".logs" / name).write_text("in the way of its folder")

    result = terminal.run("train", *SHORT, f"--{name}")

    assert result.code == 0, result.err
    assert result.out.count(f"The logger {name} failed") == 1
    assert terminal.run("verify").code == 0


@WHERE_INSTALLED["tensorboard"]
def test_event_files_have_the_hyperparameters_and_the_sparsity(terminal: Terminal) -> None:
    terminal.run(*BRANCH, "--tensorboard")
    (run,) = (run for run in all_runs(terminal.root) if run.location.name != "main")
    folder = folder_of("tensorboard", run)

    shown = hparams_of_events(folder)

    assert {"strategy": "snip1", "model_name": "digits_lenet_16"}.items() <= shown.items()
    manifest = run.manifest()
    assert manifest is not None
    ((at, sparsity),) = curves_of_events(folder)["results/sparsity"]
    assert at == 18
    assert sparsity == pytest.approx(manifest.results["sparsity"], abs=1e-7)


@WHERE_INSTALLED["tensorboard"]
def test_values_that_were_logged_keep_their_times_when_the_file_is_written_anew(terminal: Terminal) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def times() -> list[float]:
        read = EventAccumulator(str(folder_of("tensorboard", only_run(terminal))))
        read.Reload()
        return [event.wall_time for event in read.Scalars("test_loss")]

    terminal.run("train", *SHORT, "--tensorboard")
    first = times()
    (folder_of("tensorboard", only_run(terminal)) / "complete.json").unlink()
    terminal.run("train", *SHORT, "--tensorboard")

    assert times() == first


@WHERE_INSTALLED["wandb"]
def test_wandb_has_id_group_name_project_hyperparameters_and_the_sparsity(terminal: Terminal) -> None:
    terminal.run(*BRANCH, "--replicate=2", "--wandb", "--wandb_project=tickets")
    (run,) = (run for run in all_runs(terminal.root) if run.location.name != "main")

    _, summary, record = curves_of_wandb(wandb_file(run))

    digest, manifest = run.location.digest, run.manifest()
    assert manifest is not None
    assert (record.run_id, record.run_group) == (f"{digest}-2", digest)
    assert (record.display_name, record.project) == (f"{digest[:8]}/2", "tickets")
    config = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert {"strategy": "snip1", "model_name": "digits_lenet_16", "location": str(run)}.items() <= config.items()
    assert math.isclose(summary["sparsity"], manifest.results["sparsity"] or 0.0)


MINE = """
from open_prune import Log, LoggedRun, Logger


class Lines(Log):
    def __init__(self, run: LoggedRun, letter: str = "a") -> None:
        self.file = (run.folder / "lines.txt").open("w")
        self.letter = letter

    def add(self, iteration, values):
        if self.letter == "z" and iteration:
            raise RuntimeError("the disk is full")
        for name, value in values.items():
            print(self.letter, iteration, name, value, file=self.file)

    def finish(self, iteration, results):
        print("finished", iteration, file=self.file)

    def close(self):
        self.file.close()


LINES = Logger(spelling="lines", pattern="lines(?P<letter>[a-z])?", begin=Lines, shows="in lines")
NEEDY = Logger(spelling="needy", begin=Lines, shows="nowhere", package="not_a_package", extra="needy")
"""


def test_a_logger_from_a_plug_in_follows_runs_and_may_fail(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    plugin = f"--plugin={tmp_path / 'mine.py'}"

    assert terminal.run("train", *SHORT, plugin, "--log=linesb").code == 0
    failing = terminal.run("train", *SHORT, "--replicate=2", plugin, "--log=linesz")

    first, second = all_runs(terminal.root)
    lines = (folder_of("lines", first) / "lines.txt").read_text().splitlines()
    rows = (first.folder / METRICS).read_text().splitlines()[1:]
    assert sorted(lines[:-1]) == sorted("b {1} {0} {2}".format(*row.split(",")) for row in rows)
    assert lines[-1] == "finished 18"
    assert failing.code == 0
    assert failing.out.count("the disk is full") == 1
    assert second.manifest() is not None


def test_a_logger_without_its_package_is_refused_before_anything_is_computed(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    asked = ("train", *SHORT, f"--plugin={tmp_path / 'mine.py'}", "--log=needy")

    for arguments in (asked, ("sweep", "--grid", "replicate=1-2", asked[-2], "--", "train", *SHORT, "--log=needy")):
        result = terminal.run(*arguments)

        result.assert_is_for_people(2, "--log", "not_a_package", "pip install 'open_prune[needy]'")
    assert list(all_runs(terminal.root)) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--wandb_project=mine"], ["--wandb_project", "--wandb"]),
        (["--wandb", "--wandb_project=a/b"], ["--wandb_project", "a/b"]),
        (["--log=tensorbord"], ["--log", "Did you mean 'tensorboard'"]),
    ],
)
def test_mistakes_are_told(terminal: Terminal, flags: list[str], words: list[str]) -> None:
    terminal.run("train", *SHORT, *flags).assert_is_for_people(2, *words)
