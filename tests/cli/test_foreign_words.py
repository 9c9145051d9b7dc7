"""The words of other code bases: accepted, answered and listed, and every one of ours for them exists."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

from analysis.measures.registry import MEASURES
from branches.registry import BRANCHES
from cli.commands.branch import branch_request
from cli.commands.coming_from import markdown
from cli.commands.jobs import train_request
from cli.commands.lottery import lottery_request
from cli.commands.sweep import asked_by, described_by
from cli.commands.tickets import IMPORT
from cli.main import COMMANDS, main
from cli.request.flags import HelpRequested
from cli.request.foreign_words import KINDS, CodeBase, Word, code_bases
from foundations.environment import Environment
from foundations.errors import OpenPruneError
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "coming_from.md"
SAMPLES = {
    "value": ("0.5", "2", "sgd", "relu", "mnist", "magnitude", "2,4", "fc.weight"),
    "n": ("10", "20", "16", "18"),
    "percent": ("0.5",),
    "exponent": ("100",),
    "epochs": ("60ep,120ep",),
    "seed": ("3",),
    "levels": ("2",),
    "fraction": ("0.3",),
    "dataset": ("cifar10", "fashion_mnist"),
    "name": ("cifar10", "magnitude", "sgd", "cosine", "svhn"),
}
"""Texts of ours for the placeholders: one of them must be valid. Others list their texts, which all must be."""
WORDS = [word for base in code_bases() for word in base.words]
TRANSLATED = [
    pytest.param(word, id=f"{base.name} {word.theirs}")
    for base in code_bases()
    for word in base.words
    if word.ours and word.theirs != "lottery_branch"
]


@pytest.fixture
def no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that nothing may be written to."""
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(tmp_path / "runs"))
    monkeypatch.setenv("OPEN_PRUNE_SITE", "/dev/null")
    return tmp_path / "runs"


def commands_of(word: Word) -> dict[tuple[str, ...], list[list[str]]]:
    """Return the project's commands for a name: several for each choice of listed texts; one of them must be valid."""
    kinds = sorted(set(re.findall(r"\{(\w+)\}", word.ours)))
    listed = [kind for kind in kinds if kind not in SAMPLES]
    others = [kind for kind in kinds if kind in SAMPLES]
    starts = [["branch", "train", "oneshot"]]
    starts += [
        start.replace("everywhere", "lottery --pretrain_training_steps=1ep").split()
        for start in word.accepted.split(",")
        if start
    ]
    found = {}
    for fixed in itertools.product(*(KINDS[kind].expression.split("|") for kind in listed)):
        texts = itertools.product(*(SAMPLES[kind] for kind in others))
        filled = [
            shlex.split(word.ours.format(**dict(zip([*listed, *others], [*fixed, *each], strict=True))))
            for each in texts
        ]
        found[fixed] = [
            [*start, *words] for words in filled for start in (starts if words[0].startswith("--") else [[]])
        ]
    return found


def refusal_of(argv: list[str], environment: Environment) -> str | None:
    """Return why a command is refused, or None."""
    try:
        check(argv, environment)
    except OpenPruneError as error:
        return f"{argv}: {error}"
    return None


def check(argv: list[str], environment: Environment) -> None:
    """Read a command as it is read when it runs, without running it. Raises: OpenPruneError."""
    requests = {"train": train_request, "branch": branch_request, "lottery": lottery_request}
    name, *rest = argv
    if name in requests:
        requests[name](rest, environment)
    elif name == "measure":
        MEASURES.find(rest[0])
    elif name == "import":
        IMPORT.parse([word for word in rest if word.startswith("--") and word != "--openlth"])
    elif name == "sweep":
        asked_by(described_by(rest)[0], environment)
    else:
        raise AssertionError(f"no way to check {argv}")


@pytest.mark.parametrize("word", TRANSLATED)
def test_our_words_for_every_foreign_word_are_valid(word: Word, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "runs", tmp_path / "datasets", no_download=True)
    for commands in commands_of(word).values():
        refusals = [refusal_of(argv, environment) for argv in commands]
        assert None in refusals, refusals


@pytest.mark.parametrize("base", code_bases(), ids=lambda base: base.name)
def test_every_row_says_something_and_its_placeholders_are_filled(base: CodeBase) -> None:
    assert len({word.theirs for word in base.words}) == len(base.words)
    for word in base.words:
        there, here = (set(re.findall(r"\{(\w+)\}", text)) for text in (word.theirs, word.ours + word.note))
        assert word.ours or word.note, word
        assert here <= there <= set(KINDS), word


