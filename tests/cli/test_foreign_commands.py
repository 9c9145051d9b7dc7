"""The project's commands for names of other code bases, each run as a job on few examples and steps.

Rows that cannot run small are only planned (`--dry_run`), for the reasons in `PLANNED_ONLY`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.main import main
from cli.request.foreign_words import Word, code_bases
from foundations.environment import Environment
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from models.registry import find_family
from tests.branches.openlth_directory import write_lottery
from tests.cli.test_foreign_words import commands_of, refusal_of
from tests.training.small_runs import context
from training.recipes import recipe

PLANNED_ONLY = {
    "--device=cuda": "needs a GPU",
    "--dataset_name=": "needs the published images",
    "--executor=slurm": "needs Slurm",
    "=tost_lt_vgg_16": "writes gigabytes: it has 134 million weights, and no width",
    "=tost_lt_alexnet": "writes a gigabyte: it has 57 million weights, and no width",
}
"""Parts of commands that are planned alone, and the reasons."""
SMALL: Mapping[str, str] = {
    "default_hparams": "digits_resnet_8",
    "model_name": "digits_resnet_8_2",
    "batch_size": "512",
    "device": "cpu",
}
"""Flags of jobs that do not give them. An epoch has three iterations."""
SMALLER: Mapping[str, str] = {
    "training_steps": "3it",
    "pretrain_training_steps": "1it",
    "level_steps": "1it",
    "rewinding_steps": "1it",
    "warmup_steps": "1it",
    "pre_epochs": "1",
    "gmp_epochs": "1",
    "mask_update_end": "2it",
    "mask_update_frequency": "1it",
    "granet_begin": "0it",
    "granet_end": "2it",
    "granet_density": "0.1",
    "validation_examples": "100",
    "gradinit_iters": "2",
    "gem_miner_period": "1it",
    "srigl_no_ablation": "fc",
    "cs_rounds": "1",
    "batch_size": "512",
    "score_batch_size": "64",
    "prune_iterations": "3",
    "retrain_dataset_name": "own8",
}
"""Flags whose values are replaced, since a row stands for any value."""
OF_PRESETS: Mapping[str, str] = {
    "batch_size": "8",
    "normalization": "None",
    "training_steps": "1it",
    "validation_examples": "4",
    "device": "cpu",
}
"""Flags of jobs whose preset is of another network. An epoch has three iterations."""
TENSORS: Mapping[str, str] = {"pruning_layers_to_ignore": "fc.weight", "prunable_layers": "convolutions"}
"""Flags whose values must be names of the network."""
ANY = "0.5"
"""Placeholder in valid commands for any text."""
OF_COMMANDS: Mapping[str, Mapping[str, str]] = {
    "chain": {"sparsities": "0.5,0.8"},
    "mag": {"pre_epochs": "1", "gmp_epochs": "1"},
    "singleshot": {"pre_epochs": "1it"},
    "gradinit": {"gradinit_iters": "2"},
    "=itop": {"mask_update_frequency": "1it"},
    "--gmp_curve=granet": {"gmp_frequency": "1it", "gmp_end": "3it"},
    "=granet": {"mask_update_frequency": "1it"},
    "=acdc": {"acdc_prune_at": "0it,2it", "acdc_restore_at": "1it"},
    "=continuous_sparsification": {
        "training_steps": "6it",
        "cs_rounds": "1",
        "cs_temperature_frequency": "1it",
        "cs_rewind": "1it",
    },
    "=gem_miner": {"gem_miner_period": "1it", "gem_miner_begin": "1it"},
    "--platform=multi_gpu": {"num_processes": "1"},
    "lottery": {"levels": "1"},
}
"""Flags of commands, by a word or a part of a word in them: added where they lack these, or in place of `SMALLER`."""


def run_small(words: list[str], place: Path) -> list[str]:
    """Return the small command that stands for a valid command of the project."""
    if words[0] == "measure":
        asked = ["train"] if "lottery" in words[1] else ["branch", "train", "oneshot", "--strategy=synflow"]
        assert main([*asked, *flags(SMALL), "--model_name=digits_lenet_40_20", "--training_steps=3it", "--quiet"]) == 0
        kind = "train_*" if asked == ["train"] else "train_*/replicate_1/branch_*"
        newest = max((place / "runs").glob(kind), key=lambda path: path.stat().st_mtime)
        return [newest.name if word == "ADDRESS" else word for word in words]
    if words[0] == "sweep":
        split = words.index("--")
        varied = [f"--{word.partition('=')[0]}=" for word in words[:split] if "=" in word]
        fixed = [word for word in shrunk(words[split + 1 :]) if not word.startswith(tuple(varied))]
        return [*words[:split], "--executor=pool", "--", *fixed]
    return shrunk(words)


def shrunk(words: list[str]) -> list[str]:
    """Return a job with a small network, few examples and few steps."""
    given = {word.removeprefix("--").partition("=")[0]: word.partition("=")[2] for word in words if "=" in word}
    added = {name: value for name, value in SMALLER.items() if name in given}
    added |= {name: value for name, value in TENSORS.items() if given.get(name) == ANY}
    if given.get("pre_epochs", "").endswith("ep"):  # a step
        added["pre_epochs"] = "1it"
    kept = [word for word in words if word.removeprefix("--").partition("=")[0] not in added]
    for part, further in OF_COMMANDS.items():
        if part in words or any(word.startswith("--technique=") and part in word for word in words):
            added |= {name: value for name, value in further.items() if name not in given or name in SMALLER}
    preset = given.get("default_hparams", "")
    if preset:
        added |= {"dataset_name": "own64" if "tinyimagenet" in preset else "own32", **OF_PRESETS, **narrow(preset)}
    else:
        added |= {name: value for name, value in SMALL.items() if name not in given}
    if "model_name" in given:
        added |= {"dataset_name": "own32", "batch_size": "8"}
    return [*kept, *flags({"training_steps": "3it", **added}), "--evaluate_only_at_end", "--quiet"]


def narrow(preset: str) -> dict[str, str]:
    """Return the network of a preset with few channels, where its family has a width."""
    name = str(recipe(preset)["model_name"])
    family, parts = find_family(name)
    narrow = f"{name.removesuffix(f'_{parts.width}')}_16"
    return {"model_name": narrow} if family.width and re.fullmatch(family.pattern or "", narrow) else {}


def flags(values: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def rows() -> dict[tuple[str, ...], list[str]]:
    """Return the different commands for the rows of the page, with the rows that each is of."""
    environment = Environment(Path("/nonexistent/runs"), Path("/nonexistent/datasets"), no_download=True)
    found: dict[tuple[str, ...], list[str]] = {}
    seen: dict[tuple[str, str], tuple[str, ...]] = {}
    for base in code_bases():
        for word in base.words:
            if word.ours and word.theirs != "lottery_branch":
                key = (word.ours, word.accepted)
                if key not in seen:
                    seen[key] = valid_command(word, environment)
                found.setdefault(seen[key], []).append(f"{base.name} {word.theirs}")
    return found


def valid_command(word: Word, environment: Environment) -> tuple[str, ...]:
    """Return a command for a word that is not refused: of the first of its listed texts."""
    choices = next(iter(commands_of(word).values()))
    return next((tuple(each) for each in choices if refusal_of(each, environment) is None), tuple(choices[0]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A folder with runs that all commands share, and datasets: the digits, and random images of other shapes."""
    folder = tmp_path_factory.mktemp("foreign commands")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "digits").symlink_to(digits / "digits")
    random = np.random.default_rng(0)
    for side, channels in ((8, 1), (32, 3), (64, 3)):
        images = random.integers(0, 255, (2, 20, side, side, channels), dtype=np.uint8)
        labels = np.arange(20) % 10
        np.savez(folder / f"own{side}.npz", x_train=images[0], x_test=images[1], y_train=labels, y_test=labels)
        made = main(["datasets", "add", f"own{side}", f"{folder}/own{side}.npz", f"--datasets_root={folder}/datasets"])
        assert made == 0
    return folder


