from __future__ import annotations

import json

import pytest

from cli.request.foreign_words import translated
from tests.cli.terminal import SHORT, Terminal


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("lottery --pruning_strategy=sparse_global", "lottery --strategy=magnitude"),
        ("lottery --pruning_strategy snip10", "lottery --strategy=snip10"),
        ("lottery_branch randomly_prune --strategy=layerwise", "branch lottery randomly_prune --randomize=layerwise"),
        ("branch lottery randomly_prune --strategy even", "branch lottery randomly_prune --randomize=even"),
        ("lottery_branch randomly_prune --strategy=snip1", "branch lottery randomly_prune --strategy=snip1"),
        ("lottery_branch retrain --levels=0-2,5", "branch lottery retrain --levels=0-2,5"),
        ("lottery --pretrain --pretrain_training_steps=1ep", "lottery --pretrain_training_steps=1ep"),
        ("train --apex_fp16", "train --precision=fp16"),
        ("branch train oneshot --strategy=random", "branch train oneshot --strategy=random"),
        ("train --pretrain", "train --pretrain"),
        ("lottery --pruning_strategy", "lottery --pruning_strategy"),
    ],
)  # fmt: skip
def test_openlths_words_become_this_projects(theirs: str, ours: str) -> None:
    assert " ".join(translated(theirs.split())) == ours


def test_openlths_command_for_a_branch_of_levels_has_the_address_of_this_projects(terminal: Terminal) -> None:
    flags = (*SHORT, "--levels=1", "--seed=1")
    theirs = terminal.run(
        "lottery_branch",
        "randomly_prune",
        *flags,
        *("--pruning_strategy=sparse_global", "--strategy=layerwise", "--num_workers=2", "--display_output_location"),
    )
    ours = terminal.run("branch", "lottery", "randomly_prune", *flags, "--display_output_location")

    assert theirs.code == 0, theirs.err
    assert theirs.out == ours.out


def test_a_parent_alone_lists_its_branches(terminal: Terminal) -> None:
    of_train, of_lottery = terminal.run("branch", "train"), terminal.run("branch", "lottery")
    assert of_train.code == of_lottery.code == 0
    for name in ("oneshot", "lr_rewind", "randomly_reinitialize"):
        assert name in of_train.out
        assert name in of_lottery.out


def test_layers_to_ignore_are_whole_and_even_has_one_density_everywhere(terminal: Terminal) -> None:
    command = ("branch", "lottery", "randomly_prune", *SHORT, "--levels=1", "--pruning_fraction=0.5")

    def densities(*flags: str) -> dict[str, float]:
        assert terminal.run(*command, *flags, "--quiet").code == 0
        report = json.loads((terminal.where(*command, *flags) / "sparsity.json").read_text())
        return {name: layer["kept"] / layer["total"] for name, layer in report["layers"].items()}

    even = densities("--randomize=even")
    assert even == pytest.approx({"fc_layers.0.weight": 0.5, "fc.weight": 0.5}, abs=0.01)
    whole = densities("--layers_to_ignore=fc.weight")
    assert whole["fc.weight"] == 1.0
    assert whole["fc_layers.0.weight"] < 0.6
    wrong = terminal.run(*command, "--layers_to_ignore=fc.wieght")
    wrong.assert_is_for_people(2, "--layers_to_ignore", "fc.weight")


def test_a_job_says_first_what_it_took_by_default(terminal: Terminal) -> None:
    oneshot = ("branch", "train", "oneshot", *SHORT)
    taken = "Not given, so taken by default: "
    assert terminal.run(*oneshot).out.startswith(f"{taken}--strategy=magnitude --prune_fraction=0.8\n")
    assert terminal.run(*oneshot, "--strategy=random").out.startswith(f"{taken}--prune_fraction=0.8\n")
    assert taken not in terminal.run(*oneshot, "--strategy=random", "--density=0.5").out
    assert terminal.run(*oneshot, "--quiet").out == ""
    gmp = terminal.run("train", *SHORT, "--technique=gmp", "--gmp_frequency=2it")
    assert gmp.out.startswith(f"{taken}--gmp_strategy=magnitude --gmp_prune_fraction=0.8\n"), gmp.err
    both = terminal.run(*oneshot, "--strategy=random", "--technique=gmp", "--gmp_density=0.1", "--gmp_frequency=2it")
    assert both.out.startswith(f"{taken}--prune_fraction=0.8 --gmp_strategy=magnitude\n"), both.err
    assert taken not in terminal.run("train", *SHORT).out
    chain = terminal.run("branch", "train", "chain", *SHORT, "--strategy=random", "--sparsities=0.5,0.9")
    assert taken not in chain.out
    assert "prune_fraction" not in terminal.run("branch", "train", "chain", *SHORT, "--sparsities=0.5,0.9").out
    lottery = terminal.run("lottery", *SHORT, "--levels=1")
    assert lottery.out.startswith(f"{taken}--strategy=magnitude --pruning_fraction=0.2\n")


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("mnist_lenet_300_100", "fc.weight"), ("cifar_vgg_16", "fc.weight"), ("cifar_resnet_20", None)],
)
def test_the_lottery_leaves_the_output_layers_whole_that_openlth_does(
    terminal: Terminal, name: str, ignored: str | None
) -> None:
    lottery, preset = ("lottery", "--levels=1", "--display_output_location"), f"--default_hparams={name}"
    by_default = terminal.run(*lottery, preset).out
    assert by_default == terminal.run(*lottery, preset, f"--pruning_layers_to_ignore={ignored}").out
    assert (by_default == terminal.run(*lottery, preset, "--pruning_layers_to_ignore=None").out) == (ignored is None)
    oneshot = ("branch", "train", "oneshot", preset, "--display_output_location")
    assert terminal.run(*oneshot).out == terminal.run(*oneshot, "--pruning_layers_to_ignore=None").out


def test_the_pruning_wrappers_demo_has_a_preset(terminal: Terminal) -> None:
    folders = terminal.run("lottery", "--default_hparams=pruningwrapper_svhn", "--display_output_location").out.split()
    reinitialized = terminal.run(
        *("lottery", "--default_hparams=pruningwrapper_svhn", "--reinitialize", "--display_output_location")
    ).out.split()

    assert len(folders) == len(reinitialized) == 25
    assert folders[0] == reinitialized[0]
    assert not set(folders[1:]) & set(reinitialized[1:])


def test_each_level_of_a_reinitialized_lottery_draws_new_weights(terminal: Terminal) -> None:
    from foundations.storage.tensor_files import read

    command = ("lottery", *SHORT, "--levels=2", "--reinitialize")
    result = terminal.run(*command)
    assert result.code == 0, result.err
    folders = terminal.run(*command, "--display_output_location").out.split()
    states = [read(terminal.root / folder / "state_ep0_it0.safetensors", "")[0]["fc.weight"] for folder in folders]
    kept = (states[1] != 0) & (states[2] != 0)
    assert kept.any()
    assert not (states[1] == states[2])[kept].any()
    assert not (states[0] == states[1])[kept].any()
