"""HTML pages of one file: headings, tables and embedded figures. All texts are escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DPI = 110
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c }
body { max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px }
td, th { padding: .25em .7em; border-bottom: 1px solid #dde3e8; text-align: right }
td:first-child, th:first-child { text-align: left } img { max-width: 100% } .note { color: #5b6b79 }
"""


def render_page(title: str, note: str, parts: Sequence[str]) -> str:
    """A whole page: a title, a note below it, and parts of HTML."""
    title = escape_html(title)
    head = f"<head><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style></head>"
    body = "\n".join([f"<h1>{title}</h1>", render_note(note), *parts])
    return f"<!doctype html>\n<html lang=en>{head}\n<body>\n{body}\n</body></html>\n"


def render_section(title: str, content: str) -> str:
    """A part of a page: a heading and HTML below it."""
    return f"<h2>{escape_html(title)}</h2>\n{content}"


def render_note(text: str) -> str:
    """A paragraph in small grey print."""
    return f"<p class=note>{escape_html(text)}</p>"


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    lines = ["<tr>" + "".join(f"<th>{escape_html(cell)}</th>" for cell in header) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def render_dataframe(dataframe: pd.DataFrame) -> str:
    """A table of a data frame: floats with four digits, missing values as empty cells."""
    return render_table(
        [str(name) for name in dataframe.columns],
        [[_format_cell(value) for value in row] for row in dataframe.to_numpy(dtype=object)],
    )


def render_figure(draw: Callable[[Axes], object], *, height: float = 2.8) -> str:
    """An embedded figure, 8.5 in wide and `height` in high; `draw` is called with its Axes."""
    figure = Figure(figsize=(8.5, height), dpi=_DPI, facecolor="white", layout="constrained")
    draw(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{encoded}">'


def escape_html(value: Any) -> str:
    """The value as a text that HTML shows as it is."""
    return html.escape(str(value))


def _format_cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
