"""Differences between runs are named exactly, each once: pairs of runs of all kinds that differ on purpose."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from analysis.compare.described import Described
from analysis.compare.differences import VERSION, differences, differences_in_computing
from analysis.compare.nearest import nearest
from benchmarks.made_runs import make_complete
from branches.desc import BranchDesc, BranchHparams
from branches.imported.imported_run import ImportDesc, OriginHparams
from branches.lottery.lottery import Lottery, LotteryHparams
from branches.named.oneshot import OneshotFlags, oneshot
from branches.named.retrain import RetrainFlags, retrain
from foundations.description.address import digest
from foundations.description.desc import Desc, MaskOf, RunRef
from foundations.storage import sealed_json
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.store import all_runs
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.recipes import recipe

DIGITS = recipe("digits_lenet_16")


def train(**values: Any) -> TrainDesc:
    return TrainDesc.of({**DIGITS, **values})


def prune(main: Desc | None = None, **values: Any) -> BranchDesc:
    values = {"strategy": "magnitude", **({} if "density" in values else {"prune_fraction": 0.5}), **values}
    return oneshot(RunRef(main or train()), PruningHparams.of(values), OneshotFlags.of(values))


def level(number: int, strategy: str = "magnitude", **values: Any) -> Desc:
    lottery = Lottery(train(**values), PruningHparams.of({"strategy": strategy}), LotteryHparams(rewinding_steps="4it"))
    return dict(lottery.levels(number))[number]


def imported(content: str, **values: Any) -> ImportDesc:
    plain = train(**values)
    origin = OriginHparams(content=content * 64)
    return ImportDesc(dataset=plain.dataset, model=plain.model, training=plain.training, origin=origin)


def retrained(lr: float, main: TrainDesc) -> BranchDesc:
    return retrain(RunRef(main), PruningHparams(), RetrainFlags(retrain_lr=lr))


def masked_by(run: Desc) -> BranchDesc:
    """Return a branch that trains with the mask of another run."""
    return BranchDesc(main=train(), mask=MaskOf(RunRef(run)), branch=BranchHparams(reinitialize=True))


RIGL = {"technique": "rigl", "start_density": 0.1, "mask_update_frequency": "20it"}

PAIRS: dict[str, tuple[Desc, Desc, set[str]]] = {
    "the learning rate": (train(lr=0.1), train(lr=0.2), {"lr"}),
    "two hyperparameters": (
        train(lr=0.1, weight_decay=1e-4),
        train(lr=0.2, weight_decay=5e-4),
        {"lr", "weight_decay"},
    ),
    "the batch size alone, at the same epochs": (train(batch_size=64), train(batch_size=128), {"batch_size"}),
    "the length": (train(training_steps="3ep"), train(training_steps="5ep"), {"training_steps"}),
    "the seed of the data order": (train(data_order_seed=1), train(data_order_seed=2), {"data_order_seed"}),
    "a seed that is given or not": (train(), train(data_order_seed=2), {"data_order_seed"}),
    "precision": (train(), train(precision="bf16"), {"precision"}),
    "the network": (train(), train(model_name="digits_lenet_32"), {"model_name"}),
    "the initialization": (train(), train(model_init="kaiming_uniform"), {"model_init"}),
    "held out examples": (
        train(training_steps="60it"),
        train(training_steps="60it", validation_examples=100),
        {"validation_examples"},
    ),
    "the dataset": (
        train(model_name="cifar_vgg_16", dataset_name="cifar10", training_steps="9it"),
        train(model_name="cifar_vgg_16", dataset_name="cifar100", training_steps="9it"),
        {"dataset_name"},
    ),
    "the strategy": (prune(strategy="random"), prune(strategy="magnitude"), {"strategy"}),
    "the examples of a strategy": (prune(strategy="snip1"), prune(strategy="snip10"), {"strategy"}),
    "the level": (prune(prune_fraction=0.5), prune(density=0.2), {"prune_fraction"}),
    "the allocation and the iterations": (
        prune(strategy="snip1"),
        prune(strategy="snip1", allocation="erk", prune_iterations=10),
        {"allocation", "prune_iterations"},
    ),
    "a control": (prune(), prune(randomize_layerwise=True), {"randomize_layerwise"}),
    "the seed of a branch": (
        prune(strategy="random", seed=1),
        prune(strategy="random", seed=2),
        {"seed"},
    ),
    "the step that is rewound to": (prune(state_step="10it"), prune(state_step="20it"), {"state_step"}),
    "the step that is scored": (prune(prune_step="10it"), prune(prune_step="20it"), {"prune_step"}),
    "branches of different trainings": (prune(train(lr=0.1)), prune(train(lr=0.2)), {"lr"}),
    "other retraining of one training": (retrained(0.03, train()), retrained(0.05, train()), {"lr"}),
    "equal retraining of different trainings": (
        retrained(0.03, train(lr=0.1)),
        retrained(0.03, train(lr=0.2)),
        {"main.lr"},
    ),
    "a branch that starts from the mask of another one": (
        prune(),
        prune(mask_experiment=RunRef(prune(prune_fraction=0.2))),
        {"mask_experiment"},
    ),
    "the run whose mask is taken": (
        masked_by(prune(strategy="random")),
        masked_by(prune(strategy="magnitude")),
        {"mask_experiment", "mask_experiment.strategy"},
    ),
    "the replicate that is drawn on": (
        BranchDesc(main=train(), mask=MaskOf(RunRef(prune(), 1)), branch=BranchHparams(reinitialize=True)),
        BranchDesc(main=train(), mask=MaskOf(RunRef(prune(), 2)), branch=BranchHparams(reinitialize=True)),
        {"mask_experiment"},
    ),
    "levels of one lottery": (level(2), level(3), {"prune_fraction", "mask_experiment"}),
    "one level of lotteries by other strategies": (level(3), level(3, "random"), {"strategy"}),
    "one level of lotteries of other trainings": (level(3), level(3, lr=0.2), {"lr"}),
    "a technique": (
        train(),
        train(**RIGL),
        {"technique", "start_density", "mask_update_frequency", "mask_update_end"},
    ),
    "an option of a technique": (train(**RIGL), train(**{**RIGL, "start_density": 0.2}), {"start_density"}),
    "a training and its branch": (train(), prune(), {"kind", "strategy", "prune_fraction"}),
    "a training and an import": (train(), imported("a"), {"kind", "content"}),
    "what was imported": (imported("a"), imported("b"), {"content"}),
    "branches of a training and of an import": (
        prune(train()),
        prune(imported("a")),
        {"content", "main.kind"},
    ),
}


def names_between(root: Path, *descs: Desc) -> set[str]:
    """Return the names of the differences between runs under a root."""
    stored = [Described.stored(Run(root, desc.location(1))) for desc in descs]
    return {each.name for each in differences(stored)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the runs of all pairs and their ancestors."""
    folder = tmp_path_factory.mktemp("pairs")
    made: dict[str, Desc] = {}
    waiting: list[Desc] = [desc for one, other, _ in PAIRS.values() for desc in (one, other)]
    while waiting:
        desc = waiting.pop()
        if made.setdefault(str(desc.location(1)), desc) is desc:
            waiting += [source.run.desc for source in desc.sources().values()]
    make_complete(made.values(), folder)
    return folder


