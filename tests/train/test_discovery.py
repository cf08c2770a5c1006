"""Discovery of annotated images in folders and files, and errors of wrong labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from napari_sam2.core.errors import FileError, LabelsError, Sam2Error
from napari_sam2.testing.scenes import make_drifting_scene, make_ellipsoid_scene
from napari_sam2.train.data.annotated import ReadOptions, open_pairs
from napari_sam2.train.data.clip_sources import PairSource
from napari_sam2.train.data.discovery import find_pairs
from napari_sam2.train.data.packs import open_pack

MOVIE = make_drifting_scene(frames=6)
IMAGE, LABELS = np.asarray(MOVIE.stack.data), MOVIE.labels.astype(np.int32)
TIME = ReadOptions(along="t")


def tiff(path: Path, data: np.ndarray, axes: str = "TYX") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        data,
        ome=path.name.endswith(".ome.tif"),
        metadata={"axes": axes} if path.name.endswith(".ome.tif") else None,
    )
    return path


def picture(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, data, check_contrast=False)


def side_by_side(folder: Path) -> None:
    tiff(folder / "cells.ome.tif", IMAGE)
    tiff(folder / "cells_labels.ome.tif", LABELS.astype(np.uint16))


def two_folders(folder: Path) -> None:
    for number in range(3):
        picture(folder / "images" / f"{number}.png", (IMAGE[number] // 256).astype(np.uint8))
        tiff(folder / "masks" / f"{number}_mask.tif", LABELS[number].astype(np.uint16))


def image_and_mask(folder: Path) -> None:
    for name in ("a", "b"):
        tiff(folder / f"{name}_img.tif", IMAGE[0])
        tiff(folder / f"{name}_masks.tif", LABELS[0].astype(np.uint8))


def pack(folder: Path) -> None:
    (folder / "npz").mkdir(parents=True)
    rows = ["file,height,width,group,split"]
    for number in range(3):
        np.savez(
            folder / "npz" / f"{number}.npz",
            image=(IMAGE[number] // 256).astype(np.uint8),
            labels=LABELS[number].astype(np.uint16),
        )
        rows.append(f"npz/{number}.npz,64,64,g{number},{'val' if number == 2 else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("layout", "frames"),
    [(side_by_side, [6]), (two_folders, [1, 1, 1]), (image_and_mask, [1, 1]), (pack, [1, 1, 1])],
    ids=[
        "NAME and NAME_labels",
        "images and masks",
        "NAME_img and NAME_masks",
        "npz with a manifest",
    ],
)
def test_layouts_of_folders_are_recognised(
    tmp_path: Path, layout: Callable[[Path], None], frames: list[int]
) -> None:
    layout(tmp_path / "data")
    pairs = find_pairs(tmp_path / "data")
    assert [pair.shape for pair in pairs] == [(count, 64, 64) for count in frames]
    assert len({pair.group for pair in pairs}) == len(pairs)
    for number, pair in enumerate(pairs):
        pixels, labels = pair.read(0)
        assert np.array_equal(labels, LABELS[number if len(pairs) == 3 else 0])
        assert ((pixels > 0.3) == (labels > 0)).all()


def test_labels_beside_a_file_are_found(tmp_path: Path) -> None:
    side_by_side(tmp_path)
    (pair,) = find_pairs(tmp_path / "cells.ome.tif")
    assert pair.annotated == tuple(range(6))


def test_the_labels_of_an_ome_zarr_are_found_inside(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    for inner, data in (("", IMAGE), ("labels/cells", LABELS.astype(np.uint16))):
        group = zarr.open_group(tmp_path / "m.ome.zarr" / inner, mode="a", zarr_format=2)
        group.create_array("0", data=data)
        axes = [
            {"name": "t", "type": "time"},
            {"name": "y", "type": "space"},
            {"name": "x", "type": "space"},
        ]
        transformation = {"type": "scale", "scale": [1, 1, 1]}
        group.attrs["multiscales"] = [
            {
                "version": "0.4",
                "axes": axes,
                "datasets": [{"path": "0", "coordinateTransformations": [transformation]}],
            }
        ]
    (pair,) = find_pairs(tmp_path / "m.ome.zarr")
    assert np.array_equal(pair.read(3)[1], LABELS[3])


def test_arrays_of_napari_layers_can_be_used() -> None:
    (pair,) = open_pairs(IMAGE, LABELS, name="layers", options=TIME)
    clip = PairSource([pair]).draw(0, np.random.default_rng(0), length=3, size=64)
    assert clip.labels[0].any()


def test_frames_without_labels_count_as_not_annotated() -> None:
    labels = LABELS.copy()
    labels[[0, 2, 3]] = 0
    (pair,) = open_pairs(IMAGE, labels, name="sparse", options=TIME)
    assert pair.annotated == (1, 4, 5)


def test_a_4d_stack_gives_a_z_stack_for_each_time_point() -> None:
    scene = make_ellipsoid_scene(slices=5)
    images, labels = (
        np.stack([np.asarray(scene.stack.data)] * 3),
        np.stack([scene.labels] * 3).astype(np.int32),
    )
    labels[1] = 0
    pairs = open_pairs(images, labels, name="4D", options=ReadOptions(axes="TZYX", along="z"))
    assert [pair.name for pair in pairs] == ["4D t=0", "4D t=2"]
    assert np.array_equal(pairs[1].read(2)[1], scene.labels[2])


def test_a_colour_image_is_read_as_its_luminance(tmp_path: Path) -> None:
    colour = np.zeros((32, 32, 3), np.uint8)
    colour[8:20, 8:20] = (200, 100, 50)
    picture(tmp_path / "c.png", colour)
    (pair,) = open_pairs(tmp_path / "c.png", (colour[..., 0] > 0).astype(np.int32))
    assert ((pair.read(0)[0] > 0.5) == (colour[..., 0] > 0)).all()


def renumbered() -> np.ndarray:
    """Give each object another number on each frame, as after segmentation frame by frame."""
    scene = make_drifting_scene(count=9, frames=6)
    return np.stack(
        [
            np.where(plane > 0, (plane + frame) % 9 + 1, 0)
            for frame, plane in enumerate(scene.labels.astype(np.int32))
        ]
    )


def dotted(count: int) -> np.ndarray:
    labels = LABELS.copy()
    labels[:, 0, :count] = 70 + np.arange(count)
    return labels


def test_a_few_objects_of_one_pixel_are_left_out_and_named() -> None:
    labels = dotted(2)
    labels[3][labels[3] < 70] = 0
    (pair,) = open_pairs(IMAGE, labels, options=TIME)
    assert pair.left_out == (70, 71)
    assert pair.annotated == (0, 1, 2, 4, 5)
    assert np.array_equal(pair.read(0)[1], LABELS[0])


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (IMAGE, LABELS[:, :-1], r"the labels are \(6, 63, 64\), the image \(6, 64, 64\)"),
        (IMAGE, LABELS[0], "the image is"),
        (IMAGE, np.zeros_like(LABELS), "have no objects"),
        (IMAGE, dotted(20), "20 of 23 objects are one pixel"),
        (IMAGE, LABELS.astype(np.float32), "expected whole numbers"),
        (IMAGE, -LABELS, "expected 0 for the background"),
        (
            np.asarray(make_drifting_scene(count=9, frames=6).stack.data),
            renumbered(),
            "have another label on the next frame",
        ),
    ],
    ids=[
        "another shape",
        "one plane for many",
        "no objects",
        "a dot",
        "floats",
        "negative",
        "not linked",
    ],
)
def test_wrong_labels_are_refused_in_one_line(
    image: np.ndarray, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(LabelsError, match=message) as caught:
        open_pairs(image, labels, name="cells", options=TIME)
    assert "\n" not in str(caught.value)


def test_unlinked_labels_can_be_used_as_still_images() -> None:
    scene = make_drifting_scene(count=9, frames=6)
    (pair,) = open_pairs(
        np.asarray(scene.stack.data), renumbered(), options=ReadOptions(along="t", linked=False)
    )
    assert not pair.linked


def nothing(folder: Path) -> Path:
    return folder / "nowhere"


def lone(folder: Path) -> Path:
    return tiff(folder / "lone.tif", IMAGE[0])


def empty(folder: Path) -> Path:
    return folder


def lacking(folder: Path) -> Path:
    two_folders(folder)
    (folder / "masks" / "1_mask.tif").unlink()
    return folder


def broken_pack(folder: Path) -> Path:
    pack(folder)
    (folder / "manifest.csv").write_text("file,group\na,b")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, "does not exist"),
        (lone, "has no labels beside it"),
        (empty, "holds no image with its labels"),
        (lacking, "1 of 3 images have no labels"),
        (broken_pack, "has no column height"),
    ],
    ids=["missing", "no labels", "empty folder", "one mask missing", "bad manifest"],
)
def test_a_path_without_labels_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(Sam2Error, match=message):
        find_pairs(make(tmp_path / "data"))


def test_a_broken_npz_is_named(tmp_path: Path) -> None:
    pack(tmp_path / "p")
    (tmp_path / "p" / "npz" / "1.npz").write_bytes(b"PK no zip")
    pairs = open_pack(tmp_path / "p", row_filter=lambda row: row.split == "train")
    assert len(pairs) == 2
    with pytest.raises(FileError, match=r"1\.npz"):
        pairs[1].read(0)


def test_clips_can_be_drawn_from_the_shared_pack(shared_folder: Path) -> None:
    picked: list[Any] = open_pack(
        shared_folder / "train", row_filter=lambda row: row.source != "dsb2018"
    )[::40]
    source = PairSource(picked)
    for item in range(len(source)):
        clip = source.draw(item, np.random.default_rng(item), length=3, size=96)
        assert clip.labels[0].any()
        assert 0 <= clip.frames.min() < clip.frames.max() <= 1


_DISCS = [(15, 15), (15, 50), (45, 30)]


def draw_mask(frames: int, value: int, *, shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    """(frames, H, W) uint8 discs of one value that touch nothing and move by a pixel a frame."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros((frames, *shape), np.uint8)
    for frame, plane in enumerate(mask):
        for centre_y, centre_x in _DISCS:
            plane[(y - centre_y - frame) ** 2 + (x - centre_x) ** 2 <= 49] = value
    return mask


