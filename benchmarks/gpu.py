"""`make gpu`: what only a GPU can show, in one script of at most nine minutes.

    python -m benchmarks.gpu [--dry_run] [--seconds=540] [--device=cuda] [--datasets=FOLDER] [--results=FILE]

Parts run in the order of `PARTS`, each in a process of its own and within its share of the time; one that takes longer
is stopped and named. A part has items: one that fails is named, and the next one is measured. The results are written
after each row, so that a machine that is taken away, or a part that takes its process with it, loses one item at most.
With `--device=cpu` the same parts run on a CPU, where they measure less: there is no CUDA graph, and TF32 is float32.

Images are noise, unless `--datasets` has prepared ones: then accuracies mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.made_runs import network, prepare
from benchmarks.parts import Bench, Item, Part, measure
from benchmarks.results import FOLDER
from benchmarks.timing import Median, Row
from foundations.description.step import parse_steps
from platforms.local import LocalPlatform
from platforms.platform import PlatformHparams
from pruning.prune import prune
from training.context import Context
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.compute import complete
from training.jobs.together import Stack
from training.loop.trainer import Trainer
from training.recipes import recipe

NETWORKS = ("mnist_lenet_300_100", "cifar_resnet_20", "vit_small_data", "gpt_small_data")
PRECISIONS = ("float32", "tf32", "bf16")
STACKED = (1, 4, 16)
_MOST_ITERATIONS = 100
"""Of the methods that are compared with published masks."""
SPEEDRUN = {
    "model_name": "cifar_resnet_8_64",
    "batch_size": 1024,
    "training_steps": "10ep",
    "lr": 2.0,
    "milestone_steps": None,
    "gamma": None,
    "lr_schedule": "linear",
    "warmup_steps": "2ep",
    "nesterov_momentum": 0.85,
    "momentum": None,
    "label_smoothing": 0.2,
    "precision": "bf16",
}
"""A short training with large batches, as in Keller Jordan's airbench: linear decay, smoothed labels, bf16."""


def trainer_of(
    bench: Bench, desc: TrainDesc, *, graphs: bool, number: int = 0, density: float | None = None
) -> Trainer:
    """Return a training on the device, ready for its first step."""
    model = initialized_model(desc, number)
    mask = None if density is None else prune(model, "magnitude", density=density)
    place = replace(bench.context, cuda_graphs=graphs)
    trainer = Trainer(model, desc, place, place.platform, number)
    trainer.prepare(mask, desc.start)
    trainer.model.train()
    return trainer


def stepper(trainer: Trainer) -> Callable[[], None]:
    """Return a function that takes a step on one batch, over and over."""
    batch = next(iter(trainer.loader.train_batches(0)))

    def step() -> None:
        trainer.compute_gradients(*batch)
        trainer.optimizer.step()

    return step


def golden(bench: Bench) -> Iterator[Item]:
    """Compute masks of the published implementations on the device, and count the entries that differ."""
    from tests.pruning.golden import Case, cases_of  # the vectors belong to the tests

    def differing(name: str) -> Iterator[Row]:
        case = Case(name)
        scoring = dict(case.scoring)
        if "examples" in scoring:
            scoring["examples"] = tuple(part.to(bench.device) for part in scoring["examples"])
        mask, model = None, case.model().to(bench.device)
        for keep in case.counts:
            mask = prune(model, case.strategy, keep=keep, mask=mask, **scoring)
        assert mask is not None
        expected = case.mask()
        count = sum(int((mask[tensor] != expected[tensor]).sum()) for tensor in expected)
        yield Row(f"golden {name}", count, "at most 0" if not case.has_ties else "", "entries of the mask that differ")

    for name in cases_of("pruning"):
        case = Case(name)
        if case.is_of_published and case.description["method"] != "random" and len(case.counts) <= _MOST_ITERATIONS:
            yield Item(f"golden {name}", partial(differing, name))


def steps(bench: Bench) -> Iterator[Item]:
    """Time steps of four networks in each precision, with and without CUDA graphs, and with a mask."""
    for name in NETWORKS:
        for precision in PRECISIONS:
            yield Item(f"{name}, {precision}", partial(_steps_of, bench, name, precision))


