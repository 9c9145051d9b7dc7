"""GradInit as a technique of a training or a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foundations.description.hparams import help_of
from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.jobs.compute import complete, ensure_states
from training.techniques.gradinit import GradInitHparams

SHORT: dict[str, Any] = {"technique": "gradinit", "gradinit_iters": 3, "gradinit_lr": 0.05}
RESNET = {"model_name": "digits_resnet_8_4"}


def first_state(desc: Any, root: Path, digits: Path) -> dict[str, Tensor]:
    place = context(root, digits)
    return ensure_states(desc, place, [desc.start]).load_state(desc.start)


def ratios(found: dict[str, Tensor], plain: dict[str, Tensor]) -> dict[str, float]:
    """Check that a factor scales each tensor, and return the factors."""
    scales = {}
    for name, tensor in found.items():
        if plain[name].any() and not name.endswith(("mean", "var", "tracked")):
            scales[name] = (tensor.norm() / plain[name].norm()).item()
            torch.testing.assert_close(tensor, plain[name] * scales[name], rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(tensor, plain[name])
    return scales


def test_training_starts_from_the_scaled_initialization(tmp_path: Path, digits: Path) -> None:
    plain, scaled = (first_state(train_desc(**RESNET, **flags), tmp_path, digits) for flags in ({}, SHORT))

    scales = ratios(scaled, plain)

    assert all(abs(scale - 1) > 1e-3 for scale in scales.values())
    assert all(0.84 < scale < 1.16 for scale in scales.values())  # three steps of Adam, of about 0.05 each


def test_scales_are_learnt_before_or_after_the_mask(tmp_path: Path, digits: Path) -> None:
    flags = {"density": 0.2, **SHORT}
    descs = [oneshot_desc("random", RESNET, **flags, gradinit_before_mask=before) for before in (True, False)]
    dense = train_desc(**RESNET, **SHORT)

    before, after = (first_state(desc, tmp_path, digits) for desc in descs)

    mask = Mask.from_tensors(*run_of(descs[0], context(tmp_path, digits)).load_mask())
    trained_dense = first_state(dense, tmp_path, digits)
    for name, tensor in before.items():  # the batches are the same, so are the scales of the dense network
        assert torch.equal(tensor, trained_dense[name] * mask[name] if name in mask else trained_dense[name])
    masked = first_state(oneshot_desc("random", RESNET, density=0.2), tmp_path, digits)
    assert ratios(after, masked) != pytest.approx(ratios(before, masked), abs=1e-3)
    assert all(not after[name][~mask[name]].any() for name in mask)


def test_a_branch_keeps_its_mask_while_it_trains(tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc("random", density=0.2, **SHORT)

    run = complete(desc, context(tmp_path, digits)).run

    mask, state = Mask.from_tensors(*run.load_mask()), run.load_state(desc.end)
    assert all(not state[name][~mask[name]].any() for name in mask)
    assert all(not torch.equal(state[name], run.load_state(desc.start)[name]) for name in mask)


def test_before_a_mask_needs_a_mask() -> None:
    with pytest.raises(UsageError, match="^gradinit_before_mask: the training starts from no mask"):
        train_desc(**SHORT, gradinit_before_mask=True)


def test_the_options_are_those_of_the_published_code_with_its_defaults() -> None:
    found = GradInitHparams()

    assert len(help_of(GradInitHparams)) == 9 + 1
    assert found.gradinit_alg == "sgd"
    assert (found.gradinit_eta, found.gradinit_gamma, found.gradinit_lr) == (0.1, None, 1e-3)
    assert (found.gradinit_min_scale, found.gradinit_iters, found.gradinit_grad_clip) == (0.01, 390, 1.0)
    assert not found.gradinit_normalize_grad
    assert not found.gradinit_batch_no_overlap


def test_what_cannot_change_the_result_is_not_in_the_address() -> None:
    adam = {**SHORT, "gradinit_alg": "adam"}

    assert train_desc(**adam).digest == train_desc(**adam, gradinit_normalize_grad=True).digest
    assert train_desc(**SHORT).digest != train_desc(**SHORT, gradinit_normalize_grad=True).digest
    assert train_desc(**SHORT).digest != train_desc(**SHORT, technique_seed=4).digest
