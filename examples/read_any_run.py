"""Read and verify a run with NumPy alone, by docs/format.md: python examples/read_any_run.py FOLDER."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"}
DTYPES |= {f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError)


def require(holds: object, why: str) -> None:
    """Raise ValueError if something does not hold."""
    if not holds:
        raise ValueError(why)


def read(path: Path, recorded: Any = None) -> Any:
    """Return the content of a run's file; exit with status 1 if it differs from its own checksum or the manifest."""
    try:
        require(path.is_file(), "it is missing, or not a regular file")
        data, at = path.read_bytes(), re.sub(r"/\.([^/]+)/[^/]+$", r"/\1", str(path.parent)).split("/")[-3:]
        same = recorded in (None, {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        require(same, "its size or its SHA-256 is not the one in manifest.json")
        if path.suffix == ".safetensors":
            return tensors(data, "/".join((*at, path.name)))
        if path.suffix == ".csv":
            return [(name, int(at), float(x)) for name, at, x in (row.split(",") for row in data.decode().split()[1:])]
        return sealed_json(data, path.name, at) if path.suffix == ".json" else data
    except WRONG as error:
        sys.exit(f"{path} cannot be verified ({' '.join(str(error).split())}).")


def sealed_json(data: bytes, file: str, at: list[str]) -> dict[str, Any]:
    """Return the object in a JSON file. Its `sha256` is of the whole file with zeros in place of these digits."""
    tree: dict[str, Any] = json.loads(data)
    zeroed = re.sub(rb'(?m)^( "sha256": ")[0-9a-f]{64}"', rb"\g<1>" + b"0" * 64 + b'"', data, count=1)
    unsealed = "sha256" not in tree and not re.search(rb'(?m)^ "[^"]*": "[0-9a-f]{64}"', data)  # as the first ones were
    require(unsealed or tree["sha256"] == hashlib.sha256(zeroed).hexdigest(), "its SHA-256 is not the one it states")
    require(tree.get("format", 1) in (1, 2), f"it is of format {tree.get('format')}, and this reads formats 1 and 2")
    require(tree.get("run", "") in ("", "/".join(at)), f"it belongs to {tree.get('run')}")
    for record in (tree, tree.get("main", tree)) if file == "description.json" else ():
        require(record["schema"] == 2, f"it is of schema {record['schema']}, and this reads schema 2")
        named = {"kind": record["kind"], "schema": 2, "description": record["canonical"]}
        text = json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        require(hashlib.sha256(text.encode()).hexdigest()[:32] == record["digest"], "it has another address")
        folder = at[0] if record is not tree or at[2] == "main" else at[2]
        require(folder.endswith(f"_{record['digest']}"), "it does not describe the folder that it is in")
        require(at[0].endswith(record["canonical"].get("main", "")), "it is a branch of another training")
    return tree | {"location": "/".join(at)}


def tensors(data: bytes, owner: str) -> dict[str, Any]:
    """Return the arrays of a safetensors file by name: bfloat16 as float32, the bits of a mask as bool."""
    start = 8 + int.from_bytes(data[:8], "little")
    header, end, found = json.loads(data[8:start]), start, {}
    stated = json.loads(header.pop("__metadata__")["open_prune"])
    digest = hashlib.sha256((stated["facts"] + stated.get("owner", "")).encode())
    for name, entry in sorted(header.items()):
        kind, (first, last) = DTYPES[entry["dtype"]], (start + offset for offset in entry["data_offsets"])
        digest.update(json.dumps([name, f"torch.{kind}", entry["shape"]]).encode() + data[first:last])
        code = np.dtype("uint16" if kind == "bfloat16" else kind).newbyteorder("<")
        values, end = np.frombuffer(data[first:last], code).reshape(entry["shape"]), max(end, last)
        found[name] = (values.astype("<u4") << 16).view("<f4") if kind == "bfloat16" else values
    require(digest.hexdigest() == stated["sha256"] and end == len(data), "its tensors are not those that were written")
    require(stated.get("owner", owner) == owner, f"it was written as {stated.get('owner')}")
    for name, shape in json.loads(stated["facts"]).get("shapes", {}).items():
        found[name] = np.unpackbits(found[name], bitorder="little")[: int(np.prod(shape))].reshape(shape).astype(bool)
    return found


def main(folder: Path) -> None:
    """Verify the files of the run in a folder, and print their content."""
    record, there = read(folder / "description.json"), sorted(path.name for path in folder.iterdir())
    numbers = sorted((int(n[9:-5] or 1), n) for n in there if re.fullmatch(r"manifest(_\d+)?\.json", n))
    manifest = read(folder / numbers[-1][1]) if "manifest.json" in there else {}
    listed = manifest.get("files", dict.fromkeys(n for n in there if re.match("state_|mask|check|sparsity|metrics", n)))
    found = {name: read(folder / name, known) for name, known in listed.items()}
    states = {tuple(map(int, re.findall(r"\d+", name))): name for name in found if name.startswith("state_")}
    mask, last = found.get("mask.safetensors", {}), states[max(states)] if states else "no state"
    model, data = record.get("main", record)["hyperparameters"]["model"], ", ".join(manifest.get("dataset", {}))
    print(f"{record['location']}: {'complete' if manifest else 'not complete'}, {len(found)} files verified")
    print(f"{record['kind']} of {model['model_name']} on {data or '?'}, {manifest.get('device') or '?'}; {last}")
    for name, weight in found.get(last, {}).items():
        print(f"  {name:28} {weight.dtype!s:8} {weight.shape!s:18} kept {np.mean(mask.get(name, 1)):.4f}")
    density = sum(bits.sum() for bits in mask.values()) / max(1, sum(bits.size for bits in mask.values()))
    accuracy = [x for name, _, x in found.get("metrics.csv", []) if name == "test_accuracy"]
    print(f"density {density if mask else 1:.6f}, test accuracy {accuracy[-1] if accuracy else 'not measured'}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve() if len(sys.argv) == 2 else sys.exit(__doc__))
    except WRONG as why:
        sys.exit(f"{sys.argv[1]} cannot be verified ({' '.join(str(why).split())}).")
