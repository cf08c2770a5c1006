"""Sections of the panel on their own: downloads of models, names, ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_sam2.core.errors import CheckpointError, FileError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.view import InlineWorker, ObjectRow, Snapshot, Stage
from napari_sam2.models.weights.conversion import import_checkpoint
from napari_sam2.train.smoke import write_tiny_model
from tests.gui.screen import get_application

pytest.importorskip("superqt", reason="superqt is not installed")

from qtpy.QtCore import Qt

from napari_sam2.gui.widgets.model_section import ModelSection
from napari_sam2.gui.widgets.object_list import ObjectList
from napari_sam2.gui.widgets.propagation_section import PropagationSection

get_application()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of models of its own."""
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path))
    return tmp_path / "models"


def make_snapshot(
    model: str, *, device: str = "cpu", precisions: Any = ("float32",), **options: Any
) -> Snapshot:
    """The state of a window with a model that computes with these options."""
    return Snapshot(
        model=model, options=InferenceOptions(device=device, **options), precisions=precisions
    )


def _section(fetch: object) -> tuple[ModelSection, list[str], list[Exception]]:
    section = ModelSection(InlineWorker(), fetch_model=fetch)  # type: ignore[arg-type]
    chosen: list[str] = []
    failed: list[Exception] = []
    section.model_chosen.connect(chosen.append)
    section.download.failed.connect(failed.append)
    return section, chosen, failed


def _take(section: ModelSection, name: str) -> None:
    section.model_choice.setCurrentIndex(
        next(
            n
            for n in range(section.model_choice.count())
            if section.model_choice.itemText(n).startswith(name)
        )
    )


def test_the_embedded_model_comes_first_and_others_say_size_and_licence() -> None:
    section, chosen, _ = _section(lambda *_, **__: Path())
    assert section.model_choice.currentText().startswith("nano")
    assert section.download.button.isHidden()
    _take(section, "sam2.1-tiny")
    assert section.model_choice.currentText() == "sam2.1-tiny · 156 MB · to download"
    assert "Apache-2.0" in section.about_label.text()
    assert not section.download.button.isHidden()
    assert chosen == []  # it is not there yet


def test_attention_and_tiles_are_offered_if_the_model_has_a_choice(tmp_path: Path) -> None:
    """The embedded model has none, and neither has one that is not here yet."""
    import_checkpoint(write_tiny_model(tmp_path), name="mine")
    section, _, _ = _section(lambda *_, **__: Path())
    chosen: list[tuple[str, str]] = []
    section.option_chosen.connect(lambda *option: chosen.append(option))
    assert section.attention_choice.isHidden() and section.tiles_checkbox.isHidden()
    _take(section, "sam2.1-tiny")
    assert section.attention_choice.isHidden()
    _take(section, "mine")
    assert not section.attention_choice.isHidden()
    section.show_state(make_snapshot("mine", attention="auto"))
    assert section.attention_choice.currentData() == "auto" and chosen == []
    section.attention_choice.setCurrentIndex(section.attention_choice.findData("local"))
    section.attention_choice.activated.emit(section.attention_choice.currentIndex())
    assert chosen == [("attention", "local")]
    assert not section.tiles_checkbox.isHidden() and not section.tiles_checkbox.isChecked()
    section.tiles_checkbox.click()
    section.tiles_checkbox.click()
    assert chosen[1:] == [("windows", "tiles"), ("windows", "whole")]
    section.show_state(make_snapshot("mine", attention="local", windows="tiles"))
    assert "on the processor" in section.about_label.text(), (
        "also of a model that took another's place"
    )
    assert section.tiles_checkbox.isChecked() and chosen[3:] == []


@pytest.mark.parametrize(
    ("evidence", "ticked"), [("none", False), ("all", True), ("click,mask", True)]
)
def test_detections_are_compared_by_a_tick_with_any_model(evidence: str, ticked: bool) -> None:
    section, _, _ = _section(lambda *_, **__: Path())
    chosen: list[tuple[str, str]] = []
    section.option_chosen.connect(lambda *option: chosen.append(option))
    box = section.evidence_checkbox
    assert not box.isHidden() and not box.isChecked() and "detected" in box.toolTip()
    section.show_state(replace(make_snapshot("nano"), evidence=evidence))
    assert box.isChecked() == ticked and chosen == []
    box.click()
    assert chosen == [("evidence", "none" if ticked else "all")]
    section.show_state(replace(make_snapshot("nano"), evidence=evidence))
    assert box.isChecked() == ticked, "a change that failed is not shown"


