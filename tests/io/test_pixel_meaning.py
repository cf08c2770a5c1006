"""Depth, colours, polarity, palettes and frames of picture files and of TIFF."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.io.open import open_stack

_RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
_RED = np.full((32, 32, 3), (200, 30, 30), np.uint8)


def write_deep_png(path: Path, pixels: np.ndarray, colour_type: int) -> Path:
    """Write (H, W, samples) uint16 pixels, because Pillow writes no deep colours."""

    def make_chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks))
    return path


@pytest.mark.parametrize(
    ("samples", "colour_type", "axes"),
    [(1, 0, "yx"), (3, 2, "cyx"), (2, 4, "yx"), (4, 6, "cyx")],
    ids=["grey", "rgb", "grey with alpha", "rgb with alpha"],
)
def test_png_of_16_bits_keeps_them(
    samples: int, colour_type: int, axes: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (9, 7, samples)).astype(np.uint16)
    stack = open_stack(write_deep_png(tmp_path / "a.png", pixels, colour_type))
    expected = pixels[..., 0] if axes == "yx" else np.moveaxis(pixels[..., :3], -1, 0)
    assert (stack.axes, stack.data.dtype) == (axes, np.uint16)
    np.testing.assert_array_equal(np.asarray(stack.data), expected)


def test_folder_of_deep_colour_pngs_keeps_16_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (2, 9, 7, 3)).astype(np.uint16)
    for number, plane in enumerate(pixels):
        write_deep_png(tmp_path / f"t{number}.png", plane, 2)
    stack = open_stack(tmp_path, axes="TYX")
    np.testing.assert_array_equal(np.asarray(stack.data), np.moveaxis(pixels, -1, 1))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("colour", [(200, 30, 30), (10, 180, 90), (250, 250, 250)])
def test_cmyk_becomes_rgb(suffix: str, colour: tuple[int, int, int], tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((32, 32, 3), colour, np.uint8)).convert("CMYK")
    picture.save(tmp_path / f"a{suffix}", quality=100)
    stack = open_stack(tmp_path / f"a{suffix}")
    assert (stack.axes, stack.rgb) == ("cyx", True)
    assert np.abs(stack.data[:, 16, 16].compute().astype(int) - colour).max() <= 5


def test_planar_cmyk_of_16_bits_becomes_rgb(tmp_path: Path) -> None:
    inks = np.zeros((4, 20, 30), np.uint16)
    inks[1], inks[3] = 65_535, 32_768
    tifffile.imwrite(
        tmp_path / "a.tif", inks, photometric="separated", planarconfig="separate", metadata=None
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.data[:, 3, 3].compute().tolist() == [32_767, 0, 32_767]
    assert "CMYK" in stack.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
def test_palette_of_a_picture_becomes_colours_or_grey(suffix: str, tmp_path: Path) -> None:
    indices = _RAMP % 3
    picture = Image.fromarray(indices, mode="L").convert("P")
    colours = np.array([[255, 0, 0], [0, 9, 0], [7, 7, 7]], np.uint8)
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / f"a{suffix}")
    stack = open_stack(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(stack.data), 0, -1), colours[indices])
    picture.putpalette([0, 0, 0, 100, 100, 100, 30, 30, 30])
    picture.save(tmp_path / f"b{suffix}")
    grey = open_stack(tmp_path / f"b{suffix}")
    assert grey.axes == "yx"
    np.testing.assert_array_equal(np.asarray(grey.data), np.array([0, 100, 30])[indices])


@pytest.mark.parametrize("kind", ["colours", "grey", "ramp", "imagej"])
def test_palette_of_a_tiff_is_applied_unless_it_is_a_lookup_table(
    kind: str, tmp_path: Path
) -> None:
    palette = np.random.default_rng(0).integers(0, 65_536, (3, 256)).astype(np.uint16)
    if kind == "grey":
        palette[1:] = palette[0]
    if kind == "ramp":
        palette = np.zeros((3, 256), np.uint16)
        palette[1] = np.arange(256) * 257
    description = "ImageJ=1.53t\nimages=1\n" if kind == "imagej" else None
    tifffile.imwrite(
        tmp_path / "a.tif",
        _RAMP,
        photometric="palette",
        colormap=palette,
        description=description,
        metadata=None,
    )
    stack = open_stack(tmp_path / "a.tif")
    colours = (palette.T >> 8)[_RAMP]
    expected = {"colours": np.moveaxis(colours, -1, 0), "grey": colours[..., 0]}
    np.testing.assert_array_equal(np.asarray(stack.data), expected.get(kind, _RAMP))
    assert stack.rgb == (kind == "colours")
    assert bool(stack.notes) == (kind in ("ramp", "imagej"))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero_is_inverted(dtype: Any, compression: str | None, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (3, 24, 32)).astype(dtype) * dtype(1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels.astype(dtype),
        photometric="miniswhite",
        compression=compression,
        metadata={"axes": "TYX"},
    )
    stack = open_stack(tmp_path / "a.tif")
    if dtype is np.float32:
        expected = pixels
    elif dtype is np.int16:
        expected = -1 - pixels
    else:
        expected = (1 if dtype is bool else np.iinfo(dtype).max) - pixels.astype(dtype)
    np.testing.assert_array_equal(np.asarray(stack.data).astype(expected.dtype), expected)
    assert len(stack.notes) == 1 and "zero" in stack.notes[0]


def test_fourth_sample_that_is_not_alpha_is_a_channel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 4)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"], metadata=None
    )
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.rgb, stack.sizes["c"]) == (False, 4)
    np.testing.assert_array_equal(np.asarray(stack.data), np.moveaxis(pixels, -1, 0))
    assert "alpha" in stack.notes[0]


@pytest.mark.parametrize("photometric", ["cielab", "icclab", "ycbcr"])
def test_other_colour_spaces_are_refused(photometric: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _RED, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        tag: Any = file.pages[0].tags["PhotometricInterpretation"]  # type: ignore[union-attr]
        tag.overwrite(int(tifffile.PHOTOMETRIC[photometric.upper()]))
    with pytest.raises(FileError, match=r"expected grey or RGB"):
        open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "options", "interval_s", "times_s"),
    [
        ("a.png", {"duration": 50}, 0.05, ()),
        ("a.gif", {"duration": 200}, 0.2, ()),
        ("a.webp", {"duration": 70, "lossless": True}, 0.07, ()),
        ("a.apng", {"format": "PNG", "duration": [100, 500, 300, 100]}, None, (0, 0.1, 0.6, 0.9)),
        ("b.gif", {"duration": [100, 500, 300, 100]}, None, (0, 0.1, 0.6, 0.9)),
        ("c.png", {}, None, ()),
    ],
)
def test_animated_pictures_are_frames(
    name: str,
    options: dict[str, Any],
    interval_s: float | None,
    times_s: tuple[float, ...],
    tmp_path: Path,
) -> None:
    planes = np.stack([np.roll(_RAMP, number, axis=0) for number in range(4)])
    first, *others = [Image.fromarray(plane) for plane in planes]
    first.save(tmp_path / name, save_all=True, append_images=others, **options)
    stack = open_stack(tmp_path / name)
    assert (stack.axes, stack.data.dtype) == ("tyx", np.uint8)
    np.testing.assert_array_equal(np.asarray(stack.data), planes)
    np.testing.assert_array_equal(stack.read_plane({"t": 1}), planes[1])
    assert stack.spacing.t_s == (None if interval_s is None else pytest.approx(interval_s))
    assert stack.times_s == pytest.approx(times_s)


def test_animated_colours_are_frames_of_three_channels(tmp_path: Path) -> None:
    planes = [np.zeros((16, 16, 3), np.uint8), _RED[:16, :16]]
    first, second = [Image.fromarray(plane) for plane in planes]
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    stack = open_stack(tmp_path / "a.png")
    assert (stack.axes, stack.rgb) == ("tcyx", True)
    np.testing.assert_array_equal(np.asarray(stack.data), np.moveaxis(np.stack(planes), -1, 1))


def _write_positions(path: Path, count: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 3, 24, 32)).astype(np.uint8)
    with tifffile.TiffWriter(path) as file:
        for number, position in enumerate(pixels):
            size = {f"PhysicalSize{axis}": 0.5 + number for axis in "XY"}
            metadata = {"axes": "TYX", "Name": f"Pos{number}", **size}
            file.write(position, photometric="minisblack", metadata=metadata)
    return pixels


@pytest.mark.parametrize("count", [2, 3])
def test_series_chooses_a_position(count: int, tmp_path: Path) -> None:
    pixels = _write_positions(tmp_path / "a.ome.tif", count)
    with pytest.raises(FileError, match=rf"contains {count} images .*--series N"):
        open_stack(tmp_path / "a.ome.tif")
    for number in range(count):
        stack = open_stack(tmp_path / "a.ome.tif", series=number)
        assert stack.spacing.x_um == 0.5 + number
        np.testing.assert_array_equal(np.asarray(stack.data), pixels[number])
    with pytest.raises(AxesError, match=rf"series {count}"):
        open_stack(tmp_path / "a.ome.tif", series=count)


@pytest.mark.parametrize("kind", ["svs", "reduced", "tiled"])
def test_pyramid_beside_other_images_opens_at_any_level(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (512, 640, 3)).astype(np.uint8)
    path = tmp_path / ("a.svs" if kind == "svs" else "a.tif")
    named = kind == "svs"

    def describe(text: str) -> dict[str, Any]:
        return {"metadata": None, "description": f"Aperio {text}" if named else None}

    reduced: dict[str, Any] = {"subfiletype": 1} if kind == "reduced" else {}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb", tile=(64, 64), **describe("Image\n640x512"))
        file.write(pixels[:100, :90], photometric="rgb", **describe("Image\nthumbnail"))
        for step in (2, 4):
            level = np.ascontiguousarray(pixels[::step, ::step])
            file.write(level, photometric="rgb", tile=(64, 64), **reduced, **describe("level"))
    stack = open_stack(path)
    assert stack.sizes == {"c": 3, "y": 512, "x": 640}
    assert "choose with --series, --level" in stack.notes[0]
    low = open_stack(path, level=2)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(low.data), 0, -1), pixels[::4, ::4])
    assert open_stack(path, series=1).sizes == {"c": 3, "y": 100, "x": 90}
    with pytest.raises(AxesError, match="level 3"):
        open_stack(path, level=3)
