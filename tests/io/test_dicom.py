"""DICOM by frame: functional groups, value transforms, times, and slices that are not alike."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.open import open_stack

_AXIAL = [1, 0, 0, 0, 1, 0]
_SERIES = generate_uid()


def _write(file: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write a grey image of (rows, columns) or (frames, rows, columns)."""
    file.parent.mkdir(exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(file), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID, dataset.Modality = _SERIES, "CT"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(file, enforce_file_format=True)
    return file


def _slice(folder: Path, z: float, value: int = 0, **elements: Any) -> Path:
    number = len(list(folder.iterdir())) if folder.is_dir() else 0
    given = {
        "PixelSpacing": [1, 1],
        "ImageOrientationPatient": _AXIAL,
        "ImagePositionPatient": [0, 0, z],
        "InstanceNumber": number + 1,
    } | elements
    dtype = np.int16 if given.get("PixelRepresentation") else np.uint16
    pixels = np.full((6, 8), value, dtype)
    return _write(folder / f"{(number * 7) % 50:02d}.dcm", pixels, **given)


def _group(**macros: dict[str, Any]) -> Dataset:
    """A functional group: a sequence of one item for each macro."""
    group = Dataset()
    for name, elements in macros.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(group, name, Sequence([item]))
    return group


def _write_enhanced(
    file: Path, groups: Sequence_[Dataset], shared: Dataset, dtype: Any = np.uint16
) -> Path:
    pixels = np.stack([np.full((6, 8), 10 + number, dtype) for number in range(len(groups))])
    return _write(
        file,
        pixels,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(list(groups)),
    )


def _place(z: float, **macros: dict[str, Any]) -> Dataset:
    return _group(PlanePositionSequence={"ImagePositionPatient": [0, 0, z]}, **macros)


def _read_corner(path: Path) -> Any:
    return np.asarray(open_stack(path).data)[..., 0, 0].tolist()


def test_frames_of_an_enhanced_file_are_sorted_by_their_positions(tmp_path: Path) -> None:
    shared = _group(
        PixelMeasuresSequence={"PixelSpacing": [0.4, 0.5]},
        PlaneOrientationSequence={"ImageOrientationPatient": _AXIAL},
    )
    file = _write_enhanced(tmp_path / "mr.dcm", [_place(z) for z in (6, 0, 3, 9)], shared)
    stack = open_stack(file)
    assert (stack.axes, stack.spacing) == ("zyx", Spacing(3000, 400, 500))
    assert _read_corner(file) == [11, 12, 10, 13]
    assert _read_corner(file.parent) == [11, 12, 10, 13]


def test_each_enhanced_frame_has_its_own_rescale_and_measures(tmp_path: Path) -> None:
    groups = [
        _place(
            z,
            PixelMeasuresSequence={"PixelSpacing": [0.7, 0.7]},
            PixelValueTransformationSequence={"RescaleSlope": z + 1, "RescaleIntercept": -z},
        )
        for z in range(3)
    ]
    file = _write_enhanced(tmp_path / "pet.dcm", groups, Dataset())
    assert _read_corner(file) == [10, 11 * 2 - 1, 12 * 3 - 2]
    assert open_stack(file).spacing == Spacing(1000, 700, 700)


def test_enhanced_frames_at_one_position_are_sorted_by_temporal_index(tmp_path: Path) -> None:
    places = [(1, 2), (0, 2), (1, 1), (0, 1), (1, 3), (0, 3)]
    groups = [_place(z, FrameContentSequence={"TemporalPositionIndex": t}) for z, t in places]
    file = _write_enhanced(tmp_path / "dce.dcm", groups, Dataset())
    assert open_stack(file).axes == "tzyx"
    assert _read_corner(file) == [[13, 12], [11, 10], [15, 14]]


def test_sagittal_enhanced_frames_are_sorted_along_their_normal(tmp_path: Path) -> None:
    groups = [_group(PlanePositionSequence={"ImagePositionPatient": [x, 0, 0]}) for x in (4, 0, 2)]
    shared = _group(PlaneOrientationSequence={"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]})
    file = _write_enhanced(tmp_path / "sag.dcm", groups, shared)
    # the normal of these planes points to the right: x decreases
    assert _read_corner(file) == [10, 12, 11]


def test_groups_for_fewer_frames_than_declared_raise(tmp_path: Path) -> None:
    file = _write_enhanced(tmp_path / "a.dcm", [_place(0), _place(1)], Dataset())
    _write(
        file,
        np.zeros((3, 6, 8), np.uint16),
        PerFrameFunctionalGroupsSequence=Sequence([_place(0), _place(1)]),
    )
    with pytest.raises(FileError, match="describes 2 of 3 frames"):
        open_stack(file)


@pytest.mark.parametrize(
    ("descriptor", "data", "stored", "value"),
    [
        ([4, 0, 16], [7, 70, 700, 7000], 2, 700),
        ([4, 10, 16], [7, 70, 700, 7000], 11, 70),
        ([4, 10, 16], [7, 70, 700, 7000], 3, 7),
        ([4, 0, 16], [7, 70, 700, 7000], 99, 7000),
    ],
    ids=["first 0", "first 10", "below the table", "above the table"],
)
def test_modality_lut_gives_the_values(
    descriptor: list[int], data: list[int], stored: int, value: int, tmp_path: Path
) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = descriptor, "US"
    table.LUTData = np.array(data, np.uint16).tobytes()
    file = _write(
        tmp_path / "a.dcm",
        np.full((6, 8), stored, np.uint16),
        ModalityLUTSequence=Sequence([table]),
    )
    assert _read_corner(file) == value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("TemporalPositionIdentifier", [2, 1, 3]),
        ("TriggerTime", [40.5, 0.0, 900.0]),
        ("AcquisitionTime", ["101500", "093000.25", "120000"]),
        ("AcquisitionDateTime", ["20260101101500", "20260101093000.25", "20260102000000"]),
        ("InstanceNumber", [9, 8, 10]),
    ],
)
def test_times_come_from_what_the_headers_say(name: str, values: list[Any], tmp_path: Path) -> None:
    for t, value in enumerate(values):
        for z in (0, 1):
            _slice(tmp_path / "s", z, 100 * t + z, **{"InstanceNumber": 1, name: value})
    assert _read_corner(tmp_path / "s") == [[100, 101], [0, 1], [200, 201]]


def test_times_that_nothing_orders_raise(tmp_path: Path) -> None:
    for z in (0, 1, 0, 1):
        _slice(tmp_path / "s", z, InstanceNumber=1)
    with pytest.raises(FileError, match=r"00\.dcm, 14\.dcm are at one position.*Temporal"):
        open_stack(tmp_path / "s")


def test_temporal_positions_that_differ_between_slices_raise(tmp_path: Path) -> None:
    for z, t in ((0, 1), (0, 2), (1, 2), (1, 3)):
        _slice(tmp_path / "s", z, TemporalPositionIdentifier=t)
    with pytest.raises(FileError, match="TemporalPositionIdentifier differs between positions"):
        open_stack(tmp_path / "s")


@pytest.mark.parametrize(
    ("elements", "what"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "orientation"),
        ({"PixelSpacing": [2, 2]}, "pixel spacing"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "ImageType"),
        ({"RescaleType": "US"}, "RescaleType"),
        ({"Units": "CNTS"}, "Units"),
        ({"EchoTime": 80.0}, "EchoTime"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "PhotometricInterpretation"),
        ({"Modality": "SR"}, "Modality"),
        ({"Rows": 4, "Columns": 12}, "size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_slice_that_differs_raises_with_its_name(
    elements: dict[str, Any], what: str, tmp_path: Path
) -> None:
    for z in range(4):
        _slice(tmp_path / "s", z)
    _slice(tmp_path / "s", 4, **elements)
    with pytest.raises(FileError, match=rf"{what} is .* in 28\.dcm and .* in the other 4"):
        open_stack(tmp_path / "s")


def test_directions_written_with_other_digits_are_alike(tmp_path: Path) -> None:
    for z in range(3):
        turned = [0.9999995, 0.00005 * z, 0, -0.00005 * z, 1, 0]
        _slice(tmp_path / "s", z, z, ImageOrientationPatient=turned, PixelSpacing=[1, 1 + 1e-5 * z])
    assert _read_corner(tmp_path / "s") == [0, 1, 2]


def test_slice_beside_the_others_raises_and_a_tilted_gantry_does_not(tmp_path: Path) -> None:
    for z in range(5):
        _slice(tmp_path / "tilted", z, z, ImagePositionPatient=[0, 0.3 * z, z])
        moved = [0, 40.0 * (z == 3), z]
        _slice(tmp_path / "beside", z, z, ImagePositionPatient=moved)
    assert _read_corner(tmp_path / "tilted") == [0, 1, 2, 3, 4]
    with pytest.raises(FileError, match=r"21\.dcm lies 40 mm beside the line"):
        open_stack(tmp_path / "beside")


def test_signed_beside_unsigned_keeps_every_value(tmp_path: Path) -> None:
    _slice(tmp_path / "s", 0, 65535)
    _slice(tmp_path / "s", 1, -2, PixelRepresentation=1)
    stack = open_stack(tmp_path / "s")
    assert stack.data.dtype == np.int32
    assert _read_corner(tmp_path / "s") == [65535, -2]


@pytest.mark.parametrize(
    ("slopes", "expected"), [([1, 2], [100, 200]), ([0.5, 0.25], [50.0, 25.0])]
)
def test_slices_have_their_own_rescale(
    slopes: list[float], expected: list[float], tmp_path: Path
) -> None:
    for z, slope in enumerate(slopes):
        _slice(tmp_path / "s", z, 100, RescaleSlope=slope, RescaleIntercept=0)
    assert _read_corner(tmp_path / "s") == expected


def test_frames_with_times_or_offsets_need_no_axes(tmp_path: Path) -> None:
    pixels = np.arange(3, dtype=np.uint16)[:, None, None] * np.ones((6, 8), np.uint16)
    cine = _write(tmp_path / "us.dcm", pixels, FrameIncrementPointer=0x00181063, FrameTime=40.0)
    assert (open_stack(cine).axes, open_stack(cine).spacing.t_s) == ("tyx", 0.04)
    dose = _write(
        tmp_path / "dose.dcm",
        pixels,
        PixelSpacing=[2, 2],
        ImagePositionPatient=[0, 0, 50],
        ImageOrientationPatient=_AXIAL,
        GridFrameOffsetVector=[0, -2.5, -5],
    )
    assert (open_stack(dose).axes, open_stack(dose).spacing.z_um) == ("zyx", 2500)
    assert _read_corner(dose) == [2, 1, 0]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Rows": 60000, "Columns": 60000}, "declares 1 frames of 60000 × 60000, at least"),
        ({"NumberOfFrames": 2_000_000_000}, "declares 2000000000 frames"),
        ({"Rows": 0}, "expected an image with Rows"),
        ({"TotalPixelMatrixColumns": 5000}, "whole slide"),
    ],
    ids=["plane", "frames", "no rows", "tiles"],
)
def test_header_that_the_file_cannot_contain_raises(
    elements: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = _write(tmp_path / "a.dcm", np.zeros((6, 8), np.uint16), **elements)
    with pytest.raises(FileError, match=message):
        open_stack(file)


@pytest.mark.parametrize(
    ("elements", "maximum"),
    [
        ([{"BitsStored": 12, "HighBit": 11}] * 2, 4095),
        ([{"BitsStored": 12, "RescaleSlope": 2, "RescaleIntercept": -1000}] * 2, 7190),
        ([{"PixelRepresentation": 1, "BitsStored": 12}] * 2, 2047),
        ([{"RescaleSlope": 1}, {"RescaleSlope": 2}], np.nan),
    ],
    ids=["12 bits", "rescaled", "signed", "differs"],
)
def test_bits_stored_decide_the_largest_value(
    elements: list[dict[str, Any]], maximum: float, tmp_path: Path
) -> None:
    for z, each in enumerate(elements):
        _slice(tmp_path / "s", z, **{"RescaleIntercept": 0} | each)
    np.testing.assert_equal(open_stack(tmp_path / "s").max_value, maximum)
