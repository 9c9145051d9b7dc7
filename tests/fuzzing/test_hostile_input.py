"""Input from others is read correctly or refused with a message: nothing executes, nothing is written elsewhere.

The short form tries some inputs of each target. The long one tries more than 100,000 and prints a table. To repeat an
input that failed: `OPEN_PRUNE_FUZZ='TARGET:SEED:NUMBER' pytest tests/fuzzing -k again -s`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzzing.file_targets import file_targets
from tests.fuzzing.harness import Outcome, Target, distinct, fuzz, report
from tests.fuzzing.reader_targets import reader_targets
from tests.fuzzing.run_targets import run_targets
from tests.fuzzing.seeds import Seeds, make_seeds
from tests.fuzzing.text_targets import text_targets

_SHORT = 4
_AGAIN = os.environ.get("OPEN_PRUNE_FUZZ", "")
_SCALE = float(os.environ.get("OPEN_PRUNE_FUZZ_SCALE", "1"))


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Seeds:
    return make_seeds(tmp_path_factory.mktemp("seeds"), digits)


def _targets(seeds: Seeds) -> list[Target]:
    return [*reader_targets(seeds), *run_targets(seeds), *file_targets(seeds), *text_targets(seeds)]


def test_some_hostile_inputs_are_refused_or_read_for_what_they_are(seeds: Seeds, tmp_path: Path) -> None:
    for target in _targets(seeds):
        outcome = fuzz(target, tmp_path, 0, range(_SHORT))
        assert not outcome.findings, "\n\n".join(outcome.findings)


@pytest.mark.slow
def test_a_hundred_thousand_hostile_inputs_are_refused_or_read_for_what_they_are(seeds: Seeds, tmp_path: Path) -> None:
    outcomes: dict[str, Outcome] = {}
    for target in _targets(seeds):
        outcomes[target.name] = fuzz(target, tmp_path, 1, range(round(_SCALE * target.inputs)))
        say(report({target.name: outcomes[target.name]}), *distinct(outcomes[target.name].findings))
    assert _SCALE < 1 or sum(each.tried for each in outcomes.values()) >= 100_000
    assert not any(each.findings for each in outcomes.values())


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


@pytest.mark.skipif(not _AGAIN, reason="no input is named in OPEN_PRUNE_FUZZ")
def test_an_input_is_tried_again(seeds: Seeds, tmp_path: Path) -> None:
    name, seed, number = _AGAIN.rsplit(":", 2)
    (target,) = (each for each in _targets(seeds) if each.name == name)

    outcome = fuzz(target, tmp_path, int(seed), [int(number)])

    assert not outcome.findings, "\n\n".join(outcome.findings)
