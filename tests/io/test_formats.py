"""Medical files, microscope files and movies: axes, spacing, type and values of written files."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as imageio
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import tifffile
import zarr
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pylibCZIrw import czi
from yaozarrs import v05
from yaozarrs.write.v05 import write_plate

from napari_sam2.api.tables import measure
from napari_sam2.batch.config import read_jobs
from napari_sam2.core.errors import AxesError, FileError, MissingPackageError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.open import open_stack
from napari_sam2.io.readers.plate import list_fields
from tests.io.lif import write_lif
from tests.io.nd2_file import AcquisitionSettings, write_nd2

_RNG = np.random.default_rng(0)
_VOLUME = _RNG.integers(0, 4000, (5, 7, 9)).astype(np.int16)  # z, y, x: no two lengths alike
_AFFINE = np.array(
    [[-0.8, 0.1, 0.0, 12.0], [0.0, 0.9, 0.05, -7.0], [0.0, 0.0, 2.5, 3.0], [0, 0, 0, 1]]
)


def write_nifti_image(
    path: Path, data: np.ndarray = _VOLUME, units: tuple[str, str] = ("mm", "sec"), **header: Any
) -> Path:
    image: Any = nibabel.Nifti1Image(data.T, _AFFINE)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units(*units)
    image.header["pixdim"][1 : 1 + data.ndim] = [0.8, 0.9, 2.5, 1.5][: data.ndim]
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def write_dicom_series(
    folder: Path,
    volume: np.ndarray = _VOLUME,
    *,
    order: Any = None,
    times: int = 1,
    skip: int | None = None,
) -> Path:
    """Write a CT series with the plane normal (0, 0, 1) and a slice distance of 2.5 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for number in order or range(len(volume)):
        if number == skip:
            continue
        for time in range(times):
            dataset = _make_slice(volume[number] + 1024 + time, number, number + time * len(volume))
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = (
                series,
                study,
                frame,
            )
            dataset.save_as(folder / f"im{(number * 7) % 5}-{time}.dcm", enforce_file_format=True)
    return folder


def _make_slice(pixels: np.ndarray, place: int, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        CTImageStorage,
        generate_uid(),
        ExplicitVRLittleEndian,
    )
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = (
        CTImageStorage,
        meta.MediaStorageSOPInstanceUID,
        "CT",
    )
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = (
        [10.0, -20.0, 5.0 + 2.5 * place],
        [1, 0, 0, 0, 1, 0],
    )
    dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = (
        [0.9, 0.8],
        2.5,
        number + 1,
    )
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
        *pixels.shape,
        1,
        "MONOCHROME2",
    )
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        16,
        15,
        0,
    )
    (
        dataset.RescaleSlope,
        dataset.RescaleIntercept,
        dataset.SeriesDescription,
        dataset.SeriesNumber,
    ) = 1, -1024, "abdomen", 3
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = (
        "Nobody^",
        "0",
        "",
        "O",
    )
    (
        dataset.StudyDate,
        dataset.StudyTime,
        dataset.StudyID,
        dataset.AccessionNumber,
        dataset.ReferringPhysicianName,
    ) = (
        "20260101",
        "120000",
        "1",
        "",
        "",
    )
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    return dataset


def _get_numbers(spacing: Spacing) -> tuple[float | None, ...]:
    return spacing.z_um, spacing.y_um, spacing.x_um, spacing.t_s


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_axes_spacing_type_and_values(suffix: str, tmp_path: Path) -> None:
    stack = open_stack(write_nifti_image(tmp_path / f"brain{suffix}"))
    assert (stack.axes, stack.data.dtype, stack.name) == ("zyx", np.int16, "brain")
    assert _get_numbers(stack.spacing) == pytest.approx((2500, 900, 800, None))
    np.testing.assert_array_equal(np.asarray(stack.data), _VOLUME)
    np.testing.assert_array_equal(stack.read_plane({"z": 3}), _VOLUME[3])


