from __future__ import annotations

from analysis.rows.lineage import Relative, ancestors, by_descent, descendants
from analysis.rows.run_row import row_of
from foundations.storage.store import all_runs
from tests.analysis.conftest import Family


def named(relatives: list[Relative]) -> list[tuple[int, str]]:
    return [(each.generation, str(each.run)) for each in relatives]


def test_ancestors_are_followed_to_the_training_and_each_is_followed_once(family: Family) -> None:
    first, second = family.levels

    assert named(ancestors(second)) == [
        (0, str(second)),
        (1, str(first)),
        (2, str(family.training)),
        (1, str(family.training)),
    ]
    assert named(ancestors(family.training)) == [(0, str(family.training))]


def test_descendants_are_followed_to_the_last_branch(family: Family) -> None:
    first, second = family.levels

    found = named(descendants(family.training))

    assert found[0] == (0, str(family.training))
    assert {(1, str(first)), (1, str(family.branch)), (2, str(second))} < set(found)
    assert named(descendants(second)) == [(0, str(second))]


def test_rows_follow_the_runs_that_they_descend_from(family: Family) -> None:
    rows = by_descent([row_of(run) for run in all_runs(family.root)])

    first, second = (str(level) for level in family.levels)
    lines = [[str(family.imported)], [str(family.training), first, second, str(family.branch)]]
    assert [row.location for row in rows] == [location for line in lines for location in line]
