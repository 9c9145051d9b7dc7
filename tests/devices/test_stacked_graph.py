"""The step of stacked networks is one graph of tensor operations: it is traced, and `torch.export` compiles it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from tests.training.small_runs import context, train_desc
from training.job import initialized_model
from training.jobs.together import Stack
from training.loop.trainer import Trainer

Named = dict[str, Tensor]


@pytest.mark.parametrize("model_name", ["digits_lenet_16", pytest.param("digits_resnet_8_4", marks=pytest.mark.slow)])
def test_the_exported_step_gives_the_gradients_of_the_stack(model_name: str, tmp_path: Path, digits: Path) -> None:
    place, desc = context(tmp_path, digits), train_desc(model_name=model_name, batch_size=32)
    trainers = []
    for number in range(3):
        trainer = Trainer(initialized_model(desc, number), desc, place, place.platform, number)
        trainer.prepare(None, desc.start)
        trainer.model.train()
        trainers.append(trainer)
    stack, batches = Stack(trainers), [next(iter(trainer.loader.train_batches(0))) for trainer in trainers]
    first = trainers[0]

    def loss(parameters: Named, buffers: Named, x: Tensor, y: Tensor) -> Tensor:
        return first.plain_loss(functional_call(first.model, (parameters, buffers), (x,)), y)

    def step(parameters: Named, buffers: Named, x: Tensor, y: Tensor) -> tuple[Named, Tensor]:
        gradients, losses = vmap(grad_and_value(loss))(parameters, buffers, x, y)
        return gradients, losses

    buffers = dict(zip(dict(first.model.named_buffers()), _stacked_buffers(trainers), strict=True))
    arguments = (
        {name: parameter.detach().clone() for name, parameter in stack.parameters.items()},
        buffers,
        *(torch.stack([batch[part] for batch in batches]) for part in (0, 1)),
    )
    traced = make_fx(step, tracing_mode="fake")(*arguments)
    gradients, losses = torch.export.export(traced, arguments).module()(*arguments)
    stack.compute_gradients(batches)

    assert {node.op for node in traced.graph.nodes} <= {"placeholder", "call_function", "get_attr", "output"}
    assert losses.shape == (3,)
    expected = {name: parameter.grad for name, parameter in stack.parameters.items()}
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-6)


def _stacked_buffers(trainers: list[Trainer]) -> list[Tensor]:
    networks = [[buffer.clone() for buffer in trainer.model.buffers()] for trainer in trainers]
    return [torch.stack(together) for together in zip(*networks, strict=True)]
