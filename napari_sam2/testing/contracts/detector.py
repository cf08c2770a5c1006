"""The contract of detectors, as tests to inherit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import MaskPrompt, check_prompt
from napari_sam2.core.protocols import Detector
from napari_sam2.core.stack import Stack, Video
from napari_sam2.testing.scenes import Scene, make_drifting_scene


class DetectorContract:
    """Tests of a Detector: inherit, and override `make_detector`, and `make_scene` if needed."""

    def make_detector(self, scene: Scene) -> Detector:
        """Return a new detector for a scene, as a user would make it."""
        raise NotImplementedError("override make_detector")

    def make_scene(self) -> Scene:
        """Return a scene of separate bright discs on black."""
        return make_drifting_scene(count=4, frames=4, shape=(128, 128))

    def test_it_has_a_name(self) -> None:
        assert self.make_detector(self.make_scene()).name, (
            "a detector needs a name for the provenance"
        )

    def test_each_object_gets_one_prompt_inside_it(self) -> None:
        scene = self.make_scene()
        for frame in (0, 2):
            prompts = self.make_detector(scene).detect(scene.video, frame)
            hits = [_find_object(prompt, scene.labels[frame]) for prompt in prompts]
            expected = sorted(int(label) for label in np.unique(scene.labels[frame]) if label)
            assert sorted(hits) == expected, (
                f"frame {frame}: prompts lie on {sorted(hits)}, the objects are {expected}"
            )

    def test_prompts_lie_on_the_requested_frame(self) -> None:
        scene = self.make_scene()
        for prompt in self.make_detector(scene).detect(scene.video, 1):
            check_prompt(prompt, scene.video.shape)
            assert prompt.frame == 1, f"a prompt on frame {prompt.frame}: expected frame 1"

    def test_tracks_are_numbered_from_first(self) -> None:
        scene = self.make_scene()
        tracks = [
            prompt.track
            for prompt in self.make_detector(scene).detect(scene.video, 0, first_track=70_001)
        ]
        assert tracks == list(range(70_001, 70_001 + len(scene.tracks))), (
            f"tracks {tracks}: expected numbers from 70001"
        )

    def test_the_same_frame_gets_the_same_answer(self) -> None:
        scene = self.make_scene()
        detector = self.make_detector(scene)
        first = detector.detect(scene.video, 0)
        detector.detect(scene.video, 2)
        assert detector.detect(scene.video, 0) == first, "one frame gave two different results"

    def test_known_objects_are_left_out(self) -> None:
        scene = self.make_scene()
        occupied = np.isin(scene.labels[0], scene.tracks[:2])
        hits = [
            _find_object(prompt, scene.labels[0])
            for prompt in self.make_detector(scene).detect(scene.video, 0, occupied=occupied)
        ]
        assert sorted(hits) == list(scene.tracks[2:]), (
            f"tracks 1 and 2 are known, but {sorted(hits)} were prompted"
        )

    def test_a_fully_occupied_frame_gives_nothing(self) -> None:
        scene = self.make_scene()
        occupied = np.ones(scene.labels[0].shape, dtype=bool)
        assert self.make_detector(scene).detect(scene.video, 0, occupied=occupied) == []

    def test_frame_without_objects_gives_nothing(self) -> None:
        scene = self.make_scene()
        empty = _remove_objects(scene, noise=0.0)
        assert self.make_detector(empty).detect(_make_video(empty), 1) == [], (
            "an object was detected on an empty frame"
        )

    def test_noise_alone_gives_nothing(self) -> None:
        scene = self.make_scene()
        empty = _remove_objects(scene, noise=300.0)
        found = self.make_detector(empty).detect(_make_video(empty), 1)
        assert found == [], f"{len(found)} objects were detected in noise"


def _find_object(prompt: object, labels: np.ndarray) -> int:
    """Find the true object at a click, in the middle of a box, or under most of a mask."""
    if isinstance(prompt, MaskPrompt):
        return int(np.bincount(labels[prompt.mask]).argmax())
    yx = getattr(prompt, "yx", None)
    y, x = yx[0] if yx else np.array(prompt.box).reshape(2, 2).mean(axis=0)  # type: ignore[attr-defined]  # a point or a box
    return int(labels[round(float(y)), round(float(x))])


def _remove_objects(scene: Scene, *, noise: float) -> Scene:
    """Replace the objects of a scene by noise of this standard deviation."""
    data = (
        np.random.default_rng(5)
        .normal(500.0, noise, scene.stack.data.shape)
        .clip(0, 65535)
        .astype(np.uint16)
    )
    stack = Stack(data, scene.stack.axes, scene.stack.spacing)
    return replace(scene, stack=stack, labels=np.zeros_like(scene.labels))


def _make_video(scene: Scene) -> Video:
    """Open a scene with the contrast of another file."""
    return Video.of(scene.stack, contrast=Contrast(0.0, 50_000.0))
