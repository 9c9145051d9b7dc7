"""A run that was cut off, wherever and however often, ends with the bytes of one that was not."""

import random
import signal
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branches.desc import BranchDesc
from foundations.errors import Interrupted
from foundations.interrupts import Interrupts
from foundations.storage.upkeep import verify
from tests.training.small_runs import FORK, Listener, context, oneshot_desc, run_of, tensor_digests, train_desc
from training.desc import TrainDesc
from training.jobs.compute import complete
from training.registry import TECHNIQUES

KEPT = (0, 4, 6, 13, 18)
RIGL: dict[str, Any] = {"technique": "rigl", "mask_update_frequency": "3it", "mask_update_end": "15it"}
JOBS: dict[str, TrainDesc | BranchDesc] = {
    "sgd": train_desc(warmup_steps="4it", milestone_steps="9it,2ep", gamma=0.1),
    "nesterov, smoothed, cosine": train_desc(
        nesterov_momentum=0.8, momentum=0.0, label_smoothing=0.1, lr_schedule="cosine"
    ),
    "adam": train_desc(optimizer_name="adam", lr=0.01),
    "adamw in bf16": train_desc(optimizer_name="adamw", lr=0.01, weight_decay=0.1, precision="bf16"),
    "sgd in fp16": train_desc(precision="fp16"),
    "batchnorm": train_desc(model_name="digits_resnet_8_4"),
    "adamw in groups, clipped, linear": train_desc(
        optimizer_name="adamw",
        lr=0.01,
        weight_decay=0.1,
        adam_beta2=0.95,
        no_decay="norms,biases",
        clip_grad_norm=0.5,
        lr_schedule="linear",
        min_lr=0.001,
        warmup_steps="2it",
    ),
    "clipped in fp16 with a mask": oneshot_desc(
        "random", {"precision": "fp16", "clip_grad_norm": 0.1, "lr_schedule": "inverse_sqrt"}, density=0.3
    ),
    "in parts, batchnorm": train_desc(model_name="digits_resnet_8_4", accumulate=3),
    "mixed, rand_augment": train_desc(mixup=0.8, cutmix=1.0, augment_as="pad4_crop_flip_randaugment"),
    "average of a network with batchnorm": train_desc(
        model_name="digits_resnet_8_4", technique="ema", ema_decay=0.8, ema_begin="3it", ema_warmup=True
    ),
    "average of a changing mask": train_desc(
        technique="gmp,ema", gmp_frequency="2it", gmp_density=0.1, ema_decay=0.9, ema_only_at_end=True
    ),
    "sgd with a mask": oneshot_desc("random", prune_fraction=0.9),
    "adam with a mask": oneshot_desc("snip1", {"optimizer_name": "adam", "lr": 0.01}, density=0.1),
    "mask from another step": oneshot_desc(prune_step="2ep", state_step="3it", start_step="3it"),
    "gmp with examples": train_desc(technique="gmp", gmp_strategy="snip1", gmp_frequency="2it", gmp_density=0.1),
    "cycles with adam": train_desc(
        optimizer_name="adam",
        lr=0.01,
        lr_schedule="cosine",
        technique="cyclic",
        cycles=3,
        cycle_lengths="linear_increase",
    ),
    "early bird with an average": train_desc(
        technique="early_bird,ema", early_bird_threshold=0.5, early_bird_masks=2, early_bird_frequency="4it"
    ),
    "interpolated normalization with an average": train_desc(
        model_name="digits_resnet_8_4", technique="interpolated_norm,ema", ema_decay=0.8
    ),
    "rigl": oneshot_desc("random", density=0.1, allocation="erk", **RIGL),
    "set with adam": train_desc(
        optimizer_name="adam", lr=0.01, technique="set", start_density=0.2, mask_update_frequency="2it"
    ),
    "gradinit before a mask, smoothing": oneshot_desc(
        "random",
        density=0.2,
        technique="gradinit,smoothing",
        gradinit_iters=2,
        gradinit_before_mask=True,
        smoothing_reported=True,
    ),
    "gradinit after a mask": oneshot_desc(
        "random", {"optimizer_name": "adam", "lr": 0.01}, density=0.2, technique="gradinit", gradinit_iters=2
    ),
    "rmsprop with momentum, initialized by the mask, without biases of dead units": oneshot_desc(
        "phew",
        {"optimizer_name": "rmsprop", "lr": 0.01, "momentum": 0.5},
        density=0.05,
        phew_bias="uniform",
        reinitialize=True,
        masked_init="evci",
        technique="bias_masks",
    ),
    "gmp and rigl with new weights drawn": oneshot_desc(
        "magnitude",
        density=0.5,
        **{**RIGL, "technique": "gmp,rigl", "grow_init": "initial_dist"},
        gmp_density=0.1,
        gmp_frequency="3it",
    ),
    "rigl by the optimizer's steps with new weights by the raw ones": train_desc(
        start_density=0.2, mask_update_clock="optimizer_steps", grow_init="random_normal", **RIGL
    ),
    "rigl by averaged gradients, counted from 1": train_desc(
        start_density=0.2, mask_update_clock="batches_from_1", grad_accumulation_n=3, **RIGL
    ),
    "itop where the mask never was, averaged": train_desc(
        technique="itop,ema", itop_growth="random_unfired", start_density=0.2, mask_update_frequency="4it"
    ),
    "granet with adam": train_desc(
        optimizer_name="adam", lr=0.01, technique="granet", granet_density=0.2, mask_update_frequency="3it"
    ),
    "granet from a mask": oneshot_desc("random", density=0.4, technique="granet", mask_update_frequency="4it"),
    "sparse momentum": train_desc(technique="snfs", start_density=0.2, mask_update_frequency="3it"),
    "sparse momentum with adam, adjusted": oneshot_desc(
        "random",
        {"optimizer_name": "adam", "lr": 0.01},
        density=0.3,
        technique="snfs,smoothing",
        snfs_adjusted_growth=True,
        mask_update_frequency="4it",
    ),
    "mest": train_desc(
        technique="mest", mest_mode="em_s", mest_lambda=0.1, start_density=0.2, mask_update_frequency="3it"
    ),
    "freeze small": train_desc(technique="freeze_small", freeze_negative=True),
    "shortcut scales": train_desc(model_name="digits_resnet_8_2", technique="shortcut_scales"),
    "ghost skips": train_desc(model_name="digits_resnet_8_2", technique="ghost_skips", skip_init="kaiming_normal"),
    "ghost skips and a soft activation that fade": oneshot_desc(
        "random",
        {"model_name": "digits_resnet_8_2"},
        density=0.5,
        technique="ghost_skips,soft_activation",
        soft_activation="mish",
        skip_fade_begin="2it",
        skip_fade_end="11it",
        soft_fade_end="13it",
    ),
    "acdc with a mask, an average and new momentum": oneshot_desc(
        "random",
        density=0.5,
        technique="acdc,ema",
        acdc_prune_at="3it-15it@6it",
        acdc_restore_at="6it,12it",
        acdc_reset_momentum=True,
        ema_decay=0.8,
    ),
    "acdc with adam": train_desc(optimizer_name="adam", momentum=0.0, lr=0.01, technique="acdc"),
    "continuous sparsification with batchnorm and an average": train_desc(
        model_name="digits_resnet_8_2",
        technique="continuous_sparsification,ema",
        cs_rounds=2,
        cs_temperature_frequency="2it",
        cs_rewind="2it",
        cs_s0=-0.02,
        ema_decay=0.8,
        milestone_steps="4it",
        gamma=0.1,
    ),
    "continuous sparsification with a mask and adam": oneshot_desc(
        "random",
        {"optimizer_name": "adam", "lr": 0.01},
        density=0.5,
        technique="continuous_sparsification",
        cs_result="network",
        cs_temperature_frequency="3it",
        cs_next_round="unscaled",
    ),
    "edge-popup of signed constants, clipped, with an average": train_desc(
        technique="edge_popup,ema",
        edge_popup_scope="global",
        learned_mask_weights="signed_constant",
        learned_mask_fan="kept",
        clip_grad_norm=0.1,
        ema_decay=0.8,
    ),
    "edge-popup with adam, in parts": train_desc(
        optimizer_name="adam", momentum=0.0, lr=0.01, technique="edge_popup", accumulate=2
    ),
    "gem-miner with trained scales": train_desc(
        model_name="digits_resnet_8_2",
        technique="gem_miner",
        gem_miner_begin="2it",
        gem_miner_period="3it",
        learned_mask_train_rest=True,
        precision="fp16",
    ),
    "srigl, averaged gradients": train_desc(
        model_name="digits_lenet_16_8", start_density=0.4, grad_accumulation_n=2, **{**RIGL, "technique": "srigl,ema"}
    ),
    "srigl after a mask": oneshot_desc("random", density=0.4, srigl_gamma=0.6, **{**RIGL, "technique": "srigl"}),
    "sr-ste, averaged, in parts": train_desc(
        model_name="digits_lenet_16_8", technique="srste,ema", ema_decay=0.8, accumulate=2, clip_grad_norm=0.5
    ),
    "sr-ste and gmp with adam": train_desc(
        optimizer_name="adam", lr=0.01, technique="gmp,srste", gmp_frequency="4it", gmp_density=0.3, srste_lambda=0.01
    ),
    "str in groups, with an average": train_desc(
        technique="str,ema",
        str_s_init=-4.0,
        str_weight_decay=0.05,
        no_decay="biases",
        clip_grad_norm=0.5,
        ema_decay=0.8,
    ),
    "str with a mask and adam": oneshot_desc(
        "random", {"optimizer_name": "adam", "lr": 0.01}, density=0.5, technique="str", str_s_init=-4.0
    ),
    "powerpropagation with gradual pruning and batchnorm": train_desc(
        model_name="digits_resnet_8_2", technique="gmp,powerpropagation", gmp_frequency="2it", gmp_density=0.1
    ),
    "top-kast with an average": train_desc(
        technique="topkast,ema", topkast_refresh="5it", topkast_density=0.2, clip_grad_norm=0.5, ema_decay=0.8
    ),
    "soft activation": train_desc(technique="soft_activation", soft_activation="pswish", soft_beta=3.0),
}