def _steps_of(bench: Bench, name: str, precision: str) -> Iterator[Row]:
    desc = TrainDesc.of(recipe(name) | {"precision": precision, "mixup": 0.0, "cutmix": 0.0})
    prepare(desc.dataset.dataset_name, bench.context.datasets)
    plain = bench.step_seconds(stepper(trainer_of(bench, desc, graphs=False)))
    detail = f"batch {desc.dataset.batch_size}; {1 / plain:,.0f} steps a second"
    yield Row(f"{name}, {precision}: step", _milliseconds(plain), "", detail, "ms")
    masked = bench.step_seconds(stepper(trainer_of(bench, desc, graphs=False, density=0.2)))
    yield Row(f"{name}, {precision}: with a mask / without", masked / plain, "at most 1.1", "")
    if bench.device.type == "cuda":
        recorded = bench.step_seconds(stepper(trainer_of(bench, desc, graphs=True)))
        yield Row(f"{name}, {precision}: without CUDA graphs / with", plain / recorded, "at least 1", "")


def together(bench: Bench) -> Iterator[Item]:
    """Time steps of 1, 4 and 16 stacked networks."""
    for name in ("mnist_lenet_300_100", "cifar_resnet_20"):
        alone: list[float] = []
        for count in STACKED:
            for graphs in (False, True) if bench.device.type == "cuda" else (False,):
                what = f"{count} x {name}{', graphs' if graphs else ''}"
                yield Item(what, partial(_stack_of, bench, name, count, graphs, alone))


def _stack_of(bench: Bench, name: str, count: int, graphs: bool, alone: list[float]) -> Iterator[Row]:
    """Measure a stack. alone: the rate of one network, which the first item adds."""
    desc = TrainDesc.of(recipe(name))
    prepare(desc.dataset.dataset_name, bench.context.datasets)
    trainers = [trainer_of(bench, desc, graphs=graphs, number=number) for number in range(count)]
    batches = [next(iter(trainer.loader.train_batches(0))) for trainer in trainers]
    stack = Stack(trainers)

    def step() -> None:
        stack.compute_gradients(batches)
        for trainer in trainers:
            trainer.optimizer.step()

    rate = count / bench.step_seconds(step, repeats=3)
    if not alone:
        alone.append(rate)
    how = f"{rate:,.0f} steps a second, of all"
    yield Row(f"{count} x {name}{', graphs' if graphs else ''}: rate / of one", rate / alone[0], "", how)


def scoring(bench: Bench) -> Iterator[Item]:
    """Time pruning methods, and measure their peak memory."""
    for name in ("cifar_resnet_20", "cifar_vgg_16"):
        for strategy, iterations in (("snip10", 1), ("grasp10", 1), ("fisher10", 1), ("synflow", 100)):
            yield Item(f"{name}: {strategy}", partial(_scoring_of, bench, name, strategy, iterations))


def _scoring_of(bench: Bench, name: str, strategy: str, iterations: int) -> Iterator[Row]:
    model = network(TrainDesc.of(recipe(name))).to(bench.device)
    x, y = torch.randn(100, 3, 32, 32, device=bench.device), torch.arange(100, device=bench.device) % 10
    options: dict[str, Any] = {"iterations": iterations, "examples": (x, y), "input_shape": (3, 32, 32)}
    work = partial(prune, model, strategy, density=0.1, **options)
    work()
    peak = bench.peak_mebibytes(work)
    took = Median.of([bench.seconds(work) for _ in range(3)])
    yield Row(f"{name}: {strategy}", took, "", f"{iterations} iterations; peak {peak:,.0f} MiB", "s")


def resnet_20(bench: Bench) -> Iterator[Item]:
    """Train ResNet-20 as OpenLTH does: an epoch, 160 epochs at its rate, and as many as fit."""
    name = "cifar_resnet_20, 160 epochs"
    yield Item(name, partial(_training, bench, name, recipe("cifar_resnet_20"), epochs=160))