@pytest.mark.parametrize("value", [1, 127, 255])
@pytest.mark.parametrize("frames", [1, 3])
def test_pieces_of_a_mask_are_objects(
    value: int, frames: int, caplog: pytest.LogCaptureFixture
) -> None:
    mask = draw_mask(frames, value)
    image = mask.astype(np.uint16) * 2 + 10
    (pair,) = open_pairs(image, mask, name="cells", options=TIME)
    for frame in range(frames):
        _, labels = pair.read(frame)
        assert [int(labels[y + frame, x]) for y, x in _DISCS] == [1, 2, 3]
        np.testing.assert_array_equal(labels > 0, mask[frame] > 0)
    assert "cells: is a mask" in caplog.text and str(value) in caplog.text


def test_mask_of_two_classes_is_split_and_one_object_in_pieces_among_many_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mask = draw_mask(1, 1)[0]
    mask[50:58, 60:70], mask[20:28, 68:76] = 2, 2
    (pair,) = open_pairs(mask * 9, mask)
    assert np.unique(pair.read(0)[1]).tolist() == [0, 1, 2, 3, 4, 5]
    many = np.zeros((64, 80), np.uint8)
    for label in range(1, 7):
        many[10 * label - 5 : 10 * label, 5:15] = label
    many[5:10, 40:50] = 1
    caplog.clear()
    (pair,) = open_pairs(many * 9, many)
    np.testing.assert_array_equal(pair.read(0)[1], many)
    assert not caplog.text


