"""ToolsSection: the tools that prompt the current object, and undo."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QWidget

from napari_sam2.gui.app.view import Snapshot
from napari_sam2.gui.widgets.elements import (
    make_column,
    make_heading,
    make_muted_label,
    make_row,
    make_tool_button,
)
from napari_sam2.gui.widgets.keys import make_hint


class Tool(StrEnum):
    """What the mouse does on the canvas."""

    POINT = "point"
    BOX = "box"
    PAINT = "paint"
    LASSO = "lasso"


_TOOL_TITLES = {Tool.POINT: "Click", Tool.BOX: "Box", Tool.PAINT: "Paint", Tool.LASSO: "Lasso"}
_ACTIONS = {
    "undo": ("", "Undo the last action"),
    "redo": ("", "Redo the action that was undone"),
    "other": ("Other mask", "Show another mask that the model offers for the last click"),
    "accept": (
        "Accept",
        "Accept this frame of the object: nothing overwrites it. Again to undo that.",
    ),
}
"""The text and tooltip of each action."""
_TOOL_HINTS = {
    Tool.POINT: "Click the object. Ctrl+click or right click to exclude a part. Shift+drag for a "
    "box.",
    Tool.BOX: "Drag a box around the object.",
    Tool.PAINT: "Paint the object. Use the eraser in the layer controls to remove pixels.",
    Tool.LASSO: "Click around the object. Double click to close the outline.",
}


class ToolsSection(QWidget):
    """The tools, and the buttons for undo, redo, other masks and accepting a frame."""

    tool_chosen = Signal(object)
    """The `Tool`."""
    action_requested = Signal(str)
    """"undo", "redo", "other" or "accept"."""

    def __init__(self) -> None:
        super().__init__()
        self.tool_buttons = {
            tool: make_tool_button(
                tool.value,
                make_hint(_TOOL_HINTS[tool], tool.value),
                partial(self.choose_tool, tool),
                text=title,
                checkable=True,
            )
            for tool, title in _TOOL_TITLES.items()
        }
        group = QButtonGroup(self)
        for button in self.tool_buttons.values():
            group.addButton(button)
        self.action_buttons = {
            name: make_tool_button(
                name, make_hint(tip, name), partial(self.action_requested.emit, name), text=text
            )
            for name, (text, tip) in _ACTIONS.items()
        }
        self.hint_label = make_muted_label(_TOOL_HINTS[Tool.POINT])
        self.current_tool = Tool.POINT
        layout = make_column(self)
        layout.addWidget(make_heading("Prompt"))
        layout.addLayout(make_row(*self.tool_buttons.values(), None, spacing=2))
        layout.addWidget(self.hint_label)
        layout.addLayout(make_row(*self.action_buttons.values(), None, spacing=2))
        self.tool_buttons[Tool.POINT].setChecked(True)

    def choose_tool(self, tool: Tool) -> None:
        """Use this tool."""
        self.current_tool = tool
        self.tool_buttons[tool].setChecked(True)
        self.hint_label.setText(_TOOL_HINTS[tool])
        self.tool_chosen.emit(tool)

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable the buttons that have an effect now."""
        shown, offered = snapshot.mask_alternatives
        self.action_buttons["undo"].setEnabled(snapshot.undoable)
        self.action_buttons["redo"].setEnabled(snapshot.redoable)
        self.action_buttons["other"].setEnabled(offered > 1)
        self.action_buttons["other"].setText(
            f"Mask {shown} of {offered}" if offered > 1 else "Other mask"
        )
        self.action_buttons["accept"].setEnabled(
            any(each.track == snapshot.current and each.frame_count for each in snapshot.objects)
        )