def test_every_technique_is_among_the_jobs():
    used = {technique.spelling for desc in JOBS.values() if desc.techniques for technique, _ in desc.techniques.parts}
    faded = {"ghost_skips": "skip_fade_end", "soft_activation": "soft_fade_end"}
    fading = {
        technique.spelling
        for desc in JOBS.values()
        if desc.techniques
        for technique, part in desc.techniques.parts
        if getattr(part, faded.get(technique.spelling, ""), None) is not None
    }

    assert used == set(TECHNIQUES.spellings())
    assert fading == set(faded)


@dataclass
class Stopper(Listener):
    """Asks the job to stop when it is at an iteration."""

    interrupts: Interrupts = None  # type: ignore[assignment]
    at: int = -1

    def progress(self, what, done, total, unit):
        if what == "train" and done == self.at:
            self.interrupts.signal_number = signal.SIGTERM


def run_with_stops(desc, root, digits, stops, **changes):
    """Compute the run to its end, stopping it at some iterations on the way; return how often it was stopped."""
    keep = [desc.start.at(i) for i in KEPT if i >= desc.start.iteration]
    stopped = 0
    for stop in (*stops, -1):
        interrupts = Interrupts()
        reporter = Stopper(interrupts=interrupts, at=stop)
        try:
            complete(desc, context(root, digits, reporter=reporter, interrupts=interrupts, **changes), keep)
        except Interrupted:
            stopped += 1
    return stopped


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, digits):
    """The digests of each run's files, had it not been interrupted."""
    known = {}

    def digests(name):
        if name not in known:
            root = tmp_path_factory.mktemp("whole")
            run_with_stops(JOBS[name], root, digits, ())
            known[name] = tensor_digests(run_of(JOBS[name], context(root, digits)))
        return known[name]

    return digests


