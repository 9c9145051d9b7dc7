import math

import pytest
import torch

from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.multiply_adds import uses_of_parameters
from models.build import build_model
from models.hparams import ModelHparams
from models.registry import check_takes
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.weights.left_out import UnprunedWarning

TEXT = Inputs((6,), "tokens", vocabulary=9, padding=0)
STREAM = Inputs((6,), "tokens", vocabulary=9, per_token=True)
SERIES = Inputs((3, 20), "series")


def network(name: str, inputs: Inputs, outputs: int = 4, **hparams: object) -> torch.nn.Module:
    return build_model(ModelHparams.of({"model_name": name, **hparams}), outputs=outputs, inputs=inputs, seed_keys=(1,))


@pytest.mark.parametrize(("name", "gates"), [("lstm_2_5", 4), ("gru_2_5", 3)])
def test_a_recurrent_network_has_an_embedding_layers_of_gates_and_an_output_layer(name: str, gates: int) -> None:
    model = network(name, TEXT)

    per_layer = gates * 5 * (5 + 5 + 2)  # weights of inputs and states, and two biases
    assert sum(parameter.numel() for parameter in model.parameters()) == 9 * 5 + 2 * per_layer + 5 * 4 + 4


@pytest.mark.parametrize("name", ["lstm_2_5", "gru_1_5"])
def test_a_language_model_answers_for_each_token_and_sees_none_after_it(name: str) -> None:
    model, tokens = network(name, STREAM, 9).eval(), STREAM.drawn(2)
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 9

    outputs, others = model(tokens), model(changed)

    assert outputs.shape == (2, 6, 9)
    torch.testing.assert_close(outputs[:, :4], others[:, :4])
    assert not torch.allclose(outputs[:, 4:], others[:, 4:])


@pytest.mark.parametrize("name", ["lstm_2_5", "gru_1_5"])
def test_a_classifier_of_sequences_does_not_see_padding(name: str) -> None:
    model = network(name, TEXT).eval()
    tokens = torch.tensor([[3, 1, 7, 0, 0, 0], [3, 1, 7, 2, 2, 5]])

    padded = model(tokens)[0]

    torch.testing.assert_close(padded, model(tokens[:1, :3])[0])
    assert model(torch.zeros(1, 6, dtype=torch.int64)).isfinite().all()


def test_a_classifier_of_series_answers_after_the_last_position() -> None:
    model, series = network("gru_1_5", SERIES).eval(), SERIES.drawn(2)
    changed = series.clone()
    changed[:, :, -1] += 1

    assert model(series).shape == (2, 4)
    assert not torch.allclose(model(series), model(changed))


@pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
def test_weights_of_recurrent_layers_are_prunable_and_so_is_the_output_of_a_classifier() -> None:
    recurrent = {f"layers.{layer}.weight_{part}_l0" for layer in (0, 1) for part in ("ih", "hh")}

    assert set(Mask.ones(network("lstm_2_5", TEXT))) == {*recurrent, "fc.weight"}
    assert set(Mask.ones(network("lstm_2_5", STREAM, 9))) == recurrent
    assert "fc.weight" in Mask.ones(network("lstm_2_5", STREAM, 9), "all,fc")
    assert "embedding.weight" in Mask.ones(network("lstm_2_5", STREAM, 9), "all,Embedding")
    assert set(Mask.ones(network("gru_2_5", TEXT), "all_but_classifier")) == recurrent


def test_weights_that_are_not_pruned_by_default_are_named() -> None:
    with pytest.warns(UnprunedWarning, match=r"embedding, fc: 90 of 290 .* prunable_layers='all,Embedding,Linear'"):
        mask = prune(network("lstm_1_5", STREAM, 9), "magnitude", density=0.25)

    assert (mask.kept, mask.total) == (50, 200)


def test_each_recurrent_weight_is_used_at_each_position() -> None:
    uses = uses_of_parameters(network("gru_2_5", SERIES), SERIES)

    assert uses["layers.0.weight_ih_l0"] == uses["layers.1.weight_hh_l0"] == uses["layers.1.bias_hh_l0"] == 20
    assert uses["fc.weight"] == 1


def test_dropout_between_layers_continues_from_a_state() -> None:
    model = network("lstm_2_5", TEXT, recurrent_dropout=0.5).train()
    tokens = TEXT.drawn(4)
    model(tokens)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model(tokens)
    resumed = network("lstm_2_5", TEXT, recurrent_dropout=0.5).train()

    resumed.load_state_dict(state)
    torch.manual_seed(7)

    assert torch.equal(resumed(tokens), expected)
    assert not torch.equal(resumed(tokens), expected)


def test_a_network_is_refused_for_inputs_that_it_does_not_take() -> None:
    with pytest.raises(UsageError, match=r"lstm_1_5 takes series or tokens.*; 'digits' needs a network of images"):
        check_takes("lstm_1_5", Inputs((1, 8, 8)), "digits")
    with pytest.raises(UsageError, match=r"digits_resnet_8 takes images.*needs a network of series.*resnet1d_D"):
        check_takes("digits_resnet_8", SERIES, "heartbeats")


def test_a_residual_network_for_series_has_the_sizes_of_its_paper() -> None:
    model = network("resnet1d_8_4", SERIES)
    convolutions = 3 * 7 * 4 + 2 * 3 * 16 + 3 * (4 * 8 + 8 * 8) + 4 * 8 + 3 * (8 * 16 + 16 * 16) + 8 * 16

    assert model(SERIES.drawn(2)).shape == (2, 4)
    assert Mask.ones(model).total == convolutions + 16 * 4


def test_a_residual_network_for_series_is_initialized_by_the_hyperparameters() -> None:
    model = network("resnet1d_8_64", SERIES, batchnorm_init="oneone", batchnorm_frozen=True)
    weight, scales, shifts = map(model.get_parameter, ("blocks.2.conv2.weight", "bn.weight", "bn.bias"))

    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 3)), rel=0.02)
    assert set(shifts.tolist()) == set(scales.tolist()) == {1.0}
    assert not scales.requires_grad


@pytest.mark.parametrize("name", ["mlp_7_5", "mnist_lenet_7_5", "synflow_fc"])
def test_fully_connected_networks_take_vectors(name: str) -> None:
    vectors = Inputs((11,), "vectors")
    model = network(name, vectors)

    check_takes(name, vectors, "table")
    assert model(vectors.drawn(3)).shape == (3, 4)
    assert model.get_parameter("fc_layers.0.weight").shape[1] == 11
