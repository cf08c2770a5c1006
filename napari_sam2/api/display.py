"""HTML of sessions and runs: one frame with outlined objects, and their counts."""

from __future__ import annotations

import math

import numpy as np
from skimage.segmentation import find_boundaries

from napari_sam2.core.html import render_summary, subsample_plane
from napari_sam2.core.track import Presence
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.outlines import get_track_colour
from napari_sam2.propagation.session import Run, Session

_TINT = 0.25
_MAX_ROWS = 12  # categories shown; run.counts has all
_MAX_QUICK_PIXELS = 50_000_000
"""Pixels of a video up to which a notebook measures it only to show a run."""


def render_session_html(session: Session) -> str:
    """A session: the frame prompted last, and facts about the session."""
    log = session.log
    frame = log.prompts[-1].frame if log.prompts else len(session.video) // 2
    return render_summary(
        session.video.stack.name,
        _draw_outlined_frame(session, frame),
        _collect_facts(session, frame),
    )


def render_run_html(run: Run) -> str:
    """A run: the frame with the most objects, and the counts over all frames.

    The counts of a large video are left out, because computing them takes long.
    """
    session, state = run.session, run.state.value
    quick = run.results.has_tables or math.prod(session.video.shape) <= _MAX_QUICK_PIXELS
    counts = run.counts if quick else None
    frame = _find_fullest_frame(session)
    facts = {**_collect_facts(session, frame), "run": state}
    if counts is None:
        return render_summary(
            session.video.stack.name,
            _draw_outlined_frame(session, frame),
            {**facts, "counts": "see run.counts (a large stack)"},
        )
    everywhere = counts[counts["frame"] == ALL].head(_MAX_ROWS)
    rows = [(row.category or "–", row.n) for row in everywhere.itertuples()]
    return render_summary(
        session.video.stack.name,
        _draw_outlined_frame(session, frame),
        facts,
        [("category", "objects"), *rows],
    )


def _collect_facts(session: Session, frame: int) -> dict[str, str]:
    log = session.log
    return {
        "video": session.video.description,
        "model": f"{session.model.card.title} on {session.model.device}",
        "prompts": f"{len(log.prompts)} for {len(log.track_ids)} objects",
        "shown": f"{session.video.along} = {frame}",
    }


def _find_fullest_frame(session: Session) -> int:
    """The first frame with most tracks present; the middle frame if there are no tracks."""
    present = [
        frame
        for (_, frame), record in session.get_records().items()
        if record.presence is not Presence.ABSENT
    ]
    return int(np.bincount(present).argmax()) if present else len(session.video) // 2


def _draw_outlined_frame(session: Session, frame: int) -> np.ndarray:
    """(h, w, 3) uint8: the frame in grey, its objects tinted and outlined by track."""
    grey, labels = (
        subsample_plane(session.video.read_frame(frame).pixels),
        subsample_plane(session.compute_label_plane(frame)),
    )
    picture = np.repeat(grey[..., None], 3, axis=2)
    edges = find_boundaries(labels, mode="inner")
    for track in np.unique(labels[labels > 0]):
        inside = labels == track
        picture[inside] = (1 - _TINT) * picture[inside] + _TINT * np.array(
            get_track_colour(int(track))
        )
        picture[inside & edges] = get_track_colour(int(track))
    return np.asarray(np.round(np.clip(picture, 0, 1) * 255), dtype=np.uint8)
