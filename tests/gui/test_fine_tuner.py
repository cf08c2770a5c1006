"""Fine-tuning on accepted frames, without a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.prompt import MaskPrompt
from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.gui.app.fine_tuner import (
    TRAINABLE_TITLES,
    FineTuner,
    FineTuningPlan,
    TrainingProgress,
    find_free_name,
    get_model_path,
)
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.cards import find_models
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.train.smoke import make_recipe, write_tiny_model

SCENE = make_drifting_scene(shape=(96, 96))


def session(scene: Scene = SCENE, *, locked: dict[int, tuple[int, ...]] | None = None) -> Session:
    """All objects propagated through the scene; `locked` are accepted frames by track."""
    found = Session(scene.video, ToyModel())
    found.prompt_many(scene.make_log().prompts)
    found.run().finish()
    for track, frames in (locked or {}).items():
        for frame in frames:
            found.lock(track, frame)
    return found


ALL = {1: (2, 3, 4, 5, 6), 2: (2, 3, 4, 5, 6), 3: (2, 3, 4, 5, 6)}
CASES = {
    "nothing accepted": ({}, ()),
    "all objects on some frames": (ALL, (2, 3, 4, 5, 6)),
    "one object is not accepted on a frame": ({1: (2, 3), 2: (2, 3), 3: (3,)}, (3,)),
    "prompted counts where another is accepted": ({1: (0,)}, (0,)),
}


@pytest.mark.parametrize(("locked", "expected"), CASES.values(), ids=CASES)
def test_a_frame_is_accepted_if_all_its_objects_are(
    locked: dict[int, tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    with session(locked=locked) as found:
        assert AcceptedFrames.of(found).frames == expected


def test_accepted_frames_keep_their_labels_when_the_session_changes() -> None:
    with session(locked=ALL) as found:
        accepted = AcceptedFrames.of(found)
        pair = accepted.make_training_pair()
        found.prompt(MaskPrompt(3, 1, SCENE.mask(2, 3)))
    assert (pair.annotated, accepted.summary) == (
        (2, 3, 4, 5, 6),
        "5 accepted frames with 3 objects",
    )
    pixels, labels = pair.read(3)
    np.testing.assert_array_equal(labels, SCENE.labels[3])
    np.testing.assert_array_equal(pixels, SCENE.video.read_frame(3).pixels)


@pytest.mark.parametrize(
    ("locked", "message"), [({}, "no frame is accepted"), ({1: (0,)}, "one frame is accepted")]
)
def test_too_few_accepted_frames_are_an_error(
    locked: dict[int, tuple[int, ...]], message: str
) -> None:
    with (
        session(locked=locked) as found,
        pytest.raises(LabelsError, match=f"{message} so far: accept at least 2"),
    ):
        AcceptedFrames.of(found).make_training_pair()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


def test_the_fine_tuned_model_is_known_and_progress_is_reported(tiny: Path, cache: Path) -> None:
    reports: list[TrainingProgress] = []
    with session(locked=ALL) as found:
        made = FineTuner(reports.append).finetune(
            AcceptedFrames.of(found),
            FineTuningPlan(str(tiny), "my cells"),
            recipe=make_recipe(average=0.0, learning_rate=3e-3),
        )
    assert reports[0].step == 0 and reports[-1].step == 6
    assert reports[-1].detection is not None and reports[-1].detector_step == 3
    fractions = [progress.fraction for progress in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [figures.step for figures in reports[-1].scores] == [0, 3, 6]
    pictures = [progress.preview_png for progress in reports if progress.preview_png]
    assert len(pictures) == 3 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert made == cache / "my cells.safetensors", "it got better, so it is saved"
    assert find_models()["my cells"].path == made
    assert checkpoints.verify_checkpoint("my cells").training["best"]["step"] > 0
    assert sorted(path.name for path in cache.iterdir()) == [
        "my cells.json",
        "my cells.safetensors",
    ]


def test_a_training_without_improvement_leaves_no_model(tiny: Path, cache: Path) -> None:
    reports: list[TrainingProgress] = []
    with session(locked=ALL) as found:
        assert (
            FineTuner(reports.append).finetune(
                AcceptedFrames.of(found),
                FineTuningPlan(str(tiny), "worse"),
                recipe=make_recipe(learning_rate=1e-12),
            )
            is None
        )
    assert reports[-1].best is not None and reports[-1].best.step == 0
    assert not list(cache.iterdir())


def test_a_training_is_stopped_after_the_step_it_is_in(tiny: Path, cache: Path) -> None:
    reports: list[TrainingProgress] = []

    def stop_at_two(progress: TrainingProgress) -> None:
        reports.append(progress)
        if progress.step == 2:
            coach.stop()

    coach = FineTuner(stop_at_two)
    with session(locked=ALL) as found:
        coach.finetune(
            AcceptedFrames.of(found),
            FineTuningPlan(str(tiny), "stopped"),
            recipe=make_recipe(steps=1000),
        )
    assert reports[-1].step <= 3
    assert not list(cache.glob("*-training"))


def test_an_error_leaves_nothing_behind(tiny: Path, cache: Path) -> None:
    def fails(progress: TrainingProgress) -> None:
        if progress.step == 1:
            raise OutputError("no room")

    with session(locked=ALL) as found, pytest.raises(OutputError, match="no room"):
        FineTuner(fails).finetune(
            AcceptedFrames.of(found), FineTuningPlan(str(tiny), "broken"), recipe=make_recipe()
        )
    assert not list(cache.iterdir())


def test_used_and_invalid_names_are_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    assert find_free_name("nano") == "nano-tuned"
    (cache / "nano-tuned.safetensors").write_bytes(b"")
    assert find_free_name("nano") == "nano-tuned-2"
    assert find_free_name("/somewhere/else.safetensors") == "else-tuned"
    with pytest.raises(OutputError, match="there is a model called 'nano-tuned' already"):
        get_model_path("nano-tuned")
    for name in ("", "  ", "../up", "a/b", ".hidden", "what?"):
        with pytest.raises(OutputError, match="cannot be the name of a model"):
            get_model_path(name)


@pytest.mark.parametrize("trains", TRAINABLE_TITLES)
def test_plain_choices_are_a_recipe(trains: str) -> None:
    chosen = FineTuningPlan("nano", "x", trains, 3.0).make_recipe()
    assert (chosen.trainable, chosen.minutes) == (trains, 3.0)
