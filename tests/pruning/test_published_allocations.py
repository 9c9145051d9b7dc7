"""Allocations against the counts of published code, and against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foundations import registry
from foundations.errors import UsageError
from foundations.plugins.plugins import load_plugins
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from pruning.prune import prune
from pruning.registry import ALLOCATIONS, METHODS
from tests.conftest import REPOSITORY
from tests.pruning.golden import Case, cases_of, cases_where, difference

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")

Shapes = dict[str, tuple[int, ...]]
LENET: Shapes = {"a": (300, 784), "b": (100, 300), "c": (10, 100)}
CONVOLUTIONS: Shapes = {"first": (8, 3, 3, 3), "second": (16, 8, 3, 3), "third": (16, 16, 3, 3), "out": (10, 16)}
ROUNDING = {"ideal_gas_quotas": "effective_sparsity", "er_balanced": "turboprune", "smart_ratio": "sanity_checking"}


def sizes(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def published(allocation: str, rounding: str, shapes: Shapes, density: float, method: str = "random") -> list[int]:
    function = ALLOCATIONS.find(allocation).published[rounding]
    counts = function(shapes, sizes(shapes), density * sum(sizes(shapes).values()), METHODS.find(method))
    return [counts[name] for name in shapes]


def exact(allocation: str, shapes: Shapes, keep: int) -> dict[str, int]:
    function = ALLOCATIONS.find(allocation).kept_per_layer
    assert function is not None
    return function(shapes, sizes(shapes), keep)


def rows_of(case: Case) -> Iterator[tuple[float, str, list[int]]]:
    """Yield density, method and counts of the published code."""
    for row in case.description["rows"]:
        total = list(sizes({name: tuple(shape) for name, shape in case.description["shapes"].items()}).values())
        if "sparsity" in row:
            for method in ("random", "magnitude"):
                pruned = row[f"pruned_by_the_{method}_pruner"]
                yield round(1 - row["sparsity"], 12), method, [n - p for n, p in zip(total, pruned, strict=True)]
        elif "kept_of_random_balanced" in row:
            yield row["density"], "random", row["kept_of_random_balanced"]
        else:
            yield round(1 - row["prune_fraction"], 12), "random", row["kept"]


@pytest.mark.parametrize("name", cases_of("allocation"))
def test_counts_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    method = case.description["method"]
    is_vgg = method == "smart_ratio" and case.options["arch"] != "resnet"
    shapes = {layer: tuple(shape) for layer, shape in case.description["shapes"].items()}
    for density, strategy, counts in rows_of(case):
        found = published(method + "_vgg" * is_vgg, ROUNDING[method], shapes, density, strategy)
        most = 1 if method == "smart_ratio" else 0  # its float32 products are truncated
        assert max(abs(mine - theirs) for mine, theirs in zip(found, counts, strict=True)) <= most


@pytest.mark.parametrize("name", cases_where(lambda case: case.description["method"] == "lamp"))
def test_lamp_keeps_the_weights_that_its_code_keeps(name: str) -> None:
    case, found = Case(name), []
    options: dict[str, Any] = {"fraction": case.options["amount"], "allocation": "lamp"}

    mask = prune(case.model(), "magnitude", rounding="lamp", **options, on_iteration=lambda *now: found.append(now[2]))

    assert difference(mask, case.mask()) == (0, 0)
    assert prune(case.model(), "magnitude", **options).kept == kept_of(mask.total, case.options["amount"])
    if case.has("scores"):
        for layer, score in case.tensors("scores").items():
            torch.testing.assert_close(found[0][layer], score.double(), rtol=1e-3, atol=0)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("strategy", ["magnitude", "snip5", "synflow", "graspabs5", "force5", "random"])
def test_lamp_is_the_share_of_a_squared_score_in_what_is_pruned_after_it(strategy: str) -> None:
    model = network()
    shares: list[dict[str, torch.Tensor]] = []
    raw: list[dict[str, torch.Tensor]] = []
    options: dict[str, Any] = {"examples": (torch.randn(15, 6).double(), torch.arange(15) % 3), "density": 0.3}

    mask = prune(model, strategy, **options, allocation="lamp", on_iteration=lambda *now: shares.append(now[2]))
    prune(model, strategy, **options, on_iteration=lambda *now: raw.append(now[2]))

    assert mask.kept == round(0.3 * mask.total)
    assert all(mask.kept_per_layer().values())
    for name, scores in raw[0].items():
        flat = scores.double().flatten().tolist()
        for place, score in enumerate(flat):
            total = math.fsum(other**2 for other in flat if other >= score)
            assert shares[0][name].flatten()[place].item() == pytest.approx(score**2 / total, rel=1e-12)


def test_equal_scores_are_pruned_in_order_by_lamp_and_every_layer_keeps_some() -> None:
    model = network()
    for parameter in model.parameters():
        parameter.data.fill_(0.5)

    mask = prune(model, "magnitude", keep=6, allocation="lamp")

    assert mask.kept_per_layer() == {"0.weight": 2, "2.weight": 2, "4.weight": 2}
    assert mask["0.weight"].flatten()[-2:].all()


def test_lamp_bears_layers_of_zeros_and_scores_of_any_size() -> None:
    model = network()
    weights = dict(model.named_parameters())
    weights["0.weight"].data.zero_()
    weights["2.weight"].data.mul_(1e-300)

    mask = prune(model, "magnitude", density=0.2, allocation="lamp")

    assert mask.kept == round(0.2 * mask.total)
    assert mask.kept_per_layer()["0.weight"] == 0
    assert mask.kept_per_layer()["2.weight"] > 0


def test_lamp_in_iterations_keeps_the_same_weights_of_magnitude_and_counts_what_is_left_as_published() -> None:
    model, counts = network(), []
    once = prune(model, "magnitude", density=0.2, allocation="lamp")
    several = prune(model, "magnitude", density=0.2, allocation="lamp", iterations=4)
    prune(
        model,
        "magnitude",
        density=0.2,
        allocation="lamp",
        rounding="lamp",
        iterations=2,
        on_iteration=lambda _number, mask, _scores: counts.append(mask.kept),
    )

    assert difference(once, several) == (0, 0)
    assert counts == [round(114 * 0.2**0.5), round(round(114 * 0.2**0.5) * 0.2**0.5)]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"strategy": "grasp10"}, "prunes the lowest shares"),
        ({"strategy": "magnitude", "prune_highest": True}, "prunes the lowest shares"),
        ({"strategy": "phew"}, "spreads the weights by itself"),
        ({"strategy": "magnitude", "rounding": "turboprune"}, "balanced"),
        ({"strategy": "magnitude", "rounding": "force"}, "global"),
    ],
)
def test_lamp_is_refused_where_it_means_nothing(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PruningHparams.of({"allocation": "lamp", **given})


def test_scores_with_signs_have_no_shares() -> None:
    data = torch.randn(15, 6).double(), torch.arange(15) % 3
    with pytest.raises(UsageError, match="grasp.*negative or infinite"):
        prune(network(), "grasp5", highest=False, allocation="lamp", examples=data)


def test_ideal_gas_quotas_are_one_over_f_n_and_one() -> None:
    counts = exact("igq", LENET, 53240)
    forces = [1 / (counts[name] / size) - 1 for name, size in sizes(LENET).items()]
    forces = [force / size for force, size in zip(forces, sizes(LENET).values(), strict=True)]

    assert sum(counts.values()) == 53240
    assert forces == pytest.approx([forces[0]] * 3, rel=0.01)
    assert exact("igq", LENET, 0) == dict.fromkeys(LENET, 0)
    assert exact("igq", LENET, 266200) == sizes(LENET)


def test_erk_as_effective_sparsity_has_it_gives_a_surplus_to_the_layer_before() -> None:
    total = sum(sizes(LENET).values())
    scale = 0.2 * total / (1084 + 400 + 110)
    surplus_of_last = 110 * scale - 1000
    surplus_of_second = max(0.0, 400 * scale + surplus_of_last - 30000)

    found = published("erk", "effective_sparsity", LENET, 0.2, "magnitude")

    assert found == [
        round(1084 * scale + surplus_of_second),
        round(400 * scale + surplus_of_last - surplus_of_second),
        1000,
    ]
    assert sum(found) == pytest.approx(0.2 * total, abs=1)
    assert sum(found) != sum(published("erk", "effective_sparsity", LENET, 0.2, "random"))


def test_erk_as_lamp_has_it_solves_again_for_what_full_layers_leave() -> None:
    left = 0.2 * 266200 - 1000

    assert published("erk", "lamp", LENET, 0.2) == [round(left * 1084 / 1484), round(left * 400 / 1484), 1000]


def test_erk_as_turboprune_has_it_loses_the_surplus() -> None:
    scale = 0.2 * 266200 / 1594

    assert published("erk", "turboprune", LENET, 0.2) == [round(1084 * scale), round(400 * scale), 1000]


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_layer() -> None:
    total = sum(sizes(CONVOLUTIONS).values())
    counts = exact("uniform_plus", CONVOLUTIONS, round(0.1 * total))
    density = (round(0.1 * total) - 216 - 32) / (1152 + 2304)

    assert (counts["first"], counts["out"]) == (216, 32)
    assert counts["second"] == pytest.approx(density * 1152, abs=1)
    assert published("uniform_plus", "lamp", CONVOLUTIONS, 0.1)[::3] == [216, 32]
    assert exact("uniform_plus", CONVOLUTIONS, 2000)["out"] > 32
    assert exact("uniform_plus", LENET, 26620)["a"] < 26620  # a first linear layer is like the others
    with pytest.raises(UsageError, match="keeps 248 weights of first and out; the level leaves 200"):
        exact("uniform_plus", CONVOLUTIONS, 200)


@pytest.mark.parametrize(
    ("allocation", "density"),
    [
        ("smart_ratio_vgg", lambda place: (20 - 8 * (place == 2)) / place**2),
        ("smart_ratio_linear", lambda place: 5 - place),
        ("smart_ratio_cubic", lambda place: (5 - place) ** 3),
        ("smart_ratio_ascending", lambda place: place**2 + place),
        ("smart_ratio_uniform", lambda _: 1),
    ],
)
def test_forms_of_the_smart_ratio_differ_by_their_densities(allocation: str, density: Any) -> None:
    counts = exact(allocation, CONVOLUTIONS, 300)
    found = [counts[name] / size for name, size in sizes(CONVOLUTIONS).items()]

    assert found[3] == 0.3
    assert found[1] / found[0] == pytest.approx(density(2) / density(1), rel=0.1)


@pytest.mark.parametrize(
    ("allocation", "rounding"),
    [(entry.spelling, rounding) for entry in ALLOCATIONS for rounding in entry.published],
)
@pytest.mark.parametrize("strategy", ["random", "snip5"])
def test_published_counts_are_had_from_a_level_alone_by_any_method(
    allocation: str, rounding: str, strategy: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4)
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters() if tensor.dim() > 1}
    options: dict[str, Any] = {"allocation": allocation, "rounding": rounding, "density": 0.7}

    mask = prune(model, strategy, **options, examples=(torch.randn(20, 2, 6, 6), torch.arange(20) % 4))

    expected = published(allocation, rounding, shapes, 0.7, "random" if strategy == "random" else "magnitude")
    assert [mask.kept_per_layer()[name] for name in shapes] == expected


@pytest.fixture
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that loads a plug-in for the length of a test."""
    monkeypatch.setattr(registry, "_PLUGINS", {})
    for name, value in (("_entries", [*ALLOCATIONS]), ("_found", {}), ("_taken", set())):
        monkeypatch.setattr(ALLOCATIONS, name, value)
    return lambda file: load_plugins([file])


