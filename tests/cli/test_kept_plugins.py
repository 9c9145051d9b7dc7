"""The files of plug-ins that a root keeps: runs resume with the recorded files, and no code runs unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.files import sha256_of_file
from foundations.storage.sealed_json import from_bytes, to_bytes
from tests.cli.terminal import LENET, Terminal
from tests.cli.test_plugins import EXAMPLES, changed, job_of

NO_STEP = (*LENET, "--training_steps=0it")
USES = [("branch", "{}", "oneshot"), ("branch", "train", "oneshot", "--mask_experiment={}", *NO_STEP)]


def kept(terminal: Terminal) -> Path:
    return terminal.root / ".plugins" / sha256_of_file(EXAMPLES / "my_method.py") / "my_method.py"


@pytest.fixture
def orphan(terminal: Terminal) -> str:
    """The address of a complete run of my_method's, in the terminal's root."""
    job = job_of("my_method", NO_STEP)
    assert terminal.run(*job).code == 0
    return terminal.where(*job).name


def test_a_run_is_listed_shown_and_verified_without_its_plug_in(terminal: Terminal, orphan: str) -> None:
    assert "fan_in_magnitude" in terminal.run("ls").out
    assert terminal.run("verify", orphan).code == 0

    shown = terminal.run("show", orphan)

    assert shown.code == 0
    version = sha256_of_file(EXAMPLES / "my_method.py")[:12]
    assert f"{EXAMPLES / 'my_method.py'}, SHA-256 {version}" in shown.out
    assert f"kept as {kept(terminal)}" in shown.out
    assert "not loaded" not in shown.out
    kept(terminal).unlink()
    assert "not loaded: jobs that depend on this run need --plugin" in terminal.run("show", orphan).out
    assert "not loaded" not in terminal.run("show", orphan, f"--plugin={EXAMPLES / 'my_method.py'}").out


@pytest.mark.parametrize("use", USES)
def test_a_run_whose_plug_in_is_missing_or_another_version_cannot_be_drawn_on(
    terminal: Terminal, tmp_path: Path, orphan: str, use: tuple[str, ...]
) -> None:
    command = [word.format(orphan) for word in use]
    version = sha256_of_file(EXAMPLES / "my_method.py")[:12]
    other = changed("my_method", tmp_path / "other") / "my_method.py"

    refused = terminal.run(*command, f"--plugin={other}")

    refused.assert_is_for_people(2, version, f"{other} is another", str(kept(terminal)))
    kept(terminal).unlink()
    terminal.run(*command).assert_is_for_people(2, "--plugin", "my_method.py", version, "which is not loaded")
    assert terminal.run(*command, f"--plugin={EXAMPLES / 'my_method.py'}", "--dry_run").code == 0


@pytest.mark.parametrize("use", USES)
def test_a_run_is_drawn_on_with_the_file_that_it_recorded_whatever_becomes_of_the_users(
    terminal: Terminal, tmp_path: Path, use: tuple[str, ...]
) -> None:
    own = tmp_path / "own" / "my_method.py"
    own.parent.mkdir()
    own.write_bytes((EXAMPLES / "my_method.py").read_bytes())
    job = job_of("my_method", NO_STEP, own.parent)
    assert terminal.run(*job).code == 0
    old = terminal.where(*job)
    own.write_text(own.read_text().replace("weight.abs()", "weight.sign()"))

    drawn = terminal.run(*[word.format(old.name) for word in use], "--dry_run")

    assert drawn.code == 0, drawn.err
    assert terminal.run("show", old.name).code == 0
    assert terminal.where(*job) != old


def test_a_branch_of_a_run_prunes_with_the_version_that_the_run_recorded(terminal: Terminal, orphan: str) -> None:
    described = terminal.run("branch", orphan, "oneshot", "--strategy=fan_in_magnitude", "--density=0.1", "--dry_run")

    assert sha256_of_file(EXAMPLES / "my_method.py") in described.out, described.err


def test_the_difference_from_the_file_that_a_run_used_is_printed(terminal: Terminal, tmp_path: Path) -> None:
    own = changed("my_method", tmp_path / "own") / "my_method.py"
    job = job_of("my_method", NO_STEP, own.parent)
    assert terminal.run(*job).code == 0
    address = terminal.where(*job).name
    assert f"{own} is as the run used it" in terminal.run("show", address, "--plugin_diff").out
    own.write_text(own.read_text().replace("# changed", "# and changed"))

    shown = terminal.run("show", address, "--plugin_diff").out.splitlines()

    assert [line for line in shown if line.startswith(("-", "+"))][2:] == ["-# changed", "+# and changed"]
    assert shown[1] == f"+++ {own} (now)"
    own.unlink()
    assert "cannot be read now" in terminal.run("show", address, "--plugin_diff").out


@pytest.mark.usefixtures("orphan")
def test_a_root_keeps_each_version_of_a_file_once(terminal: Terminal) -> None:
    other = ("branch", "train", "oneshot", "--strategy=fan_in_magnitude", "--density=0.2", *NO_STEP)

    assert terminal.run(*other, f"--plugin={EXAMPLES / 'my_method.py'}").code == 0

    assert [path for path in (terminal.root / ".plugins").rglob("*") if path.is_file()] == [kept(terminal)]


def _damage(terminal: Terminal) -> None:
    kept(terminal).write_text("raise SystemExit('executed')")


def _give_away(terminal: Terminal) -> None:
    os.chown(kept(terminal), 12345, -1)


def _give_root_away(terminal: Terminal) -> None:
    os.chown(terminal.root, 12345, -1)


def _forget(terminal: Terminal) -> None:
    """Act as a user who has never run the plug-in, such as one who unpacks somebody else's root."""
    terminal.environment["XDG_STATE_HOME"] = str(terminal.root.parent / "another home")


