import pytest
import torch

from tests.training.small_runs import context, train_desc
from training.jobs.compute import complete
from training.loop.precision import autocast, grad_scaler, matrix_products

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_each_precision_trains(tmp_path, digits, precision):
    outcome = complete(train_desc(model_name="digits_resnet_8_4", precision=precision), context(tmp_path, digits))

    accuracy, loss = (outcome.manifest.results[name] for name in ("test_accuracy", "test_loss"))
    assert accuracy is not None and accuracy > 0.3
    assert loss is not None and loss < 2.3
    state = outcome.run.load_state(train_desc().end)
    assert {tensor.dtype for tensor in state.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_mixed_precision_multiplies_in_its_type(precision, dtype):
    casts = autocast(precision, CPU)
    assert casts is not None

    with casts():
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert product.dtype == dtype


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_full_precision_casts_nothing(precision):
    with autocast(precision, CPU)():
        assert not torch.is_autocast_enabled("cpu")


def test_only_fp16_scales_the_loss():
    enabled = {name: grad_scaler(name, CPU).is_enabled() for name in ("float32", "tf32", "bf16", "fp16")}

    assert enabled == {"float32": False, "tf32": False, "bf16": False, "fp16": True}


def test_tf32_is_allowed_inside_the_block_only():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    inside = {}
    for precision in ("tf32", "float32"):
        with matrix_products(precision):
            inside[precision] = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    assert inside == {"tf32": ("high", True), "float32": ("highest", False)}
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_an_update_that_overflows_in_fp16_is_skipped_and_the_scale_falls(tmp_path, digits):
    from training.job import initialized_model
    from training.loop.trainer import Trainer

    desc = train_desc(precision="fp16")
    place = context(tmp_path, digits)
    trainer = Trainer(initialized_model(desc, 1), desc, place, place.platform, 1)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    scale = trainer.scaler.get_scale()
    loss = trainer.loss(trainer.model(torch.full((4, 1, 8, 8), float("inf"))), torch.zeros(4, dtype=torch.long))

    trainer.scaler.scale(loss).backward()
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()

    assert trainer.scaler.get_scale() < scale
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
