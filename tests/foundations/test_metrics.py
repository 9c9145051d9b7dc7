import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import DamagedError
from foundations.metrics import Metric, Metrics, is_better_higher, is_fraction, written

names = st.sampled_from(["test_loss", "test_accuracy", "train_loss"])
rows = st.dictionaries(st.tuples(names, st.integers(0, 10**6)), st.floats(allow_nan=False))


@given(rows)
def test_metrics_read_back_exactly(values):
    assert Metrics.from_csv(Metrics(values).to_csv()).values == values


def metric(name, *, higher_is_better=True):
    return Metric(spelling=name, label=name, higher_is_better=higher_is_better)


BY = metric("by")


def test_what_is_not_a_number_reads_back():
    text = Metrics({("test_loss", 3): float("nan")}).to_csv()

    assert text == "name,iteration,value\ntest_loss,3,nan\n"
    assert Metrics.from_csv(text).to_csv() == text


def test_rows_come_in_order_of_iteration_then_name():
    metrics = Metrics()
    for name, iteration in (("test_loss", 10), ("test_accuracy", 10), ("test_loss", 9)):
        metrics.add(name, iteration, 0.5)

    assert metrics.to_csv().splitlines()[1:] == ["test_loss,9,0.5", "test_accuracy,10,0.5", "test_loss,10,0.5"]


def test_a_value_that_is_measured_again_replaces_the_earlier_one():
    metrics = Metrics()
    metrics.add("test_loss", 3, 1.0)
    metrics.add("test_loss", 3, 2.0)

    assert metrics.values == {("test_loss", 3): 2.0}


def test_the_last_value_is_that_of_the_highest_iteration():
    metrics = Metrics({("test_loss", 100): 1.0, ("test_loss", 20): 2.0, ("test_accuracy", 500): 3.0})

    assert metrics.last("test_loss") == 1.0
    assert metrics.last("train_loss") is None
    assert metrics.names() == ["test_accuracy", "test_loss"]


def test_the_value_at_the_best_of_another_metric_is_the_first_such():
    metrics = Metrics(
        {
            ("validation_by", 0): 0.1,
            ("validation_by", 9): 0.7,
            ("validation_by", 10): 0.7,
            ("found", 0): 3.0,
            ("found", 9): 2.0,
        }
    )
    metrics.add("found", 10, 1.0)
    metrics.add("validation_by", 11, 0.9)  # nothing else was measured there

    assert metrics.at_best("found", by=BY) == 2.0
    assert metrics.at_best("found", by=metric("nothing")) is None


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_best_values_the_first_is_the_best(order):
    values = {
        ("validation_by", 5): 0.7,
        ("validation_by", 9): 0.9,
        ("validation_by", 10): 0.9,
        ("validation_by", 30): 0.9,
        ("validation_by", 31): 0.8,
        ("validation_other", 1): 2.0,
    }
    metrics = Metrics(dict(list(values.items())[::order]))

    assert metrics.best_iteration(BY) == 9
    assert metrics.best_iteration(metric("other")) == 1
    assert metrics.best_iteration(metric("nothing")) is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_not_the_best(odd):
    for at in (0, 15, 30):
        metrics = Metrics(
            {
                ("validation_by", 10): 0.5,
                ("validation_by", 20): 0.7,
                ("validation_by", at): odd,
                ("found", 20): 2.0,
                ("found", at): 1.0,
            }
        )

        assert metrics.best_iteration(BY) == 20
        assert metrics.at_best("found", by=BY) == 2.0
    only = Metrics({("validation_by", 3): odd, ("found", 3): 1.0})
    assert only.best_iteration(BY) is None
    assert only.at_best("found", by=BY) is None


def test_the_last_of_values_is_by_iteration_whatever_the_values_are():
    assert Metrics({("a", 2): float("nan"), ("a", 1): 5.0}).last("a") != 5.0
    assert Metrics({("a", -1): 3.0}).last("a") == 3.0


@pytest.mark.parametrize("text", ["", "a,b\n", "name,iteration,value\nx,1\n", "name,iteration,value\nx,one,2\n"])
def test_what_is_no_metrics_file_is_damaged(text):
    with pytest.raises(DamagedError, match=r"metrics\.csv is damaged"):
        Metrics.from_csv(text)


def test_the_best_of_a_metric_where_less_is_better_is_the_lowest():
    values = {("validation_by", 5): 9.0, ("validation_by", 9): 7.0, ("validation_by", 10): 7.0, ("test_by", 9): 8.0}
    metrics = Metrics(values)

    assert metrics.best_iteration(metric("by", higher_is_better=False)) == 9
    assert metrics.selected(metric("by", higher_is_better=False)) == {"selected_test_by": 8.0}


def test_tasks_say_which_metrics_are_fractions_and_better_if_higher():
    assert is_better_higher("test_accuracy") and is_better_higher("validation_r2")
    assert not is_better_higher("test_perplexity") and not is_better_higher("train_rmse")
    assert not is_better_higher("test_loss")
    assert is_fraction("selected_test_average_precision") and is_fraction("density")
    assert not is_fraction("test_r2")


def test_huge_values_are_written_in_a_few_digits():
    assert [written(value) for value in (0.12345678, 136.0, -4e25, float("inf"))] == [
        "0.1235",
        "136.0000",
        "-4e+25",
        "inf",
    ]
