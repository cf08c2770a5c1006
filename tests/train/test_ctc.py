"""Cell Tracking Challenge folders, written from exact scenes.

Outlines have new numbers on each frame, markers keep theirs.
"""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.testing.scenes import make_drifting_scene, make_ellipsoid_scene
from napari_sam2.train.data.annotated import ReadOptions
from napari_sam2.train.data.ctc import open_ctc
from napari_sam2.train.data.discovery import find_pairs

MOVIE = make_drifting_scene(count=4, frames=5)


def shuffled(plane: np.ndarray, seed: int) -> np.ndarray:
    """Give outlines other numbers."""
    numbers = np.concatenate(
        [[0], np.random.default_rng(seed).permutation(np.arange(1, int(plane.max()) + 1))]
    )
    return numbers[plane].astype(np.uint16)


def markers(labels: np.ndarray) -> np.ndarray:
    """Draw a pixel in the middle of each object, with its true number."""
    drawn = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        place = np.argwhere(labels == label)
        drawn[tuple(place[len(place) // 2])] = label
    return drawn


def write(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    outlined: tuple[int, ...],
    truth: str = "GT",
) -> Path:
    for name in ("01", "01_GT/TRA", f"01_{truth}/SEG"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for t, (image, plane) in enumerate(zip(images, labels, strict=True)):
        tifffile.imwrite(folder / "01" / f"t{t:03d}.tif", image)
        tifffile.imwrite(folder / "01_GT" / "TRA" / f"man_track{t:03d}.tif", markers(plane))
        if t in outlined:
            tifffile.imwrite(
                folder / f"01_{truth}" / "SEG" / f"man_seg{t:03d}.tif", shuffled(plane, t)
            )
    return folder


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return write(tmp_path / "Fluo", np.asarray(MOVIE.stack.data), MOVIE.labels, outlined=(1, 2, 4))


@pytest.mark.parametrize("inner", ["", "01"], ids=["the data set", "the sequence"])
def test_outlines_take_the_numbers_of_their_markers(movie: Path, inner: str) -> None:
    (pair,) = find_pairs(movie / inner)
    assert pair.annotated == (1, 2, 4)
    assert pair.name == "Fluo/01"
    for frame in pair.annotated:
        pixels, labels = pair.read(frame)
        assert np.array_equal(labels, MOVIE.labels[frame])
        assert np.array_equal(pixels, MOVIE.video.read_frame(frame).pixels)


def test_outlines_without_a_marker_have_new_numbers_on_each_frame(movie: Path) -> None:
    for path in (movie / "01_GT" / "TRA").iterdir():
        path.unlink()
    (pair,) = open_ctc(movie)
    first, second = (set(np.unique(pair.read(frame)[1])) - {0} for frame in (1, 2))
    assert len(first) == 4
    assert not first & second


def test_silver_truth_is_used_and_named_if_there_is_no_gold_truth(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "Fluo", np.asarray(MOVIE.stack.data), MOVIE.labels, outlined=(0, 1), truth="ST"
    )
    (pair,) = open_ctc(folder)
    assert pair.name == "Fluo/01 (ST)"
    assert np.array_equal(pair.read(1)[1], MOVIE.labels[1])


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    scene = make_ellipsoid_scene(slices=6)
    images = np.stack([np.asarray(scene.stack.data)] * 3)
    return write(tmp_path / "Fluo3D", images, np.stack([scene.labels] * 3), outlined=(0, 2))


@pytest.mark.parametrize(
    ("along", "names", "shape"),
    [
        ("z", ["Fluo3D/01 t=0", "Fluo3D/01 t=2"], (6, 64, 64)),
        ("t", ["Fluo3D/01 z=1", "Fluo3D/01 z=2"], (3, 64, 64)),
    ],
)
def test_volumes_are_opened_along_z_or_t(
    volumes: Path, along: str, names: list[str], shape: tuple[int, ...]
) -> None:
    pairs = open_ctc(volumes, options=ReadOptions(along=along))
    assert set(names) <= {pair.name for pair in pairs}
    assert {pair.shape for pair in pairs} == {shape}
    assert len({pair.group for pair in pairs}) == 1


def test_single_outlined_slices_of_a_volume_are_found(tmp_path: Path) -> None:
    scene = make_ellipsoid_scene(slices=6)
    folder = write(
        tmp_path / "F", np.asarray(scene.stack.data)[None], scene.labels[None], outlined=()
    )
    tifffile.imwrite(folder / "01_GT" / "SEG" / "man_seg_000_003.tif", scene.labels[3])
    (pair,) = open_ctc(folder)
    assert pair.annotated == (3,)
    assert np.array_equal(pair.read(3)[1] > 0, scene.labels[3] > 0)


def test_folders_that_cannot_be_trained_on_are_refused(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="expected folders such as 01 and 01_GT"):
        open_ctc(tmp_path)
    tifffile.imwrite(movie / "01_GT" / "SEG" / "man_seg001.tif", np.ones((5, 5), np.uint16))
    with pytest.raises(LabelsError, match=r"outlines are \(5, 5\), the images \(64, 64\)"):
        open_ctc(movie)
    for path in (movie / "01_GT" / "SEG").iterdir():
        path.unlink()
    with pytest.raises(LabelsError, match="only markers"):
        open_ctc(movie)