def test_every_flag_and_command_in_a_note_exists() -> None:
    theirs = {flag.replace("-", "_") for word in WORDS for flag in re.findall(r"--([\w-]+)", word.theirs)}
    ours = {flag for word in WORDS for flag in re.findall(r"--(\w+)", word.ours)}
    elsewhere = {"prune_lowest", "score_in_eval_mode", "sync_batchnorm", "weight_save_steps", "quiet", "state_step"}
    also = {"label_smoothing", "data_order_seed", "pretrain_training_steps"}
    for word in WORDS:
        flags = {flag.replace("-", "_") for flag in re.findall(r"--([\w-]+)", word.note)}
        assert flags <= theirs | ours | elsewhere | also, word
        commands = {text.split()[0] for text in re.findall(r"`([^`]+)`", word.note)}
        assert commands <= {*COMMANDS, *BRANCHES.spellings(), "pruner_file", "amount", "collapsed"}, word
    for flag in elsewhere | also:
        start = ["lottery"] if flag.startswith("pretrain") else ["branch", "train", "oneshot", "--strategy=snip10"]
        with pytest.raises(HelpRequested, match=rf"--{flag}\b"):
            check([*start, "--help=all"], Environment.read())


def test_the_page_has_the_tables_of_the_data() -> None:
    text = PAGE.read_text()
    assert text.endswith("\n\n".join(map(markdown, code_bases())) + "\n"), (
        "python open_prune.py coming-from --format=markdown prints the tables"
    )


def test_every_command_in_place_of_another_code_base_is_valid(tmp_path: Path) -> None:
    commands = re.findall(r"^\|.*\| `((?:train|branch) [^`]+)` \|$", PAGE.read_text(), flags=re.MULTILINE)

    assert len(commands) >= 5
    for command in commands:
        check(shlex.split(command), Environment(tmp_path / "runs", tmp_path / "datasets", no_download=True))


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("train --epochs=160", "--epochs=160 is --training_steps=160ep."),
        ("train --epochs", "--epochs is --training_steps=Nep."),
        ("train --learning_rate 0.1", "--learning_rate=0.1 is --lr=0.1."),
        ("train --learning-rate 0.1", "--learning_rate=0.1 is --lr=0.1."),
        ("train --seed=0", "--seed=0 is --replicate=1 ("),
        ("train --gpu=1", "--gpu=1 is --device=cuda:1."),
        ("train --arch resnet18", "ToST's --arch=resnet18 is --default_hparams=tost_resnet_18."),
        ("train --dataset=CIFAR100", "--dataset=CIFAR100 is --dataset_name=cifar100."),
        ("train --dataset cifar-100", "--dataset=cifar-100 is --dataset_name=cifar100."),
        ("train --dataset=FashionMNIST", "--dataset_name=fashion_mnist."),
        ("train --gpu 0,1", "--gpu=0,1 is --platform=multi_gpu ("),
        ("train --gpus=2", "--gpus=2 is --platform=multi_gpu --num_processes=2."),
        ("branch train oneshot --prune_rate=30", "--prune_rate=30 is `lottery --pruning_fraction=0.3` ("),
        ("branch train oneshot --strategy=ERK", "here it is --strategy=random --allocation=erk ("),
        ("branch train oneshot --strategy=GraSP", "here it is --strategy=grasp10 (one weight more is kept there)."),
        ("train --lr-drops 60 120", "--lr_drops=60 120 is --milestone_steps=60ep,120ep."),
        ("train --schedule [60,120]", "ToST's --schedule=[60,120] is --milestone_steps=60ep,120ep."),
        ("train --pruner=rand", "Synaptic-Flow's --pruner=rand is --strategy=random of `branch train oneshot` ("),
        ("branch train oneshot --pruner snip", "Synaptic-Flow's --pruner=snip is --strategy=snip10 ("),
        ("branch train oneshot --prune-epochs 100", "--prune_epochs=100 is --prune_iterations=100."),
        ("branch train oneshot --mask-scope local", "--mask_scope=local is --allocation=uniform."),
        ("branch train oneshot --shuffle True", "--shuffle=True is --randomize_layerwise (does nothing there"),
        ("branch train oneshot --compression-schedule=linear", "is --prune_schedule=linear."),
        ("branch train oneshot --prune_perc=0.9", "PHEW's --prune_perc=0.9 is --prune_fraction=0.9 ("),
        ("branch train oneshot --prune_perc 97.2", "PHEW's --prune_perc=97.2 is --prune_fraction=0.972 ("),
        ("branch train oneshot --sparsity 90%", "--sparsity=90% is --prune_fraction=0.9 ("),
        ("branch train oneshot --experiment=PHEW_Res", "PHEW's --experiment=PHEW_Res is `branch train chain --strate"),
        ("branch train oneshot --ablation_experiment=Normal_Init_PHEW", "--model_init=normal_variance_01"),
        ("branch train oneshot --ablation_experiment SynFlow_LWRS", "--randomize_layerwise (layerwise random shuffle)"),
        ("branch train oneshot --model vgg16-bn", "is --default_hparams=synflow_vgg_16_bn (Synaptic-Flow) or "),
        ("branch train oneshot --model lenet", "--default_hparams takes the names that `models` lists."),
        ("branch train oneshot --expid x", "here: --expid does nothing there."),
        ("branch train oneshot --prune-train-mode", "is --strategy=synflow --score_in_train_mode ("),
        ("lottery --prune_percent=10", "ToST's --prune_percent=10 is --pruning_fraction=0.1 ("),
        ("lottery --prune_type=lt", "ToST's --prune_type=lt is --default_hparams=tost_lt_fc1 ("),
        ("train -b 128", "-b=128 is --batch_size=128."),
        ("lottery -npr 25", "There is no flag -npr here: PruningWrapper's -npr=25 is --levels=24 ("),
        ("train --dense-allocation=0.1", "rigl-torch's --dense_allocation=0.1 is --technique=rigl --start_density"),
        ("train --training_precision=bfloat16", "TurboPrune's --training_precision=bfloat16 is --precision=bf16."),
        ("branch train oneshot --strategy=mag", "--strategy: 'mag' is not a valid value; here it is --strategy=mag"),
        ("branch train oneshot --strategy=snip", "here it is --strategy=snip10 (a name has the examples of each class"),
        ("branch train oneshot --strategy=omp", "here it is `branch train lottery_rewind --strategy=magnitude` ("),
        ("branch train oneshot --strategy=l1_unstructured", "--strategy=magnitude --allocation=uniform ("),
        ("branch train oneshot --default_hparams=ResNet32", "here it is --default_hparams=phew_resnet_32"),
        ("branch train oneshot --dataset_name=tiny-imagenet", "here it is --dataset_name=tinyimagenet (Synaptic-Flow)"),
        ("sweep --grid strategy=mag --dry_run -- branch train oneshot", "here it is --strategy=magnitude."),
        ("train omp", "'omp' is here `branch train lottery_rewind --strategy=magnitude` ("),
        ("branch train omp", "'omp' is here `branch train lottery_rewind --strategy=magnitude` ("),
        ("branch train PHEW_Res", "'PHEW_Res' is here `branch train chain --strategy=phew --technique=bias_masks`."),
    ],
)  # fmt: skip
def test_a_foreign_word_is_answered_with_ours(
    arguments: str, answer: str, capsys: pytest.CaptureFixture[str], no_runs: Path
) -> None:
    assert main(arguments.split()) == 2
    message = capsys.readouterr().err

    assert answer in message
    assert "See: python open_prune.py coming-from" in message
    assert len(message.splitlines()) == 2
    assert not no_runs.exists()


