"""The perplexity of a run, against a computation of its own: one window of stored tokens at a time, in numpy."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foundations.inputs import Inputs
from foundations.storage import tensor_files
from foundations.storage.store import find_run
from models.build import build_model
from models.hparams import ModelHparams
from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.datasets.tiny_tasks import SEPARATOR, TEXT

LENGTH = 6


@pytest.mark.parametrize(("network", "stride"), [("gpt_1_8_2", LENGTH), ("llama_1_8_2", 4), ("lstm_1_8", 1)])
def test_perplexity_is_that_of_every_test_token_given_those_before_it(
    network: str, stride: int, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path / "root", tmp_path)
    trained = terminal.run(
        *("train", "--dataset_name=tiny_text", f"--model_name={network}", "--model_init=as_built", "--lr=0.1"),
        *("--batch_size=13", "--training_steps=1ep", f"--sequence_length={LENGTH}", f"--stride={stride}"),
        f"--plugin={REPOSITORY / 'tests/datasets/tiny_tasks.py'}",
    )
    assert trained.code == 0, trained.err
    (listed,) = json.loads(terminal.run("ls", "--json").out)
    run = find_run(tmp_path / "root", listed["address"])
    state = tensor_files.read(run.path(run.state_name(max(run.kept_states(5)))), "")[0]
    inputs = Inputs(shape=(LENGTH,), kind="tokens", vocabulary=TEXT.vocabulary, padding=TEXT.padding, per_token=True)
    hparams = ModelHparams.of({"model_name": network, "model_init": "as_built"})
    model = build_model(hparams, outputs=TEXT.vocabulary, inputs=inputs, seed_keys=(0,)).eval()
    model.load_state_dict(state)

    stored = load_file(next(tmp_path.glob("tiny_text*/test*.safetensors")))
    assert listed["results"]["test_perplexity"] == pytest.approx(by_hand(model, joined(stored), stride), rel=1e-5)


def joined(stored: dict[str, torch.Tensor]) -> list[int]:
    """Return all documents, with the separator before each."""
    tokens, ends = stored["tokens"].tolist(), stored["documents"].tolist()
    return [token for a, b in itertools.pairwise(ends) for token in (SEPARATOR, *tokens[a:b])]


def by_hand(model: torch.nn.Module, stream: list[int], stride: int) -> float:
    """Return exp of the mean of -log p over all tokens but the first, each from the first window that has it."""
    losses: list[float] = []
    for start in range(0, len(stream), stride):
        window = stream[start : start + LENGTH]
        with torch.no_grad():
            logits = model(torch.tensor([window]))[0].double().numpy()
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        known = len(losses) + 1  # the first token that has no prediction yet
        for place in range(known, min(start + LENGTH + 1, len(stream))):
            losses.append(-math.log(chances[place - start - 1, stream[place]]))
    assert len(losses) == len(stream) - 1
    return math.exp(sum(losses) / len(losses))
