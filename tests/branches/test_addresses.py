"""The addresses of known descriptions, for good: were one to move, the results under it would be lost, or answer for
another experiment. A new description is added at the end of the list; nothing in it is ever changed.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branches.imported.imported_run import ImportDesc, OriginHparams
from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import Desc, RunRef
from pruning.hparams import PruningHparams
from tests.branches.small_branches import describe
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.recipes import recipe


def train(**flags: Any) -> TrainDesc:
    return TrainDesc.of(flags)


def preset(name: str, **flags: Any) -> TrainDesc:
    return train(**{**recipe(name), **flags})


def oneshot(parent: Desc, **flags: Any) -> Desc:
    described: Desc = describe("oneshot", RunRef(parent), **flags)
    return described


DIGITS = preset("digits_resnet_8")
PRUNED = oneshot(DIGITS, density=0.5)
SQUEEZENET = preset("cifar_resnet_20", model_name="torchvision_squeezenet1_1")
LOTTERY = Lottery(DIGITS, PruningHparams.of({}), LotteryHparams(rewinding_steps="50it"))
DESCRIPTIONS: dict[str, Desc] = {
    "train": train(),
    "mnist_lenet_300_100": preset("mnist_lenet_300_100"),
    "cifar_resnet_20": preset("cifar_resnet_20"),
    "digits_resnet_8": DIGITS,
    "digits_lenet_40_20 for 3ep": preset("digits_lenet_40_20", training_steps="3ep"),
    "cifar_resnet_20 with a batch size of 256": preset("cifar_resnet_20", batch_size=256),
    "cifar_resnet_20 with Adam": preset("cifar_resnet_20", optimizer_name="adam", lr=1e-3),
    "cifar_resnet_20 with AdamW, a cosine, a warmup, in bf16": preset(
        "cifar_resnet_20",
        optimizer_name="adamw",
        lr=1e-3,
        lr_schedule="cosine",
        milestone_steps=None,
        gamma=None,
        warmup_steps="5ep",
        precision="bf16",
        label_smoothing=0.1,
    ),
    "cifar_resnet_20 on other data": preset(
        "cifar_resnet_20",
        do_not_augment=True,
        subsample_fraction=0.5,
        random_labels_fraction=0.1,
        transformation_seed=3,
        blur_factor=2,
    ),
    "cifar_resnet_20, frozen": preset(
        "cifar_resnet_20",
        model_init="orthogonal",
        batchnorm_init="fixed",
        batchnorm_frozen=True,
        output_frozen=True,
        others_frozen=True,
        others_frozen_exceptions="conv.weight,blocks.0.conv1.weight",
    ),
    "magnitude": oneshot(DIGITS),
    "random, pinned": oneshot(DIGITS, strategy="random", density=0.1, seed=7),
    "snip10": oneshot(DIGITS, strategy="snip10"),
    "snip1, iterated, the other way": oneshot(
        DIGITS,
        strategy="snip1",
        prune_fraction=0.95,
        prune_iterations=5,
        prune_schedule="linear",
        prune_highest=True,
        score_batch_size=20,
        score_per_batch=True,
    ),
    "magnitude after training, rewound": oneshot(DIGITS, prune_step="12ep", state_step="50it", start_step="50it"),
    "shuffled and reinitialized": oneshot(DIGITS, randomize_layerwise=True, reinitialize=True, seed=1),
    "of a branch": oneshot(DIGITS, prune_experiment=RunRef(PRUNED), prune_step="12ep"),
    "of another replicate of a branch": oneshot(DIGITS, prune_experiment=RunRef(PRUNED, 2), prune_step="12ep"),
    "gmp of a branch": describe("gmp", RunRef(PRUNED), density=0.1, gmp_end="6ep"),
    "finetune": describe("finetune", RunRef(DIGITS), finetune_steps="2ep"),
    "retrain with other batches": describe("retrain", RunRef(PRUNED), retrain_batch_size=32, retrain_lr=0.05),
    "transplant": describe("transplant", RunRef(DIGITS), mask_of=RunRef(PRUNED, 1)),
    "level 2 of a lottery": dict(LOTTERY.levels(2))[2],
    "import": ImportDesc(
        dataset=DIGITS.dataset,
        model=DIGITS.model,
        training=DIGITS.training,
        origin=OriginHparams(content="0" * 64, is_pruned=True),
    ),
    "rigl": preset("digits_resnet_8", technique="rigl", start_density=0.1, mask_update_frequency="20it"),
    "set in a branch": replace(
        describe("oneshot", RunRef(DIGITS), strategy="random", density=0.1),
        techniques=TechniquesHparams.of({"technique": "set", "drop_fraction_anneal": "constant", "technique_seed": 1}),
    ),
    "gmp with snip, then rigl": preset(
        "digits_resnet_8", technique="gmp,rigl", gmp_strategy="snip2", gmp_score_per_batch=True, gmp_curve="phew"
    ),
    "squeezenet": SQUEEZENET,
    "snip10 of squeezenet, whose dropout is off": oneshot(SQUEEZENET, strategy="snip10", density=0.1),
    "snip10 of squeezenet in eval mode": oneshot(SQUEEZENET, strategy="snip10", density=0.1, score_in_eval_mode=True),
    "synflow of squeezenet in train mode": oneshot(
        SQUEEZENET, strategy="synflow", density=0.1, score_in_train_mode=True
    ),
    "synflow of squeezenet": oneshot(SQUEEZENET, strategy="synflow", density=0.1),
    "phew of squeezenet": oneshot(SQUEEZENET, strategy="phew", density=0.1),
    "magnitude of squeezenet": oneshot(SQUEEZENET, density=0.1),
    "snip10 of resnet18, which has no dropout": oneshot(
        preset("cifar_resnet_20", model_name="torchvision_resnet18"), strategy="snip10", density=0.1
    ),
    "grasp10 of a VGG with dropout": oneshot(preset("synflow_tinyimagenet_vgg_11"), strategy="grasp10", density=0.1),
    "magnitude of a VGG with dropout": oneshot(preset("synflow_tinyimagenet_vgg_11"), density=0.1),
    "gmp of squeezenet with snip10": replace(
        SQUEEZENET, techniques=TechniquesHparams.of({"technique": "gmp", "gmp_strategy": "snip10", "gmp_density": 0.1})
    ),
    "gmp of squeezenet": replace(SQUEEZENET, techniques=TechniquesHparams.of({"technique": "gmp", "gmp_density": 0.1})),
}
ADDRESSES = {
    "train": "d8f5a3fe97c8156505a740e9467035b7",
    "mnist_lenet_300_100": "1927f6dccc927c4db9143a0f6fde7019",
    "cifar_resnet_20": "830f66995dc18bbf9ef913a0a1cf34d2",
    "digits_resnet_8": "072a0f587a63e014048ae9f0c08ba088",
    "digits_lenet_40_20 for 3ep": "6726326157f5c2b43f169a70a8d10c52",
    "cifar_resnet_20 with a batch size of 256": "e566b698b242034eada9e6c43781699d",
    "cifar_resnet_20 with Adam": "fff82e38e84c1234cf2183a4069f649f",
    "cifar_resnet_20 with AdamW, a cosine, a warmup, in bf16": "331b373eb7d843161f0a69da7218cae4",
    "cifar_resnet_20 on other data": "c5a011b4d6a47965c70c591b168058a0",
    "cifar_resnet_20, frozen": "8d25bca7ff16508fa7b6dc409788b4ca",
    "magnitude": "78acaac0ccb4698d92aae8cc47222182",
    "random, pinned": "a96e7d9de5880af1a87a6150d07eb9e6",
    "snip10": "e8c57a3a96802c353722c0367007dd4b",
    "snip1, iterated, the other way": "62adb90c782cb31c43aacf1b75317d81",
    "magnitude after training, rewound": "6316c6259da39863bdf7757b1a1e2b17",
    "shuffled and reinitialized": "d6f7a4ea15e7b2334725d4f93d27e4bf",
    "of a branch": "ad8689551fa81f8926a67503b3efe680",
    "of another replicate of a branch": "f8cfdbf0fd0e6a49fdcb0ca5b19be20a",
    "gmp of a branch": "1ebe99433f9c19bc323ac80e156061b7",
    "finetune": "3b04dfd3a9f3580724d8b531d0d4cf5f",
    "retrain with other batches": "3879d70b06c926b3d58f585021a40695",
    "transplant": "bbe414787b8c5b3abcddeaacb9a4e665",
    "level 2 of a lottery": "c1a574eb2d79f9b6db8cfc13c70b459a",
    "import": "05da12a698950656b4dcd74e4e722bc3",
    "rigl": "9d365048a0e0cb736bb3c43d82914bae",
    "set in a branch": "ef7dcb57ad42eace1d4853a72781743d",
    "gmp with snip, then rigl": "de7ffb53b04f3fc0e810246e7a5b1a6b",
    "squeezenet": "b8cb9bb0607664530eed50a627081cf6",
    "snip10 of squeezenet, whose dropout is off": "2a9cca603003302b2b3c36ea86a888d4",
    "snip10 of squeezenet in eval mode": "36dbfd0710c5349fec0a32cbd78867e9",
    "synflow of squeezenet in train mode": "4622f8d943adb133d3334e5e23f6e111",
    "synflow of squeezenet": "ac5664dff4b6bc6cf1191550f2156500",
    "phew of squeezenet": "e0a687cb199857c1ab693c3cc5afe510",
    "magnitude of squeezenet": "d80f0484f1d0908ca3afb04c04b70e03",
    "snip10 of resnet18, which has no dropout": "636e86f6943148725290526658dbbc38",
    "grasp10 of a VGG with dropout": "10caec11a20351df4716de0c736f540d",
    "magnitude of a VGG with dropout": "9b15459da6b6c726bec8c7d644ef2bb3",
    "gmp of squeezenet with snip10": "2415f85115d7bb4496bef539d6cad78f",
    "gmp of squeezenet": "36e75960546e431fc585abe0afe082be",
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_address_of_a_known_description_never_moves(name: str) -> None:
    assert DESCRIPTIONS[name].digest == ADDRESSES[name]


def test_known_descriptions_have_different_addresses() -> None:
    assert len({desc.digest for desc in DESCRIPTIONS.values()}) == len(DESCRIPTIONS)


@pytest.mark.parametrize("steps", ["160ep", "62560it", "159ep391it", "0ep62560it"])
@pytest.mark.parametrize("milestones", ["80ep,120ep", "120ep,80ep", "31280it,46920it", "80ep-120ep@40ep"])
def test_the_flags_by_hand_have_the_presets_address(steps: str, milestones: str) -> None:
    by_hand = train(
        dataset_name="cifar10",
        batch_size=128,
        model_name="cifar_resnet_20_16",
        model_init="kaiming_normal",
        batchnorm_init="uniform",
        optimizer_name="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        milestone_steps=milestones,
        gamma=0.1,
        training_steps=steps,
        outputs=10,
    )

    assert by_hand.digest == DESCRIPTIONS["cifar_resnet_20"].digest


@given(st.integers(0, 12), st.integers(0, 22))
@settings(deadline=None)
def test_every_spelling_of_a_branchs_steps_has_one_address(epochs: int, iterations: int) -> None:
    epochs = min(epochs, 11)
    total = 23 * epochs + iterations
    spellings = (f"{epochs}ep{iterations}it", f"{total}it", f"0ep{total}it")
    digests = {
        oneshot(DIGITS, prune_step=a, state_step=b, start_step=c).digest
        for a, b, c in itertools.islice(itertools.permutations(spellings), 3)
    }

    assert len(digests) == 1


@given(st.integers(1, 1000))
@settings(deadline=None)
def test_every_spelling_of_a_level_has_one_address(thousandths: int) -> None:
    density = thousandths / 1000
    digests = {
        oneshot(DIGITS, density=density).digest,
        oneshot(DIGITS, prune_fraction=(1000 - thousandths) / 1000).digest,
        oneshot(DIGITS, compression=1000 / thousandths).digest,
    }

    assert len(digests) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"prune_fraction": 0.8}),
        ({}, {"density": 0.2}),
        ({}, {"compression": 5}),
        ({}, {"compression": 5, "density": 0.2, "prune_fraction": 0.8}),
        ({}, {"prune_lowest": True}),
        ({}, {"prune_iterations": 7}),
        ({}, {"seed": 3}),
        ({"strategy": "random", "seed": 3}, {"strategy": "random", "seed": 3, "prune_lowest": True}),
        ({"reinitialize": True}, {"reinitialize": True, "state_step": "3ep"}),
        ({"density": 1}, {"prune_fraction": 0, "prune_highest": True}),
    ],
)
def test_what_changes_nothing_does_not_change_the_address(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert oneshot(DIGITS, **one).digest == oneshot(DIGITS, **other).digest


@pytest.mark.parametrize(
    "change",
    [
        {"prune_fraction": 0.81},
        {"prune_highest": True},
        {"prune_step": "1it"},
        {"state_step": "1it"},
        {"start_step": "1it"},
        {"randomize_layerwise": True},
        {"reinitialize": True},
        {"strategy": "random"},
        {"strategy": "snip10"},
    ],
)
def test_what_changes_the_result_changes_the_address(change: dict[str, Any]) -> None:
    assert oneshot(DIGITS, **change).digest != oneshot(DIGITS).digest


def test_a_seed_matters_where_something_is_drawn() -> None:
    draws: tuple[dict[str, Any], ...] = (
        {"strategy": "random"},
        {"randomize_layerwise": True},
        {"reinitialize": True},
        {"strategy": "snip1"},
    )
    for flags in draws:
        assert oneshot(DIGITS, **flags, seed=3).digest != oneshot(DIGITS, **flags).digest
