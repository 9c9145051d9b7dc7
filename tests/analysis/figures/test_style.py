"""The style of figures: colours, sizes, files."""

from __future__ import annotations

import itertools
import math
import re
import time
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb

from analysis.compare.looks import PALETTE, looks
from analysis.compare.points import DENSE
from analysis.figures.curves import CURVES, CurvesOptions
from analysis.figures.figure import DrawnFigure
from analysis.figures.style import WIDTHS, log_ticks, new_figure, styled
from analysis.report import render
from foundations.errors import UsageError
from pruning.registry import METHODS
from tests.analysis.rows import pruned, training

_DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
"""Of linear RGB; Machado, Oliveira and Fernandes 2009, severity 1."""
_PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))


def drawn(**options: str) -> DrawnFigure:
    rows = [training(1), training(2, 0.92)]
    rows += [pruned(name, level, number, 0.5 + number / 10) for name in ("snip1", "synflow") for level in (0.5, 0.9)
             for number in (1, 2)]  # fmt: skip
    return CURVES.draw(rows, CurvesOptions(**options))  # type: ignore[arg-type]


def test_a_strategy_looks_the_same_in_every_figure() -> None:
    names = [method.examples[0] if method.examples else method.spelling for method in METHODS]
    names = [name.replace("N", "10") for name in names]

    together = looks(names)

    assert together == [looks([name])[0] for name in names]
    assert len(set(together)) == len(names)
    assert len({(str(look.linestyle), look.marker) for look in together}) == len(names)  # for black and white


def test_lines_of_one_strategy_share_its_colour_and_differ_otherwise() -> None:
    found = looks(["snip1", "snip10", "snip100", "synflow"])

    assert len({look.color for look in found[:3]}) == 1
    assert len(set(found)) == 4


def test_lines_of_anything_else_differ() -> None:
    assert len(set(looks([None] * 20))) == 20


@pytest.mark.parametrize("vision", [_DEUTERANOPIA, _PROTANOPIA])
def test_colours_are_told_apart_by_people_with_two_kinds_of_cones(vision: tuple[tuple[float, ...], ...]) -> None:
    seen = [_lab(colour, vision) for colour in PALETTE]

    distances = [
        sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 for pair in itertools.combinations(seen, 2)
    ]
    assert min(distances) > 15  # in CIELAB; 2.3 is just noticeable


def _lab(colour: str, vision: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in to_rgb(colour)]
    r, g, b = (min(1, max(0, sum(w * c for w, c in zip(row, linear, strict=True)))) for row in vision)
    x, y, z = (
        0.4124 * r + 0.3576 * g + 0.1805 * b,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        0.0193 * r + 0.1192 * g + 0.9505 * b,
    )
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x / 0.9505, y, z / 1.089))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("width", ["single", "double", "5.5"])
def test_a_figure_has_the_width_of_a_column(width: str, tmp_path: Path) -> None:
    expected = WIDTHS.get(width) or float(width)

    (png, _) = drawn(width=width).write(tmp_path / "a.png")

    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == pytest.approx(expected * 300, abs=1)


@pytest.mark.parametrize("width", ["wide", "0", "nan", "1000"])
def test_another_width_is_refused(width: str) -> None:
    with pytest.raises(UsageError, match="single, double"):
        CurvesOptions(width=width)


def test_the_same_runs_give_the_same_bytes_and_no_date(tmp_path: Path) -> None:
    first = drawn().write(*(tmp_path / f"first.{ending}" for ending in ("pdf", "svg", "png")))
    time.sleep(1.1)  # dates have seconds
    second = drawn().write(*(tmp_path / f"second.{ending}" for ending in ("pdf", "svg", "png")))

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes()


def test_a_pdf_embeds_truetype_fonts(tmp_path: Path) -> None:
    (path, _) = drawn().write(tmp_path / "a.pdf")

    data = path.read_bytes()
    streams = [_inflated(part) for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, flags=re.DOTALL)]
    text = b"\n".join([data, *streams])
    kinds = set(re.findall(rb"/Subtype\s*/(Type0|Type1|Type3|TrueType|CIDFontType\d)\b", text))
    assert kinds == {b"Type0", b"CIDFontType2"} or kinds == {b"TrueType"}
    assert any(stream.startswith((b"\x00\x01\x00\x00", b"true")) for stream in streams)  # a TrueType file
    assert b"/FontFile2" in text


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""