def test_nifti_series_has_an_interval_and_scaled_values_are_floats(tmp_path: Path) -> None:
    series = np.stack([_VOLUME, _VOLUME + 1])
    stack = open_stack(write_nifti_image(tmp_path / "bold.nii", series))
    assert (stack.axes, stack.spacing.t_s) == ("tzyx", 1.5)
    np.testing.assert_array_equal(stack.read_plane({"t": 1, "z": 2}), series[1, 2])
    image: Any = nibabel.load(tmp_path / "bold.nii")
    image.header.set_slope_inter(0.5, 10)
    scaled: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        series.T * 0.5 + 10, _AFFINE, image.header
    )
    nibabel.save(scaled, tmp_path / "scaled.nii")
    found = open_stack(tmp_path / "scaled.nii")
    assert found.data.dtype == np.float64
    written: Any = nibabel.load(tmp_path / "scaled.nii")
    np.testing.assert_array_equal(np.asarray(found.data), written.get_fdata().T)
    np.testing.assert_allclose(np.asarray(found.data), series * 0.5 + 10, atol=0.1)


def test_nifti_without_unit_has_no_spacing(tmp_path: Path) -> None:
    assert (
        open_stack(write_nifti_image(tmp_path / "brain.nii", units=("unknown", "unknown"))).spacing
        == Spacing()
    )


@pytest.mark.parametrize(
    "header",
    [
        {"space directions": np.diag([0.8, 0.9, 2.5]), "space": "left-posterior-superior"},
        {"spacings": [0.8, 0.9, 2.5], "units": ["mm"] * 3},
    ],
)
def test_nrrd_axes_spacing_type_and_values(header: dict[str, Any], tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "ct.nrrd"), _VOLUME, header, index_order="C")
    stack = open_stack(tmp_path / "ct.nrrd")
    assert (stack.axes, stack.data.dtype) == ("zyx", np.int16)
    assert stack.spacing == Spacing(2500, 900, 800)
    np.testing.assert_array_equal(stack.read_plane({"z": 4}), _VOLUME[4])
    np.testing.assert_array_equal(np.asarray(stack.data), _VOLUME)


def test_nrrd_without_unit_or_space_has_no_spacing(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "ct.nrrd"), _VOLUME, {"spacings": [0.8, 0.9, 2.5]}, index_order="C")
    assert open_stack(tmp_path / "ct.nrrd").spacing == Spacing()


def test_dicom_slices_are_sorted_by_position_and_rescaled(tmp_path: Path) -> None:
    stack = open_stack(write_dicom_series(tmp_path / "ct", order=[3, 0, 4, 1, 2]))
    assert (stack.axes, stack.data.dtype, stack.name) == ("zyx", np.int32, "abdomen")
    assert stack.spacing == Spacing(2500, 900, 800)
    np.testing.assert_array_equal(np.asarray(stack.data), _VOLUME)


def test_dicom_slices_at_one_position_are_time_points(tmp_path: Path) -> None:
    stack = open_stack(write_dicom_series(tmp_path / "perfusion", times=3))
    assert stack.axes == "tzyx"
    np.testing.assert_array_equal(stack.read_plane({"t": 2, "z": 1}), _VOLUME[1] + 2)
    cine = open_stack(write_dicom_series(tmp_path / "cine", _VOLUME[:1], times=4))
    assert (cine.axes, cine.data.shape[0]) == ("tyx", 4)
    np.testing.assert_array_equal(cine.read_plane({"t": 3}), _VOLUME[0] + 3)


def test_dicom_file_is_recognised_without_its_ending(tmp_path: Path) -> None:
    folder = write_dicom_series(tmp_path / "ct")
    file = (folder / "im0-0.dcm").rename(folder / "1.2.840.17")
    stack = open_stack(file)
    assert (stack.axes, stack.spacing) == ("yx", Spacing(y_um=900, x_um=800))
    np.testing.assert_array_equal(np.asarray(stack.data), _VOLUME[0])


def test_missing_slice_or_second_series_raises(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"slices 1 and 2 are 5 mm apart, most 2\.5 mm"):
        open_stack(write_dicom_series(tmp_path / "gap", skip=2))
    write_dicom_series(tmp_path / "two")
    for file in list((tmp_path / "two").iterdir()):
        file.rename(file.with_stem("other" + file.stem))
    with pytest.raises(FileError, match=r"contains 2 series of \[5, 5\] slices"):
        open_stack(write_dicom_series(tmp_path / "two"))


