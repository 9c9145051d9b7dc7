"""Cost of pruning, against plain code for the same: passes of the network, a sort, one walk at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.made_runs import network
from benchmarks.plain_pruning import PlainPruner
from benchmarks.timing import Row, in_turn, median_ratio, seconds
from foundations.random_streams import generator
from pruning.masks.mask import Mask
from pruning.masks.selection import select
from pruning.prune import prune
from training.desc import TrainDesc
from training.recipes import recipe

CIFAR = (3, 32, 32)


def rows(repeats: int = 5) -> list[Row]:
    """Measure all methods with a bound, on cifar_resnet_20 and, if size matters, on a VGG."""
    return [
        *_against_plain("cifar_resnet_20", repeats),
        *_against_plain("cifar_vgg_16", 1),
        *_scores_with_examples(repeats),
        *_synflow("cifar_resnet_20", repeats),
        *_synflow("cifar_vgg_16", 1),
        *_progressive("cifar_resnet_20", repeats),
        *_progressive("cifar_vgg_16", 1),
        *_selection(repeats),
        *_phew("cifar_resnet_20", walks=300, repeats=repeats),
        *_phew("cifar_vgg_19", walks=50, repeats=2),
        *_masking(repeats),
    ]


def _model(name: str) -> nn.Module:
    return network(TrainDesc.of(recipe(name)))


def _images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, *CIFAR, generator=generator("benchmark")), torch.arange(count) % 10


def _pass_over(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]


def _against_plain(name: str, repeats: int) -> list[Row]:
    """Each method, to 10% (SynFlow in 100 iterations to 1%), against the code of its paper: copy, scores and mask."""
    found = []
    for method, both in in_both_ways(_model(name), 100).items():
        times = in_turn(both, repeats)
        aim = "aim: at least 2" if method in ("grasp", "synflow") else "aim: at least 1"
        ratio = median_ratio(times["plain"], times["ours"])
        found.append(Row(f"{name}: plain / {method}", ratio, aim, f"100 examples, median of {repeats}"))
    return found


def in_both_ways(model: nn.Module, count: int) -> dict[str, dict[str, Callable[[], object]]]:
    """Return functions that prune by each method with so many examples, ten classes of them: plain code, and ours."""
    x, y = _images(count)
    each = count // 10
    with_examples = {"density": 0.1, "examples": (x, y)}
    in_ten = {"iterations": 10, "rounding": "force", **with_examples}
    works: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "magnitude": ((0.1,), {"density": 0.1}),
        "random": ((0.1,), {"density": 0.1}),
        "snip": ((x, y, 0.1), {"strategy": f"snip{each}", **with_examples}),
        "grasp": ((x, y, 0.1), {"strategy": f"grasp{each}", **with_examples}),
        "force": ((x, y, 0.1, 10), {"strategy": f"force{each}", **in_ten}),
        "grasp_it": ((x, y, 0.1, 10), {"strategy": f"grasp_it{each}", **in_ten}),
        "prospr": ((x, y, 0.1), {"strategy": f"prospr{each}", **with_examples}),
        "fisher": ((x, y, 0.1), {"strategy": f"fisher{each}", "score_in_eval_mode": True, **with_examples}),
        "hutchinson": ((x, y, 0.1), {"strategy": f"hutchinson{each}", "score_in_eval_mode": True, **with_examples}),
        "ntk_sap": ((count, CIFAR, 0.1), {"density": 0.1, "input_shape": CIFAR}),
        "px": ((x, 0.1), {"strategy": f"px{each}", **with_examples}),
        "synflow": ((CIFAR, 0.01, 100), {"density": 0.01, "iterations": 100, "input_shape": CIFAR}),
    }
    return {
        method: {
            "plain": partial(_plain, model, method, *plain),
            "ours": partial(prune, model, **{"strategy": method, **ours}),
        }
        for method, (plain, ours) in works.items()
    }


def _plain(model: nn.Module, method: str, *arguments: Any) -> object:
    return getattr(PlainPruner(model), method)(*arguments)


def _scores_with_examples(repeats: int) -> list[Row]:
    """SNIP and GraSP with 100 examples, against one pass over them; Fisher, against one example at a time."""
    model, (x, y) = _model("cifar_resnet_20"), _images(100)
    ours = partial(prune, model, density=0.1, examples=(x, y))
    works: dict[str, Callable[[], object]] = {name: partial(ours, name) for name in ("snip10", "grasp10", "fisher10")}
    works |= {"pass": lambda: _pass_over(model, x, y), "one by one": partial(ours, "fisher10", micro_batch_size=1)}
    times, detail = in_turn(works, repeats), "100 examples, resnet_20"
    found = [
        Row(f"{name} / forward and backward", median_ratio(times[name], times["pass"]), aim, detail)
        for name, aim in (("snip10", "aim: at most 1.3"), ("grasp10", "aim: at most 4"))
    ]
    return [*found, Row("one by one / fisher10", median_ratio(times["one by one"], times["fisher10"]), "", detail)]


def _synflow(name: str, repeats: int) -> list[Row]:
    """SynFlow in 100 iterations, masks and all, against 100 passes of its input in the same precision."""
    model = _model(name)
    network = copy.deepcopy(model).double().eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    ones = torch.ones(1, *CIFAR, dtype=torch.float64)

    def passes() -> None:
        for _ in range(100):
            network.zero_grad()
            network(ones).sum().backward()

    synflow = partial(prune, model, "synflow", density=0.01, iterations=100, input_shape=CIFAR)
    times = in_turn({"passes": passes, "synflow": synflow}, repeats)
    ratio = median_ratio(times["synflow"], times["passes"])
    return [Row(f"{name}: synflow / 100 passes", ratio, "aim: at most 1.5", f"100 iterations, median of {repeats}")]


def _progressive(name: str, repeats: int) -> list[Row]:
    """FORCE and GRASP-It in 10 iterations against 10 passes alone; LAMP against plain code for its shares."""
    model, (x, y) = _model(name), _images(100)
    ours = partial(prune, model, density=0.1, examples=(x, y))

    def passes() -> None:
        for _ in range(10):
            _pass_over(model, x, y)

    works: dict[str, Callable[[], object]] = {
        "snip10": partial(ours, "snip10"),
        "passes": passes,
        "force10": partial(ours, "force10", iterations=10, rounding="force"),
        "grasp_it10": partial(ours, "grasp_it10", iterations=10, rounding="force"),
        "lamp": partial(prune, model, "magnitude", density=0.1, allocation="lamp"),
        "plain lamp": partial(_plain_lamp, model, 0.1),
    }
    times, detail = in_turn(works, repeats), f"100 examples, median of {repeats}"
    medians = {work: sorted(taken)[len(taken) // 2] for work, taken in times.items()}
    found = [
        Row(f"{name}: {method}, in seconds", medians[method], "", f"snip10 takes {medians['snip10']:.3g}")
        for method in ("force10", "grasp_it10", "lamp")
    ]
    ratios = (("force10", "passes", 0.9), ("grasp_it10", "passes", 0.9), ("lamp", "plain lamp", 1))
    return found + [
        Row(f"{name}: {plain} / {method}", median_ratio(times[plain], times[method]), f"aim: at least {aim}", detail)
        for method, plain, aim in ratios
    ]


@torch.no_grad()
def _plain_lamp(model: nn.Module, density: float) -> list[torch.Tensor]:
    """Return LAMP's masks in the way of its paper: sort, accumulate, divide, and take the largest of all layers."""
    scores = []
    for weight in model.parameters():
        if weight.dim() > 1:
            squares, order = weight.flatten().square().sort(descending=True)
            shares = squares / squares.cumsum(0)
            scores.append(torch.empty_like(shares).scatter_(0, order, shares).view(weight.shape))
    together = torch.cat([score.flatten() for score in scores])
    threshold = together.topk(round(density * len(together))).values[-1]
    return [score >= threshold for score in scores]


