"""Pruning of networks of other libraries to exact counts, without code for any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import bench_libraries
from benchmarks.timing import Row


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    monkeypatch.setattr(bench_libraries, "TIMM", "test_resnet test_vit")
    monkeypatch.setattr(bench_libraries, "TRANSFORMERS", {"gpt2": bench_libraries.TRANSFORMERS["gpt2"]})
    yield


def refused(rows: list[Row]) -> set[str]:
    return {row.what.split()[1] for row in rows if row.is_met is False}


@pytest.mark.usefixtures("small")
def test_every_method_prunes_networks_of_other_libraries_to_the_exact_number() -> None:
    rows = list(bench_libraries.rows())

    assert [row.what for row in rows] == ["timm test_resnet", "timm test_vit", "transformers gpt2"]
    assert refused(rows) == set()


@pytest.mark.slow
def test_most_kinds_of_networks_are_pruned_by_every_method_and_the_others_are_refused_with_a_reason() -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")

    rows = list(bench_libraries.rows())

    assert sum(row.is_met is True for row in rows) >= 34
    assert refused(rows) <= {"efficientvit_b0", "gmlp_ti16_224", "halonet26t"}
    assert all(":" in row.detail for row in rows if row.is_met is False)
