"""What the panel draws beside the frame, as plain data: objects, lanes, marks.

Read from a Session, nothing kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.track import PRESENCE_CODES, Presence
from napari_sam2.measurement.report.outlines import get_track_colour
from napari_sam2.propagation.segment_store import SegmentRecord
from napari_sam2.propagation.session import Session

SegmentRecords = Mapping[tuple[int, int], SegmentRecord]
"""What a Session knows of its tracks, by (track, frame): read once, drawn in several ways."""


def list_objects(session: Session, records: SegmentRecords, selected: int) -> list[dict[str, Any]]:
    """Every prompted track, and the selected one if nobody prompted it yet: id, name, category, colour, frames it is on."""
    found: dict[int, int] = dict.fromkeys((*session.log.track_ids, selected), 0)
    for (track, _), trace in records.items():
        if trace.presence is not Presence.ABSENT:
            found[track] = found.get(track, 0) + 1
    described = (session.log.get_track(track) for track in sorted(found))
    return [
        {
            "id": each.id,
            "name": each.name,
            "category": each.category,
            "colour": get_hex_colour(each.id),
            "frames": found[each.id],
        }
        for each in described
    ]


def encode_lanes(session: Session, records: SegmentRecords) -> dict[str, Any]:
    """``{"tracks", "frames", "bytes"}``: a (tracks, frames) matrix of `PRESENCE_CODES`, zlib."""
    tracks = list(session.log.track_ids)
    rows = {track: row for row, track in enumerate(tracks)}
    codes = np.zeros((len(tracks), len(session.video)), dtype=np.uint8)
    for (track, frame), trace in records.items():
        if track in rows:
            codes[rows[track], frame] = PRESENCE_CODES[trace.presence]
    return {"tracks": tracks, "frames": len(session.video), "bytes": zlib.compress(codes.tobytes())}


def list_prompt_marks(session: Session, frame: int) -> list[dict[str, Any]]:
    """The prompts on one frame: ``{"track", "points": [[y, x, positive], …], "box": [y, x, y2, x2] or None}``."""
    found = []
    tracks = sorted(
        {
            prompt.track
            for prompt in session.log.prompts
            if prompt.frame == frame and not isinstance(prompt, MaskPrompt)
        }
    )
    for track in tracks:
        said = session.log.combine_prompts(track, frame)
        points = [
            [y, x, positive] for (y, x), positive in zip(said.points, said.positive, strict=True)
        ]
        found.append(
            {"track": track, "points": points, "box": list(said.box) if said.box else None}
        )
    return found


def parse_prompt(content: dict[str, Any]) -> PointPrompt | BoxPrompt:
    """The prompt that a message of the browser holds; raises PromptError where it holds none."""
    frame, track = int(content["frame"]), int(content["track"])
    if content["kind"] == "box":
        return BoxPrompt(frame, track, content["box"])
    return PointPrompt(frame, track, [content["yx"]], [bool(content["positive"])])


def get_hex_colour(track: int) -> str:
    """The colour of a track as ``#rrggbb``, that of every picture of ours."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in get_track_colour(track))
