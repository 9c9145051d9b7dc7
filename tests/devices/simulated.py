"""A GPU, simulated: its tensors have values, and what a GPU would refuse is refused.

A tensor on the device is a `DeviceTensor`: its `.device` is `DEVICE`, that is `cuda:0`, and its values are those of a
tensor on the CPU. Every operation passes through `_operate`, which raises where a GPU would (operands on two devices, a
generator of another device) and notes where the host would wait for a GPU. So code that asks for the type of the device
takes the branches that it takes on a GPU. To PyTorch's own code in C++, the device is of type "lazy", for which
autograd needs no driver. `tests/devices/driver.py` plays the functions of `torch.cuda`.
"""

from __future__ import annotations

import copy
import gc
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from platforms.platform import Platform, Result
from tests.devices.driver import Driver, played

DEVICE = torch.device("cuda", 0)
_IN_CPP = torch.device("lazy", 0)
_ROOT = Path(__file__).parents[2]
_MADE_ON_HOST = torch.tensor
_WAITS_FOR_VALUES = frozenset({"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim"})
"""Operations whose result on the host, or whose shape, depends on values."""
_TAKE_HOST_INDICES = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})


class MixedDevices(RuntimeError):
    """An operation has operands on two devices."""


@dataclass
class Memory:
    """The memory of the device that tensors take, each storage once, in bytes."""

    now: int = 0
    peak: int = 0
    holders: Counter[int] = field(default_factory=Counter)
    """Number of tensors by the address of their storage."""

    def hold(self, address: int, size: int) -> None:
        if not self.holders[address]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.holders[address] += 1

    def let_go(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if not self.holders[address]:
            del self.holders[address]
            self.now -= size

    def peak_of(self, work: Callable[[], object]) -> int:
        """Return the most bytes that some work takes beyond those that are taken before it."""
        gc.collect()  # tensors in circles that are freed during the work would be subtracted from it
        before = self.peak = self.now
        work()
        return self.peak - before


MEMORY = Memory()


class _Held:
    """Memory that is held for as long as this object is there: PyTorch swaps no tensors that have weak references."""

    def __init__(self, on_host: Tensor) -> None:
        storage = on_host.untyped_storage()
        self.address, self.size = storage.data_ptr(), storage.nbytes()
        MEMORY.hold(self.address, self.size)

    def __del__(self) -> None:
        MEMORY.let_go(self.address, self.size)


class DeviceTensor(Tensor):
    """A tensor on the simulated device."""

    on_host: Tensor
    held: _Held

    @staticmethod
    def __new__(cls, on_host: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            on_host.shape,
            strides=on_host.stride(),
            storage_offset=on_host.storage_offset(),
            dtype=on_host.dtype,
            device=_IN_CPP,
        )
        made.on_host = on_host
        made.held = _Held(on_host)
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.on_host!r})"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        there = tree_map_only(
            torch.device, lambda device: _IN_CPP if device == DEVICE else device, (args, kwargs or {})
        )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*there[0], **there[1])

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if id(self) not in memo:
            copied = memo[id(self)] = DeviceTensor(self.on_host.clone())
            vars(copied).update({name: value for name, value in vars(self).items() if name == "_is_param"})
            copied.requires_grad_(self.requires_grad)
            copied.grad = copy.deepcopy(self.grad, memo)
        return memo[id(self)]

    def tolist(self) -> Any:
        _note("tolist")
        return self.on_host.tolist()

    def new_tensor(self, data: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        return _tensor(data, **{"dtype": self.dtype, "device": self.device, **kwargs})

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("can't convert a tensor of the simulated device to numpy; copy it to the host first")

    def data_ptr(self) -> int:
        return self.on_host.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.on_host.untyped_storage()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        assert isinstance(value, DeviceTensor)
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.on_host, self.held = value.on_host, value.held

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["on_host"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: Any) -> DeviceTensor:
        return DeviceTensor(inner["on_host"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _operate(func, tuple(args), dict(kwargs or {}))


_noted: list[str] | None = None
_driver: Driver | None = None


def _note(operation: str) -> None:
    """Note that the host waits, with the two innermost lines of the project that ask for it."""
    if _driver is not None:
        _driver.check_may_wait()
    if _noted is None:
        return
    lines = [
        f"{Path(frame.filename).relative_to(_ROOT)}:{frame.lineno}"
        for frame in reversed(traceback.extract_stack())
        if frame.filename.startswith(str(_ROOT)) and "/tests/" not in frame.filename and ".venv" not in frame.filename
    ]
    _noted.append(" < ".join([operation, *lines[:2]]))


class _Factories(TorchDispatchMode):
    """Lets functions that make tensors, and copies, see the device."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _operate(func, tuple(args), dict(kwargs or {}))


@contextmanager
def simulated_device() -> Iterator[list[str]]:
    """Yield a list to which each wait for the device adds a line, while the device is there."""
    global _noted, _driver
    before, _noted = (_noted, _driver), []
    try:
        with _Factories(), played(_note) as _driver, mock.patch("torch.tensor", _tensor):
            yield _noted
    finally:
        _noted, _driver = before


def driver() -> Driver:
    """Return the driver of the device that is there."""
    assert _driver is not None
    return _driver


def _tensor(data: Any, *, device: torch.device | str | None = None, **kwargs: Any) -> Tensor:
    """Return torch.tensor(...), which makes its result on the host, and copies it to the device and waits."""
    made = _MADE_ON_HOST(data, **kwargs)
    if device is None or not _is_device(device):
        return made.to(device) if device is not None else made
    _note("tensor to the device")
    return DeviceTensor(made)


def _is_device(device: torch.device | str) -> bool:
    return torch.device(device).type in (DEVICE.type, _IN_CPP.type)


def _operate(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    is_here = [isinstance(tensor, DeviceTensor) for tensor in tensors]
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    copies = name in ("_to_copy", "copy_")
    if not copies:
        _check_operands(name, tensors, is_here)
    result_is_here = is_here[0] if name == "copy_" else any(is_here) if asked is None else _is_device(asked)
    _check_generator(name, kwargs, result_is_here)
    if any(is_here) and name in _WAITS_FOR_VALUES:
        _note(name)
    if copies and {result_is_here, *is_here} == {True, False} and not _is_without_waiting(name, args, kwargs):
        _note(f"{name} {'to' if result_is_here else 'from'} the device")
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    host_args, host_kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.on_host, (args, kwargs))
    result = func(*host_args, **host_kwargs)
    if _driver is not None and (result_is_here or any(is_here)):
        _driver.note(func, host_args, host_kwargs, result)
    if not result_is_here:
        return result
    wrapped = tree_map_only(Tensor, lambda tensor: DeviceTensor(_with_storage(tensor)), result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _with_storage(tensor: Tensor) -> Tensor:
    """Return a tensor; in place of autograd's zeros without a storage, ones that have one."""
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor._is_zerotensor() else tensor


def _check_operands(name: str, tensors: Sequence[Tensor], is_here: Sequence[bool]) -> None:
    if not any(is_here) or (name in _TAKE_HOST_INDICES and is_here[0]):
        return
    elsewhere = [tuple(t.shape) for t, here in zip(tensors, is_here, strict=True) if not here and t.dim()]
    if elsewhere:
        raise MixedDevices(f"{name}: operands on the device, and on the CPU of the shapes {elsewhere}")


def _check_generator(name: str, kwargs: Mapping[str, Any], result_is_here: bool) -> None:
    generator = kwargs.get("generator")
    if generator is not None and result_is_here:
        raise MixedDevices(f"{name}: a result on the device, with a generator of the {generator.device.type}")


def _is_without_waiting(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy was asked not to wait."""
    return bool(args[2] if name == "copy_" and len(args) > 2 else kwargs.get("non_blocking", False))


class OnDevice(Platform):
    """A platform of one process, on the simulated device.

    waits: the lines of code at which the last job waited for it.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []

    @property
    def device(self) -> torch.device:
        return DEVICE

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        with simulated_device() as self.waits:
            return job(self)
