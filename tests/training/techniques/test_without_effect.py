"""Techniques and options that have no effect in a training are named; reports have the density that was asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.masks.mask import Mask
from pruning.prune import prune
from tests.training.small_runs import Listener, context, run_of, train_desc
from tests.training.techniques.toy_training import network
from training.jobs.compute import complete
from training.sparse import sparse
from training.without_effect import WithoutEffectWarning

MOVING: dict[str, Any] = {"mask_update_frequency": 2}


def said(technique: str, mask_density: float | None = None, **options: Any) -> list[str]:
    """Return the warnings of a technique that begins in a loop of 20 steps."""
    model = network()
    mask = None if mask_density is None else prune(model, "magnitude", density=mask_density)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sparse(optimizer, model, technique, end=20, mask=mask, **options)
    return [str(each.message) for each in caught if issubclass(each.category, WithoutEffectWarning)]


@pytest.mark.parametrize(
    ("technique", "options", "words"),
    [
        ("rigl", {"start_density": 0.5}, "updated once"),
        ("set", {"start_density": 0.5, "mask_update_begin": 9, "mask_update_frequency": 9}, "from 9it to 15it"),
        ("rigl", {"start_density": 0.5, "mask_update_clock": "batches_from_1"}, "never updated"),
        ("set", {"start_density": 0.5, "mask_update_begin": 20, "mask_update_end": 20}, "never updated"),
        ("topkast", {}, "chosen once"),
        ("gmp", {"mask_density": 0.2, "gmp_density": 0.3, "gmp_frequency": 5}, "below gmp_density"),
        ("acdc", {"mask_density": 0.2, "acdc_density": 0.3}, "below acdc_density"),
        ("topkast", {"mask_density": 0.2, "topkast_density": 0.3, "topkast_refresh": 5}, "below topkast_density"),
        ("powerpropagation,itop", {"start_density": 0.5, **MOVING}, "itop grows start at 0"),
        ("rigl,powerpropagation", {"start_density": 0.5, "grow_init": "grad_sign", **MOVING}, "rigl grows start at 0"),
    ],
)
def test_what_has_no_effect_is_named(technique: str, options: dict[str, Any], words: str) -> None:
    (found,) = said(technique, **options)

    assert words in found


@pytest.mark.parametrize(
    ("technique", "options"),
    [
        ("rigl", {"start_density": 0.5, "mask_update_begin": 7, "mask_update_end": 7}),
        ("set", {"start_density": 0.5, **MOVING}),
        ("gmp", {"mask_density": 0.3, "gmp_density": 0.3, "gmp_frequency": 5}),
        ("acdc", {"mask_density": 0.3, "acdc_density": 0.2}),
        ("powerpropagation,itop", {"start_density": 0.5, "powerprop_alpha": 1.0, **MOVING}),
        ("powerpropagation,rigl", {"start_density": 0.5, "grow_init": "random_normal", **MOVING}),
    ],
)
def test_what_has_an_effect_is_not_named(technique: str, options: dict[str, Any]) -> None:
    assert said(technique, **options) == []


def test_a_job_says_it(tmp_path: Path, digits: Path) -> None:
    listener = Listener()

    complete(train_desc(technique="topkast"), context(tmp_path, digits, reporter=listener))

    assert "Warning: The sets are chosen once: topkast_refresh is longer than the training of 18it." in listener.said


@pytest.mark.parametrize(
    ("flags", "density"),
    [
        ({"technique": "itop", "itop_growth": "random", "itop_bernoulli": True, "start_density": 0.3}, 0.3),
        ({"technique": "rigl,gmp", "start_density": 0.3, "gmp_density": 0.1}, 0.1),
        ({"technique": "acdc,gmp", "acdc_density": 0.1, "gmp_density": 0.2}, 0.1),
    ],
)
def test_the_report_has_the_density_that_was_asked_for(
    flags: dict[str, Any], density: float, tmp_path: Path, digits: Path
) -> None:
    often = {} if flags["technique"].startswith("acdc") else {"mask_update_frequency": "2it"}
    desc, place = train_desc(**flags, **often), context(tmp_path, digits)

    complete(desc, place)

    run = run_of(desc, place)
    mask, report = Mask.of_run(run), run.sparsity()
    assert report is not None
    assert report["requested"]["kept"] == round(density * mask.total)
    assert report["achieved"]["kept"] == mask.kept
    assert (mask.kept == report["requested"]["kept"]) == ("itop_bernoulli" not in flags)