def _selection(repeats: int) -> list[Row]:
    """Select with a global threshold over 25 million scores; in seconds, and against a full sort."""
    scores = {f"layer{i}": torch.rand(2_500_000, generator=generator("benchmark", i)) for i in range(10)}
    mask = Mask({name: torch.ones(score.shape, dtype=torch.bool) for name, score in scores.items()})
    ours = partial(select, scores, mask, 5_000_000)
    times = in_turn({"select": ours, "sort": lambda: torch.cat(list(scores.values())).sort()}, repeats)
    median = sorted(times["select"])[repeats // 2]
    return [
        Row("25 million scores: selection, in seconds", median, "aim: at most 0.3", f"median of {repeats}"),
        Row("25 million scores: selection / full sort", median_ratio(times["select"], times["sort"]), "", ""),
    ]


def _phew(name: str, walks: int, repeats: int) -> list[Row]:
    """PHEW at 90% sparsity, in seconds, and against one walk at a time.

    The plain code is timed over a number of walks and scaled to the number that it needs.
    """
    model = _model(name)
    times = in_turn({"phew": lambda: prune(model, "phew", fraction=0.9, input_shape=CIFAR)}, repeats)["phew"]
    median = sorted(times)[repeats // 2]
    plain = _PlainWalk(model)
    per_walk = seconds(lambda: plain.walk(walks)) / walks
    needed = plain.walks_needed(Mask.ones(model).total // 10)
    detail = f"{needed} walks of {1e3 * per_walk:.2f} ms, measured over {walks}"
    return [
        Row(f"{name}: phew at 90%, in seconds", median, "", f"median of {repeats}"),
        Row(f"{name}: one walk at a time / phew", needed * per_walk / median, "aim: at least 100", detail),
    ]


class _PlainWalk:
    """PHEW as in the paper: one step of one walk after the other, and a count of the mask between walks.

    Walks along the convolutions and linear layers in their order; on a ResNet, as if shortcuts had no weights.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for name, module in model.named_modules() if "shortcut" not in name]
        weights = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
        self.weights = [weight.detach().abs().reshape(*weight.shape[:2], -1) for weight in weights]
        self.masks = [torch.zeros(weight.shape, dtype=torch.bool) for weight in self.weights]

    def walk(self, count: int) -> None:
        """Do `count` walks (the real method stops at a number of weights, which this code counts as well)."""
        walked = 0
        while sum(int(mask.sum()) for mask in self.masks) < sum(mask.numel() for mask in self.masks) and walked < count:
            is_back = bool(walked % 2)
            order = -1 if is_back else 1
            unit = walked // 2 % self.weights[-1 if is_back else 0].shape[0 if is_back else 1]
            for weight, mask in zip(self.weights[::order], self.masks[::order], strict=True):
                chances, kept = (weight[unit], mask[unit]) if is_back else (weight[:, unit], mask[:, unit])
                unit, place = divmod(int(torch.multinomial(chances.flatten(), 1)), chances.shape[1])
                kept[unit, place] = True
            walked += 1

    def walks_needed(self, keep: int) -> int:
        """Return the number of walks expected to keep that many weights, from each weight's probability per walk."""
        ahead, back = [], []
        inputs = torch.full((self.weights[0].shape[1],), 1 / self.weights[0].shape[1])
        outputs = torch.full((self.weights[-1].shape[0],), 1 / self.weights[-1].shape[0])
        for weight in self.weights:
            ahead.append(weight / weight.sum((0, 2), keepdim=True) * inputs[None, :, None])
            inputs = ahead[-1].sum((1, 2))
        for weight in reversed(self.weights):
            back.append(weight / weight.sum((1, 2), keepdim=True) * outputs[:, None, None])
            outputs = back[-1].sum((0, 2))
        chances = torch.cat([(a + b).flatten() / 2 for a, b in zip(ahead, reversed(back), strict=True)])
        low, high = 0, 1
        while (1 - torch.exp(-high * chances)).sum() < keep:
            low, high = high, 2 * high
        while high - low > max(1, high // 1000):
            middle = (low + high) // 2
            low, high = (middle, high) if (1 - torch.exp(-middle * chances)).sum() < keep else (low, middle)
        return high


def _masking(repeats: int) -> list[Row]:
    """Time the overhead of an attached mask in a training step with a batch of 128."""
    model, (x, y) = _model("cifar_resnet_20"), _images(128)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    mask = prune(model, "magnitude", density=0.1)

    def step() -> None:
        _pass_over(model, x, y)
        optimizer.step()

    def masked() -> None:
        for _ in range(10):
            attached.enforce()

    step()
    attached = mask.attach(optimizer)
    attached.detach()
    times = in_turn({"step": step, "mask": masked}, repeats)
    ratio = median_ratio(times["mask"], times["step"]) / 10
    return [Row("masking / training step", ratio, "aim: at most 0.02", f"resnet_20, batch 128, median of {repeats}")]
