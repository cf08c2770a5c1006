"""Lineage trees: every track a line along the frames, its daughters branching off where it divided."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from napari_sam2.measurement.report.outlines import get_track_colour

_MAX_NUMBERED_TRACKS = 120  # tracks from which on numbers would cover each other


def draw_lineage(axes: Axes, tracks: pd.DataFrame, *, families_only: bool = False) -> int:
    """Draw the tracks of the table `tracks`, mothers beside their daughters; how many lines there are.

    `families_only`: those that never divide and have no parent are left out.
    """
    rows = tracks.set_index("track")
    spans = {
        int(a): (int(b), int(c))
        for a, b, c in tracks[["track", "first_frame", "last_frame"]].to_numpy()
    }
    children: dict[int, list[int]] = defaultdict(list)
    for track, parent in rows["parent"].dropna().items():
        children[int(parent)].append(int(str(track)))
    roots = [int(track) for track in tracks.loc[tracks["parent"].isna(), "track"]]
    order: list[int] = []
    for root in roots:
        if children[root] or not families_only:
            _order_lineage(root, children, order)
    place = {track: number for number, track in enumerate(order)}
    for track in order:
        first, last = spans[track]
        axes.plot(
            [first, last + 0.6],
            [place[track]] * 2,
            color=get_track_colour(track),
            linewidth=2,
            solid_capstyle="butt",
        )
        for child in children[track]:
            axes.plot([last + 0.6] * 2, [place[track], place[child]], color="#99a3ad", linewidth=1)
            axes.plot(
                [last + 0.6, spans[child][0]], [place[child]] * 2, color="#99a3ad", linewidth=1
            )
        if len(order) <= _MAX_NUMBERED_TRACKS:
            axes.text(first, place[track] - 0.1, str(track), fontsize=6, va="bottom")
    axes.set_xlabel("frame", fontsize=9)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.invert_yaxis()
    return len(order)


def _order_lineage(track: int, children: dict[int, list[int]], order: list[int]) -> None:
    """First half of the daughters, then the mother, then the others: lines do not cross."""
    pending: list[tuple[int, bool]] = [(track, False)]
    while pending:  # a loop, since a lineage may be deeper than Python recurses
        here, opened = pending.pop()
        if opened or not children[here]:
            order.append(here)
            continue
        kids = sorted(children[here])
        half = len(kids) // 2
        pending += [(kid, False) for kid in reversed(kids[half:])]
        pending.append((here, True))
        pending += [(kid, False) for kid in reversed(kids[:half])]