def test_allocations_of_a_plug_in_have_published_counts_and_normalize_scores(
    plugged_in: Callable[[Path], None],
) -> None:
    model = network()
    plugged_in(REPOSITORY / "examples" / "my_allocation.py")

    counts = prune(model, "random", density=0.3, allocation="square_root", rounding="rounded_down").kept_per_layer()
    mask = prune(model, "magnitude", keep=3, allocation="by_largest")

    total = sum(math.sqrt(size) for size in (54, 45, 15))
    assert list(counts.values()) == [int(0.3 * 114 * math.sqrt(size) / total) for size in (54, 45, 15)]
    assert mask.kept_per_layer() == {"0.weight": 1, "2.weight": 1, "4.weight": 1}
    with pytest.raises(UsageError, match="square_root"):
        prune(model, "random", density=0.3, allocation="erk", rounding="rounded_down")


@pytest.mark.parametrize(
    ("field", "result", "reason"),
    [
        ("published", "{}", "nothing for '0.weight'"),
        ("published", "{name: 99 for name in a[0]}", "it can keep 0 to 54"),
        ("normalize", "None", "returned nothing"),
        ("normalize", "{name: s * float('nan') for name, s in a[0].items()}", "NaN for"),
    ],
)
def test_a_mistake_in_an_allocation_of_a_plug_in_names_its_function(
    field: str, result: str, reason: str, plugged_in: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    value = "{'mine': wrong}" if field == "published" else "wrong"
    file.write_text(
        f"from open_prune import Allocation\ndef wrong(*a):\n    return {result}\n"
        f"MINE = Allocation(spelling='mine', summary='mine', {field}={value})\n"
    )
    plugged_in(file)

    with pytest.raises(UsageError, match=reason) as raised:
        prune(
            network(), "random", density=0.3, allocation="mine", rounding="mine" if field == "published" else "nearest"
        )
    assert "mine.py, line 2" in str(raised.value)
