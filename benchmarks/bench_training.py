"""Cost of open_prune's training against a bare loop, and against the machine's own matrix-product rate.

The bare loop iterates over augmented batches that are ready in memory, with the same layout and optimizer, and does
nothing else. open_prune's loop draws the epoch's order and crops, augments, normalizes, calls back, and keeps a mask.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.made_runs import network, prepare
from benchmarks.timing import Row, in_turn, matrix_product_rate, median_ratio
from datasets.loading.batches import LoaderConfig
from datasets.loading.loader import open_loader
from foundations.description.step import Step
from foundations.interrupts import Interrupts
from foundations.reporter import NullReporter
from platforms.local import LocalPlatform
from platforms.platform import PlatformHparams
from pruning.prune import prune
from pruning.weights.network_size import multiply_adds
from training.desc import TrainDesc
from training.loop.callbacks import checkpoint_in_time, every_epoch, show_progress
from training.loop.clipping import clip_gradients
from training.loop.loop import steps
from training.loop.lr_schedule import learning_rate
from training.loop.optimizers import make_optimizer
from training.loop.weight_decay import undecayed_parameters
from training.recipes import recipe

LAYOUT = LocalPlatform(PlatformHparams(device="cpu")).memory_format("float32")
OVER_BARE = "at most 1.05"
UNMIXED = {"mixup": 0.0, "cutmix": 0.0, "augment_as": "pad4_crop_flip"}


@dataclass(frozen=True)
class Case:
    """A recipe, and its measurements."""

    name: str
    iterations: int
    """Consecutive iterations in each measurement."""
    products: int
    """Matrix products in each measurement of their rate."""
    over_bare: str
    """The aim for the ratio to the bare loop."""
    share: str = ""
    """The aim for the share of the matrix-product rate."""
    floor: str = ""
    """The aim for the ratio to the time of its multiply-adds at the matrix-product rate."""
    plain: str = ""
    """The aim for the ratio to its matrix products and the update alone, of a perceptron."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters that differ from the recipe's."""


CASES = (
    Case("mnist_lenet_300_100", 469, 12, over_bare="at most 1.25", floor="at most 1.4", plain="at most 1.25"),
    Case("cifar_resnet_20", 16, 12, over_bare="at most 1.10", share="at least 0.85"),
    Case("cifar_vgg_16", 2, 12, over_bare="at most 1.10"),
    Case("vit_small_data", 8, 12, over_bare=OVER_BARE, changes={"batch_size": 32, **UNMIXED}),
    Case("gpt_small_data", 8, 12, over_bare=OVER_BARE, changes={"batch_size": 16, "sequence_length": 64}),
)


def rows(repeats: int = 5) -> Iterator[Row]:
    """Measure each network."""
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            yield from _compare(case, Path(folder), repeats)


def _compare(case: Case, folder: Path, repeats: int) -> list[Row]:
    desc = TrainDesc.of(recipe(case.name) | case.changes)
    prepare(desc.dataset.dataset_name, folder)
    loader = open_loader(desc.dataset, folder, LoaderConfig(memory_format=LAYOUT))
    ready = list(itertools.islice(loader.train_batches(0), min(case.iterations, 40)))
    product = matrix_product_rate()
    works: dict[str, Callable[[], object]] = {
        "bare": _bare_loop(desc, _model(desc), ready, case.iterations),
        "dense": _our_loop(desc, loader, case.iterations, is_masked=False),
        "masked": _our_loop(desc, loader, case.iterations, is_masked=True),
        "product": lambda: [product() for _ in range(case.products)],
    }
    if case.plain:
        works["plain"] = _plain_loop(desc, _model(desc), ready[0][0], case.iterations)
    times = in_turn(works, repeats)
    step = 1e3 * statistics.median(times["dense"]) / case.iterations
    detail = f"{case.iterations} steps, batch {desc.dataset.batch_size}, {step:.2f} ms a step"
    over_bare, with_mask = median_ratio(times["dense"], times["bare"]), median_ratio(times["masked"], times["dense"])
    found = [
        Row(f"{case.name}: training / bare loop", over_bare, case.over_bare, detail),
        Row(f"{case.name}: with a mask / without", with_mask, "at most 1.03", detail),
    ]
    if case.plain:
        over_plain = median_ratio(times["dense"], times["plain"])
        found.append(
            Row(f"{case.name}: step / its products and update", over_plain, case.plain, "plainly, no autograd")
        )
    # A backward pass takes two matrix products for each one of the forward pass.
    passes = 3 * multiply_adds(_model(desc), desc.dataset.inputs) * desc.dataset.batch_size * case.iterations
    times["products"] = [passes * seconds / (case.products * product()) for seconds in times["product"]]
    over_product = ("step / its multiply-adds", "dense", "products", case.floor, "at the matrix-product rate")
    share = ("share of the matrix-product rate", "products", "dense", case.share, "3 forward passes")
    what, numerator, denominator, aim, how = over_product if case.floor else share
    ratio = median_ratio(times[numerator], times[denominator])
    return [*found, Row(f"{case.name}: {what}", ratio, aim, how)]


