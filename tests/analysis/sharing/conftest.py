from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import SHORT, Terminal

PRUNED = ("branch", "train", "oneshot", *SHORT, "--strategy=magnitude", "--density=0.3")


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """A root with a training, a branch of it, and a small residual network that was pruned. Only to be looked at."""
    folder = tmp_path_factory.mktemp("shared")
    terminal = Terminal(folder / "root", digits, keys(folder))
    resnet = ("--default_hparams=digits_resnet_8", "--training_steps=10it")
    for arguments in (("train", *SHORT), PRUNED, ("branch", "train", "oneshot", *resnet, "--strategy=synflow")):
        result = terminal.run(*arguments)
        assert result.code == 0, result.err
    return terminal


@pytest.fixture
def colleague(tmp_path: Path, digits: Path) -> Terminal:
    """Another user's empty root."""
    return Terminal(tmp_path / "colleague", digits, keys(tmp_path))


def keys(folder: Path) -> dict[str, str]:
    return {"OPEN_PRUNE_KEY": str(folder / "key.pem"), "OPEN_PRUNE_TRUSTED_KEYS": str(folder / "trusted")}