@pytest.mark.parametrize("foreign", [_damage, _give_away, _give_root_away, _forget])
def test_a_kept_file_that_somebody_else_can_have_chosen_is_asked_for_by_name(
    terminal: Terminal, orphan: str, foreign: Callable[[Terminal], None]
) -> None:
    if foreign in (_give_away, _give_root_away) and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    foreign(terminal)

    result = terminal.run("branch", orphan, "oneshot", "--dry_run")

    result.assert_is_for_people(2, "--plugin", "which is not loaded")
    assert "executed" not in result.out + result.err
    assert "not loaded" in terminal.run("show", orphan).out
    if foreign is not _damage:
        assert f"--plugin={kept(terminal)}" in result.err
        assert terminal.run("branch", orphan, "oneshot", "--dry_run", f"--plugin={kept(terminal)}").code == 0


def test_a_kept_file_imports_the_modules_beside_the_users_own(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "halves_of_mine.py").write_text("def half(weight):\n    return weight.abs() / 2\n")
    (tmp_path / "mine.py").write_text(
        "from halves_of_mine import half\nfrom open_prune import *\n"
        "MINE = Method(spelling='mine', paper='', hparams=PruningHparams,\n"
        "              score=lambda scoring, hparams: {n: half(w) for n, w in scoring.weights.items()})\n"
    )
    job = ("branch", "train", "oneshot", "--strategy=mine", *NO_STEP, f"--plugin={tmp_path / 'mine.py'}")
    assert terminal.run(*job).code == 0
    address = terminal.where(*job).name
    (tmp_path / "mine.py").unlink()

    result = terminal.run("branch", address, "oneshot", "--strategy=mine", "--density=0.1")

    assert result.code == 0, result.err


def test_a_kept_file_that_is_given_by_hand_says_where_its_modules_are_looked_for(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "parts_of_mine.py").write_text("def half(weight):\n    return weight.abs() / 2\n")
    (tmp_path / "mine.py").write_text(
        "from open_prune import *\nfrom parts_of_mine import half\n"
        "MINE = Method(spelling='mine', paper='', hparams=PruningHparams,\n"
        "              score=lambda scoring, hparams: {n: half(w) for n, w in scoring.weights.items()})\n"
    )
    job = ("branch", "train", "oneshot", "--strategy=mine", *NO_STEP)
    assert terminal.run(*job, f"--plugin={tmp_path / 'mine.py'}").code == 0
    by_hand = f"--plugin={next((terminal.root / '.plugins').rglob('mine.py'))}"

    result = terminal.run(*job, by_hand)

    result.assert_is_for_people(
        2, "mine.py, line 2: ModuleNotFoundError: No module named 'parts_of_mine'", "PYTHONPATH"
    )


@pytest.mark.parametrize("path", [".plugins/{sha}/mine.py", "elsewhere/mine.py", "/nowhere/mine.py"])
def test_modules_that_somebody_put_into_a_root_are_not_executed(terminal: Terminal, tmp_path: Path, path: str) -> None:
    """The root is unpacked, so its files are the user's own, and the user has run the plug-in itself before."""
    (tmp_path / "sums_of_mine.py").write_text("def half(weight):\n    return weight.abs() / 2\n")
    (tmp_path / "mine.py").write_text(
        "from open_prune import *\nimport sums_of_mine\n"
        "MINE = Method(spelling='mine', paper='', hparams=PruningHparams,\n"
        "              score=lambda scoring, hparams: {n: sums_of_mine.half(w) for n, w in scoring.weights.items()})\n"
    )
    job = ("branch", "train", "oneshot", "--strategy=mine", *NO_STEP, f"--plugin={tmp_path / 'mine.py'}")
    assert terminal.run(*job).code == 0
    run = terminal.where(*job)
    sha = sha256_of_file(tmp_path / "mine.py")
    chosen = str(terminal.root / path.format(sha=sha))
    evil = "raise SystemExit('executed')"
    for folder in (terminal.root / "elsewhere", terminal.root / ".plugins" / sha):
        folder.mkdir(exist_ok=True)
        (folder / "sums_of_mine.py").write_text(evil)
    description = run / "description.json"
    text = json.dumps(from_bytes(description.read_bytes())).replace(str(tmp_path / "mine.py"), chosen)
    description.write_bytes(to_bytes(json.loads(text)))
    (tmp_path / "mine.py").rename(tmp_path / "another name.py")
    (tmp_path / "sums_of_mine.py").unlink()

    result = terminal.run("branch", run.name, "oneshot", "--strategy=mine", "--density=0.1")
    by_hand = terminal.run("ls", f"--plugin={terminal.root / '.plugins' / sha / 'mine.py'}")

    for each in (result, by_hand):
        assert "executed" not in each.out + each.err
        each.assert_is_for_people(2, "No module named 'sums_of_mine'", "PYTHONPATH")
