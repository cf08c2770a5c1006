"""Stacks and videos: axes, units, contrast."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, IntensityError, SpacingError
from napari_sam2.core.stack import Spacing, Stack, Video

_RNG = np.random.default_rng(0)


def _make_stack(axes: str, shape: tuple[int, ...], **kwargs: object) -> Stack:
    return Stack(_RNG.integers(0, 4096, shape, dtype=np.uint16), axes, **kwargs)


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("tyx", (4, 5), "name 3 dimensions, the image has 2"),
        ("zty", (2, 3, 4), "ending in 'yx'"),
        ("xy", (3, 4), "in this order"),
        ("ztyx", (2, 3, 4, 5), "in this order"),
        ("ttyx", (2, 3, 4, 5), "in this order"),
        ("syx", (2, 3, 4), "a subset of 'tczyx'"),
        ("tyx", (0, 3, 4), "holds no pixels"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(AxesError, match=message):
        _make_stack(axes, shape)


@pytest.mark.parametrize("dtype", [complex, "U3", object], ids=str)
def test_pixels_that_are_not_numbers_are_refused(dtype: object) -> None:
    with pytest.raises(AxesError, match="expected integers or floats"):
        Stack(np.zeros((4, 4), dtype=dtype), "yx")


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_invalid_spacing_is_refused(value: float) -> None:
    with pytest.raises(SpacingError, match="x_um"):
        Spacing(x_um=value)


def test_areas_and_volumes_need_every_spacing() -> None:
    assert Spacing(y_um=0.5, x_um=0.25).pixel_um2 == 0.125
    assert Spacing(y_um=0.5).pixel_um2 is None
    assert Spacing(z_um=2, y_um=0.5, x_um=0.25).voxel_um3 == 0.25
    assert Spacing(y_um=0.5, x_um=0.25).voxel_um3 is None


def test_channel_names_must_fit() -> None:
    assert _make_stack("cyx", (2, 4, 4)).channels == ("c0", "c1")
    with pytest.raises(AxesError, match="3 channel names"):
        _make_stack("cyx", (2, 4, 4), channels=("a", "b", "c"))


@pytest.mark.parametrize(
    ("axes", "shape", "along", "chosen", "length"),
    [
        ("tyx", (5, 8, 9), None, "t", 5),
        ("zyx", (5, 8, 9), None, "z", 5),
        ("tzyx", (1, 5, 8, 9), None, "z", 5),
        ("tczyx", (3, 2, 5, 8, 9), "t", "t", 3),
        ("tczyx", (3, 2, 5, 8, 9), "z", "z", 5),
        ("yx", (8, 9), None, "t", 1),
        ("cyx", (2, 8, 9), None, "t", 1),
    ],
)
def test_video_frames_are_along_one_axis(
    axes: str, shape: tuple[int, ...], along: str | None, chosen: str, length: int
) -> None:
    video = _make_stack(axes, shape).as_video(along)
    assert (video.along, len(video), video.shape) == (chosen, length, (length, 8, 9))


@pytest.mark.parametrize(
    ("along", "options", "message"),
    [
        (None, {}, "choose the axis of the frames"),
        ("x", {}, "no frames along 'x'"),
        ("z", {"channel": 2}, "the image has 2"),
        ("z", {"channel": -1}, "counted from 0"),
        ("z", {"t": 3}, "t=3: expected 0 to 2"),
        ("z", {"z": 1}, r"index for \['z'\]"),
    ],
    ids=["both", "axis", "channel", "negative", "index", "frame axis"],
)
def test_missing_axis_channel_or_index_is_refused(
    along: str | None, options: dict[str, int], message: str
) -> None:
    with pytest.raises(AxesError, match=message):
        _make_stack("tczyx", (3, 2, 5, 8, 9)).as_video(along, **options)


def test_planes_are_read_at_the_right_indices() -> None:
    stack = _make_stack("tczyx", (3, 2, 5, 8, 9))
    video = stack.as_video("z", channel=1, t=2)
    np.testing.assert_array_equal(video.read_raw_plane(4), stack.data[2, 1, 4])
    np.testing.assert_array_equal(video.read_raw_plane(4, channel=0), stack.data[2, 0, 4])
    assert video.get_axis_indices(4) == {"t": 2, "z": 4}
    with pytest.raises(IndexError, match="frames 0 to 4"):
        video.read_raw_plane(5)


def test_twelve_bit_values_stay_distinct() -> None:
    data = np.zeros((2, 64, 64), dtype=np.uint16)
    data[:, :32] = np.linspace(0, 4095, 64, dtype=np.uint16)
    data[0, 40, 40], data[0, 50, 50] = 3000, 3001
    frame = Stack(data, "tyx").as_video().read_frame(0)
    assert frame.pixels.dtype == np.float32
    assert frame.pixels[50, 50] - frame.pixels[40, 40] == pytest.approx(1 / 4095, rel=0.1)


def test_one_contrast_for_all_frames_keeps_dim_frames_dim() -> None:
    data = np.stack([np.linspace(0, top, 64 * 64).reshape(64, 64) for top in (100, 1000)])
    video = Stack(data, "tyx").as_video()
    assert video.read_frame(0).pixels.max() == pytest.approx(0.1, abs=0.01)
    assert video.read_frame(1).pixels.max() == 1.0


def test_sparse_objects_give_a_contrast() -> None:
    data = np.zeros((1, 100, 100), dtype=np.uint16)
    data[0, 5, 5] = 300
    assert Stack(data, "tyx").as_video().contrast == Contrast(0, 300)


def _make_noisy_stack(discs: dict[int, int], radius: int = 6, hot: int = 0) -> Stack:
    """Noise of 500 ± 10 with discs (number by grey value) and hot pixels of 60,000."""
    rng = np.random.default_rng(0)
    data = rng.normal(500, 10, (3, 512, 512))
    rows, columns = np.indices(data.shape[1:])
    for number, grey in enumerate(grey for grey, count in discs.items() for _ in range(count)):
        y, x = 32 + 64 * (number // 8), 32 + 64 * (number % 8)
        data[:, np.hypot(rows - y, columns - x) <= radius] = grey
    data[:, rng.integers(0, 512, hot), rng.integers(0, 512, hot)] = 60_000
    return Stack(data.astype(np.uint16), "tyx")


@pytest.mark.parametrize(
    ("stack", "low", "high"),
    [
        (_make_noisy_stack({4000: 2}), (465, 475), (4000, 4000)),
        (_make_noisy_stack({100: 2}), (100, 100), (525, 535)),
        (_make_noisy_stack({4000: 1, 100: 1}), (100, 100), (4000, 4000)),
        (_make_noisy_stack({}), (465, 475), (525, 535)),
        (_make_noisy_stack({}, hot=100), (465, 475), (525, 535)),
        (_make_noisy_stack({555: 2}), (465, 475), (525, 560)),
        (_make_noisy_stack({900: 40, 9000: 2}), (465, 475), (900, 900)),
    ],
    ids=[
        "bright",
        "dark",
        "both",
        "none",
        "hot pixels",
        "hardly brighter",
        "two far brighter than many",
    ],
)
def test_contrast_includes_very_sparse_objects(
    stack: Stack, low: tuple[float, float], high: tuple[float, float]
) -> None:
    """Percentiles would show only noise here; hot pixels and one very bright cell do not count."""
    contrast = stack.as_video().contrast
    assert low[0] <= contrast.low <= low[1]
    assert high[0] <= contrast.high <= high[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((3, 8, 8), 7), "the same everywhere"),
        (np.where(np.eye(8) > 0, np.nan, 1.0)[None], "8 pixels are NaN or infinite"),
    ],
    ids=["constant", "nan"],
)
def test_images_without_contrast_are_refused(data: np.ndarray, message: str) -> None:
    with pytest.raises(IntensityError, match=message):
        Stack(data, "tyx").as_video()


def test_colour_image_is_read_as_luminance() -> None:
    stack = Stack(
        _RNG.integers(0, 255, (3, 8, 8), dtype=np.uint8),
        "cyx",
        rgb=True,
        channels=("red", "green", "blue"),
    )
    video = stack.as_video()
    assert video.channel is None
    expected = 0.299 * stack.data[0] + 0.587 * stack.data[1] + 0.114 * stack.data[2]
    np.testing.assert_allclose(video.read_raw_plane(0), expected)
    assert "luminance" in video.description


def test_lazy_stack_is_read_frame_by_frame() -> None:
    read = []

    def block(block_info: dict) -> np.ndarray:  # type: ignore[type-arg]
        number = block_info[None]["chunk-location"][0]
        read.append(number)
        return np.full((1, 16, 16), number, dtype=np.uint16)

    data = da.map_blocks(
        block,
        chunks=((1,) * 500, (16,), (16,)),
        dtype=np.uint16,
        meta=np.empty((0, 0, 0), np.uint16),
    )
    video = Video.of(Stack(data, "tyx"), contrast=Contrast(0, 500))
    read.clear()
    video.read_frame(123)
    assert read == [123]


@pytest.mark.parametrize("change", ["pixel", "dtype", "axes", "source"])
def test_identity_changes_with_the_image(change: str) -> None:
    data = _RNG.integers(0, 99, (4, 16, 16), dtype=np.uint16)
    before = Stack(data.copy(), "tyx", source="a.tif")
    other = data.copy()
    other[0, 0, 0] += change == "pixel"
    after = Stack(
        other.astype(np.int32) if change == "dtype" else other,
        "zyx" if change == "axes" else "tyx",
        source="b.tif" if change == "source" else "a.tif",
    )
    assert before.identity == Stack(data.copy(), "tyx", source="a.tif").identity
    assert before.identity != after.identity


@pytest.mark.parametrize("along", ["z"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((8, 9), "yx"), ((2, 8, 9), "cyx")], ids=["grey", "channels"]
)
def test_axis_of_frames_of_a_single_plane_says_what_to_do(
    shape: tuple[int, ...], axes: str, along: str
) -> None:
    ramp = np.arange(np.prod(shape)).reshape(shape)
    with pytest.raises(AxesError, match=r"single plane.*leave out along \(--along\)"):
        Stack(ramp, axes).as_video(along)


@pytest.mark.parametrize("times", [(0.0,), (0.0, 1.0, 1.0), (0.0, 2.0, 1.0), (0.0, 1.0, np.inf)])
def test_times_that_are_not_those_of_the_frames_raise(times: tuple[float, ...]) -> None:
    with pytest.raises(SpacingError, match="time"):
        Stack(np.zeros((3, 8, 9)), "tyx", times_s=times)
