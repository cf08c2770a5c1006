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


def make_live_tables(frames: range = range(10)) -> LiveTables:
    found = LiveTables(SCENE.video)
    for frame in frames:
        found.measure_frame(frame, SCENE.labels[frame])
    return found


@pytest.fixture
def tables() -> Iterator[TablesTab]:
    get_application()
    widget = show_widget(TablesTab(make_live_tables()), 900, 300)
    wait_until(lambda: widget.tables is not None)
    yield widget
    widget.close()
    widget.deleteLater()
    process_events()


@pytest.fixture
def emitted(tables: TablesTab) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    tables.track_chosen.connect(lambda track, frame: chosen.append((track, frame)))
    return chosen


def click_row(tables: TablesTab, name: str, row: int) -> None:
    tables.tabs.setCurrentWidget(tables.views[name])
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
    tables: TablesTab, emitted: list, name: str, row: int, expected: tuple[int, int]
) -> None:
    click_row(tables, name, row)
    assert emitted == [expected]


def test_the_row_of_all_frames_chooses_nothing(tables: TablesTab, emitted: list) -> None:
    click_row(tables, "counts", 10)
    assert emitted == []


def current(tables: TablesTab, name: str) -> dict[str, object] | None:
    view = tables.views[name]
    rows = view.selectionModel().selectedRows()
    return dict(view.table_model.rows.iloc[rows[0].row()]) if rows else None


def test_selection_from_outside_is_shown_everywhere_and_emits_nothing(
    tables: TablesTab, emitted: list
) -> None:
    tables.select(2, 5)
    assert [current(tables, "objects")[name] for name in ("track", "frame")] == [2, 5]
    assert current(tables, "tracks")["track"] == 2
    assert current(tables, "counts")["frame"] == "5"
    tables.go_to_frame(1)  # object 2 is not there yet
    assert current(tables, "objects") is None and current(tables, "tracks")["track"] == 2
    tables.select(0)
    assert current(tables, "tracks") is None
    assert emitted == []


def test_rows_sorted_by_a_column_still_choose_their_track(tables: TablesTab, emitted: list) -> None:
    view = tables.views["objects"]
    column = list(view.table_model.rows.columns).index("area_px")
    view.sortByColumn(column, Qt.SortOrder.DescendingOrder)
    areas = list(view.table_model.rows["area_px"])
    assert areas == sorted(areas, reverse=True)
    click_row(tables, "objects", 0)
    assert emitted == [
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


def test_new_results_are_shown_and_the_selection_stays() -> None:
    get_application()
    growing = make_live_tables(range(3))
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


def test_many_refreshes_make_tables_a_few_times(
    tables: TablesTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []
    real = tables.live_tables.make_tables

    def counting() -> object:
        made.append(time.monotonic())
        return real()

    monkeypatch.setattr(tables.live_tables, "make_tables", counting)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        tables.refresh()
        process_events()
        time.sleep(0.01)
    assert len(made) <= 5
    wait_until(lambda: len(made) > 0)


def test_tables_of_another_session_replace_the_first(tables: TablesTab) -> None:
    other = LiveTables(make_drifting_scene().video)
    other.measure_frame(0, make_drifting_scene().labels[0])
    tables.show_live_tables(other)
    wait_until(lambda: len(tables.views["tracks"].table_model.rows) == 3)
    tables.show_live_tables(None)
    assert len(tables.views["tracks"].table_model.rows) == 0


def test_copied_rows_are_tab_separated_text(tables: TablesTab) -> None:
    messages: list[str] = []
    tables.notified.connect(messages.append)
    tables.tabs.setCurrentWidget(tables.views["tracks"])
    tables.copy_table()
    pasted = pd.read_csv(StringIO(QApplication.clipboard().text()), sep="\t")
    assert list(pasted["track"]) == [1, 2, 3, 4]
    assert messages == ["Copied 4 rows. Paste them into a spreadsheet."]
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
        tables.tabs.setCurrentWidget(tables.views[name])
        tables.save_table(tmp_path / f"{name}.csv")
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / f"{name}.csv"),
            pd.read_csv(StringIO(getattr(tables.tables, name).to_csv(index=False))),
        )