@pytest.mark.parametrize("what", PAIRS)
def test_just_what_two_runs_differ_in_is_named(root: Path, what: str) -> None:
    one, other, expected = PAIRS[what]

    assert names_between(root, one, other) == expected
    assert names_between(root, other, one) == expected
    assert names_between(root, one, one) == set()


@pytest.mark.parametrize("what", PAIRS)
def test_a_run_that_is_asked_for_differs_from_another_one_as_if_it_were_there(root: Path, what: str) -> None:
    one, other, expected = PAIRS[what]

    found = differences([Described.stored(Run(root, one.location(1))), Described.asked(other, 1)])

    assert {each.name for each in found} == expected


def test_the_values_stand_in_the_order_of_the_runs(root: Path) -> None:
    descs = [train(lr=0.1), train(lr=0.2), prune()]

    found = differences([Described.stored(Run(root, desc.location(1))) for desc in descs])

    values = {each.name: each.values for each in found}
    assert values["lr"] == (0.1, 0.2, 0.1)
    assert values["strategy"] == (None, None, "magnitude")
    assert values["kind"] == ("train", "train", "oneshot")


def test_replicates_differ_in_the_replicate(root: Path) -> None:
    found = differences([Described.stored(Run(root, train().location(1))), Described.asked(train(), 2)])

    assert [(each.name, each.values) for each in found] == [("replicate", (1, 2))]


VALUES: dict[str, list[Any]] = {
    "lr": [0.1, 0.01, 0.3],
    "batch_size": [64, 128],
    "momentum": [0.0, 0.5],
    "data_order_seed": [None, 0, 1],
    "label_smoothing": [0.0, 0.1],
    "strategy": ["snip1", "synflow", "snip2"],
    "prune_fraction": [0.5, 0.25],
    "allocation": ["global", "erk"],
    "prune_iterations": [1, 3],
    "randomize_layerwise": [False, True],
    "layers_to_ignore": [None, "fc.weight"],
}
COMBINATIONS = some.fixed_dictionaries({name: some.sampled_from(values) for name, values in VALUES.items()})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(one=COMBINATIONS, other=COMBINATIONS)
def test_of_any_combination_of_hyperparameters_those_are_named_that_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    descs = [prune(train(**values), **values) for values in (one, other)]

    found = differences([Described.asked(desc, 1) for desc in descs])

    assert {each.name for each in found} == {name for name in VALUES if one[name] != other[name]}


