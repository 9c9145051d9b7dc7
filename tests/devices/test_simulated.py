"""The simulated device refuses what a GPU refuses, and notes what a GPU would be waited for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.dropout import Dropout
from tests.devices.simulated import DEVICE, DeviceTensor, MixedDevices, simulated_device


def test_a_network_trains_there_as_on_the_cpu() -> None:
    def losses(device: torch.device) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        x, y = torch.randn(8, 1, 8, 8).to(device), torch.randint(10, (8,)).to(device)
        model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        found = []
        for _ in range(3):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        assert all(p.device.type == device.type for p in model.parameters())
        return [each.item() for each in found]

    with simulated_device():
        there = losses(DEVICE)
    assert there == pytest.approx(losses(torch.device("cpu")), rel=1e-6)


def test_operands_on_two_devices_are_refused() -> None:
    with simulated_device():
        x = torch.ones(3, device=DEVICE)
        assert isinstance(x + torch.tensor(1.0), DeviceTensor)  # a single number may be on the CPU, as with a GPU
        with pytest.raises(MixedDevices, match="add"):
            _ = x + torch.ones(3)
        with pytest.raises(MixedDevices, match="mm"):
            _ = torch.ones(2, 3) @ torch.ones(3, 2, device=DEVICE)


def test_a_generator_of_the_cpu_cannot_fill_a_tensor_of_the_device() -> None:
    with simulated_device(), pytest.raises(MixedDevices, match="generator"):
        torch.rand(3, device=DEVICE, generator=torch.Generator())


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).all()),
        lambda x: torch.ones(3).to(x.device),
        lambda x: x.new_tensor(1.0),
        lambda x: torch.tensor([1.0], device=x.device),
    ],
)
def test_what_waits_is_noted(waits: object) -> None:
    assert callable(waits)
    with simulated_device() as noted:
        x = torch.ones(3, device=DEVICE)
        assert noted == []
        waits(x)
        assert len(noted) == 1


def test_what_does_not_wait_is_not_noted() -> None:
    with simulated_device() as noted:
        x = torch.ones(3, device=DEVICE)
        x += x.sum() * torch.ones(3).to(DEVICE, non_blocking=True)
        torch.where(x > 0, x, 0.0)
    assert noted == []


def test_dropout_asks_for_its_buffers_only_where_others_set_them() -> None:
    layer, x = Dropout(0.5), torch.ones(4, 8)
    first, second, third = (layer(x) for _ in range(3))
    layer.calls.zero_()
    with simulated_device() as noted:
        layer.to(DEVICE)
        x = x.to(DEVICE)
        noted.clear()
        dropped = [layer(x) for _ in range(3)]
        assert len(noted) == 2  # the seed and the number of calls, at the first call
        layer.load_state_dict({"seed": layer.seed.cpu(), "calls": torch.tensor(1)})
        noted.clear()
        again = layer(x)
        assert len(noted) == 2
        assert [each.tolist() for each in dropped] == [first.tolist(), second.tolist(), third.tolist()]
        assert again.tolist() == second.tolist()
        assert layer.calls.item() == 2
