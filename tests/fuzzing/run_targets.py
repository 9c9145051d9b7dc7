"""The files of runs, as somebody else may have written them into a root."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from foundations.description.address import Location, digest
from foundations.files import read_file
from foundations.storage import sealed_json
from foundations.storage.run import CHECKPOINT, DESCRIPTION, MANIFEST, MASK, METRICS, SPARSITY, Run
from foundations.storage.upkeep import verify
from tests.faults.stage import at_place
from tests.fuzzing.formats import json_like, pickled_program, safetensors_like, signed_like
from tests.fuzzing.harness import Attempt, Target, Wrong, command, files_in, restored
from tests.fuzzing.mutations import bytes_like, to_json, tree_like
from tests.fuzzing.seeds import MEASURE, ONESHOT, REWIND, TRAIN, Seeds, environment

_NAMES = {
    "descriptions": (DESCRIPTION,),
    "manifests": (MANIFEST,),
    "states": ("state_ep0_it0.safetensors", "state_ep0_it1.safetensors", "state_ep0_it2.safetensors"),
    "masks": (MASK,),
    "checkpoints": (CHECKPOINT,),
    "metrics": (METRICS,),
    "reports on masks": (SPARSITY,),
}
_INPUTS = {
    "descriptions": 7_000,
    "manifests": 6_000,
    "states": 4_500,
    "masks": 3_000,
    "checkpoints": 3_000,
    "metrics": 3_000,
    "reports on masks": 3_000,
    "results of measures": 2_000,
    "notes of processes": 1_500,
}


def run_targets(seeds: Seeds) -> list[Target]:
    """Return the targets."""
    made = [Target(name, partial(_files, seeds, name), _INPUTS[name]) for name in _NAMES]
    made.append(Target("results of measures", partial(_measures, seeds), _INPUTS["results of measures"]))
    made.append(Target("notes of processes", partial(_notes, seeds), _INPUTS["notes of processes"]))
    return made


def own_root(seeds: Seeds, folder: Path, source: Path) -> Path:
    """Copy a root into the folder of a target, and make it the root of commands."""
    shutil.copytree(source, folder / "root")
    os.environ.update(environment(folder / "root", seeds.datasets))
    return folder / "root"


def _files(seeds: Seeds, name: str, folder: Path) -> Attempt:
    root = own_root(seeds, folder, seeds.cut_off if name == "checkpoints" else seeds.root)
    valid = files_in(root)
    whole = {path.relative_to(seeds.root): path.read_bytes() for path in seeds.root.rglob("*") if path.is_file()}
    chosen = [path for path in valid if path.name in _NAMES[name]]

    def attempt(stream: random.Random) -> None:
        path = stream.choice(chosen)
        run = _run_of(root, path)
        with restored(valid, root):
            is_signed = _spoil(path, run, stream, valid, folder / "executed")
            if name == "descriptions" and not path.is_symlink() and path.is_file() and stream.random() < 0.3:
                run = _renamed(run)
            differs = not path.is_file() or path.is_symlink() or path.read_bytes() != valid[path]
            if name != "checkpoints" and differs and not is_signed and not verify(run):
                raise Wrong(f"verify calls {path} whole")
            if _look(run, stream, folder) and not is_signed:
                _check_results(root, whole)
        if (folder / "executed").exists():
            raise Wrong("what a pickle says was executed")

    return attempt


def _run_of(root: Path, path: Path) -> Run:
    training, replicate, name = at_place(path).parent.relative_to(root).parts
    return Run(root, Location(training, int(replicate.removeprefix("replicate_")), name))


def _spoil(path: Path, run: Run, stream: random.Random, valid: dict[Path, bytes], trace: Path) -> bool:
    """Change a file; return whether its checksum still matches, so that nobody can detect the change."""
    data, action = valid[path], stream.random()
    others = tuple(
        content for other, content in valid.items() if other.parent != path.parent and other.name == path.name
    )
    if action < 0.03:
        _replace(path, stream)
        return False
    if action < 0.06:
        path.write_bytes(pickled_program(trace, stream))
        return False
    if action < 0.09 and others:
        path.write_bytes(stream.choice(others))
        return False
    if path.suffix == ".csv":
        path.write_bytes(bytes_like(data, stream, others))
    elif path.suffix == ".safetensors":
        if action < 0.5:
            path.write_bytes(signed_like(path, f"{run.location}/{path.name}", stream))
            return not run.is_published
        path.write_bytes(safetensors_like(data, stream))
    elif path.name in (MANIFEST, SPARSITY, DESCRIPTION):
        path.write_bytes(sealed_like(data, stream))
        return path.name == MANIFEST and _is_sealed(path.read_bytes())
    else:
        path.write_bytes(json_like(data, stream))
    return False


def _replace(path: Path, stream: random.Random) -> None:
    """Put something other than a file, or a link, in the place of a file."""
    path.unlink()
    action = stream.randrange(5)
    if action == 0:
        os.mkfifo(path)
    elif action == 1:
        path.mkdir()
    else:
        targets = ("/dev/zero", "/nowhere", "../../../../canary/x", ".", path.name)
        path.symlink_to(stream.choice(targets))


def sealed_like(data: bytes, stream: random.Random) -> bytes:
    """Return a file with its own checksum whose tree is changed and, most times, whose digest is updated."""
    if stream.random() < 0.3:
        return bytes_like(data, stream)
    changed = to_json(tree_like(json.loads(data), stream))
    try:
        tree = json.loads(changed)
        return sealed_json.to_bytes(tree) if isinstance(tree, dict) and stream.random() < 0.7 else changed
    except (ValueError, RecursionError, TypeError):
        return changed


def _is_sealed(data: bytes) -> bool:
    """Return whether a file's own checksum is right, or the file is so old that it has none."""
    try:
        sealed_json.from_bytes(data)
    except ValueError:
        return False
    return True