def with_record(root: Path, desc: Desc, **changes: Any) -> Run:
    """Make a run that stores another canonical form of its description, like an earlier program."""
    record = json.loads(json.dumps(desc.record()))
    record["canonical"] |= changes.pop("canonical", {})
    record |= changes
    record["digest"] = digest(record["kind"], record["canonical"])
    location = desc.location(1)
    folder = location.under(root).with_name(f"branch_{record['kind']}_{record['digest']}")
    folder.mkdir(parents=True)
    (folder / "description.json").write_bytes(sealed_json.to_bytes(record))
    return next(run for run in all_runs(root) if run.folder == folder)


def test_the_version_of_a_method_is_named_where_nothing_else_differs(tmp_path: Path) -> None:
    desc = prune(strategy="snip1")
    raised = {**desc.record()["canonical"]["pruning"], "strategy_version": 7}
    run = with_record(tmp_path, desc, canonical={"pruning": raised})

    (found,) = differences([Described.stored(run), Described.asked(desc, 1)])

    assert (found.name, found.kind, found.values) == ("strategy_version", VERSION, (7, 1))


def test_an_edited_plugin_is_named_and_one_that_a_run_does_not_use_is_not(tmp_path: Path) -> None:
    desc = prune()
    plugins = [{"mine": {"path": "/mine.py", "sha256": letter * 64}} for letter in "ab"]
    runs = [
        with_record(tmp_path, desc, canonical={"plugins": {"mine": each["mine"]["sha256"]}}, plugins=each)
        for each in plugins
    ]

    (found,) = differences([Described.stored(run) for run in runs])
    others = differences([Described.stored(runs[0]), Described.asked(prune(strategy="random"), 1)])

    assert (found.name, found.kind, found.values) == ("mine", "plug-in", ("a" * 64, "b" * 64))
    assert [each.name for each in others] == ["strategy"]


def test_a_hyperparameter_that_was_added_later_differs_only_where_it_changes_something(tmp_path: Path) -> None:
    desc = prune()
    record = desc.record()["hyperparameters"]
    old = {**record, "pruning": {name: value for name, value in record["pruning"].items() if name != "rounding"}}
    run = with_record(tmp_path, desc, hyperparameters=old)

    assert differences([Described.stored(run), Described.asked(desc, 1)]) == []
    (found,) = differences([Described.stored(run), Described.asked(prune(rounding="openlth"), 1)])
    assert (found.name, found.values) == ("rounding", (None, "openlth"))


def test_data_device_and_programs_of_manifests_are_named_where_they_differ() -> None:
    manifests = [
        Manifest(files={}, results={}, dataset={"digits": "a"}, versions={"torch": "2.10"}, device="cpu"),
        Manifest(files={}, results={}, dataset={"digits": "b"}, versions={"torch": "2.11"}, device="cpu"),
        None,
    ]

    found = differences_in_computing(manifests)

    assert [(each.name, each.kind, each.values) for each in found] == [
        ("digits", "data", ("a", "b", None)),
        ("torch", "program", ("2.10", "2.11", None)),
    ]


def test_the_nearest_run_is_the_one_that_differs_least(root: Path) -> None:
    asked = {
        "lr": (train(lr=0.21), train(lr=0.2)),
        "density": (prune(density=0.21), prune(density=0.2)),
        "a lottery's next level": (level(4), level(3)),
        "an option": (train(**{**RIGL, "start_density": 0.19}), train(**{**RIGL, "start_density": 0.2})),
        "a training and not its branch": (train(momentum=0.3), train()),
    }
    for what, (desc, expected) in asked.items():
        found = nearest(Described.asked(desc, 1), root)

        assert found is not None
        assert found.row.run.location == expected.location(1), what


def test_no_run_is_its_own_nearest_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    make_complete([train(lr=0.1), train(lr=0.2), train(lr=0.5)], tmp_path)
    (train(lr=0.2).location(1).under(tmp_path) / "description.json").write_text("{")

    found = nearest(Described.asked(train(lr=0.1), 1), tmp_path)

    assert found is not None
    assert found.row.run.location == train(lr=0.5).location(1)
    assert nearest(Described.asked(train(), 1), tmp_path / "empty") is None


def test_there_are_pairs_of_every_kind() -> None:
    kinds = {desc.kind for one, other, _ in PAIRS.values() for desc in (one, other)}
    assert kinds == {"train", "oneshot", "import"}
    assert len(PAIRS) >= 20
    assert all(one.digest != other.digest for one, other, _ in PAIRS.values())
    assert len(set(itertools.chain.from_iterable(expected for *_, expected in PAIRS.values()))) > 20