def test_an_svg_needs_no_font(tmp_path: Path) -> None:
    (path, _) = drawn().write(tmp_path / "a.svg")

    root = ElementTree.fromstring(path.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(rcParams)

    drawn().write(tmp_path / "a.png")

    assert dict(rcParams) == before


@pytest.mark.parametrize("low, high", [(0.01, 100), (6.9, 80), (40, 64), (1, 10_000), (50, 51)])
def test_a_logarithmic_axis_has_few_ticks(low: float, high: float) -> None:
    with styled():
        _, (axes,) = new_figure("single", None)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        log_ticks(axes.xaxis, low, high)

    ticks = list(axes.get_xticks())
    assert 1 <= len(ticks) <= 7
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


def test_an_unknown_ending_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pdf, \.svg, \.png"):
        drawn().write(tmp_path / "a.png", tmp_path / "a.jpg")

    assert list(tmp_path.iterdir()) == []


BUILT_IN = ("random", "magnitude", "snip10", "force10", "grasp10", "synflow", "phew", "taylor10")


@pytest.mark.parametrize("name", ["mine", "edge_popup", "a", "method_of_mine_7", "x" * 60])
def test_a_strategy_of_a_plug_in_looks_the_same_whatever_else_is_drawn(name: str) -> None:
    alone = looks([name])

    assert looks([*BUILT_IN, name])[-1] == looks([name, *BUILT_IN])[0] == looks([DENSE, name, None])[1] == alone[0]


def test_a_strategy_of_a_plug_in_has_a_colour_and_a_marker_that_no_other_method_has() -> None:
    methods = [method.examples[0] if method.examples else method.spelling for method in METHODS]
    known = looks([name.replace("N", "10") for name in methods])

    for name in ("mine", "edge_popup", "wanda", "hessian"):
        (look,) = looks([name])
        assert look.color not in {each.color for each in known}
        assert look.marker not in {each.marker for each in known}


def test_strategies_of_plug_ins_differ_in_colour_as_long_as_there_are_colours() -> None:
    for names in itertools.combinations([f"method_{letter}" for letter in "abcdefg"], 5):
        found = looks(names)
        assert len({look.color for look in found}) == 5
        assert looks(names[::-1]) == found[::-1]


def test_many_strategies_of_plug_ins_all_look_different() -> None:
    found = looks([*BUILT_IN, *(f"method_{number}" for number in range(40))])

    assert len(set(found)) == len(found)


def test_a_strategy_of_a_plug_in_looks_the_same_in_reports() -> None:
    names = [*BUILT_IN, "mine", "edge_popup"]

    for look in looks(names):
        of_report = render.look_data(look)
        assert (look.color, look.marker) == (PALETTE[of_report["color"]], of_report["mark"])


def _schemes() -> list[dict[str, str]]:
    """Return the colours of a report's style sheet: light, dark and print."""
    found: dict[str, list[str]] = {}
    sheet = (Path(render.__file__).parent / "style.css").read_text()
    for name, value in re.findall(r"--(c\d+|paper): (#\w+);", sheet):
        found.setdefault(name, []).append(value)
    return [{name: values[place] for name, values in found.items()} for place in range(3)]


def test_a_report_has_all_colours_in_light_in_dark_and_in_print() -> None:
    for scheme in _schemes():
        assert set(scheme) == {"paper", *(f"c{place}" for place in range(len(PALETTE)))}


@pytest.mark.parametrize("vision", [_DEUTERANOPIA, _PROTANOPIA])
@pytest.mark.parametrize("place", [0, 1])
def test_colours_of_reports_are_told_apart_on_light_and_on_dark(
    place: int, vision: tuple[tuple[float, ...], ...]
) -> None:
    seen = [_lab(colour, vision) for name, colour in _schemes()[place].items() if name != "paper"]

    assert min(math.dist(*pair) for pair in itertools.combinations(seen, 2)) > 13
