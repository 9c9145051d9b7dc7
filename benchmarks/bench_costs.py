"""CPU time and memory of methods before training, beside SNIP and against plain code, each in a process of its own.

CPU time of one thread, so that other processes on the machine change little. Memory is what the process takes at most
while it prunes, beyond what it took before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.timing import Median, Row, median_ratio
from foundations.program import TOP

METHODS = ("snip", "grasp", "force", "grasp_it", "fisher", "hutchinson", "prospr", "synflow", "ntk_sap", "px")
MEASURED = """
import json, resource, sys, time
import torch
from benchmarks.bench_methods import in_both_ways
from benchmarks.made_runs import network
from training.desc import TrainDesc
from training.recipes import recipe

torch.set_num_threads(1)
name, count, method, repeats, ways = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:]
both = in_both_ways(network(TrainDesc.of(recipe(name))), count)[method]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, found = peak(), {way: [] for way in ways}
for repeat in range(repeats + 1):
    for way in ways:
        began = time.process_time()
        both[way]()
        found[way] += [time.process_time() - began] * (repeat > 0)
        if repeat == 0 and way == "ours":
            found["memory"] = (peak() - before) / (1024 if sys.platform == "linux" else 2**20)
print(json.dumps(found))
"""


def rows(repeats: int = 3) -> Iterator[Row]:
    """Measure ResNet-20 with 100 examples against plain code, and VGG-16 with 10."""
    yield from _beside_snip("cifar_resnet_20", 100, repeats, "ours", "plain")
    yield from _beside_snip("cifar_vgg_16", 10, 1, "ours")


def _beside_snip(name: str, count: int, repeats: int, *ways: str) -> Iterator[Row]:
    snip = 0.0
    for method in METHODS:
        line = [sys.executable, "-c", MEASURED, name, str(count), method, str(repeats), *ways]
        done = subprocess.run(line, check=True, cwd=TOP, stdout=subprocess.PIPE)
        found = json.loads(done.stdout)
        seconds = Median.of(found["ours"])
        snip = snip or seconds
        yield Row(f"{name}: {method} / snip", seconds / snip, "", f"{seconds:.2f} s of CPU, {count} examples")
        yield Row(f"{name}: memory of {method}", found["memory"], "", f"{count} examples", "MiB")
        if "plain" in ways:
            ratio = median_ratio(found["plain"], found["ours"])
            yield Row(f"{name}: plain / {method}", ratio, "aim: at least 1", f"CPU time, median of {repeats}")
