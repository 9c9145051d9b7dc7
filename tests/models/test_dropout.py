import pytest
import torch
from torch import nn

from foundations.inputs import Inputs
from foundations.random_streams import global_generator_from
from models.build import build_model
from models.dropout import Dropout, make_repeatable
from models.hparams import ModelHparams


def dropout(p: float = 0.3, seed: int = 0, **options: bool) -> Dropout:
    with global_generator_from("test", seed):
        return Dropout(p, **options)


def test_a_part_is_dropped_and_the_mean_is_kept() -> None:
    x = torch.ones(400, 500)

    y = dropout(0.3)(x)

    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(y.unique(), torch.tensor([0, 1 / 0.7]))


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.ones(5, 5)

    assert torch.equal(dropout().eval()(x), x)


def test_whole_examples_are_dropped_together() -> None:
    y = dropout(0.5, whole_examples=True)(torch.ones(200, 3, 4, 4))

    per_example = y.flatten(1)
    assert (per_example == per_example[:, :1]).all()
    assert 60 < (per_example[:, 0] == 0).sum() < 140


def test_each_call_and_each_seed_drops_something_else() -> None:
    x = torch.ones(100, 100)
    layer = dropout()
    first, second = layer(x), layer(x)

    assert not torch.equal(first, second)
    assert not torch.equal(first, dropout(seed=1)(x))
    assert torch.equal(first, dropout()(x))


def test_a_restored_layer_drops_what_the_original_drops_next() -> None:
    x = torch.ones(10, 10)
    layer = dropout()
    layer(x)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    expected = layer(x)
    resumed = dropout(seed=5)

    resumed.load_state_dict(state)

    assert torch.equal(resumed(x), expected)


@pytest.mark.parametrize(
    "name", ["tinyimagenet_vgg_11", "torchvision_mobilenet_v3_small", "torchvision_efficientnet_b0"]
)
def test_training_a_network_with_dropout_neither_reads_nor_advances_the_global_generator(name: str) -> None:
    hparams = ModelHparams(model_name=name)
    model = build_model(hparams, outputs=5, inputs=Inputs((3, 64, 64)), seed_keys=(1,)).train()
    again = build_model(hparams, outputs=5, inputs=Inputs((3, 64, 64)), seed_keys=(1,)).train()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    before = torch.get_rng_state()

    one = model(x)
    moved = not torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)

    assert not moved
    assert torch.equal(again(x), one)
    assert any(isinstance(module, Dropout) for module in model.modules())


def test_layers_that_drop_nothing_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), nn.Dropout(0.1))

    make_repeatable(model)

    assert isinstance(model[1], nn.Dropout)
    assert isinstance(model[2], Dropout)


@pytest.mark.parametrize("whole_examples", [False, True])
def test_of_a_part_of_a_batch_it_drops_what_it_drops_in_the_whole(whole_examples: bool) -> None:
    x = torch.ones(7, 3, 4)
    layer, part = (dropout(0.5, whole_examples=whole_examples) for _ in range(2))
    part.part = (2, 7)

    assert torch.equal(part(x[2:5]), layer(x)[2:5])
