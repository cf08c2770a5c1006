"""Tables that grow frame by frame: at the end they are those of the finished session."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_sam2.core.track import Track
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.features.objects import measure_objects
from napari_sam2.measurement.features.tracks import measure_tracks
from napari_sam2.testing.scenes import (
    SCENES,
    Scene,
    make_appearing_scene,
    make_drifting_scene,
    make_two_channel_scene,
)


def measured(scene: Scene, frames: range | None = None) -> LiveTables:
    found = LiveTables(scene.video)
    for frame in frames or range(len(scene.labels)):
        found.measure_frame(frame, scene.labels[frame])
    return found


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_tables_filled_by_frame_are_those_of_the_whole_stack(scene: Scene) -> None:
    found = measured(scene).make_tables()
    expected = measure_objects(scene.video, scene.labels)
    pd.testing.assert_frame_equal(found.objects, expected)
    pd.testing.assert_frame_equal(found.tracks, measure_tracks(expected, scene.video))
    pd.testing.assert_frame_equal(found.counts, count_objects(expected, len(scene.labels)))


def test_measuring_a_frame_again_replaces_its_rows() -> None:
    scene = make_drifting_scene()
    found = measured(scene)
    found.measure_frame(4, np.where(scene.labels[4] == 2, 0, scene.labels[4]))
    rows = found.make_tables().objects
    assert (set(rows[rows["frame"] == 4]["track"]), set(rows[rows["frame"] == 5]["track"])) == (
        {1, 3},
        {1, 2, 3},
    )


def test_categories_count_at_once_and_everywhere() -> None:
    found = measured(make_drifting_scene(), range(2))
    found.set_descriptions([Track(1, category="nucleus"), Track(3, category="nucleus")])
    tables = found.make_tables()
    assert list(tables.objects["category"]) == ["nucleus", "", "nucleus"] * 2
    assert {name: list(n) for name, (_, n) in tables.count_by_category().items()} == {
        "": [1, 1] + [0] * 8,
        "nucleus": [2, 2] + [0] * 8,
    }


def test_tables_without_measurements_are_empty() -> None:
    found = LiveTables(make_drifting_scene().video)
    for _ in range(2):
        tables = found.make_tables()
        assert len(tables.objects) == len(tables.tracks) == 0
        assert list(tables.counts["n"]) == [0] * 11
        assert tables.extract_lines("area_px") == {}
        found.measure_frame(0, make_drifting_scene().labels[0])
        found.clear()


def test_lines_are_those_of_each_track() -> None:
    scene = make_appearing_scene()
    lines = measured(scene).make_tables().extract_lines("area_px")
    for track in scene.tracks:
        frames, areas = lines[track]
        assert tuple(frames) == scene.find_frames(track)
        assert list(areas) == [scene.mask(track, frame).sum() for frame in scene.find_frames(track)]


def test_each_channel_has_its_own_intensity() -> None:
    scene = make_two_channel_scene()
    tables = measured(scene).make_tables()
    for channel in (0, 1):
        assert {
            track: set(values)
            for track, (_, values) in tables.extract_lines(f"mean_c{channel}").items()
        } == {track: {float(scene.intensity[track][channel])} for track in scene.tracks}
