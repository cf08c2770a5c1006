"""What a file says about the meaning of its pixels, gathered from all its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.calibration.imagej import ValueFunction


@dataclass(frozen=True)
class Calibration:
    """The calibration of one image.

    Parameters
    ----------
    spacing, channels
        Pixel sizes and interval, and the names of the channels.
    times_s
        Time of each frame in s; empty if unknown.
    bits
        How many bits of a pixel the detector uses; None if not stated.
    function
        From stored to calibrated values; None if the stored values are those of the image.
    notes
        What was decided or is doubted, one sentence each, without the name of the file.
    """

    spacing: Spacing = field(default_factory=Spacing)
    channels: tuple[str, ...] = ()
    times_s: tuple[float, ...] = ()
    bits: int | None = None
    function: ValueFunction | None = None
    notes: tuple[str, ...] = ()