def test_movies_are_frames_over_time(tmp_path: Path) -> None:
    colours = np.repeat(
        np.repeat(_RNG.integers(0, 255, (6, 4, 4, 3)), 16, axis=1), 16, axis=2
    ).astype(np.uint8)
    path = tmp_path / "cells.mp4"
    imageio.imwrite(path, colours, plugin="pyav", codec="libx264", fps=5)
    stack = open_stack(path)
    assert (stack.axes, stack.rgb, stack.data.shape, stack.data.dtype) == (
        "tcyx",
        True,
        (6, 3, 64, 64),
        np.uint8,
    )
    assert _get_numbers(stack.spacing) == pytest.approx((None, None, None, 0.2))
    seen = np.stack([np.moveaxis(np.asarray(stack.data[frame]), 0, -1) for frame in (5, 0, 3)])
    assert np.abs(seen.astype(int) - colours[[5, 0, 3]]).mean() < 12, (
        "the frames asked for, whatever the codec loses"
    )


def test_grey_movies_have_no_channels(tmp_path: Path) -> None:
    grey = np.repeat(_RNG.integers(0, 2, (4, 32, 32, 1)) * 200, 3, axis=3).astype(np.uint8)
    imageio.imwrite(
        tmp_path / "grey.avi",
        grey,
        plugin="pyav",
        codec="ffv1",
        fps=10,
        in_pixel_format="rgb24",
        out_pixel_format="gray",
    )
    stack = open_stack(tmp_path / "grey.avi")
    assert (stack.axes, stack.data.dtype) == ("tyx", np.uint8)
    assert _get_numbers(stack.spacing) == pytest.approx((None, None, None, 0.1))
    np.testing.assert_array_equal(np.asarray(stack.data), grey[..., 0])


def test_czi_axes_spacing_channels_and_values(tmp_path: Path) -> None:
    path, data = (
        tmp_path / "cells.czi",
        _RNG.integers(0, 60_000, (2, 2, 3, 20, 30)).astype(np.uint16),
    )
    with czi.create_czi(str(path)) as file:
        for t, c, z in np.ndindex(2, 2, 3):
            file.write(data=data[t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        file.write_metadata(
            channel_names={0: "DNA", 1: "actin"}, scale_x=0.2e-6, scale_y=0.2e-6, scale_z=1.5e-6
        )
    stack = open_stack(path)
    assert (stack.axes, stack.channels, stack.data.dtype) == ("tczyx", ("DNA", "actin"), np.uint16)
    assert _get_numbers(stack.spacing) == pytest.approx((1.5, 0.2, 0.2, None))
    np.testing.assert_array_equal(np.asarray(stack.data), data)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "how"),
    [
        ("zyx", (3, 20, 30), np.uint8, AcquisitionSettings()),
        ("tzcyx", (2, 3, 2, 20, 30), np.uint16, AcquisitionSettings(channels=("DNA", "actin"))),
        ("ztyx", (2, 4, 20, 30), np.uint16, AcquisitionSettings()),
        ("tyx", (4, 20, 30), np.uint16, AcquisitionSettings(lossless=True)),
        (
            "cyx",
            (3, 20, 31),
            np.uint8,
            AcquisitionSettings(channels=("DNA", "actin", "Golgi"), padding=3),
        ),
        ("zyx", (3, 20, 30), np.float32, AcquisitionSettings()),
    ],
    ids=["z", "five axes", "z before t", "compressed", "rows that are padded", "float"],
)
def test_nd2_axes_spacing_channels_and_values(
    axes: str, shape: tuple[int, ...], dtype: Any, how: AcquisitionSettings, tmp_path: Path
) -> None:
    data = (60_000 * _RNG.random(shape)).astype(dtype)
    stack = open_stack(write_nd2(tmp_path / "cells.nd2", data, axes, how))
    ours = "".join(axis for axis in "tczyx" if axis in axes)
    assert (stack.axes, stack.data.dtype) == (ours, dtype)
    assert _get_numbers(stack.spacing) == pytest.approx(
        (1.5 if "z" in axes else None, 0.25, 0.25, 30 if "t" in axes else None)
    )
    assert stack.channels == how.channels
    np.testing.assert_array_equal(
        np.asarray(stack.data),
        np.moveaxis(data, [axes.index(axis) for axis in ours], range(len(ours))),
    )


