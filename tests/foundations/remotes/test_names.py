"""Names of remotes in the site's settings file, whose other lines stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure, OpenPruneError, UsageError
from foundations.remotes.names import add_remote, named_remotes, remove_remote, url_of

_SETTINGS = '# our cluster\nexecutor = "slurm"  # always\n'


def test_a_name_is_added_and_removed_and_the_other_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "site.toml"
    path.parent.mkdir()
    path.write_text(_SETTINGS)

    add_remote("lab", "s3://bucket/prefix", path)
    add_remote("home", "file:///a%20b/%22c", path)
    add_remote("lab", "s3://bucket/prefix", path)

    assert named_remotes(path) == {"home": "file:///a%20b/%22c", "lab": "s3://bucket/prefix"}
    assert url_of("lab", path) == "s3://bucket/prefix"
    remove_remote("lab", path)
    assert named_remotes(path) == {"home": "file:///a%20b/%22c"}
    remove_remote("home", path)
    assert path.read_text().startswith(_SETTINGS) and named_remotes(path) == {}


def test_the_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    add_remote("lab", "file:///lab", tmp_path / "a" / "site.toml")

    assert named_remotes(tmp_path / "a" / "site.toml") == {"lab": "file:///lab"}
    assert named_remotes(None) == named_remotes(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "name, url, words",
    [
        ("lab", "s3://other", "'lab' is s3://bucket already"),
        ("a.b", "s3://x", "the name of a remote has letters"),
        ("", "s3://x", "the name of a remote has letters"),
        ("new", "nothing", "'' is not a kind of remote"),
        ("new", "s3://key:secret@x", "holds no login"),
    ],
)
def test_a_name_that_is_taken_or_not_one_is_refused(tmp_path: Path, name: str, url: str, words: str) -> None:
    path = tmp_path / "site.toml"
    add_remote("lab", "s3://bucket", path)

    with pytest.raises(UsageError, match=words):
        add_remote(name, url, path)

    assert named_remotes(path) == {"lab": "s3://bucket"}


@pytest.mark.parametrize(
    "text",
    [
        'remotes = "x"\n',
        "[remotes]\nlab = 1\n",
        '[remotes]\n"a b" = "s3://x"\n',
        '[remotes]\nlab = "x"\n',
        "[remotes\n",
    ],
)
def test_a_mistake_in_the_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=str(path)):
        url_of("lab", path)


def test_a_file_in_a_form_that_cannot_be_edited_stays(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    text = 'remotes = {lab = "s3://bucket"}\n'
    path.write_text(text)

    for change in (lambda: add_remote("new", "s3://x", path), lambda: remove_remote("lab", path)):
        with pytest.raises(EnvironmentFailure, match="Edit it by hand"):
            change()

    assert path.read_text() == text


@pytest.mark.parametrize("remote", ["labb", "/lab/remote", "~/remote", "./x", "", "s3:bucket", "C:\\x"])
def test_what_is_neither_a_name_nor_a_url_is_refused_in_two_lines(tmp_path: Path, remote: str) -> None:
    add_remote("lab", "s3://bucket", tmp_path / "site.toml")

    with pytest.raises(OpenPruneError) as error:
        url_of(remote, tmp_path / "site.toml")

    assert len(str(error.value).splitlines()) <= 2


def test_a_settings_path_that_is_not_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()

    for each in (path, tmp_path / "link", tmp_path / "folder"):
        with pytest.raises(EnvironmentFailure, match="is not a file"):
            add_remote("lab", "s3://bucket", each)
        assert named_remotes(each) == {}

    assert path.is_fifo() and (tmp_path / "link").is_symlink()


def test_a_link_to_the_settings_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(_SETTINGS)
    (tmp_path / "link").symlink_to("real")

    add_remote("lab", "s3://bucket", tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert named_remotes(tmp_path / "real") == {"lab": "s3://bucket"}
