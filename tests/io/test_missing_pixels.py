"""Pixels that are NaN or infinite: some are filled and logged, a plane of them is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import IntensityError
from napari_sam2.io.open import open_stack


def _make_image(value: float, places: tuple[slice, ...]) -> np.ndarray:
    image = np.random.default_rng(0).random((3, 16, 20)).astype(np.float32)
    image[places] = value
    return image


@pytest.mark.parametrize(
    ("value", "places"),
    [
        (np.nan, (slice(None), slice(0, 3), slice(0, 20))),
        (np.inf, (slice(1, 2), slice(4, 5), slice(4, 5))),
        (-np.inf, (slice(0, 1), slice(0, 15), slice(0, 20))),
    ],
    ids=["rim", "one", "most"],
)
@pytest.mark.parametrize("ending", ["tif", "npy"])
def test_some_are_filled_and_logged_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    value: float,
    places: tuple[slice, ...],
    ending: str,
) -> None:
    image, path = _make_image(value, places), tmp_path / f"a.{ending}"
    tifffile.imwrite(path, image, photometric="minisblack") if ending == "tif" else np.save(
        path, image
    )
    video = open_stack(path, axes="TYX").as_video()
    for frame in range(3):
        plane, known = video.read_raw_plane(frame), np.isfinite(image[frame])
        np.testing.assert_array_equal(plane[known], image[frame][known])
        assert (plane[~known] == np.median(image[frame][known])).all()
    assert len([each for each in caplog.records if "NaN or infinite" in each.message]) == 1


def test_a_plane_without_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _make_image(np.nan, (slice(1, 2),)))
    with pytest.raises(IntensityError, match="frame 1"):
        open_stack(tmp_path / "a.npy", axes="TYX").as_video()
