"""Whatever goes wrong: a message of at most three lines, the right exit code, and nothing lost, trusted or executed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.storage import sealed_json
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal, tensors_of

TRAIN = ("train", *SHORT)
ONESHOT = ("branch", "train", "oneshot", *SHORT)
LAST = "state_ep3_it0.safetensors"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ("'trian' is not a command. Did you mean 'train'?",)),
        (
            ("branch", "train", "oneshot", "--strategy=snip0"),
            ("--strategy: 'snip0' is not a valid value. Did you mean 'snip10'?",),
        ),
        (("help", "trian"), ("'trian' is not a command. Did you mean 'train'?",)),
        (("--help=trian",), ("'trian' is not a command. Did you mean 'train'?",)),
        (("ls", "--plugin="), ("--plugin: a value is missing; write --plugin=VALUE.",)),
        (("train", "--learning_rte=1"), ("There is no flag --learning_rte here.",)),
        (
            ("train", "--default_hparams=digits_resnet_8", "--densty=0.2"),
            ("There is no flag --densty here. Did you mean '--density'? It is a flag of branches that prune",),
        ),
        (
            ("train", "--training_step=1ep"),
            ("There is no flag --training_step here.", "Did you mean '--training_steps'?"),
        ),
        (("train", "--lr=fast"), ("--lr: 'fast' is not a valid value; it takes a number.",)),
        (("train", "--lr=-1"), ("--lr: -1.0 is not a valid value; it must be above 0.",)),
        (("train", "--lr=nan"), ("--lr: nan is not a valid value; it takes a finite number.",)),
        (("train", "--batch_size=1.5"), ("--batch_size: '1.5' is not a valid value; it takes a whole number.",)),
        (("train", "--lr"), ("--lr: a value is missing",)),
        (("train", "--lr", "--quiet"), ("--lr: a value is missing",)),
        (("train", "--quiet=yes"), ("--quiet: it takes no value",)),
        (("train", "--no_lr=1"), ("There is no flag --no_lr here.",)),
        (("train", "lr=1"), ("'lr=1' is not expected here",)),
        (("train", "--model_name=cifar_resnet_21"), ("--model_name:", "cifar_resnet_21")),
        (("train", "--model_name=cifar_resent_20"), ("Did you mean 'cifar_resnet_20'?",)),
        (("train", "--default_hparams=mnist_lenet"), ("--default_hparams:",)),
        (("train", "--dataset_name=cifar11"), ("--dataset_name: 'cifar11' is not ", "Did you mean 'cifar10'?")),
        (("train", "--training_steps=012ep"), ("--training_steps: '012ep' is not a step", "80ep, 500it or 2ep30it")),
        (("train", "--weight_save_steps=1ep-5ep"), ("--weight_save_steps: '1ep-5ep' is not a range",)),
        (
            ("train", *SHORT, "--weight_save_steps=9ep"),
            ("--weight_save_steps: 54it is not in this run; choose 0it to 18it.",),
        ),
        (("train", "--milestone_steps=1ep", "--lr_schedule=cosine"), ("--milestone_steps",)),
        (("train", "--replicate=0"), ("--replicate: 0 is not a valid value; it must be at least 1.",)),
        (
            ("train", "--platform=locl"),
            (
                "--platform: 'locl' is not ",
                "Did you mean 'local'?",
            ),
        ),
        (
            ("train", "--device=gpu"),
            (
                "--device: 'gpu' is not ",
                "auto, cpu",
            ),
        ),
        (("branch", "trian", "oneshot"), ("No run under", "is named 'trian'", "Did you mean 'train'?")),
        (("branch", "lotery", "oneshot", "--density=0.2"), ("is named 'lotery'", "Did you mean 'lottery'?")),
        (("branch", "train", "onehsot"), ("'onehsot' is not a branch. Did you mean 'oneshot'?",)),
        (("branch", "trian", "oneshot"), ("trian",)),
        ((*ONESHOT, "--strategy=snap10"), ("--strategy: 'snap10' is not a valid value. Did you mean 'snip10'?",)),
        ((*ONESHOT, "--strategy=snip"), ("--strategy: 'snip' is not a valid value; here it is --strategy=snip10",)),
        ((*ONESHOT, "--strategy=sinp"), ("--strategy: 'sinp' is not a valid value. Did you mean 'snipN'?",)),
        ((*ONESHOT, "--density=1.5"), ("--density: 1.5 is not a valid value; it must be at least 0 and at most 1.",)),
        ((*ONESHOT, "--density=0.5", "--compression=4"), ("--density, --compression: they are prune fractions",)),
        ((*ONESHOT, "--prune_step=4ep"), ("--prune_step: 24it is after",)),
        ((*ONESHOT, "--prune_highest", "--prune_lowest"), ("--prune_highest",)),
        (("ls", "--where=status"), ("--where: 'status' is not key=value",)),
        (("show",), ("show takes one address",)),
        (("show", "0123"), ("No run under", "`python open_prune.py ls` lists the runs")),
        (("rm",), ("rm takes one address",)),
        (("verify", "a", "b"), ("verify takes one address",)),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)
def test_a_mistake_names_the_flag_and_what_is_valid(
    terminal: Terminal, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = terminal.run(*arguments)

    result.assert_is_for_people(2, *words)
    assert not terminal.root.exists()


def test_too_many_scoring_examples_are_refused_with_how_many_there_are(terminal: Terminal) -> None:
    terminal.run(*ONESHOT, "--strategy=snip1000").assert_is_for_people(2, "1000 examples of each class", "has 1")

    assert not list(terminal.root.glob("train_*/replicate_1/branch_*"))


def test_a_missing_dataset_says_where_it_was_looked_for_and_how_to_get_it(terminal: Terminal, tmp_path: Path) -> None:
    terminal.datasets = tmp_path / "nowhere"

    result = terminal.run("train", "--default_hparams=mnist_lenet_300_100")

    result.assert_is_for_people(1, "mnist", str(tmp_path / "nowhere"))
    assert json.loads(terminal.run("ls", "--json").out) == []


def test_a_root_below_a_file_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    terminal.root = tmp_path / "file" / "root"

    terminal.run(*TRAIN).assert_is_for_people(1, str(tmp_path / "file"), "Choose a folder")
    assert (tmp_path / "file").read_text() == "content"


def test_a_root_that_cannot_be_written_is_refused(terminal: Terminal) -> None:
    terminal.root = Path("/proc/open_prune")

    terminal.run(*TRAIN).assert_is_for_people(1, "Cannot work in /proc/open_prune", "Check the path")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def pickle_there(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(path.with_name("executed"))))


def pickle_of_its_size(path: Path) -> None:
    size = path.stat().st_size
    pickle_there(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))


Damage = Callable[[Path], object]
DAMAGES: list[Damage] = [truncate, flip_a_bit, pickle_there, pickle_of_its_size]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused_and_kept_and_mended(own_two_runs: Terminal, damage: Damage) -> None:
    folder = own_two_runs.where(*TRAIN)
    whole = tensors_of(folder)
    damage(folder / LAST)
    before = own_two_runs.files()
    user = (*ONESHOT, "--strategy=magnitude", "--prune_step=3ep")

    refused = own_two_runs.run(*user)
    found = own_two_runs.run("verify")

    refused.assert_is_for_people(1, LAST, "damaged", "verify", "--mend")
    assert {name: own_two_runs.files()[name] for name in before} == before
    assert not (folder / "executed").exists()
    assert found.code == 1
    assert LAST in found.out
    mend = refused.err.partition("open_prune.py ")[2].strip().rpartition("open_prune.py ")[2].split()
    assert own_two_runs.run(*mend).code == 0
    assert own_two_runs.run(*user).code == 0
    assert {name: tensors_of(folder)[name] for name in whole} == whole
    assert own_two_runs.run("verify").code == 0
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    "name", ["mask.safetensors", "sparsity.json", "metrics.csv", "manifest.json", "description.json"]
)
@pytest.mark.parametrize("damage", [truncate, lambda path: path.unlink()], ids=["truncated", "missing"])
def test_a_damaged_file_of_a_branch_is_refused_and_mended(own_two_runs: Terminal, name: str, damage: Damage) -> None:
    folder = own_two_runs.where(*BRANCH)
    whole = tensors_of(folder)
    damage(folder / name)
    is_incomplete_now = name == "manifest.json" and not (folder / name).exists()
    address = f"{folder.parent.parent.name}/{folder.parent.name}/{folder.name}"

    refused = own_two_runs.run(*BRANCH)
    mended = own_two_runs.run("verify", address, "--mend")
    again = own_two_runs.run(*BRANCH)

    if not is_incomplete_now:
        refused.assert_is_for_people(1, name)
    assert mended.code == 0, mended.err
    assert again.code == 0, again.err
    assert {n: tensors_of(folder)[n] for n in whole} == whole
    assert own_two_runs.run("verify").code == 0


@pytest.mark.parametrize("damage", [flip_a_bit, pickle_there])
def test_a_damaged_checkpoint_is_refused_and_kept_and_mended(
    terminal: Terminal, two_runs: Terminal, damage: Damage
) -> None:
    stop = ("train", *SHORT, "--checkpoint_seconds=0")
    terminal.run("branch", "train", "oneshot", *SHORT, "--strategy=magnitude", "--prune_step=7it")
    run = terminal.stored(*stop)
    damage(run.path("checkpoint.safetensors"))
    before = terminal.files()

    refused = terminal.run(*stop)

    refused.assert_is_for_people(1, "checkpoint.safetensors", "verify", "--mend")
    assert set(before.values()) <= set(terminal.files().values())  # its working folder has another name
    assert not (run.folder / "executed").exists()
    assert terminal.run("verify", "--mend").code == 0
    assert terminal.run(*stop).code == 0
    assert tensors_of(run.place)[LAST] == tensors_of(two_runs.where(*TRAIN))[LAST]


def test_a_directory_under_another_name_is_refused(own_two_runs: Terminal) -> None:
    folder = own_two_runs.where(*TRAIN)
    asked_for = ("train", *SHORT, "--lr=0.2")
    other = own_two_runs.where(*asked_for)
    folder.parent.parent.rename(other.parent.parent)

    refused = own_two_runs.run(*asked_for)

    refused.assert_is_for_people(1, "does not describe the directory that it is in", "rm")
    assert own_two_runs.run("verify").code == 1


def test_other_hyperparameters_under_an_address_are_refused(own_two_runs: Terminal) -> None:
    path = own_two_runs.where(*TRAIN) / "description.json"
    record = json.loads(path.read_text())
    record["hyperparameters"]["training"]["lr"] = 0.2
    data = sealed_json.to_bytes(record)
    assert len(data) == path.stat().st_size
    path.write_bytes(data)

    own_two_runs.run(*TRAIN).assert_is_for_people(1, "lr=0.2", "0.1 was asked for under the same address")


def test_other_data_than_a_run_was_computed_from_are_refused(own_two_runs: Terminal, tmp_path: Path) -> None:
    shutil.copytree(own_two_runs.datasets, tmp_path / "data")
    flip_a_bit(tmp_path / "data" / "digits" / "train.safetensors")
    own_two_runs.datasets = tmp_path / "data"

    own_two_runs.run(*TRAIN).assert_is_for_people(1, "computed from other data")


def test_a_truncated_dataset_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copytree(terminal.datasets, tmp_path / "data")
    truncate(tmp_path / "data" / "digits" / "train.safetensors")
    terminal.datasets = tmp_path / "data"

    terminal.run(*TRAIN).assert_is_for_people(1, "train.safetensors")


def test_a_root_that_is_no_folder_is_refused_as_that(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    terminal.run("ls", f"--root={tmp_path / 'file'}").assert_is_for_people(1, "Cannot read", "it is not a folder.")