def test_an_unwritable_file_is_reported(tables: TablesTab, tmp_path: Path) -> None:
    messages: list[str] = []
    tables.notified.connect(messages.append)
    tables.save_table(tmp_path / "missing" / "objects.csv")
    assert len(messages) == 1 and "cannot be written" in messages[0]


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


def test_empty_columns_are_hidden() -> None:
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
    wait_until(lambda: widget.getPlotItem().getViewBox().viewRange()[1][1] > 50)
    yield widget
    widget.close()


def on(plot: Plot, frame: float, value: float) -> QPointF:
    return plot.getPlotItem().getViewBox().mapViewToScene(QPointF(frame, value))


@pytest.mark.parametrize(
    ("frame", "value", "expected"),
    [(4, 50, (7, 4)), (4, 10, (1, 4)), (4.2, 10.5, (1, 4)), (5, 30, None)],
)
def test_find_nearest_finds_the_line_near_a_position(
    plot: Plot, frame: float, value: float, expected: object
) -> None:
    assert plot.find_nearest(on(plot, frame, value)) == expected
    assert plot.find_nearest(QPointF(-5, -5)) is None


def test_a_click_on_a_line_chooses_its_track_and_frame(plot: Plot) -> None:
    chosen: list[tuple[int, int]] = []
    plot.point_chosen.connect(lambda track, frame: chosen.append((track, frame)))
    QTest.mouseClick(plot.viewport(), LEFT, NONE, plot.mapFromScene(on(plot, 6, 50)))
    process_events()
    assert chosen == [(7, 6)]


def test_a_click_in_a_plot_of_counts_chooses_the_frame(plot: Plot) -> None:
    plot.show_lines({"": (np.arange(10), np.arange(10))}, title="objects", are_tracks=False)
    process_events()
    assert plot.find_nearest(on(plot, 6.3, 2)) == (0, 6)


def test_many_tracks_are_one_curve_with_the_selected_one_on_top(plot: Plot) -> None:
    frames = np.arange(1000)
    plot.show_lines({track: (frames, frames % 7 + track) for track in range(1, 501)}, title="area")
    assert len(plot.curves) == 1
    plot.select(77)
    assert len(plot.curves) == 2
    process_events()
    assert plot.curves[-1].zValue() > plot.curves[0].zValue()


def test_a_hidden_plot_is_drawn_when_it_is_shown(plot: Plot) -> None:
    plot.hide()
    frames = np.arange(5)
    plot.show_lines({track: (frames, frames + track) for track in (1, 2, 3)}, title="area (px)")
    assert len(plot.curves) == 2
    plot.show()
    process_events()
    assert [curve.yData[0] for curve in plot.curves] == [1, 2, 3]


def test_curves_are_used_again_for_other_lines(plot: Plot) -> None:
    before, frames = list(plot.curves), np.arange(10)
    plot.show_lines({7: (frames[:1], frames[:1] + 3), 9: (frames, frames)}, title="area (px)")
    assert all(one is other for one, other in zip(before, plot.curves, strict=True))
    assert plot.curves[0].opts["symbol"] == "o" and plot.curves[1].opts["symbol"] is None
    plot.show_lines({9: (frames, frames)}, title="area (px)")
    assert len(plot.curves) == 1 and before[1] not in plot.getPlotItem().items


def test_a_click_requests_the_tracks_layer(tables: TablesTab) -> None:
    requests: list[bool] = []
    tables.draw_tracks_requested.connect(lambda: requests.append(True))
    (button,) = [each for each in tables.findChildren(QToolButton) if each.text() == "Draw tracks"]
    QTest.mouseClick(button, LEFT)
    process_events()
    assert requests == [True]
