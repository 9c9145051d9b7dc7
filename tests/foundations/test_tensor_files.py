import contextlib
import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.errors import DamagedError, EnvironmentFailure
from foundations.storage import tensor_files
from tests.conftest import REPOSITORY

MEND = "To mend it: mend it"
TENSORS = {
    "conv.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2) / 7,
    "conv.bias": torch.tensor([0.5, -0.0]),
    "bits": torch.tensor([3, 255, 0], dtype=torch.uint8),
    "kept": torch.tensor([True, False, True]),
    "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
    "batches": torch.tensor(12),
    "empty": torch.zeros(0, 3),
}
FACTS = {"step": 12, "metrics": "name,iteration,value\ntest_loss,0,2.25\n", "scaler": {"scale": 65536.0}, "parents": {}}
CONTENT = tensor_files.to_bytes(TENSORS, FACTS)


def bits_of(tensors):
    return {
        name: (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).tolist() if tensor.numel() else [])
        for name, tensor in tensors.items()
    }


def test_tensors_and_facts_read_back_bit_by_bit(tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(CONTENT)

    tensors, facts = tensor_files.read(path, MEND)

    assert bits_of(tensors) == bits_of(TENSORS)
    assert facts == FACTS


def assert_a_flipped_bit_is_noticed_or_changes_nothing(path, bit):
    damaged = bytearray(CONTENT)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        tensors, facts = tensor_files.read(path, MEND)
    except DamagedError as problem:
        assert str(path) in str(problem)
        assert str(problem).endswith(MEND)
    else:
        assert (bits_of(tensors), facts) == (bits_of(TENSORS), FACTS)


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 8 * len(CONTENT) - 1))
def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path_factory, bit):
    assert_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path_factory.getbasetemp() / "flipped", bit)


@pytest.mark.slow
def test_each_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    for bit in range(8 * len(CONTENT)):
        assert_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path / "flipped", bit)


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, len(CONTENT) - 1))
def test_a_truncated_file_is_damaged(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "truncated.safetensors"
    path.write_bytes(CONTENT[:length])

    with pytest.raises(DamagedError, match=MEND):
        tensor_files.read(path, MEND)


def test_bytes_after_the_end_are_damage(tmp_path):
    path = tmp_path / "longer.safetensors"
    path.write_bytes(CONTENT + b"\0")

    with pytest.raises(DamagedError):
        tensor_files.read(path, MEND)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("dump", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_pickle_is_refused_and_not_executed(tmp_path, dump):
    path, trace = tmp_path / "state.safetensors", tmp_path / "executed"
    dump({"weight": Trap(trace)}, path)

    with pytest.raises(DamagedError, match="not a whole safetensors file"):
        tensor_files.read(path, MEND)

    assert not trace.exists()


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "state.safetensors"
    save_file({"weight": torch.zeros(2)}, path)

    with pytest.raises(DamagedError):
        tensor_files.read(path, MEND)


def test_a_missing_file_is_a_failure_of_the_environment(tmp_path):
    with pytest.raises(EnvironmentFailure, match="There is no file") as failure:
        tensor_files.read(tmp_path / "state.safetensors", MEND)

    assert not isinstance(failure.value, DamagedError)


def test_a_folder_in_the_place_of_a_file_is_a_failure_of_the_environment(tmp_path):
    with pytest.raises(EnvironmentFailure, match=str(tmp_path)):
        tensor_files.read(tmp_path, MEND)


def test_the_bytes_do_not_depend_on_the_order_or_the_layout_of_the_tensors():
    weight = torch.randn(2, 3, 4, 4)
    plain = {"a": weight, "b": torch.ones(2)}
    other = {"b": torch.ones(4)[::2], "a": weight.to(memory_format=torch.channels_last)}

    assert tensor_files.to_bytes(plain, {"x": 1, "y": 2}) == tensor_files.to_bytes(other, {"y": 2, "x": 1})


def test_the_bytes_are_the_same_in_another_process():
    script = (
        "import hashlib, torch; from foundations.storage import tensor_files; "
        "tensors = {str(i): torch.arange(i) for i in range(40)}; "
        "facts = {str(i): i for i in range(40)}; "
        "print(hashlib.sha256(tensor_files.to_bytes(tensors, facts)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1
    assert digests.pop().strip()


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    shared = torch.arange(6.0)
    path = tmp_path / "state.safetensors"
    path.write_bytes(tensor_files.to_bytes({"whole": shared, "part": shared[2:4]}))

    assert tensor_files.read(path, MEND)[0]["part"].tolist() == [2.0, 3.0]


def test_a_file_that_goes_while_it_is_read_is_no_bug(tmp_path):
    # Rust opens it first, torch again: what it says then is not an OSError. Here the second finds no number for a file.
    path = tmp_path / "state.safetensors"
    path.write_bytes(CONTENT)
    tensor_files.read(path, MEND)
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (handles[0] + 64, former[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                handles.append(os.open(os.devnull, os.O_RDONLY))
        os.close(handles.pop())
        with pytest.raises(EnvironmentFailure, match=r"Cannot read .*state\.safetensors: .*Too many open files"):
            tensor_files.read(path, MEND)
    finally:
        for handle in handles:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
