"""The manifest has checksums of the files of a run, and of itself."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import DamagedError
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import MANIFEST
from tests.foundations.toy_descriptions import complete_run

RECORD = FileRecord(3, "a" * 64)
WHOLE = Manifest(
    files={"metrics.csv": RECORD, "state_ep0_it0.safetensors": RECORD},
    results={"test_accuracy": 0.9375, "test_loss": None},
    dataset={"digits": "b" * 64},
    parents={"train_1/replicate_1/main/mask.safetensors": "c" * 64},
    versions={"torch": "2.0"},
    device="cpu",
    wall_seconds=1.5,
    finished="2026-01-01 00:00:00",
)
DATA = WHOLE.to_bytes()


def test_it_is_read_as_it_was_written() -> None:
    assert Manifest.from_bytes(DATA) == WHOLE


def test_a_flip_of_any_bit_is_noticed() -> None:
    for byte in range(len(DATA)):
        for bit in range(8):
            flipped = bytearray(DATA)
            flipped[byte] ^= 1 << bit
            with pytest.raises((ValueError, KeyError, TypeError)):
                Manifest.from_bytes(bytes(flipped))


def test_one_without_a_digest_of_its_own_is_read() -> None:
    tree = json.loads(DATA)
    del tree["sha256"]

    assert Manifest.from_bytes(json.dumps(tree).encode()) == WHOLE


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "..", ".", ".hidden", "", "damaged\0name", "../../train_1/main/metrics.csv"]
)
def test_a_name_that_leads_out_of_the_run_is_refused(name: str) -> None:
    tree = {"files": {name: {"size": 3, "sha256": "a" * 64}}, "results": {}}

    with pytest.raises(TypeError):
        Manifest.from_bytes(json.dumps(tree).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["files", "results", "dataset", "parents", "versions", "device", "wall_seconds", "x"]), JSON)
def test_a_part_of_another_form_is_refused_or_read_and_nothing_else(part: str, value: object) -> None:
    tree = {**json.loads(DATA), part: value}
    del tree["sha256"]
    try:
        found = Manifest.from_bytes(json.dumps(tree).encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    assert Manifest.from_bytes(found.to_bytes()) == found or found.results != found.results


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b"{}", b"7", b'{"files": 1' + b"0" * 5000 + b"}"])
def test_what_is_no_manifest_is_a_damaged_file(tmp_path: Path, data: bytes) -> None:
    run = complete_run(tmp_path)
    (run.folder / MANIFEST).write_bytes(data)

    with pytest.raises(DamagedError, match=MANIFEST):
        run.manifest()


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**19, 10**400, True, "1"])
def test_a_result_that_is_no_number_is_refused(number: object) -> None:
    tree = {**json.loads(DATA), "results": {"test_accuracy": number}}
    del tree["sha256"]

    with pytest.raises((ValueError, TypeError)):
        Manifest.from_bytes(json.dumps(tree).encode())


@pytest.mark.parametrize("number", [1e30, -1e300, 5e-324, 0.0])
def test_a_loss_of_any_size_is_read_back(number: float) -> None:
    whole = dataclasses.replace(WHOLE, results={"test_loss": number})

    assert Manifest.from_bytes(whole.to_bytes()) == whole