def test_nd2_of_a_colour_camera_is_rgb(tmp_path: Path) -> None:
    data = _RNG.integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    stack = open_stack(write_nd2(tmp_path / "cells.nd2", data, "tyxs"))
    assert (stack.axes, stack.rgb, stack.channels) == ("tcyx", True, ("red", "green", "blue"))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(stack.data), 1, -1), data)


def test_uncalibrated_nd2_has_no_spacing(tmp_path: Path) -> None:
    data = np.zeros((3, 20, 30), np.uint8)
    stack = open_stack(
        write_nd2(
            tmp_path / "cells.nd2", data, "tyx", AcquisitionSettings(pixel_um=1.0, calibrated=False)
        )
    )
    assert stack.spacing == Spacing(t_s=30)


def test_nd2_of_several_positions_raises(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="contains 2 positions: expected one"):
        open_stack(write_nd2(tmp_path / "two.nd2", np.zeros((2, 3, 20, 30), np.uint8), "pzyx"))


def test_truncated_nd2_raises_a_file_error(tmp_path: Path) -> None:
    path = write_nd2(tmp_path / "cells.nd2", np.zeros((3, 20, 30), np.uint8), "tyx")
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(FileError, match=r"cells\.nd2: cannot be read as ND2"):
        open_stack(path)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [
        ("zyx", (3, 20, 30), np.uint8),
        ("tczyx", (2, 2, 3, 20, 30), np.uint16),
        ("tyx", (4, 20, 30), np.uint16),
    ],
    ids=["z", "five axes", "t"],
)
def test_lif_axes_spacing_and_values(
    axes: str, shape: tuple[int, ...], dtype: Any, tmp_path: Path
) -> None:
    data = _RNG.integers(0, 255, shape).astype(dtype)
    path = write_lif(
        tmp_path / "cells.lif", {"one": data}, axes, {"t": 30.0, "z": 1e-6, "y": 2e-7, "x": 2e-7}
    )
    stack = open_stack(path)
    assert (stack.axes, stack.data.dtype) == (axes, dtype)
    assert _get_numbers(stack.spacing) == pytest.approx(
        (1 if "z" in axes else None, 0.2, 0.2, 30 if "t" in axes else None)
    )
    np.testing.assert_array_equal(np.asarray(stack.data), data)


def test_lif_of_several_images_raises(tmp_path: Path) -> None:
    image = np.zeros((2, 8, 9), np.uint8)
    path = write_lif(
        tmp_path / "two.lif",
        {"first": image, "second": image},
        "zyx",
        {"z": 1e-6, "y": 1e-6, "x": 1e-6},
    )
    with pytest.raises(FileError, match="contains 2 images \\(first, second\\)"):
        open_stack(path)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.nii", "nibabel", "medical"),
        ("a.nrrd", "nrrd", "medical"),
        ("a.dcm", "pydicom", "medical"),
        ("a.mp4", "av", "video"),
        ("a.czi", "pylibCZIrw.czi", "microscopes"),
        ("a.nd2", "nd2", "microscopes"),
        ("a.lif", "liffile", "microscopes"),
    ],
)
def test_missing_package_error_names_the_extra(
    name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(MissingPackageError) as caught:
        open_stack(tmp_path / name)
    assert f"pip install 'napari-sam2[{extra}]'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.dcm", "a.mp4", "a.czi", "a.nd2", "a.lif"]
)
def test_broken_file_raises_a_file_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no such file at all" * 20)
    with pytest.raises(FileError, match=name):
        np.asarray(open_stack(tmp_path / name).data)


