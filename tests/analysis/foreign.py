"""A run of an undeclared kind, such as the kind of a plug-in that is not loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

from foundations.description.address import digest
from foundations.storage import tensor_files
from foundations.storage.manifest import FileRecord
from foundations.storage.run import DESCRIPTION, MANIFEST, Run


def make_foreign(branch: Run, kind: str) -> str:
    """Copy a branch as one of another kind, with the address that this has; return its location."""
    record = json.loads((branch.folder / DESCRIPTION).read_text())
    record.pop("sha256")  # a file without a checksum
    record["kind"] = kind
    record["digest"] = digest(kind, record["canonical"])
    folder = branch.folder.with_name(f"branch_{kind}_{record['digest']}")
    shutil.copytree(branch.folder, folder)
    (folder / DESCRIPTION).write_text(json.dumps(record))
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in ("sha256", "run"):
        manifest.pop(name)  # a file without a checksum
    for path in folder.glob("*.safetensors"):
        path.write_bytes(tensor_files.to_bytes(*tensor_files.read(path, "")))
    manifest["files"] = {name: asdict(FileRecord.of(folder / name)) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder.relative_to(branch.root).as_posix()
