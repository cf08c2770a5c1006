"""Lengths, times and frame positions as people read them."""

from __future__ import annotations

import math

from napari_sam2.core.stack import Video

_TIME_UNITS = ((10 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))


def round_length(largest: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above `largest`."""
    power = 10.0 ** math.floor(math.log10(largest) + 1e-9)
    return max(factor * power for factor in (1, 2, 5) if factor * power <= largest * (1 + 1e-9))


def format_length(length_um: float) -> str:
    """A length in nm, µm or mm."""
    for above, unit in ((1000.0, "mm"), (1.0, "µm")):
        if length_um >= above:
            return f"{length_um / (1000.0 if unit == 'mm' else 1.0):g} {unit}"
    return f"{length_um * 1000:g} nm"


def format_frame_position(video: Video, frame: int) -> str:
    """Where a frame is: its number, and µm along z or the time along t where these are known."""
    step = get_frame_step(video)
    if step is None:
        return f"frame {frame}"
    size, unit = step
    axis = "z = " if video.along == "z" else ""
    return f"frame {frame} · {axis}{round(frame * size, 2):g} {unit}"


def get_frame_step(video: Video) -> tuple[float, str] | None:
    """From one frame to the next, and its unit: µm along z; s, min or h along t, by the length of the video. None if unknown."""
    if video.along == "z":
        return None if video.spacing.z_um is None else (video.spacing.z_um, "µm")
    interval = video.spacing.t_s
    if interval is None:
        return None
    seconds, unit = next(
        (seconds, unit)
        for above, seconds, unit in _TIME_UNITS
        if interval * (len(video) - 1) >= above
    )
    return interval / seconds, unit
