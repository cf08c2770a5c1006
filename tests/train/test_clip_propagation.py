"""Clips are propagated in training as by a session with the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import BoxPrompt, FramePrompts, MaskPrompt, PointPrompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.models.network.configs import Configuration
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.train.clip_propagation import (
    MemoryLimits,
    PromptedBatch,
    PropagationOptions,
    propagate_batch,
)
from tests.models.networks import SMALL, SMALL_CONV, make_model

NETWORKS = {
    "hiera": SMALL,
    "conv": SMALL_CONV,
    "conv, with propagated masks and refinement": replace(
        SMALL_CONV, propagated_mask=True, refinement=True
    ),
    "conv, without optional abilities": replace(
        SMALL_CONV,
        pointer_time=False,
        previous_logits=False,
        single_mask=False,
        presence_head=False,
    ),
}
SIZE, FRAMES = 64, 5
CLICKS = {0: (30.0, 20.0), 3: (25.0, 33.0)}
"""Corrections of the first object, by frame."""


@pytest.fixture(autouse=True)
def _unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep memories of sessions in float32, as in training."""
    for name in ("bfloat16", "half"):
        monkeypatch.setattr(torch.Tensor, name, torch.Tensor.float)


def _clip() -> np.ndarray:
    rng = np.random.default_rng(4)
    frames = rng.random((FRAMES, SIZE, SIZE), dtype=np.float32) * 0.2
    for index, frame in enumerate(frames):
        frame[20:40, 10 + index : 30 + index] += 0.6
        frame[5:15, 40:60] += 0.3
    return frames


def _masks() -> np.ndarray:
    masks = np.zeros((3, FRAMES, SIZE, SIZE), dtype=bool)
    masks[0, :, 20:40, 10:30] = True
    masks[1, :, 5:15, 40:60] = True
    masks[2, :, 45:60, 8:30] = True
    return masks


def _model(configuration: Configuration) -> Sam2Predictor:
    made = make_model(configuration, size=SIZE, presence=3.0)
    made.card = replace(made.card, memory_slots=3, pointers=4)
    return made


def _batch(said: tuple[FramePrompts, ...]) -> PromptedBatch:
    frames, masks = torch.from_numpy(_clip())[None], torch.from_numpy(_masks())
    return PromptedBatch(frames, torch.zeros(len(said), dtype=torch.long), masks[: len(said)], said)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clip_is_propagated_as_a_session_propagates_it(name: str) -> None:
    """A click, a box and a mask, propagated over more frames than there are tracked memories."""
    ours, mask = _model(NETWORKS[name]), _masks()[2, 0]
    said = (
        FramePrompts(points=((30.0, 20.0),), positive=(True,)),
        FramePrompts(box=(4.5, 39.5, 14.5, 59.5)),
        FramePrompts(mask=mask),
    )
    walk = propagate_batch(
        ours.network,
        _batch(said),
        PropagationOptions(MemoryLimits(2, 4)),
        lambda prediction, truth: ((0.0, 0.0), True),
    )
    with Session(
        Video.of(Stack(_clip(), "tyx"), contrast=Contrast(0, 1)),
        ours,
        settings=SessionSettings(patience=None),
    ) as session:
        session.prompt_many(
            [
                PointPrompt(0, 1, [(30, 20)], [True]),
                BoxPrompt(0, 2, (4.5, 39.5, 14.5, 59.5)),
                MaskPrompt(0, 3, mask),
            ]
        )
        session.run().finish()
        for frame in range(FRAMES):
            _same(
                walk.predictions[frame].logits.detach().numpy(),
                [each.logits for each in session.get_segments(frame)],
            )
    assert walk.predictions[1].logits.requires_grad


@pytest.mark.parametrize("name", NETWORKS)
def test_a_correction_is_the_engines_correction(name: str) -> None:
    """Corrections on the first frame, and on a later one with memory and previous logits."""
    ours = _model(NETWORKS[name])
    clicks = iter(CLICKS.values())
    script = PropagationOptions(MemoryLimits(2, 4), corrections={0: 1, 3: 1})
    said = (FramePrompts(points=((28.0, 22.0),), positive=(True,)),)
    walk = propagate_batch(
        ours.network, _batch(said), script, lambda prediction, truth: (next(clicks), False)
    )
    with Session(
        Video.of(Stack(_clip(), "tyx"), contrast=Contrast(0, 1)),
        ours,
        settings=SessionSettings(patience=None),
    ) as session:
        session.prompt(PointPrompt(0, 1, [(28, 22)], [True]))
        session.prompt(PointPrompt(0, 1, [CLICKS[0]], [False]))
        session.run().finish()
        before = session.get_segments(3)[0].logits
        session.prompt(PointPrompt(3, 1, [CLICKS[3]], [False]))
        assert np.abs(session.get_segments(3)[0].logits - before).max() > 0.1
        session.run().finish()
        for frame in (0, 3, 4):
            _same(
                walk.predictions[frame].logits.detach().numpy(),
                [each.logits for each in session.get_segments(frame)],
            )


def test_objects_of_several_clips_do_not_touch_each_other() -> None:
    ours = _model(SMALL_CONV)
    frames = torch.from_numpy(np.stack([_clip(), _clip()[:, ::-1].copy()]))
    masks = torch.from_numpy(_masks())
    said = tuple(
        FramePrompts(points=(place,), positive=(True,))
        for place in ((30.0, 20.0), (10.0, 50.0), (40.0, 20.0))
    )
    correct = {0: 1, 2: 1}
    together = propagate_batch(
        ours.network,
        PromptedBatch(frames, torch.tensor([0, 1, 0]), masks, said),
        PropagationOptions(MemoryLimits(recent=2), corrections=correct),
        lambda p, t: ((9.0, 9.0), True),
    )
    for row, clip in enumerate((0, 1, 0)):
        alone = PromptedBatch(
            frames[clip][None], torch.tensor([0]), masks[row : row + 1], said[row : row + 1]
        )
        walk = propagate_batch(
            ours.network,
            alone,
            PropagationOptions(MemoryLimits(recent=2), corrections=correct),
            lambda p, t: ((9.0, 9.0), True),
        )
        for mine, ours_ in zip(walk.predictions, together.predictions, strict=True):
            np.testing.assert_allclose(
                mine.logits[0].detach(), ours_.logits[row].detach(), atol=2e-3, rtol=1e-3
            )


def _same(rehearsed: np.ndarray, answered: list[np.ndarray]) -> None:
    answers = np.stack(answered)
    scale = np.abs(answers[np.abs(answers) < 1000]).max(initial=1.0)
    assert np.abs(rehearsed - answers).max() < 0.002 * scale
