"""TIFF files of microscopes, ImageJ, Bio-Formats and tifffile."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import AxesError, FileError, SpacingError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.open import open_stack

_SHAPE = {"T": 3, "C": 2, "Z": 4, "Y": 12, "X": 16}


def _make_pixels(axes: str, dtype: Any = np.uint16) -> np.ndarray:
    shape = tuple(_SHAPE[axis] for axis in axes)
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def _reorder(pixels: np.ndarray, axes: str) -> np.ndarray:
    """The pixels in the order TCZYX."""
    return pixels.transpose([axes.index(axis) for axis in "TCZYX" if axis in axes])


@pytest.mark.parametrize(
    "axes", ["YX", "ZYX", "TYX", "CYX", "CZYX", "ZCYX", "TZYX", "TZCYX", "CTZYX", "ZTCYX"]
)
def test_ome_axes_in_any_order_become_tczyx(axes: str, tmp_path: Path) -> None:
    pixels = _make_pixels(axes)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, photometric="minisblack", metadata={"axes": axes}
    )
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.axes == "".join(axis for axis in "tczyx" if axis.upper() in axes)
    np.testing.assert_array_equal(np.asarray(stack.data), _reorder(pixels, axes))
    assert (stack.name, stack.source) == ("a", str(tmp_path / "a.ome.tif"))


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "TZYX", "ZCYX", "TZCYX"])
def test_imagej_axes_come_from_frames_slices_and_channels(axes: str, tmp_path: Path) -> None:
    pixels = _make_pixels(axes)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, photometric="minisblack", metadata={"axes": axes}
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.axes == "".join(axis for axis in "tczyx" if axis.upper() in axes)
    np.testing.assert_array_equal(np.asarray(stack.data), _reorder(pixels, axes))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint16", "int16", "uint32", "float32", "float64", ">u2", ">f4"]
)
def test_every_pixel_type_is_read_in_native_byte_order(
    dtype: str, compression: str | None, tmp_path: Path
) -> None:
    pixels = (_make_pixels("ZYX") % 2 if dtype == "bool" else _make_pixels("ZYX")).astype(dtype)
    byteorder: Any = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        compression=compression,
        photometric="minisblack",
        byteorder=byteorder,
        metadata={"axes": "ZYX"},
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.data.dtype == np.dtype(dtype).newbyteorder("=") and stack.data.dtype.isnative
    plane = stack.read_plane({"z": 2})
    assert plane.dtype.isnative
    np.testing.assert_array_equal(plane, pixels[2])


def test_twelve_bit_pixels_are_unpacked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (5, 12, 16)).astype(np.uint16)
    bits = (pixels[..., None] >> np.arange(11, -1, -1)) & 1
    # packed by hand, because tifffile does not write 12 bits
    packed = np.packbits(bits.reshape(5, 12, -1).astype(np.uint8), axis=-1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in packed:
            file.write(np.zeros((12, 16), np.uint16), metadata=None, photometric="minisblack")
    _patch_to_twelve_bits(tmp_path / "a.tif", packed)
    stack = open_stack(tmp_path / "a.tif", axes="ZYX")
    assert stack.data.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(stack.data), pixels)


def _patch_to_twelve_bits(path: Path, packed: np.ndarray) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        pages: Any = file.pages
        for page, plane in zip(pages, packed, strict=True):
            page.tags["BitsPerSample"].overwrite(12)
            page.tags["StripByteCounts"].overwrite(plane.nbytes)
            file.filehandle.seek(page.dataoffsets[0])
            file.filehandle.write(plane.tobytes())


@pytest.mark.parametrize(
    ("kind", "shape", "planar"),
    [
        ("one", (12, 16, 3), "contig"),
        ("planar", (3, 12, 16), "separate"),
        ("stack", (4, 12, 16, 3), "contig"),
        ("alpha", (12, 16, 4), "contig"),
    ],
)
def test_colours_become_red_green_and_blue_channels(
    kind: str, shape: tuple[int, ...], planar: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, shape).astype(np.uint8)
    metadata = {"axes": {"one": "YXS", "planar": "SYX", "stack": "TYXS", "alpha": "YXS"}[kind]}
    extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if kind == "alpha" else {}
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="rgb",
        planarconfig=planar,
        metadata=metadata,
        **extra,
    )
    stack = open_stack(tmp_path / "a.tif")
    assert stack.rgb and stack.channels == ("red", "green", "blue")
    assert stack.axes == ("tcyx" if kind == "stack" else "cyx")
    expected = pixels if kind == "planar" else np.moveaxis(pixels, -1, -3)[..., :3, :, :]
    np.testing.assert_array_equal(np.asarray(stack.data), expected)


def test_samples_without_colours_become_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="minisblack",
        planarconfig="contig",
        metadata={"axes": "YXS"},
    )
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.axes, stack.rgb, stack.channels) == ("cyx", False, ("c0", "c1", "c2"))


@pytest.mark.parametrize(
    ("length", "unit", "um"),
    [
        (500, "nm", 0.5),
        (0.0005, "mm", 0.5),
        (0.00005, "cm", 0.5),
        (0.5, "µm", 0.5),
        (0.5, "\u03bcm", 0.5),
        (0.001, "in", 25.4),
        (5000, "Å", 0.5),
    ],
)
def test_ome_lengths_are_converted_to_um(
    length: float, unit: str, um: float, tmp_path: Path
) -> None:
    metadata = (
        {"axes": "ZYX"}
        | {f"PhysicalSize{axis}": length for axis in "XYZ"}
        | {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", _make_pixels("ZYX"), photometric="minisblack", metadata=metadata
    )
    found = open_stack(tmp_path / "a.ome.tif").spacing
    assert (found.z_um, found.y_um, found.x_um) == pytest.approx((um, um, um))


@pytest.mark.parametrize(
    ("time", "unit", "seconds"),
    [(2, "min", 120), (250, "ms", 0.25), (1.5, None, 1.5), (1, "h", 3600)],
)
def test_ome_intervals_are_converted_to_s(
    time: float, unit: str | None, seconds: float, tmp_path: Path
) -> None:
    metadata = {"axes": "TYX", "TimeIncrement": time} | (
        {"TimeIncrementUnit": unit} if unit else {}
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", _make_pixels("TYX"), photometric="minisblack", metadata=metadata
    )
    assert open_stack(tmp_path / "a.ome.tif").spacing.t_s == pytest.approx(seconds)


def test_interval_falls_back_to_the_times_of_planes(tmp_path: Path) -> None:
    times = {
        "DeltaT": [0.0, 2000.0, 4100.0],
        "DeltaTUnit": ["ms"] * 3,
        "TheT": [0, 1, 2],
        "TheZ": [0] * 3,
        "TheC": [0] * 3,
    }
    metadata = {"axes": "TYX", "Plane": times, "Channel": {"Name": ["GFP"]}}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", _make_pixels("TYX"), photometric="minisblack", metadata=metadata
    )
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.spacing.t_s == pytest.approx(2.05)
    assert stack.channels == ("GFP",)


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("micron", 1),
        ("um", 1),
        ("\\u00B5m", 1),
        ("microns", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("inch", 25_400),
    ],
)
def test_imagej_spacing_in_any_unit(unit: str, um: float, tmp_path: Path) -> None:
    metadata = {"axes": "TZYX", "unit": unit, "spacing": 3.0, "finterval": 12.5}
    tifffile.imwrite(
        tmp_path / "a.tif", _make_pixels("TZYX"), imagej=True, resolution=(4, 2), metadata=metadata
    )
    assert vars(open_stack(tmp_path / "a.tif").spacing) == pytest.approx(
        {"z_um": 3 * um, "y_um": 0.5 * um, "x_um": 0.25 * um, "t_s": 12.5}
    )


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_imagej_unit_that_is_not_a_length_gives_no_spacing(unit: str, tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 3.0, "finterval": 0.0}
    tifffile.imwrite(
        tmp_path / "a.tif", _make_pixels("ZYX"), imagej=True, resolution=(4, 2), metadata=metadata
    )
    assert open_stack(tmp_path / "a.tif").spacing == Spacing()


@pytest.mark.parametrize(
    ("resolution", "unit", "um"),
    [(1e4 / 0.65, "CENTIMETER", 0.65), (72, "INCH", None), (300, "INCH", None), (1, "NONE", None)],
    ids=str,
)
def test_resolution_for_printers_gives_no_spacing(
    resolution: float, unit: str, um: float | None, tmp_path: Path
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        _make_pixels("YX"),
        resolution=(resolution, resolution),
        resolutionunit=unit,
        metadata=None,
    )
    spacing = open_stack(tmp_path / "a.tif").spacing
    assert (spacing.y_um, spacing.x_um) == pytest.approx((um, um))


@pytest.mark.parametrize("metadata", [None, {}], ids=["plain", "shaped"])
def test_unnamed_dimensions_raise_with_the_possible_axes(
    metadata: dict[str, Any] | None, tmp_path: Path
) -> None:
    pixels = np.zeros((10, 64, 64), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=metadata)
    with pytest.raises(AxesError, match=r"a\.tif of shape \(10, 64, 64\).*--axes ZYX or TYX"):
        open_stack(tmp_path / "a.tif")
    assert open_stack(tmp_path / "a.tif", axes="TYX").sizes == {"t": 10, "y": 64, "x": 64}


def test_single_plane_needs_no_axes(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((1, 1, 20, 30), np.uint8), photometric="minisblack"
    )
    assert open_stack(tmp_path / "a.tif").sizes == {"y": 20, "x": 30}


def test_given_axes_and_spacing_override_the_metadata(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", _make_pixels("ZYX"), photometric="minisblack", metadata=metadata
    )
    stack = open_stack(
        tmp_path / "a.ome.tif", axes="tyx", spacing=(9, 0.25, 0.125), interval=7, name="b"
    )
    assert (stack.axes, stack.name) == ("tyx", "b")
    assert stack.spacing == Spacing(y_um=0.25, x_um=0.125, t_s=7)
    assert open_stack(tmp_path / "a.ome.tif", spacing=(None, 1, 1)).spacing == Spacing(2.0, 1, 1)
    with pytest.raises(SpacingError, match="Z,Y,X or Y,X"):
        open_stack(tmp_path / "a.ome.tif", spacing=(1,))
    with pytest.raises(SpacingError, match="-1"):
        open_stack(tmp_path / "a.ome.tif", interval=-1)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("TZYX", "4 dimensions"),
        ("YX", "2 dimensions"),
        ("ZZX", "each once"),
        ("TQX", "each once"),
        ("TZC", "y, x"),
    ],
)
def test_axes_that_do_not_fit_raise(axes: str, message: str, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", _make_pixels("ZYX"), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    with pytest.raises(AxesError, match=message):
        open_stack(tmp_path / "a.tif", axes=axes)


def test_level_of_a_pyramid_has_its_own_spacing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (3, 64, 64)).astype(np.uint8)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(pixels, subifds=1, tile=(16, 16), photometric="minisblack", metadata=metadata)
        file.write(pixels[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    stack = open_stack(tmp_path / "a.ome.tif", level=1)
    assert stack.spacing == Spacing(2.0, 1.0, 1.0)
    np.testing.assert_array_equal(np.asarray(stack.data), pixels[:, ::2, ::2])
    with pytest.raises(AxesError, match="level 2"):
        open_stack(tmp_path / "a.ome.tif", level=2)


@pytest.mark.parametrize("imagej", [True, False], ids=["imagej", "shaped"])
def test_contiguous_planes_behind_one_page_are_read(imagej: bool, tmp_path: Path) -> None:
    pixels = _make_pixels("TZYX")
    # as ImageJ writes stacks of more than 4 GB: one page, and all pixels behind it
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        imagej=imagej,
        truncate=True,
        photometric="minisblack",
        metadata={"axes": "TZYX"},
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
    stack = open_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack.read_plane({"t": 2, "z": 1}), pixels[2, 1])
    np.testing.assert_array_equal(np.asarray(stack.data), pixels)


def test_several_images_in_one_tiff_raise(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((8, 8), np.uint8), metadata=None)
        file.write(np.zeros((9, 9), np.uint8), metadata=None)
    with pytest.raises(FileError, match="contains 2 images"):
        open_stack(tmp_path / "a.tif")


def test_opening_and_reading_use_the_memory_of_a_few_planes(tmp_path: Path) -> None:
    plane = np.random.default_rng(0).integers(0, 4, (512, 512)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in range(200):  # 105 MB when decoded
            file.write(
                plane + np.uint16(number),
                compression="zlib",
                photometric="minisblack",
                metadata=None,
                contiguous=False,
            )
    tracemalloc.start()
    try:
        stack = open_stack(tmp_path / "a.tif", axes="TYX")
        np.testing.assert_array_equal(stack.read_plane({"t": 150}), plane + 150)
        for number in range(0, 200, 10):
            stack.read_plane({"t": number})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * plane.nbytes


def test_stack_keeps_no_file_open_and_can_be_pickled(tmp_path: Path) -> None:
    pixels = _make_pixels("ZYX")
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        pixels,
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": "ZYX"},
    )
    stack = open_stack(tmp_path / "a.ome.tif")
    again = pickle.loads(pickle.dumps(stack))
    stack.read_plane({"z": 1})
    assert not [
        file
        for file in Path("/proc/self/fd").glob("*")
        if file.exists() and file.resolve() == tmp_path / "a.ome.tif"
    ]
    np.testing.assert_array_equal(np.asarray(again.data), pixels)


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    for value in (1, 2):
        tifffile.imwrite(
            tmp_path / "a.tif",
            np.full((3, 8 * value, 8), value, np.uint8),
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )
        assert (
            open_stack(tmp_path / "a.tif").read_plane({"z": 2}).tolist()
            == np.full((8 * value, 8), value).tolist()
        )


@pytest.mark.parametrize(
    ("file", "axes", "sizes", "dtype", "spacing"),
    [
        (
            "protein_multichannel/embl_dna_mts_actin/xyc_16bit__cell_dna_mts_actin.tif",
            None,
            (3, 350, 350),
            "uint16",
            1 / 7.547649,
        ),
        (
            "protein_multichannel/hela_cells/hela-cells.tif",
            None,
            (3, 512, 672),
            "uint16",
            1 / 19.420064,
        ),
        ("timelapse_3d_cho/Fluo-N3DH-CHO_02_img.tif", None, (10, 5, 443, 512), "uint8", None),
        ("timelapse_hela_nuclei/Fluo_Hela_02_img.tif", None, (12, 700, 1100), "uint16", None),
        ("zstack_nuclei_cells3d/nuclei.tif", "ZYX", (60, 256, 256), "uint16", None),
        ("plant_maize_2d/maize_clsm.tif", None, (640, 639), "uint8", None),
    ],
)
def test_real_files(
    file: str,
    axes: str | None,
    sizes: tuple[int, ...],
    dtype: str,
    spacing: float | None,
    shared_folder: Path,
) -> None:
    path = shared_folder / "data" / file
    stack = open_stack(path, axes=axes)
    assert (tuple(stack.sizes.values()), str(stack.data.dtype), stack.rgb) == (sizes, dtype, False)
    assert stack.spacing.x_um == (pytest.approx(spacing, rel=1e-6) if spacing else None)
    whole = tifffile.imread(path)
    np.testing.assert_array_equal(
        np.asarray(stack.data), np.moveaxis(whole, -1, 0) if whole.shape[-1] == 3 else whole
    )


@pytest.mark.parametrize(
    "file",
    [
        "timelapse_ecoli/img.tif",
        "zstack_nuclei_cells3d/nuclei.tif",
        "timelapse_migration/cancer_cell_migration_crop.tif",
    ],
)
def test_real_files_without_axes_raise(file: str, shared_folder: Path) -> None:
    with pytest.raises(AxesError, match="--axes ZYX or TYX"):
        open_stack(shared_folder / "data" / file)
