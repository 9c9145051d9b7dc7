"""Mistakes in plug-ins: told in at most four lines, which name the user's file and line and none of open_prune's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pruning.masks.mask import Mask
from tests.cli.terminal import LENET, Terminal

ONE_STEP = (*LENET, "--training_steps=1it")
PRUNE = ("branch", "train", "oneshot", "--density=0.3", "--strategy=mine", *ONE_STEP)
PRUNE10 = ("branch", "train", "oneshot", "--density=0.3", "--strategy=mine2", *ONE_STEP)
METHOD = """
from open_prune import EXAMPLES_PER_CLASS, ExamplesHparams, Method, PruningHparams
def score(scoring, hparams):
    {}
MINE = Method(spelling="mine", paper="", hparams=PruningHparams, score=score)
"""
DATASET = """
import numpy as np
from open_prune import DatasetSpec, Split
def read(files):
    {}
def split(count, shape=(1, 8, 8), kind=np.uint8):
    return Split(np.zeros((count, *shape), kind), np.arange(count) % 2, ("a", "b"), "")
MINE = DatasetSpec(spelling="mine", num_train=8, num_test=4, num_classes=2, input_shape=(1, 8, 8), mean=(0.5,),
                   std=(0.3,), read=read, origin="")
"""
TRAIN_ON = ("train", *ONE_STEP, "--dataset_name=mine", "--batch_size=8")
FAMILY = """
from open_prune import Family
def build(spec):
    from torch import nn
    {}
MINE = Family(spelling="mine", builder=build, source="", options=frozenset(), batchnorm=False)
"""
TRAIN = ("train", "--model_name=mine", "--dataset_name=digits", "--training_steps=1it")
TECHNIQUE = """
from open_prune import Hooks, Technique, TechniqueHparams
class Mine(Hooks):
    def {}
