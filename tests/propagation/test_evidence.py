"""Rules of evidence, each a named test: a fake detector beside the toy model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam2.core.errors import ModelError
from napari_sam2.core.inference_options import parse_evidence
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.result import DetectedObject, FrameDetections
from napari_sam2.propagation.evidence import compute_object_iou
from napari_sam2.propagation.review import Reason, review_session
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_ellipsoid_scene
from napari_sam2.testing.toy import ToyModel
from tests.propagation.conftest import labels as read_labels

SURE = 0.95


@dataclass
class FakeEvidence:
    """Detections from a (frames, H, W) label stack; a volume has one identity per label."""

    objects: np.ndarray
    volume: bool = False
    sureness: float = SURE
    foreground: np.ndarray | None = None
    name: str = "fake"
    asked: list[int] = field(default_factory=list)

    def get_frame(self, frame: int) -> FrameDetections:
        self.asked.append(frame)
        plane = self.objects[frame]
        ids = np.unique(plane[plane > 0])
        seen = plane > 0 if self.foreground is None else self.foreground[frame]
        return FrameDetections(
            np.searchsorted(ids, plane).astype(np.int32) + (plane > 0),
            seen.astype(np.uint8) * 255,
            np.full(len(ids), self.sureness, np.float32),
            ids if self.volume else None,
        )


Open = Callable[..., Session]


def _doubt_own_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model predict an IoU of 0.5 for its own masks."""
    segment = ToyModel.segment

    def _segment(self: ToyModel, embedding: Any, queries: Any) -> list[Any]:
        return [replace(each, iou=0.5) for each in segment(self, embedding, queries)]

    monkeypatch.setattr(ToyModel, "segment", _segment)


@pytest.fixture
def open_with(request: pytest.FixtureRequest) -> Open:
    def _open(scene: Scene, detections: FakeEvidence | None, **settings: object) -> Session:
        session = Session(
            scene.video, ToyModel(), settings=SessionSettings(**settings), evidence=detections
        )
        request.addfinalizer(session.close)
        return session

    return _open


def _make_disc(centre: tuple[int, int], radius: int, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2)


def _grow(scene: Scene, frame: int, track: int, radius: int) -> np.ndarray:
    """The truth of a scene, one object of it a larger disc on one frame."""
    wrong = np.array(scene.labels)
    rows, columns = np.nonzero(scene.mask(track, frame))
    disc = _make_disc((round(rows.mean()), round(columns.mean())), radius, wrong.shape[1:])
    wrong[frame][disc] = track
    return wrong


def _run(session: Session, scene: Scene) -> np.ndarray:
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    return read_labels(session)


def _see_wider(scene: Scene, radius: int = 12, sureness: float = SURE) -> FakeEvidence:
    """Detections of which track 1 is a larger disc on the first frame."""
    return FakeEvidence(_grow(scene, 0, 1, radius), sureness=sureness)


# the names of the parts


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("all", ("click", "presence", "mask", "review")),
        ("none", ()),
        ("mask,click", ("click", "mask")),
        (" presence ", ("presence",)),
    ],
)
def test_parts_are_read_in_their_own_order(given: str, parts: tuple[str, ...]) -> None:
    assert parse_evidence(given) == parts


@pytest.mark.parametrize("given", ["", "clicks", "all,click", "none,mask", "click;mask"])
def test_an_unknown_part_is_refused(given: str) -> None:
    with pytest.raises(ModelError, match="expected 'all', 'none'"):
        parse_evidence(given)


# none is as before


def test_none_gives_the_stored_bytes_of_a_session_without_evidence(
    open_with: Open, tmp_path: Path
) -> None:
    scene = make_ellipsoid_scene()
    stored = []
    for name, evidence in (("without", None), ("none", FakeEvidence(np.array(scene.labels)))):
        (tmp_path / name).mkdir()
        session = open_with(scene, evidence, folder=tmp_path / name, evidence="none")
        _run(session, scene)
        assert session.evidence is None and "evidence" not in session.make_provenance().settings
        stored.append(
            [
                [(each.logits.tobytes(), each.pointer.tobytes()) for each in found]
                for found in map(session.get_segments, range(len(scene.video)))
            ]
        )
    assert stored[0] == stored[1]


def test_provenance_names_the_detector_and_the_parts(open_with: Open) -> None:
    scene = make_drifting_scene()
    session = open_with(scene, FakeEvidence(np.array(scene.labels)), evidence="mask,click")
    assert session.make_provenance().settings["evidence"] == "click, mask: fake"


# click


