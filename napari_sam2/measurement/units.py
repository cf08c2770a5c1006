"""Format lengths, times and positions of frames for people."""

from __future__ import annotations

import math

from napari_sam2.core.stack import Video

_TIME_UNITS = ((10 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))


def round_length(largest: float) -> float:
    """The largest number up to `largest` that is 1, 2 or 5 times a power of ten.

    Examples
    --------
    >>> round_length(37.0)
    20.0
    """
    power = 10.0 ** math.floor(math.log10(largest) + 1e-9)
    return max(factor * power for factor in (1, 2, 5) if factor * power <= largest * (1 + 1e-9))


def format_length(length_um: float) -> str:
    """A length in nm, µm or mm.

    Examples
    --------
    >>> format_length(0.5)
    '500 nm'
    """
    if length_um >= 1000.0:
        return f"{length_um / 1000.0:g} mm"
    return f"{length_um:g} µm" if length_um >= 1.0 else f"{length_um * 1000:g} nm"


def format_frame_position(video: Video, frame: int) -> str:
    """The number of a frame, and its z position or time if the spacing is known."""
    if video.times_s:
        return f"frame {frame} · {round(video.times_s[frame], 2):g} s"
    step = get_frame_step(video)
    if step is None:
        return f"frame {frame}"
    size, unit = step
    axis = "z = " if video.along == "z" else ""
    return f"frame {frame} · {axis}{round(frame * size, 2):g} {unit}"


def get_frame_step(video: Video) -> tuple[float, str] | None:
    """The step from one frame to the next and its unit; None if unknown.

    The unit is µm along z, and s, min or h along t, depending on the duration of the video.
    """
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
