"""Plug-ins as their users have them: files on the command line, runs that use them, and runs that lack them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.main import COMMANDS
from foundations.files import sha256_of_file
from tests.cli.terminal import LENET, LONG, SHORT, Result, Terminal, tensors_of
from tests.cli.test_lightness import answers_of
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
METHOD = ("branch", "train", "oneshot", "--strategy=fan_in_magnitude", "--density=0.3")
MODEL = ("train", "--model_name=pooled_cnn", "--cnn_channels=2")
JOBS = {
    "my_method": (*METHOD, "--fan_in_power=0.25"),
    "my_dataset": ("train", "--dataset_name=gratings"),
    "my_model": MODEL,
    "my_branch": ("branch", "train", "randomize_globally", "--density=0.3"),
    "my_technique": ("train", "--technique=swa", "--swa_begin=2it"),
    "my_clipping": ("train", "--technique=autoclip", "--autoclip_percentile=30"),
}
"""A job of each example, but for how long it trains."""
LISTED = {
    "my_method": "fan_in_magnitude",
    "my_dataset": "gratings",
    "my_model": "pooled_cnn",
    "my_branch": "oneshot",
    "my_technique": "swa",
    "my_clipping": "autoclip",
}
"""Columns of its line in `ls`."""
HASHED = ("my_method", "my_dataset", "my_model", "my_technique", "my_clipping")
"""The examples whose code computes a result. That of my_branch only sets flags."""


def job_of(example: str, training: Sequence[str], folder: Path = EXAMPLES) -> tuple[str, ...]:
    return (*JOBS[example], f"--plugin={folder / example}.py", *training)


def changed(example: str, folder: Path) -> Path:
    """Return a folder with another version of an example."""
    folder.mkdir()
    (folder / f"{example}.py").write_text((EXAMPLES / f"{example}.py").read_text() + "# changed\n")
    return folder


@pytest.mark.parametrize("example", JOBS)
def test_an_example_is_computed_listed_and_reused(terminal: Terminal, example: str) -> None:
    first = terminal.run(*job_of(example, SHORT))
    assert first.code == 0, first.err

    again = terminal.run(*job_of(example, SHORT))

    assert "reused" in again.out
    assert any(LISTED[example] in line and " complete " in line for line in terminal.run("ls").out.splitlines())
    assert terminal.run("verify").code == 0


@pytest.mark.parametrize(
    "example", [each if each == "my_clipping" else pytest.param(each, marks=pytest.mark.slow) for each in JOBS]
)
def test_an_example_that_is_killed_ends_with_the_same_bytes(terminal: Terminal, tmp_path: Path, example: str) -> None:
    job, calm = job_of(example, (*LONG, "--training_steps=80ep")), Terminal(tmp_path / "calm", terminal.datasets)
    folder, run = terminal.where(*job), terminal.stored(*job)
    running = terminal.start(*job)
    running.wait_for("ep 0 it 0")
    while not run.path("checkpoint.safetensors").exists():
        assert running.process.is_alive()
        time.sleep(0.005)
    assert running.kill()

    resumed = terminal.run(*job)

    assert "Resuming" in resumed.out, resumed.err
    assert calm.run(*job).code == 0
    assert tensors_of(folder) == tensors_of(calm.root / folder.relative_to(terminal.root))


@pytest.mark.parametrize("example", HASHED)
def test_a_change_in_the_file_is_a_new_address_and_another_place_of_the_file_is_not(
    terminal: Terminal, tmp_path: Path, example: str
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / f"{example}.py").write_bytes((EXAMPLES / f"{example}.py").read_bytes())
    folders = (EXAMPLES, tmp_path / "copy", changed(example, tmp_path / "other"))

    here, elsewhere, other = (terminal.where(*job_of(example, SHORT, folder)) for folder in folders)

    assert here == elsewhere
    assert here != other


def test_a_branch_of_a_plug_in_has_the_address_of_the_flags_that_it_sets(terminal: Terminal) -> None:
    flags = ("branch", "train", "oneshot", "--randomize_globally", "--density=0.3", *SHORT)

    assert terminal.where(*job_of("my_branch", SHORT)) == terminal.where(*flags)


def test_a_preset_of_a_plug_in_has_the_address_of_the_flags_that_it_sets(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "my_presets.py"
    file.write_text(
        "from open_prune import preset\n"
        "WIDE = preset('same_units', 'Permute over units.', {'randomize_width': 0.0})\n"
        "EVEN = preset('even', 'Uniform.', lambda parent, pruning, flags: {'allocation': 'uniform'})\n"
        "WRONG = preset('wrong', 'Wrong.', {'randomise': True})\n"
        "NOTHING = preset('nothing', 'Wrong.', lambda parent, pruning, flags: None)\n"
    )
    flags = ("--density=0.3", *SHORT)

    def where(name: str, *own: str) -> Path:
        return terminal.where("branch", "train", name, *own, *flags, f"--plugin={file}")

    assert where("same_units") == where("oneshot", "--randomize_width=0")
    assert where("even", "--state_step=4it") == where("oneshot", "--allocation=uniform", "--state_step=4it")
    assert "Permute over units." in terminal.run("branch", f"--plugin={file}").out
    wrong = terminal.run("branch", "train", "wrong", *flags, f"--plugin={file}")
    wrong.assert_is_for_people(2, "randomise", "oneshot has no such flag")
    nothing = terminal.run("branch", "train", "nothing", *flags, f"--plugin={file}")
    nothing.assert_is_for_people(2, f"{file}, line 5", "returned nothing (None)")


def test_a_flag_that_a_preset_sets_is_refused_if_it_is_given_another_value(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "my_presets.py"
    file.write_text(
        "from open_prune import preset\n"
        "MINE = preset('mine', 'Help.', {'strategy': 'random', 'density': 0.3, 'reinitialize': True})\n"
    )
    train, levels = ("branch", "train", "mine", *SHORT), ("branch", "lottery", "mine", "--levels=1", *SHORT)

    def run(*command: str) -> Result:
        return terminal.run(*command, f"--plugin={file}", "--dry_run")

    assert run(*train).code == run(*train, "--reinitialize", "--strategy=random").code == 0
    assert "by default" not in run(*train).out
    assert run(*levels, "--strategy=magnitude").code == 0
    run(*train, "--strategy=magnitude").assert_is_for_people(2, "--strategy", "sets it to random")
    run(*train, "--density=0.5").assert_is_for_people(2, "--density", "sets it to 0.3")
    run(*levels, "--branch_density=0.5").assert_is_for_people(2, "--branch_density", "sets it to 0.3")


def test_a_plug_in_that_a_job_does_not_use_is_not_in_its_address(terminal: Terminal) -> None:
    everything = [f"--plugin={EXAMPLES / example}.py" for example in JOBS]

    assert terminal.where("train", *SHORT, *everything) == terminal.where("train", *SHORT)


def test_a_branch_names_the_plug_ins_of_its_own_and_its_main_run_those_of_the_training(terminal: Terminal) -> None:
    files = (EXAMPLES / "my_method.py", EXAMPLES / "my_model.py")
    folder = terminal.where(*METHOD, *MODEL[1:], *SHORT, *(f"--plugin={file}" for file in files))

    preview = terminal.run(*METHOD, *MODEL[1:], *SHORT, *(f"--plugin={file}" for file in files), "--dry_run").out

    (described,) = re.findall(r"^described by: +(.*)$", preview, flags=re.MULTILINE)
    assert json.loads(described)["plugins"] == {"my_method": sha256_of_file(files[0])}
    without_method = terminal.where(*MODEL, *SHORT, f"--plugin={files[1]}")
    assert folder.parent == without_method.parent


def test_files_in_the_environment_are_known_to_every_command(terminal: Terminal) -> None:
    files = [str(EXAMPLES / f"{example}.py") for example in ("my_method", "my_model")]
    terminal.environment["OPEN_PRUNE_PLUGINS"] = os.pathsep.join(files)

    assert "fan_in_magnitude" in terminal.run("strategies").out
    assert "pooled_cnn" in terminal.run("models", "pooled").out
    assert terminal.run("train", "--default_hparams=pooled_cnn", "--dry_run").code == 0


@pytest.mark.parametrize(
    ("catalogue", "example", "name"),
    [
        ("strategies", "my_method", "fan_in_magnitude"),
        ("datasets", "my_dataset", "gratings"),
        ("techniques", "my_technique", "end with the average of the weights"),
        ("measures", "my_measure", "how far weights are from where training began"),
        ("branch", "my_branch", "randomize_globally     Permute the mask over all layers"),
    ],
)
def test_what_a_plug_in_declares_is_listed_where_the_flag_stands(
    terminal: Terminal, catalogue: str, example: str, name: str
) -> None:
    flag = f"--plugin={EXAMPLES / example}.py"

    assert name in terminal.run(catalogue, flag).out
    assert name in terminal.run(flag, catalogue).out
    assert name in terminal.run("--plugin", flag.partition("=")[2], catalogue).out
    assert name not in terminal.run(catalogue).out


def test_the_help_of_a_command_has_the_options_of_a_plug_in(terminal: Terminal) -> None:
    shown = terminal.run(*job_of("my_method", ()), "--help").out

    assert re.search(r"--fan_in_power FLOAT +The power of the fan-in: 0 is magnitude pruning", shown)
    assert "--fan_in_power" not in terminal.run("branch", "train", "oneshot", "--help").out
    assert "--cnn_channels INT" in terminal.run(*job_of("my_model", ()), "--help").out


def test_an_option_of_a_plug_in_belongs_to_its_strategy(terminal: Terminal) -> None:
    job = ("branch", "train", "oneshot", "--strategy=magnitude", "--fan_in_power=1", "--dry_run")

    terminal.run(*job, f"--plugin={EXAMPLES / 'my_method.py'}").assert_is_for_people(2, "strategy=fan_in_magnitude")


def test_the_flag_is_in_the_overview_and_in_the_help_of_every_command(terminal: Terminal) -> None:
    (overview, *helps) = answers_of(terminal, [[], *([name, "--help"] for name in COMMANDS if name != "branch")])

    assert "--plugin=FILE.py" in overview[2]
    assert [arguments for arguments, _, out, _ in helps if "--plugin FILE" not in out] == []


def test_planning_with_plug_ins_imports_no_torch(terminal: Terminal) -> None:
    jobs = [[*job_of(example, SHORT), "--dry_run"] for example in JOBS]

    for arguments, code, out, heavy in answers_of(terminal, jobs):
        assert (code, heavy) == (0, []), (arguments, out)


def test_python_reads_a_run_of_a_plug_in_with_the_files_in_the_environment(terminal: Terminal) -> None:
    assert terminal.run(*job_of("my_method", SHORT)).code == 0
    code = "from open_prune import open_run, runs; print(open_run(runs().address[1]).description.pruning.fan_in_power)"

    keeping = terminal.python(code)
    shutil.rmtree(terminal.root / ".plugins")
    lacking = terminal.python(code)
    terminal.environment["OPEN_PRUNE_PLUGINS"] = str(EXAMPLES / "my_method.py")
    having = terminal.python(code)

    assert keeping.out.strip() == "0.25", keeping.err
    assert having.out.strip() == "0.25", having.err
    assert lacking.code == 1
    assert "my_method.py" in lacking.err.strip().splitlines()[-1]


def test_a_measure_of_a_plug_in_is_computed_reused_and_computed_anew_after_a_change_in_the_file(
    terminal: Terminal, tmp_path: Path
) -> None:
    assert terminal.run("train", *SHORT).code == 0
    command = ("measure", "distance", "train", "--relative")
    folders = (EXAMPLES, EXAMPLES, changed("my_measure", tmp_path / "other"))

    results = [terminal.run(*command, f"--plugin={folder}/my_measure.py") for folder in folders]

    assert [result.code for result in results] == [0, 0, 0], results
    assert "largest_distance" in results[0].out
    assert [result.out.splitlines()[-1].split(",")[0] for result in results] == ["computed", "reused", "computed"]
    assert len(list((terminal.root / ".measures" / "distance").iterdir())) == 2
    terminal.run(*command).assert_is_for_people(2, "'distance' is not a valid value")


def test_a_kind_of_figure_draws_results_and_measures_and_names_a_run_that_needs_another_plug_in(
    terminal: Terminal, tmp_path: Path
) -> None:
    for strategy in ("random", "magnitude"):
        job = ("branch", "train", "oneshot", *SHORT, f"--strategy={strategy}", "--density=0.3")
        assert terminal.run(*job).code == 0
    assert terminal.run(*job_of("my_method", SHORT)).code == 0
    shutil.rmtree(terminal.root / ".plugins")
    commands = {
        "trade_off": (f"--plugin={EXAMPLES / 'my_figure.py'}",),
        "measure": ("--measure=effective_sparsity", "--kind=line"),
    }

    for kind, flags in commands.items():
        result = terminal.run("plot", kind, *flags, f"--out={tmp_path / kind}.svg")

        assert result.code == 0, result.err
        rows = list(csv.DictReader((tmp_path / f"{kind}.csv").read_text().splitlines()))
        assert [row["strategy"] for row in rows] == ["random", "magnitude"]
        assert re.search(r"Left out, the plug-in my_method is not loaded: [0-9a-f]{8}/1\.", result.out), result.out


def test_an_unrelated_run_of_a_plug_in_does_not_end_tables_figures_and_reports(
    terminal: Terminal, tmp_path: Path
) -> None:
    own = job_of("my_model", SHORT)
    branch = ("branch", "train", "oneshot", "--strategy=magnitude", "--density=0.3")
    for job in (("train", *SHORT), own, (*branch, *SHORT), (*branch, *own[1:])):
        assert terminal.run(*job).code == 0
    shutil.rmtree(terminal.root / ".plugins")
    note = re.compile(r"[Ll]eft out, the plug-in my_model is not loaded: [0-9a-f]{8}/1, [0-9a-f]{8}/1\.")
    commands: tuple[tuple[str, ...], ...] = (("table",), ("report", "--lines=strategy", f"--out={tmp_path}/a.html"))
    commands += tuple(("plot", kind, f"--out={tmp_path}/a.svg") for kind in ("curves", "training"))

    for command in commands:
        result = terminal.run(*command)

        assert result.code == 0, result.err
        assert note.search(result.out), (command, result.out)
    assert note.search((tmp_path / "a.html").read_text())
    terminal.run("table", f"--plugin={EXAMPLES}/my_model.py").assert_is_for_people(2, "model_name")


def test_prepared_files_are_those_of_a_version_of_the_plug_in(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "root", tmp_path / "datasets")
    for folder in (EXAMPLES, changed("my_dataset", tmp_path / "other")):
        assert terminal.run(*job_of("my_dataset", (*LENET, "--training_steps=0it"), folder)).code == 0
        version = sha256_of_file(folder / "my_dataset.py")[:8]
        assert (terminal.datasets / f"gratings_{version}" / "train.safetensors").is_file()

    assert len(list(terminal.datasets.glob("gratings_*"))) == 2
    assert terminal.run("train", *SHORT, "--dry_run").code == 0  # prepared files of a plug-in are not an added dataset


def test_a_ticket_of_a_network_of_a_plug_in_is_imported_with_it(terminal: Terminal, tmp_path: Path) -> None:
    job, ticket = job_of("my_model", (*LENET, "--training_steps=0it")), str(tmp_path / "ticket.safetensors")
    assert terminal.run(*job).code == 0
    assert terminal.run("export", terminal.where(*job).parent.parent.name, ticket).code == 0

    terminal.run("import", ticket).assert_is_for_people(2, "--plugin", "my_model.py", "not loaded")
    assert terminal.run("import", ticket, f"--plugin={EXAMPLES / 'my_model.py'}").code == 0
    address = next(terminal.root.glob("import_*")).name
    kept = terminal.root / ".plugins" / sha256_of_file(EXAMPLES / "my_model.py") / "my_model.py"
    asked = terminal.run("branch", address, "oneshot", "--dry_run")
    asked.assert_is_for_people(2, "which is not loaded", f"--plugin={kept}")


OPTION = """
from dataclasses import dataclass
from open_prune import {kind}, {base}, hparam

