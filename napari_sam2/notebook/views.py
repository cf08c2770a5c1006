"""What the panel shows beside the frame, as plain data: objects, timeline and prompts."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_sam2.core.prompt import MaskPrompt
from napari_sam2.core.track import PRESENCE_CODES, Presence
from napari_sam2.measurement.report.outlines import get_track_colour
from napari_sam2.propagation.segment_store import SegmentRecord
from napari_sam2.propagation.session import Session

SegmentRecords = Mapping[tuple[int, int], SegmentRecord]
"""Segment records of a session by (track, frame)."""


def list_objects(session: Session, records: SegmentRecords, selected: int) -> list[dict[str, Any]]:
    """List the tracks with name, category, colour and number of frames.

    The selected track is listed even if it has no prompt yet.
    """
    frame_counts: dict[int, int] = dict.fromkeys((*session.log.track_ids, selected), 0)
    for (track, _), record in records.items():
        if record.presence is not Presence.ABSENT:
            frame_counts[track] = frame_counts.get(track, 0) + 1
    tracks = (session.log.get_track(track) for track in sorted(frame_counts))
    return [
        {
            "id": track.id,
            "name": track.name,
            "category": track.category,
            "colour": get_hex_colour(track.id),
            "frames": frame_counts[track.id],
        }
        for track in tracks
    ]


def encode_lanes(session: Session, records: SegmentRecords) -> dict[str, Any]:
    """``{"tracks", "frames", "bytes"}``: a (tracks, frames) matrix of `PRESENCE_CODES`, zlib."""
    tracks = list(session.log.track_ids)
    rows = {track: row for row, track in enumerate(tracks)}
    codes = np.zeros((len(tracks), len(session.video)), dtype=np.uint8)
    for (track, frame), record in records.items():
        if track in rows:
            codes[rows[track], frame] = PRESENCE_CODES[record.presence]
    return {"tracks": tracks, "frames": len(session.video), "bytes": zlib.compress(codes.tobytes())}


def list_prompt_marks(session: Session, frame: int) -> list[dict[str, Any]]:
    """List the points and boxes on one frame, by track; mask prompts have no mark.

    Each is ``{"track", "points": [[y, x, positive], …], "box": [y, x, y2, x2] or None}``.
    """
    tracks = {
        prompt.track
        for prompt in session.log.prompts
        if prompt.frame == frame and not isinstance(prompt, MaskPrompt)
    }
    marks = []
    for track in sorted(tracks):
        prompts = session.log.combine_prompts(track, frame)
        points = [
            [y, x, positive]
            for (y, x), positive in zip(prompts.points, prompts.positive, strict=True)
        ]
        box = list(prompts.box) if prompts.box else None
        marks.append({"track": track, "points": points, "box": box})
    return marks


def get_hex_colour(track: int) -> str:
    """Colour of a track as ``#rrggbb``, the same as in every overview and overlay."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in get_track_colour(track))
