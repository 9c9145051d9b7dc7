"""`transformers.Trainer` in one process or with DDP in several: zero after every step, saved, loaded and resumed."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from loop_checks import assert_pruned_are_zero, assert_same, refused  # type: ignore[import-not-found]
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from open_prune import Mask, prune, transformers_callback

CONFIG = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=32, bos_token_id=0, eos_token_id=0)
TOKENS = torch.randint(50, (64, 16), generator=torch.Generator().manual_seed(0))
LAYERS = "Conv1D,lm_head"
CASES: dict[str, dict[str, Any]] = {
    "mask": {"technique": None},
    "rigl": {"technique": "rigl", "mask_update_frequency": 3, "mask_update_end": 10},
    "gmp": {"technique": "gmp", "gmp_density": 0.2, "gmp_frequency": 2, "gmp_prunable_layers": LAYERS},
}


def network() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(CONFIG)


class Check(TrainerCallback):  # type: ignore[misc]
    """Checks the weights after every step."""

    def __init__(self, callback: Any) -> None:
        self.callback, self.count = callback, 0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        assert_pruned_are_zero(model, self.callback.mask)
        self.count += 1


def train(folder: str, callback: Any, resume: str | None = None, **options: Any) -> Any:
    settings = TrainingArguments(
        folder, max_steps=12, save_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, use_cpu=True,
        report_to=[], disable_tqdm=True, ddp_backend="gloo" if "RANK" in os.environ else None, **options,
    )  # fmt: skip
    examples = [{"input_ids": each, "labels": each} for each in TOKENS]
    check = Check(callback)
    trainer = Trainer(network(), settings, train_dataset=examples, eval_dataset=examples, callbacks=[callback, check])
    trainer.train(resume_from_checkpoint=resume)
    assert check.count == (8 if resume else 12)
    return trainer


def check_case(name: str) -> None:
    options = dict(CASES[name])
    technique = options.pop("technique")
    if technique != "gmp":
        options["mask"] = prune(network(), "magnitude", density=0.3, prunable_layers=LAYERS)
    callback = transformers_callback(technique, **options)
    assert pickle.loads(pickle.dumps(callback)).mask is copy.deepcopy(callback).mask is None
    trainer = train(name, callback)
    assert callback.training is not None and callback.training.steps == 12
    assert callback.mask is not None and callback.mask.density < 0.301

    resumed = transformers_callback(technique, **options)
    assert_same(trainer.model, train(name, resumed, f"{name}/checkpoint-4").model)
    assert resumed.mask == callback.mask
    elsewhere = transformers_callback(technique, resume_from=f"{name}/checkpoint-4", **options)
    assert_same(trainer.model, train(f"{name}_2", elsewhere, f"{name}/checkpoint-4").model)

    other = transformers_callback(technique, **options)
    refused(lambda: train(f"{name}_3", other, f"{name}/checkpoint-4"), "resume_from: training resumes at step 4")
    wrong = transformers_callback(technique, resume_from=f"{name}/checkpoint-8", **options)
    refused(lambda: train(f"{name}_3", wrong, f"{name}/checkpoint-4"), "is not the checkpoint that the Trainer")
    check_saved(trainer, callback.mask, f"{name}/final")


def check_saved(trainer: Any, mask: Any, folder: str) -> None:
    """Check what is loaded from a folder that the Trainer saved: zeros, the mask, tied weights, and its texts."""
    trainer.save_model(folder)
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return
    mask.save(f"{folder}/mask.safetensors")
    loaded: Any = GPT2LMHeadModel.from_pretrained(folder)
    read, model = Mask.load(f"{folder}/mask.safetensors"), trainer.model.eval()
    assert read == mask
    assert_pruned_are_zero(loaded, read)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    prompt, options = torch.tensor([[1, 2, 3]]), {"max_new_tokens": 8, "do_sample": False}
    texts = [each.generate(prompt, use_cache=cached, **options) for each in (loaded, model) for cached in (True, False)]
    assert all(torch.equal(texts[0], text) for text in texts)
    checkpoint = Mask.load(f"{folder}/../checkpoint-8/mask.safetensors")
    assert_pruned_are_zero(GPT2LMHeadModel.from_pretrained(f"{folder}/../checkpoint-8"), checkpoint)


def check_best() -> None:
    """Check that the mask is that of the best checkpoint, once the Trainer has loaded it."""
    callback = transformers_callback("gmp", gmp_density=0.05, gmp_frequency=1, gmp_end=12, gmp_prunable_layers="Conv1D")
    options: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "load_best_model_at_end": True,
        "greater_is_better": True,
    }
    trainer = train("best", callback, metric_for_best_model="eval_loss", **options)
    assert callback.mask == Mask.load(f"{trainer.state.best_model_checkpoint}/mask.safetensors")
    assert_pruned_are_zero(trainer.model, callback.mask)


def check_damaged() -> None:
    """Check that a checkpoint without its mask, or with a damaged state, is refused."""

    def callback() -> Any:
        return transformers_callback(mask=prune(network(), "random", density=0.3, prunable_layers=LAYERS))

    train("damaged", callback())
    Path("damaged/checkpoint-4/mask.safetensors").unlink()
    refused(lambda: train("damaged", callback(), "damaged/checkpoint-4"), "damaged/checkpoint-4/mask.safetensors")
    for content in (b"", b"{}", Path("damaged/checkpoint-8/sparse_training.pt").read_bytes()[:-400]):
        Path("damaged/checkpoint-8/sparse_training.pt").write_bytes(content)
        refused(lambda: train("damaged", callback(), "damaged/checkpoint-8"), "sparse_training.pt: it is damaged")


CHECKS = {"best": check_best, "damaged": check_damaged}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in sys.argv[1:]:
        CHECKS[case]() if case in CHECKS else check_case(case)
