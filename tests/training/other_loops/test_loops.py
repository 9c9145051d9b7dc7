"""Masks and techniques in the loops of other libraries, in one process and in two."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.training.other_loops.conftest import SCRIPTS, Run

CALLS = [
    ("in_transformers.py", ("mask", "rigl", "gmp", "best", "damaged"), 1),
    ("in_transformers.py", ("mask", "rigl"), 2),
    ("in_lightning.py", ("alone",), 1),
    ("in_lightning.py", ("ddp",), 2),
    ("in_lightning.py", ("fsdp2",), 2),
    ("in_accelerate.py", (), 1),
    ("in_accelerate.py", (), 2),
    ("in_torch.py", ("ddp", "fsdp2", "compiled ddp", "compiled fsdp2"), 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "arguments", "processes"), CALLS)
def test_pruned_weights_are_zero_after_every_step_when_saved_loaded_and_resumed(
    script: str, arguments: tuple[str, ...], processes: int, run: Run
) -> None:
    run(SCRIPTS / script, *arguments, processes=processes)


def test_inside_the_checkout_the_callback_of_transformers_ends_with_a_sentence() -> None:
    code = "from open_prune import transformers_callback; transformers_callback('rigl', density=0.1)"

    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)

    sentence = done.stderr.splitlines()[-1]
    assert f"transformers.Trainer fails here, since {REPOSITORY / 'datasets'} hides Hugging Face's package" in sentence
    assert sentence.endswith("install open_prune by `pip install .`, and start Python outside its checkout.")
