"""Tasks besides the classification of images, end to end: training, resuming, processes, pruning, selection."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.storage import tensor_files
from foundations.storage.run import Run
from foundations.storage.store import find_run
from tests.cli.terminal import Result, Terminal
from tests.conftest import REPOSITORY
from tests.training.small_runs import tensor_digests

PLUGIN = f"--plugin={REPOSITORY / 'tests/datasets/tiny_tasks.py'}"
DATASETS = ["rows", "prices", "tags", "waves", "tagged_images", "text", "reviews", "own"]
TWO = ("--platform=multi_gpu", "--num_processes=2", "--device=cpu")


def flags(data: str, *more: str) -> tuple[str, ...]:
    """Return a training of five batches an epoch, the last one of an odd size."""
    own = (f"--dataset_name=tiny_{data}", "--model_name=tiny_16", "--batch_size=13", "--training_steps=3ep", "--lr=0.1")
    return (*own, "--momentum=0.9", PLUGIN, *more)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture
def terminal(tmp_path: Path, datasets: Path) -> Terminal:
    return Terminal(tmp_path / "root", datasets)


def ran(terminal: Terminal, *arguments: str) -> Result:
    result = terminal.run(*arguments)
    assert result.code == 0, result.out + result.err
    return result


def runs(root: Path) -> list[dict[str, Any]]:
    """Return the runs under a root as `ls` lists them."""
    return [run for run in json.loads(ran(Terminal(root, root), "ls", "--json").out) if run["status"] == "complete"]


def only(root: Path) -> Run:
    (found,) = runs(root)
    return find_run(root, found["address"])


def tensors(run: Run) -> dict[str, torch.Tensor]:
    path = run.path(run.state_name(max(run.kept_states(5))))
    return tensor_files.read(path, "")[0]


@pytest.mark.parametrize("data", ["prices", "tags", "text"])
def test_a_killed_training_of_each_task_resumes_to_the_same_bytes(
    data: str, terminal: Terminal, tmp_path: Path
) -> None:
    long = flags(data, "--training_steps=20ep", "--validation_examples=5", "--keep_best", "--checkpoint_seconds=0.01")
    ran(terminal, "train", *long)
    other = Terminal(tmp_path / "other", terminal.datasets)
    running = other.start("train", *long)
    running.wait_for("ep 5 it 0")
    running.kill()
    ran(other, "train", *long)

    assert tensor_digests(only(terminal.root)) == tensor_digests(only(other.root))


def kill_and_resume(terminal: Terminal, other: Terminal, seed: int, times: int) -> None:
    """Compute a training with many options in one root at once, in another with SIGKILL at some random moments."""
    drawn = random.Random(seed)
    data = drawn.choice(["text", "reviews"])
    long = flags(data, *MANY_OPTIONS, f"--accumulate={drawn.randint(1, 4)}", f"--replicate={seed + 1}")
    started = time.monotonic()
    ran(terminal, "train", *long)
    whole = time.monotonic() - started
    for _ in range(times):
        running = other.start("train", *long)
        time.sleep(drawn.uniform(0, whole))
        running.kill()
    ran(other, "train", *long)

    expected, found = only(terminal.root), only(other.root)
    assert tensor_digests(expected) == tensor_digests(found)
    assert expected.metrics().values == found.metrics().values


MANY_OPTIONS = (
    "--optimizer_name=adamw",
    "--adam_beta2=0.95",
    "--weight_decay=0.1",
    "--no_decay=biases,embeddings",
    "--lr=0.01",
    "--min_lr=0.001",
    "--lr_schedule=linear",
    "--warmup_steps=5it",
    "--clip_grad_norm=0.5",
    "--label_smoothing=0.1",
    "--technique=gmp,ema",
    "--gmp_density=0.3",
    "--ema_decay=0.9",
    "--training_steps=20ep",
    "--validation_examples=5",
    "--keep_best",
    "--checkpoint_seconds=0.01",
)


def test_a_training_with_many_options_that_is_killed_at_a_random_moment_resumes_to_the_same_bytes(
    terminal: Terminal, tmp_path: Path
) -> None:
    kill_and_resume(terminal, Terminal(tmp_path / "other", terminal.datasets), seed=0, times=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_trainings_that_are_killed_several_times_resume_to_the_same_bytes(
    seed: int, terminal: Terminal, tmp_path: Path
) -> None:
    kill_and_resume(terminal, Terminal(tmp_path / "other", terminal.datasets), seed=seed, times=4)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("data", ["prices", "tags", "text"])
def test_two_processes_compute_what_one_does(data: str, parts: int, terminal: Terminal, tmp_path: Path) -> None:
    """Parts of batches have different numbers of tokens that count."""
    more = ("--validation_examples=5", "--clip_grad_norm=0.3")
    ran(terminal, "train", *flags(data, *more))
    accumulated = flags(data, *more, f"--accumulate={parts}")
    ran(Terminal(tmp_path / "two", terminal.datasets), "train", *accumulated, *TWO)

    one, two = only(terminal.root), only(tmp_path / "two")
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(tensor, tensors(two)[name], rtol=1e-10, atol=1e-10)
    metrics = two.metrics().values
    assert metrics.keys() == one.metrics().values.keys()
    assert metrics == pytest.approx(one.metrics().values, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("data", ["own", "tags", "text"])
def test_runs_that_are_trained_together_end_as_alone(data: str, terminal: Terminal, tmp_path: Path) -> None:
    ran(terminal, "sweep", "--grid", "replicate=1,2", "--jobs=1", "--together=2", "--", "train", *flags(data))
    ran(Terminal(tmp_path / "alone", terminal.datasets), "train", *flags(data), "--replicate=2")

    own = next(run for run in runs(terminal.root) if run["replicate"] == 2)
    stacked, alone = find_run(terminal.root, own["address"]), only(tmp_path / "alone")
    for name, tensor in tensors(stacked).items():
        torch.testing.assert_close(tensor, tensors(alone)[name], rtol=1e-9, atol=1e-9)
    assert stacked.metrics().values == pytest.approx(alone.metrics().values, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("data", "strategy"),
    [("text", "snip2"), ("text", "grasp2"), ("text", "synflow"), ("text", "fisher2"), ("prices", "grasp2")]
    + [(data, "snip2") for data in DATASETS if data != "text"],
)
def test_methods_prune_networks_of_each_task_to_exact_counts(data: str, strategy: str, terminal: Terminal) -> None:
    ran(terminal, "branch", "train", "oneshot", f"--strategy={strategy}", "--density=0.3", *flags(data))

    pruned = next(run for run in runs(terminal.root) if run["branch"] == "oneshot")
    report = find_run(terminal.root, pruned["address"]).sparsity()
    assert report is not None
    assert report["achieved"]["kept"] == round(0.3 * report["total"])


def test_snip_without_classes_scores_with_ten_times_as_many_examples(terminal: Terminal) -> None:
    result = terminal.run("branch", "train", "oneshot", "--strategy=snip10", "--density=0.3", *flags("prices"))

    result.assert_is_for_people(2, "100 examples are asked for, but there are 61")


def test_a_lottery_of_a_language_model_rewinds_and_prunes(terminal: Terminal) -> None:
    ran(terminal, "lottery", "--levels=2", "--rewinding_steps=1ep", "--pruning_fraction=0.5", *flags("text"))

    levels = sorted(run["results"].get("density", 1.0) for run in runs(terminal.root))
    assert levels[0] == pytest.approx(0.25, abs=0.01)


def test_the_best_state_of_a_metric_where_less_is_better_has_the_lowest(terminal: Terminal) -> None:
    ran(
        terminal, "train", *flags("text", "--validation_examples=5", "--keep_best", "--lr=1.5", "--training_steps=12ep")
    )

    run = only(terminal.root)
    values = run.metrics().values
    lowest = min((value, step) for (name, step), value in values.items() if name == "validation_perplexity")
    best, manifest = run.best_step(5), run.read_manifest()
    assert best is not None and manifest is not None
    assert best.iteration == lowest[1]
    assert run.has_state(best)
    assert manifest.results["selected_test_perplexity"] == values["test_perplexity", lowest[1]]


def test_summaries_listings_and_tables_show_perplexity(terminal: Terminal) -> None:
    summary = ran(terminal, "train", *flags("text", "--validation_examples=5")).out
    for level in ("0.5", "0.3"):
        for strategy in ("magnitude", "random"):
            ran(terminal, "branch", "train", "oneshot", f"--strategy={strategy}", f"--density={level}", *flags("text"))
    perplexity = only_training(terminal.root)["results"]["test_perplexity"]

    assert f"test perplexity: {perplexity:.4f}" in summary
    assert "where that was best, test perplexity was" in summary
    listed = ran(terminal, "ls").out.lower()
    assert "perplexity" in listed and "accuracy" not in listed
    ordered = ran(terminal, "ls", "--sort=perplexity", "--columns=perplexity").out.split()[1:]
    assert [float(value) for value in ordered if value[0].isdigit()] == sorted(
        float(value) for value in ordered if value[0].isdigit()
    )
    table = ran(terminal, "table", "--format=markdown", "--digits=6").out
    assert "est perplexity" in table
    best = min(run["results"]["test_perplexity"] for run in runs(terminal.root) if run["results"].get("density") == 0.5)
    assert f"**{best:.6f}" in table


def only_training(root: Path) -> dict[str, Any]:
    return next(run for run in runs(root) if not run["branch"] and run["hyperparameters"]["validation_examples"])


def test_a_figure_of_perplexity_has_its_name_and_no_percent(terminal: Terminal, tmp_path: Path) -> None:
    for level in ("0.5", "0.3"):
        ran(terminal, "branch", "train", "oneshot", "--strategy=random", f"--density={level}", *flags("text"))
    ran(terminal, "plot", "curves", f"--out={tmp_path / 'figure.svg'}")
    ran(terminal, "plot", "training", "--lines=sparsity", f"--out={tmp_path / 'training.svg'}")

    assert "Test perplexity" in (tmp_path / "figure.svg").read_text()
    assert "Test perplexity (%)" not in (tmp_path / "figure.svg").read_text()


def test_runs_of_several_tasks_need_a_choice_of_the_value(terminal: Terminal) -> None:
    for data in ("text", "prices"):
        ran(terminal, "branch", "train", "oneshot", "--strategy=random", "--density=0.5", *flags(data))

    refused = terminal.run("plot", "curves")
    refused.assert_is_for_people(2, "test_perplexity, test_r2")
    listed = ran(terminal, "ls").out.lower()
    assert "perplexity" in listed and "r2" in listed


def test_measures_that_need_classes_say_so(terminal: Terminal) -> None:
    ran(terminal, "train", *flags("prices"))

    refused = terminal.run("measure", "calibration_error", runs(terminal.root)[0]["address"], PLUGIN)
    refused.assert_is_for_people(2, "calibration_error needs classes; the task of 'tiny_prices' is regression")
    for measure in ("gradient_flow", "activation_sparsity"):
        ran(terminal, "measure", measure, runs(terminal.root)[0]["address"], PLUGIN)


@pytest.mark.parametrize("data", ["prices", "tags", "text", "waves"])
def test_measures_of_masks_activations_gradients_and_loss_surfaces_take_every_task(
    data: str, terminal: Terminal
) -> None:
    for seed in ("1", "2"):
        own = flags(data, "--training_steps=1ep", f"--data_order_seed={seed}")
        ran(terminal, "branch", "train", "oneshot", "--strategy=random", "--density=0.4", *own)
    pair = [run["address"] for run in runs(terminal.root) if run["branch"]]

    for measure in ("activation_sparsity", "gradient_flow"):
        ran(terminal, "measure", measure, pair[0], PLUGIN)
    connectivity = terminal.run("measure", "effective_sparsity", pair[0], PLUGIN)
    if data == "text":
        connectivity.assert_is_for_people(2, "cannot be followed through torch.nn.functional.embedding")
    else:
        assert connectivity.code == 0
    ran(terminal, "measure", "mask_overlap", *pair, PLUGIN)
    barrier = json.loads(ran(terminal, "measure", "linear_mode_connectivity", *pair, PLUGIN, "--json").out)
    assert "barrier" in json.dumps(barrier)


@pytest.mark.parametrize(
    ("data", "option", "words"),
    [
        ("prices", "--label_smoothing=0.1", "regression, the task of 'tiny_prices', has no labels to smooth"),
        ("prices", "--technique=smoothing", "smoothing needs classes"),
        ("rows", "--blur_factor=2", "it changes images; 'tiny_rows' has vectors"),
        ("text", "--random_labels_fraction=0.5", "'tiny_text' has no classes to draw from"),
        ("prices", "--outputs=3", "regression of 'tiny_prices' needs 2 outputs"),
        ("text", "--stride=9", "9 is longer than a sequence of 6 tokens"),
        ("reviews", "--stride=3", "it is for language modelling"),
        ("text", "--sequence_length=1000000", "1,000,000 is more than the"),
        ("reviews", "--sequence_length=1000000", "1,000,000 is more than the"),
        ("text", "--validation_examples=500", "500 leave none of the"),
        ("rows", "--sequence_length=3", "sequence_length"),
    ],
)
def test_what_does_not_suit_the_task_is_refused_in_a_sentence(
    data: str, option: str, words: str, terminal: Terminal
) -> None:
    terminal.run("train", *flags(data, option)).assert_is_for_people(2, words)


def test_techniques_change_the_loss_of_tokens_that_count(terminal: Terminal, tmp_path: Path) -> None:
    ran(terminal, "train", *flags("text", "--label_smoothing=0.1"))
    other = Terminal(tmp_path / "other", terminal.datasets)
    ran(other, "train", *flags("text", "--technique=smoothing", "--smoothing_over=all"))

    for name, tensor in tensors(only(terminal.root)).items():
        torch.testing.assert_close(tensor, tensors(only(other.root))[name], rtol=1e-9, atol=1e-9)
