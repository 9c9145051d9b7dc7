"""Pruning transformers: which weights, exact counts by every method, synaptic flow, and reports of q, k and v."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError
from foundations.inputs import TOKENS, Inputs
from models.build import build_model
from models.hparams import ModelHparams
from pruning.compute_mask import scores_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.report import sparsity_report
from pruning.scoring.inputs import ScoringInputs, one_example

pytestmark = pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
IMAGES = Inputs((3, 8, 8))
METHODS = (
    *("magnitude", "random", "snip2", "force2", "grasp2", "graspabs2", "fisher2", "taylor2", "synflow", "synflowl2"),
    *("prospr2", "hutchinson2"),
)
NAMES = ("vit_2_32_4", "mixer_2_32_4", "encoder_2_32_4", "gpt_2_32_4", "llama_2_32_4")


def words(*, per_token: bool = False) -> Inputs:
    return Inputs((6,), TOKENS, 20, 0, per_token)


def build(name: str, inputs: Inputs | None = None, outputs: int = 5, **hparams: Any) -> nn.Module:
    inputs = inputs or (IMAGES if name.startswith(("vit", "mixer")) else words())
    values = ModelHparams.of({"model_name": name, **hparams})
    return build_model(values, outputs=outputs, inputs=inputs, seed_keys=(1,))


def examples(name: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = name.startswith(("vit", "mixer"))
    return torch.randn(10, 3, 8, 8) if images else torch.randint(20, (10, 6)), torch.arange(10) % 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_exactly_as_many_weights_as_asked(name: str, method: str) -> None:
    model = build(name)
    mask = prune(model, method, density=0.2, examples=examples(name), seed=0)
    assert mask.kept == round(0.2 * mask.total)


@pytest.mark.parametrize("method", ["random", "synflow", "snip2"])
def test_a_language_model_is_scored_by_the_loss_of_its_tokens(method: str) -> None:
    model = build("gpt_2_32_4", words(per_token=True), 20)
    tokens = torch.randint(20, (8, 7))

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    mask = prune(model, method, density=0.3, examples=(tokens[:, :-1], tokens[:, 1:]), seed=0, loss=loss)
    assert mask.kept == round(0.3 * mask.total)


@pytest.mark.parametrize("name", ["vit_2_32_4", "encoder_2_32_4", "mixer_2_32_4"])
def test_phew_is_refused_where_units_cannot_be_followed(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be followed through|takes tokens") as refusal:
        prune(build(name), "phew", density=0.2, examples=examples(name))
    assert "\n" not in str(refusal.value)


def test_embeddings_positions_norms_and_tokens_are_not_pruned_by_default() -> None:
    linear = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    of_blocks = {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in linear}
    assert set(Mask.ones(build("vit_2_32_4"))) == of_blocks | {"patch_embed.proj.weight", "head.weight"}
    assert set(Mask.ones(build("encoder_2_32_4"))) == of_blocks | {"head.weight"}


@pytest.mark.parametrize("name", ["gpt_2_32_4", "llama_2_32_4"])
def test_the_head_of_a_language_model_is_pruned_where_it_is_asked_for(name: str) -> None:
    model = build(name, words(per_token=True), 20)
    assert "head.weight" not in Mask.ones(model)
    assert "head.weight" in Mask.ones(model, "all,head")
    assert "head.weight" in Mask.ones(build(name))  # of a classifier it is the output layer


def test_tied_weights_count_once_and_the_report_names_both() -> None:
    model = build("gpt_2_32_4", words(per_token=True), 20)
    base = Mask.ones(model)
    both = Mask.ones(model, "all,head,Embedding")
    assert both.total == base.total + 20 * 32 + 6 * 32
    report = sparsity_report(both, model=model)
    assert report["tied"] == {"head.weight": ["tokens.weight"]}
    assert report["layers"]["head.weight"]["total"] == 20 * 32
    assert "tied" not in sparsity_report(base, model=model)


def test_a_report_tells_q_k_and_v_apart() -> None:
    mask = Mask.ones(build("vit_2_32_4"))
    name = "blocks.0.attn.qkv.weight"
    kept = torch.ones(96, 32, dtype=torch.bool)
    kept[32:64] = False
    kept[64:, :8] = False
    parts = sparsity_report(mask.with_tensors({**mask, name: kept}))["layers"][name]["parts"]
    assert {part: row["density"] for part, row in parts.items()} == {"q": 1, "k": 0, "v": 0.75}
    assert parts["q"]["shape"] == [32, 32]
    assert "parts" not in sparsity_report(mask)["layers"]["head.weight"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strategy", ["synflow", "synflowl2"])
def test_synaptic_flow_is_conserved_in_every_branch(name: str, strategy: str) -> None:
    model = build(name)
    without_shifts(model)
    flow = {layer: float(scores.sum()) for layer, scores in flow_of(model, name, strategy).items()}
    pairs = {"attn.qkv": "attn.proj", "mlp.fc1": "mlp.fc2"}
    pairs |= {"mlp_tokens.fc1": "mlp_tokens.fc2", "mlp_channels.fc1": "mlp_channels.fc2"}
    for i in range(2):
        for first, second in pairs.items():
            into, out_of = f"blocks.{i}.{first}.weight", f"blocks.{i}.{second}.weight"
            if into in flow:
                assert flow[into] == pytest.approx(flow[out_of], rel=1e-9)
        if name.startswith("llama"):
            parts = [flow[f"blocks.{i}.mlp.{part}.weight"] for part in ("gate", "up", "down")]
            assert parts[0] + parts[1] == pytest.approx(parts[2], rel=1e-9)
    stem = next((layer for layer in ("patch_embed.proj.weight", "stem.proj.weight") if layer in flow), None)
    if stem is not None:
        assert flow[stem] == pytest.approx(flow["head.weight"], rel=1e-9)
    assert all(value > 0 for value in flow.values())


@pytest.mark.parametrize("name", NAMES)
def test_queries_keys_and_values_carry_flow(name: str) -> None:
    scores = flow_of(build(name), name, "synflow")
    for layer in (layer for layer in scores if layer.endswith("qkv.weight")):
        assert all(float(part.sum()) > 0 for part in scores[layer].chunk(3))


@torch.no_grad()
def without_shifts(model: nn.Module) -> None:
    """Set what adds to the flow between layers to zero: biases, positions, class tokens."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name in ("pos_embed", "cls_token"):
            parameter.zero_()


