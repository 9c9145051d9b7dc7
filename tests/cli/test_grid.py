from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.commands.sweep import described_by
from cli.request.flags import arguments_of
from cli.request.grid import Grid, Sweep, parse_axis, parse_rule, parse_values, read_sweep
from foundations.errors import UsageError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("snip10,synflow", ["snip10", "synflow"]),
        ("1-5", ["1", "2", "3", "4", "5"]),
        ("10-50@20,7", ["10", "30", "50", "7"]),
        ("0.8^1..3", ["0.8", "0.64", "0.512"]),
        ("0.8^10..10", ["0.1073741824"]),
        ("2^0..6@2", ["1", "4", "16", "64"]),
        ("80ep,120ep;100ep", ["80ep,120ep", "100ep"]),
        ("true,false", [True, False]),
        ("1e-4", ["1e-4"]),
        ("9" * 5000 + "-" + "9" * 5000, ["9" * 5000 + "-" + "9" * 5000]),
        ("2^9999999999..9999999999", ["2^9999999999..9999999999"]),
    ],
)
def test_values_are_lists_ranges_and_powers(text: str, values: list[str]) -> None:
    assert parse_values(text, "x") == values


@pytest.mark.parametrize("text", ["", "a,,b", "5-1", "0.8^3..1", "1-1000000"])
def test_values_that_are_not_there_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="x: "):
        parse_values(text, "x")


def test_the_last_axis_varies_first_and_rules_add_flags() -> None:
    axes = (parse_axis("strategy=snip10,synflow"), parse_axis("--replicate=1-2"))
    grid = Grid(("train",), {"lr": "0.1"}, axes, (parse_rule("strategy=synflow:prune_iterations=100,lr=0.2"),))

    points = list(grid.points())

    assert [label for _, label in points] == [
        f"strategy={strategy} replicate={number}" for strategy in ("snip10", "synflow") for number in (1, 2)
    ]
    assert points[0][0] == ("train", "--lr=0.1", "--strategy=snip10", "--replicate=1")
    assert points[3][0] == (
        "train",
        "--lr=0.1",
        "--prune_iterations=100",
        "--lr=0.2",
        "--strategy=synflow",
        "--replicate=2",
    )


def test_a_rule_for_what_the_grid_varies_is_refused_unless_it_says_the_same() -> None:
    axes = parse_axis("a=1"), parse_axis("b=2")

    assert len(list(Grid(("train",), {}, axes, (parse_rule("a=1:b=2"),)).points())) == 1
    with pytest.raises(UsageError, match=r"b: the grid varies it .* 3 where a=1"):
        list(Grid(("train",), {}, axes, (parse_rule("a=1:b=3,c=4"),)).points())


def test_a_rule_looks_at_the_flags_of_every_run_as_well() -> None:
    grid = Grid(("train",), {}, (parse_axis("a=1"),), (parse_rule("--some-flag=x:c=4"),), ("--some_flag=x",))

    assert [arguments for arguments, _ in grid.points()] == [("train", "--some_flag=x", "--c=4", "--a=1")]


@pytest.mark.parametrize("where", ["strategy=force10", "strateggy=snip10", "lr=0.2"])
def test_a_rule_that_no_run_meets_is_refused_on_the_command_line(where: str) -> None:
    command = [
        "--grid",
        "strategy=snip10,synflow",
        "--when",
        f"{where}:prune_iterations=100",
        "--",
        "train",
        "--lr=0.1",
    ]

    with pytest.raises(UsageError, match=f"when: no run is given {where}"):
        described_by(command)


def test_a_rule_may_be_for_one_grid_of_several() -> None:
    rule = parse_rule("strategy=synflow:prune_iterations=100")
    grids = [Grid(("train",), {}, (parse_axis(f"strategy={name}"),), (rule,)) for name in ("snip10", "synflow")]

    assert [words for words, *_ in Sweep(tuple(grids)).points()] == [
        ("train", "--strategy=snip10"),
        ("train", "--prune_iterations=100", "--strategy=synflow"),
    ]


def test_flags_vary_together() -> None:
    axis = parse_axis("lr,batch_size=0.1:128,0.01:64")

    assert axis.flags == ("lr", "batch_size")
    assert axis.values == (("0.1", "128"), ("0.01", "64"))
    with pytest.raises(UsageError, match="one value for each of lr, batch_size"):
        parse_axis("lr,batch_size=0.1:128,0.01")


def test_flags_without_a_value_are_given_or_denied() -> None:
    assert arguments_of({"reinitialize": True, "augment": False, "lr": "1"}) == [
        "--reinitialize",
        "--no_augment",
        "--lr=1",
    ]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=4))
def test_a_grid_has_the_product_of_its_axes(sizes: list[list[int]]) -> None:
    axes = tuple(parse_axis(f"flag{i}={','.join(map(str, values))}") for i, values in enumerate(sizes))

    grid = Grid(("train",), {}, axes)

    assert len(list(grid.points())) == len(grid)


FILE = """
command = "branch train oneshot"

[base]
default_hparams = "digits_lenet_16"
evaluate_only_at_end = true

[[grid]]
strategy = ["random", "synflow"]
density = "0.5^1..2"

[[grid]]
name = "dense"
command = "train"
base = { momentum = 0.9 }
zip = { lr = [0.1, 0.01], batch_size = [128, 64] }

[[when]]
strategy = "synflow"
set = { prune_iterations = 100 }
"""


def test_a_file_holds_several_grids(tmp_path: Path) -> None:
    path = tmp_path / "figure.toml"
    path.write_text(FILE)

    found = list(read_sweep(path).points())
    points = [arguments for arguments, *_ in found]

    base = ("--default_hparams=digits_lenet_16", "--evaluate_only_at_end")
    branch = ("branch", "train", "oneshot")
    assert points == [
        (*branch, *base, "--strategy=random", "--density=0.5"),
        (*branch, *base, "--strategy=random", "--density=0.25"),
        (*branch, *base, "--prune_iterations=100", "--strategy=synflow", "--density=0.5"),
        (*branch, *base, "--prune_iterations=100", "--strategy=synflow", "--density=0.25"),
        ("train", *base, "--momentum=0.9", "--lr=0.1", "--batch_size=128"),
        ("train", *base, "--momentum=0.9", "--lr=0.01", "--batch_size=64"),
    ]
    assert [name for *_, name in found] == ["", "", "", "", "dense", "dense"]
    assert found[-1][1] == "dense lr=0.01 batch_size=64"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command = 1", "`command` is missing"),
        ("[grid]\nlr = 1", r"\[\[grid\]\]"),
        ("grids = 1", "no key 'grids' here. Did you mean 'grid'"),
        ("[[when]]\nlr = 1", "a table `set`"),
        ("command = 'train'\n[[grid]]\nzip = { a = [1, 2], b = [1] }", "equally many"),
        ("command = 'train'\n[[grid]]\nlr = { a = 1 }", "not a value"),
        ("command = 'train", "not a TOML file"),
        ("command = 'train'\nbase = 1", "not a table"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "figure.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=words) as caught:
        read_sweep(path)

    assert str(path) in str(caught.value)
