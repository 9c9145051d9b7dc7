"""Mixup and cutmix against torchvision's, and over several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.loading.mixing import Mixing, _cutmix

CLASSES = 10
SIZE = 359
"""Examples in a batch; the last one of an epoch has a single example."""


def batches(
    digits: Path, mixing: Mixing | None, *, rank: int = 0, processes: int = 1, first: int = 0, key: int = 3
) -> list[Batch]:
    config = LoaderConfig(rank=rank, world_size=processes, mixing=mixing, order_key=1, augmentation_key=key)
    loader = open_loader(DatasetHparams(dataset_name="digits", batch_size=SIZE), digits, config)
    return list(loader.train_batches(2, first))


@pytest.mark.parametrize("mixing", [Mixing(0.8, 0.0, CLASSES), Mixing(0.0, 1.0, CLASSES), Mixing(0.2, 1.0, CLASSES)])
def test_mixtures_are_those_of_torchvision(mixing: Mixing, digits: Path) -> None:
    drawn = mixing.drawn(5, (8, 8), 3, 2)
    assert {mix.box is None for mix in drawn} == {bool(on) for on in (mixing.mixup, not mixing.cutmix)}

    plain, mixed = batches(digits, None), batches(digits, mixing)

    for (images, labels), (x, y), mix in zip(plain, mixed, drawn, strict=True):
        transform: v2.Transform
        params: dict[str, Any]
        if mix.box is None:
            transform, params = v2.MixUp(num_classes=CLASSES), {"lam": mix.share}
        else:
            transform, params = v2.CutMix(num_classes=CLASSES), {"box": mix.box, "lam_adjusted": mix.share}
        params |= {"batch_size": len(labels), "labels": labels}
        assert torch.equal(x, transform.transform(images, params))
        assert torch.equal(y, transform.transform(labels, params))
        assert y.sum(1).tolist() == pytest.approx([1] * len(y))


def test_a_box_is_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = v2.CutMix(num_classes=CLASSES)
    for share, x, y in ((0.3, 0, 7), (0.9, 11, 3), (0.0, 5, 5), (1.0, 2, 2)):
        monkeypatch.setattr(transform._dist, "sample", lambda _, share=share: torch.tensor([share]))
        places = iter([x, y])
        monkeypatch.setattr(torch, "randint", lambda *_, places=places, **__: torch.tensor([next(places)]))
        expected = transform.make_params([torch.zeros(2, 1, 8, 12)])

        mix = _cutmix(torch.tensor([share]).item(), (8, 12), (x + 0.5) / 12, (y + 0.5) / 8)

        assert mix.box == expected["box"]
        assert mix.share == pytest.approx(expected["lam_adjusted"])


@pytest.mark.parametrize("processes", [2, 3])
def test_the_slices_of_all_processes_make_the_mixed_batch(processes: int, digits: Path) -> None:
    mixing = Mixing(0.8, 1.0, CLASSES)
    whole = batches(digits, mixing)

    slices = [batches(digits, mixing, rank=rank, processes=processes) for rank in range(processes)]

    for number, (images, targets) in enumerate(whole):
        assert torch.equal(torch.cat([own[number][0] for own in slices]), images)
        assert torch.equal(torch.cat([own[number][1] for own in slices]), targets)


def test_mixtures_do_not_depend_on_where_an_epoch_starts(digits: Path) -> None:
    mixing = Mixing(0.8, 1.0, CLASSES)
    whole, rest, other = (batches(digits, mixing, **where) for where in ({}, {"first": 2}, {"key": 4}))

    assert all(
        torch.equal(a, b) for one, two in zip(whole[2:], rest, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert not torch.equal(whole[0][0], other[0][0])
