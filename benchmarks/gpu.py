"""`make gpu`: what only a GPU can show, in one script of at most nine minutes.

    python -m benchmarks.gpu [--dry_run] [--seconds=540] [--device=cuda] [--datasets=FOLDER] [--results=FILE]

Parts run in the order of `PARTS`, each within its share of the time; one that takes longer is stopped and named. The
results are written after each part, so that a machine that is taken away loses one part at most. With `--device=cpu`
the same parts run on a CPU, where they measure less: there is no CUDA graph, and TF32 is float32.

Images are noise, unless `--datasets` has prepared ones: then accuracies mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.made_runs import network, prepare
from benchmarks.results import FOLDER, in_words, machine
from benchmarks.timing import Median, Row, seconds
from platforms.local import LocalPlatform
from platforms.platform import Platform, PlatformHparams
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


@dataclass(frozen=True)
class Bench:
    """The place of the measurements."""

    context: Context
    until: float
    """The time at which the part must end, by `time.perf_counter`."""
    timed_seconds: float
    """The time that one measurement takes at least."""

    @property
    def device(self) -> torch.device:
        return self.context.platform.device

    def wait(self) -> None:
        """Wait until the device has done all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def step_seconds(self, step: Callable[[], object], warm_up: int = 5, repeats: int = 5) -> Median:
        """Return the time of one step: the median over repeats, each of as many steps as a measurement takes."""
        for _ in range(warm_up):
            step()
        self.wait()
        steps = max(1, round(self.timed_seconds / max(1e-6, self.seconds(step))))

        def several() -> None:
            for _ in range(steps):
                step()

        return Median.of([self.seconds(several) / steps for _ in range(repeats)])

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of some work on the device."""

        def done() -> None:
            work()
            self.wait()

        return seconds(done)

    def peak_mebibytes(self, work: Callable[[], object]) -> float:
        """Return the peak of the device's memory during some work; 0 on a CPU, where PyTorch does not count it."""
        if self.device.type != "cuda":
            work()
            return 0.0
        gc.collect()
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return float(torch.cuda.max_memory_allocated(self.device)) / 2**20


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


def golden(bench: Bench) -> Iterator[Row]:
    """Compute masks of the published implementations on the device, and count the entries that differ."""
    from tests.pruning.golden import Case, cases_of  # the vectors belong to the tests

    for name in cases_of("pruning"):
        case = Case(name)
        if case.description["method"] == "random" or len(case.counts) > 100:
            continue
        scoring = dict(case.scoring)
        if "examples" in scoring:
            scoring["examples"] = tuple(part.to(bench.device) for part in scoring["examples"])
        mask, model = None, case.model().to(bench.device)
        for keep in case.counts:
            mask = prune(model, case.strategy, keep=keep, mask=mask, **scoring)
        assert mask is not None
        expected = case.mask()
        differing = sum(int((mask[tensor] != expected[tensor]).sum()) for tensor in expected)
        yield Row(
            f"golden {name}", differing, "at most 0" if not case.has_ties else "", "entries of the mask that differ"
        )


def steps(bench: Bench) -> Iterator[Row]:
    """Time steps of four networks in each precision, with and without CUDA graphs, and with a mask."""
    for name in NETWORKS:
        for precision in PRECISIONS:
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


def together(bench: Bench) -> Iterator[Row]:
    """Time steps of 1, 4 and 16 stacked networks."""
    for name in ("mnist_lenet_300_100", "cifar_resnet_20"):
        desc, alone = TrainDesc.of(recipe(name)), 0.0
        prepare(desc.dataset.dataset_name, bench.context.datasets)
        for count in STACKED:
            for graphs in (False, True) if bench.device.type == "cuda" else (False,):
                trainers = [trainer_of(bench, desc, graphs=graphs, number=number) for number in range(count)]
                batches = [next(iter(trainer.loader.train_batches(0))) for trainer in trainers]
                stack = Stack(trainers)

                def step(stack: Stack = stack, batches: Any = batches, trainers: Any = trainers) -> None:
                    stack.compute_gradients(batches)
                    for trainer in trainers:
                        trainer.optimizer.step()

                rate = count / bench.step_seconds(step, repeats=3)
                alone = alone or rate
                how = f"{rate:,.0f} steps a second, of all"
                yield Row(f"{count} x {name}{', graphs' if graphs else ''}: rate / of one", rate / alone, "", how)


def scoring(bench: Bench) -> Iterator[Row]:
    """Time pruning methods, and measure their peak memory."""
    for name in ("cifar_resnet_20", "cifar_vgg_16"):
        model = network(TrainDesc.of(recipe(name))).to(bench.device)
        x, y = torch.randn(100, 3, 32, 32, device=bench.device), torch.arange(100, device=bench.device) % 10
        for strategy, iterations in (("snip10", 1), ("grasp10", 1), ("fisher10", 1), ("synflow", 100)):
            work = partial(
                prune, model, strategy, density=0.1, iterations=iterations, examples=(x, y), input_shape=(3, 32, 32)
            )
            work()
            peak = bench.peak_mebibytes(work)
            took = Median.of([bench.seconds(work) for _ in range(3)])
            yield Row(f"{name}: {strategy}", took, "", f"{iterations} iterations; peak {peak:,.0f} MiB", "s")


