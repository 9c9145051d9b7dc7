import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.description.step import Step, parse_steps
from foundations.errors import UsageError

iterations = st.integers(0, 10**7)
epoch_lengths = st.integers(1, 10**4)


@pytest.mark.parametrize(
    ("text", "iteration"), [("0ep", 0), ("0it", 0), ("80ep", 31280), ("500it", 500), ("2ep30it", 812)]
)
def test_a_step_is_read_as_iterations(text, iteration):
    assert Step.parse(text, 391).iteration == iteration


@pytest.mark.parametrize(
    "text", ["", " ", "012ep", "1.5ep", "-1it", "1it2ep", "5", "ep", "it", "1ep ", "1EP", "1ep\n", "1e3it"]
)
def test_what_is_not_a_step_is_refused_by_the_flags_name(text):
    with pytest.raises(UsageError, match=r"(?s)^prune_step: .*written like 80ep, 500it or 2ep30it"):
        Step.parse(text, 391, "prune_step")


@given(iterations, epoch_lengths)
def test_a_step_reads_back_what_it_writes(iteration, epoch_length):
    step = Step(iteration, epoch_length)

    assert Step.parse(str(step), epoch_length) == step
    assert Step.parse(f"{step.ep}ep{step.it}it", epoch_length) == step
    assert step.ep * epoch_length + step.it == iteration
    assert 0 <= step.it < epoch_length


@given(iterations, iterations, epoch_lengths)
def test_steps_are_ordered_as_their_iterations(a, b, epoch_length):
    first, second = Step(a, epoch_length), Step(b, epoch_length)

    assert (first < second, first <= second, first == second) == (a < b, a <= b, a == b)
    assert (first > second, first >= second, first != second) == (a > b, a >= b, a != b)
    assert sorted([first, second])[0].iteration == min(a, b)


def test_steps_of_different_epochs_do_not_compare():
    for compare in (Step.__eq__, Step.__lt__, Step.__le__):
        with pytest.raises(ValueError, match="of 391 and of 196 iterations an epoch"):
            compare(Step(2, 391), Step(2, 196))


def test_equal_steps_are_one_element_of_a_set():
    assert {Step.parse("2ep", 391), Step.parse("782it", 391)} == {Step(782, 391)}


def test_a_step_is_not_equal_to_a_number():
    assert Step(3, 10) != 3


@pytest.mark.parametrize(("iteration", "epoch_length"), [(-1, 10), (0, 0)])
def test_an_impossible_step_cannot_be_made(iteration, epoch_length):
    with pytest.raises(ValueError, match="no such step"):
        Step(iteration, epoch_length)


def test_a_file_name_gives_epochs_and_iterations():
    assert Step(812, 391).file_name_part == "ep2_it30"


def test_a_list_is_read_in_ascending_order_and_keeps_what_is_written_twice():
    assert [step.iteration for step in parse_steps("20it,1ep,0it,10it", 10)] == [0, 10, 10, 20]


def test_an_empty_list_holds_no_steps():
    assert parse_steps("", 10) == []


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 50), epoch_lengths)
def test_a_range_holds_both_ends_when_its_stride_meets_them(first, length, stride, epoch_length):
    steps = parse_steps(f"{first}it-{first + length}it@{stride}it", epoch_length)

    assert [step.iteration for step in steps] == list(range(first, first + length + 1, stride))


def test_a_range_counts_in_epochs_too():
    assert [step.iteration for step in parse_steps("500it,2ep-8ep@2ep", 100)] == [200, 400, 500, 600, 800]


@pytest.mark.parametrize(
    "text", ["2ep-8ep", "2ep@2ep", "8ep-2ep@1ep", "2ep-8ep@0it", "2ep-@1ep", "-8ep@1ep", "1ep-2ep@1ep@1ep"]
)
def test_what_is_not_a_range_is_refused_by_the_flags_name(text):
    with pytest.raises(UsageError, match="^milestone_steps: "):
        parse_steps(text, 100, "milestone_steps")


@pytest.mark.parametrize("text", ["1٣ep", "٣it"])
def test_digits_of_other_scripts_are_no_step(text):
    with pytest.raises(UsageError):
        Step.parse(text, 100)


def test_a_range_of_too_many_steps_is_refused():
    with pytest.raises(UsageError, match="more than 100,000 steps"):
        parse_steps("0it-100000000000it@1it", 100)
