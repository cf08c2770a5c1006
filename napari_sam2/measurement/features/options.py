"""Scope: what is measured beyond the fixed columns, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError

SPOT_SIGMA_PX = 1.5
"""Spread of a spot that the microscope cannot resolve, at the sampling people use (two to three pixels per resolution)."""
SPOT_MIN_SNR = 5.0
"""How many times the noise a spot's response is above its surroundings (a false one in some million pixels of noise)."""


@dataclass(frozen=True)
class SpotOptions:
    """Spots inside objects: `sigma_px` is their spread in the plane, `sigma_z` that along z in planes, `min_snr` their least height.

    Raises LabelsError for a spread that is no length.
    """

    sigma_px: float = SPOT_SIGMA_PX
    sigma_z: float = SPOT_SIGMA_PX
    min_snr: float = SPOT_MIN_SNR

    def __post_init__(self) -> None:
        for name in ("sigma_px", "sigma_z", "min_snr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise LabelsError(f"{name} of spots is {value!r}: expected a number above 0")


@dataclass(frozen=True, eq=False)
class MeasurementOptions:
    """What is measured beyond the fixed columns; all of it where nothing else is said.

    Parameters
    ----------
    shape, colocalisation
        Whether shapes, and pairs of channels, are measured.
    spots
        How spots are found; None: they are not looked for, and their columns are empty.
    cytoplasm_px
        Reach of the ring around an object that stands for its cytoplasm, in pixels; None: not
        measured.
    cells
        Label planes of whole cells, (frames, H, W) or a callable by frame; the cytoplasm of an
        object is then the cell that holds most of it, without any object.
    saturation
        Grey value by channel from which on a pixel is saturated; the largest one of the type where
        not given (a 12-bit camera in a 16-bit file: 4095). Floats have none.
    """

    shape: bool = True
    colocalisation: bool = True
    spots: SpotOptions | None = field(default_factory=SpotOptions)
    cytoplasm_px: int | None = 5
    cells: Any = None
    saturation: Mapping[int, float] = field(default_factory=dict)

    def get_saturation_level(self, channel: int, dtype: np.dtype[Any]) -> float | None:
        """The grey value of saturation of a channel; None where nobody knows."""
        if channel in self.saturation:
            return self.saturation[channel]
        return float(np.iinfo(dtype).max) if dtype.kind in "ui" else None
