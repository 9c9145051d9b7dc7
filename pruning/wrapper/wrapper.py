"""Iterative pruning of any network by hand: wrap it, train it, prune it, rewind it, again and again."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from foundations.errors import UsageError, invalid
from foundations.files import write_atomically
from foundations.random_streams import global_generator_from
from pruning.level import kept_of
from pruning.masks.attached_mask import AttachedMask, PrunedToZero
from pruning.masks.mask import Mask
from pruning.masks.reinitialization import reinitialize_
from pruning.prune import prune
from pruning.weights.named_weights import unwrapped
from pruning.wrapper import state as wrapper_state
from pruning.wrapper.arguments import (
    available_device,
    check_rate,
    check_seed,
    check_switches,
    checked_layer_types,
    choice,
    folder_of,
    mask_of_ones,
    one_of,
    with_inner_names,
)

ROUNDS = "rounds.csv"
"""The name of the log of the rounds."""
_FOLDER = "run"
_States = weakref.WeakKeyDictionary[torch.optim.Optimizer, Collection[str] | str]


class PruningWrapper(nn.Module):
    """A network together with its mask and the weights to rewind to.

        wrapper = PruningWrapper(network, prune_rate=0.2, device="cuda", save_dir="run")
        wrapper.set_initial_weights()
        for round in range(25):
            train(wrapper, torch.optim.SGD(wrapper.parameters(), lr=0.1))
            *_, fraction_pruned = wrapper.calculate_percent_pruned()
            wrapper.prune_weights()
            wrapper.reinitialize()

    Pruned weights stay at zero: every step of an optimizer of `torch.optim` (or of a class that derives from its
    `Optimizer`) sets them to zero, and the elementwise state that it has for them (`pruning.masks.optimizer_state`),
    whether it was made from the wrapper's parameters or from the network's. Other ways to change the weights are
    undone when the wrapper is called, unless it is compiled. The network itself carries no hooks: the names in its
    `state_dict` do not change, and a copy of it is an ordinary network. A copy of the wrapper keeps its own mask.

    The wrapper's `state_dict` has the mask, the weights to rewind to and the rounds besides the network's tensors
    (`pruning.wrapper.state`): loaded into a new wrapper, it goes on from there.

    network (or model): may be in DataParallel, or compiled; names are those of the network inside. As `net` and
    `model`, it is an attribute. prune_rate: the share of the weights that are left that each round prunes. device:
    where the network is moved to. save_dir (or dir_name): the folder of the log `rounds.csv` and of the mask of each
    round, written from the first round on; those of an earlier wrapper are replaced. None: nothing is written.
    random_initialization, random_prune: the same as init_method='random' and method='random'.
    filter_function: given a parameter's name, says whether it is pruned, whatever its layer: biases and batchnorm too.
    By default, the weights of convolutional and linear layers are (`pruning.weights.prunable`). layer_types: the layers
    whose weights are pruned, in place of these; with a filter_function, those that pass it.
    method: 'magnitude' (global) or 'random'. init_method: what `reinitialize` does, 'rewind' or 'random'.
    rounding: 'nearest' prunes as many weights as `prune`; 'pruning_wrapper' as many as the published PruningWrapper.
    seed: of random pruning and random reinitialization.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        prune_rate: float = 0.2,
        device: str | torch.device = "cuda",
        save_dir: str | Path | None = _FOLDER,
        random_initialization: bool = False,
        random_prune: bool = False,
        filter_function: Callable[[str], bool] | None = None,
        *,
        model: nn.Module | None = None,
        dir_name: str | Path | None = _FOLDER,
        method: Literal["magnitude", "random"] | None = None,
        init_method: Literal["rewind", "random"] | None = None,
        layer_types: tuple[type[nn.Module], ...] | None = None,
        rounding: Literal["nearest", "pruning_wrapper"] = "nearest",
        seed: int = 0,
    ) -> None:
        """Wrap `network` and move it to `device`; its present state is the one to rewind to.

        Raises: UsageError for a wrong rate or method, arguments that contradict each other, a filter that no
        parameter passes, or a device that this machine does not have.
        """
        super().__init__()
        check_rate(prune_rate)
        check_seed(seed)
        check_switches(random_initialization=random_initialization, random_prune=random_prune)
        if rounding not in ("nearest", "pruning_wrapper"):
            raise invalid(rounding, "rounding", ("nearest", "pruning_wrapper"))
        given = one_of({"network": network, "model": model}, default=None)
        if not isinstance(given, nn.Module):
            raise UsageError(f"a torch.nn.Module is needed, not {type(given).__name__}.", "network")
        self.method = choice("method", method, "random_prune", random_prune, "magnitude")
        self.init_method = choice("init_method", init_method, "random_initialization", random_initialization, "rewind")
        folder = one_of({"save_dir": save_dir, "dir_name": dir_name}, default=_FOLDER)
        starting = mask_of_ones(unwrapped(given), checked_layer_types(layer_types), filter_function)
        self.model = given.to(available_device(device))
        self.prune_rate = prune_rate
        self.dir_name = folder_of(folder)
        self.rounding = rounding
        self.seed = seed
        self._rounds: list[wrapper_state.Round] = []
        self._initial: dict[str, Any] = {}
        self._attached: AttachedMask | None = None
        self._states: _States = weakref.WeakKeyDictionary()
        self._set_mask(starting)
        self.set_initial_weights()
        self._watch_optimizers()
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    @property
    def net(self) -> nn.Module:
        """The network, as it was given."""
        return self.model

    @property
    def rounds(self) -> int:
        """Number of rounds of pruning so far."""
        return len(self._rounds)

    @property
    def mask(self) -> Mask:
        """The mask. A newly set one (or a dict of its tensors) is applied and enforced from now on.

        Raises: UsageError if names or shapes are not the network's.
        """
        return self._mask

    @mask.setter
    def mask(self, mask: Mapping[str, torch.Tensor]) -> None:
        self._set_mask(Mask(with_inner_names(mask, self._network), self._network))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        if not torch.compiler.is_compiling() and self._is_pruned:
            # `data`: between two forward passes and their backward pass, autograd must not see a weight change.
            self._pruned.enforce({name: weight.data for name, weight in self._weights().items()})
        return self.model(*args, **kwargs)

    def set_initial_weights(self) -> None:
        """Store the present state (buffers included) as the one that `reinitialize` goes back to."""
        self._initial = copy.deepcopy(self._network.state_dict())

    def attach(self, optimizer: torch.optim.Optimizer, *, state: Collection[str] | str | None = None) -> AttachedMask:
        """Keep pruned weights at zero while `optimizer` trains, which every optimizer of `torch.optim` does anyway.

        The optimizer attached before is detached. state: names of elementwise state of an optimizer that is not one of
        torch.optim (`Mask.attach`); they hold in later rounds, too.
        Raises: UsageError if the optimizer holds none of the mask's weights.
        """
        attached = self.mask.attach(optimizer, self._network, state=state)
        self._detach()
        self._attached = attached
        if state is not None:
            self._states[optimizer] = state
        return attached

    def prune_weights(self, prune_rate: float | None = None, *, verbose: bool = False) -> Mask:
        """Prune another share of the weights that are left, set them to zero, log the round, and return the mask.

        verbose: print how many weights are pruned.
        Raises: UsageError for a rate outside [0, 1]; EnvironmentFailure where the log cannot be written.
        """
        rate = self.prune_rate if prune_rate is None else prune_rate
        check_rate(rate)
        seed = self.seed + self.rounds + 1
        mask = prune(self._network, self.method, keep=self._number_to_keep(rate), mask=self.mask, seed=seed)
        self._set_mask(mask)
        self._rounds.append((mask.pruned, mask.total))
        self._log_round()
        self.calculate_percent_pruned(verbose)
        return self.mask

    def reinitialize(self, *, randomly: bool | None = None, verbose: bool = False) -> None:
        """Go back to the stored state and apply the mask.

        randomly: draw new parameters instead (`pruning.masks.reinitialization`); buffers that no module resets
        go back to the stored ones. By default, `init_method` decides. verbose: print how many weights are pruned.
        Raises: UsageError that names the parameters that no module draws, with the network as it was.
        """
        if self.init_method == "random" if randomly is None else randomly:
            with global_generator_from("reinitialization", self.seed, self.rounds):
                reinitialize_(self._network, self._initial)
        else:
            self._network.load_state_dict(self._initial)
        self.mask.apply_(self._network)
        self.calculate_percent_pruned(verbose)

    def calculate_percent_pruned(self, verbose: bool = False) -> tuple[int, int, float]:
        """Return the number of weights left, the number of prunable ones, and the fraction pruned, from 0 to 1.

        verbose: print them, too.
        """
        kept, total = self.mask.kept, self.mask.total
        fraction = (total - kept) / total if total else 0.0
        if verbose:
            print(f"{kept} of {total} weights are left ({100 * fraction:.4g}% pruned).")  # noqa: T201 - asked for
        return kept, total, fraction

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load network, mask, weights to rewind to and rounds, and set the weights that the mask prunes to zero.

        Without strict, whatever the state dict lacks stays as it is (with a warning, if it is the mask).
        Raises: UsageError, before anything is changed, if the state dict is that of a network, or has no mask although
        strict; RuntimeError, as torch does, if names or shapes differ.
        """
        wrapper_state.check_whose(state_dict, self._network, strict=strict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    @property
    def _network(self) -> nn.Module:
        return unwrapped(self.model)

    def _weights(self) -> dict[str, torch.Tensor]:
        """Return the masked parameters, including a replica's, which are plain tensors."""
        network = self._network
        paths = {name: path.rpartition(".") for name, path in self._paths.items()}
        return {name: getattr(network.get_submodule(layer), last) for name, (layer, _, last) in paths.items()}

    def _number_to_keep(self, rate: float) -> int:
        """Return the number of weights that a round keeps."""
        left = self.mask.kept
        if self.rounding == "nearest":
            return kept_of(left, rate)
        pruned = int(left * rate)
        if self.method == "random" or not left:
            return left - pruned
        # The published code keeps weights strictly above the one of rank `pruned`, counted from 0.
        weights = self.mask.values_in(self._network)
        sizes = torch.cat([weights[name].cpu()[kept].abs() for name, kept in self.mask.items()])
        threshold = sizes.sort().values[min(pruned, left - 1)]
        return int((sizes > threshold).sum())

    def _set_mask(self, mask: Mask) -> None:
        """Apply a mask, and enforce it from now on instead of the present one."""
        self._detach()
        self._mask = mask
        self._is_pruned = mask.pruned > 0
        kept, parameters = mask.on_parameters(self._network)
        self._pruned = PrunedToZero(kept)
        places = {id(value): name for name, value in self._network.named_parameters(remove_duplicate=False)}
        self._paths = {name: places[id(value)] for name, value in parameters.items()}
        mask.apply_(self._network)

    def _detach(self) -> None:
        if self._attached is not None:
            self._attached.detach()
            self._attached = None

    def _log_round(self) -> None:
        if self.dir_name is None:
            return
        log = "round,pruned,total,percent_pruned\n"
        for number, (pruned, total) in enumerate(self._rounds, start=1):
            log += f"{number},{pruned},{total},{100 * pruned / max(1, total):.6f}\n"
        write_atomically(self.dir_name / ROUNDS, log.encode())
        self.mask.save(self.dir_name / f"mask_round_{self.rounds}.safetensors")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        own = wrapper_state.saved(self.mask, self._initial, self._rounds)
        destination.update({prefix + key: value for key, value in own.items()})

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        _, _, missing_keys, unexpected_keys, error_msgs = rest  # the first two are metadata and `strict`
        own = wrapper_state.part(state_dict, prefix)
        own = {key: value for key, value in own.items() if not key.startswith(wrapper_state.MODEL)}
        found = wrapper_state.read(own, self._network, self.mask)
        missing_keys += [prefix + key for key in found.missing]
        unexpected_keys += [prefix + key for key in found.unexpected]
        error_msgs += found.errors
        if not found.errors:
            self._take(found)
        others = {key: value for key, value in state_dict.items() if key.removeprefix(prefix) not in own}
        super()._load_from_state_dict(others, prefix, *rest)

    def _take(self, found: wrapper_state.Loaded) -> None:
        if found.mask is None:
            message = f"the state dict has no mask: the wrapper keeps its own ({self.mask})."
            warnings.warn(message, UserWarning, stacklevel=2)
        else:
            self._set_mask(found.mask)
        self._initial |= copy.deepcopy({name: found.initial[name] for name in found.initial if name in self._initial})
        self._rounds = self._rounds if found.rounds is None else found.rounds

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero the pruned weights that an optimizer holds, and its state for them."""
        if not self._is_pruned:
            return
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        weights = {name: weight for name, weight in self._weights().items() if id(weight) in held}
        if weights:
            self._pruned.enforce(weights, optimizer, self._states.get(optimizer))

    def _watch_optimizers(self) -> None:
        """Register `_after_step` for each step of any optimizer, for as long as the wrapper lives."""
        own = weakref.ref(self)

        def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            wrapper = own()
            if wrapper is not None:
                wrapper._after_step(optimizer)

        weakref.finalize(self, register_optimizer_step_post_hook(after_step).remove).atexit = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: all attributes but the optimizers."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_attached", "_states")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of a copied wrapper, and watch optimizers for the copy's own weights."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._attached, self._states = None, weakref.WeakKeyDictionary()
        self._watch_optimizers()


def _after_loading(wrapper: PruningWrapper, _: object) -> None:
    wrapper.mask.apply_(wrapper._network)
