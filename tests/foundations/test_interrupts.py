import os
import signal

import pytest

from foundations.errors import Interrupted
from foundations.interrupts import Interrupts


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


def test_the_former_handlers_are_put_back():
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

    with Interrupts().caught():
        assert signal.getsignal(signal.SIGINT) != before[0]

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
