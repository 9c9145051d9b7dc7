"""Commands that are stopped by a signal in each of their phases: how long they take to end, and what they leave.

A command is a process of its own, the first of a process group. A `sitecustomize` that only these processes import
looks at their stacks, and makes a file as soon as a function of the phase is on the stack of the main thread.

`python -m tests.faults.stopping [WORDS...]` prints a table of all phases, or of those whose names have one of the
words.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.faults.jobs import SMALL, Command
from tests.faults.stage import contents, differences

SECONDS = 2.0
"""How long a command may take to end."""
_WATCHER = """
import os, sys, threading

def _watch(function, marker, main):
    while not os.path.exists(marker):
        frame = sys._current_frames().get(main)
        while frame is not None:
            module, _, name = function.partition(":")
            if frame.f_globals.get("__name__") == module and name in ("*", frame.f_code.co_name):
                open(marker, "w").close()
                return
            frame = frame.f_back
        threading.Event().wait(0.002)

if os.environ.get("PHASE_FUNCTION"):
    found = os.environ["PHASE_FUNCTION"], os.environ["PHASE_MARKER"], threading.get_ident()
    threading.Thread(target=_watch, args=found, daemon=True).start()
"""
_SLOW = '''
"""`slow_linear`: a network whose forward pass takes as long as it is told, in one operation that nothing interrupts."""

import os
import time
from dataclasses import dataclass

import torch
from open_prune import Family, ModelHparams, NetworkSpec, Recipe, hparam
from torch import nn

_MATRIX = torch.ones(800, 800)


@dataclass(frozen=True, kw_only=True)
class SlowHparams(ModelHparams):
    """The network."""

    slow_products: int = hparam(1, at_least=0)
    """Matrix products in each forward pass, in one operation."""


class Slow(nn.Module):
    def __init__(self, products, inputs, outputs):
        super().__init__()
        self.products, self.linear = products, nn.Linear(inputs, outputs)

    def forward(self, images):
        if self.products:
            torch.bmm(_MATRIX.expand(self.products, 800, 800), _MATRIX.expand(self.products, 800, 800))
        return self.linear(images.flatten(1))


def slow_linear(spec: NetworkSpec) -> nn.Module:
    """Build the network."""
    channels, height, width = spec.input_shape
    return Slow(spec.hparams.slow_products, channels * height * width, spec.outputs)


SLOW = Family(
    spelling="slow_linear",
    builder=slow_linear,
    source="a test",
    options=frozenset(),
    batchnorm=False,
    hparams=SlowHparams,
)
RECIPE = Recipe.of_family(SLOW, {"dataset_name": "digits", "batch_size": 64, "training_steps": "2it", "lr": 0.1})
'''
STRIKES = ((signal.SIGTERM, False), (signal.SIGINT, True))
"""A signal, and whether the whole process group gets it."""
_LENET = ("--default_hparams=digits_lenet_16",)
_LONG = (*_LENET, "--batch_size=256", "--training_steps=6000it", "--evaluate_only_at_end")
_PRUNED = ("branch", "train", "oneshot", *SMALL, "--density=0.1")
_SLOW_NETWORK = ("--default_hparams=slow_linear", "--plugin={folder}/slow.py", "--evaluate_only_at_end")
_RUNS = ("sweep", "--grid=replicate=1-2", "--jobs=2", "--")


@dataclass(frozen=True)
class Phase:
    """A command that is stopped while one of its functions is on the stack."""

    command: Command
    function: str
    """`module:function`, or `module:*` for any of the module."""
    before: tuple[Command, ...] = ()
    later: float = 0.0
    """Seconds that pass between then and the signal."""
    kept: str = ""
    """What the stopped command must say."""
    bound: float = SECONDS
    """How long it may take to end, in seconds."""
    prepare: Callable[[Path], None] = lambda _folder: None
    is_repeated: bool = True
    """Whether the same command goes on, and must end as if it had never been stopped."""


def _images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(400):
            pixels = generator.integers(0, 255, (160, 160, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")


_GMP = ("--technique=gmp", "--gmp_end=2it", "--gmp_frequency=1it", "--gmp_density=0.1")
_TRAIN = ("train", *SMALL)
_SYNFLOW = ("--strategy=synflow", "--prune_iterations=1500")
PHASES: dict[str, Phase] = {
    "datasets add": Phase(("datasets", "add", "mine", "{folder}/images"), "datasets.decode:*", prepare=_images),
    "preparing digits": Phase(_TRAIN, "datasets.prepared:_prepare"),
    "opening data": Phase(_TRAIN, "datasets.loader:open_loader"),
    "importing torch": Phase(_TRAIN, "torch:<module>"),
    "evaluation": Phase(
        ("train", *_SLOW_NETWORK, "--slow_products=20", "--batch_size=16"), "training.evaluation:evaluate", later=0.3
    ),
    "training": Phase(("train", *_LONG), "training.loop:steps", later=0.2, kept="Checkpoint at step"),
    "slow batches": Phase(
        ("train", *_SLOW_NETWORK, "--slow_products=200", "--batch_size=1024"),
        "training.session:compute_gradients",
        bound=12.0,
        kept="Checkpoint at step",
    ),
    "replay": Phase(
        ("branch", "train", "lottery_rewind", *_LONG, "--rewind_step=2990it", "--density=0.5"),
        "training.session:replay",
        (("train", *_LONG),),
        later=0.2,
    ),
    "SynFlow": Phase((*_PRUNED, *_SYNFLOW), "pruning.methods.synflow:synflow", (_TRAIN,), later=0.2),
    "SNIP": Phase(
        (*_PRUNED, "--strategy=snip100", "--prune_iterations=150"), "pruning.methods.snip:snip", (_TRAIN,), later=0.1
    ),
    "PHEW": Phase((*_PRUNED, "--strategy=phew"), "pruning.walks:*", (_TRAIN,)),
    "gradual pruning": Phase(
        ("train", *SMALL, *_GMP, "--gmp_strategy=synflow", "--gmp_prune_iterations=1500"),
        "pruning.methods.synflow:synflow",
        later=0.2,
        kept="Checkpoint at step",
    ),
    "lottery": Phase(("lottery", *_LONG, "--levels=2"), "training.loop:steps", later=0.3, kept="Checkpoint at step"),
    "measure": Phase(
        ("measure", "linear_mode_connectivity", "8f6ab4a2/1", "8f6ab4a2/2", "--points=400"),
        "analysis.measures.results:result_of",
        (_TRAIN, ("train", *SMALL, "--replicate=2")),
        later=0.3,
    ),
    "ls": Phase(("ls",), "cli.listing:ls", (_TRAIN,)),
    "table": Phase(("table",), "cli.tables:table", (_TRAIN,)),
    "plot": Phase(
        ("plot", "curves", "--out={folder}/curves.png"),
        "cli.plots:plot",
        (_TRAIN, (*_PRUNED, "--strategy=random")),
    ),
    "report": Phase(
        ("report", "--out={folder}/report.html"),
        "cli.report:report",
        (_TRAIN, (*_PRUNED, "--strategy=random")),
    ),
    "verify": Phase(("verify",), "cli.upkeep:verify", (_TRAIN,)),
    "export": Phase(("export", "train_", "{folder}/ticket.safetensors"), "cli.tickets:export", (_TRAIN,)),
    "import": Phase(
        ("import", "{folder}/ticket.safetensors"),
        "cli.tickets:import_",
        (_TRAIN, ("export", "train_", "{folder}/ticket.safetensors")),
    ),
    "paper": Phase(
        ("paper", "demo", "--jobs=2", "--out={folder}/demo"), "platforms.dispatch:run", later=1.0, is_repeated=False
    ),
    "sweep": Phase((*_RUNS, "train", *_LONG), "platforms.executors.pool:ended", later=1.5),
    "first second of a sweep": Phase((*_RUNS, "train", *_LONG), "platforms.executors.pool:_forked", later=0.3),
    "trained together": Phase(
        (
            "sweep",
            "--grid=replicate=1-2",
            "--jobs=1",
            "--together=2",
            "--",
            "train",
            *_LONG,
            "--model_name=digits_resnet_8_2",
        ),
        "platforms.executors.pool:ended",
        later=2.5,
        is_repeated=False,
    ),
    "starting processes": Phase(
        ("train", *_LONG, "--platform=multi_gpu", "--num_processes=2"), "platforms.processes:_listen", later=0.5
    ),
    "several processes": Phase(
        ("train", *_LONG, "--platform=multi_gpu", "--num_processes=2"), "platforms.processes:_listen", later=9.0
    ),
    "watch": Phase(("watch",), "cli.watch:watch", (_TRAIN,), is_repeated=False),
}


@dataclass
class Stopped:
    """How a command ended that was sent a signal."""

    seconds: float
    code: int
    out: str
    err: str
    was_running: bool
    left: list[str]
    """The processes that are left of it."""

    @property
    def last_words(self) -> str:
        """The last line that it wrote."""
        return next(reversed((self.out + self.err).strip().splitlines()), "")

    def faults(self, phase: Phase, patience: float = 1.0) -> list[str]:
        """Return what is wrong with it. patience: by how much the bound is multiplied."""
        said = self.err.strip().splitlines()
        found = []
        if not self.was_running:
            return ["it had ended before the signal"]
        if self.seconds > patience * phase.bound:
            found.append(f"it took {self.seconds:.1f} seconds")
        if any(word in self.out + self.err for word in ("Traceback", "Exception ignored", "EOFError")):
            found.append("a traceback")
        if self.code not in (0, 130, 143, -2, -15):
            found.append(f"exit code {self.code}")
        if len(said) > 2:
            found.append(f"{len(said)} lines")
        if phase.kept and phase.kept not in self.err:
            found.append(f"it does not say {phase.kept!r}")
        return found + [f"left: {name}" for name in self.left]


class Theatre:
    """A folder with what commands need, and copies of it to stop them in."""

    def __init__(self, folder: Path, program: Path = REPOSITORY) -> None:
        """program: the folder of open_prune.py."""
        self.folder, self.program = folder, program
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(_WATCHER)

    def begin(self, phase: Phase) -> Path:
        """Return a place where a command finds what it needs."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        (place / "slow.py").write_text(_SLOW)
        (place / "root").mkdir()
        (place / "datasets").mkdir()
        phase.prepare(place)
        for command in phase.before:
            self.run(command, place)
        return place

    def run(self, command: Command, place: Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises: AssertionError where it fails."""
        done = subprocess.run(
            self._words(command, place), cwd=self.program, env=self._settings(place), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def stop(
        self,
        phase: Phase,
        place: Path,
        number: int,
        *,
        is_group: bool,
        after: float | None = None,
        patience: float = 1.0,
    ) -> Stopped:
        """Start a command, send it a signal in a phase, or a time after its start, and wait until it has ended."""
        marker = place / "marker"
        marker.unlink(missing_ok=True)
        settings = self._settings(place)
        if after is None:
            path = os.pathsep.join(filter(None, (str(self.folder / "site"), os.environ.get("PYTHONPATH"))))
            settings |= {"PHASE_FUNCTION": phase.function, "PHASE_MARKER": str(marker), "PYTHONPATH": path}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                self._words(phase.command, place),
                cwd=self.program,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            deadline = time.monotonic() + 90
            while after is None and not marker.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(phase.later if after is None else after)
            was_running = process.poll() is None and (after is not None or marker.exists())
            begun = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if is_group else os.kill)(process.pid, number)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            left = _left(place, begun + patience * SECONDS)
            seconds = time.monotonic() - begun
            said = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (out, err)]
        return Stopped(seconds, code, said[0], said[1], was_running, left)

    def consequences(self, phase: Phase, place: Path) -> list[str]:
        """Return what is wrong with what a stopped command has left, and with what the same command makes of it."""
        verified = subprocess.run(
            self._words(("verify",), place), cwd=self.program, env=self._settings(place), capture_output=True, text=True
        )
        found = [] if verified.returncode == 0 else [f"verify: {verified.stdout}{verified.stderr}"]
        if phase.is_repeated:
            calm = self.begin(phase)
            self.run(phase.command, calm)
            self.run(phase.command, place)
            found += [f"differs: {name}" for name in sorted(differences(_kept(place), _kept(calm)))]
            shutil.rmtree(calm)
        return found

    def _settings(self, place: Path) -> dict[str, str]:
        return {**os.environ, **Terminal(place / "root", place / "datasets").settings()}

    @staticmethod
    def _words(command: Command, place: Path) -> list[str]:
        return [sys.executable, "open_prune.py", *(word.format(folder=place) for word in command)]


def _kept(place: Path) -> dict[str, str]:
    """Return digests of what a command keeps: runs, datasets, tickets, and not the pictures, which have dates."""
    return {name: found for name, found in contents(place).items() if name.endswith((".safetensors", ".csv", ".json"))}


def _left(place: Path, deadline: float) -> list[str]:
    """Return the processes that work on a place, once there are none or the deadline has passed."""
    sign = f"OPEN_PRUNE_ROOT={place}/root\0".encode()
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if sign in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " ")[:100])
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def main() -> None:
    """Print a line for each phase and signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--program", type=Path, default=REPOSITORY, help="the folder of open_prune.py")
    parser.add_argument("--checked", action="store_true", help="also check what is left, and repeat the command")
    given = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        theatre = Theatre(Path(folder), given.program)
        for name, phase in PHASES.items():
            if given.words and not any(word in name for word in given.words):
                continue
            for number, is_group in STRIKES:
                place = theatre.begin(phase)
                stopped = theatre.stop(phase, place, number, is_group=is_group)
                faults = stopped.faults(phase)
                if given.checked and not faults:
                    faults = theatre.consequences(phase, place)
                shutil.rmtree(place, ignore_errors=True)
                worst = max(worst, stopped.seconds) if phase.bound == SECONDS else worst
                cells = (f"{name:<24}", number.name, f"{'group' if is_group else 'process':<7}")
                figures = (f"{stopped.seconds:5.2f} s", f"{stopped.code:>4}", "; ".join(faults) or "ok")
                sys.stdout.write(" ".join([*cells, *figures, "|", stopped.last_words[:150]]) + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"maximum {worst:.2f} s\n")


if __name__ == "__main__":
    main()