_BFLOAT16 = {"precision": "bfloat16", "precisions": ("float32", "bfloat16")}


@pytest.mark.parametrize(
    ("snapshot", "offered", "about"),
    [
        pytest.param(Snapshot(model="nano"), [], "embedded", id="before a model was loaded"),
        pytest.param(make_snapshot("nano"), [], "on the processor", id="float32 alone"),
        pytest.param(
            make_snapshot("nano", precisions=("float32", "bfloat16")),
            ["float32", "bfloat16"],
            "on the processor",
            id="not chosen",
        ),
        pytest.param(
            make_snapshot("nano", **_BFLOAT16),
            ["float32", "bfloat16"],
            "on the processor in bfloat16",
            id="chosen",
        ),
        pytest.param(
            make_snapshot(
                "nano", device="mps", precision="float16", precisions=("float32", "float16")
            ),
            ["float32", "float16"],
            "on the Apple GPU in float16",
            id="on another device",
        ),
        pytest.param(
            make_snapshot("mine", **_BFLOAT16),
            [],
            "BSD-3-Clause",
            id="of a model that is not the one shown",
        ),
    ],
)
def test_precision_is_offered_if_the_device_has_a_choice(
    snapshot: Snapshot, offered: list[str], about: str
) -> None:
    """Also of the embedded model, which has no choice of attention."""
    section, _, _ = _section(lambda *_, **__: Path())
    computed: list[tuple[str, str]] = []
    section.option_chosen.connect(lambda *option: computed.append(option))
    section.show_state(snapshot)
    choices = [
        section.precision_choice.itemData(place)
        for place in range(section.precision_choice.count())
    ]
    assert section.precision_choice.isHidden() is (not offered)
    assert about.replace(
        "embedded", "included"
    ) in section.about_label.text() and section.about_label.text().endswith(about) is (
        bool(snapshot.options.device) and snapshot.model == "nano"
    )
    if offered:
        assert (
            choices == offered
            and section.precision_choice.currentData() == snapshot.options.precision
            and computed == []
        )
        assert "12 to 31 %" in section.precision_choice.toolTip()
        section.precision_choice.setCurrentIndex(0)
        section.precision_choice.activated.emit(0)
        assert computed == [("precision", "float32")]


def test_a_downloaded_model_is_chosen(own_cache: Path) -> None:
    def fetch(name: str, **_: object) -> Path:
        own_cache.mkdir(parents=True)
        (own_cache / "sam2.1_hiera_tiny.pt").write_bytes(b"weights")
        return own_cache / "sam2.1_hiera_tiny.pt"

    section, chosen, failed = _section(fetch)
    _take(section, "sam2.1-tiny")
    section.download.button.click()
    assert (chosen, failed) == (["sam2.1-tiny"], [])
    assert "downloaded" in section.about_label.text()
    assert section.download.progress_bar.isHidden()


def test_a_download_with_a_wrong_hash_fails_and_nothing_is_chosen() -> None:
    def fetch(name: str, **_: object) -> Path:
        raise CheckpointError("sam2.1-tiny: refused and removed")

    section, chosen, failed = _section(fetch)
    _take(section, "sam2.1-tiny")
    section.download.button.click()
    assert (chosen, [str(error) for error in failed]) == ([], ["sam2.1-tiny: refused and removed"])
    assert not section.download.button.isHidden()


