"""Charts over many stacks: counts as a plate, and distributions side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

_LINE_COLOUR = "#33475b"
_FILL_COLOUR = "#c9d4de"
_PLATE_SHAPES = (
    (2, 3),
    (4, 6),
    (8, 12),
    (16, 24),
)  # rows and columns of plates with 6 to 384 wells


def draw_plate(axes: Axes, wells: pd.DataFrame, column: str, title: str) -> tuple[int, int]:
    """Each well of the table `wells` ("B03" in its column `well`) as a square, by the number in `column`; rows and columns drawn."""
    places = [(ord(well[0]) - ord("A"), int(well[1:]) - 1) for well in wells["well"]]
    lowest = max(row for row, _ in places) + 1, max(number for _, number in places) + 1
    shape = next(each for each in _PLATE_SHAPES if each[0] >= lowest[0] and each[1] >= lowest[1])
    grid = np.full(shape, np.nan)
    for place, value in zip(places, wells[column], strict=True):
        grid[place] = value
    shown = axes.imshow(grid, cmap="viridis", aspect="equal")
    if len(places) <= 96:
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for (row, number), value in zip(places, wells[column], strict=True):
            ink = "black" if value > middle else "white"
            axes.text(number, row, f"{value:.3g}", ha="center", va="center", fontsize=6, color=ink)
    axes.figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=8)
    axes.set_xticks(range(shape[1]), [str(number + 1) for number in range(shape[1])], fontsize=7)
    axes.set_yticks(range(shape[0]), [chr(ord("A") + row) for row in range(shape[0])], fontsize=7)
    axes.set_title(title, fontsize=10, loc="left")
    return shape


def draw_groups(
    axes: Axes, values: pd.Series[float], groups: pd.Series[str], title: str
) -> list[str]:
    """How `values` are distributed in each group, boxes side by side with every value a dot where there are few; the groups drawn."""
    names = sorted(groups.unique())
    parts = [values[groups == name].dropna().to_numpy(dtype=np.float64) for name in names]
    boxes = axes.boxplot(
        parts, widths=0.6, showfliers=False, patch_artist=True, medianprops={"color": _LINE_COLOUR}
    )
    for box in boxes["boxes"]:
        box.set(facecolor=_FILL_COLOUR, edgecolor=_LINE_COLOUR)
    random = np.random.default_rng(0)  # dots beside each other, the same in every report
    for place, part in enumerate(parts, start=1):
        if part.size <= 300:
            axes.plot(
                place + random.uniform(-0.2, 0.2, part.size),
                part,
                ".",
                color=_LINE_COLOUR,
                markersize=2,
                alpha=0.5,
            )
    axes.set_xticks(
        range(1, len(names) + 1), names, fontsize=7, rotation=90 if len(names) > 12 else 0
    )
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return names


def draw_stack_counts(axes: Axes, counts: pd.Series[float], groups: pd.Series[str]) -> list[str]:
    """Objects of each stack as a dot, in its group, the mean a bar; the groups drawn."""
    names = sorted(groups.unique())
    axes.bar(
        range(1, len(names) + 1),
        [counts[groups == name].mean() for name in names],
        width=0.6,
        color=_FILL_COLOUR,
        edgecolor=_LINE_COLOUR,
    )
    for place, name in enumerate(names, start=1):
        each = counts[groups == name].to_numpy(dtype=np.float64)
        axes.plot(
            place + np.linspace(-0.15, 0.15, each.size) if each.size > 1 else [place],
            each,
            "o",
            color=_LINE_COLOUR,
            markersize=3,
        )
    axes.set_xticks(
        range(1, len(names) + 1), names, fontsize=7, rotation=90 if len(names) > 12 else 0
    )
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(bottom=0)
    axes.set_title("objects of a stack (dots), and their mean (bars)", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return names
