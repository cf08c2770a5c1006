"""Labels matched to their image in space: reoriented if that is exact, else refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2.api.evaluation import evaluate_files
from napari_sam2.api.tables import measure, open_labels_for
from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import Video
from napari_sam2.io.geometry import align_labels
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.train.data.annotated import open_pairs

_AFFINE = np.array([[0.8, 0, 0, -10], [0, 0.9, 0, 20], [0, 0, 2.5, 5], [0, 0, 0, 1]])
_LABELS = np.zeros((12, 10, 6), np.uint16)  # x, y, z
_LABELS[2:5, 3:8, 1:4] = 1
_LABELS[7:11, 1:4, 3:6] = 2
_IMAGE = np.where(_LABELS == 1, 100, np.where(_LABELS == 2, 50, 7)).astype(np.int16)
_EXPECTED = _LABELS.T


def _write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    image: Any = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def _reverse(axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels and their affine with an axis that runs the other way."""
    affine = _AFFINE.copy()
    affine[:3, 3] += affine[:3, axis] * (_LABELS.shape[axis] - 1)
    affine[:3, axis] *= -1
    return np.flip(_LABELS, axis), affine


def _permute(order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    affine = _AFFINE.copy()
    affine[:, :3] = affine[:, order]
    return _LABELS.transpose(order), affine


def _permute_and_reverse() -> tuple[np.ndarray, np.ndarray]:
    voxels, affine = _reverse(1)
    affine = affine.copy()
    affine[:, :3] = affine[:, [2, 0, 1]]
    return voxels.transpose(2, 0, 1), affine


_EXACT: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "same": lambda: (_LABELS, _AFFINE),
    "x reversed": lambda: _reverse(0),
    "y reversed": lambda: _reverse(1),
    "z reversed": lambda: _reverse(2),
    "zyx": lambda: _permute([2, 1, 0]),
    "yxz": lambda: _permute([1, 0, 2]),
    "permuted and reversed": _permute_and_reverse,
    "rounded": lambda: (_LABELS, _AFFINE.astype(np.float32) + np.float32(1e-5)),
}


@pytest.mark.parametrize("name", _EXACT)
def test_labels_are_reoriented_if_that_is_exact(name: str, tmp_path: Path) -> None:
    image = open_stack(_write_nifti(tmp_path / "image.nii.gz", _IMAGE, _AFFINE))
    labels = _write_nifti(tmp_path / "labels.nii.gz", *_EXACT[name]())
    aligned = align_labels(open_labels(labels), image)
    np.testing.assert_array_equal(np.asarray(aligned.data), _EXPECTED)
    assert aligned.axes == "zyx" and aligned.spacing == image.spacing
    assert any("reoriented" in note for note in aligned.notes) == (name not in ("same", "rounded"))
    means = measure(labels, image, along="z").tracks
    assert dict(zip(means["track"], means["mean_c0"], strict=True)) == {1: 100, 2: 50}


def _shift(x_mm: float) -> np.ndarray:
    affine = _AFFINE.copy()
    affine[0, 3] += x_mm
    return affine


def _rotate() -> np.ndarray:
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(turn @ _AFFINE)


@pytest.mark.parametrize(
    "affine",
    [
        _shift(8.0),
        _shift(0.4),
        _rotate(),
        _AFFINE @ np.diag([1, 1, 2, 1]),
        _reverse(0)[1] + _shift(3) - _AFFINE,
    ],
    ids=["shifted", "half a pixel", "rotated", "thicker slices", "reversed and shifted"],
)
def test_labels_that_lie_elsewhere_raise_with_both_geometries(
    affine: np.ndarray, tmp_path: Path
) -> None:
    image = _write_nifti(tmp_path / "image.nii.gz", _IMAGE, _AFFINE)
    labels = _write_nifti(tmp_path / "labels.nii.gz", _LABELS, affine)
    with pytest.raises(
        LabelsError, match=r"labels\.nii\.gz: ZYX 6 × 10 × 12, origin .* steps"
    ) as error:
        measure(labels, image, along="z")
    assert "do not lie over" in str(error.value)
    assert "origin (-10000, 20000, 5000) and steps z (0, 0, 2500), y" in str(error.value)


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "LAS"])
def test_nrrd_labels_lie_over_a_nifti_image(space: str, tmp_path: Path) -> None:
    image = open_stack(_write_nifti(tmp_path / "image.nii.gz", _IMAGE, _AFFINE))
    signs = {"left-posterior-superior": [-1, -1, 1], "RAS": [1, 1, 1], "LAS": [-1, 1, 1]}[space]
    voxels, affine = _reverse(2)
    header = {
        "space": space,
        "space directions": affine[:3, :3].T * signs,
        "space origin": affine[:3, 3] * signs,
    }
    nrrd.write(str(tmp_path / "labels.nrrd"), voxels, header)
    aligned = align_labels(open_labels(tmp_path / "labels.nrrd"), image)
    np.testing.assert_array_equal(np.asarray(aligned.data), _EXPECTED)


