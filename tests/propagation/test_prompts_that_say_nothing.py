"""Prompts that say nothing are refused or noted: negative points alone, one object twice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.api.job import Job, run_job
from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt, PromptLog, fit_log
from napari_sam2.core.stack import Stack, Video
from napari_sam2.models.load import load_model
from napari_sam2.propagation.review import Reason, review_session
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from tests.propagation.conftest import Start

SHAPE = (10, 64, 64)


def click(frame: int, track: int, *positive: bool) -> PointPrompt:
    return PointPrompt(frame, track, [(20 + 2 * n, 20) for n in range(len(positive))], positive)


@pytest.mark.parametrize(
    "prompts",
    [
        [click(0, 1, False)],
        [click(0, 1, False, False)],
        [click(0, 1, True), click(3, 1, False)],
        [click(0, 1, True), click(0, 2, False)],
        [BoxPrompt(0, 1, (10, 10, 30, 30)), click(0, 2, False)],
    ],
    ids=["one", "two", "another frame", "another track", "box of another"],
)
def test_only_negative_points_are_refused(open_session: Start, prompts: Sequence[Prompt]) -> None:
    session = open_session(make_drifting_scene())
    with pytest.raises(PromptError, match="only negative points"):
        session.prompt_many(prompts)
    assert len(session.log) == 0
    with pytest.raises(PromptError, match="only negative points"):
        fit_log(PromptLog(tuple(prompts)), SHAPE)


@pytest.mark.parametrize(
    "prompts",
    [
        [click(0, 1, False, True)],
        [click(0, 1, True), click(0, 1, False)],
        [BoxPrompt(0, 1, (10, 10, 30, 30)), click(0, 1, False)],
        [MaskPrompt(0, 1, np.eye(64) > 0), click(0, 1, False)],
    ],
    ids=["with a positive one", "after one", "in a box", "in a mask"],
)
def test_negative_points_correct_a_mask(open_session: Start, prompts: Sequence[Prompt]) -> None:
    open_session(make_drifting_scene()).prompt_many(prompts)
    fit_log(PromptLog(tuple(prompts)), SHAPE)


def test_a_negative_point_corrects_a_propagated_mask(open_session: Start) -> None:
    scene = make_drifting_scene()
    session = open_session(scene)
    session.prompt(scene.make_click(1))
    session.propagate(progress=False)
    (point,) = scene.make_click(1, 3).yx
    session.prompt(PointPrompt(3, 1, [point], [False]))


def test_a_job_with_a_typing_error_writes_nothing(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    np.save(tmp_path / "cells.npy", scene.stack.data)
    (tmp_path / "prompts.csv").write_text("track,frame,kind,y,x,positive\n1,0,point,20,20,0\n")
    job = Job(
        input=tmp_path / "cells.npy",
        prompts=tmp_path / "prompts.csv",
        out=tmp_path / "out",
        axes="TYX",
    )
    with pytest.raises(PromptError, match="track 1, frame 0: only negative points"):
        run_job(job, model=ToyModel())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((0, 0, 64, 64), (0, 0, 63.5, 63.5)),
        ((-5, 10, 30, 30), (-0.5, 10, 30, 30)),
        ((10, -2.5, 30, 200), (10, -0.5, 30, 63.5)),
        ((-1e9, -1e9, 1e9, 1e9), (-0.5, -0.5, 63.5, 63.5)),
        ((10, 10, 30, 30), (10, 10, 30, 30)),
    ],
    ids=["half-open", "above", "both sides", "all", "inside"],
)
def test_a_box_over_the_edge_is_cut(
    open_session: Start, box: tuple[float, ...], cut: tuple[float, ...]
) -> None:
    session = open_session(make_drifting_scene())
    session.prompt(BoxPrompt(0, 1, box))
    (kept,) = session.log.prompts
    assert isinstance(kept, BoxPrompt) and kept.box == cut
    again = open_session(make_drifting_scene())
    again.replay(PromptLog((BoxPrompt(0, 1, box),)))
    assert again.log.prompts == (kept,)
    again.replay(PromptLog((BoxPrompt(0, 1, box),)))  # the log of a file: nothing is left to do
    assert len(again.log) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        BoxPrompt(0, 1, (64, 0, 70, 10)),
        BoxPrompt(0, 1, (-20, 0, -1, 10)),
        BoxPrompt(0, 1, (0, 63.5, 10, 90)),
        PointPrompt(0, 1, [(63.6, 1)], [True]),
    ],
    ids=["below", "above", "at the edge", "point"],
)
def test_what_lies_outside_stays_an_error(open_session: Start, prompt: Prompt) -> None:
    with pytest.raises(PromptError, match="outside the frame"):
        open_session(make_drifting_scene()).prompt(prompt)


def _make_mask(*corners: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=bool)
    for y, x, y2, x2 in corners:
        mask[y:y2, x:x2] = True
    return mask


@pytest.mark.parametrize(
    ("second", "share"),
    [
        (_make_mask((10, 10, 30, 30)), 100),
        (_make_mask((15, 15, 25, 25)), 100),
        (_make_mask((10, 20, 30, 40)), 50),
    ],
    ids=["same", "inside", "half"],
)
def test_tracks_that_share_pixels_are_noted(
    open_session: Start, caplog: pytest.LogCaptureFixture, second: np.ndarray, share: int
) -> None:
    session = open_session(make_drifting_scene())
    session.prompt(MaskPrompt(0, 1, _make_mask((10, 10, 30, 30))))
    session.prompt(MaskPrompt(0, 2, second))
    results = session.collect_results()
    assert results.objects is not None
    (note,) = results.notes
    assert f"track 2 shares pixels with track 1 on 1 frames and loses up to {share} %" in note
    assert note in caplog.text
    lost = [(flag.track, flag.reason) for flag in review_session(session)]
    assert ((2, Reason.LOST) in lost) == (share == 100)


def test_tracks_side_by_side_are_not_noted(
    open_session: Start, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_session(make_drifting_scene())
    session.prompt(MaskPrompt(0, 1, _make_mask((10, 10, 30, 30))))
    session.prompt(MaskPrompt(0, 2, _make_mask((10, 27, 30, 50))))
    results = session.collect_results()
    assert results.objects is not None and not results.notes
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def _make_discs(
    shape: tuple[int, int], radius: float, frames: int, gone: Sequence[int] = ()
) -> tuple[Stack, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 <= radius**2
    image = rng.normal(40, 6, (frames, *shape))
    for frame in set(range(frames)) - set(gone):
        image[frame][disc] += 110
    return Stack(np.clip(image, 0, 255).astype(np.uint8), "tyx"), disc


@pytest.mark.parametrize(
    ("shape", "radius"),
    [((256, 256), 100), ((200, 200), 85), ((256, 320), 110), ((512, 512), 200)],
    ids=str,
)
def test_an_object_that_fills_the_frame_is_found_by_a_click(
    shape: tuple[int, int], radius: float
) -> None:
    stack, disc = _make_discs(shape, radius, frames=2)
    with Session(Video.of(stack), load_model("nano")) as session:
        session.prompt(PointPrompt(0, 1, [(shape[0] // 2, shape[1] // 2)], [True]))
        session.propagate(progress=False)
        for frame in range(2):
            mask = session.compute_label_plane(frame) == 1
            assert (mask & disc).sum() / (mask | disc).sum() > 0.8


@pytest.mark.parametrize(("radius", "gone"), [(8, (3, 4)), (11, (2, 3, 4)), (6, (4, 5))], ids=str)
def test_no_specks_are_left_of_an_object_that_is_gone(radius: float, gone: Sequence[int]) -> None:
    stack, _ = _make_discs((96, 96), radius, frames=7, gone=gone)
    with Session(Video.of(stack), load_model("nano")) as session:
        session.prompt(PointPrompt(0, 1, [(48, 48)], [True]))
        areas = session.propagate(progress=False).objects.set_index("frame")["area_px"]
    least = np.pi * radius**2 / 12
    assert not [frame for frame in gone if 0 < areas.get(frame, 0) < least]
    assert areas.get(0, 0) > least and areas.get(1, 0) > least