def _renamed(run: Run) -> Run:
    """Update the digest in a description and in its folder's name, as for somebody's own run."""
    try:
        record = json.loads(read_file(run.folder / DESCRIPTION))
        found = digest(record["kind"], record["canonical"])
        record["digest"] = found
        data = sealed_json.to_bytes(record)
    except (ValueError, KeyError, TypeError, RecursionError):
        return run
    (run.folder / DESCRIPTION).write_bytes(data)
    if run.location.name == "main":
        location = Location(f"train_{found}", run.location.replicate, "main")
        old, new = run.place.parent.parent, location.under(run.root).parent.parent
    else:
        location = Location(run.location.training, run.location.replicate, f"branch_oneshot_{found}")
        old, new = run.place, location.under(run.root)
    if new.exists():
        return run
    old.rename(new)
    return Run(run.root, location)


def _look(run: Run, stream: random.Random, folder: Path) -> bool:
    """Run one to three commands that read the run; return whether one of them may have changed it."""
    address = str(run.location)
    out = folder / "out"
    commands: dict[tuple[str, ...], float] = {
        ("ls",): 3,
        ("ls", "--json"): 2,
        ("ls", f"--sort={stream.choice(('accuracy', 'strategy', 'age', 'lr', 'density', '-sparsity'))}"): 1,
        ("ls", f"--where={stream.choice(('strategy=snip1', 'lr=0.1', 'density=0.1', 'training_steps=2it'))}"): 1,
        ("show", address): 5,
        ("show", address, "--json"): 1,
        ("verify", address): 1,
        ("verify", "--mend"): 1,
        ("table", "--rows=strategy"): 1,
        ("table", "--rows=lr", "--columns=density", "--value=test_accuracy@best"): 1,
        ("export", address, str(out / "ticket.safetensors")): 3,
        ("export", address, str(out / "dense.safetensors"), "--dense"): 1,
        ("export", address, str(out / "openlth"), "--openlth"): 1,
        (*MEASURE, address, "--device=cpu"): 0.5,
        ("measure", "mask_overlap", address, address): 0.5,
        ("report", f"--out={out / 'report.html'}"): 0.1,
        ("plot", "curves", f"--out={out / 'curves.svg'}"): 0.05,
        ("rm", address, "--force", "--with_branches"): 0.3,
        TRAIN: 1.5,
        ONESHOT: 1.5,
        REWIND: 0.5,
        ("branch", "train", "oneshot", *TRAIN[1:], "--strategy=magnitude", "--density=0.3", "--dry_run"): 0.5,
        ("branch", address, "oneshot", "--device=cpu", "--quiet", "--strategy=magnitude", "--density=0.3"): 1,
        ("branch", "train", "oneshot", *TRAIN[1:], "--strategy=random", f"--mask_experiment={address}"): 0.3,
        ("watch", "--once"): 0.3,
    }
    sample = stream.choices(list(commands), list(commands.values()), k=stream.choice((1, 1, 2, 3)))
    for chosen in sample:
        command(*chosen)
    return any(chosen in (TRAIN, ONESHOT, REWIND) or "--mend" in chosen for chosen in sample)


