"""Networks of transformers from local configurations, where it is installed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from foundations.errors import EnvironmentFailure, UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from pruning.masks.mask import Mask

pytestmark = pytest.mark.usefixtures("transformers")
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "llama": {**SIZES, "num_key_value_heads": 1, "dtype": "bfloat16"},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 30, "n_positions": 16},
    "vit": {**SIZES, "image_size": 224, "patch_size": 4},
    "roberta": SIZES,
    "ibert": SIZES,
}
SEQUENCES = Inputs((6,), "tokens", vocabulary=20, padding=0)
STREAM = Inputs((6,), "tokens", vocabulary=30, per_token=True)


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    """The library, which takes seconds to import: by the tests, not with this module."""
    return cast("ModuleType", pytest.importorskip("transformers"))


def hparams(folder: Path, kind: str, **changes: Any) -> ModelHparams:
    """Write a configuration and return the hyperparameters of its network."""
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, **CONFIGS[kind], **changes}))
    return ModelHparams.of({"model_name": f"hf_{kind}", "model_init": "as_built", "hf_config": str(folder)})


def built(asked: ModelHparams, inputs: Inputs, outputs: int = 3) -> nn.Module:
    return build_model(asked.normalized(1), outputs=outputs, inputs=inputs, seed_keys=(1,))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [("bert", SEQUENCES), ("gpt2", SEQUENCES), ("llama", SEQUENCES), ("vit", Inputs((1, 8, 8)))],
)
def test_a_network_has_the_head_of_the_task(tmp_path: Path, kind: str, inputs: Inputs) -> None:
    model = built(hparams(tmp_path, kind), inputs).eval()

    outputs = model(inputs.drawn(4))

    assert (outputs.shape, outputs.dtype) == ((4, 3), torch.float32)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_a_language_model_answers_for_each_token_and_sees_none_after_it(tmp_path: Path, kind: str) -> None:
    model, tokens = built(hparams(tmp_path, kind), STREAM, 30).eval(), STREAM.drawn(2)
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 30

    outputs, others = model(tokens), model(changed)

    assert outputs.shape == (2, 6, 30)
    torch.testing.assert_close(outputs[:, :4], others[:, :4])


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_classifier_of_sequences_does_not_see_padding(tmp_path: Path, kind: str) -> None:
    model = built(hparams(tmp_path, kind), SEQUENCES).eval()

    padded = model(torch.tensor([[3, 1, 7, 0, 0, 0], [3, 1, 7, 2, 2, 5]]))

    torch.testing.assert_close(padded[:1], model(torch.tensor([[3, 1, 7]])))


def test_the_address_depends_on_the_content_of_the_configuration_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = hparams(tmp_path / "a", "bert", transformers_version="4.1").normalized(1)
    (tmp_path / "b" / "named.json").write_text(json.dumps({**SIZES, "model_type": "bert"}, indent=3))
    other = one.replaced({"hf_config": str(tmp_path / "b" / "named.json")}).normalized(1)
    (tmp_path / "a" / "config.json").unlink()

    assert one.canonical() == other.canonical() == one.normalized(1).canonical()
    assert one.canonical() != hparams(tmp_path, "bert", hidden_size=32).normalized(1).canonical()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "^hf_config: .*nowhere.json cannot be read"),
        ("{", "is not a configuration: a JSON object with 'model_type'"),
        ("[]", "is not a configuration"),
        ('{"model_type": "gpt2"}', "is of the type 'gpt2'; give --model_name=hf_gpt2"),
    ],
)
def test_a_file_that_is_no_such_configuration_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "nowhere.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UsageError, match=message):
        ModelHparams.of({"model_name": "hf_bert", "hf_config": str(path)}).normalized(1)


def test_a_run_without_a_configuration_is_refused_when_it_is_planned() -> None:
    with pytest.raises(UsageError, match="^hf_config: hf_bert needs a configuration"):
        ModelHparams.of({"model_name": "hf_bert"}).check_planned()


@pytest.mark.parametrize(
    ("kind", "changes", "inputs", "message"),
    [
        ("bert", {}, Inputs((3, 8, 8)), "no network of the type 'bert' for classification of images"),
        ("bert", {"vocab_size": 10}, SEQUENCES, "its vocab_size is 10, and the dataset has 20 tokens; raise it"),
        (
            "bert",
            {"max_position_embeddings": 4},
            SEQUENCES,
            "max_position_embeddings is 4, .* has 6 tokens",
        ),
        ("llama", {"num_attention_heads": 3}, SEQUENCES, "^hf_config: transformers .*"),
        *(
            (kind, {}, replace(SEQUENCES, padding=padding), f"from the padding token, {padding}, .* need {padding + 7}")
            for kind in ("roberta", "ibert")
            for padding in (10, 19)
        ),
    ],
)
def test_a_network_that_does_not_fit_the_dataset_is_refused_in_one_sentence(
    tmp_path: Path, kind: str, changes: dict[str, Any], inputs: Inputs, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        built(hparams(tmp_path, kind, **changes), inputs)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [OSError("no file\nhere"), NotImplementedError(), IndexError("7")])
def test_whatever_the_library_raises_is_one_sentence_with_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, transformers: ModuleType
) -> None:
    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_config", Mock(side_effect=error))

    with pytest.raises(UsageError, match="^hf_config: transformers cannot build the network: ") as caught:
        built(hparams(tmp_path, "bert"), SEQUENCES)

    assert "\n" not in str(caught.value)
    assert (str(error).partition("\n")[0] or type(error).__name__) in str(caught.value)


def test_positions_that_are_counted_from_a_padding_token_begin_at_zero_where_there_is_none(tmp_path: Path) -> None:
    inputs = replace(SEQUENCES, padding=None)
    model: Any = built(hparams(tmp_path, "roberta"), inputs).eval()
    tokens = inputs.drawn(3)

    expected = model.network(input_ids=tokens, position_ids=torch.arange(6).expand(3, 6)).logits

    assert torch.equal(model(tokens), expected)


def test_without_transformers_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(EnvironmentFailure, match=r"pip install 'open_prune\[transformers\]'"):
        built(hparams(tmp_path, "bert"), SEQUENCES)


@pytest.mark.parametrize(("kind", "inputs"), [("bert", SEQUENCES), ("gpt2", SEQUENCES)])
def test_dropout_resumes_and_leaves_the_global_generator_alone(tmp_path: Path, kind: str, inputs: Inputs) -> None:
    model, x = built(hparams(tmp_path, kind), inputs).train(), inputs.drawn(2)
    model(x)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    before, expected = torch.get_rng_state(), model(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)

    model.load_state_dict(state)

    assert torch.equal(model(x), expected)
    assert not torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore::pruning.weights.left_out.UnprunedWarning")
def test_the_head_of_a_language_model_is_kept_and_gpt2s_linear_layers_are_pruned(tmp_path: Path) -> None:
    classifier, generator = (built(hparams(tmp_path, "gpt2"), inputs, 30) for inputs in (SEQUENCES, STREAM))
    blocks = 16 * (3 * 16 + 16 + 2 * 64)

    assert Mask.ones(generator).total == blocks
    assert Mask.ones(generator, "all,network.lm_head").total == blocks + 30 * 16
    assert Mask.ones(classifier).total == blocks + 30 * 16
