"""Lineage trees: a line for each track along the frames, connected to its daughters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from napari_sam2.measurement.report.outlines import get_track_colour

_MAX_NUMBERED_TRACKS = 120  # the numbers of more tracks would cover each other
_BRANCH_COLOUR = "#99a3ad"
_LAST_FRAME_WIDTH = 0.6  # how far a line continues after its last frame


def draw_lineage(axes: Axes, tracks: pd.DataFrame, *, families_only: bool = False) -> int:
    """Draw the tracks of the table of tracks, each parent between its daughters.

    With `families_only`, tracks without parent and daughters are omitted. Returns the number of
    tracks drawn.
    """
    spans = {
        int(track): (int(first), int(last))
        for track, first, last in tracks[["track", "first_frame", "last_frame"]].to_numpy()
    }
    children = _group_by_parent(tracks)
    roots = [int(track) for track in tracks.loc[tracks["parent"].isna(), "track"]]
    order: list[int] = []
    for root in roots:
        if children[root] or not families_only:
            order += _order_lineage(root, children)
    rows = {track: row for row, track in enumerate(order)}
    for track in order:
        _draw_track(axes, track, children[track], rows, spans)
        if len(order) <= _MAX_NUMBERED_TRACKS:
            axes.text(spans[track][0], rows[track] - 0.1, str(track), fontsize=6, va="bottom")
    axes.set_xlabel("frame", fontsize=9)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.invert_yaxis()
    return len(order)


def _draw_track(
    axes: Axes,
    track: int,
    daughters: Sequence[int],
    rows: Mapping[int, int],
    spans: Mapping[int, tuple[int, int]],
) -> None:
    """Draw the line of a track, and the branches to its daughters."""
    first, end = spans[track][0], spans[track][1] + _LAST_FRAME_WIDTH
    axes.plot(
        [first, end],
        [rows[track]] * 2,
        color=get_track_colour(track),
        linewidth=2,
        solid_capstyle="butt",
    )
    for daughter in daughters:
        row = rows[daughter]
        axes.plot([end, end], [rows[track], row], color=_BRANCH_COLOUR, linewidth=1)
        axes.plot([end, spans[daughter][0]], [row, row], color=_BRANCH_COLOUR, linewidth=1)


def _group_by_parent(tracks: pd.DataFrame) -> dict[int, list[int]]:
    """The daughters of each parent; an empty list for other tracks."""
    children: dict[int, list[int]] = defaultdict(list)
    for track, parent in tracks.set_index("track")["parent"].dropna().items():
        children[int(parent)].append(int(str(track)))
    return children


def _order_lineage(root: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    """The tracks of a lineage from top to bottom, so that no lines cross.

    The first half of the daughters is above their parent, the other half below.
    """
    order = []
    pending = [(root, False)]
    while pending:  # not recursive, because a lineage may be deeper than Python's recursion limit
        track, is_expanded = pending.pop()
        if is_expanded or not children[track]:
            order.append(track)
            continue
        daughters = sorted(children[track])
        half = len(daughters) // 2
        pending += [(daughter, False) for daughter in reversed(daughters[half:])]
        pending.append((track, True))
        pending += [(daughter, False) for daughter in reversed(daughters[:half])]
    return order
