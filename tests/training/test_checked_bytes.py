"""Runs that are reused are read before they are trusted, as far as that takes a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundations.errors import DamagedError
from foundations.plan import Target, plan
from tests.foundations.toy_descriptions import flip_a_bit
from tests.training.small_runs import context, run_of, train_desc
from training.jobs.compute import complete, execute


@pytest.mark.parametrize("is_spent", [True, False])
def test_the_bytes_of_runs_that_are_reused_are_checked_as_many_as_one_command_may_read(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, is_spent: bool
) -> None:
    place = context(tmp_path, digits)
    descs = [train_desc(training_steps="2it", lr=lr) for lr in (0.1, 0.2)]
    manifests = [complete(desc, place).manifest for desc in descs]
    first, second = (sum(record.size for record in manifest.files.values()) for manifest in manifests)
    monkeypatch.setattr("training.jobs.compute._BYTES_CHECKED", first + second - is_spent)
    last = sorted(manifests[1].files, key=lambda name: manifests[1].files[name].size)[-1]
    flip_a_bit(run_of(descs[1], place).folder / last)
    made = plan([Target(desc, place.replicate) for desc in descs], place.root)

    if is_spent:
        assert execute(made, place) == []
    else:
        with pytest.raises(DamagedError, match=last):
            execute(made, place)
