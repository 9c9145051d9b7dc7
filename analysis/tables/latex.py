"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

import re

from analysis.tables.format import TableFormat
from analysis.tables.table import Entry, ResultsTable

_SPECIAL = {
    **{each: rf"\{each}" for each in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # \textquotedbl needs fonts that a plain document does not have.
    '"': "''",
    # LaTeX would read one of these at the beginning of a line as an option of the line break before it.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "—": "---",
}
_TO_ESCAPE = re.compile("|".join(map(re.escape, _SPECIAL)))


def latex(table: ResultsTable) -> str:
    r"""Return the table for a document with `\usepackage{booktabs}`, the best of each column in bold."""
    head = [*map(_escaped, table.head), *map(_escaped, table.columns)]
    rows = [[*map(_escaped, line.keys), *map(_cell, line.entries)] for line in table.lines]
    alignment = "l" * len(table.head) + "r" * len(table.columns)
    notes = [rf"\par\smallskip\footnotesize {_escaped(note)}" for note in table.notes]
    return (
        "\n".join(
            [
                r"% needs \usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(table.caption)}}}",
                rf"\label{{tab:{_label(table)}}}",
                r"\smallskip",
                rf"\begin{{tabular}}{{{alignment}}}",
                r"\toprule",
                *_named_columns(table),
                rf"{' & '.join(head)} \\",
                r"\midrule",
                *(rf"{' & '.join(row)} \\" for row in rows),
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )
        + "\n"
    )


def _named_columns(table: ResultsTable) -> list[str]:
    """Return the heading line above the columns, with a rule below it."""
    first, number = len(table.head), len(table.columns)
    name = rf"\multicolumn{{{number}}}{{c}}{{{_escaped(table.column_key)}}}"
    return [rf"{'& ' * first}{name} \\", rf"\cmidrule(l){{{first + 1}-{first + number}}}"] if number else []


def _cell(entry: Entry) -> str:
    text = _escaped(entry.text)
    return rf"\textbf{{{text}}}" if entry.is_best else text


def _label(table: ResultsTable) -> str:
    r"""Return the table's label for \ref, such as `test-accuracy`."""
    return re.sub("[^A-Za-z0-9]+", "-", str(table.comparison.value)).strip("-")


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda found: _SPECIAL[found[0]], " ".join(text.split()))


LATEX = TableFormat(spelling="latex", summary="for a paper, with booktabs", endings=(".tex",), write=latex)
