"""The stage of jobs: their inputs, their undisturbed results, and the checks after each disturbance."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cli.main import main
from foundations import packs
from foundations.files import read_file
from foundations.packs import names_in
from foundations.storage.locks import is_held
from foundations.storage.manifest import MANIFEST, manifest_number
from foundations.storage.run import DAMAGED, STATE
from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from tests.cli.terminal import Result, Terminal
from tests.faults.injection import Fault, Kind, Witness, arm
from tests.faults.jobs import JOBS, Command, Job
from tests.faults.processes import Prepare, Prepared, finished, fork_the_pool, judge_output

_CODES = {Kind.KILL: (0, -9), Kind.TERM: (0, 1, 130, 143, -15), Kind.SHORT: (0,), Kind.CLOCK: (0,)}
_CHANGING = ("log.txt", "fingerprint.json", "output.txt")
"""Files that have times in them."""
_WORKING = re.compile(r"/\.([^/]+)/\d+-[0-9a-f]{8}/")
_NAMED = re.compile(r"^(?:Cannot read )?(/.+?)(?: is damaged: |: | does not describe )", re.MULTILINE)


@functools.cache
def warm() -> None:
    """Import, once, all that commands use, so that the forked ones need not."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        places = (f"--root={folder}/root", f"--datasets_root={folder}/datasets")
        for name in ("oneshot", "lottery"):
            assert main((*JOBS[name].command, *places, "--device=cpu")) == 0
        for name, where in (
            ("export for OpenLTH", places[:1]),
            ("import from OpenLTH", places),
            ("add images", places[1:]),
        ):
            JOBS[name].prepare(Path(folder))
            words = (word.format(folder=folder) for word in JOBS[name].command)
            assert main((*words, *where)) == 0


class Stage:
    """A folder with a root and datasets, as a job finds them, and the job's undisturbed result."""

    def __init__(self, job: Job, folder: Path, digits: Path, *prepare: Prepare) -> None:
        """Make the inputs and the undisturbed result. prepare: what is done first in each command's process."""
        self._prepare = prepare
        # Indices of datasets name their folders, so all copies have names of one length.
        self.job, self._folder, self._number = job, folder, 0
        self.begin, self.calm = folder / "begin", folder / "calm_"
        warm()
        (self.begin / "root").mkdir(parents=True)
        (self.begin / "datasets").mkdir()
        if job.has_datasets:
            shutil.copytree(digits, self.begin / "datasets", dirs_exist_ok=True)
        for command in job.before:
            assert self.run(command, self.begin).code == 0
        job.prepare(self.begin)
        self.found = contents(self.begin)
        shutil.copytree(self.begin, self.calm)
        witness, begun = Witness(), time.monotonic()
        result = self.run(job.command, self.calm, partial(arm, Fault(Kind.KILL, 0), self.calm, witness))
        assert result.code == job.code, result.err
        self.seconds, self.operations = time.monotonic() - begun, witness.counted()
        for command in job.then:
            assert self.run(command, self.calm).code == 0
        self.expected = contents(self.calm)

    def copy(self, of: Path | None = None, to: Path | None = None) -> Path:
        """Copy the job's inputs, or the folder `of`, to a place that a test may damage; return the place."""
        self._number += 1
        return Path(shutil.copytree(of or self.begin, to or self._folder / f"{self._number:05}", dirs_exist_ok=True))

    @functools.cached_property
    def donors(self) -> list[Path]:
        """The files of the undisturbed result, and of the same jobs of another replicate."""
        other = self._folder / "other"
        shutil.copytree(self.begin, other)
        for command in (*self.job.before, self.job.command):
            if command[0] in ("train", "branch", "lottery"):
                assert self.run((*command, "--replicate=2"), other).code == 0
        return [path for place in (self.calm, other) for path in place.glob("root/*/replicate_*/*/*") if path.is_file()]

    def start(self, command: Command, place: Path, *prepare: Prepare, forks: bool = True) -> Prepared:
        """Start a command in a copy. forks: whether a pool forks its workers at once."""
        terminal = Terminal(place / "root", place / "datasets")
        words = tuple(word.format(folder=place) for word in command)
        first = (*((fork_the_pool,) if forks else ()), *self._prepare)
        return Prepared(words, terminal.settings(), *first, *prepare)

    def run(self, command: Command, place: Path, *prepare: Prepare) -> Result:
        """Run a command in a copy."""
        return finished(self.start(command, place, *prepare))

    def inject(self, fault: Fault) -> str:
        """Run the job with a fault and check the remaining files; return the operation that it struck, if any."""
        place, witness = self.copy(), Witness()
        result = self.run(self.job.command, place, partial(arm, fault, place, witness))
        where = f"{fault.kind.name} at {witness.struck()}\n{result.out}{result.err}"
        if witness.struck():
            # zipfile reports an unreadable archive as no archive: the user's mistake.
            judge_output(result, (*_CODES.get(fault.kind, (0, 1)), *self.job.repeated), where)
            self.judge(place, where)
            self.judge_end(place, where)
        shutil.rmtree(place)
        return witness.struck()

    def judge(self, place: Path, where: str, damaged: Collection[Path] = ()) -> None:
        """Assert that no run there is complete and wrong, and that `verify` names none but damaged files."""
        for run in () if self.job.is_damaged else all_runs(place / "root"):
            named = named_in("\n".join(map(str, verify(run))))
            assert named <= set(map(at_place, damaged)), f"{where}\nverify names {named}"
            assert not is_held(run.lock_path), where
            path = run.place / MANIFEST
            if path.is_file() and not named:
                name = str(path.relative_to(place))
                right = (self.expected.get(name), self.found.get(name))  # `rm` may not have come to it
                assert digest(path) in right, f"{where}\n{path} is wrong"

    def judge_end(self, place: Path, where: str, damaged: Iterable[Path] = (), *, anew: bool = False) -> None:
        """Assert that the same command ends with the undisturbed result.

        damaged: the damaged files. `anew`: whether to repeat the commands before it too, as after damage.
        """
        commands = [*(self.job.before if damaged or anew else ()), self.job.command]
        for command in (*commands, *self.job.then, ("verify",)):
            again = self.run(command, place)
            codes = self.job.repeated if command is self.job.command else (0,)
            assert again.code in codes, f"{where}\nagain: {' '.join(command)}: {again.out}{again.err}"
        left = [str(path) for path in place.rglob("*") if is_leftover(path)]
        assert not left, f"{where}\nleft: {left}"
        differing = differences(contents(place), self.expected)
        for path in map(
            at_place, damaged
        ):  # no job recreates a file that it does not need: a state, or a part of an incomplete run
            manifest = path.with_name("manifest.json")
            if not path.exists() and (STATE.fullmatch(path.name) or not manifest.exists()):
                differing -= {str(path.relative_to(place)), str(manifest.relative_to(place))}
        assert not differing, f"{where}\ndiffering: {differing}"


