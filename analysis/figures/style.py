"""One style for all figures, fit for a paper of two columns. Imports no torch.

The palette is safe for colour-blind readers (Okabe and Ito 2008, indigo of Tol's 'muted', and five more for plug-ins),
and each colour has a marker, so that figures can be read in black and white. A strategy has the same colour and marker
in every figure: from its place in the registry of methods or, for a plug-in, from its name. The same runs give the same
bytes: files have no dates, fixed identifiers, and a font that comes with matplotlib, so that all machines have it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.cells import DENSE
from foundations.errors import UsageError
from pruning.registry import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTHS = {"single": 3.25, "double": 6.75}
"""Widths of one and of both columns, in inches."""
DPI = 300
_SETTINGS: Any = {  # matplotlib's types list every setting
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 8,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.labelpad": 3,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.1,
    "image.cmap": "cividis",
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    # TrueType fonts are embedded in PDFs, as publishers ask; in SVGs, text becomes outlines, the same in any viewer.
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "open_prune",
    "savefig.dpi": DPI,
}
_GREY, _ORANGE, _BLUE, _SKY = "#666666", "#E69F00", "#0072B2", "#56B4E9"
_GREEN, _INDIGO, _VERMILLION, _PURPLE = "#009E73", "#332288", "#D55E00", "#CC79A7"
_OWN_COLORS = ("#6C2400", "#0000FC", "#90C06C", "#546CFC", "#243054")
"""Brown, pure blue, leaf green, periwinkle and navy: for plug-ins only."""
PALETTE = (_GREY, _ORANGE, _BLUE, _SKY, _GREEN, _INDIGO, _VERMILLION, _PURPLE, *_OWN_COLORS)
_SOLID: Any = "-"
_BROKEN: Any = (0, (4, 1.2))
_DOTTED: Any = (0, (1, 1.1))
DASHES = (_SOLID, _BROKEN, _DOTTED)
_HANDLE, _LETTER = 0.45, 0.058
"""Inches of a legend's entry beside its label, and for each letter of the label."""
_MARKERS = "os^vDd<>P*ph8HX"
_OWN_MARKERS = ("X", "star4", "star3", "h")
"""Markers that no strategy of open_prune has."""
_SHAPES: dict[str, Any] = {"star4": (4, 1, 0), "star3": (3, 1, 0)}
"""Matplotlib's notation for markers without a letter."""
_SIZES = {"X": 4.6, "P": 4.6, "*": 5.2, "star4": 6.0, "star3": 6.0, "D": 3.0, "s": 3.3, "d": 4.0}
"""Sizes in points of markers that look smaller or larger than others of the same size."""
_EDGES = {"markeredgecolor": "white", "markeredgewidth": 0.4}
# By place in the registry of methods. Related methods (GraSP and its absolute form) share a colour.
_METHODS = (
    (_GREY, _SOLID),  # random
    (_ORANGE, _SOLID),  # magnitude
    (_BLUE, _SOLID),  # snip
    (_SKY, _SOLID),  # force
    (_GREEN, _SOLID),  # grasp
    (_GREEN, _BROKEN),  # graspabs
    (_INDIGO, _SOLID),  # taylor
    (_INDIGO, _BROKEN),  # fisher
    (_VERMILLION, _SOLID),  # synflow
    (_VERMILLION, _BROKEN),  # synflowl2
    (_PURPLE, _SOLID),  # phew
)
_OTHERS = tuple(
    (colour, dashes)
    for dashes in DASHES
    for colour in (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, _INDIGO, _GREY)
)


@dataclass(frozen=True)
class Look:
    """The colour, dashes and marker of a line."""

    color: str
    linestyle: Any
    """A matplotlib line style."""
    marker: str

    @property
    def shape(self) -> Any:
        """The marker, for matplotlib."""
        return _SHAPES.get(self.marker, self.marker)

    @property
    def line(self) -> dict[str, Any]:
        """Matplotlib's arguments for a line without markers."""
        return {"color": self.color, "linestyle": self.linestyle}

    @property
    def filled(self) -> dict[str, Any]:
        """Matplotlib's arguments for filled markers."""
        return {"marker": self.shape, "markersize": _SIZES.get(self.marker, 3.8), **_EDGES}

    @property
    def open(self) -> dict[str, Any]:
        """Matplotlib's arguments for open markers."""
        colors = {"markeredgecolor": self.color, "markerfacecolor": "white", "markeredgewidth": 0.8}
        return {"marker": self.shape, "markersize": _SIZES.get(self.marker, 3.8), **colors}