def test_a_stopped_download_is_no_error_and_can_start_again() -> None:
    worker, asked = InlineWorker(manual=True), list[bool]()

    def fetch(name: str, *, progress: bool, wanted: Callable[[], bool]) -> Path:
        asked.append(wanted())
        if not wanted():
            raise FileError("stopped")
        return Path()

    section = ModelSection(worker, fetch_model=fetch)
    failed: list[Exception] = []
    section.download.failed.connect(failed.append)
    _take(section, "sam2.1-tiny")
    section.download.button.click()
    assert (
        not section.download.stop_button.isHidden() and not section.download.progress_bar.isHidden()
    )
    section.download.stop_button.click()
    worker.run_pending()
    assert (asked, failed) == ([False], [])
    assert (
        section.download.stop_button.isHidden()
        and section.download.progress_bar.isHidden()
        and not section.download.button.isHidden()
    )
    section.download.button.click()
    worker.run_pending()
    assert asked == [False, True]


def test_the_device_of_the_model_is_shown() -> None:
    section, _, _ = _section(lambda *_, **__: Path())
    section.show_state(make_snapshot("nano"))
    assert "on the processor" in section.about_label.text()
    section.show_state(make_snapshot("nano", device="cuda:0"))
    assert "on the GPU (cuda:0)" in section.about_label.text()


def test_names_and_categories_are_edited_in_the_list() -> None:
    objects = ObjectList()
    written: list[tuple[int, str, str]] = []
    objects.table.description_edited.connect(lambda *what: written.append(what))
    objects.show_rows((ObjectRow(1, "", "", 3, 1, 0, 0), ObjectRow(4, "", "", 3, 1, 2, 0)), 4)
    assert objects.selected_tracks == (4,)
    assert [objects.table.data(objects.table.index(row, 4)) for row in (0, 1)] == [
        "tracked",
        "check 2",
    ]
    assert objects.table.flags(objects.table.index(1, 2)) & Qt.ItemFlag.ItemIsEditable
    objects.table.setData(objects.table.index(1, 2), " nucleus ")
    objects.table.setData(objects.table.index(0, 1), "big one")
    assert written == [(4, "category", "nucleus"), (1, "name", "big one")]


def test_a_selection_stays_while_the_rows_change() -> None:
    objects = ObjectList()
    rows = tuple(ObjectRow(track, "", "", 1, 1, 0, 0) for track in (1, 2, 3))
    objects.show_rows(rows, 1)
    objects.view.selectAll()
    objects.show_rows(tuple(ObjectRow(track, "", "", 5, 1, 0, 0) for track in (1, 2, 3)), 1)
    assert objects.selected_tracks == (1, 2, 3)
    assert objects.buttons["merge"].isEnabled()


def test_the_request_has_the_chosen_frames_and_tracks() -> None:
    section = PropagationSection()
    section.set_frame_count(40)
    assert section.make_request(3) == PropagationRequest()
    section.range_slider.setValue((10, 29))
    section.direction_choice.setCurrentIndex(1)
    section.tracks_choice.setCurrentIndex(1)
    assert section.make_request(3) == PropagationRequest("forward", (10, 30), (3,))
    section.set_range(0, 40)
    assert section.make_request(3).frames is None


@pytest.mark.parametrize(
    ("snapshot", "title", "enabled", "stop"),
    [
        (Snapshot(), "Propagate", False, False),
        (
            Snapshot(Stage.READY, objects=(ObjectRow(1, "", "", 1, 1, 0, 0),)),
            "Propagate",
            True,
            False,
        ),
        (Snapshot(Stage.RUNNING, done=3, total=9), "Pause", True, True),
        (Snapshot(Stage.PAUSED, done=3, total=9), "Resume", True, True),
        (
            Snapshot(Stage.READY, objects=(ObjectRow(1, "", "", 4, 1, 0, 0),), unfinished=True),
            "Resume",
            True,
            False,
        ),
    ],
    ids=["nothing", "ready", "running", "paused", "stopped"],
)
def test_the_propagate_button_shows_its_effect(
    snapshot: Snapshot, title: str, enabled: bool, stop: bool
) -> None:
    section = PropagationSection()
    section.show_state(snapshot)
    assert (
        section.propagate_button.text(),
        section.propagate_button.isEnabled(),
        section.stop_button.isEnabled(),
    ) == (
        title,
        enabled,
        stop,
    )
    assert section.propagate_button.property("icon_name") == (
        "pause" if title == "Pause" else "propagate"
    )
