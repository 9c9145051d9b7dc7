"""Settings of a site, which preset the flags of executors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import SHORT, Terminal


@pytest.fixture
def site(tmp_path: Path, terminal: Terminal) -> Path:
    """The file that OPEN_PRUNE_SITE names."""
    path = tmp_path / "site.toml"
    terminal.environment["OPEN_PRUNE_SITE"] = str(path)
    return path


def test_a_file_presets_flags_of_executors_and_flags_override_it(terminal: Terminal, site: Path) -> None:
    site.write_text('executor = "slurm"\nslurm_partition = "gpu"\nslurm_memory = 16\nray_gpus = 0.5\n')

    slurm, ray, none = (
        " ".join(terminal.run(*command, "--help").out.split())
        for command in (("train",), ("sweep", "--executor=ray"), ("train", "--executor=None"))
    )

    assert "(default: gpu)" in slurm and "(default: 16)" in slurm and "--ray_gpus" not in slurm
    assert "--slurm_partition" not in ray and "(default: 0.5)" in ray
    assert "--slurm_partition" not in none and "--ray_gpus" not in none


def test_the_file_in_the_home_folder_is_read_where_the_variable_is_not_set(terminal: Terminal, tmp_path: Path) -> None:
    terminal.environment.update({"HOME": str(tmp_path), "OPEN_PRUNE_SITE": ""})
    path = tmp_path / ".config" / "open_prune" / "site.toml"
    path.parent.mkdir(parents=True)
    path.write_text('executor = "slurm"\n')

    assert "--slurm_partition" in terminal.run("train", "--help").out


@pytest.mark.parametrize(
    "text, words",
    [
        ("slurm_partiton = 'gpu'", "Did you mean 'slurm_partition'?"),
        ("lr = 0.1", "'lr' is not a flag of an executor"),
        ("slurm_time = 'long'", "slurm_time: 'long' is not a valid value"),
        ("slurm_time = 0", "slurm_time: 0 is not a valid value; it must be at least 1"),
        ("slurm_options = ['a']", "slurm_options: ['a'] is not a valid value"),
        ("executor = 'slrum'", "executor: 'slrum' is not a valid value"),
        ("executor = slurm", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_an_error_that_names_it(terminal: Terminal, site: Path, text: str, words: str) -> None:
    site.write_text(text)

    terminal.run("train", *SHORT).assert_is_for_people(2, str(site), words)


def test_a_file_that_is_named_and_not_there_is_an_error(terminal: Terminal, site: Path) -> None:
    terminal.run("train", *SHORT).assert_is_for_people(1, str(site), "No such file")
