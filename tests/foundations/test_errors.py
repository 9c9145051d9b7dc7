import signal

import pytest

from foundations.errors import DamagedError, EnvironmentFailure, Interrupted, UsageError, did_you_mean


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("x"), 2), (EnvironmentFailure("x"), 1), (DamagedError("x"), 1)]
)
def test_the_callers_mistakes_exit_with_2_and_failures_of_the_environment_with_1(error, code):
    assert error.exit_code == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_exits_as_the_shell_does(number, code):
    assert Interrupted("stopped", number).exit_code == code


def test_a_close_name_is_suggested():
    assert did_you_mean("magnitud", ["random", "magnitude"]) == " Did you mean 'magnitude'?"


def test_no_name_is_suggested_where_none_is_close():
    assert did_you_mean("xyz", ["random", "magnitude"]) == ""