def speedrun(bench: Bench) -> Iterator[Item]:
    """Train by a short recipe with large batches in bf16."""
    name = "cifar_resnet_8_64, 10 epochs"
    values = {key: value for key, value in (recipe("cifar_resnet_20") | SPEEDRUN).items() if value is not None}
    yield Item(name, partial(_training, bench, name, values, epochs=10))


def _training(bench: Bench, name: str, values: dict[str, Any], epochs: int) -> Iterator[Row]:
    prepare("cifar10", bench.context.datasets)
    place = replace(bench.context, cuda_graphs=True, evaluate_only_at_end=True)

    def trained(length: int) -> tuple[float, float]:
        desc = TrainDesc.of(shortened(values, epochs, length))
        began = time.perf_counter()
        outcome = complete(desc, place)
        return time.perf_counter() - began, float(outcome.manifest.results["test_accuracy"] or 0.0)

    first, _ = trained(1)
    yield Row(f"{name}: the first epoch", first, "", "with everything that is done once", "s")
    two, three = trained(2)[0], trained(3)[0]
    epoch = max(1e-3, three - two)
    yield Row(f"{name}: an epoch", epoch, "", f"{epoch * epochs:,.0f} s for all, at this rate", "s")
    left = bench.until - time.perf_counter() - max(0.0, two - 2 * epoch)  # what is done once in each training
    length = min(epochs, int(left / (1.1 * epoch)))
    if length > 3:
        took, accuracy = trained(length)
        yield Row(f"{name}: {length} epochs", took, "", f"test accuracy {accuracy:.4f}", "s")


def shortened(values: dict[str, Any], epochs: int, length: int) -> dict[str, Any]:
    """Return a training of some of its epochs, whose milestones and warm-up keep their places in proportion."""
    in_epoch = TrainDesc.of(values).iterations_per_epoch
    changed: dict[str, Any] = {"training_steps": f"{length}ep"}
    for key in ("milestone_steps", "warmup_steps"):
        if text := values.get(key):
            places = [step.iteration for step in parse_steps(text, in_epoch)]
            changed[key] = ",".join(f"{max(1, round(place * length / epochs))}it" for place in places)
    return values | changed


def _milliseconds(times: Median) -> Median:
    return Median.of([1e3 * value for value in times.values])


PARTS = (
    Part(golden, 0.10),
    Part(steps, 0.25),
    Part(together, 0.15),
    Part(scoring, 0.10),
    Part(speedrun, 0.10),
    Part(resnet_20, 0.30),
)


def main(argv: Sequence[str]) -> int:
    """Measure all parts; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure on a GPU.")
    parser.add_argument("--dry_run", action="store_true", help="only print the parts, and the time of each")
    parser.add_argument("--seconds", type=float, default=540.0, help="time for all parts")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu")
    parser.add_argument("--datasets", type=Path, help="a folder of prepared datasets; by default images are noise")
    parser.add_argument("--results", type=Path, default=FOLDER / "gpu.json", help="where the results are written")
    parser.add_argument("--only", nargs="*", default=[], help=f"some parts: {', '.join(p.name for p in PARTS)}")
    flags = parser.parse_args(argv)
    unknown = [name for name in flags.only if name not in {part.name for part in PARTS}]
    if unknown:
        parser.error(f"there is no part '{unknown[0]}'; choose from {', '.join(part.name for part in PARTS)}")
    parts = [part for part in PARTS if not flags.only or part.name in flags.only]
    whole = sum(part.share for part in parts)
    for part in parts:
        print(f"{part.name:<10} at most {flags.seconds * part.share / whole:4.0f} s   {part.about}")
    if flags.dry_run:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        place = partial(context_of, Path(folder), flags.datasets, flags.device)
        return measure(parts, place, flags.seconds, flags.results)


def context_of(folder: Path, datasets: Path | None, device: str) -> Context:
    """Return the settings of jobs in a folder. datasets: prepared ones are read from there; others are written here."""
    platform = LocalPlatform(PlatformHparams(device=device))
    own = folder / "datasets"
    own.mkdir(exist_ok=True)
    for given in () if datasets is None else datasets.iterdir():
        with contextlib.suppress(FileExistsError):  # each part's process comes here
            (own / given.name).symlink_to(given.resolve())
    return Context(root=folder / "runs", datasets=own, platform=platform)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
