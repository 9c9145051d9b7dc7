import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets.formats.archives import member, members, tar_members
from foundations.errors import DamagedError

FILES = {"set/a/one.txt": b"first", "set/two.txt": b"second", "set/three.bin": b"third"}


@pytest.fixture(params=["folder", "set.tar", "set.tar.gz", "set.zip"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the same files to a folder or an archive of it."""
    folder = tmp_path / "unpacked" / "set"
    for name, content in FILES.items():
        path = folder.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    archive = tmp_path / str(request.param)
    if request.param == "folder":
        return folder
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in FILES.items():
                file.writestr(name, content)
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
            tar.add(folder, "set")
    return archive


def test_folders_and_archives_of_them_are_read_alike(packed: Path) -> None:
    assert dict(members(packed)) == FILES
    assert dict(members(packed, lambda name: name.endswith(".txt"))).keys() == FILES.keys() - {"set/three.bin"}
    assert member(packed, "set/a/one.txt") == b"first"


def test_a_member_that_is_missing_is_named(packed: Path) -> None:
    with pytest.raises(DamagedError, match=r"set/four\.txt"):
        member(packed, "set/four.txt")


def test_the_members_of_a_tar_archive_lie_at_their_offsets(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "file", "file")

    (found,) = tar_members(archive, tmp_path)

    assert archive.read_bytes()[found.offset : found.offset + found.size] == b"content"
