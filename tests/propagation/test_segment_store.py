"""SegmentStore: the newest segment counts, undo deletes, nothing is lost."""

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


def _make_segment(
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
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentStore:
    return SegmentStore(tmp_path / "trail.sqlite" if request.param == "file" else None)


def test_segments_are_stored_without_loss(store: SegmentStore) -> None:
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
    store.put([put], entry=0)
    got = store.get(3, 5)
    assert got is not None
    assert (got.window, got.iou, got.presence_score, got.presence) == (
        put.window,
        put.iou,
        put.presence_score,
        put.presence,
    )
    np.testing.assert_array_equal(got.logits, put.logits)
    np.testing.assert_array_equal(got.pointer, put.pointer)


def test_local_memory_is_stored_and_absent_in_older_files(
    store: SegmentStore,
) -> None:
    store.put(
        [_make_segment(1, 0, 1.0), replace(_make_segment(2, 0, 2.0), local_memory=True)], entry=0
    )
    first, second = store.get_frame(0)
    assert (first.local_memory, second.local_memory) == (False, True)
    assert first.window == second.window == Window(0.5, -3, 20, 30, 32)
    (window,) = store.connection.execute("SELECT window FROM segments WHERE track = 1").fetchone()
    assert json.loads(window) == [0.5, -3, 20, 30, 32], (
        "as it was written before anything was narrow"
    )


def test_newest_entry_counts_and_undo_restores_the_older(store: SegmentStore) -> None:
    store.put([_make_segment(1, 0, 1.0), _make_segment(2, 0, 2.0)], entry=0, forward=True)
    store.put([_make_segment(1, 0, 5.0)], entry=3, forward=False)
    assert [segment.presence_score for segment in store.get_frame(0)] == [5.0, 2.0]
    trace = store.get_record(1, 0)
    assert trace is not None and (trace.entry, trace.forward) == (3, False)
    store.delete_from(3)
    assert [segment.presence_score for segment in store.get_frame(0)] == [1.0, 2.0]
    assert store.get_records()[1, 0].forward is True


def test_conditioning_frames_come_from_the_newest_entries(store: SegmentStore) -> None:
    store.put(
        [_make_segment(1, 4, 1.0, Presence.LOCKED), _make_segment(1, 2, 1.0, Presence.PROMPTED)],
        entry=0,
    )
    assert store.find_conditioning_frames(1) == [2, 4]
    store.put([_make_segment(1, 4, 1.0, Presence.TRACKED)], entry=1)
    assert store.find_conditioning_frames(1) == [2]
    assert [
        (memory.frame, memory.conditioning) for memory in store.load_memories(1, [2, 3, 4])
    ] == [
        (2, True),
        (4, False),
    ]


def test_state_is_stored_with_the_segments_of_its_step(store: SegmentStore) -> None:
    store.put([_make_segment(1, 0, 1.0)], entry=2, state={"position": 1})
    assert store.load_state(2) == {"position": 1}
    assert store.load_state(1) is None
    store.delete_from(2)
    assert store.load_state(2) is None


def test_full_disk_raises_output_error_and_rolls_back(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path / "trail.sqlite")
    store.put([_make_segment(1, 0, 1.0)], entry=0, state={"position": 1})
    store.connection.execute(
        "PRAGMA max_page_count = 1"
    )  # SQLite raises this to the present number of pages: the file is full
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
        store.put([big], entry=0, state={"position": 2})
    assert store.load_state(0) == {"position": 1}
    assert store.get(1, 1) is None


def test_killed_process_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "trail.sqlite"
    store = SegmentStore(path)
    store.put([_make_segment(1, 0, 1.0)], entry=0)
    copied = tmp_path / "copy.sqlite"
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            copied.with_name(copied.name + suffix).write_bytes(source.read_bytes())
    assert SegmentStore(copied).get(1, 0) is not None
    assert sqlite3.connect(copied).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trail.sqlite"
    path.write_bytes(b"this is something else" * 100)
    with pytest.raises(OutputError, match="remove that file"):
        SegmentStore(path)
