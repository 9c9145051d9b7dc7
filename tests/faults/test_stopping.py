from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.phases import PHASES, Phase
from tests.faults.stopping import STRIKES, Theatre

_OFTEN = ("training", "gradual pruning", "first second of a sweep", "verify")
_LOADED = 3.0
"""Factor on all time limits while other tests share the machine."""
_MOMENTS = [50 * number for number in range(1, 31)]
"""In milliseconds after the start."""


@pytest.mark.parametrize(
    "name", [name if name in _OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in PHASES]
)
def test_a_signal_ends_each_phase_in_time_and_leaves_nothing_half_written(name: str, tmp_path: Path) -> None:
    theatre, phase = Theatre(tmp_path / "theatre"), PHASES[name]
    number, is_group = STRIKES[len(name) % 2]
    place = theatre.begin(phase)

    stopped = theatre.stop(phase, place, number, is_group=is_group, patience=_LOADED)

    if not stopped.was_running:
        pytest.skip("it had ended before the signal")
    assert not stopped.faults(phase, _LOADED), stopped.out + stopped.err
    assert not theatre.consequences(phase, place)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "is_group"), STRIKES)
@pytest.mark.parametrize(
    "command",
    [
        ("train", "--default_hparams=digits_lenet_16"),
        ("ls",),
        ("sweep", "--grid=replicate=1-2", "--", "train", "--default_hparams=digits_lenet_16"),
    ],
)
def test_a_signal_ends_a_command_at_any_moment_of_its_start(
    command: tuple[str, ...], number: signal.Signals, is_group: bool, tmp_path: Path
) -> None:
    theatre, phase = Theatre(tmp_path / "theatre"), Phase(command, "")

    for moment in _MOMENTS:
        place = theatre.begin(phase)
        stopped = theatre.stop(phase, place, number, is_group=is_group, after=moment / 1000, patience=_LOADED)
        if stopped.was_running:
            assert not stopped.faults(phase, _LOADED), f"{moment} ms: {stopped.out}{stopped.err}"
