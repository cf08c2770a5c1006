"""ToolsSection: how the current object is prompted."""

from __future__ import annotations

from enum import StrEnum

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QWidget

from napari_sam2.gui.app.view import Snapshot
from napari_sam2.gui.widgets.elements import column, heading, muted, row, tool
from napari_sam2.gui.widgets.keys import hint

_HINTS = {
    "point": "Click the object. Ctrl+click or right click: what is not the object. Shift+drag: a "
    "box.",
    "box": "Drag a box around the object.",
    "paint": "Paint the object over the image; the eraser of the layer controls takes away.",
    "lasso": "Click around the object; a double click closes the outline.",
}


class Tool(StrEnum):
    """What the mouse does on the canvas."""

    POINT = "point"
    BOX = "box"
    PAINT = "paint"
    LASSO = "lasso"


class ToolsSection(QWidget):
    """`chosen` is emitted with a Tool, `asked` with "undo", "redo", "other" or "accept"."""

    chosen = Signal(object)
    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        titles = {Tool.POINT: "Click", Tool.BOX: "Box", Tool.PAINT: "Paint", Tool.LASSO: "Lasso"}
        self.tools = {
            each: tool(
                each.value,
                hint(_HINTS[each.value], each.value),
                lambda each=each: self.choose(each),  # type: ignore[misc]
                text=title,
                checkable=True,
            )
            for each, title in titles.items()
        }
        group = QButtonGroup(self)
        for button in self.tools.values():
            group.addButton(button)
        self.actions = {
            name: tool(name, hint(tip, name), lambda name=name: self.asked.emit(name), text=text)  # type: ignore[misc]
            for name, tip, text in (
                ("undo", "Take back the last action", ""),
                ("redo", "Do it again", ""),
                ("other", "Another mask that the model offers for the last click", "Other mask"),
                (
                    "accept",
                    "Accept this frame of the object: nothing overwrites it. Again: take that back",
                    "Accept",
                ),
            )
        }
        self.hint = muted(_HINTS["point"])
        self.current = Tool.POINT
        layout = column(self)
        layout.addWidget(heading("Prompt"))
        layout.addLayout(row(*self.tools.values(), None, spacing=2))
        layout.addWidget(self.hint)
        layout.addLayout(row(*self.actions.values(), None, spacing=2))
        self.tools[Tool.POINT].setChecked(True)

    def choose(self, tool: Tool) -> None:
        """Take this tool in hand."""
        self.current = tool
        self.tools[tool].setChecked(True)
        self.hint.setText(_HINTS[tool.value])
        self.chosen.emit(tool)

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable what makes sense now."""
        shown, offered = snapshot.choices
        self.actions["undo"].setEnabled(snapshot.undoable)
        self.actions["redo"].setEnabled(snapshot.redoable)
        self.actions["other"].setEnabled(offered > 1)
        self.actions["other"].setText(f"Mask {shown} of {offered}" if offered > 1 else "Other mask")
        self.actions["accept"].setEnabled(
            any(each.track == snapshot.current and each.frames for each in snapshot.objects)
        )
