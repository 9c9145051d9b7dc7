"""The measurements for a GPU, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import PARTS, main
from foundations.errors import EnvironmentFailure


def test_a_dry_run_names_the_parts_and_their_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--dry_run", f"--results={tmp_path / 'gpu.json'}"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [part.name for part in PARTS]
    assert sum(float(line.split()[3]) for line in lines) == pytest.approx(540, abs=5)
    assert not (tmp_path / "gpu.json").exists()


def test_a_part_that_takes_too_long_is_stopped_and_what_it_measured_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "gpu.json"
    assert main(["--device=cpu", "--only", "steps", "--seconds=6", f"--results={results}"]) == 0

    assert "steps used up its time" in capsys.readouterr().out
    rows = json.loads(results.read_text())["rows"]
    assert rows
    assert rows[0]["what"] == "mnist_lenet_300_100, float32: step"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no device cuda"):
        main([f"--results={tmp_path / 'gpu.json'}"])
