"""The commands push, pull and remote, and jobs that ask a remote first."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from foundations.files import sha256_of_file
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal
from tests.cli.test_kept_plugins import NO_STEP
from tests.cli.test_plugins import EXAMPLES, job_of
from tests.foundations.remotes.carrying import files_of

SWEPT = ("branch", "train", "oneshot", *SHORT, "--density=0.1")
RANDOM = ("branch", "train", "oneshot", *SHORT, "--strategy=random", "--density=0.1")


@pytest.fixture
def remote(two_runs: Terminal, tmp_path: Path) -> str:
    """The URL of a remote with a training and a branch of it."""
    url = (tmp_path / "remote").as_uri()
    assert two_runs.run("push", url).code == 0
    return url


def test_runs_of_a_colleague_are_pulled_listed_and_reused(remote: str, two_runs: Terminal, terminal: Terminal) -> None:
    pulled = terminal.run("pull", remote)

    assert pulled.code == 0 and "Pulled 2 run(s)" in pulled.out, pulled.err
    assert files_of(terminal.root) == files_of(two_runs.root)
    assert "2 damaged" not in terminal.run("verify").out and "2 whole" in terminal.run("verify").out
    assert "nothing was computed" in terminal.run(*BRANCH).out
    assert "0 run(s) (0 bytes)" in terminal.run("pull", remote).out


def test_a_name_stands_for_a_url(remote: str, terminal: Terminal, tmp_path: Path) -> None:
    terminal.environment["OPEN_PRUNE_SITE"] = str(tmp_path / "site.toml")
    (tmp_path / "site.toml").write_text('slurm_partition = "gpu"\n')

    assert terminal.run("remote", "add", "lab", remote).code == 0
    assert remote in terminal.run("remote", "ls").out
    listed = terminal.run("remote", "ls", "lab").out
    assert listed.count("  no  ") == 2 and "2 run(s)" in listed
    assert terminal.run("pull", "lab").code == 0
    assert terminal.run("remote", "ls", "lab").out.count("  yes  ") == 2
    assert terminal.run("train", *SHORT, "--dry_run").code == 0  # the table [remotes] stands beside flags of executors
    assert terminal.run("remote", "rm", "lab").code == 0
    terminal.run("pull", "lab").assert_is_for_people(2, "'lab' is neither a URL nor the name of a remote")


@pytest.mark.parametrize("selection", ["where", "address", "sweep"])
def test_runs_are_chosen_by_a_condition_an_address_or_a_sweep(
    remote: str, two_runs: Terminal, terminal: Terminal, tmp_path: Path, selection: str
) -> None:
    (branch,) = two_runs.root.glob("*/*/branch_*")
    (tmp_path / "sweep.toml").write_text(f'command = "{" ".join(BRANCH[:3])}"\n[base]\n{_as_toml(BRANCH[3:])}\n')
    flags = {
        "where": ["--where", "strategy=snip1"],
        "address": [branch.name.rpartition("_")[2][:8]],
        "sweep": [str(tmp_path / "sweep.toml")],
    }[selection]

    dry = terminal.run("pull", remote, *flags, "--dry_run")
    assert "1 run(s) would be pulled" in dry.out, dry.out + dry.err
    assert files_of(terminal.root) == {}
    pulled = terminal.run("pull", remote, *flags)

    assert "Pulled 2 run(s)" in pulled.out, pulled.out + pulled.err  # with the training that it depends on
    again = two_runs.run("push", remote, *flags)
    assert "Pushed 0 run(s)" in again.out and "2 were there already" in again.out, again.out + again.err


def _as_toml(flags: tuple[str, ...]) -> str:
    pairs = (flag.removeprefix("--").split("=", 1) for flag in flags)
    return "\n".join(f'{name} = "{value}"' for name, value in pairs)


def test_a_job_asks_a_remote_only_when_it_is_named_and_pulls_what_it_needs(remote: str, terminal: Terminal) -> None:
    assert "Pulled" not in terminal.run(*BRANCH, "--dry_run").out

    asked = terminal.run(*BRANCH, f"--remote={remote}")

    assert asked.out.count("Pulled ") == 1 and "nothing was computed" in asked.out, asked.out + asked.err
    other = terminal.run(*RANDOM, f"--remote={remote}")
    assert other.out.count("Pulled train_") == 1, other.out + other.err  # its parent
    assert "nothing was computed" not in other.out and other.code == 0


def test_a_sweep_asks_a_remote(remote: str, terminal: Terminal) -> None:
    swept = terminal.run("sweep", f"--remote={remote}", "--grid", "strategy=snip1,random", "--", *SWEPT)

    assert swept.code == 0, swept.out + swept.err
    assert "2 of 2 runs are complete: 1 computed now, 1 before" in swept.out


def test_a_job_whose_remote_does_not_answer_computes_with_a_sentence(terminal: Terminal, tmp_path: Path) -> None:
    done = terminal.run("train", *SHORT, f"--remote={(tmp_path / 'nowhere').as_uri()}")

    assert done.code == 0, done.err
    assert done.out.count("There is no remote at") == 1 and "computed here" in done.out
    terminal.run("train", *SHORT, "--remote=labb").assert_is_for_people(2, "--remote: 'labb' is neither")


def test_datasets_travel_on_request(two_runs: Terminal, terminal: Terminal, tmp_path: Path) -> None:
    remote = (tmp_path / "remote").as_uri()
    other = tmp_path / "datasets"
    assert two_runs.run("push", remote, "--datasets").code == 0

    pulled = terminal.run("pull", remote, "--datasets", f"--datasets_root={other}")

    assert pulled.code == 0, pulled.out + pulled.err
    for split in ("train", "test"):
        name = f"digits/{split}.safetensors"
        assert (other / name).read_bytes() == (two_runs.datasets / name).read_bytes()
    assert terminal.run("train", *SHORT, f"--datasets_root={other}", "--replicate=2", "--no_download").code == 0


def test_corrupt_objects_end_with_code_1_and_are_named(remote: str, terminal: Terminal, tmp_path: Path) -> None:
    (tar,) = (tmp_path / "remote").glob("runs/*/*/branch_*/*.tar")
    tar.chmod(0o644)
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(bytes(data))

    pulled = terminal.run("pull", remote)

    assert pulled.code == 1 and "Pulled 1 run(s)" in pulled.out
    assert tar.name in pulled.out and "kept in" in pulled.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("push",), "name a remote"),
        (("pull",), "name a remote"),
        (("remote",), "write "),
        (("remote", "lss"), "write "),
        (("push", "s3://key:very-secret@bucket"), "holds no login"),
        (("pull", "/lab/remote"), "write file:///lab/remote"),
        (("pull", "file:///not/there"), "There is no remote at"),
        (("pull", "REMOTE", "zzzz"), "No run in the remote is named 'zzzz'"),
        (("pull", "REMOTE", "train"), None),
        (("pull", "REMOTE", "--where=nonsense=1"), "nonsense"),
        (("pull", "REMOTE", "train", "--where=lr=1"), "addresses, or a condition"),
        (("push", "REMOTE", "zzzz"), "named 'zzzz'"),
        (("pull", "REMOTE", "none.toml"), "none.toml"),
        (("pull", "REMOTE", "--where="), "chooses nothing"),
    ],
)
def test_mistakes_are_errors_of_two_lines(
    remote: str, terminal: Terminal, arguments: tuple[str, ...], words: str | None
) -> None:
    result = terminal.run(*(remote if argument == "REMOTE" else argument for argument in arguments))

    if words is None:
        assert result.code == 0, result.err
    else:
        result.assert_is_for_people(1 if "There is no remote" in words or "none" in words else 2, words)
        assert "very-secret" not in result.err


def test_an_interrupted_push_goes_on(two_runs: Terminal, tmp_path: Path) -> None:
    remote = (tmp_path / "remote").as_uri()
    running = two_runs.start("push", remote)
    time.sleep(0.4)
    running.signal(signal.SIGINT)
    assert running.result().code in (0, 130)

    again = two_runs.run("push", remote)

    assert again.code == 0 and again.out.count("run(s)") == 1


def test_plugins_come_along_and_are_not_executed_unasked(terminal: Terminal, tmp_path: Path) -> None:
    remote, job = (tmp_path / "remote").as_uri(), job_of("my_method", NO_STEP)
    assert terminal.run(*job).code == 0
    address = terminal.where(*job).name.rpartition("_")[2]
    colleague = Terminal(tmp_path / "colleague" / "root", terminal.datasets)
    name = f".plugins/{sha256_of_file(EXAMPLES / 'my_method.py')}/my_method.py"

    assert "Pushed" in terminal.run("push", remote).out
    assert colleague.run("pull", remote).code == 0

    assert (colleague.root / name).read_bytes() == (EXAMPLES / "my_method.py").read_bytes()
    assert "fan_in_magnitude" in colleague.run("ls").out
    use = ("branch", address, "oneshot")
    colleague.run(*use, "--dry_run").assert_is_for_people(2, "which is not loaded", f"--plugin={colleague.root / name}")
    assert colleague.run(*use, f"--plugin={colleague.root / name}", "--dry_run").code == 0
    (terminal.root / name).unlink()
    again = terminal.run("push", (tmp_path / "other").as_uri()).out
    assert "needs the plug-in my_method, whose file is not kept here" in again


def test_signed_runs_alone_are_pulled_where_signatures_are_required(
    remote: str, two_runs: Terminal, terminal: Terminal, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    for each, name in ((two_runs, "ada"), (terminal, "colleague")):
        each.environment |= {
            "OPEN_PRUNE_KEY": str(tmp_path / name / "key.pem"),
            "OPEN_PRUNE_TRUSTED_KEYS": str(tmp_path / name / "trusted"),
        }
    two_runs.run("push", remote, "--sign").assert_is_for_people(1, "There is no key", "key make")
    public = two_runs.run("key", "make").out.split()[0]

    unsigned = terminal.run("pull", remote, "--require_signed", "--dry_run")
    assert unsigned.code == 1 and unsigned.out.count("was refused: nobody has signed it.") == 2
    assert two_runs.run("push", remote, "--sign").code == 0
    unknown = terminal.run("pull", remote, "--require_signed")
    assert unknown.code == 1 and unknown.out.count("was refused: it is signed by an unknown key.") == 2
    assert files_of(terminal.root) == {}
    assert terminal.run("key", "trust", "ada", public).code == 0

    pulled = terminal.run("pull", remote, "--require_signed")

    assert pulled.code == 0 and "Pulled 2 run(s)" in pulled.out, pulled.out + pulled.err
    assert "Checked 2 run(s): 0 damaged, 2 whole." in terminal.run("verify").out
