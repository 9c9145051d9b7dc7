"""Files with the name of a weights file but other content: the message names the content and a remedy."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from branches.imported.weights_file import import_weights
from foundations.errors import DamagedError
from tests.training.small_runs import context, train_desc


class Settings:
    """A user's own class, as Lightning stores among hyperparameters."""

    def __init__(self) -> None:
        self.lr = 0.1


class Touching:
    """An object that would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def saved(content: object, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


def script() -> bytes:
    target = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), target)
    return target.getvalue()


def zipped(name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, "some text")
    return target.getvalue()


STATE = {"fc.weight": torch.zeros(30, 30)}
SAVE_STATE_DICT = r"torch\.save\(model\.state_dict\(\), FILE\)"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def refusal(tmp_path: Path, content: bytes, name: str = "weights.pth") -> str:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedError) as error:
        import_weights(tmp_path / name, train_desc(), context(tmp_path / "runs", tmp_path))
    text = str(error.value)
    assert name in text and len(text.splitlines()) <= 2 and text.replace("\n", "").isprintable()
    assert not any(words in text for words in ("\x1b", "weights_only", "add_safe_globals", "two options", "issue"))
    return text


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: saved(nn.Linear(2, 2)),
            rf"whole object of class torch\.nn\.modules\.linear\.Linear(.|\n)*{SAVE_STATE_DICT}",
        ),
        (
            lambda: saved(nn.Linear(2, 2), _use_new_zipfile_serialization=False),
            rf"linear\.Linear(.|\n)*{SAVE_STATE_DICT}",
        ),
        (lambda: saved({"model": nn.Linear(2, 2)}), rf"linear\.Linear beside tensors(.|\n)*{SAVE_STATE_DICT}"),
        (lambda: saved({"state_dict": STATE, "hyper_parameters": Settings()}), rf"Settings(.|\n)*{SAVE_STATE_DICT}"),
        (script, rf"TorchScript(.|\n)*{SAVE_STATE_DICT}"),
        (lambda: pickle.dumps(STATE), rf"another kind of pickle(.|\n)*{SAVE_STATE_DICT}"),
        (lambda: saved(STATE, pickle_protocol=4), rf"another kind of pickle(.|\n)*{SAVE_STATE_DICT}"),
        (lambda: saved(torch.zeros(2, 3)), r"one tensor of shape \(2, 3\)"),
        (lambda: saved([STATE]), "a list"),
        (lambda: saved({"epoch": 3}), "a dict without tensors in it, of 'epoch'"),
        (lambda: saved({}), "an empty dict"),
        (lambda: b"", "it is empty"),
        (lambda: LFS, "Git LFS"),
        (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (lambda: gzip.compress(saved(STATE)), "compressed"),
        (lambda: b'{"weight_map": {}}', "JSON"),
        (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (lambda: zipped("a.txt"), "a zip archive that torch.save did not write"),
        (lambda: b"hello", "neither safetensors nor a file of torch.save"),
        (lambda: bytes(600), "neither safetensors nor a file of torch.save"),
    ],
)
def test_what_is_no_state_dict_is_named_with_what_to_do(tmp_path: Path, make: Callable[[], bytes], words: str) -> None:
    content = make()
    for name in ("weights.pth", "weights.safetensors"):
        assert re.search(words, refusal(tmp_path, content, name)), refusal(tmp_path, content, name)


@pytest.mark.parametrize("content", [saved(STATE), saved(STATE, _use_new_zipfile_serialization=False), save(STATE)])
def test_a_file_that_ends_too_early_is_said_to(tmp_path: Path, content: bytes) -> None:
    for part in (0.3, 0.6, 0.95):
        assert "ends too early" in refusal(tmp_path, content[: int(part * len(content))])


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    target = io.BytesIO()
    np.savez(target, **{"fc.weight": np.array([Touching(tmp_path / "made")], dtype=object)})  # type: ignore[arg-type]

    refusal(tmp_path, target.getvalue(), "weights.npz")

    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path: Path, is_zip: bool) -> None:
    for content in (Touching(tmp_path / "made"), {"state_dict": STATE, "args": Touching(tmp_path / "made")}):
        refusal(tmp_path, saved(content, _use_new_zipfile_serialization=is_zip))
        refusal(tmp_path, pickle.dumps(content, protocol=2))

    assert not (tmp_path / "made").exists()
