"""Maps of overlap: the Jaccard index of each pair of masks, counted here by sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.plot import plot
from analysis.rows.run import open_run
from foundations.errors import UsageError
from foundations.storage.run import MASK
from tests.analysis.figures.conftest import branch_in
from tests.training.small_runs import context, oneshot_desc
from training.jobs.compute import complete


def kept(root: Path, strategy: str, replicate: int) -> set[tuple[str, int]]:
    mask = open_run(str(branch_in(root, strategy, replicate).location), root).mask()
    assert mask is not None
    return {(name, place) for name in mask for place in mask[name].flatten().nonzero().flatten().tolist()}


def test_groups_are_compared_within_a_replicate_and_with_themselves_between_replicates(grid: Path) -> None:
    drawn = plot("overlap", grid)

    found = {(point["first"], point["second"], point["addresses"]): point for point in drawn.points}
    pairs = [(("random", 1), ("random", 2)), (("magnitude", 1), ("magnitude", 2))]
    pairs += [(("random", number), ("magnitude", number)) for number in (1, 2)]
    assert len(found) == len(pairs)
    for one, other in pairs:
        names = [f"{branch_in(grid, *each).location.digest}/{each[1]}" for each in (one, other)]
        a, b = kept(grid, *one), kept(grid, *other)
        point = found[one[0], other[0], " ".join(names)]
        assert point["jaccard"] == pytest.approx(len(a & b) / len(a | b))


def test_the_map_is_symmetric_and_shows_the_means(grid: Path) -> None:
    drawn = plot("overlap", grid)

    table = drawn.figure.axes[0].get_images()[0].get_array()
    between = [float(point["jaccard"] or 0) for point in drawn.points if point["first"] != point["second"]]
    assert table is not None
    assert table[0, 1] == table[1, 0] == pytest.approx(sum(between) / 2)


def test_beyond_chance_random_masks_overlap_by_nothing(grid: Path) -> None:
    drawn = plot("overlap", grid, beyond_chance=True, where="strategy=random")

    (point,) = drawn.points
    assert abs(float(point["beyond_chance"] or 0)) < 0.1 < float(point["jaccard"] or 0)


def test_a_damaged_mask_is_left_out_and_said_so(own_grid: Path) -> None:
    path = branch_in(own_grid, "random").folder / MASK
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))

    drawn = plot("overlap", own_grid)

    assert not any(point["first"] == point["second"] == "random" for point in drawn.points)
    assert any("damaged" in note for note in drawn.notes)


def test_masks_of_another_network_are_not_compared_and_do_not_end_the_figure(own_grid: Path, digits: Path) -> None:
    other = oneshot_desc("synflow", parent={"model_name": "digits_lenet_8"}, density=0.3)
    complete(other, context(own_grid, digits))

    drawn = plot("overlap", own_grid)

    assert {point["first"] for point in drawn.points} == {"random", "magnitude"}
    assert [note for note in drawn.notes if note.startswith("Not compared, random and synflow: ")]
    with pytest.raises(UsageError, match="different networks"):
        plot("overlap", own_grid, where="strategy=synflow,strategy=random,replicate=1")