def why_planned(command: tuple[str, ...]) -> str:
    """Return why a command is only planned, or nothing."""
    reasons = (why for part, why in PLANNED_ONLY.items() if part in " ".join(command))
    return next(reasons, "")


def is_large(command: tuple[str, ...]) -> bool:
    """Return whether the network of a command, or starting its processes, takes seconds."""
    return any(re.match(r"--default_hparams|--model_name|--platform=multi_gpu|--wandb|sweep", word) for word in command)


ROWS = rows()
COMMANDS = [
    pytest.param(command, id=" ".join(command), marks=[pytest.mark.slow] if is_large(command) else [])
    for command in ROWS
    if command[0] != "import"
]


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in the folder."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(place / "runs"))
    monkeypatch.setenv("OPEN_PRUNE_DATASETS", str(place / "datasets"))
    monkeypatch.setenv("OPEN_PRUNE_SITE", os.devnull)
    monkeypatch.setenv("OPEN_PRUNE_NO_DOWNLOAD", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.parametrize("command", COMMANDS)
def test_our_words_run(command: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if why_planned(command):
        at = 1 if command[0] == "sweep" else len(command)
        argv = [*command[:at], "--dry_run", *command[at:]]
    else:
        argv = run_small(list(command), place)
    assert main(argv) == 0, (argv, ROWS[command], capsys.readouterr().err)


def test_every_row_is_run_by_a_test() -> None:
    imports = {command for command in ROWS if command[0] == "import"}

    assert imports == {("import", "FILE", "--weights"), ("import", "--openlth", "DIR")}
    assert sum(map(len, ROWS.values())) == sum(
        bool(word.ours) and word.theirs != "lottery_branch" for base in code_bases() for word in base.words
    )


def test_weights_of_a_file_are_imported(place: Path) -> None:
    model = build_model(
        ModelHparams(model_name="digits_resnet_8_2"), outputs=10, inputs=Inputs((1, 8, 8)), seed_keys=(1,)
    )
    torch.save(model.state_dict(), place / "weights.pt")

    assert main(["import", "weights.pt", "--weights", *flags(SMALL)]) == 0


def test_an_experiment_of_openlth_is_imported(place: Path) -> None:
    write_lottery(place / "lottery_there", context(place / "runs", place / "datasets"), 1)

    assert main(["import", "--openlth", "lottery_there"]) == 0
