"""Charts over many stacks: a plate of wells, and distributions side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from napari_sam2.measurement.report.chart_style import (
    FILL_COLOUR,
    LINE_COLOUR,
    label_groups,
    style_axes,
)

_PLATE_SHAPES = ((2, 3), (4, 6), (8, 12), (16, 24))  # rows and columns, 6 to 384 wells
_MAX_WRITTEN_WELLS = 96  # on larger plates, the numbers would not be readable
_MAX_DOTS = 300  # of a group; more would cover the box


def draw_plate(axes: Axes, wells: pd.DataFrame, column: str, title: str) -> tuple[int, int]:
    """Draw the wells of a plate as squares, coloured by the numbers in `column`.

    Parameters
    ----------
    wells
        The column `well` has names such as "B03".

    Returns
    -------
    tuple[int, int]
        The rows and columns of the smallest plate that contains all wells.
    """
    positions = [(ord(well[0]) - ord("A"), int(well[1:]) - 1) for well in wells["well"]]
    n_rows, n_columns = (max(numbers) + 1 for numbers in zip(*positions, strict=True))
    shape = next(each for each in _PLATE_SHAPES if each[0] >= n_rows and each[1] >= n_columns)
    grid = np.full(shape, np.nan)
    for position, value in zip(positions, wells[column], strict=True):
        grid[position] = value
    image = axes.imshow(grid, cmap="viridis", aspect="equal")
    if len(positions) <= _MAX_WRITTEN_WELLS:
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for (row, number), value in zip(positions, wells[column], strict=True):
            colour = "black" if value > middle else "white"
            axes.text(
                number, row, f"{value:.3g}", ha="center", va="center", fontsize=6, color=colour
            )
    axes.figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=8)
    axes.set_xticks(range(shape[1]), [str(number + 1) for number in range(shape[1])], fontsize=7)
    axes.set_yticks(range(shape[0]), [chr(ord("A") + row) for row in range(shape[0])], fontsize=7)
    axes.set_title(title, fontsize=10, loc="left")
    return shape


def draw_groups(
    axes: Axes, values: pd.Series[float], groups: pd.Series[str], title: str
) -> list[str]:
    """Draw a box plot of `values` for each group, with the values as dots if they are few.

    Returns the names of the groups, in the order drawn.
    """
    names = sorted(groups.unique())
    parts = [values[groups == name].dropna().to_numpy(dtype=np.float64) for name in names]
    boxes = axes.boxplot(
        parts, widths=0.6, showfliers=False, patch_artist=True, medianprops={"color": LINE_COLOUR}
    )
    for box in boxes["boxes"]:
        box.set(facecolor=FILL_COLOUR, edgecolor=LINE_COLOUR)
    random = np.random.default_rng(0)  # the same scatter of dots in every report
    for number, part in enumerate(parts, start=1):
        if part.size <= _MAX_DOTS:
            x = number + random.uniform(-0.2, 0.2, part.size)
            axes.plot(x, part, ".", color=LINE_COLOUR, markersize=2, alpha=0.5)
    style_axes(axes, title)
    label_groups(axes, names)
    return names


def draw_stack_counts(axes: Axes, counts: pd.Series[float], groups: pd.Series[str]) -> list[str]:
    """Draw the objects of each stack as a dot in its group, and the mean of the group as a bar.

    Returns the names of the groups, in the order drawn.
    """
    names = sorted(groups.unique())
    parts = [counts[groups == name].to_numpy(dtype=np.float64) for name in names]
    axes.bar(
        range(1, len(names) + 1),
        [part.mean() for part in parts],
        width=0.6,
        color=FILL_COLOUR,
        edgecolor=LINE_COLOUR,
    )
    for number, part in enumerate(parts, start=1):
        x = number + np.linspace(-0.15, 0.15, part.size) if part.size > 1 else [number]
        axes.plot(x, part, "o", color=LINE_COLOUR, markersize=3)
    axes.set_ylim(bottom=0)
    style_axes(axes, "objects of a stack (dots), and their mean (bars)")
    label_groups(axes, names)
    return names
