"""The contract of detectors: each of its tests fails on a detector that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_sam2.core.prompt import PointPrompt, Prompt, renumber_prompt
from napari_sam2.core.protocols import Detector
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.testing.contracts import DetectorContract
from napari_sam2.testing.scenes import Scene


class Told(LabelImageDetector):
    """Knows the truth, and says it as `change` has it."""

    def __init__(
        self, scene: Scene, change: Callable[[list[Prompt], dict[str, Any]], list[Prompt]]
    ) -> None:
        super().__init__(DetectionOptions(labels=scene.labels, kind="point"))
        self.change = change
        self.asked = 0

    def detect(self, video, frame, *, first_track=1, occupied=None):
        self.asked += 1
        said = super().detect(video, frame, first_track=first_track, occupied=occupied)
        return self.change(
            said,
            {
                "frame": frame,
                "first": first_track,
                "taken": occupied,
                "asked": self.asked,
                "whole": super().detect(video, frame),
            },
        )


def wrong(frame: int) -> Prompt:
    return PointPrompt(frame, 1, [(1.0, 1.0)], [True])


BROKEN: dict[str, Callable[[list[Prompt], dict[str, Any]], list[Prompt]]] = {
    "test_each_object_gets_one_prompt_inside_it": lambda said, how: [*said, *said[:1]],
    "test_prompts_lie_on_the_requested_frame": lambda said, how: [
        PointPrompt(9999, 1, [(1.0, 1.0)], [True])
    ],
    "test_tracks_are_numbered_from_first": lambda said, how: [
        renumber_prompt(each, number) for number, each in enumerate(said, start=1)
    ],
    "test_the_same_frame_gets_the_same_answer": lambda said, how: said[: how["asked"]],
    "test_known_objects_are_left_out": lambda said, how: how["whole"],
    "test_a_fully_occupied_frame_gives_nothing": lambda said, how: how["whole"],
    "test_frame_without_objects_gives_nothing": lambda said, how: said or [wrong(how["frame"])],
    "test_noise_alone_gives_nothing": lambda said, how: said or [wrong(how["frame"])],
}


class Nameless(LabelImageDetector):
    name = ""


def run(test: str, make: Callable[[Scene], Detector]) -> None:
    contract = DetectorContract()
    contract.make_detector = make  # type: ignore[method-assign, assignment]
    getattr(contract, test)()


@pytest.mark.parametrize("test", BROKEN)
def test_broken_detector_fails_that_test(test: str) -> None:
    with pytest.raises(Exception, match=r"(?s).*"):
        run(test, lambda scene: Told(scene, BROKEN[test]))
    run(test, lambda scene: Told(scene, lambda said, how: said))


def test_nameless_detector_fails_its_test() -> None:
    with pytest.raises(AssertionError, match="name"):
        run("test_it_has_a_name", lambda scene: Nameless(DetectionOptions(labels=scene.labels)))


def test_every_test_of_the_contract_is_shown_to_fail() -> None:
    tests = {name for name in dir(DetectorContract) if name.startswith("test_")}
    assert tests == {*BROKEN, "test_it_has_a_name"}
