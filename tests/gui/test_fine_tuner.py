"""Fine-tuning on accepted frames, without a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.prompt import MaskPrompt
from napari_sam2.gui.app.accepted_frames import Accepted
from napari_sam2.gui.app.fine_tuner import CHOICES, Coach, Lesson, Plan, free_name, place_of
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.cards import known
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import Scene, drifting
from napari_sam2.testing.toy import ToyModel
from napari_sam2.train.smoke import base, recipe

SCENE = drifting(shape=(96, 96))


def session(scene: Scene = SCENE, *, locked: dict[int, tuple[int, ...]] | None = None) -> Session:
    """All objects carried through the scene, those of `locked` accepted on these frames (by track)."""
    found = Session(scene.video, ToyModel())
    found.prompt_many(scene.log().prompts)
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
def test_frames_are_accepted_where_all_that_is_on_them_is(
    locked: dict[int, tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    with session(locked=locked) as found:
        assert Accepted.of(found).frames == expected


def test_accepted_frames_come_with_their_labels_and_stay_what_they_were() -> None:
    with session(locked=ALL) as found:
        accepted = Accepted.of(found)
        pair = accepted.pair()
        found.prompt(MaskPrompt(3, 1, SCENE.mask(2, 3)))
    assert (pair.annotated, accepted.summary) == (
        (2, 3, 4, 5, 6),
        "5 accepted frames with 3 objects",
    )
    pixels, labels = pair.read(3)
    np.testing.assert_array_equal(labels, SCENE.labels[3])
    np.testing.assert_array_equal(pixels, SCENE.video.frame(3).pixels)


@pytest.mark.parametrize(
    ("locked", "said"), [({}, "no frame is accepted"), ({1: (0,)}, "one frame is accepted")]
)
def test_too_few_accepted_frames_are_said_in_a_sentence(
    locked: dict[int, tuple[int, ...]], said: str
) -> None:
    with (
        session(locked=locked) as found,
        pytest.raises(LabelsError, match=f"{said} so far: accept at least 2"),
    ):
        Accepted.of(found).pair()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("base"))


def test_the_tuned_model_is_among_the_known_ones_and_everything_was_told(
    tiny: Path, cache: Path
) -> None:
    told: list[Lesson] = []
    with session(locked=ALL) as found:
        made = Coach(told.append).teach(
            Accepted.of(found),
            Plan(str(tiny), "my cells"),
            recipe=recipe(average=0.0, learning_rate=3e-3),
        )
    assert told[0].step == 0 and told[-1].step == 6
    fractions = [lesson.fraction for lesson in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [figures.step for figures in told[-1].figures] == [0, 3, 6]
    pictures = [lesson.picture for lesson in told if lesson.picture]
    assert len(pictures) == 3 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert made == cache / "my cells.safetensors", "it got better, so it is kept"
    assert known()["my cells"].path == made
    assert checkpoints.verify("my cells").training["best"]["step"] > 0
    assert sorted(path.name for path in cache.iterdir()) == [
        "my cells.json",
        "my cells.safetensors",
    ]


def test_a_training_that_made_nothing_better_leaves_nothing(tiny: Path, cache: Path) -> None:
    told: list[Lesson] = []
    with session(locked=ALL) as found:
        assert (
            Coach(told.append).teach(
                Accepted.of(found), Plan(str(tiny), "worse"), recipe=recipe(learning_rate=1e-12)
            )
            is None
        )
    assert told[-1].best is not None and told[-1].best.step == 0
    assert not list(cache.iterdir())


def test_a_training_is_stopped_after_the_step_it_is_in(tiny: Path, cache: Path) -> None:
    told: list[Lesson] = []

    def stop_at_two(lesson: Lesson) -> None:
        told.append(lesson)
        if lesson.step == 2:
            coach.stop()

    coach = Coach(stop_at_two)
    with session(locked=ALL) as found:
        coach.teach(Accepted.of(found), Plan(str(tiny), "stopped"), recipe=recipe(steps=1000))
    assert told[-1].step <= 3
    assert not list(cache.glob("*-training"))


def test_an_error_leaves_nothing_behind(tiny: Path, cache: Path) -> None:
    def fails(lesson: Lesson) -> None:
        if lesson.step == 1:
            raise OutputError("no room")

    with session(locked=ALL) as found, pytest.raises(OutputError, match="no room"):
        Coach(fails).teach(Accepted.of(found), Plan(str(tiny), "broken"), recipe=recipe())
    assert not list(cache.iterdir())


def test_names_that_are_taken_or_none_are_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    assert free_name("nano") == "nano-tuned"
    (cache / "nano-tuned.safetensors").write_bytes(b"")
    assert free_name("nano") == "nano-tuned-2"
    assert free_name("/somewhere/else.safetensors") == "else-tuned"
    with pytest.raises(OutputError, match="there is a model called 'nano-tuned' already"):
        place_of("nano-tuned")
    for name in ("", "  ", "../up", "a/b", ".hidden", "what?"):
        with pytest.raises(OutputError, match="cannot be the name of a model"):
            place_of(name)


@pytest.mark.parametrize("trains", CHOICES)
def test_plain_choices_are_a_recipe(trains: str) -> None:
    chosen = Plan("nano", "x", trains, 3.0).recipe()
    assert (chosen.trains, chosen.minutes) == (trains, 3.0)
