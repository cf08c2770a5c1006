"""The fine-tune tab on a screen: a training is started, stopped, and fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tests.gui.screen")

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.gui.app.fine_tuner import FineTuner, TrainingProgress, ValidationScores
from napari_sam2.gui.widgets.training_tab import TrainingTab, describe_progress
from napari_sam2.models.weights.cards import find_models
from napari_sam2.train.smoke import make_recipe, write_tiny_model
from tests.gui.screen import get_application, process_events, show_widget, wait_until
from tests.gui.test_fine_tuner import ALL, session


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tab(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingTab]:
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path / "cache"))
    get_application()
    with session(locked=ALL) as found:
        widget = show_widget(
            TrainingTab(lambda: AcceptedFrames.of(found), lambda: str(tiny)), 320, 500
        )
        widget.recipe_override = make_recipe(average=0.0, learning_rate=3e-3)
        yield widget
        widget.close()
        wait_until(lambda: not widget.running)
        widget.deleteLater()
        process_events()


@pytest.fixture
def messages(tab: TrainingTab) -> list[tuple[str, bool]]:
    messages: list[tuple[str, bool]] = []
    tab.notified.connect(lambda text, is_error: messages.append((text, is_error)))
    return messages


def click(tab: TrainingTab) -> None:
    QTest.mouseClick(tab.start_button, Qt.MouseButton.LeftButton)


def test_a_click_trains_and_the_new_model_is_announced(tab: TrainingTab, messages: list) -> None:
    made: list[str] = []
    tab.model_trained.connect(made.append)
    assert (tab.summary_label.text(), tab.name_edit.text()) == (
        "5 accepted frames with 3 objects.",
        "tiny-tuned",
    )
    click(tab)
    assert tab.running and not tab.name_edit.isEnabled()
    wait_until(lambda: not tab.running)
    assert messages == [("The model tiny-tuned is ready.", False)]
    assert str(find_models()["tiny-tuned"].path) == made[0]
    assert "on held-out frames" in tab.scores_label.text()
    assert not tab.preview.pixmap().isNull()
    assert tab.name_edit.text() == "tiny-tuned-2", "the next one has another name"


def test_the_window_stays_responsive_during_training(tab: TrainingTab) -> None:
    tab.recipe_override = make_recipe(steps=3)
    click(tab)
    turns = 0
    while tab.running:  # a training in this thread would have ended with the click
        QApplication.processEvents()
        time.sleep(0.005)
        turns += 1
    assert turns > 0


def test_a_second_click_stops_it(tab: TrainingTab, messages: list) -> None:
    tab.recipe_override = make_recipe(steps=100_000, average=0.0, learning_rate=3e-3)
    click(tab)
    wait_until(lambda: "step" in tab.progress_bar.format())
    click(tab)
    assert (tab.start_button.text(), tab.start_button.isEnabled()) == ("Stopping…", False)
    wait_until(lambda: not tab.running)
    assert len(messages) == 1 and not messages[0][1]
    assert (tab.start_button.text(), tab.start_button.isEnabled()) == ("Fine-tune", True)


def test_training_needs_accepted_frames(tiny: Path) -> None:
    get_application()
    with session() as found:
        tab = TrainingTab(lambda: AcceptedFrames.of(found), lambda: str(tiny))
        assert not tab.start_button.isEnabled()
        assert (
            tab.summary_label.text()
            == "No frame is accepted so far: accept at least 2 frames with all their objects."
        )
    tab = TrainingTab(lambda: None, lambda: "nano")
    assert (tab.summary_label.text(), tab.start_button.isEnabled()) == (
        "Open an image first.",
        False,
    )


@pytest.mark.parametrize("name", ["", "a/b"])
def test_an_invalid_name_is_an_error_and_nothing_starts(
    tab: TrainingTab, messages: list, name: str
) -> None:
    tab.name_edit.setText(name)
    click(tab)
    assert not tab.running
    assert (
        len(messages) == 1 and messages[0][1] and "cannot be the name of a model" in messages[0][0]
    )


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA out of memory.\nTried to allocate"), KeyError("x")],
    ids=["memory", "any"],
)
def test_any_training_error_is_one_sentence(
    tab: TrainingTab, messages: list, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FineTuner, "finetune", fails)
    click(tab)
    wait_until(lambda: not tab.running)
    assert len(messages) == 1 and messages[0][1]
    assert messages[0][0].startswith("The training failed: ") and "\n" not in messages[0][0]


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (TrainingProgress(0.0, 0), "Preparing the frames…"),
        (
            TrainingProgress(
                0.0, 0, (ValidationScores(0, 0.5, 0.4),), ValidationScores(0, 0.5, 0.4)
            ),
            "Before training: IoU 0.50 after one click, 0.40 propagated.",
        ),
        (
            TrainingProgress(
                0.5,
                9,
                (ValidationScores(0, 0.5, 0.4), ValidationScores(9, 0.7, 0.6)),
                ValidationScores(9, 0.7, 0.6),
            ),
            (
                "IoU on held-out frames: 0.50 → 0.70 after one click, "
                "0.40 → 0.60 propagated (best so far at step 9)."
            ),
        ),
        (
            TrainingProgress(
                0.5,
                9,
                (ValidationScores(0, 0.5, 0.4), ValidationScores(9, 0.3, 0.2)),
                ValidationScores(0, 0.5, 0.4),
            ),
            (
                "IoU on held-out frames: 0.50 → 0.50 after one click, "
                "0.40 → 0.40 propagated (not better yet)."
            ),
        ),
    ],
    ids=["begun", "before", "better", "worse"],
)
def test_scores_are_described(progress: TrainingProgress, text: str) -> None:
    assert describe_progress(progress) == text