def _check_results(root: Path, whole: dict[Path, bytes]) -> None:
    """Check that complete and undamaged runs have the same files as without interference."""
    for path in root.glob("*/replicate_*/*/manifest.json"):
        run = _run_of(root, path)
        if verify(run):
            continue
        for file in [*run.tensor_files(), run.folder / METRICS]:
            known = whole.get(file.relative_to(root))
            if known is not None and file.read_bytes() != known:
                raise Wrong(f"{file} is another one, and verify calls the run whole")


def _measures(seeds: Seeds, folder: Path) -> Attempt:
    root = own_root(seeds, folder, seeds.root)
    valid = files_in(root)
    (path,) = [path for path in valid if path.parent.parent.name == ".measures"]
    location = json.loads(valid[path])["description"]["runs"][0]["location"]
    measured = (*MEASURE, location, "--device=cpu")
    readers = (
        measured,
        (*measured, "--json"),
        ("plot", "measure", f"--measure={MEASURE[1]}", f"--out={folder / 'x.svg'}"),
    )

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            if stream.random() < 0.05:
                _replace(path, stream)
            else:
                path.write_bytes(json_like(valid[path], stream))
            command(*stream.choice(readers))

    return attempt


def _notes(seeds: Seeds, folder: Path) -> Attempt:
    """Notes of processes beside locks, reasons for which commands failed, and fingerprints."""
    root = own_root(seeds, folder, seeds.root)
    (run,) = [_run_of(root, path) for path in root.glob("*/*/main/manifest.json")]
    facts = {"pid": 1, "host": "x", "since": 1.5, "at": 1e10, "what": "train", "done": 1, "total": 3, "unit": "it"}
    texts: dict[Path, bytes] = {
        run.lock_path.with_suffix(".holder"): json.dumps(facts).encode(),
        root / ".sweeps" / "x-1.holder": json.dumps({**facts, "runs": 3}).encode(),
        run.folder
        / "failure.json": b'{"reason": "it failed", "exit_code": 1, "host": "x", "when": "2026-01-01 00:00:00"}',
    }
    (root / ".sweeps").mkdir(exist_ok=True)
    valid = files_in(root)
    readers: list[Callable[[], object]] = [
        lambda: command("watch", "--once"),
        lambda: command("ls"),
        lambda: command("show", str(run.location)),
        lambda: command("stop"),
        lambda: command("sweep", "--dry_run", "--grid", "replicate=1-2", "--", *TRAIN),
        lambda: command("verify"),
    ]

    def attempt(stream: random.Random) -> None:
        with restored(valid, root):
            path = stream.choice(list(texts))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(json_like(texts[path], stream))
            stream.choice(readers)()

    return attempt
