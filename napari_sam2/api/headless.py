"""Headless: what any run without a window is told, whoever prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from napari_sam2.api.fields import Fields
from napari_sam2.core.stack import Stack
from napari_sam2.io.open import open_stack

INDIFFERENT = {"resume", "device", "well"}
"""Fields that make no other result."""


class Headless(Fields):
    """Where an image is, how it is read and walked, with which model, and where the results go. Unknown fields are errors.

    Parameters
    ----------
    input
        File, folder or glob of the image stack; see `io.open.open_stack`.
    out
        Folder for the results; made where it is not there.
    along, channel, at
        How the stack is walked; see `Stack.as_video`. `at` fixes the other axes, e.g. ``{"t": 3}``.
    axes, spacing, interval
        Take the place of what the file says: letters, µm per pixel (z, y, x or y, x), seconds per frame.
    model, device
        A name from ``napari-sam2 models list`` or a file; "auto", "cpu", "cuda", "mps".
    well
        The well of a plate the stack is from, for the summary of a batch; read from `input` where it says so.
    resume
        Skip what is finished; go on where an interrupted run of the same stopped, if it keeps what it has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Path
    out: Path
    along: Literal["z", "t"] | None = None
    channel: int | None = None
    at: dict[str, int] = Field(default_factory=dict)
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    interval: float | None = None
    model: str = "nano"
    device: str = "auto"
    well: str = ""
    resume: bool = False

    def stack(self) -> Stack:
        """The image."""
        return open_stack(self.input, axes=self.axes, spacing=self.spacing, interval=self.interval)
