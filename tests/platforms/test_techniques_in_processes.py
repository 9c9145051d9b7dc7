"""Every technique in two processes: the trajectory of one, in float64."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.platforms.in_ranks import each_trained_in_float64
from tests.platforms.test_multi_gpu import several
from tests.training.small_runs import context, train_desc
from tests.training.small_techniques import flags_of
from training.desc import TrainDesc
from training.registry import TECHNIQUES

OTHERWISE: list[dict[str, Any]] = [
    {**flags_of("itop"), "itop_growth": "random_unfired"},
    {**flags_of("mest"), "mest_lambda": 0.1},
    {**flags_of("rigl", "bias_masks"), "grad_accumulation_n": 2},
    {**flags_of("srste"), "srste_structure": "1:4"},
    {**flags_of("topkast"), "weight_decay": 0.1},
]
"""Options of techniques besides those of `small_techniques`."""


def in_float64(**flags: Any) -> TrainDesc:
    """Return a training of six steps with synchronized batch normalization."""
    shared = {"batch_size": 359, "training_steps": "6it", "model_name": "digits_resnet_8_2", "sync_batchnorm": True}
    return train_desc(**{**shared, **flags})


def test_every_technique_does_in_two_processes_what_it_does_in_one(tmp_path: Path, digits: Path) -> None:
    given = {name for flags in OTHERWISE for name in flags["technique"].split(",")}
    rest = [flags_of(name) for name in TECHNIQUES.spellings() if name not in given]
    descs = [in_float64(**flags) for flags in [*OTHERWISE, *rest]]
    train = partial(each_trained_in_float64, descs, tmp_path, digits)

    one, two = train(context(tmp_path, digits).platform), several().launch(train)

    for desc, mine, others in zip(descs, one, two, strict=True):
        assert desc.techniques is not None
        technique = desc.techniques.technique
        assert any(name.startswith("mask.") for name in mine) == desc.techniques.changes_mask, technique
        for name, values in mine.items():
            found, expected = (torch.tensor(each, dtype=torch.float64) for each in (others[name], values))
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=f"{technique}: {name}")
