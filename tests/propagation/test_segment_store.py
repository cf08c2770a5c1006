"""Trail: the newest answer counts, undo forgets, nothing is lost."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.errors import OutputError
from napari_sam2.core.result import Segment
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.propagation.segment_store import SegmentStore


def _segment(
    track: int, frame: int, value: float, presence: Presence = Presence.TRACKED
) -> Segment:
    logits = np.full((8, 8), value, dtype=np.float32)
    return Segment(
        track,
        frame,
        Window(0.5, -3, 20, 30, 32),
        logits,
        0.7,
        value,
        np.array([value, 1], np.float32),
        presence,
    )


@pytest.fixture(params=["temporary", "file"])
def trail(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentStore:
    return SegmentStore(tmp_path / "trail.sqlite" if request.param == "file" else None)


def test_what_is_read_is_what_was_put_to_the_last_bit(trail: SegmentStore) -> None:
    rng = np.random.default_rng(0)
    put = Segment(
        3,
        5,
        Window(0.1, 0.2, 64, 64, 128),
        rng.normal(size=(32, 32)).astype(np.float32),
        0.1 + 0.2,
        -1.5,
        rng.random(256, np.float32),
    )
    trail.put([put], entry=0)
    got = trail.get(3, 5)
    assert got is not None
    assert (got.window, got.iou, got.presence_score, got.presence) == (
        put.window,
        put.iou,
        put.presence_score,
        put.presence,
    )
    np.testing.assert_array_equal(got.logits, put.logits)
    np.testing.assert_array_equal(got.pointer, put.pointer)


def test_how_much_is_to_be_remembered_is_kept_and_unknown_to_older_files(
    trail: SegmentStore,
) -> None:
    trail.put([_segment(1, 0, 1.0), replace(_segment(2, 0, 2.0), local_memory=True)], entry=0)
    first, second = trail.get_frame(0)
    assert (first.local_memory, second.local_memory) == (False, True)
    assert first.window == second.window == Window(0.5, -3, 20, 30, 32)
    (window,) = trail._db.execute("SELECT window FROM segments WHERE track = 1").fetchone()
    assert json.loads(window) == [0.5, -3, 20, 30, 32], (
        "as it was written before anything was narrow"
    )


def test_the_newest_entry_counts_and_undo_brings_the_older_back(trail: SegmentStore) -> None:
    trail.put([_segment(1, 0, 1.0), _segment(2, 0, 2.0)], entry=0, forward=True)
    trail.put([_segment(1, 0, 5.0)], entry=3, forward=False)
    assert [segment.presence_score for segment in trail.get_frame(0)] == [5.0, 2.0]
    trace = trail.get_record(1, 0)
    assert trace is not None and (trace.entry, trace.forward) == (3, False)
    trail.delete_from(3)
    assert [segment.presence_score for segment in trail.get_frame(0)] == [1.0, 2.0]
    assert trail.get_records()[1, 0].forward is True


def test_conditioning_frames_are_those_of_the_newest_entries(trail: SegmentStore) -> None:
    trail.put(
        [_segment(1, 4, 1.0, Presence.LOCKED), _segment(1, 2, 1.0, Presence.PROMPTED)], entry=0
    )
    assert trail.find_conditioning_frames(1) == [2, 4]
    trail.put([_segment(1, 4, 1.0, Presence.TRACKED)], entry=1)
    assert trail.find_conditioning_frames(1) == [2]
    assert [
        (memory.frame, memory.conditioning) for memory in trail.load_memories(1, [2, 3, 4])
    ] == [
        (2, True),
        (4, False),
    ]


def test_progress_is_kept_with_the_answers_of_its_step(trail: SegmentStore) -> None:
    trail.put([_segment(1, 0, 1.0)], entry=2, state={"position": 1})
    assert trail.load_state(2) == {"position": 1}
    assert trail.load_state(1) is None
    trail.delete_from(2)
    assert trail.load_state(2) is None


def test_a_full_disk_is_an_output_error_and_nothing_of_the_step_is_kept(tmp_path: Path) -> None:
    trail = SegmentStore(tmp_path / "trail.sqlite")
    trail.put([_segment(1, 0, 1.0)], entry=0, state={"position": 1})
    trail._db.execute(
        "PRAGMA max_page_count = 1"
    )  # SQLite raises it to the pages there are: full from here on
    big = Segment(
        1,
        1,
        Window(0, 0, 8, 8, 8),
        np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32),
        0.5,
        1.0,
        np.zeros(2, np.float32),
    )
    with pytest.raises(OutputError, match="free some space"):
        trail.put([big], entry=0, state={"position": 2})
    assert trail.load_state(0) == {"position": 1}
    assert trail.get(1, 1) is None


def test_a_killed_process_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "trail.sqlite"
    trail = SegmentStore(path)
    trail.put([_segment(1, 0, 1.0)], entry=0)
    copied = tmp_path / "copy.sqlite"
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            copied.with_name(copied.name + suffix).write_bytes(source.read_bytes())
    assert SegmentStore(copied).get(1, 0) is not None
    assert sqlite3.connect(copied).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_trail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trail.sqlite"
    path.write_bytes(b"this is something else" * 100)
    with pytest.raises(OutputError, match="remove that file"):
        SegmentStore(path)
