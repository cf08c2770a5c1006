"""SegmentStore: the segments of all tracks on disk, so that memory does not grow with the stack.

Each segment is stored with the log entry that made it. The newest one counts; undo deletes those
of later entries. Memories are restored from here, so that corrections, undo and resumed runs all
read from one place.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numcodecs import Blosc

from napari_sam2.core.errors import OutputError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.result import Memory, Segment
from napari_sam2.core.track import CONDITIONING_PRESENCES, Presence
from napari_sam2.core.window import Window

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    track INTEGER, frame INTEGER, entry INTEGER, presence TEXT, iou REAL, score REAL,
    forward INTEGER, window TEXT, shape TEXT, logits BLOB, pointer BLOB,
    PRIMARY KEY (track, frame, entry)
);
CREATE INDEX IF NOT EXISTS by_frame ON segments (frame, track, entry);
CREATE TABLE IF NOT EXISTS progress (entry INTEGER PRIMARY KEY, state TEXT);
"""
_CODEC = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)  # lossless
_INSERT = "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "track, frame, presence, iou, score, window, shape, logits, pointer"


@dataclass(frozen=True)
class SegmentRecord:
    """A segment without its mask: log entry, presence, predicted IoU and direction.

    `forward` is the direction it was propagated in, None if it was only prompted.
    """

    track: int
    frame: int
    entry: int
    presence: Presence
    iou: float
    forward: bool | None


