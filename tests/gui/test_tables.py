"""Tables and plots on a screen: selecting, copying, saving, and results that arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("tests.gui.screen")
pytest.importorskip("pyqtgraph", reason="no pyqtgraph", exc_type=ImportError)

from qtpy.QtCore import QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolButton

from napari_sam2.core.track import Track
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.widgets.tables.plots import Plot
from napari_sam2.gui.widgets.tables.table_view import TableModel, TableView, format_value
from napari_sam2.gui.widgets.tables.tables_tab import TablesTab
from napari_sam2.testing.scenes import make_appearing_scene, make_drifting_scene
from tests.gui.screen import get_application, process_events, show_widget, wait_until

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
SCENE = make_appearing_scene()


def measured(frames: range = range(10)) -> LiveTables:
    found = LiveTables(SCENE.video)
    for frame in frames:
        found.measure_frame(frame, SCENE.labels[frame])
    return found


@pytest.fixture
def tables() -> Iterator[TablesTab]:
    get_application()
    widget = show_widget(TablesTab(measured()), 900, 300)
    wait_until(lambda: widget.tables is not None)
    yield widget
    widget.close()
    widget.deleteLater()
    process_events()


@pytest.fixture
def heard(tables: TablesTab) -> list[tuple[int, int]]:
    said: list[tuple[int, int]] = []
    tables.track_chosen.connect(lambda track, frame: said.append((track, frame)))
    return said


def click_row(tables: TablesTab, name: str, row: int) -> None:
    tables._tabs.setCurrentWidget(tables.views[name])
    process_events()
    view = tables.views[name]
    QTest.mouseClick(
        view.viewport(), LEFT, NONE, view.visualRect(view.table_model.index(row, 0)).center()
    )
    process_events()


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [("objects", 3, (1, 3)), ("objects", 4, (2, 3)), ("tracks", 2, (3, 6)), ("counts", 5, (0, 5))],
)
def test_a_chosen_row_is_a_track_and_a_frame(
    tables: TablesTab, heard: list, name: str, row: int, expected: tuple[int, int]
) -> None:
    click_row(tables, name, row)
    assert heard == [expected]


def test_the_row_of_all_frames_is_about_no_place(tables: TablesTab, heard: list) -> None:
    click_row(tables, "counts", 10)
    assert heard == []


def current(tables: TablesTab, name: str) -> dict[str, object] | None:
    view = tables.views[name]
    rows = view.selectionModel().selectedRows()
    return dict(view.table_model.rows.iloc[rows[0].row()]) if rows else None


def test_what_is_chosen_elsewhere_is_selected_everywhere_and_says_nothing(
    tables: TablesTab, heard: list
) -> None:
    tables.select(2, 5)
    assert [current(tables, "objects")[name] for name in ("track", "frame")] == [2, 5]
    assert current(tables, "tracks")["track"] == 2
    assert current(tables, "counts")["frame"] == "5"
    tables.go_to_frame(1)  # object 2 is not there yet
    assert current(tables, "objects") is None and current(tables, "tracks")["track"] == 2
    tables.select(0)
    assert current(tables, "tracks") is None
    assert heard == []


def test_sorted_by_a_column_rows_still_choose_what_they_are_about(
    tables: TablesTab, heard: list
) -> None:
    view = tables.views["objects"]
    column = list(view.table_model.rows.columns).index("area_px")
    view.sortByColumn(column, Qt.SortOrder.DescendingOrder)
    areas = list(view.table_model.rows["area_px"])
    assert areas == sorted(areas, reverse=True)
    click_row(tables, "objects", 0)
    assert heard == [
        (int(view.table_model.rows.iloc[0]["track"]), int(view.table_model.rows.iloc[0]["frame"]))
    ]
    view.table_model.sort(-1)
    assert list(view.table_model.rows["frame"]) == sorted(view.table_model.rows["frame"])


def test_frames_sort_as_numbers_with_all_of_them_last() -> None:
    get_application()
    model = TableModel()
    model.show_table(pd.DataFrame({"frame": pd.array(["10", "9", "all", "0"], dtype="string")}))
    model.sort(0)
    assert list(model.rows["frame"]) == ["0", "9", "10", "all"]


def test_results_that_arrive_are_shown_and_the_choice_stays() -> None:
    get_application()
    growing = measured(range(3))
    widget = show_widget(TablesTab(growing), 700, 300)
    wait_until(lambda: widget.tables is not None)
    widget.select(1, 2)
    for frame in range(3, 10):
        growing.measure_frame(frame, SCENE.labels[frame])
        widget.refresh()
    wait_until(
        lambda: len(widget.views["objects"].table_model.rows) == len(growing.make_tables().objects)
    )
    assert [current(widget, "objects")[name] for name in ("track", "frame")] == [1, 2]
    growing.set_descriptions([Track(1, category="nucleus")])
    widget.refresh()
    wait_until(lambda: "nucleus" in set(widget.views["tracks"].table_model.rows["category"]))
    widget.close()


def test_refreshing_a_hundred_times_a_second_puts_tables_together_a_few_times(
    tables: TablesTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []
    real = tables._live_tables.make_tables

    def counting() -> object:
        made.append(time.monotonic())
        return real()

    monkeypatch.setattr(tables._live_tables, "make_tables", counting)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        tables.refresh()
        process_events()
        time.sleep(0.01)
    assert len(made) <= 5
    wait_until(lambda: len(made) > 0)


def test_another_session_takes_the_place_of_the_first(tables: TablesTab) -> None:
    other = LiveTables(make_drifting_scene().video)
    other.measure_frame(0, make_drifting_scene().labels[0])
    tables.show_live_tables(other)
    wait_until(lambda: len(tables.views["tracks"].table_model.rows) == 3)
    tables.show_live_tables(None)
    assert len(tables.views["tracks"].table_model.rows) == 0


def test_copied_rows_are_text_that_a_spreadsheet_takes(tables: TablesTab) -> None:
    told: list[str] = []
    tables.notified.connect(told.append)
    tables._tabs.setCurrentWidget(tables.views["tracks"])
    tables.copy_table()
    pasted = pd.read_csv(StringIO(QApplication.clipboard().text()), sep="\t")
    assert list(pasted["track"]) == [1, 2, 3, 4]
    assert told == ["Copied 4 rows. Paste them into a spreadsheet."]
    view = tables.views["tracks"]
    view.selectRow(1)
    view.selectionModel().select(
        view.table_model.index(3, 0),
        view.selectionModel().SelectionFlag.Select | view.selectionModel().SelectionFlag.Rows,
    )
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert list(pd.read_csv(StringIO(QApplication.clipboard().text()), sep="\t")["track"]) == [2, 4]


def test_saved_tables_are_those_of_the_command_line(tables: TablesTab, tmp_path: Path) -> None:
    for name in ("counts", "objects", "tracks"):
        tables._tabs.setCurrentWidget(tables.views[name])
        tables.save_table(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / f"{name}.csv"),
            pd.read_csv(StringIO(getattr(tables.tables, name).to_csv(index=False))),
        )


def test_a_place_that_cannot_be_written_is_told_and_no_error(
    tables: TablesTab, tmp_path: Path
) -> None:
    told: list[str] = []
    tables.notified.connect(told.append)
    tables.save_table(tmp_path / "missing" / "objects.csv")
    assert len(told) == 1 and "cannot be written" in told[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.123456, "0.1235"),
        (123456.7, "123457"),
        (np.nan, ""),
        (pd.NA, ""),
        (None, ""),
        ("cell", "cell"),
        (-20000.0, "-20000"),
    ],
)
def test_cells_are_written_as_people_read_them(value: object, text: str) -> None:
    assert format_value(value) == text


def test_columns_nobody_knows_anything_of_take_no_room() -> None:
    get_application()
    view = TableView("objects")
    view.show_table(
        pd.DataFrame(
            {"track": [1, 2], "z": pd.array([None, None], dtype="Int64"), "area_px": [3, 4]}
        )
    )
    assert [view.isColumnHidden(column) for column in range(3)] == [False, True, False]


@pytest.fixture
def plot() -> Iterator[Plot]:
    get_application()
    widget = show_widget(Plot("area"), 400, 250)
    frames = np.arange(10)
    widget.show_lines(
        {1: (frames, frames * 0 + 10.0), 7: (frames[2:], frames[2:] * 0 + 50.0)}, title="area (px)"
    )
    process_events()
    yield widget
    widget.close()


def on(plot: Plot, frame: float, value: float) -> QPointF:
    return plot.getPlotItem().getViewBox().mapViewToScene(QPointF(frame, value))


@pytest.mark.parametrize(
    ("frame", "value", "expected"),
    [(4, 50, (7, 4)), (4, 10, (1, 4)), (4.2, 10.5, (1, 4)), (5, 30, None)],
)
def test_a_place_in_a_plot_means_the_line_that_is_near(
    plot: Plot, frame: float, value: float, expected: object
) -> None:
    assert plot.find_nearest(on(plot, frame, value)) == expected
    assert plot.find_nearest(QPointF(-5, -5)) is None


def test_a_click_on_a_line_chooses_its_track_and_frame(plot: Plot) -> None:
    said: list[tuple[int, int]] = []
    plot.point_chosen.connect(lambda track, frame: said.append((track, frame)))
    QTest.mouseClick(plot.viewport(), LEFT, NONE, plot.mapFromScene(on(plot, 6, 50)))
    process_events()
    assert said == [(7, 6)]


def test_in_a_plot_of_counts_a_click_means_the_frame(plot: Plot) -> None:
    plot.show_lines({"": (np.arange(10), np.arange(10))}, title="objects", are_tracks=False)
    process_events()
    assert plot.find_nearest(on(plot, 6.3, 2)) == (0, 6)


def test_many_tracks_are_one_curve_and_the_chosen_one_is_on_top(plot: Plot) -> None:
    frames = np.arange(1000)
    plot.show_lines({track: (frames, frames % 7 + track) for track in range(1, 501)}, title="area")
    assert len(plot._curves) == 1
    plot.select(77)
    assert len(plot._curves) == 2
    began = time.process_time()
    plot.viewport().repaint()
    assert time.process_time() - began < 3


def test_a_plot_that_nobody_sees_is_drawn_when_it_is_seen(plot: Plot) -> None:
    plot.hide()
    frames = np.arange(5)
    plot.show_lines({track: (frames, frames + track) for track in (1, 2, 3)}, title="area (px)")
    assert len(plot._curves) == 2
    plot.show()
    process_events()
    assert [curve.yData[0] for curve in plot._curves] == [1, 2, 3]


def test_curves_are_used_again_for_other_lines(plot: Plot) -> None:
    before, frames = list(plot._curves), np.arange(10)
    plot.show_lines({7: (frames[:1], frames[:1] + 3), 9: (frames, frames)}, title="area (px)")
    assert all(one is other for one, other in zip(before, plot._curves, strict=True))
    assert plot._curves[0].opts["symbol"] == "o" and plot._curves[1].opts["symbol"] is None
    plot.show_lines({9: (frames, frames)}, title="area (px)")
    assert len(plot._curves) == 1 and before[1] not in plot.getPlotItem().items


def test_a_click_asks_for_the_tracks_as_a_layer(tables: TablesTab) -> None:
    asked: list[bool] = []
    tables.draw_tracks_requested.connect(lambda: asked.append(True))
    (button,) = [each for each in tables.findChildren(QToolButton) if each.text() == "Draw tracks"]
    QTest.mouseClick(button, LEFT)
    process_events()
    assert asked == [True]