def test_further_foreign_words_of_a_command_are_translated_too(
    capsys: pytest.CaptureFixture[str], no_runs: Path
) -> None:
    theirs = "--pruner synflow --compression 2 --prune-epochs 100 --post-epochs 160"
    main(["branch", "train", "oneshot", *theirs.split()])

    assert capsys.readouterr().err.splitlines()[1] == (
        "Also: Synaptic-Flow's --compression=2 is --compression=100 (an exponent there: 2 keeps 1 / 10^2; here the "
        "ratio itself); --prune_epochs=100 is --prune_iterations=100; --post_epochs=160 is --training_steps=160ep (in "
        "`singleshot`, --training_steps is the sum of both). See: python open_prune.py coming-from synaptic-flow"
    )
    assert not no_runs.exists()


@pytest.mark.parametrize("words", ["--strategy=mag", "--epochs=10", "--no_such_flag=1", "--density=2"])
def test_a_flag_of_ours_keeps_its_meaning_unless_the_code_base_is_known(
    words: str, capsys: pytest.CaptureFixture[str], no_runs: Path
) -> None:
    assert main(["branch", "train", "oneshot", "--compression=2", words]) == 2

    assert "--compression=2" not in capsys.readouterr().err
    assert not no_runs.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --learning_rte=1", "There is no flag --learning_rte here."),
        ("train --training_step=1ep", "Did you mean '--training_steps'?"),
        ("branch train oneshot --gradinit_lr=1", "It is a flag of --technique=gradinit."),
        ("ls --epochs=1", "There is no flag --epochs here.\n"),
        ("branch train oneshot --strategy=sinp", "Did you mean 'snipN'?"),
        ("train --lr=0.1 60", "'60' is not expected here; flags are written --name=value."),
        (
            "branch train oneshot --prune-bias True",
            "--prune_bias: it takes no value; write --prune_bias, or --no_prune",
        ),
    ],
)
def test_other_mistakes_are_answered_as_before(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str], no_runs: Path
) -> None:
    assert main(arguments.split()) == 2
    message = capsys.readouterr().err

    assert words in message
    assert "coming-from" not in message
    assert not no_runs.exists()


def test_coming_from_prints_the_words_of_a_code_base(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coming-from"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{base.name} " in listed for base in code_bases())
    assert main(["coming-from", "phew"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert ["--prune_perc=P", "--prune_fraction=P/100"] in [row.split()[:2] for row in rows]
    for name in ("PHEW", "phe"):
        assert main(["coming-from", name]) == 0
        assert capsys.readouterr().out.splitlines() == rows
    assert main(["coming-from", "torch"]) == 2
    assert "'torch' is not a code base." in capsys.readouterr().err
    assert main(["coming-from", "phw"]) == 2
    assert "'phw' is not a code base. Did you mean 'phew'?" in capsys.readouterr().err
