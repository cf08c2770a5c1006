"""The look that all charts share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

LINE_COLOUR = "#33475b"
FILL_COLOUR = "#c9d4de"

_TITLE_SIZE = 10
_LABEL_SIZE = 9
_TICK_SIZE = 8
_MAX_HORIZONTAL_NAMES = 12  # longer lists of names are written upwards


def style_axes(axes: Axes, title: str, *, x_label: str = "", y_label: str = "") -> None:
    """Set title and labels, and remove the frame at the top and on the right."""
    axes.set_title(title, fontsize=_TITLE_SIZE, loc="left")
    if x_label:
        axes.set_xlabel(x_label, fontsize=_LABEL_SIZE)
    if y_label:
        axes.set_ylabel(y_label, fontsize=_LABEL_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_TICK_SIZE)


def add_grid(axes: Axes) -> None:
    """Draw a light grid behind the data."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def label_groups(axes: Axes, names: Sequence[str]) -> None:
    """Write the names of groups below the positions 1, 2, …."""
    rotation = 90 if len(names) > _MAX_HORIZONTAL_NAMES else 0
    axes.set_xticks(range(1, len(names) + 1), names, fontsize=7, rotation=rotation)