def resnet_20(bench: Bench) -> Iterator[Row]:
    """Train ResNet-20 as OpenLTH does: an epoch, 160 epochs at its rate, and as many as fit."""
    yield from _training(bench, "cifar_resnet_20, 160 epochs", recipe("cifar_resnet_20"), epochs=160)


def speedrun(bench: Bench) -> Iterator[Row]:
    """Train by a short recipe with large batches in bf16."""
    values = {key: value for key, value in (recipe("cifar_resnet_20") | SPEEDRUN).items() if value is not None}
    yield from _training(bench, "cifar_resnet_8_64, 10 epochs", values, epochs=10)


def _training(bench: Bench, name: str, values: dict[str, Any], epochs: int) -> Iterator[Row]:
    prepare("cifar10", bench.context.datasets)
    place = replace(bench.context, cuda_graphs=True, evaluate_only_at_end=True)

    def trained(length: int) -> tuple[float, float]:
        desc = TrainDesc.of(values | _shortened(values, length / epochs, f"{length}ep"))
        began = time.perf_counter()
        outcome = complete(desc, place)
        return time.perf_counter() - began, float(outcome.manifest.results["test_accuracy"] or 0.0)

    first, _ = trained(1)
    yield Row(f"{name}: the first epoch", first, "", "with everything that is done once", "s")
    second, _ = trained(2)
    epoch = max(1e-3, second - first)
    yield Row(f"{name}: an epoch", epoch, "", f"{epoch * epochs:,.0f} s for all, at this rate", "s")
    left = bench.until - time.perf_counter()
    length = min(epochs, int(left / (1.1 * epoch)))
    if length > 2:
        took, accuracy = trained(length)
        yield Row(f"{name}: {length} epochs", took, "", f"test accuracy {accuracy:.4f}", "s")


def _shortened(values: dict[str, Any], share: float, length: str) -> dict[str, Any]:
    """Return a training of another length, whose milestones and warm-up keep their places in proportion."""
    changed: dict[str, Any] = {"training_steps": length}
    for key in ("milestone_steps", "warmup_steps"):
        text = values.get(key)
        if text:
            changed[key] = ",".join(f"{max(1, round(_epochs(part) * share * 390))}it" for part in text.split(","))
    return changed


def _epochs(text: str) -> float:
    return float(text.removesuffix("ep")) if text.endswith("ep") else float(text.removesuffix("it")) / 391


def _milliseconds(times: Median) -> Median:
    return Median.of([1e3 * value for value in times.values])


@dataclass(frozen=True)
class Part:
    """A part of the measurements."""

    run: Callable[[Bench], Iterator[Row]]
    share: float
    """Its share of the time."""

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def about(self) -> str:
        return str(self.run.__doc__)


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
        context = Context(
            root=Path(folder) / "runs",
            datasets=flags.datasets or Path(folder),
            platform=LocalPlatform(PlatformHparams(device=flags.device)),
        )
        return _measure(parts, context, flags.seconds, flags.results)


def _measure(parts: Sequence[Part], context: Context, whole: float, results: Path) -> int:
    began, failed, rows = time.perf_counter(), list[str](), list[dict[str, Any]]()
    end, shares = began + whole, sum(part.share for part in parts)
    _ = context.platform.device  # raises here, before anything is measured, if there is no such device
    for part in parts:
        left = end - time.perf_counter()
        until = time.perf_counter() + left * part.share / shares
        shares -= part.share
        bench = Bench(context, until, timed_seconds=min(0.25, whole / 1000))
        print(f"\n{part.name}", flush=True)
        try:
            with _time_limit(until - time.perf_counter()):
                context.platform.launch(partial(_run, part, bench, rows))
        except TimeIsUp:
            print(f"{part.name} used up its time; the rest of it is not measured.", flush=True)
        except Exception as error:  # the other parts are measured all the same
            print(f"{part.name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(part.name)
        took = round(time.perf_counter() - began, 1)
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps({**machine(), "took_seconds": took, "rows": rows}, indent=1) + "\n")
    print(f"\n{len(rows)} rows are in {results}.")
    return int(bool(failed))


def _run(part: Part, bench: Bench, rows: list[dict[str, Any]], _: Platform) -> None:
    """Measure a part, and add its rows as they come."""
    for row in part.run(bench):
        rows.append(row.to_json())
        print(in_words(rows[-1]), flush=True)


class TimeIsUp(Exception):
    """A part has used up its time."""


@contextlib.contextmanager
def _time_limit(most: float) -> Iterator[None]:
    """Raise TimeIsUp inside the block after some seconds."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, most))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
