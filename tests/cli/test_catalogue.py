"""The commands that list choices."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("strategy", "prunes"),
    [("snipN", "lowest scores"), ("graspN", "highest scores"), ("phew", "all but its random walks")],
)
def test_strategies_are_listed_with_what_they_prune(terminal: Terminal, strategy: str, prunes: str) -> None:
    lines = terminal.run("strategies").out.splitlines()
    assert any(line.startswith(f"{strategy} ") and f" {prunes} " in line for line in lines)


def test_presets_are_listed_with_the_accuracy_that_they_reached_and_where(terminal: Terminal) -> None:
    lines = {
        line.split()[0]: line for line in terminal.run("models", "digits", "cifar_vgg", "--names_only").out.splitlines()
    }

    assert "% ± " in lines["digits_resnet_8"] and "(n = 3, " in lines["digits_resnet_8"]
    assert lines["cifar_vgg_16"].endswith("not measured")
