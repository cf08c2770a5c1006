"""Folders, globs, image files, arrays and zarr stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from yaozarrs import v05
from yaozarrs.write.v05 import write_image

from napari_sam2.core.errors import AxesError, FileError, LabelsError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.readers.folder import get_natural_sort_key

_PIXELS = np.random.default_rng(0).integers(0, 250, (12, 20, 30)).astype(np.uint8)


def test_files_are_sorted_in_natural_order() -> None:
    names = ["t10.tif", "t9.tif", "t1.tif", "T02.tif", "s1_t2.tif", "s1_t10.tif"]
    assert [path.name for path in sorted(map(Path, names), key=get_natural_sort_key)] == [
        "s1_t2.tif",
        "s1_t10.tif",
        "t1.tif",
        "T02.tif",
        "t9.tif",
        "t10.tif",
    ]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
@pytest.mark.parametrize("pattern", ["", "t*{}", "**/t*{}"])
def test_folder_or_glob_is_one_stack(suffix: str, pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "movie"
    folder.mkdir()
    for number, plane in enumerate(_PIXELS):
        tifffile.imwrite(
            folder / f"t{number}{suffix}", plane
        ) if suffix == ".tif" else Image.fromarray(plane).save(folder / f"t{number}{suffix}")
    (folder / "notes.txt").write_text("not an image")
    (folder / f".hidden{suffix}").write_text("not an image")
    path = str(folder / pattern.format(suffix)) if pattern else str(folder)
    with pytest.raises(AxesError, match="--axes ZYX or TYX"):
        open_stack(path)
    stack = open_stack(path, axes="TYX", interval=30)
    assert (stack.axes, stack.source, stack.spacing) == ("tyx", path, Spacing(t_s=30))
    np.testing.assert_array_equal(np.asarray(stack.data), _PIXELS)
    np.testing.assert_array_equal(stack.read_plane({"t": 11}), _PIXELS[11])


def test_folder_of_z_stacks_is_a_time_lapse(tmp_path: Path) -> None:
    for number in range(3):
        tifffile.imwrite(
            tmp_path / f"t{number}.tif",
            _PIXELS[number * 4 : number * 4 + 4],
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )
    with pytest.raises(AxesError, match="--axes TZYX or CZYX"):
        open_stack(tmp_path)
    stack = open_stack(tmp_path, axes="TZYX")
    np.testing.assert_array_equal(np.asarray(stack.data), _PIXELS.reshape(3, 4, 20, 30))
    np.testing.assert_array_equal(stack.read_plane({"t": 2, "z": 1}), _PIXELS[9])


def test_axes_of_colour_images_may_omit_the_samples(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 250, (4, 20, 30, 3)).astype(np.uint8)
    for number, plane in enumerate(colours):
        Image.fromarray(plane).save(tmp_path / f"t{number}.png")
    with pytest.raises(AxesError, match="--axes ZYX or TYX "):
        open_stack(tmp_path)
    for axes in ("TYX", "TYXS"):
        stack = open_stack(tmp_path, axes=axes)
        assert (stack.axes, stack.rgb) == ("tcyx", True)
        np.testing.assert_array_equal(np.asarray(stack.data), np.moveaxis(colours, -1, 1))


@pytest.mark.parametrize(
    ("mode", "axes", "rgb"),
    [
        ("L", "yx", False),
        ("I;16", "yx", False),
        ("RGB", "cyx", True),
        ("RGBA", "cyx", True),
        ("LA", "yx", False),
    ],
)
def test_image_files_of_every_mode(mode: str, axes: str, rgb: bool, tmp_path: Path) -> None:
    plane = (_PIXELS[0].astype(np.uint16) * 200) if mode == "I;16" else _PIXELS[0]
    picture = Image.fromarray(plane) if mode == "I;16" else Image.fromarray(plane).convert(mode)
    picture.save(tmp_path / "a.png")
    stack = open_stack(tmp_path / "a.png")
    assert (stack.axes, stack.rgb, stack.data.dtype) == (axes, rgb, plane.dtype)
    np.testing.assert_array_equal(
        np.asarray(stack.data), plane if axes == "yx" else np.stack([plane] * 3)
    )


def test_real_folders_of_frames_are_read(shared_folder: Path) -> None:
    folder = shared_folder / "data" / "timelapse_mitocheck"
    stack = open_stack(folder, axes="TYX")
    assert stack.sizes == {"t": 30, "y": 190, "x": 211}
    last = sorted(folder.glob("*.tif"))[-1]
    np.testing.assert_array_equal(stack.read_plane({"t": 29}), tifffile.imread(last))


def test_real_photographs_are_colours(shared_folder: Path) -> None:
    stack = open_stack(
        shared_folder / "data" / "counting_bccd" / "JPEGImages" / "BloodImage_00000.jpg"
    )
    assert (stack.rgb, stack.sizes) == (True, {"c": 3, "y": 480, "x": 640})
    assert (
        stack.read_plane({"c": 0}).mean() > stack.read_plane({"c": 1}).mean()
    )  # stained blood is red


@pytest.mark.parametrize(
    "kind", [np.asarray, da.asarray, zarr.array], ids=["numpy", "dask", "zarr"]
)
def test_arrays_open_as_stacks(kind: Any) -> None:
    stack = open_stack(kind(_PIXELS), axes="TYX", name="cells")
    assert (stack.axes, stack.name, stack.source) == ("tyx", "cells", "")
    np.testing.assert_array_equal(np.asarray(stack.data), _PIXELS)
    assert open_stack(kind(_PIXELS[:1])).axes == "yx"
    transposed = open_stack(kind(_PIXELS), axes="XYZ")
    np.testing.assert_array_equal(transposed.read_plane({"z": 5}), _PIXELS[..., 5].T)
    with pytest.raises(AxesError, match="the array of shape .* --axes ZYX or TYX"):
        open_stack(kind(_PIXELS))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 64, 64), 'give --axes ZYX or TYX (in Python axes="ZYX")'),
        ((3, 64, 64), "give --axes ZYX, TYX or CYX"),
        ((64, 64, 3), "give --axes YXS, ZYX or TYX"),
        ((9, 8, 64, 64), "give --axes TZYX or ZTYX"),
        ((2, 2, 2, 2, 8, 8), "more dimensions than TCZYX"),
    ],
)
def test_error_lists_the_possible_axes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(AxesError) as caught:
        open_stack(np.zeros(shape, np.uint8))
    assert message in str(caught.value)


def test_array_of_colours_opens_as_rgb() -> None:
    colours = np.random.default_rng(0).integers(0, 250, (20, 30, 3)).astype(np.uint8)
    stack = open_stack(colours, axes="YXS")
    assert stack.rgb and stack.axes == "cyx"
    assert not open_stack(colours, axes="YXC").rgb


@pytest.mark.parametrize("thing", [3, [[1, 2]], None])
def test_other_objects_raise(thing: object) -> None:
    with pytest.raises(FileError, match="expected a path or an array"):
        open_stack(thing)


def test_npy_file_is_memory_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _PIXELS)
    stack = open_stack(tmp_path / "a.npy", axes="ZYX")
    assert isinstance(stack.data, np.memmap)
    np.testing.assert_array_equal(stack.data, _PIXELS)


def _write_ome_zarr(path: Path, *, scale: float = 1.0) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 250, (2, 3, 4, 16, 20)).astype(np.uint16)
    axes: list[Any] = [
        v05.TimeAxis(name="t", unit="minute"),
        v05.ChannelAxis(name="c"),
        *(v05.SpaceAxis(name=name, unit="nanometer") for name in "zyx"),
    ]
    scales = [[2.0, 1.0, 500.0, 250.0 * n, 250.0 * n] for n in (1, 2)]
    datasets = [
        v05.Dataset(path=str(n), coordinateTransformations=[v05.ScaleTransformation(scale=each)])
        for n, each in enumerate(scales)
    ]
    window = {"min": 0, "max": 9, "start": 0, "end": 9}
    omero: Any = {
        "channels": [{"label": name, "color": "FFFFFF", "window": window} for name in "abc"]
    }
    image = v05.Image(
        multiscales=[v05.Multiscale(axes=axes, datasets=datasets)],
        omero=omero,
    )
    write_image(path, image, [pixels, pixels[..., ::2, ::2]], writer="zarr")
    return pixels


def test_ome_zarr_has_axes_units_levels_and_channel_names(tmp_path: Path) -> None:
    pixels = _write_ome_zarr(tmp_path / "a.ome.zarr")
    stack = open_stack(tmp_path / "a.ome.zarr")
    assert (stack.axes, stack.channels, stack.name, stack.data.dtype) == (
        "tczyx",
        ("a", "b", "c"),
        "a",
        np.uint16,
    )
    assert vars(stack.spacing) == pytest.approx(
        {"z_um": 0.5, "y_um": 0.25, "x_um": 0.25, "t_s": 120}
    )
    np.testing.assert_array_equal(np.asarray(stack.data), pixels)
    low = open_stack(tmp_path / "a.ome.zarr", level=1)
    assert (low.spacing.z_um, low.spacing.x_um) == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(
        low.read_plane({"t": 1, "c": 2, "z": 3}), pixels[1, 2, 3, ::2, ::2]
    )
    with pytest.raises(AxesError, match="level 2.*has the levels 0 .* to 1"):
        open_stack(tmp_path / "a.ome.zarr", level=2)
    inside = open_stack(tmp_path / "a.ome.zarr" / "0")
    assert inside.axes == "tczyx"


@pytest.mark.parametrize("unit", ["micrometer", None])
def test_ome_zarr_0_4_and_axes_without_a_unit(unit: str | None, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("s0", data=_PIXELS, chunks=(4, 10, 10))
    unit_entry = {"unit": unit} if unit else {}
    axes: Any = [{"name": name, "type": "space", **unit_entry} for name in "zyx"]
    datasets: Any = [
        {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [2, 0.5, 0.5]}]}
    ]
    whole: Any = [{"type": "scale", "scale": [1, 2, 2]}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": datasets, "coordinateTransformations": whole}
    ]
    stack = open_stack(tmp_path / "a.zarr")
    assert (stack.axes, stack.data.dtype, stack.spacing) == (
        "zyx",
        np.uint8,
        Spacing(2, 1, 1) if unit else Spacing(),
    )
    np.testing.assert_array_equal(np.asarray(stack.data), _PIXELS)


@pytest.mark.parametrize("version", ["0.1", "0.2", None, "0.3"])
def test_ome_zarr_without_axes_has_those_of_its_version(
    version: str | None, tmp_path: Path
) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", data=_PIXELS.reshape(2, 2, 3, 20, 30), chunks=(1, 1, 1, 20, 30))
    multiscale: Any = {"datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [multiscale | ({"version": version} if version else {})]
    if version == "0.3":
        with pytest.raises(AxesError, match="--axes"):
            open_stack(tmp_path / "a.zarr")
    stack = open_stack(tmp_path / "a.zarr", axes="TCZYX" if version == "0.3" else None)
    assert stack.sizes == {"t": 2, "c": 2, "z": 3, "y": 20, "x": 30}
    np.testing.assert_array_equal(stack.read_plane({"t": 1, "c": 0, "z": 2}), _PIXELS[8])


def test_ome_zarr_of_three_dimensions_without_axes_takes_them_from_the_user(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", data=_PIXELS, chunks=(1, 20, 30))
    datasets: Any = [{"path": "0"}]
    group.attrs["multiscales"] = [{"version": "0.2", "datasets": datasets}]
    with pytest.raises(AxesError, match="--axes ZYX or TYX"):
        open_stack(tmp_path / "a.zarr")
    assert open_stack(tmp_path / "a.zarr", axes="ZYX").axes == "zyx"


def test_ome_zarr_of_two_images_opens_by_series(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    axes: Any = [{"name": name, "type": "space"} for name in "zyx"]
    images: Any = []
    for number in range(2):
        group.create_array(f"p{number}", data=_PIXELS + np.uint8(number), chunks=(1, 20, 30))
        datasets = [{"path": f"p{number}"}]
        images.append({"version": "0.4", "name": f"P{number}", "axes": axes, "datasets": datasets})
    group.attrs["multiscales"] = images
    with pytest.raises(FileError, match=r"contains 2 images \(0: P0, 1: P1\).*--series N"):
        open_stack(tmp_path / "a.zarr")
    stack = open_stack(tmp_path / "a.zarr", series=1)
    np.testing.assert_array_equal(np.asarray(stack.data), _PIXELS + 1)


def test_zarr_array_with_dimension_names_needs_no_axes(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(12, 20, 30), dtype="u1", dimension_names=["t", "y", "x"]
    )
    array[:] = _PIXELS
    stack = open_stack(tmp_path / "a.zarr")
    assert stack.axes == "tyx"
    np.testing.assert_array_equal(stack.read_plane({"t": 7}), _PIXELS[7])


def test_level_of_an_image_without_a_pyramid_raises(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _PIXELS)
    for thing in (_PIXELS, tmp_path / "a.npy"):
        with pytest.raises(AxesError, match="level 1"):
            open_stack(thing, level=1, axes="ZYX")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, bool])
def test_labels_of_any_integer_type_open(dtype: Any, tmp_path: Path) -> None:
    labels = (_PIXELS > 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack", metadata={"axes": "ZYX"})
    stack = open_labels(tmp_path / "a.tif")
    assert stack.data.dtype == dtype
    np.testing.assert_array_equal(np.asarray(stack.data), labels)


def test_multichannel_labels_raise(tmp_path: Path) -> None:
    pixels = np.zeros((3, 8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(LabelsError, match="3 channels"):
        open_labels(tmp_path / "a.tif")


def test_float_labels_that_are_not_whole_raise_on_read(tmp_path: Path) -> None:
    pixels = np.full((3, 8, 8), 0.5, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(LabelsError, match="expected whole numbers"):
        open_labels(tmp_path / "a.tif").read_plane({"z": 0})


@pytest.mark.parametrize("kind", ["file", "array"])
def test_negative_labels_raise_on_read(kind: str, tmp_path: Path) -> None:
    labels = _PIXELS.astype(np.int32)
    labels[5, 3, 3] = -7
    tifffile.imwrite(
        tmp_path / "a.tif",
        labels,
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": "TYX"},
    )
    stack = open_labels(tmp_path / "a.tif" if kind == "file" else labels, axes="TYX")
    np.testing.assert_array_equal(stack.read_plane({"t": 4}), labels[4])
    with pytest.raises(LabelsError, match="-7"):
        stack.read_plane({"t": 5})
