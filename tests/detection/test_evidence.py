"""What the learned detector sees, as evidence: with a fake network, and with the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage as ndi

from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.protocols import SIZE_OCTAVES
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.detection.evidence import VideoEvidence
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.models.load import load_detector, load_model
from napari_sam2.propagation.session import Session


class DiscMaps:
    """Maps computed from the image: bright connected regions are objects."""

    sha256 = "0123456789abcdef"

    def predict(self, planes: np.ndarray) -> np.ndarray:
        return np.stack([self._predict_plane(plane) for plane in planes])

    def _predict_plane(self, plane: np.ndarray) -> np.ndarray:
        inside = plane > 0.5
        labels, count = ndi.label(inside)
        maps = np.zeros((4, *plane.shape), np.float32)
        maps[0] = inside
        maps[2] = 1
        depth = ndi.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        for number in range(1, count + 1):
            mask = labels == number
            maps[1][mask] = depth[mask] / depth[mask].max()
            maps[2][mask] = 1 - maps[1][mask]
            maps[3][mask] = np.log2(2 * np.sqrt(mask.sum() / np.pi)) / SIZE_OCTAVES
        return maps


def _draw_balls(radius: float, *, depth: int = 1, shape: tuple[int, int] = (160, 160)) -> Video:
    """Two balls, in the middle of a stack of one plane or more, 1 µm cubes."""
    z, y, x = np.indices((depth, *shape))
    middle = (depth - 1) / 2
    image = np.zeros((depth, *shape), np.uint8)
    for row, column in ((50, 50), (110, 100)):
        image[(z - middle) ** 2 + (y - row) ** 2 + (x - column) ** 2 <= radius**2] = 200
    stack = Stack(image, "zyx", spacing=Spacing(z_um=1.0, y_um=1.0, x_um=1.0))
    return stack.as_video("z")


def _see(video: Video, diameter_px: float | None = None) -> VideoEvidence:
    options = DetectionOptions(maps=DiscMaps(), diameter_px=diameter_px)
    return VideoEvidence(LearnedDetector(options), video)


def test_its_name_tells_the_weights() -> None:
    assert _see(_draw_balls(12)).name == "learned 0123456789ab"


def test_volume_gives_an_object_one_identity_on_all_its_slices() -> None:
    video = _draw_balls(12, depth=41)
    evidence = _see(video, 24)
    ids = [evidence.get_frame(frame).ids for frame in (14, 20, 26)]
    assert all(found is not None and len(found) == 2 for found in ids)
    assert len({tuple(found) for found in ids if found is not None}) == 1
    assert evidence.get_frame(1).labels.max() == 0


def test_frames_of_a_volume_are_numbered_from_one() -> None:
    frame = _see(_draw_balls(12, depth=41), 24).get_frame(20)
    assert sorted(np.unique(frame.labels)) == [0, 1, 2]
    assert len(frame.sureness) == 2
    assert frame.foreground[50, 50] > 200 and frame.foreground[5, 5] < 50


def test_time_lapse_has_no_identities() -> None:
    pixels = np.asarray(_draw_balls(12, depth=3).stack.data)
    video = Stack(np.repeat(pixels[1:2], 3, axis=0), "tyx").as_video("t")
    assert _see(video, 24).get_frame(1).ids is None


def test_real_nuclei_end_in_z_where_they_end(shared_folder: Path) -> None:
    """Three nuclei of 8 to 12 slices, one click each: without evidence they fill the stack."""
    folder = shared_folder / "data" / "zstack_and_2d_stardist"
    image, truth = (tifffile.imread(folder / name) for name in ("img3d.tif", "mask3d.tif"))
    spacing = Spacing(z_um=2.0, y_um=1.0, x_um=1.0)
    video = Stack(image, "zyx", spacing=spacing).as_video("z")
    maps = load_detector()
    evidence = VideoEvidence(LearnedDetector(DetectionOptions(maps=maps)), video)
    with Session(video, load_model("nano", device="cpu"), evidence=evidence) as session:
        tracks = (5, 23, 31)
        for track in tracks:
            frame = int((truth == track).sum(axis=(1, 2)).argmax())
            y, x = ndi.center_of_mass(truth[frame] == track)
            session.prompt(PointPrompt(frame, track, [(y, x)], [True]))
        session.run().finish()
        labels = np.stack([session.compute_label_plane(frame) for frame in range(len(video))])
    for track in tracks:
        shown, there = ((each == track).any(axis=(1, 2)) for each in (labels, truth))
        assert (shown & ~there).sum() <= 5
        ours, theirs = labels == track, truth == track
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.4
