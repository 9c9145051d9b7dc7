"""What open_prune's training costs over a bare loop, and against the machine's own matrix-product rate.

The bare loop goes over augmented batches that are ready in memory, in the same layout and with the same optimizer, and
does nothing else. open_prune's draws the epoch's order and crops, augments, normalizes, calls back, and keeps a mask.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Row, in_turn, matrix_product_rate, median_ratio
from datasets.batches import LoaderConfig
from datasets.loader import open_loader
from datasets.prepared import write_split
from datasets.registry import DATASETS
from datasets.source_files import Split
from foundations.interrupts import Interrupts
from foundations.reporter import NullReporter
from foundations.step import Step
from models.build import build_model
from models.measure import multiply_adds
from platforms.base import PlatformHparams
from platforms.local import LocalPlatform
from pruning.prune import prune
from training.callbacks import checkpoint_in_time, every_epoch, show_progress
from training.desc import TrainDesc
from training.loop import train
from training.lr_schedule import learning_rate
from training.optimizers import make_optimizer
from training.recipes import recipe

LAYOUT = LocalPlatform(PlatformHparams(device="cpu")).memory_format("float32")


def rows(repeats: int = 7) -> list[Row]:
    """Measure both networks."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_compare("cifar_resnet_20", "aim: at most 1.10", Path(folder), iterations=40, repeats=repeats),
            *_compare("mnist_lenet_300_100", "aim: at most 1.25", Path(folder), iterations=469, repeats=repeats),
        ]


def _compare(name: str, aim: str, folder: Path, iterations: int, repeats: int) -> list[Row]:
    desc = TrainDesc.of(recipe(name))
    make_noise(desc.dataset.dataset_name, folder)
    loader = open_loader(desc.dataset, folder, LoaderConfig(memory_format=LAYOUT))
    ready = list(itertools.islice(loader.train_batches(0), 40))
    epochs = itertools.count(1)
    bare_model, our_model = _model(desc), _model(desc)
    bare = _bare_loop(desc, bare_model, ready, iterations)
    our_optimizer = make_optimizer(desc.training, our_model.parameters())
    prune(our_model, "magnitude", density=0.2).attach(our_optimizer, our_model)
    start = desc.start

    def ours() -> None:
        # From the first batch of an epoch, so that drawing its order and crops is counted in full.
        begin = start.at(next(epochs) * desc.iterations_per_epoch)
        end = begin.at(begin.iteration + iterations)
        rate = learning_rate(desc.training, desc.iterations_per_epoch)
        callbacks = [
            every_epoch(_nothing),
            show_progress(NullReporter(), "train", begin, end),
            checkpoint_in_time(_nothing, 3600.0, Interrupts()),
        ]
        train(our_model, our_optimizer, loader, F.cross_entropy, rate, begin, end, callbacks)

    product = matrix_product_rate()
    products = 12
    times = in_turn({"bare": bare, "ours": ours, "product": lambda: [product() for _ in range(products)]}, repeats)
    overhead = median_ratio(times["ours"], times["bare"])
    found = [
        Row(f"{name}: open_prune / bare loop", overhead, aim, f"{iterations} iterations, masked, median of {repeats}")
    ]
    if name.startswith("cifar"):
        work = 3 * multiply_adds(our_model, desc.dataset.input_shape) * desc.dataset.batch_size * iterations
        pairs = zip(times["ours"], times["product"], strict=True)
        shares = [(work / ours_s) / (products * product() / product_s) for ours_s, product_s in pairs]
        share = sorted(shares)[len(shares) // 2]
        found.append(Row(f"{name}: share of the matrix-product rate", share, "aim: at least 0.65", "3 forward passes"))
    return found


def _bare_loop(
    desc: TrainDesc, model: nn.Module, batches: list[tuple[Tensor, Tensor]], iterations: int
) -> Callable[[], None]:
    optimizer = make_optimizer(desc.training, model.parameters())

    def loop() -> None:
        for images, labels in itertools.islice(_forever(batches), iterations):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return loop


def _forever(batches: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    return itertools.cycle(batches)


def _model(desc: TrainDesc) -> nn.Module:
    model = build_model(desc.model, outputs=desc.outputs, input_shape=desc.dataset.input_shape, seed_keys=(0,))
    return model.to(memory_format=LAYOUT)


def make_noise(name: str, folder: Path) -> None:
    """Prepare a dataset of noise: time does not depend on what the images show."""
    spec = DATASETS.find(name)
    random = np.random.default_rng(0)
    for split, count in (("train", spec.num_train), ("test", spec.num_test)):
        (folder / name).mkdir(exist_ok=True)
        images = random.integers(0, 256, (count, *spec.input_shape), dtype=np.uint8)
        labels = random.integers(0, spec.num_classes, count, dtype=np.int64)
        write_split(name, split, Split(images, labels, tuple(map(str, range(spec.num_classes))), "noise"), folder)


def _nothing(_step: Step) -> None:
    pass