MINE = Technique(spelling="mine", summary="", hooks=Mine)
"""
TRAIN_WITH = ("train", "--technique=mine", *ONE_STEP)
DECLARED = "from open_prune import *\nimport open_prune\n{}\n"
MISTAKES: dict[str, tuple[str, tuple[str, ...], int, str]] = {
    # When the file is loaded.
    "a method with examples and no number": (
        "from open_prune import ExamplesHparams, Method\n"
        "MINE = Method(spelling='mine', paper='', hparams=ExamplesHparams, score=lambda s, h: {})\n",
        ("ls",),
        2,
        "mine.py, line 2: 'mine', a Method: it scores with examples, so its names must say how many",
    ),
    "a method without a score": (
        "from open_prune import Method, PruningHparams\n"
        "MINE = Method(spelling='mine', paper='', hparams=PruningHparams)",
        ("ls",),
        2,
        "line 2: 'mine', a Method: give it either a score or, if it is constructive, build_mask",
    ),
    "a score of one argument": (
        METHOD.replace("scoring, hparams", "scoring").format("return {}"),
        ("ls",),
        2,
        "line 5: 'mine', a Method: score is called with 2 arguments; score(scoring) does not take them.",
    ),
    "a direction that is none": (
        METHOD.format("return {}").replace('paper=""', 'paper="", prune_direction="low"'),
        ("ls",),
        2,
        "line 5: 'mine', a Method: prune_direction is 'low'; it must be Direction",
    ),
    "options without @dataclass": (
        "from open_prune import Method, PruningHparams, hparam\n"
        "class Mine(PruningHparams):\n    power: float = hparam(1.0)\n"
        "MINE = Method(spelling='mine', paper='', hparams=Mine, score=lambda s, h: {})\n",
        ("ls",),
        2,
        "line 4: 'mine', a Method: Mine needs @dataclass(frozen=True, kw_only=True) above it.",
    ),
    "constants of other channels": (
        DATASET.replace("mean=(0.5,)", "mean=(0.5, 0.5, 0.5)").format("return {}"),
        ("ls",),
        2,
        "'mine', a DatasetSpec: mean has 3 numbers, for images of 1 channels.",
    ),
    "a shape as two numbers": (
        DATASET.replace("input_shape=(1, 8, 8)", "input_shape=(8, 8)").format("return {}"),
        ("ls",),
        2,
        "'mine', a DatasetSpec: input_shape is (8, 8); it must be (channels, height, width), of 1 or more.",
    ),
    "hooks that are an object": (
        TECHNIQUE.format("after_step(self, step): ...").replace("hooks=Mine", "hooks='Mine'"),
        ("ls",),
        2,
        "'mine', a Technique: hooks is 'Mine'; it must be Callable",
    ),
    "entries in a list": (
        "from open_prune import Method, PruningHparams\n"
        "ALL = [Method(spelling='mine', paper='', hparams=PruningHparams, score=lambda s, h: {})]",
        ("ls",),
        2,
        "line 2: 'mine' is only in 'ALL'; give it a name of its own.",
    ),
    # When it is called.
    "a score that returns nothing": (
        METHOD.format("pass"),
        PRUNE,
        2,
        "mine.py, line 3: score, of 'mine', returned nothing (None); it must return a dict of tensors by name.",
    ),
    "missing tensors": (
        METHOD.format("return dict(list(scoring.weights.items())[1:])"),
        PRUNE,
        2,
        "line 3: score, of 'mine', returned nothing for 'fc.weight' (1 of 2).",
    ),
    "a misshapen tensor": (
        METHOD.format("return {n: w.sum(0) for n, w in scoring.weights.items()}"),
        PRUNE,
        2,
        "line 3: score, of 'mine', returned, for 'fc.weight', a tensor of shape (16,); the weights are of (10, 16).",
    ),
    "extra names": (
        METHOD.format("return {**scoring.weights, 'x': 1}"),
        PRUNE,
        2,
        "line 3: score, of 'mine', returned something for 'x', which it was not asked about.",
    ),
    "NaN": (
        METHOD.format("return {n: w / 0 * 0 for n, w in scoring.weights.items()}"),
        PRUNE,
        2,
        "line 3: score, of 'mine', returned, for 'fc.weight', NaN for 160 of 160 kept weights.",
    ),
    "complex scores": (
        METHOD.format("return {n: w * 1j for n, w in scoring.weights.items()}"),
        PRUNE,
        2,
        "scores that are torch.complex64; they must be real numbers.",
    ),
    "numbers in place of tensors": (
        METHOD.format("return {n: 1.0 for n in scoring.weights}"),
        PRUNE,
        2,
        "returned, for 'fc.weight', a float, not a tensor.",
    ),
    "examples that are asked for without a number": (
        METHOD.format("return scoring.gradient()"),
        PRUNE,
        2,
        "line 3: score, of 'mine', asks for scoring examples, and there are none",
    ),
    "an error in a score": (
        METHOD.format("return scoring.weights['x']"),
        PRUNE,
        1,
        "mine.py, line 4: KeyError: 'x'",
    ),
    "an error in what a score calls": (
        METHOD.format("return scoring.gradient_of('x')"),
        PRUNE,
        1,
        "mine.py, line 4: ",
    ),
    "an allocation of wrong sums": (
        "from open_prune import Allocation\ndef spread(shapes, room, keep):\n    return {name: 1 for name in shapes}\n"
        "MINE = Allocation(spelling='mine', summary='', kept_per_layer=spread)\n",
        ("branch", "train", "oneshot", "--allocation=mine", *ONE_STEP),
        2,
        "mine.py, line 2: spread, of 'mine', returned numbers that add up to 2, not to",
    ),
    "a schedule that rises": (
        "from open_prune import Schedule\ndef left(start, target, done, of):\n    return start + done\n"
        "MINE = Schedule(spelling='mine', summary='', kept_after=left)\n",
        (
            "branch",
            "train",
            "oneshot",
            "--strategy=synflow",
            "--prune_schedule=mine",
            "--prune_iterations=3",
            *ONE_STEP,
        ),
        2,
        "line 2: left, of 'mine', returned",
    ),
    "a dataset that reads nothing": (
        DATASET.format("pass"),
        TRAIN_ON,
        2,
        "line 4: read, of 'mine', returned nothing (None); it must return {'train': ..., 'test': ...}.",
    ),
    "a dataset of other images than it declares": (
        DATASET.format("return {'train': split(8), 'test': split(4, (3, 8, 8))}"),
        TRAIN_ON,
        2,
        "returned, as 'test', images of shape (4, 3, 8, 8); by its declaration they are (4, 1, 8, 8).",
    ),
    "a dataset of ragged labels": (
        DATASET.format("return {'train': Split(split(8).images, [[1], [2, 3]], ('a', 'b'), ''), 'test': split(4)}"),
        TRAIN_ON,
        2,
        "line 4: read, of 'mine', returned, as 'train', labels that are a list; they must be a numpy array.",
    ),
    "a dataset of floats": (
        DATASET.format("return {'train': split(8, kind=float), 'test': split(4)}"),
        TRAIN_ON,
        2,
        "returned, as 'train', images of dtype float64; they must be uint8.",
    ),
    "a dataset of another shape than the family takes": (
        DATASET.format("return {'train': split(8), 'test': split(4)}"),
        ("train", "--model_name=cifar_vgg_11", "--dataset_name=mine", "--training_steps=1it"),
        2,
        "--model_name, --dataset_name: cifar_vgg_11 cannot run on the images of mine, 1 x 8 x 8: ",
    ),
    "a family whose depth is a word": (
        FAMILY.replace('spelling="mine"', r'spelling="mine_D", pattern=r"mine_(?P<depth>\w+)"').format("..."),
        ("train", "--model_name=mine_deep", *TRAIN[2:]),
        2,
        "--model_name: 'mine_deep' is not a valid value; the depth of mine_D is a number.",
    ),
    "a family that takes another shape": (
        FAMILY.format("return nn.Sequential(nn.Flatten(), nn.Linear(3072, spec.outputs))"),
        TRAIN,
        2,
        "mine.py, line 3: mine cannot run on the images of digits, 1 x 8 x 8: ",
    ),
    "a family that builds nothing": (
        FAMILY.format("nn.Linear(64, 10)"),
        TRAIN,
        2,
        "line 3: build, of 'mine', returned nothing (None); it must return an nn.Module.",
    ),
    "a family of other outputs": (
        FAMILY.format("return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))"),
        TRAIN,
        2,
        "built a network that returns float32 (2, 7), not float (2, 10)",
    ),
    "a family with a lazy layer": (
        FAMILY.format("return nn.Sequential(nn.Flatten(), nn.LazyLinear(spec.outputs))"),
        TRAIN,
        2,
        "line 3: build, of 'mine', returned a network without a size for 1.weight; lazy layers have none.",
    ),
    "a family without weights": (
        FAMILY.format("return nn.Sequential(nn.Flatten(), nn.LayerNorm(64))"),
        TRAIN,
        2,
        "line 3: build, of 'mine', returned a network without weights, such as those of nn.Linear layers.",
    ),
    "an initializer that returns a tensor": (
        "from models.initializers import WeightInit\n"
        "MINE = WeightInit(spelling='mine', fill=lambda weight: weight * 0.1)\n",
        ("train", "--model_init=mine", *ONE_STEP),
        2,
        "line 2: <lambda>, of 'mine', returned a new tensor; it must fill the one that it is given, in place.",
    ),
    "a loss that returns nothing": (
        TECHNIQUE.format("loss(self, value, logits, labels): value * 2"),
        TRAIN_WITH,
        2,
        "mine.py, line 4: loss, of 'mine', returned nothing (None); it must return the loss",
    ),
    "a choice that returns nothing": (
        TECHNIQUE.format("after_backward(self, step): ..."),
        TRAIN_WITH,
        2,
        "after_backward, of 'mine', returned nothing (None); it must return whether to skip",
    ),
    "a hook of no arguments": (
        TECHNIQUE.format("after_step(self): ..."),
        TRAIN_WITH,
        2,
        "mine.py, line 4: after_step, of 'mine', is called with 1 argument after self, and does not take them.",
    ),
    "a hook of another name": (
        TECHNIQUE.format("on_step(self, step): ..."),
        TRAIN_WITH,
        2,
        "mine.py, line 3: Mine, of 'mine', has none of the hooks before_mask, prepare,",
    ),
    "a mask that is not declared to change": (
        TECHNIQUE.format("after_step(self, step):\n        self.training.set_mask(None)"),
        TRAIN_WITH,
        2,
        "mine.py, line 5: the technique 'mine' calls set_mask; declare it with changes_mask=True, so that runs keep",
    ),
    "a mask that is prepared and not declared to change": (
        TECHNIQUE.format("prepare(self): change(self.training)")
        + "def change(training):\n    training.set_mask(training.mask)\n",
        TRAIN_WITH,
        2,
        "mine.py, line 7: the technique 'mine' calls set_mask; declare it",
    ),
    "a mask that is assigned": (
        TECHNIQUE.replace("hooks=", "changes_mask=True, hooks=").format("prepare(self): self.training.mask = None"),
        TRAIN_WITH,
        2,
        "mine.py, line 4: the technique 'mine' assigns to training.mask, which changes nothing; call",
    ),
    "a builtin that builds": (
        FAMILY.replace("builder=build", "builder=len").format("..."),
        TRAIN,
        2,
        "mine.py, line 6: 'mine': len, its builder, failed: TypeError: object of type 'NetworkSpec' has no len()",
    ),
    "a class of Python's that builds": (
        FAMILY.replace("builder=build", "builder=dict").format("..."),
        TRAIN,
        2,
        "mine.py, line 6: 'mine': dict, its builder, failed: TypeError: ",
    ),
    "a builtin that scores": (
        METHOD.replace("score=score", "score=divmod").format("..."),
        PRUNE,
        2,
        "mine.py, line 5: 'mine': divmod, its score, failed: TypeError: ",
    ),
    "a builtin that reads": (
        DATASET.replace("read=read", "read=max").format("..."),
        TRAIN_ON,
        2,
        "'mine': max, its read, failed: ",
    ),
    "a builtin with the hooks": (
        TECHNIQUE.format("x(self): ...").replace("hooks=Mine", "hooks=isinstance"),
        TRAIN_WITH,
        2,
        "mine.py, line 5: 'mine': isinstance, its hooks, failed: TypeError: ",
    ),
    "an option of a technique with the name of another flag": (
        "from dataclasses import dataclass\nfrom open_prune import Hooks, Technique, TechniqueHparams, hparam\n"
        "@dataclass(frozen=True, kw_only=True)\nclass MineHparams(TechniqueHparams):\n    batch_size: int = hparam(1)\n"
        "MINE = Technique(spelling='mine', summary='', hparams=MineHparams, hooks=Hooks)\n",
        ("ls",),
        2,
        "mine.py, line 3: 'batch_size' of MineHparams: this is a flag of 'The dataset, its batches,",
    ),
    "an option of a measure with the name of another flag": (
        "from dataclasses import dataclass\nfrom open_prune import hparam\n"
        "from foundations.description.hparams import Hparams\n"
        "from analysis.measures.measure import Measure\n"
        "@dataclass(frozen=True, kw_only=True)\nclass MineHparams(Hparams):\n    root: str = hparam('')\n"
        "MINE = Measure(spelling='mine', takes='a run', summary='', options=MineHparams, compute=lambda a, b: {})\n",
        ("ls",),
        2,
        "mine.py, line",
    ),
    "hooks that are not Hooks": (
        TECHNIQUE.format("x(self): ...").replace("hooks=Mine", "hooks=lambda training, hparams: None"),
        TRAIN_WITH,
        2,
        "returned nothing (None); it must return a Hooks.",
    ),
    "an exit in a score": (
        METHOD.format("raise SystemExit(3)"),
        PRUNE,
        1,
        "mine.py, line 4: SystemExit: 3",
    ),
    "a name that is taken": (
        METHOD.format("return scoring.weights").replace("'mine'", "'magnitude'").replace('"mine"', '"magnitude"'),
        ("branch", "train", "oneshot", "--strategy=magnitude", *ONE_STEP),
        2,
        "mine.py declares 'magnitude', but 'magnitude' is already a name of 'magnitude'; choose another name.",
    ),
    "a declaration inside a function": (
        "from open_prune import *\ndef declare():\n    return Method(spelling='mine')\n",
        PRUNE,
        2,
        "mine.py declares nothing, such as a Method",
    ),
    "points that are a number": (
        "from matplotlib.figure import Figure\nfrom open_prune import DrawnFigure, FigureKind\n"
        "MINE = FigureKind(spelling='mine', summary='', draw=lambda rows, options: DrawnFigure(Figure(), 3))\n",
        ("plot", "mine"),
        2,
        "line 3: <lambda>, of 'mine', returned points that are not a tuple of dictionaries.",
    ),
    "notes that are one text": (
        "from matplotlib.figure import Figure\nfrom open_prune import DrawnFigure, FigureKind\n"
        "MINE = FigureKind(spelling='mine', summary='', draw=lambda rows, options: DrawnFigure(Figure(), (), 'no'))\n",
        ("plot", "mine"),
        2,
        "line 3: <lambda>, of 'mine', returned notes that are not a tuple of texts.",
    ),
    "a measure of two runs that takes one": (
        "from open_prune import Measure\ndef mine(measuring, options, run): ...\n"
        "MINE = Measure(spelling='mine', takes='two runs', summary='', compute=mine)\n",
        ("ls",),
        2,
        "line 3: 'mine', a Measure: compute is called with 4 arguments; mine(measuring, options, run) does not take",
    ),
    "a measure of several runs that takes two": (
        "from open_prune import Measure\ndef mine(measuring, options, one, two): ...\n"
        "MINE = Measure(spelling='mine', takes='several runs', summary='', compute=mine)\n",
        ("ls",),
        2,
        "line 3: 'mine', a Measure: compute is called with 5 arguments;",
    ),
    "a logger that does not take the group of its name": (
        "from open_prune import Logger\ndef mine(run): ...\n"
        "MINE = Logger(spelling='mine', pattern='mine(?P<place>.*)', begin=mine, shows='')\n",
        ("ls",),
        2,
        "line 3: 'mine', a Logger: begin is called with 1 argument and by name place; mine(run) does not take them.",
    ),
    "values of a preset that are a list": (
        "from open_prune import preset\nMINE = preset('mine', 'Help.', [('reinitialize', True)])\n",
        ("ls",),
        2,
        "mine.py, line 2: UsageError: values are a list; give a dict by flag, or a function that returns one.",
    ),
    "values of a preset by a function of two arguments": (
        "from open_prune import preset\nMINE = preset('mine', 'Help.', lambda parent, pruning: {})\n",
        ("ls",),
        2,
        "mine.py, line 2: UsageError: values is called with 3 arguments; <lambda>(parent, pruning) does not take them.",
    ),
    "a flag of a preset that is a number": (
        "from open_prune import preset\nMINE = preset('mine', 'Help.', lambda parent, pruning, flags: {1: 2})\n",
        ("branch", "train", "mine", *ONE_STEP),
        2,
        "--1: the preset mine sets this, but oneshot has no such flag.",
    ),
    "an error in a hook": (
        TECHNIQUE.format("before_step(self, step): raise ValueError('one\\n two\\n three\\n four\\n five')"),
        TRAIN_WITH,
        1,
        "mine.py, line 4: ValueError: one",
    ),
    "a branch that describes nothing": (
        "from open_prune import Branch\nfrom branches.named.branch import SeedFlags\n"
        "def mine(parent, pruning, flags):\n"
        "    '''Nothing.'''\nMINE = Branch(spelling='mine', describe=mine, flags=SeedFlags)\n",
        ("branch", "train", "mine", *ONE_STEP),
        2,
        "line 3: mine, of 'mine', returned nothing (None); it must return a Desc.",
    ),
    "a recipe of an unknown hyperparameter": (
        "from open_prune import Recipe\n"
        "MINE = Recipe(spelling='mine', source='', model='cifar_resnet_8', hparams={'learning_rate': 1})\n",
        ("train", "--default_hparams=mine", "--dry_run"),
        2,
        "line 2: the recipe 'mine' sets learning_rate, which is not a hyperparameter.",
    ),
    "a platform that makes nothing": (
        "from platforms.platform import PlatformKind\n"
        "MINE = PlatformKind(spelling='mine', make=lambda h: None, runs='')\n",
        ("train", "--platform=mine", *ONE_STEP),
        2,
        "line 2: <lambda>, of 'mine', returned nothing (None); it must return a Platform.",
    ),
    "a figure that draws nothing": (
        "from analysis.figures.figure import FigureKind\n"
        "MINE = FigureKind(spelling='mine', summary='', draw=lambda rows, options: None)\n",
        ("plot", "mine"),
        2,
        "line 2: <lambda>, of 'mine', returned nothing (None); it must return a DrawnFigure.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_the_users_file_and_line_alone(tmp_path: Path, digits: Path, name: str) -> None:
    source, command, code, words = MISTAKES[name]
    (tmp_path / "mine.py").write_text(source)
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    (datasets / "digits").symlink_to(digits / "digits")

    result = Terminal(tmp_path / "root", datasets).run(*command, f"--plugin={tmp_path / 'mine.py'}")

    assert result.code == code, result.out + result.err
    assert words in result.err, result.err
    said = [line for line in result.err.strip().splitlines() if "warning" not in line.lower()]
    assert 1 <= len(said) <= 4, result.err
    assert str(tmp_path / "mine.py") in result.err or "--model_name" in result.err
    assert "Traceback" not in result.err


def test_an_error_in_a_helper_of_a_plug_in_names_the_helper(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "helper_of_mine.py").write_text("def share(x):\n    return x / 0\n")
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport helper_of_mine\n"
        + METHOD.format("return helper_of_mine.share(1)")
    )

    result = terminal.run(*PRUNE, f"--plugin={tmp_path / 'mine.py'}")

    assert f"{tmp_path}/helper_of_mine.py, line 2: ZeroDivisionError: division by zero" in result.err


def test_the_whole_traceback_is_printed_where_it_is_asked_for(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format("return scoring.weights['x']"))
    terminal.environment["OPEN_PRUNE_TRACEBACK"] = "1"

    result = terminal.run(*PRUNE, f"--plugin={tmp_path / 'mine.py'}")

    assert "Traceback (most recent call last)" in result.err
    assert "compute_mask.py" in result.err
    assert result.err.strip().endswith("mine.py, line 4: KeyError: 'x'")


def test_a_logger_that_fails_is_named_by_its_line_and_the_run_goes_on(terminal: Terminal, tmp_path: Path) -> None:
    source = "from open_prune import Logger\ndef begin(run):\n    return run.nothing\n"
    (tmp_path / "mine.py").write_text(f"{source}MINE = Logger(spelling='mine', begin=begin, shows='')\n")

    result = terminal.run("train", *ONE_STEP, "--log=mine", f"--plugin={tmp_path / 'mine.py'}")

    assert result.code == 0
    assert f"{tmp_path / 'mine.py'}, line 3: 'LoggedRun' object has no attribute 'nothing'" in result.out + result.err


@pytest.mark.parametrize(
    "returned",
    [
        "w.detach().abs().numpy()",
        "np.asfortranarray(w.detach().abs().numpy())",
        "w.detach().abs().numpy().astype('>f8')",
    ],
)
def test_scores_may_be_arrays_of_numpy(terminal: Terminal, tmp_path: Path, returned: str) -> None:
    body = f"import numpy as np; return {{n: {returned} for n, w in scoring.weights.items()}}"
    (tmp_path / "mine.py").write_text(METHOD.format(body))

    ours = terminal.run("branch", "train", "oneshot", "--density=0.3", "--strategy=magnitude", *ONE_STEP)
    theirs = terminal.run(*PRUNE, f"--plugin={tmp_path / 'mine.py'}")

    assert theirs.code == 0, theirs.err
    masks = [Mask.load(path) for path in (tmp_path / "root").rglob("branch_*/mask.safetensors")]
    assert (ours.code, len(masks)) == (0, 2)
    assert masks[0] == masks[1]


def test_counts_may_be_integers_of_numpy(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom open_prune import Allocation, Schedule\n"
        "def spread(shapes, room, keep):\n    first, *rest = room\n    half = np.int64(keep // 2)\n"
        "    return {first: keep - half, rest[0]: half}\n"
        "MINE = Allocation(spelling='halves', summary='', kept_per_layer=spread)\n"
        "LATE = Schedule(spelling='late', summary='', kept_after=lambda a, b, i, n: np.int64(b if i == n else a))\n"
    )

    result = terminal.run(
        *("branch", "train", "oneshot", "--density=0.1", "--strategy=synflow", "--prune_iterations=2", *ONE_STEP),
        *("--allocation=halves", "--prune_schedule=late", f"--plugin={tmp_path / 'mine.py'}"),
    )

    assert result.code == 0, result.err


DECLARED_CASUALLY: dict[str, tuple[str, tuple[str, ...]]] = {
    "labels in a list": (
        DATASET.format(
            "s = lambda n: Split(split(n).images, [i % 2 for i in range(n)], ['a', 'b'], '')\n"
            "    return {'train': s(8), 'test': s(4)}"
        ),
        TRAIN_ON,
    ),
    "labels of bytes": (
        DATASET.format(
            "s = lambda n: Split(split(n).images, split(n).labels.astype(np.uint8), ('a', 'b'), '')\n"
            "    return {'train': s(8), 'test': s(4)}"
        ),
        TRAIN_ON,
    ),
    "tensors": (
        DATASET.format(
            "from torch import as_tensor as t\n"
            "    s = lambda n: Split(t(split(n).images), t(split(n).labels), ('a', 'b'), '')\n"
            "    return {'train': s(8), 'test': s(4)}"
        ),
        TRAIN_ON,
    ),
    "lists for tuples": (
        DATASET.format("return {'train': split(8), 'test': split(4)}")
        .replace("input_shape=(1, 8, 8)", "input_shape=[1, 8, 8]")
        .replace("mean=(0.5,)", "mean=[0.5]"),
        TRAIN_ON,
    ),
    "a set for a frozenset": (
        FAMILY.replace("options=frozenset()", "options=set()").format(
            "return nn.Sequential(nn.Flatten(), nn.Linear(64, spec.outputs))"
        ),
        TRAIN,
    ),
    "a name with any depth": (
        FAMILY.replace('spelling="mine"', r'spelling="mine_D", pattern=r"mine_(?P<depth>\d+)"').format(
            "return nn.Sequential(nn.Flatten(), nn.Linear(64, spec.depth), nn.Linear(spec.depth, spec.outputs))"
        ),
        ("train", "--model_name=mine_7", *TRAIN[2:]),
    ),
    "a bool of numpy": (
        TECHNIQUE.format("after_backward(self, step):\n        import numpy as np\n        return np.bool_(False)"),
        TRAIN_WITH,
    ),
}
"""Plug-ins whose values have other types than the declarations ask for, and a job of each."""


@pytest.mark.parametrize("name", DECLARED_CASUALLY)
def test_types_that_mean_the_same_are_taken(tmp_path: Path, digits: Path, name: str) -> None:
    source, command = DECLARED_CASUALLY[name]
    (tmp_path / "mine.py").write_text(source)
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    (datasets / "digits").symlink_to(digits / "digits")

    result = Terminal(tmp_path / "root", datasets).run(*command, f"--plugin={tmp_path / 'mine.py'}")

    assert result.code == 0, result.err


@pytest.mark.parametrize("given", ["--mine_bias=False", "--mine_bias=0"])
def test_a_switch_of_a_plug_in_that_is_given_a_value_is_answered(
    terminal: Terminal, tmp_path: Path, given: str
) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom open_prune import *\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Own(ModelHparams):\n    mine_bias: bool = hparam(True)\n"
        "MINE = Family(spelling='mine', builder=print, source='', options=frozenset(), batchnorm=False, hparams=Own)\n"
    )

    result = terminal.run(*TRAIN, given, "--dry_run", f"--plugin={tmp_path / 'mine.py'}")

    assert "--mine_bias: it takes no value; write --mine_bias, or --no_mine_bias for the opposite." in result.err


def test_a_measure_may_return_numbers_of_numpy_and_torch(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np, torch\nfrom open_prune import *\n"
        "def compute(measuring, options, run):\n"
        "    table = {'layer': ('a', 'b'), 'size': np.float32([1, 2]), 'ratio': torch.tensor([3, 4]) / 8}\n"
        "    return Measured({'mean': np.float32(0.5), 'count': torch.tensor(3)}, table)\n"
        "MINE = Measure(spelling='mine', summary='', options=StepOptions, compute=compute)\n"
    )
    assert terminal.run("train", *ONE_STEP).code == 0

    result = terminal.run("measure", "mine", "train", "--json", f"--plugin={tmp_path / 'mine.py'}")

    assert result.code == 0, result.err
    [found] = json.loads(result.out)
    assert found["values"] == {"mean": 0.5, "count": 3}
    assert found["table"] == {"layer": ["a", "b"], "size": [1, 2], "ratio": [0.375, 0.5]}
