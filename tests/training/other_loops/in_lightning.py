"""Lightning in one process, with DDP, and with FSDP2 in several: zero after every step, saved, loaded and resumed."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from loop_checks import assert_pruned_are_zero, assert_same, refused  # type: ignore[import-not-found]
from torch import nn
from torch.distributed.fsdp import fully_shard

from open_prune import lightning_callback, prune

MODE = sys.argv[1]
CASES: tuple[tuple[str | None, dict[str, Any]], ...] = (
    (None, {}),
    ("rigl", {"mask_update_frequency": 2}),
    ("set,bias_masks", {"mask_update_frequency": 2}),
)
ALONE: tuple[tuple[str | None, dict[str, Any]], ...] = (("gmp", {"gmp_density": 0.3, "gmp_frequency": 2}),)


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4))
        self.leaves_out = False

    def configure_model(self) -> None:
        if MODE == "fsdp2":
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, number: int) -> Any:
        inputs, targets = batch
        if self.leaves_out and number == 2:
            return None
        return nn.functional.cross_entropy(self.network(inputs), targets)

    def validation_step(self, batch: Any, number: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


class Check(lightning.Callback):  # type: ignore[misc]
    """Checks the weights after every batch."""

    def __init__(self, callback: Any) -> None:
        self.callback, self.count = callback, 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        assert_pruned_are_zero(self.callback.training.model, self.callback.mask)
        self.count += 1


def strategy() -> Any:
    if MODE == "fsdp2":
        return ModelParallelStrategy(2, 1, save_distributed_checkpoint=False, process_group_backend="gloo")
    return DDPStrategy(process_group_backend="gloo") if MODE == "ddp" else "auto"


def fit(callback: Any, folder: str, checkpoint: str | None = None, **options: Any) -> Any:
    """Train for two epochs of five batches in all processes together."""
    drawn = torch.Generator().manual_seed(0)
    examples = torch.utils.data.TensorDataset(torch.randn(40, 12, generator=drawn), torch.arange(40) % 4)
    batches = torch.utils.data.DataLoader(examples, batch_size=8 if MODE == "alone" else 4)
    module, check = options.pop("module", None) or Classifier(), Check(callback)
    kept = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    settings: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"max_steps": 10, "strategy": strategy(), "devices": 1 if MODE == "alone" else 2, **options}
    trainer = lightning.Trainer(accelerator="cpu", callbacks=[callback, check, kept], **settings)
    trainer.fit(module, batches, batches, ckpt_path=checkpoint)
    assert check.count > 0
    return trainer


def check_case(technique: str | None, options: dict[str, Any]) -> None:
    if technique != "gmp":
        options = {**options, "mask": prune(Classifier().network, "random", density=0.25, allocation="erk")}

    def callback() -> Any:
        return lightning_callback(technique, submodule="network", **options)

    first, second = callback(), callback()
    assert pickle.loads(pickle.dumps(first)).mask is copy.deepcopy(first).mask is None
    trainer = fit(first, f"{technique}")
    assert first.training.steps == 10 and first.mask.density < 0.301
    resumed = fit(second, f"{technique}_2", f"{technique}/step=5.ckpt")
    assert_same(trainer.lightning_module.network, resumed.lightning_module.network)
    assert first.mask == second.mask


def check_alone() -> None:
    """Check what needs no second process: batches that are left out, fits that continue, and refusals."""
    module, callback = Classifier(), lightning_callback("rigl", density=0.3, mask_update_frequency=2)
    module.leaves_out = True
    fit(callback, "left_out", module=module, max_epochs=2, max_steps=-1)
    assert callback.training is not None and callback.training.steps == 8

    callback = lightning_callback("rigl", density=0.3, mask_update_frequency=2, end=14)
    trainer, mask = fit(callback, "continued", max_epochs=2), callback.mask
    trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = 3, 14
    trainer.fit(trainer.lightning_module, trainer.train_dataloader)
    assert callback.training is not None and callback.training.steps == 14
    assert callback.mask is not None and mask is not None
    assert callback.mask.kept == mask.kept

    rigl: dict[str, Any] = {"technique": "rigl", "density": 0.3}
    refused(
        lambda: fit(lightning_callback(submodule="nett", **rigl), "x"), "submodule: Classifier has no module 'nett'"
    )
    refused(lambda: fit(lightning_callback(optimizer=2, **rigl), "x"), "optimizer: the module has 1 of them")
    refused(lambda: lightning_callback("rigle"), "technique: 'rigle'", "Did you mean 'rigl'?")
    refused(lambda: lightning_callback("rigl", densitty=0.1), "densitty: it is not an option of rigl")
    refused(lightning_callback, "technique: name one, such as rigl, or pass mask=")
    refused(lambda: lightning_callback(mask=3), "mask: it must be a Mask")
    refused(lambda: lightning_callback("rigl", model=3), "model: the loop sets it")
    flat = type("FSDPStrategy", (SingleDeviceStrategy,), {})  # Lightning starts its own on GPUs only
    refused(lambda: fit(lightning_callback(**rigl), "x", strategy=flat("cpu")), "strategy: FSDPStrategy flattens")
    endless = lightning_callback(density=0.3, technique="rigl")
    refused(lambda: fit(endless, "x", max_steps=-1, max_epochs=-1), "end: the loop has no last step")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    for technique, options in (*CASES, *(() if MODE == "fsdp2" else ALONE)):
        check_case(technique, options)
    if MODE == "alone":
        check_alone()