@dataclass(frozen=True, kw_only=True)
class KiteHparams({base}):
    {{}}: float | None = hparam(None)
    \'\'\'An option of a kite.\'\'\'
"""
METHOD_WITH_OPTION = OPTION.format(kind="Method", base="PruningHparams") + (
    "KITE = Method(spelling='kite', paper='', hparams=KiteHparams, score=lambda s, h: {{}})\n"
)
TECHNIQUE_WITH_OPTION = OPTION.format(kind="Technique", base="TechniqueHparams") + (
    "from open_prune import Hooks\nKITE = Technique(spelling='kite', summary='', hparams=KiteHparams, hooks=Hooks)\n"
)
KITE = (
    "from open_prune import Method, PruningHparams\n"
    "M = Method(spelling='{}', paper='', hparams=PruningHparams, score=lambda s, h: {{}})\n"
)
MISTAKES = {
    "a missing file": ({}, ("ls", "--plugin=nowhere.py"), ("--plugin: nowhere.py cannot be read",)),
    "no file": ({}, ("ls", "--plugin"), ("--plugin: a value is missing",)),
    "an error": ({"my.py": "\nx = 1 / 0\n"}, ("ls",), ("--plugin: ", "my.py, line 2: ZeroDivisionError")),
    "an empty file": ({"my.py": ""}, ("ls",), ("--plugin: ", "my.py declares nothing")),
    "two files of one name": (
        {"a/my.py": KITE.format("a"), "b/my.py": KITE.format("b")},
        ("ls",),
        ("--plugin: ", "have the same name"),
    ),
    "a name that is taken": (
        {"my.py": KITE.format("snip10")},
        ("strategies",),
        ("--plugin: ", "declares 'snip10'", "a name of 'snipN'"),
    ),
    "an option with the name of another flag": (
        {"my.py": METHOD_WITH_OPTION.format("lr")},
        ("branch", "train", "oneshot", "--strategy=kite", "--lr=0.1", "--dry_run"),
        ("'lr' of KiteHparams: this is a flag of 'Training' and of --strategy=kite, and would set both.",),
    ),
    "an option with the name of a flag that is not used": (
        {"my.py": METHOD_WITH_OPTION.format("lr")},
        ("ls",),
        ("my.py, line 5: 'lr' of KiteHparams: this is a flag of 'Training' and of --strategy=kite",),
    ),
    "an option with the name of a flag of every command": (
        {"my.py": METHOD_WITH_OPTION.format("help")},
        ("ls",),
        ("my.py, line 5: 'help' of KiteHparams: this is a flag of every command and of --strategy=kite",),
    ),
    "an option with the name of the flag of plug-ins": (
        {"my.py": METHOD_WITH_OPTION.format("plugin")},
        ("ls",),
        ("my.py, line 5: 'plugin' of KiteHparams: this is a flag of every command and of --strategy=kite",),
    ),
    "two techniques with one option": (
        {"my.py": TECHNIQUE_WITH_OPTION.format("gmp_end")},
        ("train", "--technique=gmp,kite", "--dry_run"),
        ("--gmp_end: both gmp and kite have an option of this name; rename one of them.",),
    ),
    "a misspelt flag": ({}, ("ls", "--plugins=x.py"), ("Did you mean '--plugin'?",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_words(terminal: Terminal, tmp_path: Path, mistake: str) -> None:
    files, command, words = MISTAKES[mistake]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    result = terminal.run(*command, *(f"--plugin={tmp_path / name}" for name in files))

    result.assert_is_for_people(2, *words)


def test_models_knows_datasets_that_were_added_and_those_of_plug_ins(terminal: Terminal, tmp_path: Path) -> None:
    import numpy as np

    terminal = Terminal(terminal.root, tmp_path / "datasets")
    np.savez(tmp_path / "dots.npz", x=np.zeros((8, 8, 8), np.uint8), y=np.arange(8) % 2)
    added = terminal.run("datasets", "add", "dots", str(tmp_path / "dots.npz"))
    assert added.code == 0, added.err
    (tmp_path / "mine.py").write_text(
        (EXAMPLES / "my_dataset.py").read_text()
        + "\nfrom open_prune import Recipe\n"
        + "".join(
            f"R{name} = Recipe(spelling='on_{name}', source='', model='cifar_resnet_8', "
            f"hparams={{'dataset_name': '{name}'}})\n"
            for name in ("dots", "gratings")
        )
    )

    listed = terminal.run("models", "on_", f"--plugin={tmp_path / 'mine.py'}")

    assert listed.code == 0, listed.err
    assert all(re.search(rf"on_{name} +{name} ", listed.out) for name in ("dots", "gratings")), listed.out


def test_a_task_of_a_plug_in_trains_prunes_and_is_compared_by_its_own_metric(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal = Terminal(terminal.root, tmp_path / "datasets")
    job = ("--dataset_name=waves", "--model_name=resnet1d_8_2", "--batch_size=250", "--lr=0.01", "--training_steps=1ep")
    plugin = f"--plugin={EXAMPLES / 'my_task.py'}"

    pruned = terminal.run("branch", "train", "oneshot", *job, plugin, "--strategy=snip1", "--density=0.5")
    trained = terminal.run("train", *job, plugin, "--validation_examples=100", "--keep_best")
    listed = terminal.run("ls")

    assert pruned.code == trained.code == listed.code == 0, pruned.err + trained.err + listed.err
    assert all(re.search(r"test mean absolute error: \d+\.\d{4}\n", result.out) for result in (pruned, trained))
    assert "where that was best, test mean absolute error was" in trained.out
    assert "mean_absolute_error" in listed.out.lower().replace(" ", "_")


def test_a_family_of_one_dimensional_convolutions_alone_is_a_network(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from open_prune import Family\n"
        "def build(spec):\n"
        "    from torch import nn\n"
        "    return nn.Sequential(nn.Conv1d(1, spec.outputs, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())\n"
        "MINE = Family(spelling='mine', builder=build, source='', options=frozenset(), batchnorm=False,\n"
        "              inputs=frozenset({'series'}))\n"
    )
    job = ("--dataset_name=waves", "--model_name=mine", "--batch_size=500", "--lr=0.01", "--training_steps=1it")
    plugins = (f"--plugin={EXAMPLES / 'my_task.py'}", f"--plugin={tmp_path / 'mine.py'}")

    result = Terminal(terminal.root, tmp_path / "datasets").run("train", *job, *plugins)

    assert result.code == 0, result.err
