"""Vision transformers, mixers, decoders and encoders: sizes, initial values, masks of padding, equality with others."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from foundations.inputs import TOKENS, Inputs
from models.build import build_model, construct
from models.hparams import ModelHparams

IMAGENET, SMALL = Inputs((3, 224, 224)), Inputs((3, 16, 16))


def tokens(length: int, vocabulary: int, *, per_token: bool = True, padding: int | None = None) -> Inputs:
    return Inputs((length,), TOKENS, vocabulary, padding, per_token)


def build(name: str, inputs: Inputs, outputs: int, **hparams: Any) -> nn.Module:
    values = ModelHparams.of({"model_name": name, **hparams})
    return build_model(values, outputs=outputs, inputs=inputs, seed_keys=(1,)).eval()


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "parameters"),
    [
        ("deit_tiny", IMAGENET, 1000, 5_717_416),
        ("deit_small", IMAGENET, 1000, 22_050_664),
        ("deit_base", IMAGENET, 1000, 86_567_656),
        ("vit_12_768_16", IMAGENET, 1000, 86_567_656),
        ("mixer_12_768_16", IMAGENET, 1000, 59_880_472),
        ("gpt_12_768_12", tokens(1024, 50257), 50257, 124_439_808),
        ("gpt_24_1024_16", tokens(1024, 50257), 50257, 354_823_168),
        ("llama_32_4096_32", tokens(2048, 32000), 32000, 6_738_415_616),
    ],
)
def test_sizes_are_the_published_ones(name: str, inputs: Inputs, outputs: int, parameters: int) -> None:
    with torch.device("meta"):
        model = construct(ModelHparams.of({"model_name": name}), outputs, inputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_a_vision_transformer_computes_the_logits_of_timm(pooling: str) -> None:
    timm = pytest.importorskip("timm")
    pooled = {} if pooling == "class" else {"class_token": False, "global_pool": "avg", "fc_norm": False}
    sizes = {"img_size": 16, "patch_size": 4, "num_classes": 5, "embed_dim": 64, "depth": 2, "num_heads": 2}
    other = timm.models.VisionTransformer(**sizes, **pooled).eval()
    own = build("vit_2_64_4", SMALL, 5, pooling=pooling)
    own.load_state_dict(other.state_dict())
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(own(images), other(images), rtol=1e-5, atol=1e-5)


def test_a_mixer_computes_the_logits_of_timm() -> None:
    timm = pytest.importorskip("timm")
    other = timm.models.MlpMixer(img_size=16, patch_size=4, num_classes=5, embed_dim=64, num_blocks=2).eval()
    own = build("mixer_2_64_4", SMALL, 5)
    own.load_state_dict(other.state_dict())
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(own(images), other(images), rtol=1e-5, atol=1e-5)


def test_a_gpt_computes_the_logits_of_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=50, n_positions=12, n_embd=32, n_layer=2, n_head=4)
    torch.manual_seed(0)
    other = transformers.GPT2LMHeadModel(config).eval()
    drawn(other)
    own = build("gpt_2_32_4", tokens(12, 50), 50)
    names = {"wte": "tokens", "wpe": "positions", "ln_f": "norm"}
    of_blocks = {"ln_1": "norm1", "attn.c_attn": "attn.qkv", "attn.c_proj": "attn.proj", "ln_2": "norm2"} | {
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    names |= {f"h.{i}.{theirs}": f"blocks.{i}.{ours}" for i in range(2) for theirs, ours in of_blocks.items()}
    for theirs, ours in names.items():
        source, target = other.transformer.get_submodule(theirs), own.get_submodule(ours)
        for name, parameter in target.named_parameters():
            values = source.get_parameter(name)
            copy_(parameter, values.T if "c_" in theirs and name == "weight" else values)
    words = torch.randint(50, (3, 9))
    torch.testing.assert_close(own(words), other(words).logits, rtol=1e-5, atol=1e-5)


def test_a_llama_computes_the_logits_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    own = build("llama_2_32_4", tokens(12, 50), 50)
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=own.get_parameter("blocks.0.mlp.up.weight").shape[0],
        num_hidden_layers=2,
        num_attention_heads=4,
        rms_norm_eps=1e-6,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    other = transformers.LlamaForCausalLM(config).eval()
    drawn(other)
    theirs = {name.removeprefix("model."): value for name, value in other.state_dict().items()}
    copy_(own.get_parameter("tokens.weight"), theirs["embed_tokens.weight"])
    copy_(own.get_parameter("norm.weight"), theirs["norm.weight"])
    copy_(own.get_parameter("head.weight"), theirs["lm_head.weight"])
    for i in range(2):
        block, layer = f"blocks.{i}", f"layers.{i}"
        qkv = torch.cat([theirs[f"{layer}.self_attn.{part}_proj.weight"] for part in "qkv"])
        copy_(own.get_parameter(f"{block}.attn.qkv.weight"), qkv)
        pairs = {"attn.proj": "self_attn.o_proj", "norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
        pairs |= {f"mlp.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
        for ours, named in pairs.items():
            copy_(own.get_parameter(f"{block}.{ours}.weight"), theirs[f"{layer}.{named}.weight"])
    words = torch.randint(50, (3, 9))
    torch.testing.assert_close(own(words), other(words).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def drawn(network: nn.Module) -> None:
    """Move every parameter, so that biases and scales take part in the comparison."""
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))


@torch.no_grad()
def copy_(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values)


@pytest.mark.parametrize("name", ["gpt_2_32_4", "llama_2_32_4"])
def test_a_decoder_sees_no_later_token(name: str) -> None:
    model = build(name, tokens(8, 20), 20)
    words = torch.randint(20, (1, 8))
    other = words.clone()
    other[0, 5] = (other[0, 5] + 1) % 20
    before, after = model(words), model(other)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(-1).all()


@pytest.mark.parametrize("name", ["gpt_2_32_4", "llama_2_32_4", "encoder_2_32_4"])
def test_padding_changes_no_answer_for_a_sequence(name: str) -> None:
    model = build(name, tokens(8, 20, per_token=False, padding=0), 3)
    words = torch.randint(1, 20, (4, 5))
    padded = torch.cat((words, torch.zeros(4, 3, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(model(padded), model(words))
    assert model(torch.zeros(2, 8, dtype=torch.int64)).isfinite().all()


def test_an_encoder_sees_every_token() -> None:
    model = build("encoder_2_32_4", tokens(6, 20, per_token=False), 3)
    words = torch.randint(20, (1, 6))
    for place in range(6):
        other = words.clone()
        other[0, place] = (other[0, place] + 1) % 20
        assert not torch.equal(model(words), model(other))


def test_a_tied_head_is_one_tensor_and_other_heads_are_not() -> None:
    tied, untied = build("gpt_2_32_4", tokens(8, 20), 20), build("llama_2_32_4", tokens(8, 20), 20)
    assert tied.get_parameter("head.weight") is tied.get_parameter("tokens.weight")
    assert untied.get_parameter("head.weight") is not untied.get_parameter("tokens.weight")
    with pytest.raises(UsageError, match="tied to the embeddings of 20 tokens"):
        build("gpt_2_32_4", tokens(8, 20), 21)


def test_initial_values_are_the_published_ones_unless_another_initializer_is_chosen() -> None:
    model = build("gpt_8_128_4", tokens(8, 500), 500)
    scaled = 0.02 / 16**0.5
    stds = {"tokens": 0.02, "blocks.1.attn.qkv": 0.02, "blocks.1.attn.proj": scaled, "blocks.2.mlp.fc2": scaled}
    for name, std in stds.items():
        assert float(model.get_parameter(f"{name}.weight").detach().std()) == pytest.approx(std, rel=0.05)
    assert not model.get_parameter("blocks.0.mlp.fc1.bias").any()
    other = build("gpt_8_128_4", tokens(8, 500), 500, model_init="kaiming_normal")
    std = float(other.get_parameter("blocks.1.attn.proj.weight").detach().std())
    assert std == pytest.approx((2 / 128) ** 0.5, rel=0.05)


def test_dropout_acts_in_training_only_and_resumes() -> None:
    hparams = {"dropout": 0.2, "stochastic_depth": 0.3}
    model = build("vit_3_64_4", SMALL, 5, **hparams)
    images = torch.randn(8, 3, 16, 16)
    assert torch.equal(model(images), model(images))
    model.train()
    model(images)
    again = build("vit_3_64_4", SMALL, 5, **hparams).train()
    again.load_state_dict(model.state_dict())
    expected = model(images)
    torch.testing.assert_close(again(images), expected, rtol=0, atol=0)
    assert not torch.equal(model(images), expected)


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("vit_2_64_5", SMALL, "16 x 16 cannot be cut into patches of 5"),
        ("gpt_2_30_4", tokens(8, 20), "width of 30 cannot be divided among 4 heads"),
        ("llama_2_12_4", tokens(8, 20), "heads of an even width, not 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, inputs: Inputs, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(name, inputs, 20)


def test_longer_sequences_than_positions_are_refused() -> None:
    with pytest.raises(UsageError, match="takes 8 tokens, not 9"):
        build("gpt_2_32_4", tokens(8, 20), 20)(torch.zeros(1, 9, dtype=torch.int64))
