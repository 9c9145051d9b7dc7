"""Groups of parameters, schedule and clipping as in Hugging Face's Trainer, step by step."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.description.step import Step
from training.hparams import TrainingHparams
from training.loop.clipping import clip_gradients
from training.loop.loop import steps
from training.loop.lr_schedule import learning_rate
from training.loop.optimizers import make_optimizer
from training.loop.weight_decay import undecayed_parameters

SCRIPT = Path(__file__).with_name("by_transformers.py")
HAS_TRAINER = all(importlib.util.find_spec(name) for name in ("transformers", "accelerate"))


class Language(nn.Module):
    """The network of the script, which gives logits."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        vocabulary, width = weights["tokens.weight"].shape
        self.tokens, self.norm = nn.Embedding(vocabulary, width), nn.LayerNorm(width)
        self.hidden, self.head = nn.Linear(width, width), nn.Linear(width, vocabulary, bias=False)
        self.double().load_state_dict(weights)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(torch.tanh(self.hidden(self.tokens(inputs).cumsum(1)))))
        return found


class Batches:
    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self.batches = batches

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(batch["inputs"], batch["labels"]) for batch in self.batches[first:]])


@pytest.mark.skipif(not HAS_TRAINER, reason="transformers or accelerate is not installed")
@pytest.mark.parametrize("schedule", ["linear", "cosine", pytest.param("inverse_sqrt", marks=pytest.mark.slow)])
def test_a_training_is_that_of_a_trainer_step_by_step(schedule: str, tmp_path: Path) -> None:
    # Elsewhere, as the folder `datasets` of the repository hides the library that the Trainer looks for.
    script = tmp_path / SCRIPT.name
    script.write_bytes(SCRIPT.read_bytes())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    out = tmp_path / "out.pt"
    done = subprocess.run(
        [sys.executable, script, out, schedule], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(out, weights_only=True)
    hparams = TrainingHparams(
        optimizer_name="adamw",
        lr=0.02,
        training_steps="20it",
        weight_decay=0.1,
        no_decay="norms,biases",
        adam_beta1=0.85,
        adam_beta2=0.95,
        adam_epsilon=1e-6,
        clip_grad_norm=0.8,
        lr_schedule=schedule,
        warmup_steps="5it",
    )
    model, norms = Language(found["first"]), list[float]()
    optimizer = make_optimizer(hparams, model.parameters(), undecayed_parameters(model, hparams))

    def clip() -> None:
        norms.append(clip_gradients(model.parameters(), 0.8).item())

    trained = steps(
        optimizer,
        Batches(found["batches"]),
        learning_rate(hparams, 20),
        Step(0, 20),
        Step(20, 20),
        [lambda step: check(step.iteration)],
        clip=clip,
    )

    def check(step: int) -> None:
        expected = found["weights"][step - 1] if step else found["first"]
        torch.testing.assert_close(dict(model.named_parameters()), expected, rtol=1e-10, atol=1e-12)

    for inputs, targets in trained:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
    assert norms == pytest.approx(found["norms"], rel=1e-5)
    assert min(norms) < 0.8 < max(norms)
