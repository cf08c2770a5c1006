"""Options: which columns are measured beyond the fixed ones, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.errors import MeasurementError

SPOT_SIGMA_PX = 1.5
"""Spread of an unresolved spot at the usual sampling, two to three pixels per resolution."""

_MAX_SIGMA = 100
_MAX_CYTOPLASM_PX = 1000
SPOT_MIN_SNR = 5.0
"""Response of a spot in units of the noise: one false spot in some million pixels of noise."""


@dataclass(frozen=True)
class SpotOptions:
    """How spots inside objects are detected.

    Parameters
    ----------
    sigma_px
        Spread of a spot in the plane, in pixels.
    sigma_z
        Spread of a spot along z, in planes.
    min_snr
        Smallest response of a spot, in units of the noise.

    Raises
    ------
    MeasurementError
        If a value is not a number above 0.
    """

    sigma_px: float = SPOT_SIGMA_PX
    sigma_z: float = SPOT_SIGMA_PX
    min_snr: float = SPOT_MIN_SNR

    def __post_init__(self) -> None:
        for name in ("sigma_px", "sigma_z", "min_snr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise MeasurementError(f"{name} of spots is {value!r}: expected a number above 0")
        for name in ("sigma_px", "sigma_z"):
            if getattr(self, name) > _MAX_SIGMA:
                raise MeasurementError(
                    f"{name} of spots is {getattr(self, name):g}: expected at most {_MAX_SIGMA}, "
                    "the spread of a single spot"
                )


@dataclass(frozen=True, eq=False)
class MeasurementOptions:
    """What is measured beyond the fixed columns; by default everything.

    Columns that are not measured are empty.

    Parameters
    ----------
    shape, colocalisation
        Whether to measure shapes, and pairs of channels.
    spots
        How to detect spots; None: not measured.
    cytoplasm_px
        Reach in pixels of the ring around a nucleus that represents its cytoplasm; None: not
        measured.
    cells
        Label planes of whole cells, (frames, H, W) or a callable by frame; the cytoplasm of a
        nucleus is then the cell that contains most of it.
    saturation
        Smallest saturated grey value by channel, such as 4095 for a 12-bit camera. Default: the
        largest value that the detector can record, by the metadata, else that of the type; floats
        have none.
    """

    shape: bool = True
    colocalisation: bool = True
    spots: SpotOptions | None = field(default_factory=SpotOptions)
    cytoplasm_px: int | None = 5
    cells: Any = None
    saturation: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cytoplasm_px is not None and self.cytoplasm_px > _MAX_CYTOPLASM_PX:
            raise MeasurementError(
                f"cytoplasm_px is {self.cytoplasm_px!r}: expected at most {_MAX_CYTOPLASM_PX}, the "
                "reach of a ring around a nucleus"
            )

    def get_saturation_level(
        self, channel: int, dtype: np.dtype[Any], max_value: float | None = None
    ) -> float | None:
        """The smallest saturated grey value of a channel; None if unknown.

        `max_value` is that of the Stack.
        """
        if channel in self.saturation:
            return self.saturation[channel]
        if max_value is not None:
            return None if math.isnan(max_value) else max_value
        return float(np.iinfo(dtype).max) if dtype.kind in "ui" else None
