"""Project files: the image of a project is found and checked, and damaged files raise one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.image_reference import IMAGE_COPY_NAME, ImageReference, compute_fingerprint
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.project_file import ModelReference, ProjectFile, VideoSettings
from napari_sam2.io.writers.label_spec import LabelSpec
from napari_sam2.io.writers.project_labels import ProjectLabels
from napari_sam2.testing.scenes import make_drifting_scene, make_two_channel_scene


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "cells.ome.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path,
        make_drifting_scene().stack.data,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"},
        ome=True,
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "cells-sam2"
    path.mkdir(parents=True)
    return path


def has_same_pixels(one: Stack, other: Stack) -> bool:
    return (one.axes, one.spacing, one.channels, one.rgb) == (
        other.axes,
        other.spacing,
        other.channels,
        other.rgb,
    ) and np.array_equal(np.asarray(one.data), np.asarray(other.data))


def test_image_opens_from_its_path(image: Path, folder: Path, tmp_path: Path) -> None:
    stack = open_stack(image)
    reference = ImageReference.of(stack, folder)
    assert (reference.path, reference.relative) == (str(image), "../cells.ome.tif")
    assert has_same_pixels(reference.open(folder), stack)
    assert has_same_pixels(reference.open(tmp_path / "elsewhere" / "far"), stack), (
        "by its absolute path"
    )


MOVES: dict[str, Callable[[Path], Path]] = {
    "folder of both": lambda data: (
        Path(shutil.move(data, data.parent / "other machine")) / "cells-sam2"
    ),
    "image into the project": lambda data: (
        Path(shutil.move(data / "cells.ome.tif", data / "cells-sam2")).parent
    ),
    "project deeper": lambda data: Path(
        shutil.move(data / "cells-sam2", _make_folder(data / "a" / "b"))
    ),
}


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_image_moved_with_its_project_opens(
    move: Callable[[Path], Path], image: Path, folder: Path
) -> None:
    stack = open_stack(image)
    reference, pixels = ImageReference.of(stack, folder), np.asarray(stack.data)
    np.testing.assert_array_equal(reference.open(move(image.parent)).data, pixels)


def test_missing_image_raises_with_its_name_and_properties(
    image: Path, folder: Path, tmp_path: Path
) -> None:
    reference = ImageReference.of(open_stack(image), folder)
    moved = tmp_path / "moved.ome.tif"
    image.rename(moved)
    with pytest.raises(
        FileError,
        match=r"cells\.ome\.tif.*give its path if it was moved, "
        r"cells\.ome\.tif \(TYX 10 × 64 × 64 uint16, finger",
    ) as error:
        reference.open(folder)
    assert len(str(error.value).splitlines()) == 1
    assert reference.open(folder, moved).source == str(moved)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels": lambda data: np.where(data == data.max(), data - 1, data).astype(data.dtype),
    "shape": lambda data: data[:-1],
    "type": lambda data: data.astype(np.int32),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_image_raises(what: str, image: Path, folder: Path) -> None:
    reference = ImageReference.of(open_stack(image), folder)
    changed = CHANGES[what](make_drifting_scene().stack.data)
    tifffile.imwrite(image, changed, metadata={"axes": "TYX"}, ome=True)
    with pytest.raises(FileError, match=f"is another image or was changed: its {what} differ"):
        reference.open(folder)
    with pytest.raises(FileError, match="expected the image of this project"):
        reference.open(folder, image)


def test_file_that_is_no_longer_an_image_raises(image: Path, folder: Path) -> None:
    reference = ImageReference.of(open_stack(image), folder)
    image.write_text("text")
    with pytest.raises(FileError, match="cells.ome.tif"):
        reference.open(folder)


def test_file_without_axes_opens_with_those_of_the_project(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "unnamed.npy"
    np.save(path, make_drifting_scene().stack.data)
    stack = open_stack(path, axes="zyx", spacing=(2.0, 0.5, 0.5))
    reference = ImageReference.of(stack, folder)
    assert reference.path == str(path)
    again = reference.open(folder)
    assert (again.axes, again.spacing) == ("zyx", Spacing(2.0, 0.5, 0.5))


STACKS = {
    "an array": make_drifting_scene().stack,
    "channels": make_two_channel_scene().stack,
    "colour": Stack(
        np.random.default_rng(0).integers(0, 255, (4, 3, 8, 9)).astype(np.uint8), "tcyx", rgb=True
    ),
    "one frame": Stack(np.arange(30, dtype=np.float32).reshape(1, 5, 6), "tyx"),
    "big-endian": Stack(np.arange(60).reshape(2, 5, 6).astype(">i4"), "zyx"),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_pixels_without_a_file_are_copied_into_the_project(stack: Stack, folder: Path) -> None:
    reference = ImageReference.of(stack, folder)
    assert reference.relative == IMAGE_COPY_NAME
    assert has_same_pixels(reference.open(folder), stack)


def test_pixels_that_differ_from_their_file_are_copied(image: Path, folder: Path) -> None:
    inverted = Stack(60000 - make_drifting_scene().stack.data, "tyx", source=str(image))
    reference = ImageReference.of(inverted, folder)
    assert reference.relative == IMAGE_COPY_NAME
    np.testing.assert_array_equal(reference.open(folder).data, inverted.data)


def test_fingerprint_depends_on_pixels_only(image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tif"
    shutil.copy(image, copy)
    assert (
        compute_fingerprint(open_stack(image))
        == compute_fingerprint(open_stack(copy))
        == compute_fingerprint(make_drifting_scene().stack)
    )


@pytest.fixture
def file(image: Path, folder: Path) -> ProjectFile:
    stack = open_stack(image)
    model = ModelReference(name="toy", sha256="0" * 64, name_or_path="toy")
    return ProjectFile(
        image=ImageReference.of(stack, folder),
        video=VideoSettings.of(stack.as_video()),
        model=model,
        view={"frame": 3},
    )


def test_project_file_survives_writing_and_reading(file: ProjectFile, folder: Path) -> None:
    file.write(folder)
    again = ProjectFile.read(folder)
    assert again == file
    video, expected = again.video.make_video(again.image.open(folder)), make_drifting_scene().video
    assert (video.along, video.channel, video.contrast) == (
        expected.along,
        expected.channel,
        expected.contrast,
    )


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown field": (lambda raw: {**raw, "colour": "red"}, "colour: Extra inputs"),
    "unknown field of the image": (
        lambda raw: {**raw, "image": {**raw["image"], "size": 3}},
        r"image\.size",
    ),
    "unknown spacing": (
        lambda raw: {**raw, "image": {**raw["image"], "spacing": {"w_um": 1}}},
        r"image\.spacing",
    ),
    "later version": (lambda raw: {**raw, "version": 2}, "version"),
    "no model": (
        lambda raw: {key: value for key, value in raw.items() if key != "model"},
        "model: Field required",
    ),
    "another file": (lambda raw: {**raw, "format": "napari-sam2 prompts"}, "format"),
    "not even JSON": (lambda raw: "{", "Invalid JSON"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_damaged_project_file_raises_with_the_field(
    change: Callable[[dict[str, Any]], object], message: str, file: ProjectFile, folder: Path
) -> None:
    changed = change(json.loads(file.model_dump_json()))
    (folder / "project.json").write_text(
        changed if isinstance(changed, str) else json.dumps(changed)
    )
    with pytest.raises(FileError, match=message) as error:
        ProjectFile.read(folder)
    assert "project.json" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_folder_without_a_project_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="expected a project folder, with project.json in it"):
        ProjectFile.read(tmp_path)


def test_project_labels_write_only_changed_frames(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    spec = LabelSpec(scene.video.axes, scene.video.shape, np.dtype(np.uint32), scene.video.spacing)
    labels = ProjectLabels(tmp_path, spec)
    assert [labels.put(frame, scene.labels[frame]) for frame in (3, 0, 3)] == [True, True, False]
    assert labels.put(3, scene.labels[4])
    again = ProjectLabels(tmp_path, spec)
    np.testing.assert_array_equal(again.get(3), scene.labels[4])
    assert not again.get(1).any(), "never came"
    again.put(1, scene.labels[1])
    stack = open_labels(tmp_path / "labels.ome.zarr")
    assert (stack.axes, stack.spacing) == ("tyx", scene.video.spacing)
    np.testing.assert_array_equal(np.asarray(stack.data)[[0, 1, 3]], scene.labels[[0, 1, 4]])
    with pytest.raises(LabelsError, match=r"expected \(64, 64\)"):
        labels.put(0, np.zeros((3, 3), np.uint16))
