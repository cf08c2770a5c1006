"""Propagation of one track as in the reference predictor, without our own propagation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame

# Tracked frames whose memory is used.
MAX_RECENT = 6


@dataclass
class ReferencePropagator:
    """One track.

    `conditioning` and `tracked` are cond_frame_outputs and non_cond_frame_outputs of the reference.
    """

    model: VideoModel
    embeddings: list[Embedding]
    clamp_previous: bool = True
    conditioning: dict[int, Memory] = field(default_factory=dict)
    tracked: dict[int, Memory] = field(default_factory=dict)
    segments: dict[int, Segment] = field(default_factory=dict)
    directions: dict[int, bool] = field(default_factory=dict)

    def prompt(self, frame: int, prompts: FramePrompts) -> Segment:
        """Answer prompts: with memory on a propagated frame, with logits on a prompted one."""
        references = (
            self.select_memories(frame, self.directions[frame]) if frame in self.directions else ()
        )
        previous = (
            self.segments[frame].logits if frame in self.segments and self.clamp_previous else None
        )
        (segment,) = self.model.segment(
            self.embeddings[frame],
            [self.make_query(prompts=prompts, memory_references=references, logits=previous)],
        )
        self.tracked.pop(frame, None)
        self.conditioning[frame] = self.make_memory(segment)
        self.segments[frame] = segment
        return segment

    def propagate(self, start: int, *, forward: bool) -> None:
        for frame in range(start, len(self.embeddings)) if forward else range(start, -1, -1):
            if frame not in self.conditioning:
                query = self.make_query(memory_references=self.select_memories(frame, forward))
                (self.segments[frame],) = self.model.segment(self.embeddings[frame], [query])
                self.tracked[frame] = self.make_memory(self.segments[frame])
            self.directions[frame] = forward

    def make_query(self, **parts: object) -> Query:
        return Query(1, video_length=len(self.embeddings), **parts)  # type: ignore[arg-type]

    def make_memory(self, segment: Segment) -> Memory:
        (features,) = self.model.encode_memory(self.embeddings[segment.frame], [segment])
        return Memory(
            segment.frame,
            segment.conditioning,
            segment.pointer,
            segment.present,
            segment.iou,
            features,
        )

    def select_memories(self, frame: int, forward: bool) -> tuple[MemoryReference, ...]:
        sign = 1 if forward else -1
        references = []
        for other, memory in self.conditioning.items():
            age = (frame - other) * sign
            if other != frame:
                references.append(MemoryReference(memory, 0, age if age >= 0 else None))
        for back in range(1, min(len(self.embeddings), self.model.card.pointers)):
            tracked = self.tracked.get(frame - back * sign)
            if tracked is not None:
                references.append(
                    MemoryReference(tracked, back if back <= MAX_RECENT else None, back)
                )
        return tuple(references)


def embed_frames(model: VideoModel, frames: np.ndarray) -> list[Embedding]:
    """(T, H, W) in 0..1, embedded a few at once."""
    views = [
        (Frame(index, pixels), model.card.make_frame_window(pixels.shape))
        for index, pixels in enumerate(frames.astype(np.float32))
    ]
    return [
        embedding
        for start in range(0, len(views), 4)
        for embedding in model.embed(views[start : start + 4])
    ]
