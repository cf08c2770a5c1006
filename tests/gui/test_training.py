"""The fine-tune tab on a screen: begun by a click, told of, stopped, and what bad input gets."""

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
def told(tab: TrainingTab) -> list[tuple[str, bool]]:
    said: list[tuple[str, bool]] = []
    tab.notified.connect(lambda text, wrong: said.append((text, wrong)))
    return said


def click(tab: TrainingTab) -> None:
    QTest.mouseClick(tab._start_button, Qt.MouseButton.LeftButton)


def test_a_click_trains_and_the_new_model_is_announced(tab: TrainingTab, told: list) -> None:
    made: list[str] = []
    tab.model_trained.connect(made.append)
    assert (tab._summary_label.text(), tab._name_edit.text()) == (
        "5 accepted frames with 3 objects.",
        "tiny-tuned",
    )
    click(tab)
    assert tab.running and not tab._name_edit.isEnabled()
    wait_until(lambda: not tab.running)
    assert told == [("The model tiny-tuned is ready.", False)]
    assert str(find_models()["tiny-tuned"].path) == made[0]
    assert "on held-out frames" in tab._scores_label.text()
    assert not tab._preview.pixmap().isNull()
    assert tab._name_edit.text() == "tiny-tuned-2", "the next one has another name"


def test_the_window_answers_while_it_trains(tab: TrainingTab) -> None:
    tab.recipe_override = make_recipe(steps=3)
    click(tab)
    longest, last = 0.0, time.monotonic()
    while tab.running:
        QApplication.processEvents()
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        time.sleep(0.005)
    assert longest < 2.0, (
        "a machine that is busy otherwise may stall, a training in this thread would for longer"
    )


def test_a_second_click_stops_it(tab: TrainingTab, told: list) -> None:
    tab.recipe_override = make_recipe(steps=100_000, average=0.0, learning_rate=3e-3)
    click(tab)
    wait_until(lambda: "step" in tab._progress_bar.format())
    click(tab)
    assert (tab._start_button.text(), tab._start_button.isEnabled()) == ("Stopping…", False)
    wait_until(lambda: not tab.running)
    assert len(told) == 1 and not told[0][1]
    assert (tab._start_button.text(), tab._start_button.isEnabled()) == ("Fine-tune", True)


def test_nothing_accepted_nothing_to_begin(tiny: Path) -> None:
    get_application()
    with session() as found:
        tab = TrainingTab(lambda: AcceptedFrames.of(found), lambda: str(tiny))
        assert not tab._start_button.isEnabled()
        assert (
            tab._summary_label.text()
            == "No frame is accepted so far: accept at least 2 frames with all their objects."
        )
    tab = TrainingTab(lambda: None, lambda: "nano")
    assert (tab._summary_label.text(), tab._start_button.isEnabled()) == (
        "Open an image first.",
        False,
    )


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_is_none_is_told_and_nothing_begins(
    tab: TrainingTab, told: list, name: str
) -> None:
    tab._name_edit.setText(name)
    click(tab)
    assert not tab.running
    assert len(told) == 1 and told[0][1] and "cannot be the name of a model" in told[0][0]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA out of memory.\nTried to allocate"), KeyError("x")],
    ids=["memory", "any"],
)
def test_whatever_goes_wrong_is_one_sentence(
    tab: TrainingTab, told: list, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FineTuner, "finetune", fails)
    click(tab)
    wait_until(lambda: not tab.running)
    assert len(told) == 1 and told[0][1]
    assert told[0][0].startswith("The training failed: ") and "\n" not in told[0][0]


@pytest.mark.parametrize(
    ("lesson", "text"),
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
            "IoU on held-out frames: 0.50 → 0.70 after one click, 0.40 → 0.60 propagated (best so far at step 9).",
        ),
        (
            TrainingProgress(
                0.5,
                9,
                (ValidationScores(0, 0.5, 0.4), ValidationScores(9, 0.3, 0.2)),
                ValidationScores(0, 0.5, 0.4),
            ),
            "IoU on held-out frames: 0.50 → 0.50 after one click, 0.40 → 0.40 propagated (not better yet).",
        ),
    ],
    ids=["begun", "before", "better", "worse"],
)
def test_figures_are_told_in_words(lesson: TrainingProgress, text: str) -> None:
    assert describe_progress(lesson) == text
