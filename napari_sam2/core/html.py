"""HTML for notebooks: a picture, facts and a table, as `_repr_html_` of stacks and runs.

Names come from files and are escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

_MAX_WIDTH_PX = 320  # of the picture, in screen pixels
_MAX_SIDE_PX = 512  # of the picture, because a notebook file keeps every picture


def render_summary(
    title: str,
    picture: np.ndarray | None,
    properties: Mapping[str, str],
    table: Sequence[Sequence[Any]] = (),
) -> str:
    """HTML of a title, a picture, facts beside it, and a table.

    Parameters
    ----------
    picture
        (H, W) or (H, W, 3) uint8, or None.
    properties
        Facts by name.
    table
        Rows; the first one is the head.
    """
    shown = "" if picture is None else f'<div style="flex:0 0 auto">{_render_image(picture)}</div>'
    rows = "".join(
        f"<tr>{_render_cell('th', name, 'left')}{_render_cell('td', value, 'left')}</tr>"
        for name, value in properties.items()
    )
    facts_table = f'<table style="margin:0">{rows}</table>'
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{shown}'
        "<div><b "
        f'style="font-size:110%">{escape(title)}</b>{facts_table}{_render_table(table)}</div></div>'
    )


def subsample_plane(plane: np.ndarray) -> np.ndarray:
    """Every n-th pixel, so that the longest side of (H, W, …) is at most 512."""
    step = -(-max(plane.shape[:2]) // _MAX_SIDE_PX)
    return plane[::step, ::step]


def _render_image(picture: np.ndarray) -> str:
    import imageio.v3 as imageio  # slow to import, and only notebooks need it

    data = base64.b64encode(
        imageio.imwrite("<bytes>", subsample_plane(picture), extension=".png")
    ).decode("ascii")
    height, width = picture.shape[:2]
    shown = round(_MAX_WIDTH_PX * min(1.0, width / height))
    return (
        f'<img alt="" style="width:{shown}px;max-width:none;image-rendering:pixelated" '
        f'src="data:image/png;base64,{data}">'
    )


def _render_table(table: Sequence[Sequence[Any]]) -> str:
    if not table:
        return ""
    head, *rows = (
        "".join(_render_cell("td" if number else "th", value, "right") for value in row)
        for number, row in enumerate(table)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<table style="margin:8px 0 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _render_cell(tag: str, value: Any, align: str) -> str:
    return f'<{tag} style="text-align:{align}">{escape(str(value))}</{tag}>'