def _write_plate(path: Path) -> dict[str, np.ndarray]:
    """Write a plate of two wells with two fields each, and return the pixels by path of field."""
    axes: list[Any] = [
        v05.SpaceAxis(name="z", unit="micrometer"),
        v05.SpaceAxis(name="y", unit="micrometer"),
        v05.SpaceAxis(name="x", unit="micrometer"),
    ]
    dataset = v05.Dataset(
        path="0", coordinateTransformations=[v05.ScaleTransformation(scale=[2.0, 0.5, 0.5])]
    )
    image = v05.Image(multiscales=[v05.Multiscale(axes=axes, datasets=[dataset])])
    pixels = {
        (row, column, field): _RNG.integers(0, 9, (3, 8, 8)).astype(np.uint8)
        for row, column in (("A", "1"), ("B", "2"))
        for field in "01"
    }
    plate = v05.PlateDef(
        columns=[v05.Column(name="1"), v05.Column(name="2")],
        rows=[v05.Row(name="A"), v05.Row(name="B")],
        wells=[
            v05.PlateWell(path="A/1", rowIndex=0, columnIndex=0),
            v05.PlateWell(path="B/2", rowIndex=1, columnIndex=1),
        ],
    )
    write_plate(
        str(path),
        {key: (image, [data]) for key, data in pixels.items()},
        plate=v05.Plate(plate=plate),
    )
    return {"/".join(key): data for key, data in pixels.items()}


def test_fields_of_a_plate_open_as_stacks_and_become_jobs(tmp_path: Path) -> None:
    path = tmp_path / "plate.ome.zarr"
    pixels = _write_plate(path)
    assert [str(field.relative_to(path)) for field in list_fields(path)] == [
        "A/1/0",
        "A/1/1",
        "B/2/0",
        "B/2/1",
    ]
    for name, data in pixels.items():
        stack = open_stack(path / name)
        assert (stack.axes, stack.data.dtype, stack.spacing) == (
            "zyx",
            np.uint8,
            Spacing(2, 0.5, 0.5),
        )
        np.testing.assert_array_equal(np.asarray(stack.data), data)
    for store in (path, path / "B" / "2"):
        with pytest.raises(FileError, match=r"is a plate of [24] fields"):
            open_stack(store)
    (tmp_path / "jobs.toml").write_text(
        'out = "r"\n[[stacks]]\ninput = "*.zarr"\nprompts = "{stem}.csv"\n'
    )
    jobs = read_jobs(tmp_path / "jobs.toml").jobs
    assert jobs[2].prompts is not None
    assert (jobs[2].input, jobs[2].prompts.name, jobs[2].out.name) == (
        path / "B/2/0",
        "plate-B-2-0.csv",
        "plate-B-2-0",
    )


def test_plate_that_lists_a_path_outside_raises(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    group = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "../secret"}]}}
    with pytest.raises(FileError, match=r"lists \.\./secret, which is not in it"):
        list_fields(tmp_path / "plate.zarr")


def test_multi_frame_dicom_needs_axes(tmp_path: Path) -> None:
    dataset = _make_slice(_VOLUME[0], 0, 0)
    dataset.NumberOfFrames, dataset.PixelData = 5, (_VOLUME + 1024).astype(np.uint16).tobytes()
    dataset.save_as(tmp_path / "cine.dcm", enforce_file_format=True)
    with pytest.raises(AxesError, match="--axes ZYX, TYX or CYX"):
        open_stack(tmp_path / "cine.dcm")
    np.testing.assert_array_equal(
        np.asarray(open_stack(tmp_path / "cine.dcm", axes="TYX").data), _VOLUME
    )
    assert pydicom.dcmread(tmp_path / "cine.dcm").NumberOfFrames == 5