def _our_loop(desc: TrainDesc, loader: Any, iterations: int, *, is_masked: bool) -> Callable[[], None]:
    epochs = itertools.count(1)
    model = _model(desc).train()
    optimizer = make_optimizer(desc.training, model.parameters(), undecayed_parameters(model, desc.training))
    attached = prune(model, "magnitude", density=0.2).attach(optimizer, model) if is_masked else None
    start, task, smoothing = desc.start, desc.dataset.task, desc.training.label_smoothing

    def clip() -> None:
        clip_gradients(model.parameters(), desc.training.clip_grad_norm, attached)

    def loop() -> None:
        # From the first batch of an epoch, to count the drawing of its order and crops in full.
        begin = start.at(next(epochs) * desc.iterations_per_epoch)
        end = begin.at(begin.iteration + iterations)
        rate = learning_rate(desc.training, desc.iterations_per_epoch)
        callbacks = [
            every_epoch(_nothing),
            show_progress(NullReporter(), "train", begin, end),
            checkpoint_in_time(_nothing, 3600.0, Interrupts()),
        ]
        clipped = None if desc.training.clip_grad_norm is None else clip
        for inputs, targets in steps(optimizer, loader, rate, begin, end, callbacks, clip=clipped):
            optimizer.zero_grad(set_to_none=True)
            task.loss(model(inputs), targets, label_smoothing=smoothing).backward()  # type: ignore[no-untyped-call]

    return loop


def _bare_loop(
    desc: TrainDesc, model: nn.Module, batches: list[tuple[Tensor, Tensor]], iterations: int
) -> Callable[[], None]:
    model.train()
    optimizer = make_optimizer(desc.training, model.parameters())
    smoothing, most = desc.training.label_smoothing, desc.training.clip_grad_norm

    def loop() -> None:
        for inputs, targets in itertools.islice(itertools.cycle(batches), iterations):
            optimizer.zero_grad()
            outputs = model(inputs).flatten(0, -2)
            F.cross_entropy(outputs, targets.flatten(), label_smoothing=smoothing).backward()  # type: ignore[no-untyped-call]
            if most is not None:
                nn.utils.clip_grad_norm_(model.parameters(), most)
            optimizer.step()

    return loop


def _plain_loop(desc: TrainDesc, model: nn.Module, images: Tensor, iterations: int) -> Callable[[], None]:
    """Return the matrix products of a perceptron's passes and the optimizer's update, and nothing else."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    optimizer = make_optimizer(desc.training, model.parameters())
    first, last = images.flatten(1).contiguous(), torch.full((len(images), desc.outputs), 1e-4)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def loop() -> None:
        for _ in range(iterations):
            inputs = [first]
            for layer in layers:
                inputs.append(torch.addmm(layer.bias, inputs[-1], layer.weight.t()))
            gradient = last
            for layer, own in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
                layer.weight.grad = gradient.t() @ own
                if layer is not layers[0]:
                    gradient = gradient @ layer.weight
            optimizer.step()

    return loop


def _model(desc: TrainDesc) -> nn.Module:
    return network(desc).to(memory_format=LAYOUT)


def _nothing(_step: Step) -> None:
    pass
