"""Two users of a group and one root: what each may do with the other's runs, and the sentence where one may not.

    python -m tests.faults.two_users        # as root; prints the table, in about two minutes

The first user, Ann, computes runs under a umask; the second, Bob, then tries everything with them. Each acts in a
process of its own with its user, its groups, its umask and its home.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundations.storage.run import Run
from tests.cli.terminal import FORK, Result
from tests.faults.jobs import SMALL, flip

ANN, BOB, LAB = 61001, 61002, 61000
"""Numbers of users and of their group that no machine has names for."""
UMASKS = (0o002, 0o007, 0o022, 0o077)
READ_ONLY, UPSTREAM = "read-only root", "read-only upstream"
ROOTS = ("own root", "group root", READ_ONLY, UPSTREAM)
"""Whose root it is; for the last two, nobody may write it after Ann has."""
Command = tuple[str, ...]

TRAIN = ("train", *SMALL, "--device=cpu")
BRANCH = ("branch", "train", "oneshot", *SMALL, "--device=cpu", "--density=0.5", "--replicate=1")
ACTIONS: Mapping[str, Command] = {
    "list": ("ls",),
    "show": ("show", "branch_oneshot"),
    "report": ("report", "--out={home}/report.html"),
    "export": ("export", "branch_oneshot", "{home}/ticket.safetensors"),
    "measure": ("measure", "effective_sparsity", "branch_oneshot"),
    "reuse": (*TRAIN, "--replicate=1"),
    "branch from it": (*BRANCH, "--strategy=random"),
    "resume": (*TRAIN, "--replicate=2"),
    "take the lock after a crash": (*TRAIN, "--replicate=3"),
    "mend": ("verify", "--mend"),
    "train anew": (*TRAIN, "--replicate=9"),
    "use the prepared dataset": (*TRAIN, "--replicate=9", "--root={home}/runs"),
    "prepare a dataset": ("datasets", "add", "mine", "{folder}/arrays.npz"),
    "remove": ("rm", "--where=replicate=4", "--yes"),
}


@dataclass(frozen=True)
class Place:
    """A root and a folder of datasets, made by Ann under a umask."""

    folder: Path
    kind: str
    umask: int

    @property
    def root(self) -> Path:
        """The folder of the runs."""
        return self.folder / "shared" / "runs"

    def settings(self, user: int) -> dict[str, str]:
        """Return the variables of a user. Bob has a root of his own where Ann's is his upstream."""
        common = _settings(self.folder / "shared")
        if self.kind != UPSTREAM or user != BOB:
            return common
        own = str(self.folder / f"home_{BOB}" / "own_runs")
        return {**common, "OPEN_PRUNE_ROOT": own, "OPEN_PRUNE_UPSTREAM": str(self.root)}

    def act(
        self, user: int, *commands: Command, prepare: Callable[[], None] = lambda: None, umask: int | None = None
    ) -> list[Result]:
        """Run commands one after the other in a process of a user. prepare: called in it before them."""
        home = self.folder / f"home_{user}"
        ours, theirs = FORK.Pipe(duplex=False)
        words = [[word.format(home=home, folder=self.folder) for word in command] for command in commands]
        process = FORK.Process(
            target=self._be, args=(user, self.umask if umask is None else umask, home, words, prepare, theirs)
        )
        process.start()
        theirs.close()
        results = []
        with contextlib.suppress(EOFError):
            while True:
                results.append(Result(*ours.recv()))
        process.join()
        return results

    def _be(
        self,
        user: int,
        umask: int,
        home: Path,
        commands: Sequence[list[str]],
        prepare: Callable[[], None],
        pipe: Connection[Any, Any],
    ) -> None:
        os.setgroups([LAB])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.umask(umask)
        os.chdir(home)
        for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
            os.environ.pop(variable, None)
        os.environ |= {"HOME": str(home), **self.settings(user)}
        prepare()
        for command in commands:
            result = _result(command)
            pipe.send((result.code, result.out, result.err))


def _settings(shared: Path) -> dict[str, str]:
    return {
        "OPEN_PRUNE_ROOT": str(shared / "runs"),
        "OPEN_PRUNE_DATASETS": str(shared / "datasets"),
        "OPEN_PRUNE_NO_DOWNLOAD": "1",
        "OPEN_PRUNE_SITE": os.devnull,
    }


def _result(command: Sequence[str]) -> Result:
    from cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(command)
    return Result(code, out.getvalue(), err.getvalue())


