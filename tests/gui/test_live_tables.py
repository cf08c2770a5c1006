"""Tables that grow frame by frame: at the end they are those of the finished session."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_sam2.core.track import Track
from napari_sam2.gui.app.live_tables import Measured
from napari_sam2.measurement.counts import counts
from napari_sam2.measurement.features.objects import objects
from napari_sam2.measurement.features.tracks import tracks
from napari_sam2.testing.scenes import SCENES, Scene, appearing, drifting, two_channels


def measured(scene: Scene, frames: range | None = None) -> Measured:
    found = Measured(scene.video)
    for frame in frames or range(len(scene.labels)):
        found.measure(frame, scene.labels[frame])
    return found


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_frame_by_frame_the_tables_are_those_of_the_whole(scene: Scene) -> None:
    found = measured(scene).tables()
    expected = objects(scene.video, scene.labels)
    pd.testing.assert_frame_equal(found.objects, expected)
    pd.testing.assert_frame_equal(found.tracks, tracks(expected, scene.video))
    pd.testing.assert_frame_equal(found.counts, counts(expected, len(scene.labels)))


def test_a_frame_that_is_measured_again_takes_the_place_of_what_it_was() -> None:
    scene = drifting()
    found = measured(scene)
    found.measure(4, np.where(scene.labels[4] == 2, 0, scene.labels[4]))
    rows = found.tables().objects
    assert (set(rows[rows["frame"] == 4]["track"]), set(rows[rows["frame"] == 5]["track"])) == (
        {1, 3},
        {1, 2, 3},
    )


def test_categories_count_at_once_and_everywhere() -> None:
    found = measured(drifting(), range(2))
    found.describe([Track(1, category="nucleus"), Track(3, category="nucleus")])
    tables = found.tables()
    assert list(tables.objects["category"]) == ["nucleus", "", "nucleus"] * 2
    assert {name: list(n) for name, (_, n) in tables.counted().items()} == {
        "": [1, 1] + [0] * 8,
        "nucleus": [2, 2] + [0] * 8,
    }


def test_nothing_measured_is_an_empty_table() -> None:
    found = Measured(drifting().video)
    for _ in range(2):
        tables = found.tables()
        assert len(tables.objects) == len(tables.tracks) == 0
        assert list(tables.counts["n"]) == [0] * 11
        assert tables.lines("area_px") == {}
        found.measure(0, drifting().labels[0])
        found.clear()


def test_lines_are_those_of_each_track() -> None:
    scene = appearing()
    lines = measured(scene).tables().lines("area_px")
    for track in scene.tracks:
        frames, areas = lines[track]
        assert tuple(frames) == scene.frames(track)
        assert list(areas) == [scene.mask(track, frame).sum() for frame in scene.frames(track)]


def test_each_channel_has_its_own_intensity() -> None:
    scene = two_channels()
    tables = measured(scene).tables()
    for channel in (0, 1):
        assert {
            track: set(values) for track, (_, values) in tables.lines(f"mean_c{channel}").items()
        } == {track: {float(scene.intensity[track][channel])} for track in scene.tracks}
