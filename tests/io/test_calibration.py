"""Calibration that is said twice, elsewhere, or wrongly: pixel sizes, values and bits."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam2.api.tables import measure
from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.open import open_labels, open_stack

_DRIVE = "C:"
_PIXELS = np.arange(3 * 16 * 20, dtype=np.uint16).reshape(3, 16, 20)
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def _write_ome(
    file: Path, images: list[str], *, file_uuid: str = "", pixels: np.ndarray = _PIXELS
) -> Path:
    head = f' UUID="{file_uuid}"' if file_uuid else ""
    xml = f'<?xml version="1.0"?><OME xmlns="{_OME}"{head}>{"".join(images)}</OME>'
    tifffile.imwrite(file, pixels, description=xml, metadata=None, photometric="minisblack")
    return file


def _image(number: int, data: str, attributes: str = "", *, size_z: int = 3) -> str:
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" '
        f'Type="uint16" SizeX="20" SizeY="16" SizeZ="{size_z}" SizeC="1" SizeT="1" {attributes}>'
        f'<Channel ID="Channel:{number}:0" Name="dye {number}" SamplesPerPixel="1"/>{data}'
        "</Pixels></Image>"
    )


def _planes(name: str, identity: str, first_page: int = 0) -> str:
    return "".join(
        f'<TiffData FirstZ="{z}" IFD="{first_page + z}" PlaneCount="1">'
        f'<UUID FileName="{name}">{identity}</UUID></TiffData>'
        for z in range(3)
    )


@pytest.mark.parametrize(
    ("unit", "tag", "per_unit", "size_um"),
    [
        ("um", "CENTIMETER", 1e4 / 0.65, 0.65),
        ("micron", "INCH", 25_400 / 0.2, 0.2),
        ("nm", "CENTIMETER", 1e4 / 0.3, 0.3),
        ("um", "INCH", 1 / 0.65, 0.65),
        ("um", "CENTIMETER", 1 / 0.11, 0.11),
        ("um", "NONE", 1 / 0.5, 0.5),
        ("cm", "CENTIMETER", 1e4 / 2, 2.0),
    ],
)
@pytest.mark.parametrize("imagej", [True, False])
def test_resolution_unit_and_imagej_unit_that_differ(
    unit: str, tag: str, per_unit: float, size_um: float, imagej: bool, tmp_path: Path
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        _PIXELS,
        imagej=imagej,
        resolution=(per_unit, per_unit),
        resolutionunit=tag,
        photometric="minisblack",
        metadata={"axes": "ZYX", "unit": unit, "spacing": 2.0},
    )
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.spacing.y_um, stack.spacing.x_um) == pytest.approx((size_um, size_um), rel=1e-5)
    differ = tag != "NONE" and unit != "cm"
    assert any("by ImageJ's unit" in note for note in stack.notes) == differ


def test_two_plausible_pixel_sizes_are_not_chosen_from(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        _PIXELS,
        imagej=True,
        resolution=(15_000, 15_000),
        resolutionunit="CENTIMETER",
        metadata={"axes": "ZYX", "unit": "mm"},
        photometric="minisblack",
    )
    stack = open_stack(tmp_path / "a.tif")
    assert (stack.spacing.y_um, stack.spacing.x_um) == (None, None)
    assert "0.0667 µm by ImageJ's unit, of 0.667 µm by the TIFF tags" in stack.notes[0]


@pytest.mark.parametrize("copied", [0, 1, 2])
def test_copied_file_of_an_ome_set_has_its_own_calibration(copied: int, tmp_path: Path) -> None:
    ids = [f"urn:uuid:{uuid.UUID(int=number + 1)}" for number in range(3)]
    images = [
        _image(
            number, _planes(f"p{number}.ome.tif", ids[number]), f'PhysicalSizeX="0.{number + 1}"'
        )
        for number in range(3)
    ]
    # the file is also renamed
    stack = open_stack(_write_ome(tmp_path / "mine.ome.tif", images, file_uuid=ids[copied]))
    assert stack.channels == (f"dye {copied}",)
    assert stack.spacing.x_um == pytest.approx(0.1 * (copied + 1))


def test_series_of_one_ome_file_have_their_own_calibration(tmp_path: Path) -> None:
    images = [
        _image(number, f'<TiffData IFD="{3 * number}" PlaneCount="3"/>', f'PhysicalSizeX="{size}"')
        for number, size in enumerate((0.2, 0.7))
    ]
    file = _write_ome(tmp_path / "a.ome.tif", images, pixels=np.concatenate([_PIXELS, _PIXELS]))
    assert [open_stack(file, series=number).spacing.x_um for number in (0, 1)] == [0.2, 0.7]


def test_ome_without_sizes_has_those_of_the_tags(tmp_path: Path) -> None:
    xml = f'<OME xmlns="{_OME}">{_image(0, "<TiffData/>")}</OME>'
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        _PIXELS,
        description=xml,
        metadata=None,
        resolution=(1e4 / 0.4, 1e4 / 0.4),
        resolutionunit="CENTIMETER",
        photometric="minisblack",
    )
    assert open_stack(tmp_path / "a.ome.tif").spacing.x_um == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("said", "stored", "values"),
    [
        ("cf=0\nc0=-32768.0\nc1=1.0\n", [31768, 32808], [-1000, 40]),
        ("cf=0\nc0=10.0\nc1=0.5\n", [0, 7], [10, 13.5]),
        ("cf=1\nc0=1.0\nc1=2.0\nc2=3.0\n", [0, 2], [1, 17]),
        ("cf=4\nc0=2.0\nc1=0.5\n", [0, 2], [2, 2 * np.e]),
        ("cf=20\nc0=5.0\nc1=5.0\n", [3, 4], [3, 4]),
        ("cf=0\nc0=0.0\nc1=1.0\n", [3, 4], [3, 4]),
    ],
    ids=["signed", "line", "parabola", "exponential", "none", "identity"],
)
def test_imagej_calibration_function_is_applied(
    said: str, stored: list[int], values: list[float], tmp_path: Path
) -> None:
    pixels = np.array(stored, np.uint16)[:, None, None] * np.ones((1, 8, 8), np.uint16)
    text = f"ImageJ=1.53t\nimages=2\nslices=2\n{said}vunit=value\nloop=false\n"
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, description=text, metadata=None, photometric="minisblack"
    )
    stack = open_stack(tmp_path / "a.tif")
    np.testing.assert_allclose(np.asarray(stack.data)[:, 0, 0], values, rtol=1e-6)


def test_function_that_is_not_known_is_noted(tmp_path: Path) -> None:
    text = "ImageJ=1.53t\nimages=3\nslices=3\ncf=21\nc0=1.0\nc1=2.0\nloop=false\n"
    tifffile.imwrite(
        tmp_path / "a.tif", _PIXELS, description=text, metadata=None, photometric="minisblack"
    )
    assert (
        "number 21) is not applied: values are uncalibrated"
        in open_stack(tmp_path / "a.tif").notes[0]
    )


def test_signed_labels_of_imagej_are_whole_numbers(tmp_path: Path) -> None:
    labels = np.zeros((2, 8, 8), np.int32)
    labels[:, 2:5, 2:5] = 7
    text = "ImageJ=1.53t\nimages=2\nslices=2\ncf=0\nc0=-32768.0\nc1=1.0\nloop=false\n"
    tifffile.imwrite(
        tmp_path / "a.tif",
        (labels + 32768).astype(np.uint16),
        description=text,
        metadata=None,
        photometric="minisblack",
    )
    np.testing.assert_array_equal(np.asarray(open_labels(tmp_path / "a.tif").data), labels)


def _write_lsm(file: Path) -> Path:
    """A stack with the information tag of Zeiss, whose voxel sizes are in m."""
    # tag 34412: magic number, structure size, X, Y, Z, C, T, type, thumbnail, unit sizes
    head = struct.pack("<2I8i3d", 0x0400494C, 500, 20, 16, 3, 1, 1, 2, 0, 0, 2e-7, 3e-7, 1.5e-6)
    tag = (34412, 7, 500, head.ljust(500, b"\0"), True)
    with tifffile.TiffWriter(file) as writer:
        for number, plane in enumerate(_PIXELS):
            extra: Any = [] if number else [tag]
            writer.write(plane, metadata=None, extratags=extra, photometric="minisblack")
            thumbnail = np.zeros((8, 10, 3), np.uint8)
            writer.write(thumbnail, metadata=None, subfiletype=1, photometric="rgb")
    return file


def test_lsm_has_voxel_sizes_in_metres(tmp_path: Path) -> None:
    stack = open_stack(_write_lsm(tmp_path / "a.lsm"), axes="ZYX")
    assert vars(stack.spacing) == pytest.approx(
        {"z_um": 1.5, "y_um": 0.3, "x_um": 0.2, "t_s": None}
    )


@pytest.mark.parametrize(
    ("tag", "text", "spacing"),
    [
        (270, _METASERIES := (
            '<MetaData><PlaneInfo><prop id="spatial-calibration-state" type="bool" value="on"/>'
            '<prop id="spatial-calibration-x" type="float" value="0.325"/>'
            '<prop id="spatial-calibration-y" type="float" value="0.325"/>'
            '<prop id="spatial-calibration-units" type="string" value="um"/>'
            "</PlaneInfo></MetaData>"
        ), Spacing(y_um=0.325, x_um=0.325)),
        (34682, "[Scan]\nPixelWidth=2e-9\nPixelHeight=4e-9\n", Spacing(y_um=0.004, x_um=0.002)),
    ],
    ids=["MetaSeries", "FEI"],
)  # fmt: skip
def test_dialects_of_tiff_have_a_pixel_size(
    tag: int, text: str, spacing: Spacing, tmp_path: Path
) -> None:
    description = text if tag == 270 else None
    extra: Any = [] if tag == 270 else [(tag, "s", 0, text, True)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        _PIXELS[0],
        description=description,
        metadata=None,
        extratags=extra,
        software="MetaSeries" if tag == 270 else None,
    )
    assert vars(open_stack(tmp_path / "a.tif").spacing) == pytest.approx(vars(spacing))


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ('PhysicalSizeX="6.5e-7" PhysicalSizeY="6.5e-7"', "x = 6.5e-07 µm, which is not plausible"),
        ('PhysicalSizeX="0.65" PhysicalSizeXUnit="km"', ""),
        ('PhysicalSizeX="650" PhysicalSizeXUnit="m"', "x = 6.5e+08 µm"),
        ('PhysicalSizeX="352.7777" PhysicalSizeY="352.7777"', "72 dpi of a printer"),
        ('PhysicalSizeX="0.0846667" PhysicalSizeXUnit="mm" PhysicalSizeY="84.6667"', "300 dpi"),
    ],
)
def test_absurd_pixel_sizes_are_not_used(attributes: str, note: str, tmp_path: Path) -> None:
    stack = open_stack(_write_ome(tmp_path / "a.ome.tif", [_image(0, "<TiffData/>", attributes)]))
    assert stack.spacing.x_um is None
    assert any(note in each for each in stack.notes) or not note


def test_given_spacing_overrides_an_absurd_one(tmp_path: Path) -> None:
    image = _image(0, "<TiffData/>", 'PhysicalSizeX="6.5e-7" PhysicalSizeZ="2"')
    file = _write_ome(tmp_path / "a.ome.tif", [image])
    assert open_stack(file, spacing=(None, 0.65, 0.65)).spacing == Spacing(2, 0.65, 0.65)


@pytest.mark.parametrize(
    ("bits", "value", "saturated"),
    [(12, 4095, True), (14, 16383, True), (12, 4094, False), (16, 65535, True)],
)
def test_bits_of_the_camera_decide_what_is_saturated(
    bits: int, value: int, saturated: bool, tmp_path: Path
) -> None:
    pixels = np.full((16, 20), 500, np.uint16)
    pixels[4:8, 4:8] = value
    image = _image(0, "<TiffData/>", f'SignificantBits="{bits}"', size_z=1)
    file = _write_ome(tmp_path / "a.ome.tif", [image], pixels=pixels)
    row = measure((pixels != 500).astype(np.uint8), open_stack(file)).objects.iloc[0]
    assert (row["saturated_px_c0"], bool(row["saturated_c0"])) == (16 * saturated, saturated)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (_image(0, "<TiffData/>", size_z=2_000_000_000), "declares 2000000000 planes and has 3"),
        (_image(0, '<TiffData FirstZ="1999999999" IFD="0"/>'), "declares 1999999999 planes"),
        (_image(0, '<TiffData IFD="0" PlaneCount="2000000000"/>'), "declares 2000000000 planes"),
        (_image(0, "<TiffData/>", size_z=-4), "expected numbers above 0"),
    ],
    ids=["SizeZ", "FirstZ", "PlaneCount", "negative"],
)
def test_planes_that_ome_declares_and_no_file_has_raise(
    declared: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=message):
        open_stack(_write_ome(tmp_path / "a.ome.tif", [declared]))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.tif",
        "/etc/secret.tif",
        "a/../../secret.tif",
        f"{_DRIVE}\\secret.tif",
        "..\\s.tif",
    ],
)
def test_ome_that_names_a_file_outside_of_its_folder_raises(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "secret.tif", _PIXELS, photometric="minisblack")
    image = _image(0, _planes(name, f"urn:uuid:{uuid.UUID(int=9)}"))
    file = _write_ome(folder / "a.ome.tif", [image], file_uuid=f"urn:uuid:{uuid.UUID(int=1)}")
    with pytest.raises(FileError, match="which is not in its folder"):
        open_stack(file)
