"""A session with SAM 2 compared with the reference implementation.

The reference predictor's outputs are in the developers' folder `shared/reference` (its README says
how they were made).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.models.load import load_model
from napari_sam2.models.network.configs import infer_configuration
from napari_sam2.models.weights.checkpoints import read_checkpoint
from napari_sam2.models.weights.key_mapping import rename_keys
from napari_sam2.propagation.session import Session, SessionSettings

# Of logits of up to 10. The session of transformers differs from the reference by 2.4e-3 before any
# correction.
_TOLERANCE = 5e-3
_TRACKS = {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.fixture(scope="module")
def outputs(shared_folder: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with np.load(shared_folder / "reference" / "reference_small.npz") as file:
        yield file


@pytest.fixture(scope="module")
def video(outputs: np.lib.npyio.NpzFile) -> Video:
    return Video.of(Stack(outputs["frames"], "tyx"), contrast=Contrast(0, 255))


@pytest.fixture
def session(
    video: Video, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    monkeypatch.setattr(
        "napari_sam2.propagation.session.fit_prompt", lambda prompt, _: prompt
    )  # some clicks of the reference lie outside the frame
    with Session(
        video, _load_model(shared_folder), settings=SessionSettings(patience=None)
    ) as session:
        yield session


def _load_model(shared: Path) -> VideoModel:
    path = shared / "reference" / "meta_format_small.pt"
    configuration = infer_configuration(
        rename_keys(read_checkpoint(path)[0]), global_blocks=(5,)
    )  # the weights do not tell it
    return load_model(
        path, device="cpu", configuration=configuration, image_size=256, attention="global"
    )


def _make_prompt(outputs: np.lib.npyio.NpzFile, name: str) -> Prompt:
    kind, frame, given = (
        str(outputs[f"prop_{name}_kind"]),
        int(outputs[f"prop_{name}_frame"]),
        outputs[f"prop_{name}_prompt"],
    )
    if kind == "mask":
        return MaskPrompt(frame, _TRACKS[name], given)
    if kind == "box":
        x, y, x2, y2 = given
        return BoxPrompt(frame, _TRACKS[name], (y, x, y2, x2))
    return PointPrompt(frame, _TRACKS[name], [given[::-1]], [True])


def _make_correction(outputs: np.lib.npyio.NpzFile, name: str) -> PointPrompt:
    points = outputs[f"corr_{name}_points_xy"][:, ::-1]
    return PointPrompt(
        int(outputs[f"corr_{name}_frame"]),
        _TRACKS[name],
        points,
        outputs[f"corr_{name}_labels"] == 1,
    )


def _check_equal(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
    """Check logits on every frame, and masks over all, where cells of about 0 may differ."""
    np.testing.assert_allclose(ours, theirs, atol=_TOLERANCE, rtol=1e-4)
    first, second = np.asarray(ours) > 0, np.asarray(theirs) > 0
    assert (first & second).sum() / (first | second).sum() >= 0.998


def _get_logits(session: Session, track: int) -> dict[int, np.ndarray]:
    answers = [
        segment for frame in range(len(session.video)) for segment in session.get_segments(frame)
    ]
    return {segment.frame: segment.logits for segment in answers if segment.track == track}


def test_four_objects_together_are_as_each_alone_in_the_reference(
    session: Session, outputs: np.lib.npyio.NpzFile
) -> None:
    session.prompt_many([_make_prompt(outputs, name) for name in _TRACKS])
    session.run().finish()
    for name, track in _TRACKS.items():
        expected = outputs[f"prop_{name}_lowres"]
        answers = _get_logits(session, track)
        assert set(answers) == set(np.flatnonzero(np.isfinite(expected).all(axis=(1, 2))).tolist())
        _check_equal(list(answers.values()), expected[list(answers)])


@pytest.mark.parametrize("name", ["a", "d"])
def test_a_correction_and_its_propagation(
    session: Session, outputs: np.lib.npyio.NpzFile, name: str
) -> None:
    session.prompt_many([_make_prompt(outputs, each) for each in _TRACKS])
    session.run().finish()
    correction = _make_correction(outputs, name)
    _check_equal([session.prompt(correction).logits], [outputs[f"corr_{name}_lowres_after_click"]])
    first, track = session.log.find_first_frame(_TRACKS[name]), _TRACKS[name]
    session.run(Propagation((PropagationRange(track, first, len(session.video) - 1),))).finish()
    expected = outputs[f"corr_{name}_lowres_repropagated"]
    propagated = [
        frame for frame in range(first, len(session.video)) if np.isfinite(expected[frame]).all()
    ]
    assert correction.frame in propagated
    _check_equal([_get_logits(session, track)[frame] for frame in propagated], expected[propagated])


def test_a_correction_propagated_until_nothing_changes_is_as_everywhere(
    session: Session, outputs: np.lib.npyio.NpzFile
) -> None:
    """Few pixels differ from the reference, which propagates over all frames."""
    session.prompt_many([_make_prompt(outputs, each) for each in _TRACKS])
    session.run().finish()
    session.prompt(_make_correction(outputs, "a"))
    session.run().finish()
    expected = outputs["corr_a_lowres_repropagated"]
    for frame in range(int(outputs["corr_a_frame"]), len(session.video)):
        ours, theirs = _get_logits(session, 1)[frame] > 0, expected[frame] > 0
        assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.95