@functools.cache
def warm() -> None:
    """Import all that the commands use: Python's own modules may lie where only the superuser may read."""
    import grp  # noqa: F401

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        for variable, value in _settings(folder).items():
            patch.setenv(variable, value)
        _save_arrays(folder)
        for command in ((*BRANCH, "--strategy=snip1"), *ACTIONS.values()):
            _result([word.format(home=folder, folder=folder) for word in command])


@contextlib.contextmanager
def place_of(kind: str, umask: int) -> Iterator[Place]:
    """Yield a place with Ann's runs: complete ones, a stopped one, a killed one, a damaged one."""
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name), kind, umask)
        place.folder.chmod(0o755)
        for user in (ANN, BOB):
            home = place.folder / f"home_{user}"
            home.mkdir(mode=0o700)
            os.chown(home, user, user)
        _save_arrays(place.folder)
        shared = place.folder / "shared"
        shared.mkdir()
        if kind == "own root":
            os.chown(shared, ANN, ANN)
            shared.chmod(0o777 & ~umask)
        else:
            for each in (shared, shared / "runs", shared / "datasets"):
                each.mkdir(exist_ok=True)
                os.chown(each, 0, LAB)
                each.chmod(0o2770)  # after chown, which clears the bit
        _compute(place)
        if kind in (READ_ONLY, UPSTREAM):
            for path in (shared, *shared.rglob("*")):
                path.chmod(path.stat().st_mode & ~0o022)
        yield place


def _save_arrays(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    np.savez(folder / "arrays.npz", images=pixels, labels=np.arange(20) % 2)
    (folder / "arrays.npz").chmod(0o644)


def _compute(place: Place) -> None:
    done = place.act(ANN, *((*TRAIN, f"--replicate={n}") for n in (1, 4, 5)), (*BRANCH, "--strategy=snip1"))
    assert [result.code for result in done] == [0] * 4, done
    for replicate, number in ((2, signal.SIGTERM), (3, signal.SIGKILL)):
        place.act(ANN, (*TRAIN, f"--replicate={replicate}"), prepare=partial(end_after_checkpoint, number))
    (state,) = place.root.glob("train_*/replicate_5/main/state_ep0_it2.safetensors")
    flip(state)


def end_after_checkpoint(number: int) -> None:
    """Let this process get a signal as soon as a checkpoint is there."""
    plain = Run.save_checkpoint

    def save_checkpoint(run: Run, *arguments: Any) -> None:
        plain(run, *arguments)
        os.kill(os.getpid(), number)

    setattr(Run, "save_checkpoint", save_checkpoint)  # noqa: B010


def tried(place: Place) -> dict[str, str]:
    """Let Bob try every action; return an empty text for each that works, and otherwise the sentence."""
    results = place.act(BOB, *ACTIONS.values())
    return {
        name: "" if _has_worked(name, result) else _shortened(result, place)
        for name, result in zip(ACTIONS, results, strict=True)
    }


def _has_worked(name: str, result: Result) -> bool:
    return result.code == 0 and (name != "list" or ("complete" in result.out and "closed" not in result.out))


def _shortened(result: Result, place: Place) -> str:
    said = (result.err or result.out).strip().removeprefix("open_prune: ")
    said = said.replace(str(place.folder / "shared"), "/lab").replace(str(place.folder), "")
    for number, named in ((ANN, "ann"), (BOB, "bob"), (LAB, "lab")):
        said = said.replace(f"user {number}", named).replace(str(number), named)
    return re.sub(r"\b(train|branch_\w+?)_[0-9a-f]{32}\b", r"\1_...", said)


def main() -> None:
    """Print the table, and the sentences below it."""
    if os.geteuid() != 0:
        sys.exit("Only root can act as other users.")
    warm()
    columns: dict[tuple[str, int], dict[str, str]] = {}
    for kind in ROOTS:
        for umask in UMASKS:
            with place_of(kind, umask) as place:
                columns[kind, umask] = tried(place)
    sentences: dict[str, int] = {}
    lines = []
    for name in ACTIONS:
        cells = [columns[column][name] for column in columns]
        numbers = [sentences.setdefault(cell, len(sentences) + 1) if cell else 0 for cell in cells]
        lines.append(f"{name:28}" + "".join(f"{f'no ({n})' if n else 'yes':>9}" for n in numbers))
    head = "".join(f"{kind:^36}" for kind in ROOTS)
    print(f"{'':28}{head}\n{'umask':28}" + "".join(f"{umask:03o}".rjust(9) for _ in ROOTS for umask in UMASKS))  # noqa: T201
    print("\n".join(lines))  # noqa: T201
    for sentence, number in sentences.items():
        print(f"\n({number}) {sentence}")  # noqa: T201


if __name__ == "__main__":
    main()