def test_nifti_labels_lie_over_a_dicom_series(tmp_path: Path) -> None:
    from tests.io.test_formats import write_dicom_series

    image = open_stack(write_dicom_series(tmp_path / "ct"))
    expected = (np.asarray(image.data) > np.median(np.asarray(image.data))).astype(np.uint8)
    # the series lies at (10, -20, 5) mm to the left, back and head: RAS (-10, 20, 5)
    affine = np.diag([-0.8, -0.9, 2.5, 1.0])
    affine[:3, 3] = [-10, 20, 5]
    voxels = expected.T
    labels = _write_nifti(tmp_path / "labels.nii.gz", voxels, affine)
    aligned = align_labels(open_labels(labels), image)
    np.testing.assert_array_equal(np.asarray(aligned.data), expected)
    affine[0, 0], affine[0, 3] = 0.8, -10 - 0.8 * (voxels.shape[0] - 1)
    labels = _write_nifti(tmp_path / "other.nii.gz", voxels[::-1], affine)
    aligned = align_labels(open_labels(labels), image)
    np.testing.assert_array_equal(np.asarray(aligned.data), expected)


def _write_zarr(path: Path, pixels: np.ndarray, scale: float, translation: float) -> Path:
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=pixels, chunks=pixels.shape)
    axes: Any = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    changes: Any = [
        {"type": "scale", "scale": [2, scale, scale]},
        {"type": "translation", "translation": [0, translation, 0]},
    ]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [{"path": "0", "coordinateTransformations": changes}],
        }
    ]
    return path


def test_ome_zarr_labels_with_another_translation_raise(tmp_path: Path) -> None:
    image = open_stack(_write_zarr(tmp_path / "image.zarr", _IMAGE.T, 0.5, -30.0))
    same = open_labels(_write_zarr(tmp_path / "same.zarr", _EXPECTED, 0.5, -30.0))
    np.testing.assert_array_equal(np.asarray(align_labels(same, image).data), _EXPECTED)
    for name, scale, translation in (("moved", 0.5, 30.0), ("finer", 0.25, -30.0)):
        labels = open_labels(_write_zarr(tmp_path / f"{name}.zarr", _EXPECTED, scale, translation))
        with pytest.raises(LabelsError, match="do not lie over"):
            align_labels(labels, image)


def _write_tiff(path: Path, pixels: np.ndarray, size_um: float | None) -> Path:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if size_um is not None:
        metadata |= {"PhysicalSizeX": size_um, "PhysicalSizeY": size_um}
    tifffile.imwrite(path, pixels, metadata=metadata, photometric="minisblack")
    return path


def test_pixel_sizes_of_any_format_are_compared(tmp_path: Path) -> None:
    image = _write_tiff(tmp_path / "image.ome.tif", _IMAGE.T, 0.5)
    for size_um in (0.5, 0.5001, None):
        labels = _write_tiff(tmp_path / "labels.ome.tif", _EXPECTED, size_um)
        assert len(measure(labels, image).tracks) == 2
    labels = _write_tiff(tmp_path / "labels.ome.tif", _EXPECTED, 1.0)
    with pytest.raises(LabelsError, match=r"y 1 µm, x 1 µm, do not lie over .* y 0\.5 µm, x 0\.5"):
        measure(labels, image)
    # a size that the user gave is right
    assert len(measure(labels, open_stack(image, spacing=(None, 1, 1))).tracks) == 2


def test_seeds_masks_evaluation_and_training_compare_geometry(tmp_path: Path) -> None:
    image = _write_nifti(tmp_path / "image.nii.gz", _IMAGE, _AFFINE)
    video = Video.of(open_stack(image), along="z")
    reversed_ = _write_nifti(tmp_path / "reversed.nii.gz", *_reverse(0))
    moved = _write_nifti(tmp_path / "moved.nii.gz", _LABELS, _shift(8.0))
    truth = _write_nifti(tmp_path / "truth.nii.gz", _LABELS, _AFFINE)
    found = open_labels_for(reversed_, video)
    np.testing.assert_array_equal(np.asarray(found.data), _EXPECTED)
    assert evaluate_files(reversed_, truth).agreement.to_dict()["overall"]["iou"] == 1
    (stack,) = open_pairs(image, reversed_)
    assert stack is not None
    for call in (
        lambda: open_labels_for(moved, video),
        lambda: evaluate_files(moved, truth),
        lambda: open_pairs(image, moved),
    ):
        with pytest.raises(LabelsError, match="do not lie over"):
            call()


def test_plane_of_labels_is_compared_in_its_plane(tmp_path: Path) -> None:
    image = open_stack(_write_nifti(tmp_path / "image.nii.gz", _IMAGE, _AFFINE))
    affine = _AFFINE.copy()
    affine[:3, 3] += 3 * affine[:3, 2]
    plane = _write_nifti(tmp_path / "plane.nii.gz", _LABELS[:, :, 3:4], affine)
    aligned = align_labels(open_labels(plane), image)
    np.testing.assert_array_equal(np.asarray(aligned.data), _EXPECTED[3])
    affine[0, 3] += 8
    plane = _write_nifti(tmp_path / "moved.nii.gz", _LABELS[:, :, 3:4], affine)
    with pytest.raises(LabelsError, match="do not lie over"):
        align_labels(open_labels(plane), image)