def test_click_gives_the_instance_that_a_sure_detector_sees(
    open_with: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene()
    evidence = _see_wider(scene)
    session = open_with(scene, evidence, evidence="click")
    _doubt_own_masks(monkeypatch)
    session.prompt(scene.make_click(1, 0))
    np.testing.assert_array_equal(session.compute_label_plane(0) == 1, evidence.objects[0] == 1)


def test_click_offers_the_mask_of_the_model_beside_the_chosen_instance(
    open_with: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene()
    session = open_with(scene, _see_wider(scene), evidence="click")
    _doubt_own_masks(monkeypatch)
    answer = session.prompt(scene.make_click(1, 0))
    rows, columns = (slice(0, size) for size in scene.video.shape[1:])
    shown = [answer.window.paste(each.logits, rows, columns) > 0 for each in answer.alternatives]
    assert len(shown) > 1
    assert any(np.array_equal(each, scene.mask(1, 0)) for each in shown[1:])


@pytest.mark.parametrize(("radius", "sureness"), [(12, 0.2), (12, 0.65), (60, SURE)])
def test_click_keeps_the_mask_of_the_model_if_an_instance_is_unsure_or_far_larger(
    open_with: Open, monkeypatch: pytest.MonkeyPatch, radius: int, sureness: float
) -> None:
    scene = make_drifting_scene()
    session = open_with(scene, _see_wider(scene, radius, sureness), evidence="click")
    _doubt_own_masks(monkeypatch)
    session.prompt(scene.make_click(1, 0))
    np.testing.assert_array_equal(session.compute_label_plane(0) == 1, scene.mask(1, 0))


def test_click_keeps_the_mask_of_a_model_that_is_as_sure(open_with: Open) -> None:
    scene = make_drifting_scene()
    session = open_with(scene, _see_wider(scene), evidence="click")
    session.prompt(scene.make_click(1, 0))
    np.testing.assert_array_equal(session.compute_label_plane(0) == 1, scene.mask(1, 0))


def test_click_takes_no_instance_on_a_negative_click(
    open_with: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene()
    evidence = _see_wider(scene)
    session = open_with(scene, evidence, evidence="click")
    _doubt_own_masks(monkeypatch)
    inside = scene.make_click(1, 0).yx[0]
    ring = np.argwhere((evidence.objects[0] == 1) & (scene.labels[0] == 0))[0]
    session.prompt(PointPrompt(0, 1, [inside, ring.tolist()], [True, False]))
    assert not (session.compute_label_plane(0) == 1)[tuple(ring)]


def test_a_correction_is_not_undone(open_with: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_drifting_scene()
    evidence = _see_wider(scene)
    session = open_with(scene, evidence, evidence="all")
    _doubt_own_masks(monkeypatch)
    session.prompt(scene.make_click(1, 0))
    ring = np.argwhere((evidence.objects[0] == 1) & (scene.labels[0] == 0))[0]
    session.prompt(PointPrompt(0, 1, [ring.tolist()], [False]))
    corrected = session.compute_label_plane(0)
    assert not (corrected == 1)[tuple(ring)]
    session.prompt(scene.make_click(1, 0))  # one more click does not bring the instance back
    assert not (session.compute_label_plane(0) == 1)[tuple(ring)]


def test_a_correction_of_a_tracked_frame_sticks(open_with: Open) -> None:
    scene = make_drifting_scene()
    wider = np.where(scene.labels == 0, 0, scene.labels)
    for frame in range(len(wider)):
        wider[frame] = _grow(scene, frame, 1, 12)[frame]
    session = open_with(scene, FakeEvidence(wider), evidence="all")
    _run(session, scene)
    session.prompt(MaskPrompt(4, 1, scene.mask(1, 4)))
    session.run().finish()
    np.testing.assert_array_equal(session.compute_label_plane(4) == 1, scene.mask(1, 4))


def test_box_gives_the_instance_that_fills_it_if_the_model_doubts(
    open_with: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene()
    mask = scene.mask(1, 0)
    objects = np.array(scene.labels)
    objects[0][tuple(np.argwhere(mask)[0])] = 0  # one pixel less
    session = open_with(scene, FakeEvidence(objects), evidence="click")
    _doubt_own_masks(monkeypatch)
    low, high = np.argwhere(mask).min(axis=0) - 0.5, np.argwhere(mask).max(axis=0) + 0.5
    session.prompt(BoxPrompt(0, 1, [*low, *high]))
    np.testing.assert_array_equal(session.compute_label_plane(0) == 1, objects[0] == 1)


def test_box_keeps_the_mask_of_the_model_and_offers_the_instance(open_with: Open) -> None:
    scene = make_drifting_scene()
    mask = scene.mask(1, 0)
    near = mask.copy()
    near[tuple(np.argwhere(mask)[0])] = False  # one pixel less
    objects = np.array(scene.labels)
    objects[0] = np.where(mask, near, objects[0])
    session = open_with(scene, FakeEvidence(objects), evidence="click")
    low, high = np.argwhere(mask).min(axis=0) - 0.5, np.argwhere(mask).max(axis=0) + 0.5
    answer = session.prompt(BoxPrompt(0, 1, [*low, *high]))
    np.testing.assert_array_equal(session.compute_label_plane(0) == 1, mask)
    rows, columns = (slice(0, size) for size in scene.video.shape[1:])
    np.testing.assert_array_equal(
        answer.window.paste(answer.alternatives[-1].logits, rows, columns) > 0, near
    )


# presence


def test_presence_ends_a_track_that_nothing_is_seen_of_on_two_frames(open_with: Open) -> None:
    scene = make_drifting_scene()
    seen = np.array(scene.labels)
    seen[5:] = 0
    session = open_with(scene, FakeEvidence(seen), evidence="presence")
    found = _run(session, scene)
    np.testing.assert_array_equal(found[:5], scene.labels[:5])
    assert not found[5:].any()


@pytest.mark.parametrize("gap", [2, 3, 5])
def test_presence_passes_over_a_gap_of_one_frame(open_with: Open, gap: int) -> None:
    scene = make_drifting_scene(speed=0)
    seen = np.array(scene.labels)
    seen[gap] = 0
    found = _run(open_with(scene, FakeEvidence(seen), evidence="presence"), scene)
    assert found[gap + 1].any()


def test_presence_is_not_judged_by_a_blind_detector(
    open_with: Open, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make_drifting_scene()
    with caplog.at_level(logging.INFO, logger="napari_sam2"):
        blind = FakeEvidence(np.zeros_like(scene.labels))
        found = _run(open_with(scene, blind, evidence="all"), scene)
    np.testing.assert_array_equal(found, scene.labels)
    told = [each for each in caplog.messages if "does not see it" in each]
    assert len(told) == len(scene.tracks)


def test_presence_lets_an_object_reappear(open_with: Open) -> None:
    scene = make_drifting_scene(speed=0)
    seen = np.array(scene.labels)
    seen[3:6] = 0
    found = _run(open_with(scene, FakeEvidence(seen), evidence="presence"), scene)
    assert found[2].any() and not found[4].any() and found[7].any()


def test_an_identity_of_a_volume_says_where_an_object_ends(open_with: Open) -> None:
    scene = make_ellipsoid_scene()
    track = scene.tracks[0]
    frames = scene.find_frames(track)
    volume = np.array(scene.labels)
    volume[frames[-2] :][volume[frames[-2] :] == track] = 99  # another object from here on
    session = open_with(scene, FakeEvidence(volume, volume=True), evidence="presence")
    session.prompt(scene.make_click(track))
    session.run().finish()
    shown = (read_labels(session) == track).any(axis=(1, 2))
    assert shown[frames[-3]] and not shown[frames[-2] :].any()


# mask


def test_mask_is_that_of_the_instance_which_agrees(open_with: Open) -> None:
    scene = make_drifting_scene(speed=0)
    eroded = np.array(scene.labels)
    rows, _ = np.nonzero(scene.mask(1, 4))
    eroded[4][(eroded[4] == 1) & (np.indices(eroded[4].shape)[0] < rows.min() + 6)] = 0
    session = open_with(scene, FakeEvidence(eroded), evidence="mask")
    found = _run(session, scene)
    assert (found[4] == 1).sum() < scene.mask(1, 4).sum()


def test_mask_of_the_model_stays_if_the_instance_is_about_the_same(open_with: Open) -> None:
    scene = make_drifting_scene()
    near = np.array(scene.labels)
    for plane in near:
        plane[tuple(np.argwhere(plane == 1)[0])] = 0  # one pixel less
    found = _run(open_with(scene, FakeEvidence(near), evidence="mask"), scene)
    np.testing.assert_array_equal(found, scene.labels)


def test_mask_of_the_model_stays_if_the_instance_is_of_another_size_than_in_memory(
    open_with: Open,
) -> None:
    scene = make_drifting_scene(speed=0)
    merged = np.array(scene.labels)
    merged[4] = 1  # a detection that fills the frame
    found = _run(open_with(scene, FakeEvidence(merged), evidence="mask"), scene)
    np.testing.assert_array_equal(found, scene.labels)


# order, resume, caches


def test_results_do_not_depend_on_other_tracks(open_with: Open) -> None:
    scene = make_drifting_scene()
    seen = np.array(scene.labels)
    seen[5:] = 0
    together = _run(open_with(scene, FakeEvidence(seen)), scene)
    for track in scene.tracks:
        alone = open_with(scene, FakeEvidence(seen))
        alone.prompt(scene.make_click(track))
        alone.run().finish()
        np.testing.assert_array_equal(read_labels(alone) == track, together == track)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_killed_run_goes_on_to_the_same_result(
    open_with: Open, tmp_path: Path, stop: int
) -> None:
    scene = make_drifting_scene()
    seen = _grow(scene, 3, 1, 12)
    seen[5] = 0
    whole = _run(open_with(scene, FakeEvidence(seen)), scene)
    first = open_with(scene, FakeEvidence(seen), folder=tmp_path)
    first.prompt_many(scene.make_log().prompts)
    for step in first.run():
        if step.position == stop:
            break
    second = open_with(scene, FakeEvidence(seen), folder=tmp_path)
    second.resume(first.log)
    second.run().finish()
    np.testing.assert_array_equal(read_labels(second), whole)


def test_caches_of_embeddings_change_nothing(open_with: Open, tmp_path: Path) -> None:
    scene = make_drifting_scene()
    seen = _grow(scene, 3, 1, 12)
    seen[5:] = 0
    results = [
        _run(open_with(scene, FakeEvidence(seen), **settings), scene)
        for settings in (
            {"embedding_bytes": 1},
            {"folder": tmp_path, "embedding_disk_bytes": 1 << 24},
            {},
        )
    ]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])


@pytest.mark.parametrize(
    ("shift", "expected"), [((0, 0), 1.0), ((0, 2), 1 / 3), ((5, 5), 0.0), ((2, 0), 1 / 3)]
)
def test_iou_of_objects(shift: tuple[int, int], expected: float) -> None:
    square = np.ones((4, 4), bool)
    one, other = DetectedObject(square, (3, 3), 1), DetectedObject(square, (3, 3), 1)
    moved = DetectedObject(square, (3 + shift[0], 3 + shift[1]), 1)
    assert compute_object_iou(one, moved) == pytest.approx(expected)
    assert compute_object_iou(one, other) == 1


# review


def _find_reasons(session: Session) -> list[tuple[int, int, str]]:
    review = review_session(session)
    return [
        (each.track, each.frame, each.reason)
        for each in review
        if each.reason in (Reason.UNSEEN, Reason.UNTRACKED)
    ]


def test_review_names_what_is_tracked_and_not_detected_once(open_with: Open) -> None:
    scene = make_drifting_scene(speed=0)
    seen = np.array(scene.labels)
    seen[4:6][seen[4:6] == 1] = 0
    session = open_with(scene, FakeEvidence(seen), evidence="review")
    _run(session, scene)
    assert _find_reasons(session) == [(1, 4, Reason.UNSEEN)]


def test_review_names_what_is_detected_and_not_tracked_once(open_with: Open) -> None:
    scene = make_drifting_scene(speed=0)
    session = open_with(scene, FakeEvidence(np.array(scene.labels)), evidence="review")
    session.prompt(scene.make_click(1))
    session.run().finish()
    found = [flag for flag in review_session(session) if flag.reason == Reason.UNTRACKED]
    assert [(flag.track, flag.frame) for flag in found] == [(0, 0)] * (len(scene.tracks) - 1)
    for flag in found:
        assert flag.yx is not None
        assert scene.labels[0][round(flag.yx[0]), round(flag.yx[1])] > 1


@pytest.mark.parametrize("parts", ["none", "click,mask", "presence"])
def test_review_is_as_before_without_its_part(open_with: Open, parts: str) -> None:
    scene = make_drifting_scene(speed=0)
    session = open_with(scene, FakeEvidence(np.array(scene.labels)), evidence=parts)
    session.prompt(scene.make_click(1))
    session.run().finish()
    assert _find_reasons(session) == []


@pytest.mark.parametrize("sureness", [0.0, 0.3, 0.6])
def test_review_leaves_unsure_detections_out(open_with: Open, sureness: float) -> None:
    scene = make_drifting_scene(speed=0)
    unsure = FakeEvidence(np.array(scene.labels), sureness=sureness)
    session = open_with(scene, unsure, evidence="review")
    session.prompt(scene.make_click(1))
    session.run().finish()
    assert _find_reasons(session) == []