DENSE_LOOK = Look("black", (0, (3, 1.5)), "None")
EXPLAINED = Look("#444444", ":", "o")
"""The look of legend entries that belong to no line."""


@contextmanager
def styled() -> Iterator[None]:
    """Use this style in the block, independent of matplotlib's settings outside."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return the look of each line. No two lines look the same, unless there are more lines than looks.

    strategies: the strategy of each line, which determines its colour, or None if lines show something else.
    """
    found: list[Look] = []
    others = itertools.count()
    own = _own_looks(frozenset(strategy for strategy in strategies if strategy and _is_own(strategy)))
    for strategy in strategies:
        look = own.get(strategy) or _look_of_method(strategy) if strategy else None
        if look is None:
            place = next(others)
            look = Look(*_OTHERS[place % len(_OTHERS)], _MARKERS[place % len(_MARKERS)])
        found.append(_different(look, found))
    return found


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


def key(linestyle: Any, **style: Any) -> Any:
    """Return a handle for the legend that explains a line style or marker, in a neutral colour."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=EXPLAINED.color, linestyle=linestyle, **style)


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


def place_of(strategy: str | None) -> int:
    """Return the place of a strategy among all methods; other texts come last."""
    known = strategy is not None and strategy in METHODS
    return _places().get(METHODS.find(str(strategy)).spelling, len(_places())) if known else len(_places())


@functools.cache
def _places() -> dict[str, int]:
    return {method.spelling: place for place, method in enumerate(METHODS)}


def _look_of_method(strategy: str) -> Look:
    """Return the look of a strategy of open_prune, or of dense networks."""
    if strategy == DENSE:
        return DENSE_LOOK
    place = place_of(strategy)
    return Look(*_METHODS[place], _MARKERS[place])


def _is_own(strategy: str) -> bool:
    """Return whether a strategy is a plug-in's. Drawing its runs does not require loading it."""
    return strategy != DENSE and place_of(strategy) >= len(_METHODS)


@functools.lru_cache(maxsize=64)
def _own_looks(strategies: frozenset[str]) -> dict[str, Look]:
    """Return the looks of plug-ins' strategies, which follow from their names.

    If two names give the same colour, the first in alphabetical order has it, and the other takes the next free one.
    The colours of loaded plug-ins stay reserved in figures that do not show them.
    """
    names = {*strategies, *(method.spelling for method in METHODS if method.plugin and not method.pattern)}
    wishes = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in sorted(names)}
    number = len(_OWN_COLORS)
    first = {wish % number: name for name, wish in reversed(wishes.items())}
    found: dict[str, Look] = {}
    for name in sorted(wishes, key=lambda name: (first[wishes[name] % number] != name, name)):
        place, mark = wishes[name] % number, wishes[name] // number % len(_OWN_MARKERS)
        colors, markers = _OWN_COLORS[place:] + _OWN_COLORS[:place], _OWN_MARKERS[mark:] + _OWN_MARKERS[:mark]
        used = {(each.color, str(each.linestyle)) for each in found.values()}
        marked = {each.marker for each in found.values()}
        choices = [Look(color, dashes, marker) for dashes in DASHES for color in colors for marker in markers]
        fresh = [look for look in choices if look not in found.values()] or choices
        found[name] = min(fresh, key=lambda each: ((each.color, str(each.linestyle)) in used, each.marker in marked))
    return found


def _different(look: Look, taken: Sequence[Look]) -> Look:
    """Return an unused look of the same colour, if there is one."""
    if look not in taken:
        return look
    choices = (replace(look, linestyle=dashes, marker=marker) for marker in _MARKERS for dashes in DASHES)
    used = {(each.color, str(each.linestyle)) for each in taken}
    markers = {each.marker for each in taken}
    fresh = [each for each in choices if each not in taken]
    fresh.sort(key=lambda each: ((each.color, str(each.linestyle)) in used, each.marker in markers))
    return fresh[0] if fresh else look
