"""Mutations that know a format: their faults lie behind checks that flipped bytes rarely pass."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foundations.storage import tensor_files
from tests.fuzzing.mutations import TEXTS, bytes_like, to_json, tree_like

_SHAPES = ((), (0,), (1,), (2, 2), (1, 10**6), (0, 10**12), (3, 3, 3, 3), (1 << 16,))
_DESCRIPTIONS = ("|u1", "<i8", "|O", "<f8", "<U9", "|V100000000", "<M8[s]", "<c16", "|b1", "x", "[('a', '<i4')]")


def json_like(data: bytes, stream: random.Random) -> bytes:
    """Return a JSON file with its tree changed, or its bytes."""
    return bytes_like(data, stream) if stream.random() < 0.3 else to_json(tree_like(json.loads(data), stream))


def safetensors_like(data: bytes, stream: random.Random) -> bytes:
    """Return a safetensors file with its header changed (its length, shapes, types, places or texts), or its bytes."""
    if stream.random() < 0.3:
        return bytes_like(data, stream)
    size = int.from_bytes(data[:8], "little")
    tree, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    inner = tree.get("__metadata__", {}).get("open_prune")
    if inner is not None and stream.random() < 0.4:
        tree["__metadata__"]["open_prune"] = _stated_like(inner, stream)
        header = json.dumps(tree).encode()
    else:
        header = to_json(tree_like(tree, stream))
    if stream.random() < 0.2:
        body = bytes_like(body, stream)
    length = len(header) if stream.random() < 0.9 else stream.choice((0, 1, size, 1 << 40, (1 << 64) - 1))
    return length.to_bytes(8, "little") + header + body


def _stated_like(text: str, stream: random.Random) -> str:
    """Return the facts that a file of open_prune states of itself, with some of them changed."""
    stated = json.loads(text)
    if stream.random() < 0.5:
        stated["facts"] = to_json(tree_like(json.loads(stated["facts"]), stream)).decode()
        return json.dumps(stated)
    return to_json(tree_like(stated, stream)).decode()


def tensors_like(tensors: Mapping[str, torch.Tensor], stream: random.Random) -> dict[str, torch.Tensor]:
    """Return named tensors with one to a few of other values, types, shapes or names."""
    changed = dict(tensors)
    for _ in range(stream.choice((1, 1, 2))):
        name = stream.choice(sorted(changed) or ["x"])
        tensor = changed.get(name, torch.zeros(1))
        action = stream.randrange(7)
        if action == 0:
            changed.pop(name, None)
        elif action == 1:
            changed[stream.choice([text for text in TEXTS if text.isprintable()])] = tensor
        elif action == 2:
            changed[name] = torch.zeros(stream.choice([shape for shape in _SHAPES if 10**12 not in shape]))
        elif action == 3:
            kind = stream.choice((torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.float64))
            changed[name] = tensor.to(kind)
        elif action == 4 and tensor.numel() and tensor.is_floating_point():
            spoilt = tensor.clone()
            spoilt.view(-1)[stream.randrange(tensor.numel())] = stream.choice((float("nan"), float("inf"), 1e38))
            changed[name] = spoilt
        elif action == 5 and tensor.numel():
            spoilt = tensor.clone().reshape(-1)
            spoilt.view(torch.uint8)[stream.randrange(spoilt.view(torch.uint8).numel())] ^= 1 << stream.randrange(7)
            changed[name] = spoilt.view(tensor.shape)
        else:
            changed[name] = tensor.flip(0) if tensor.dim() else tensor[None]
    return changed


def signed_like(path: Path, owner: str, stream: random.Random) -> bytes:
    """Return a file of tensors with changed tensors or facts, and a digest that matches them."""
    tensors, facts = tensor_files.read(path, "")
    if stream.random() < 0.5:
        return tensor_files.to_bytes(tensors_like(tensors, stream), facts, owner)
    try:
        changed = json.loads(to_json(tree_like(facts, stream)))
        return tensor_files.to_bytes(tensors, changed if isinstance(changed, dict) else {"facts": changed}, owner)
    except (ValueError, RecursionError):
        return tensor_files.to_bytes(tensors, {}, owner)


def npz_like(arrays: Mapping[str, np.ndarray[Any, Any]], stream: random.Random) -> bytes:
    """Return an archive of arrays with lying headers, other types, names or sizes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", stream.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            if stream.random() < 0.1:
                continue
            written = (
                stream.choice(("../x.npy", "/x.npy", "x", f"{name}.npy.npy"))
                if stream.random() < 0.1
                else f"{name}.npy"
            )
            archive.writestr(written, npy_like(array, stream) if stream.random() < 0.6 else _npy(array))
        if stream.random() < 0.1:
            archive.writestr("bomb.npy", bytes(10**6))
    data = target.getvalue()
    return bytes_like(data, stream) if stream.random() < 0.4 else data