@pytest.mark.parametrize("name", JOBS)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.sets(st.integers(0, 18), min_size=3, max_size=7))
def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path_factory, digits, uninterrupted, name, stops):
    root = tmp_path_factory.mktemp("stopped")

    run_with_stops(JOBS[name], root, digits, sorted(stops))  # in this order each of them stops the run

    assert tensor_digests(run_of(JOBS[name], context(root, digits))) == uninterrupted(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("stop", range(19))
def test_a_run_that_was_stopped_at_each_iteration_ends_with_the_same_bytes(tmp_path, digits, uninterrupted, name, stop):
    stopped = run_with_stops(JOBS[name], tmp_path, digits, [stop])

    assert stopped == 1
    assert tensor_digests(run_of(JOBS[name], context(tmp_path, digits))) == uninterrupted(name)


def test_a_run_that_was_stopped_at_every_iteration_ends_with_the_same_bytes(tmp_path, digits, uninterrupted):
    stopped = run_with_stops(JOBS["sgd with a mask"], tmp_path, digits, range(19))

    assert stopped == 19
    assert tensor_digests(run_of(JOBS["sgd with a mask"], context(tmp_path, digits))) == uninterrupted(
        "sgd with a mask"
    )


def test_a_run_that_is_evaluated_only_at_the_end_resumes_to_the_same_bytes(tmp_path, digits):
    desc = JOBS["sgd"]
    run_with_stops(desc, tmp_path / "whole", digits, (), evaluate_only_at_end=True)
    run_with_stops(desc, tmp_path / "stopped", digits, (7, 11), evaluate_only_at_end=True)

    whole, stopped = (run_of(desc, context(tmp_path / name, digits)) for name in ("whole", "stopped"))

    assert sorted(iteration for name, iteration in whole.metrics().values if name == "test_loss") == [0, 18]
    assert tensor_digests(stopped) == tensor_digests(whole)


def test_checkpointing_at_every_step_changes_no_byte(tmp_path, digits, uninterrupted):
    run_with_stops(JOBS["adam"], tmp_path, digits, (), checkpoint_seconds=0)

    assert tensor_digests(run_of(JOBS["adam"], context(tmp_path, digits))) == uninterrupted("adam")


def kill_at_a_random_moment(desc, root, digits, seconds):
    """Compute the run in a forked process and kill it after some seconds; tell whether it was still at work."""
    process = FORK.Process(target=run_with_stops, args=(desc, root, digits, ()), kwargs={"checkpoint_seconds": 0.01})
    process.start()
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "desc",
    [
        pytest.param(train_desc(batch_size=16, training_steps="25ep"), marks=pytest.mark.slow),
        pytest.param(
            oneshot_desc("snip1", {"optimizer_name": "adam", "lr": 0.01, "batch_size": 16, "training_steps": "25ep"}),
            marks=pytest.mark.slow,
        ),
        oneshot_desc(
            "snip1",
            {"batch_size": 32, "training_steps": "15ep"},
            density=0.5,
            technique="gradinit,gmp,rigl,soft_activation,smoothing",
            gradinit_iters=2,
            gmp_density=0.1,
            mask_update_frequency="20it",
            soft_fade_begin="2ep",
        ),
    ],
    ids=["train", "branch", "techniques"],
)
def test_a_run_that_is_killed_at_twenty_random_moments_ends_with_the_same_bytes(tmp_path, digits, desc):
    moments = random.Random(7)
    run_with_stops(desc, tmp_path / "whole", digits, ())

    killed = sum(
        kill_at_a_random_moment(desc, tmp_path / "killed", digits, moments.uniform(0.02, 0.15)) for _ in range(20)
    )
    run_with_stops(desc, tmp_path / "killed", digits, ())

    whole, resumed = (run_of(desc, context(tmp_path / name, digits)) for name in ("whole", "killed"))
    assert killed > 5
    assert tensor_digests(resumed) == tensor_digests(whole)
    assert verify(resumed) == []
    assert not list(resumed.folder.glob(".*"))
