"""Gradient flow and signs, against gradients that are written out and signs that are counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from torch.nn import functional as F

from analysis.measures.results import measure
from analysis.rows.run import StoredRun
from foundations.errors import UsageError
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import batches_of, opened
from tests.branches.small_branches import branch

LAYERS = ["fc_layers.0.weight", "fc.weight"]


def gradients(state: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradient of the mean cross-entropy of a perceptron with one hidden layer."""
    hidden = images @ state["fc_layers.0.weight"].T + state["fc_layers.0.bias"]
    active = np.maximum(hidden, 0)
    logits = active @ state["fc.weight"].T + state["fc.bias"]
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    error = (probabilities - np.eye(logits.shape[1])[labels]) / len(labels)
    return {
        "fc.weight": error.T @ active,
        "fc_layers.0.weight": ((error @ state["fc.weight"]) * (hidden > 0)).T @ images,
    }


@pytest.mark.parametrize(("split", "number"), [("train", 300), ("test", 1000)])
def test_gradient_flow_is_the_squared_norm_over_the_kept_weights(family: Family, split: str, number: int) -> None:
    run, training = opened(family, family.branch), opened(family, family.training)
    batches = batches_of(run, split)
    images = np.concatenate([images.flatten(1).numpy() for images, _ in batches])[:number]
    labels = np.concatenate([labels.numpy() for _, labels in batches])[:number]
    mask: Any = run.mask()
    masked, dense = (
        gradients({name: part.double().numpy() for name, part in of.state("0it").items()}, images, labels)
        for of in (run, training)
    )
    norms = [np.linalg.norm(masked[name][mask[name].numpy()]) for name in LAYERS]
    dense_norms = [np.linalg.norm(dense[name]) for name in LAYERS]

    found = measure("gradient_flow", run, split=split, examples=number, device="cpu")

    assert found.table["layer"] == LAYERS
    assert found.table["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert found.table["dense_gradient_norm"] == pytest.approx(dense_norms, rel=1e-5)
    assert found.table["dense_gradient_norm_of_kept"] == pytest.approx(
        [np.linalg.norm(dense[name][mask[name].numpy()]) for name in LAYERS], rel=1e-5
    )
    flow, dense_flow = sum(norm**2 for norm in norms), sum(norm**2 for norm in dense_norms)
    assert found.values == pytest.approx(
        {
            "gradient_norm": math.sqrt(flow),
            "gradient_flow": flow,
            "dense_gradient_norm": math.sqrt(dense_flow),
            "dense_gradient_flow": dense_flow,
            "flow_ratio": flow / dense_flow,
        },
        rel=1e-5,
    )


def test_batchnorm_normalizes_by_each_batch_and_each_example_weighs_the_same(
    resnets: tuple[StoredRun, StoredRun],
) -> None:
    run = resnets[0]
    model = run.model("0it").double().train()
    batches = [(images, labels) for images, labels in batches_of(run, "test")]  # 256 examples and 104
    for images, labels in batches:
        (F.cross_entropy(model(images), labels, reduction="sum") / 360).backward()
    total = sum(float(p.grad.square().sum()) for p in model.parameters() if p.dim() > 1 and p.grad is not None)

    found = measure("gradient_flow", run, split="test", examples=360, device="cpu")

    assert found.values["gradient_flow"] == pytest.approx(total, rel=1e-3)
    assert list(found.values) == ["gradient_norm", "gradient_flow"]  # it was not pruned


def test_only_a_start_from_dense_weights_has_a_dense_counterpart(own_family: Family) -> None:
    new = opened(own_family, branch(own_family.context, "oneshot", density=0.5, reinitialize=True).run)
    later = opened(own_family, own_family.branch)

    assert "flow_ratio" not in measure("gradient_flow", new, device="cpu").values
    assert "flow_ratio" not in measure("gradient_flow", later, step="3ep", device="cpu").values
    with pytest.raises(UsageError, match="did not keep its state at 5it"):
        measure("gradient_flow", later, step="5it", device="cpu")


def test_signs_are_compared_with_the_dense_solution_and_with_the_start(family: Family) -> None:
    run, dense = opened(family, family.branch), opened(family, family.training)
    mask: Any = run.mask()
    agreeing = {}
    for column, other in (("with_dense", dense.state("3ep")), ("with_start", run.state("0it"))):
        pairs = [
            list(zip(run.state()[name][mask[name]].tolist(), other[name][mask[name]].tolist(), strict=True))
            for name in LAYERS
        ]
        agreeing[column] = [[(w > 0, w < 0) == (v > 0, v < 0) for w, v in layer] for layer in pairs]

    found = measure("sign_agreement", run)

    assert found.table["layer"] == LAYERS
    for column, layers in agreeing.items():
        assert found.table[column] == pytest.approx([np.mean(layer) for layer in layers])
        assert found.values[column] == pytest.approx(np.mean([agrees for layer in layers for agrees in layer]))
    assert list(measure("sign_agreement", dense).values) == ["with_start"]
    assert measure("sign_agreement", run, step="0it").values["with_start"] == 1