def npy_like(array: np.ndarray[Any, Any], stream: random.Random) -> bytes:
    """Return an array file with a lying header, other values or other bytes."""
    action = stream.randrange(6)
    if action == 0:
        return bytes_like(_npy(array), stream)
    if action == 1:
        stated = {
            "descr": stream.choice(_DESCRIPTIONS),
            "fortran_order": stream.choice((True, False)),
            "shape": stream.choice((*_SHAPES, array.shape, (-1, 8), (10**6, 10**3, 10**3))),
        }
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(header, stated)
        return header.getvalue() + array.tobytes()
    if action == 2:
        return _npy(array.astype(stream.choice(("f8", "i8", "i1", "c16", "U3", "?", "u8"))))
    if action == 3:
        return _npy(np.resize(array, stream.choice(((0,), (1,), (20, 1, 1), (20, 8, 8, 2), (3, 20, 8, 8), (0, 8, 8)))))
    if action == 4:
        return _npy(np.array([object()] * len(array), dtype=object), allow_pickle=True)
    spoilt = array.astype("i8")
    spoilt.reshape(-1)[stream.randrange(spoilt.size)] = stream.choice((-1, 10**9, 2**62, 300))
    return _npy(spoilt)


def _npy(array: np.ndarray[Any, Any], *, allow_pickle: bool = False) -> bytes:
    target = io.BytesIO()
    if allow_pickle:
        array = np.array([1] * len(array), dtype=object)
    np.save(target, array, allow_pickle=allow_pickle)
    return target.getvalue()


class Program:
    """An object that would run a command if it were unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def pickled_program(trace: Path, stream: random.Random) -> bytes:
    """Return a pickle that would make the file `trace`."""
    program = stream.choice(
        (
            Program(os.system, f"touch {trace}"),
            Program(exec, f"open({str(trace)!r}, 'w')"),
            Program(open, str(trace), "w"),
            Program(os.mkdir, str(trace)),
        )
    )
    content = stream.choice((program, {"fc.weight": program}, [program], {"a": torch.zeros(2), "b": program}))
    if stream.random() < 0.5:
        return pickle.dumps(content, protocol=stream.choice((0, 2, 4)))
    target = io.BytesIO()
    torch.save(content, target, _use_new_zipfile_serialization=stream.random() < 0.7)
    return target.getvalue()


def pickled_tensors_like(tensors: Mapping[str, torch.Tensor], trace: Path, stream: random.Random) -> bytes:
    """Return a state dict as torch saves it, with other tensors, other contents, other bytes or a program in it."""
    if stream.random() < 0.1:
        return pickled_program(trace, stream)
    content: Any = tensors_like(tensors, stream)
    action = stream.randrange(8)
    name = stream.choice(sorted(tensors))
    if action == 0:
        content[stream.choice((1, None, (1, 2), b"x", "y"))] = stream.choice((None, 3, "x", [1], {"a": tensors[name]}))
    elif action == 1:
        content[name] = tensors[name].reshape(-1)[:1].expand(10**6, 10**6)
    elif action == 2:
        content[name] = stream.choice(
            (tensors[name].to_sparse(), torch.empty(2, device="meta"), tensors[name][..., :1])
        )
    elif action == 3:
        content = stream.choice((content.get(name), list(content.values()), {"state_dict": content}))
    elif action == 4:
        content = _in_parts(tensors, name, stream)
    if stream.random() < 0.2:
        content = _in_a_checkpoint(content, tensors, stream)
    target = io.BytesIO()
    torch.save(content, target, _use_new_zipfile_serialization=stream.random() < 0.7)
    return bytes_like(target.getvalue(), stream) if stream.random() < 0.6 else target.getvalue()


def _in_parts(tensors: Mapping[str, torch.Tensor], name: str, stream: random.Random) -> dict[str, torch.Tensor]:
    """Return a state dict with a tensor in parts, as of torch.nn.utils.prune or weight_norm, some of them odd."""
    content, whole = dict(tensors), tensors[name]
    del content[name]
    one, other = stream.choice((("_orig", "_mask"), ("_g", "_v"), ("_v", "_g"), ("_orig", "_u")))
    odd = (whole, whole != 0, torch.zeros(()), torch.full(whole.shape, 2), whole[:1], torch.zeros(0, 3))
    sizes = (1,) * whole.dim()
    content[name + one] = stream.choice((whole, whole, whole.to_sparse(), torch.zeros(1, *sizes)))
    content[name + other] = stream.choice((*odd, torch.zeros(sizes), torch.zeros(sizes).expand((10**6,) * whole.dim())))
    if stream.random() < 0.3:
        module, _, last = name.rpartition(".")
        stem = f"{module}.parametrizations.{last}.original"
        content = {
            key.replace(name + one, stem + "0").replace(name + other, stem + "1"): content[key] for key in content
        }
    return content


def _in_a_checkpoint(content: Any, tensors: Mapping[str, torch.Tensor], stream: random.Random) -> dict[Any, Any]:
    """Return a checkpoint with a state dict behind a prefix, and the other things that training programs store."""
    prefix = stream.choice(("", "module.", "model.", "x." * 300, ".", "..", "\x1b[2J.", "\ud800."))
    if isinstance(content, dict):
        content = {f"{prefix}{key}" if isinstance(key, str) else key: value for key, value in content.items()}
    beside: dict[Any, Any] = {
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
        "best": np.float64(0.5),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
        "model_ema": dict(tensors),
        stream.choice((1, None, "", "\x1b[2J", "other")): stream.choice(
            (1, {}, [], dict(tensors), {"a": {"b": content}})
        ),
    }
    nested = {stream.choice(("state_dict", "model", "x\n", "module")): content}
    for _ in range(stream.choice((0, 0, 1, 60))):
        nested = {"x": nested}
    return {**nested, **{key: beside[key] for key in stream.sample(list(beside), k=stream.randrange(4))}}