def _write_movie(
    path: Path,
    frames: Any,
    *,
    pixels: str = "gray",
    given: str = "gray",
    codec: str = "ffv1",
    times_ms: Any = None,
) -> Path:
    """Write frames with a codec; `given` is the format of the arrays, `pixels` that of the file."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, plane in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(plane, format=given)
            if times_ms is not None:
                frame.pts, frame.time_base = int(times_ms[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("pixels", "given", "shape"),
    [
        ("gray16le", "gray16le", (48, 62)),
        ("gbrp16le", "gbrp16le", (48, 62, 3)),
        ("gbrp12le", "gbrp12le", (48, 62, 3)),
        ("gbrp10le", "gbrp10le", (48, 64, 3)),
    ],
)
def test_deep_movies_keep_their_depth(
    pixels: str, given: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    bits = int("".join(filter(str.isdigit, pixels)))
    frames = _RNG.integers(0, 2**bits, (3, *shape)).astype(np.uint16)
    stack = open_stack(_write_movie(tmp_path / "a.mkv", frames, pixels=pixels, given=given))
    assert stack.data.dtype == np.uint16
    expected = frames if len(shape) == 2 else np.moveaxis(frames, -1, 1)
    np.testing.assert_array_equal(np.asarray(stack.data), expected)


def test_deep_yuv_movie_is_not_cut_to_8_bits(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(0, 65_536, 1024, dtype=np.uint16)[None], 32, axis=0)
    frames = [np.repeat(grey[..., None], 3, axis=2)] * 2
    path = _write_movie(tmp_path / "a.mkv", frames, pixels="yuv444p12le", given="rgb48le")
    plane = open_stack(path).read_plane({"t": 1})
    assert plane.dtype == np.uint16 and np.abs(plane.astype(int) - grey).max() < 64


@pytest.mark.parametrize("first_colour", [1, 3, 5])
@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
def test_movie_is_in_colour_if_any_frame_is(codec: str, first_colour: int, tmp_path: Path) -> None:
    frames = np.zeros((6, 48, 64, 3), np.uint8)
    frames[first_colour:, 8:32, 8:32] = (20, 220, 20)
    pixels = "bgr0" if codec == "ffv1" else "yuv444p"
    path = _write_movie(tmp_path / "a.mkv", frames, pixels=pixels, given="rgb24", codec=codec)
    stack = open_stack(path)
    assert (stack.axes, stack.rgb) == ("tcyx", True)
    found = np.asarray(stack.data[5])[:, 20, 20].astype(int)
    assert np.abs(found - (20, 220, 20)).max() <= 6


@pytest.mark.parametrize(
    "times_ms",
    [
        [0, 100, 200, 1200, 2200],
        [0, 40, 80, 160, 200],
        [500, 1500, 2400, 3600, 9000],
    ],
    ids=["slower", "dropped frame", "jitter"],
)
def test_uneven_times_of_a_movie_are_kept_in_the_tables(
    times_ms: list[int], tmp_path: Path
) -> None:
    frames = [np.full((48, 64), 50 + number, np.uint8) for number in range(5)]
    stack = open_stack(_write_movie(tmp_path / "a.mkv", frames, times_ms=times_ms))
    expected = (np.array(times_ms) - times_ms[0]) / 1000
    assert stack.spacing.t_s is None and stack.times_s == pytest.approx(expected)
    assert "unevenly" in stack.notes[0]
    labels = np.zeros((5, 48, 64), np.uint16)
    labels[1:, 8:20, 8:20] = 1
    tables = measure(labels, stack)
    assert tables.objects["time_s"].tolist() == pytest.approx(expected[1:])
    assert tables.tracks["duration_s"].tolist() == pytest.approx([expected[4] - expected[1]])
    given = open_stack(tmp_path / "a.mkv", interval=2.0)
    assert (given.spacing.t_s, given.times_s) == (2.0, ())


@pytest.mark.parametrize("fps", [24, 29.97, 30, 60, 120])
def test_rounded_times_of_an_even_movie_give_an_interval(fps: float, tmp_path: Path) -> None:
    frames = [np.full((48, 64), 50 + number, np.uint8) for number in range(40)]
    times = [round(1000 * number / fps) for number in range(40)]
    stack = open_stack(_write_movie(tmp_path / "a.mkv", frames, times_ms=times))
    assert stack.spacing.t_s == pytest.approx(1 / fps, rel=2e-3) and stack.times_s == ()


@pytest.mark.parametrize(("times", "interval_s"), [([0, 1, 2, 9], None), ([0, 1.02, 2, 3], 1.0)])
def test_uneven_times_of_ome_planes_are_kept(
    times: list[float], interval_s: float | None, tmp_path: Path
) -> None:
    planes = {
        "DeltaT": times,
        "DeltaTUnit": ["s"] * 4,
        "TheT": list(range(4)),
        "TheZ": [0] * 4,
        "TheC": [0] * 4,
    }
    metadata = {"axes": "TYX", "TimeIncrement": 1.0, "Plane": planes}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((4, 8, 9), np.uint8), metadata=metadata)
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.spacing.t_s == interval_s and stack.times_s == pytest.approx(times)
    assert bool(stack.notes) == (interval_s is None)
