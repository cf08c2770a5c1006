"""Labels in the formats of other programs, read by the packages of these programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import nrrd
import numpy as np
import pytest
import roifile
import zarr
from pycocotools import mask as coco_mask
from skimage.draw import polygon2mask
from yaozarrs import v05, validate_zarr_store
from yaozarrs.write.v05 import write_image

from napari_sam2.core.errors import FileError, LabelsError, OutputError
from napari_sam2.core.track import Track
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.readers.dicom.series import read_source_slices
from napari_sam2.io.writers.export import export_labels
from napari_sam2.io.writers.zarr_labels import write_zarr_labels
from napari_sam2.testing.scenes import make_drifting_scene
from tests.io.test_formats import write_dicom_series, write_nifti_image

_LABELS = np.zeros((5, 7, 9), np.uint16)
_LABELS[1:4, 2:5, 1:4] = 3
_LABELS[2, 1:6, 5:8] = 7000
_LABELS[2, 3, 6] = 0  # a hole
_TRACKS = (Track(3, "left one", "kidney"),)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_labels_overlay_their_image(suffix: str, tmp_path: Path) -> None:
    image = write_nifti_image(tmp_path / "brain.nii.gz")
    path = export_labels(_LABELS, tmp_path / f"labels{suffix}", format="nifti", like=image)
    found: Any = nibabel.load(path)
    source: Any = nibabel.load(image)
    np.testing.assert_array_equal(found.affine, source.affine)
    for field in (
        "pixdim",
        "qform_code",
        "sform_code",
        "srow_x",
        "quatern_b",
        "qoffset_x",
        "xyzt_units",
    ):
        np.testing.assert_array_equal(found.header[field], source.header[field])
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, _LABELS)
    assert found.get_data_dtype() == np.uint16
    again = open_labels(path)
    assert (again.axes, again.spacing) == ("zyx", open_stack(image).spacing)
    np.testing.assert_array_equal(np.asarray(again.data), _LABELS)


def test_nrrd_labels_have_the_space_of_their_image(tmp_path: Path) -> None:
    header = {
        "space": "left-posterior-superior",
        "space directions": np.array([[0.8, 0.1, 0], [0, 0.9, 0], [0, 0.2, 2.5]]),
        "space origin": [1, 2, 3],
    }
    nrrd.write(str(tmp_path / "ct.nrrd"), _LABELS.astype(np.int16), dict(header), index_order="C")
    path = export_labels(
        _LABELS, tmp_path / "labels.nrrd", format="nrrd", like=tmp_path / "ct.nrrd"
    )
    data, found = nrrd.read(str(path), index_order="C")
    np.testing.assert_array_equal(data, _LABELS)
    for name, value in header.items():
        np.testing.assert_array_equal(found[name], value)
    again = open_labels(path)
    assert (again.axes, again.data.dtype, again.spacing) == (
        "zyx",
        np.uint16,
        open_stack(tmp_path / "ct.nrrd").spacing,
    )
    np.testing.assert_array_equal(np.asarray(again.data), _LABELS)


def test_dicom_seg_refers_to_its_slices_and_contains_the_labels(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "ct", order=[3, 0, 4, 1, 2])
    path = export_labels(
        _LABELS, tmp_path / "seg.dcm", format="dicom-seg", like=series, tracks=_TRACKS
    )
    seg = highdicom.seg.segread(path)
    slices = read_source_slices(series)
    found = seg.get_pixels_by_source_instance(
        [each.SOPInstanceUID for each in slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    described: dict[int, Any] = {
        number: seg.get_segment_description(number) for number in seg.segment_numbers
    }
    ids = {number: int(each.tracking_id) for number, each in described.items()}
    np.testing.assert_array_equal(np.vectorize({0: 0, **ids}.get)(found), _LABELS)
    assert [described[1].segment_label, described[2].segment_label] == ["left one", "object 7000"]
    volume = seg.get_volume(combine_segments=True)
    np.testing.assert_allclose(volume.spacing, (2.5, 0.9, 0.8))
    np.testing.assert_allclose(volume.direction[:, 1:], [[0, 1], [1, 0], [0, 0]], atol=1e-9)
    for number, plane in enumerate(volume.array):
        place_mm = volume.position[2] + number * 2.5 * volume.direction[2, 0]
        np.testing.assert_array_equal(plane > 0, _LABELS[round((place_mm - 5) / 2.5)] > 0)


def test_filled_imagej_rois_reproduce_the_labels(tmp_path: Path) -> None:
    path = export_labels(_LABELS, tmp_path / "rois.zip", format="imagej", tracks=_TRACKS)
    found = np.zeros(_LABELS.shape, np.uint16)
    rois: Any = roifile.roiread(path)
    for roi in rois:
        _, label, *_ = roi.name.split("-")
        inside = polygon2mask(_LABELS.shape[1:], roi.coordinates()[:, ::-1] - 0.5)
        plane = found[roi.position - 1]
        plane[inside] = 0 if "-hole" in roi.name else int(label)
    np.testing.assert_array_equal(found, _LABELS)
    assert any(roi.name.endswith("left one") for roi in rois)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of pycocotools 2.0.11, reading
def test_coco_masks_reproduce_the_labels(tmp_path: Path) -> None:
    written = json.loads(
        export_labels(
            _LABELS, tmp_path / "coco.json", format="coco", like="cells.tif", tracks=_TRACKS
        ).read_text()
    )
    found = np.zeros(_LABELS.shape, np.uint16)
    for each in written["annotations"]:
        mask = (
            coco_mask.decode(
                {
                    "size": each["segmentation"]["size"],
                    "counts": each["segmentation"]["counts"].encode(),
                }
            )
            > 0
        )
        found[each["image_id"] - 1][mask] = each["track_id"]
        x, y, width, height = each["bbox"]
        assert each["area"] == mask.sum() == mask[y : y + height, x : x + width].sum()
        assert (
            mask[[y, y + height - 1]].any(axis=1).all()
            and mask[:, [x, x + width - 1]].any(axis=0).all()
        )
    np.testing.assert_array_equal(found, _LABELS)
    assert [each["name"] for each in written["categories"]] == ["kidney", "object"]
    assert {each["category_id"] for each in written["annotations"] if each["track_id"] == 3} == {1}
    assert len(written["images"]) == 5


@pytest.mark.parametrize(
    ("path", "format", "like", "error", "message"),
    [
        ("a.nii", "tiff", "x", OutputError, "expected one of nifti"),
        ("a.png", "nifti", "x", OutputError, r"ending in \.nii\.gz"),
        ("a.nii", "nifti", "", OutputError, "give like"),
        ("a.nii", "nifti", "small.nii", LabelsError, "give the image that the labels were made on"),
        ("no/folder/a.json", "coco", "", OutputError, "cannot be written"),
    ],
)
def test_impossible_export_raises_and_writes_nothing(
    path: str, format: str, like: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    write_nifti_image(tmp_path / "small.nii", np.zeros((2, 2, 2), np.int16))
    with pytest.raises(error, match=message):
        export_labels(_LABELS, tmp_path / path, format=format, like=tmp_path / like if like else "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["small.nii"]


def _write_image(path: Path, data: np.ndarray, axes: str) -> Path:
    kinds = {"t": v05.TimeAxis(name="t", unit="second"), "c": v05.ChannelAxis(name="c")}
    named: list[Any] = [
        kinds.get(axis) or v05.SpaceAxis(name=axis, unit="micrometer") for axis in axes
    ]
    scale = v05.ScaleTransformation(
        scale=[{"t": 30.0, "c": 1.0, "z": 2.0}.get(axis, 0.5) for axis in axes]
    )
    image = v05.Image(
        multiscales=[
            v05.Multiscale(
                axes=named, datasets=[v05.Dataset(path="0", coordinateTransformations=[scale])]
            )
        ]
    )
    write_image(str(path), image, data, writer="zarr")
    return path


def _write_old_image(path: Path, data: np.ndarray, axes: str) -> Path:
    """The same as OME-Zarr 0.4, as programs of its time write it: zarr 2, metadata at the top."""
    group = zarr.create_group(path, zarr_format=2)
    group.create_array(
        "0",
        data=data,
        chunks=(*(1 for _ in axes[:-2]), *data.shape[-2:]),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    kinds = {"t": {"type": "time", "unit": "second"}, "c": {"type": "channel"}}
    named: Any = [
        {"name": axis, **kinds.get(axis, {"type": "space", "unit": "micrometer"})} for axis in axes
    ]
    scale: Any = {
        "type": "scale",
        "scale": [{"t": 30.0, "c": 1.0, "z": 2.0}.get(axis, 0.5) for axis in axes],
    }
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": named,
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }
    ]
    return path


def _get_listed_labels(path: Path) -> object:
    attributes: Any = zarr.open_group(path / "labels", mode="r").attrs
    return attributes.get("ome", attributes)["labels"]


_BOTH = pytest.mark.parametrize("image", [_write_image, _write_old_image], ids=["0.5", "0.4"])
Written = Callable[[Path, np.ndarray, str], Path]


@_BOTH
def test_labels_are_written_into_the_image_and_the_store_stays_valid(
    image: Written, tmp_path: Path
) -> None:
    scene = make_drifting_scene(frames=4)
    data = np.stack([scene.stack.data, scene.stack.data], axis=1)[:, :, None]
    path = image(tmp_path / "cells.ome.zarr", data, "tczyx")
    video = open_stack(path).as_video("t", channel=1)
    write_zarr_labels(path, video, lambda frame: scene.labels[frame], name="nuclei")
    write_zarr_labels(path, video, lambda frame: scene.labels[frame], name="others")
    for store in (path, path / "labels" / "nuclei"):
        validate_zarr_store(str(store))
    assert _get_listed_labels(path) == ["nuclei", "others"]
    again = open_labels(path / "labels" / "nuclei")
    assert zarr.open_array(path / "labels" / "nuclei" / "0", mode="r").shape == (4, 1, 64, 64), (
        "the axes of the image, but c"
    )
    assert (again.spacing, again.data.dtype) == (open_stack(path).spacing, scene.labels.dtype)
    np.testing.assert_array_equal(np.asarray(again.data), scene.labels)
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[...], data)


@_BOTH
def test_failed_write_leaves_the_image_unchanged(image: Written, tmp_path: Path) -> None:
    scene = make_drifting_scene(frames=4)
    path = image(tmp_path / "cells.ome.zarr", scene.stack.data, "tyx")
    video = open_stack(path).as_video("t")
    write_zarr_labels(path, video, lambda frame: scene.labels[frame], name="good")
    with pytest.raises(OutputError, match="already contains labels named .good."):
        write_zarr_labels(path, video, lambda frame: scene.labels[frame], name="good")
    with pytest.raises(LabelsError, match="frame 2: got uint16"):
        write_zarr_labels(
            path,
            video,
            lambda frame: scene.labels[frame] if frame < 2 else scene.labels[frame][:5],
            name="bad",
        )
    assert not (path / "labels" / "bad").exists()
    assert _get_listed_labels(path) == ["good"]
    validate_zarr_store(str(path))
    write_zarr_labels(path, video, lambda frame: scene.labels[frame] * 2, name="good", replace=True)
    np.testing.assert_array_equal(
        np.asarray(open_labels(path / "labels" / "good").data), scene.labels * 2
    )
    assert _get_listed_labels(path) == ["good"]
    validate_zarr_store(str(path))


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b"])
def test_name_with_a_path_raises(name: str, tmp_path: Path) -> None:
    scene = make_drifting_scene(frames=2)
    path = _write_image(tmp_path / "cells.ome.zarr", scene.stack.data, "tyx")
    with pytest.raises(OutputError, match="expected a plain name"):
        write_zarr_labels(path, scene.video, lambda frame: scene.labels[frame], name=name)


def test_older_or_missing_image_raises(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2).attrs["multiscales"] = [
        {"version": "0.3", "axes": ["y", "x"]}
    ]
    zarr.open_group(tmp_path / "bare.zarr", mode="w", zarr_format=2)
    for name, error, message in (
        ("old", OutputError, r"is OME-Zarr 0\.3"),
        ("bare", FileError, "expected an OME-Zarr image"),
        ("none", OutputError, "is not an OME-Zarr image"),
    ):
        with pytest.raises(error, match=message):
            write_zarr_labels(
                tmp_path / f"{name}.zarr",
                make_drifting_scene(frames=2).video,
                lambda frame: make_drifting_scene(frames=2).labels[frame],
            )
