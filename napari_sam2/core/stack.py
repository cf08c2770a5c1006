"""Stack: pixels with named axes and real units. Read lazily, never written to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2.core.errors import AxesError, SpacingError

if TYPE_CHECKING:
    from napari_sam2.core.video import Video

AXES = "tczyx"
"""The axes a Stack may have, in the order they are kept in (OME's TCZYX)."""

_FINGERPRINT_PIXELS = 4096  # enough to tell two stacks apart, few enough to read from a slow disk


@dataclass(frozen=True)
class Spacing:
    """Distance between neighbouring samples: µm for z, y, x; seconds for t.

    None where nobody knows.
    """

    z_um: float | None = None
    y_um: float | None = None
    x_um: float | None = None
    t_s: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SpacingError(
                    f"{each.name} is {value!r}: expected a number above 0, or nothing where it "
                    "is not known"
                )

    @property
    def pixel_um2(self) -> float | None:
        """Area of one pixel in µm², None where the spacing is not known."""
        return None if self.y_um is None or self.x_um is None else self.y_um * self.x_um

    @property
    def voxel_um3(self) -> float | None:
        """Volume of one voxel in µm³, None where the spacing is not known."""
        return None if self.pixel_um2 is None or self.z_um is None else self.pixel_um2 * self.z_um


@dataclass(frozen=True, eq=False)
class Stack:
    """Pixels with named axes and spacing.

    Parameters
    ----------
    data
        Anything with ``shape``, ``dtype`` and NumPy indexing (numpy, dask, zarr). Never written to,
        never read whole.
    axes
        One letter per dimension, a subset of ``tczyx`` in that order, ending in ``yx``.
    spacing
        µm and seconds, see `Spacing`.
    channels
        Names of the channels, as many as the c axis is long; made up ("c0", …) where not given.
    rgb
        True where the three channels are the red, green and blue of one colour image.
    name, source
        What it is called, and the file or folder it came from ("" for arrays).

    Raises
    ------
    AxesError
        Axes that do not fit `data`, or are none of the above.
    """

    data: Any
    axes: str
    spacing: Spacing = field(default_factory=Spacing)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = "stack"
    source: str = ""

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.shape)
        if np.dtype(self.data.dtype).kind not in "buif":
            raise AxesError(
                f"pixels of type {self.data.dtype} cannot be segmented: expected integers or floats"
            )
        count = self.sizes.get("c", 1)
        names = self.channels or tuple(f"c{number}" for number in range(count))
        if len(names) != count:
            raise AxesError(
                f"{len(names)} channel names {names!r} for {count} channels: give one for each"
            )
        object.__setattr__(self, "channels", names)

    @property
    def sizes(self) -> dict[str, int]:
        """Length by axis, in order."""
        return dict(zip(self.axes, (int(n) for n in self.data.shape), strict=True))

    @property
    def identity(self) -> str:
        """A hash that changes when the pixels do: of shape, type and a grid of some thousand pixels, never of all."""
        step = tuple(
            max(1, n // 8) if axis not in "yx" else max(1, n // 32)
            for axis, n in self.sizes.items()
        )
        sample = np.asarray(self.data[tuple(slice(None, None, s) for s in step)])
        sample = sample.ravel()[:: max(1, sample.size // _FINGERPRINT_PIXELS)]
        native = sample.dtype.newbyteorder(
            "="
        )  # the same numbers in another byte order are the same pixels
        head = f"{self.source}|{self.axes}|{self.data.shape}|{native}".encode()
        return hashlib.sha256(head + sample.astype(native).tobytes()).hexdigest()

    def read_plane(self, at: Mapping[str, int]) -> np.ndarray:
        """The raw (H, W) plane at these indices; every axis but y and x must be named, e.g.

        ``{"t": 3, "c": 0}``.
        """
        if set(at) != set(self.axes[:-2]):
            raise AxesError(
                f"a plane of axes {self.axes!r} needs an index for each of {self.axes[:-2]!r}, "
                f"got {dict(at)!r}"
            )
        return np.asarray(self.data[tuple(at[axis] for axis in self.axes[:-2])])

    def as_video(
        self,
        along: str | None = None,
        *,
        channel: int | None = None,
        contrast: tuple[float, float] | None = None,
        **at: int,
    ) -> Video:
        """This stack walked along one axis; see `Video`.

        `along` may be left out where only one of z and t is there.

        `contrast`: the intensities shown as 0 and 1; from the 0.1 to the 99.9 percentile where not
        given.
        """
        from napari_sam2.core.video import Contrast, Video

        return Video.of(
            self,
            along=along,
            channel=channel,
            contrast=None if contrast is None else Contrast(*contrast),
            at=at,
        )

    def _repr_html_(self) -> str:
        """The middle plane of the first channel, shape, type and spacing: what a notebook shows."""
        from napari_sam2.core.html import render_summary

        shape = " × ".join(f"{axis} {length}" for axis, length in self.sizes.items())
        facts = {
            "shape": f"{shape}, {self.data.dtype}",
            "channels": ", ".join(self.channels),
            "spacing": self._format_spacing(),
        }
        if self.source:
            facts["from"] = self.source
        return render_summary(self.name, self._make_thumbnail(), facts)

    def _make_thumbnail(self) -> np.ndarray | None:
        """(H, W) uint8 of the middle plane; None where it is the same everywhere or no number."""
        from napari_sam2.core.html import subsample_plane

        plane = subsample_plane(
            self.read_plane(
                {
                    axis: 0 if axis == "c" else length // 2
                    for axis, length in list(self.sizes.items())[:-2]
                }
            )
        )
        low, high = np.percentile(plane, [0.1, 99.9]) if np.isfinite(plane).all() else (0.0, 0.0)
        return (
            np.round(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)
            if low < high
            else None
        )

    def _format_spacing(self) -> str:
        known = [
            (axis, getattr(self.spacing, f"{axis}_{'s' if axis == 't' else 'um'}"))
            for axis in self.axes
            if axis != "c"
        ]
        return (
            ", ".join(
                f"{axis} {value:g} {'s' if axis == 't' else 'µm'}" for axis, value in known if value
            )
            or "not known"
        )


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Raise `AxesError` unless `axes` can name the dimensions of `shape`."""
    if len(axes) != len(shape):
        raise AxesError(
            f"axes {axes!r} name {len(axes)} dimensions, the image has {len(shape)}: "
            f"{tuple(shape)!r}"
        )
    in_order = [axis for axis in AXES if axis in axes]
    if list(axes) != in_order or not axes.endswith("yx"):
        raise AxesError(
            f"axes {axes!r}: expected a subset of {AXES!r} in this order, ending in 'yx'"
        )
    if 0 in shape:
        raise AxesError(f"shape {tuple(shape)!r} with axes {axes!r} holds no pixels")
