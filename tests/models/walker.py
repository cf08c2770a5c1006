"""A walk as the reference predictor does it, one track, nothing else: what the model is measured against without our engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.prompt import Said
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Memory, Query, Recall, Segment
from napari_sam2.core.video import Frame

RECENT = 6  # tracked frames whose memory is shown


@dataclass
class Walker:
    """One track.

    `conditioning` and `tracked` are the reference's cond_frame_outputs and non_cond_frame_outputs.
    """

    model: VideoModel
    embeddings: list[Embedding]
    clamp_previous: bool = True
    conditioning: dict[int, Memory] = field(default_factory=dict)
    tracked: dict[int, Memory] = field(default_factory=dict)
    segments: dict[int, Segment] = field(default_factory=dict)
    ways: dict[int, bool] = field(default_factory=dict)

    def prompt(self, frame: int, said: Said) -> Segment:
        """A frame never walked over is answered without memory; the previous logits go in with every click after the first."""
        recalls = self.recalls(frame, self.ways[frame]) if frame in self.ways else ()
        before = (
            self.segments[frame].logits if frame in self.segments and self.clamp_previous else None
        )
        (segment,) = self.model.segment(
            self.embeddings[frame], [self.query(said=said, recalls=recalls, logits=before)]
        )
        self.tracked.pop(frame, None)
        self.conditioning[frame] = self.memory(segment)
        self.segments[frame] = segment
        return segment

    def walk(self, start: int, *, forward: bool) -> None:
        for frame in range(start, len(self.embeddings)) if forward else range(start, -1, -1):
            if frame not in self.conditioning:
                query = self.query(recalls=self.recalls(frame, forward))
                (self.segments[frame],) = self.model.segment(self.embeddings[frame], [query])
                self.tracked[frame] = self.memory(self.segments[frame])
            self.ways[frame] = forward

    def query(self, **parts: object) -> Query:
        return Query(1, length=len(self.embeddings), **parts)  # type: ignore[arg-type]

    def memory(self, segment: Segment) -> Memory:
        (features,) = self.model.remember(self.embeddings[segment.frame], [segment])
        return Memory(
            segment.frame,
            segment.conditioning,
            segment.pointer,
            segment.present,
            segment.iou,
            features,
        )

    def recalls(self, frame: int, forward: bool) -> tuple[Recall, ...]:
        sign = 1 if forward else -1
        found = []
        for other, memory in self.conditioning.items():
            age = (frame - other) * sign
            if other != frame:
                found.append(Recall(memory, 0, age if age >= 0 else None))
        for back in range(1, min(len(self.embeddings), self.model.card.pointers)):
            memory = self.tracked.get(frame - back * sign)
            if memory:
                found.append(Recall(memory, back if back <= RECENT else None, back))
        return tuple(found)


def embedded(model: VideoModel, frames: np.ndarray) -> list[Embedding]:
    """(T, H, W) in 0..1, embedded a few at once."""
    views = [
        (Frame(index, pixels), model.card.window(pixels.shape))
        for index, pixels in enumerate(frames.astype(np.float32))
    ]
    return [
        embedding
        for start in range(0, len(views), 4)
        for embedding in model.embed(views[start : start + 4])
    ]
