import contextlib
import os
import signal
import subprocess
import sys

import pytest

from foundations.errors import Interrupted
from foundations.interrupts import Interrupts
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_on_the_spot(number, code):
    interrupts = Interrupts()

    with interrupts.caught(), pytest.raises(Interrupted, match=signal.Signals(number).name) as stop:
        os.kill(os.getpid(), number)

    assert stop.value.exit_code == code


def test_a_deferred_signal_only_sets_its_number():
    interrupts = Interrupts()

    with interrupts.caught(), interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)

    assert interrupts.signal_number == signal.SIGTERM


def test_a_second_signal_raises_even_where_the_first_was_deferred():
    interrupts = Interrupts()

    with interrupts.caught(), interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_others_are_told_when_signals_begin_to_be_deferred_and_when_they_no_longer_are():
    told: list[bool] = []
    interrupts = Interrupts(tell=told.append)

    with interrupts.deferred(), interrupts.deferred():
        assert told == [True]

    assert told == [True, False]


def test_a_keyboard_interrupt_of_others_passes_as_it_is():
    interrupts = Interrupts()

    with pytest.raises(KeyboardInterrupt), interrupts.deferred(), interrupts.at_once():
        os.kill(os.getpid(), signal.SIGINT)


def test_the_former_handlers_are_put_back():
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

    with Interrupts().caught():
        assert signal.getsignal(signal.SIGINT) != before[0]

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_part_of_a_deferred_block_can_be_left_at_once():
    interrupts = Interrupts()

    with interrupts.caught(), interrupts.deferred():
        with pytest.raises(Interrupted, match="again"), interrupts.at_once("Do it again."):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"), interrupts.at_once():
            raise AssertionError("the signal has come before")


def test_an_error_that_a_signal_led_to_is_reported_as_the_signal():
    def broken() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("the end of a block was cut off")

    with pytest.raises(Interrupted, match="SIGTERM"), Interrupts().caught():
        broken()


def test_an_error_after_a_signal_that_was_handled_is_itself():
    interrupts = Interrupts()

    with pytest.raises(RuntimeError, match="disk"), interrupts.caught():
        with contextlib.suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("the disk is full")


_LOST = """
import os, signal, time
from foundations.interrupts import Interrupts

class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.001)

with Interrupts().caught():
    try:
        Lost()
        time.sleep(30)
    except BaseException as error:
        print(type(error).__name__)
"""
_DROPPED = """
import os, signal, time
from foundations.interrupts import Interrupts

with Interrupts().caught():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        pass
    time.sleep(30)
"""


def test_a_signal_in_a_destructor_is_not_lost():
    done = _python(_LOST)

    assert (done.returncode, done.stdout, done.stderr) == (0, "Interrupted\n", "")


def test_a_process_ends_where_its_code_drops_the_exception():
    done = _python(_DROPPED)

    assert done.returncode == 143
    assert done.stderr == "open_prune: Stopped by SIGTERM. The same command continues from what was kept.\n"


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=25)
