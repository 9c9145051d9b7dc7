"""The page's file: self-contained, the same for the same runs, and safe for any names of runs."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import page_of
from analysis.report.render import html_of, json_for_script
from analysis.rows.result_value import Value
from analysis.rows.runs import read_rows
from tests.analysis.report.pages import write_pruned, write_training

HOSTILE = "</script><script>alert(1)</script><!--\"'{{ 7 * 7 }}\n&\u2028"


class Reader(HTMLParser):
    """Elements, their attributes, and the texts in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    @property
    def data(self) -> dict[str, Any]:
        """The data that the page's scripts draw."""
        return next(json.loads(text) for tag, text in self.texts if tag == "script" and text.startswith("{"))


def html(root: Path) -> str:
    return html_of(page_of(read_rows(root), Value("test_accuracy")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on runs with only hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    names: dict[str, Any] = {"device": HOSTILE, "versions": {HOSTILE: HOSTILE}, "collapsed": [HOSTILE]}
    names |= {"layers": {HOSTILE: (0.1, 0.1)}, "pruning": {HOSTILE: HOSTILE}}
    write_pruned(root, HOSTILE, 0.5, training={"dataset_name": HOSTILE, "model_name": HOSTILE}, **names)
    write_pruned(root, "snip1", 0.5)
    return html(root)


def test_hostile_names_are_texts_and_nothing_else(hostile: str) -> None:
    read = Reader(hostile)

    assert [tag for tag, _ in read.elements].count("script") == 2
    assert "alert(1)</script>" not in hostile and "<!--" not in hostile
    assert "{{ 7 * 7 }}" in hostile  # as it is: nothing evaluated it
    assert all(not name.startswith("on") for _, attributes in read.elements for name in attributes)
    assert any(HOSTILE in line["label"] for line in read.data["lines"])
    assert read.data["layerNames"][0] == [HOSTILE] or read.data["layerNames"][1] == [HOSTILE]


def test_json_in_a_script_element_is_read_back_and_cannot_end_the_element() -> None:
    text = json_for_script({HOSTILE: [HOSTILE, 0.1, None]})

    assert not set("<>&\u2028\n") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, 0.1, None]}
    with pytest.raises(ValueError, match="JSON"):
        json_for_script(float("nan"))


def test_nothing_is_loaded_from_elsewhere(hostile: str) -> None:
    read = Reader(hostile)

    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in read.elements}
    assert all("src" not in attributes for _, attributes in read.elements)
    assert all(str(a.get("href", "#")).startswith("#") for _, a in read.elements)
    assert "default-src 'none'" in hostile and "@import" not in hostile and "url(" not in hostile


def test_the_same_runs_have_the_same_bytes_wherever_they_are(tmp_path: Path) -> None:
    write_training(tmp_path / "one", 1)
    for strategy in ("snip1", "random"):
        write_pruned(tmp_path / "one", strategy, 0.5)
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    assert html(tmp_path / "one") == html(tmp_path / "two") == html(tmp_path / "one")


def test_the_drawn_numbers_are_those_of_the_runs(tmp_path: Path) -> None:
    address = write_pruned(tmp_path, "snip1", 0.25, accuracy=0.8125)

    data = Reader(html(tmp_path)).data

    (point,) = data["points"]
    assert (point["mean"], point["density"], point["low"]) == (0.8125, 0.25, None)
    assert [data["runs"][run][0] for run in point["runs"]] == [address]


def test_trainings_alone_are_drawn_as_lines(tmp_path: Path) -> None:
    write_training(tmp_path, 1)
    write_training(tmp_path, 2)

    assert '"dense":false,"color":0' in html_of(
        page_of(read_rows(tmp_path), Value.parse("test_accuracy"), by=["strategy"])
    )
