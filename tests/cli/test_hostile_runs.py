"""Files of runs from somebody else: of another form, or with control sequences for terminals."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundations.storage import tensor_files
from foundations.storage.manifest import FileRecord, Manifest
from tests.cli.conftest import BRANCH
from tests.cli.terminal import LONG, Terminal


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(iterations_per_epoch=1e400),
        lambda record: record.update(iterations_per_epoch="6"),
        lambda record: record.pop("iterations_per_epoch"),
        lambda record: record.update(kind=[]),
        lambda record: record["hyperparameters"]["pruning"].update(strategy=["snip1"]),
        lambda record: record["hyperparameters"]["pruning"].update(density=float("nan")),
        lambda record: record["hyperparameters"]["branch"].update(seed=10**400),
        lambda record: record["main"]["hyperparameters"].update(training=[]),
        lambda record: record["sources"]["state"].update(training="../../elsewhere"),
        lambda record: record["sources"]["state"].update(name="main/../../x"),
        lambda record: record["sources"]["state"].update(replicate="1/../.."),
        lambda record: record["sources"]["state"].update(training=[]),
    ],
)
def test_a_description_of_another_form_is_damage_to_every_command(
    own_two_runs: Terminal, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    folder = own_two_runs.where(*BRANCH)
    record = json.loads((folder / "description.json").read_text())
    record.pop("sha256")  # a file without a checksum
    change(record)
    (folder / "description.json").write_text(json.dumps(record))
    address = str(folder.relative_to(own_two_runs.root))

    for command in (("ls",), ("show", address), ("ls", "--sort=strategy"), ("table", "--rows=strategy")):
        result = own_two_runs.run(*command)
        assert (result.code, "Traceback" in result.err) == (0, False), result.err
    export = own_two_runs.run("export", address, str(tmp_path / "ticket.safetensors"))
    export.assert_is_for_people(1, str(folder / "description.json"))


def test_what_a_terminal_obeys_and_what_has_no_encoding_is_not_printed(own_two_runs: Terminal) -> None:
    folder = own_two_runs.where(*BRANCH)
    record = json.loads((folder / "description.json").read_text())
    record.pop("sha256")  # a file without a checksum
    record["hyperparameters"]["pruning"]["strategy"] = "\x1b[2J\ud800"
    (folder / "description.json").write_text(json.dumps(record))
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
    files = {**manifest.files, "description.json": FileRecord.of(folder / "description.json")}
    (folder / "manifest.json").write_bytes(dataclasses.replace(manifest, files=files).to_bytes())

    for command in (("ls",), ("show", str(folder.relative_to(own_two_runs.root)))):
        result = own_two_runs.run(*command)
        assert result.code == 0, result.err
        assert "[2J" in result.out and "\x1b" not in result.out
    files["\x1b[2J"] = files["description.json"]
    (folder / "manifest.json").write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
    result = own_two_runs.run("verify")
    assert result.code == 1
    assert "[2J" in result.out and "\x1b" not in result.out


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("dataset"),
        lambda facts: facts.update(metrics=1),
        lambda facts: facts.update(step="x"),
        lambda facts: facts.update(parents=[1]),
        lambda facts: facts.update(wall_seconds={}),
    ],
)
def test_a_checkpoint_of_another_form_is_damage(terminal: Terminal, change: Callable[[dict[str, Any]], object]) -> None:
    begun = terminal.start("train", *LONG)
    run = terminal.stored("train", *LONG)
    while not run.path("checkpoint.safetensors").exists():
        assert begun.process.is_alive()
        time.sleep(0.01)
    assert begun.kill()
    path = run.path("checkpoint.safetensors")
    tensors, facts = tensor_files.read(path, "")
    change(facts)
    path.write_bytes(tensor_files.to_bytes(tensors, facts, tensor_files.owner(path)))

    terminal.run("train", *LONG).assert_is_for_people(1, path.name, "--mend")