def flow_of(model: nn.Module, name: str, strategy: str) -> dict[str, Tensor]:
    inputs = IMAGES if name.startswith(("vit", "mixer")) else words()
    hparams: Any = PruningHparams.of({"strategy": strategy})
    return scores_from_hparams(model, hparams, ScoringInputs(seed=0, **one_example(inputs)), Mask.ones(model))


class Foreign(nn.Module):
    """A block whose attention is torch's, with a batch first or second."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 8, bias=False)
        self.norm = nn.LayerNorm(8)
        self.attn = nn.MultiheadAttention(8, 2, bias=False, batch_first=batch_first)
        self.out = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.inside(x))
        return self.out(self.attn(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize("batch_first", [True, False])
def test_flow_is_conserved_through_attention_of_torch(batch_first: bool) -> None:
    torch.manual_seed(0)
    model = Foreign(batch_first=batch_first)
    hparams: Any = PruningHparams.of({"strategy": "synflow"})
    inputs = ScoringInputs(seed=0, input_shape=(5, 4))
    flow = {
        name: float(part.sum()) for name, part in scores_from_hparams(model, hparams, inputs, Mask.ones(model)).items()
    }
    assert len(flow) == 4
    assert all(value == pytest.approx(flow["out.weight"], rel=1e-9) for value in flow.values())


def test_flow_is_conserved_in_a_llama_of_transformers_up_to_its_rotations() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 11}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, pad_token_id=None)
    model = transformers.LlamaForCausalLM(config)
    hparams: Any = PruningHparams.of({"strategy": "synflow"})
    inputs = ScoringInputs(seed=0, example={"input_ids": torch.ones(1, 5, dtype=torch.int64)})
    scores = scores_from_hparams(model, hparams, inputs, Mask.ones(model))
    flow = {name: float(part.sum()) for name, part in scores.items()}
    for layer in (f"model.layers.{i}" for i in range(2)):
        gated = flow[f"{layer}.mlp.gate_proj.weight"] + flow[f"{layer}.mlp.up_proj.weight"]
        assert gated == pytest.approx(flow[f"{layer}.mlp.down_proj.weight"], rel=1e-9)
        assert flow[f"{layer}.self_attn.q_proj.weight"] > 0
        assert flow[f"{layer}.self_attn.k_proj.weight"] > 0


def test_of_gpt2_in_transformers_the_blocks_are_pruned_and_the_tied_head_is_kept() -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=20, n_positions=6, n_embd=16, n_layer=2, n_head=2)
    )
    mask = prune(model, "magnitude", density=0.5)
    assert len(mask) == 8
    assert mask.total == 2 * 12 * 16 * 16
    assert "lm_head.weight" in Mask.ones(model, "all,lm_head")
    parts = sparsity_report(mask)["layers"]["transformer.h.0.attn.c_attn.weight"]["parts"]
    assert sum(part["kept"] for part in parts.values()) == int(mask["transformer.h.0.attn.c_attn.weight"].sum())


def test_convolutional_networks_are_scored_as_before() -> None:
    from pruning.scoring.linearized import is_linearized

    layers: list[Callable[[], nn.Module]] = [lambda: nn.BatchNorm2d(4), nn.GELU]
    convolutional = nn.Sequential(nn.Conv2d(3, 4, 3), *(layer() for layer in layers), nn.Flatten(), nn.Linear(4, 2))
    assert not is_linearized(convolutional)
    assert is_linearized(build("vit_2_32_4"))
