"""One style for all figures, fit for a paper of two columns. Imports no torch.

The same runs give the same bytes: files have no dates, fixed identifiers, and a font that comes with matplotlib, so
that all machines have it.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.compare.looks import Look
from foundations.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTHS = {"single": 3.25, "double": 6.75}
"""Widths of one and of both columns, in inches."""
_SHEET = Path(__file__).with_name("paper.mplstyle")
_HANDLE, _LETTER = 0.45, 0.058
"""Inches of a legend's entry beside its label, and for each letter of the label."""
EXPLAINED = Look("#444444", ":", "o")
"""The look of legend entries that belong to no line."""


@contextmanager
def styled() -> Iterator[None]:
    """Use this style in the block, independent of matplotlib's settings outside."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(_SHEET, use_default_template=False))
        yield


def inches(width: str) -> float:
    """Return a figure's width in inches. Raises: UsageError for a text that is not a width."""
    try:
        found = WIDTHS.get(width) or float(width)
    except ValueError:
        found = math.nan
    if not 1 <= found <= 40:
        raise UsageError(
            f"'{width}' is not a valid value; it takes {', '.join(WIDTHS)}, or inches from 1 to 40.", "width"
        )
    return found


def new_figure(
    width: str, height: float | None, panels: int = 1, *, is_shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels. is_shared: whether they share their axes. Call it, and draw, within `styled`."""
    from matplotlib.figure import Figure

    wide = inches(width)
    rows = math.ceil(panels / max(1, round(wide / 2)))
    columns = math.ceil(panels / rows)
    each = wide / columns
    high = height or rows * min(0.68 * each, 2.6) + 0.35
    figure = Figure(figsize=(wide, high), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=is_shared, sharey=is_shared, squeeze=False).flatten().tolist()
    for place, each in enumerate(axes):
        if place >= panels:
            each.remove()
        elif place + columns >= panels:  # nothing is below
            each.tick_params(labelbottom=True)
    return figure, axes[:panels]


def label_axes(figure: Figure, axes: Sequence[Axes], x: str, y: str) -> None:
    """Label the shared axes of all panels once, in the middle."""
    if len(axes) == 1:
        axes[0].set(xlabel=x, ylabel=y)
    else:
        figure.supxlabel(x, fontsize="medium")
        figure.supylabel(y, fontsize="medium")


def legend(figure: Figure, entries: Sequence[tuple[Any, str]], title: str | None) -> None:
    """Draw title and legend above all panels, where they cover no line. entries: (artist, label), row by row.

    Labels wider than the figure are wrapped. Texts between dollar signs that are not formulas stay plain.
    """
    if not entries:
        figure.suptitle(title or "")
        _leave_plain(figure)
        return
    wide = figure.get_size_inches()[0]
    entries = [(handle, _wrapped(label, int((wide - _HANDLE) / _LETTER))) for handle, label in entries]
    # Matplotlib fills a legend by columns, but people read it by rows.
    for columns in range(min(len(entries), 6), 0, -1):
        parts = [entries[column::columns] for column in range(columns)]
        if sum(_HANDLE + _LETTER * max(map(_width, part)) for part in parts) <= wide:
            break
    by_column = [entry for part in parts for entry in part]
    handles, labels = zip(*by_column, strict=True)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, title=title)
    _leave_plain(figure)


def _width(entry: tuple[Any, str]) -> int:
    return max(map(len, entry[1].split("\n")))


def _wrapped(label: str, width: int) -> str:
    """Return a label wrapped to a width; labels with a formula are not wrapped."""
    return label if "$" in label else textwrap.fill(label, max(width, 10))


def _leave_plain(figure: Figure) -> None:
    """Turn off formulas for those texts of a figure that matplotlib cannot parse."""
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text().count("$") > 1:
            try:
                MathTextParser("path").parse(text.get_text())
            except ValueError:
                text.set_parse_math(False)


def key(**style: Any) -> Any:
    """Return a handle for the legend that explains a line style or marker, in a neutral colour."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=EXPLAINED.color, **style)


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Give a logarithmic axis few ticks, at plain numbers: written out, or as powers of ten if long."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    is_plain = low >= 1e-3 and high < 1e5
    for steps in (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= (7 if is_plain else 4):
            break
    axis.set_major_locator(FixedLocator(ticks))
    minor = [step * 10.0**decade for decade in decades for step in range(2, 10)]
    axis.set_minor_locator(FixedLocator([tick for tick in minor if low * 0.999 <= tick <= high * 1.001]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if is_plain else _by_power(value)))
    axis.set_minor_formatter(NullFormatter())


def _by_power(value: float) -> str:
    digit, _, exponent = f"{value:.0e}".partition("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if digit == "1" else rf"${digit}\times{power}$"


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a pdf, svg or png file. The same figure gives the same bytes."""
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with styled(), io.BytesIO() as file:
        figure.savefig(file, format=kind, metadata=undated.get(kind))
        return file.getvalue()