@pytest.mark.parametrize("fault", ["dark", "no labels", "no numbers"])
def test_image_that_shows_nothing_is_left_out_and_named(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        labels = np.zeros((64, 80), np.uint16)
        labels[10:20, 10:20], labels[40:50, 40:50] = 1, 2
        image = labels.astype(np.float32) * 40 + 10
        if number == 1:
            image[:] = np.nan if fault == "no numbers" else 30
            labels = labels * 0 if fault == "no labels" else labels
        tifffile.imwrite(tmp_path / "images" / f"field{number}.tif", image)
        tifffile.imwrite(tmp_path / "masks" / f"field{number}.tif", labels)
    found = find_pairs(tmp_path)
    assert [pair.name for pair in found] == ["field0.tif", "field2.tif"]
    assert "field1.tif" in caplog.text
    for number in (0, 2):
        tifffile.imwrite(
            tmp_path / "images" / f"field{number}.tif", np.full((64, 80), 30, np.uint8)
        )
    with pytest.raises(LabelsError, match=r"none of 3 images .* field0\.tif"):
        find_pairs(tmp_path)


def test_masks_of_cellpose_beside_images_are_found(tmp_path: Path) -> None:
    for number in range(2):
        labels = np.zeros((64, 80), np.uint16)
        labels[10:20, 10:20], labels[40:50, 40:50] = 1, 2
        tifffile.imwrite(tmp_path / f"frame_{number}.tif", labels * 40 + 10)
        tifffile.imwrite(tmp_path / f"frame_{number}_cp_masks.tif", labels)
    assert [pair.name for pair in find_pairs(tmp_path)] == ["frame_0.tif", "frame_1.tif"]