class SegmentStore:
    """A SQLite file of segments by track, frame and log entry; temporary if `path` is None."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = RLock()
        try:
            if path is not None:
                path.touch()  # SQLite alone would not let a group write, whatever the umask
            # SQLite stores a database without a name in a temporary file
            self.connection = sqlite3.connect(
                "" if path is None else str(path), check_same_thread=False
            )
            if path is not None:
                self.connection.execute("PRAGMA journal_mode=WAL")
                self.connection.execute("PRAGMA synchronous=NORMAL")
            self.connection.executescript(_SCHEMA)
        except (OSError, sqlite3.DatabaseError) as error:
            raise OutputError(
                f"results cannot be stored in {path}: {error}; free some space, or remove that "
                "file and start again"
            ) from error

    def close(self) -> None:
        """Close the file; a temporary one is deleted."""
        self.connection.close()

    def put(
        self,
        segments: Sequence[Segment],
        entry: int,
        *,
        forward: bool | None = None,
        state: Any = None,
    ) -> None:
        """Store segments of log entry `entry` and its state (JSON values) in one transaction."""
        with self._transaction() as db:
            db.executemany(
                _INSERT, [_segment_to_row(segment, entry, forward) for segment in segments]
            )
            if state is not None:
                db.execute(
                    "INSERT OR REPLACE INTO progress VALUES (?, ?)", (entry, json.dumps(state))
                )

    def put_prompted(self, segments: Sequence[Segment], first_entry: int) -> None:
        """Store one segment per log entry, from `first_entry` on.

        The direction in which a segment was propagated before is kept.
        """
        rows = []
        for number, segment in enumerate(segments):
            record = self.get_record(segment.track, segment.frame)
            rows.append(
                _segment_to_row(segment, first_entry + number, record.forward if record else None)
            )
        with self._transaction() as db:
            db.executemany(_INSERT, rows)

    def get(self, track: int, frame: int) -> Segment | None:
        """The newest segment of a track on a frame, None if there is none."""
        query = (
            f"SELECT {_COLUMNS} FROM segments WHERE track = ? AND frame = ? ORDER BY entry DESC "
            "LIMIT 1"
        )
        row = self._execute(query, (track, frame)).fetchone()
        return _row_to_segment(row) if row else None

    def get_frame(self, frame: int) -> list[Segment]:
        """The newest segment of every track on a frame, ascending by track."""
        query = (
            f"SELECT {_COLUMNS}, MAX(entry) FROM segments WHERE frame = ? GROUP BY track ORDER "
            "BY track"
        )
        return [_row_to_segment(row[:-1]) for row in self._execute(query, (frame,)).fetchall()]

    def load_memories(self, track: int, frames: Sequence[int]) -> list[Memory]:
        """Memories of a track on those of `frames` it has segments on, without features."""
        found = [segment for frame in frames if (segment := self.get(track, frame))]
        return [
            Memory(
                each.frame,
                each.conditioning,
                each.pointer,
                each.presence != Presence.ABSENT,
                each.iou,
                position=each.position,
            )
            for each in found
        ]

    def find_conditioning_frames(self, track: int) -> list[int]:
        """The frames on which a track was prompted or locked, ascending."""
        query = (
            "SELECT frame, MAX(entry), presence FROM segments WHERE track = ? GROUP BY frame "
            "ORDER BY frame"
        )
        return [
            frame
            for frame, _, presence in self._execute(query, (track,))
            if presence in CONDITIONING_PRESENCES
        ]

    def get_records(self, track: int | None = None) -> dict[tuple[int, int], SegmentRecord]:
        """The newest record by (track, frame), of one track or of all."""
        where, values = ("WHERE track = ?", (track,)) if track is not None else ("", ())
        query = (
            f"SELECT track, frame, MAX(entry), presence, iou, forward FROM segments {where} "
            "GROUP BY track, frame"
        )
        return {
            (row[0], row[1]): _row_to_record(row) for row in self._execute(query, values).fetchall()
        }

    def get_record(self, track: int, frame: int) -> SegmentRecord | None:
        """The newest record of a track on a frame, None if there is none."""
        query = (
            "SELECT track, frame, entry, presence, iou, forward FROM segments WHERE track = ? "
            "AND frame = ? ORDER BY entry DESC LIMIT 1"
        )
        row = self._execute(query, (track, frame)).fetchone()
        return _row_to_record(row) if row else None

    def load_state(self, entry: int) -> Any:
        """The state of a log entry as it was given to `put`, None if there is none."""
        row = self._execute("SELECT state FROM progress WHERE entry = ?", (entry,)).fetchone()
        return json.loads(row[0]) if row else None

    def count_entries(self) -> int:
        """The number of log entries up to the last one that stored anything."""
        row = self._execute(
            "SELECT MAX(entry) FROM (SELECT entry FROM segments UNION ALL SELECT entry FROM "
            "progress)",
            (),
        ).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def find_steps_done(self, log: PromptLog) -> dict[int, int]:
        """Steps done, by log entry, of the propagations that were cancelled or killed."""
        found = {}
        for number, entry in enumerate(log):
            state = (
                self.load_state(number)
                if isinstance(entry, Propagation)
                else {"position": 0, "total": 0}
            )
            if state is None or state["position"] < state["total"]:
                found[number] = int(state["position"]) if state else 0
        return found

    def delete_from(self, entry: int) -> None:
        """Delete everything of this log entry and later ones; older segments count again."""
        with self._transaction() as db:
            db.execute("DELETE FROM segments WHERE entry >= ?", (entry,))
            db.execute("DELETE FROM progress WHERE entry >= ?", (entry,))

    def _execute(self, query: str, values: Sequence[Any]) -> sqlite3.Cursor:
        with self._lock:
            return self.connection.execute(query, values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self.connection:
                yield self.connection
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"cannot store results on disk: {error}; free some space, then continue from "
                "where it stopped"
            ) from error


def _segment_to_row(segment: Segment, entry: int, forward: bool | None) -> tuple[Any, ...]:
    logits = np.ascontiguousarray(segment.logits, dtype=np.float32)
    return (
        segment.track,
        segment.frame,
        entry,
        segment.presence.value,
        segment.iou,
        segment.presence_score,
        None if forward is None else int(forward),
        json.dumps([*astuple(segment.window), *([True] if segment.local_memory else [])]),
        json.dumps(logits.shape),
        _CODEC.encode(logits),
        np.asarray(segment.pointer, dtype=np.float32).tobytes(),
    )


def _row_to_segment(row: Sequence[Any]) -> Segment:
    track, frame, presence, iou, score, window, shape, logits, pointer = row
    grid = np.frombuffer(_CODEC.decode(logits), dtype=np.float32).reshape(json.loads(shape))
    *numbers, local_memory = [*json.loads(window), False][:6]  # older files have no sixth value
    code = np.frombuffer(pointer, dtype=np.float32)
    return Segment(
        track,
        frame,
        Window(*numbers),
        grid,
        iou,
        score,
        code,
        Presence(presence),
        local_memory=local_memory,
    )


def _row_to_record(row: Sequence[Any]) -> SegmentRecord:
    track, frame, entry, presence, score, forward = row
    return SegmentRecord(
        track, frame, entry, Presence(presence), score, None if forward is None else bool(forward)
    )
