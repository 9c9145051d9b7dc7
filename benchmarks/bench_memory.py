"""Peak memory of training, against a bare loop, and of scoring, each in a process of its own.

The bare loop has the network, its optimizer and the whole dataset as uint8, in a memory-mapped file as in training; it
converts each batch to float and normalizes it, without augmentation, evaluation or states. Training is the command,
with its evaluation, states and checkpoints. Scoring is SNIP on a ResNet-50 with images that are read batch by batch;
its memory does not depend on the number of batches.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.made_runs import make_noise
from benchmarks.processes import peak_memory
from benchmarks.timing import Median, Row, median_ratio
from pruning.scoring.activation_memory import MOST_ACTIVATIONS

TRAINING = """
import sys
from cli.main import main
folder, number = sys.argv[1:]
assert main(["train", "--default_hparams=cifar_resnet_20", "--training_steps=8it", "--quiet",
             f"--root={folder}/runs_{number}", f"--datasets_root={folder}"]) == 0
"""
BARE = """
import sys
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from benchmarks.made_runs import network
from training.desc import TrainDesc
from training.recipes import recipe

desc = TrainDesc.of(recipe("cifar_resnet_20"))
model = network(desc)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
data = load_file(f"{sys.argv[1]}/cifar10/train.safetensors")
order = torch.randperm(len(data["labels"]))
for batch in order.split(desc.dataset.batch_size)[:8]:
    images = (data["images"][batch].float() / 255 - 0.5) / 0.25
    optimizer.zero_grad()
    F.cross_entropy(model(images), data["labels"][batch]).backward()
    optimizer.step()
"""
SCORING = """
import sys
import torch
import pruning.scoring.scoring
from foundations.examples import Rows
from benchmarks.made_runs import network
from pruning.hparams import PruningHparams
from pruning.scoring.inputs import ScoringInputs
from pruning.compute_mask import mask_from_hparams
from training.desc import TrainDesc
from training.recipes import recipe

desc = TrainDesc.of(recipe("imagenet_resnet_50"))
shape, model = desc.dataset.input_shape, network(desc)
pruning.scoring.scoring.MOST_ACTIVATIONS = int(sys.argv[1])
labels = torch.arange(128) % 2
rows = Rows(labels, lambda rows: torch.randn(len(labels[rows]), *shape))
hparams = PruningHparams.of({"strategy": "snip64", "density": 0.1})
mask_from_hparams(model, hparams, ScoringInputs(seed=0, examples=rows, batch_size=64))
"""


def rows(repeats: int = 2) -> list[Row]:
    """Measure both in turn."""
    with tempfile.TemporaryDirectory() as folder:
        make_noise("cifar10", Path(folder))
        pairs = [(peak_memory(TRAINING, folder, str(n)), peak_memory(BARE, folder)) for n in range(repeats)]
        torch_alone = peak_memory("import torch")
    training, bare = zip(*pairs, strict=True)
    detail = f"8 steps of batch 128; torch alone takes {torch_alone:.0f} MiB"
    return [
        Row("cifar_resnet_20: peak memory / bare loop", median_ratio(training, bare), "at most 1.3", detail),
        Row("cifar_resnet_20: peak memory", Median.of(training), "", "the whole process", "MiB"),
        Row("cifar_resnet_20: peak memory of the bare loop", Median.of(bare), "", "the whole process", "MiB"),
        *_scoring(),
    ]


def _scoring() -> list[Row]:
    bounded, whole = (peak_memory(SCORING, str(limit)) for limit in (MOST_ACTIVATIONS, 1 << 60))
    detail = "SNIP, 2 batches of 64 images of 224 x 224"
    what = "imagenet_resnet_50: peak memory of scoring"
    return [
        Row(f"{what} / all activations kept", bounded / whole, "at most 0.7", detail),
        Row(what, bounded, "", detail, "MiB"),
        Row("imagenet_resnet_50: peak memory with all activations kept", whole, "", detail, "MiB"),
    ]