def contents(place: Path) -> dict[str, str]:
    """Return a digest of each file that matters, by its place. Excludes the files of a sweep's jobs, which change."""
    packed = [pack / name for pack in place.glob("root/.packs/*.zip") for name in packs.members(pack)]
    packed = [path for path in packed if path.name not in _CHANGING and (manifest_number(path.name) or 1) == 1]
    found = {f"root/{str(path).partition('.zip/')[2]}": digest(path) for path in packed}
    return found | {
        str(at_place(path).relative_to(place)): digest(path)
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and path.suffix != ".zip"
        and path.name not in _CHANGING
        and (manifest_number(path.name) or 1) == 1  # the latest counts, in place of the first
        and not any(part.startswith(DAMAGED) or part == ".jobs" for part in path.parts)
        and path.suffix not in (".lock", ".holder", ".owner")
    }


def at_place(path: Path) -> Path:
    """Return the path of a file in the final folder of its run, which may be in a working folder."""
    return Path(_WORKING.sub(r"/\1/", str(path)))


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> set[str]:
    """Return the names of the files that are different, too many or missing."""
    return {name for name in {*found, *expected} if found.get(name) != expected.get(name)}


def named_in(said: str) -> set[Path]:
    """Return the files that are called damaged or unreadable."""
    return {at_place(Path(name)) for name in _NAMED.findall(said)}


def digest(path: Path) -> str:
    """Return a digest of a file's content, but for the times in manifests and measures and the order of metadata."""
    if path.name == MANIFEST:
        path = path.with_name(max(names_in(path.parent), key=lambda name: manifest_number(name) or 0))
    data = read_file(path)
    if manifest_number(path.name):
        tree: dict[str, Any] = json.loads(data)
        assert 0 <= tree["wall_seconds"] < 3600
        tree["files"] |= tree.pop("evicted", {})  # a replay gives these states back
        for name in ("wall_seconds", "finished", "sha256", "parents", "versions", "generation"):
            tree.pop(name, None)  # for an imported run, it is the path of the ticket; versions name the commit
        data = json.dumps(tree, sort_keys=True).encode()
    elif {".measures", ".imports"} & set(path.parts) and path.suffix == ".json":
        tree = json.loads(data)
        data = json.dumps({**tree, "computed": None, "imported": None, "sha256": None}, sort_keys=True).encode()
    elif "datasets" in path.parts and path.suffix == ".safetensors":
        size = 8 + int.from_bytes(data[:8], "little")
        place = str(Path(*path.parts[: path.parts.index("datasets")])).encode()
        data = json.dumps(json.loads(data[8:size]), sort_keys=True).encode() + data[size:]
        data = data.replace(place, b"")
    return hashlib.sha256(data).hexdigest()


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder should be gone once the work is done."""
    return path.suffix == ".part" or path.name.startswith(".removed_")
