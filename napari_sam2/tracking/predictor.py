"""TrackPredictor: the model's help with linking, in a session of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from napari_sam2.core.card import ModelCard
from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.detection.grid import CandidateMask, remove_duplicates
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.overlaps import compose_label_plane
from napari_sam2.propagation.session import Session

# every frame is a conditioning frame here, and the nearest ones say most
_MAX_CONDITIONING_FRAMES = 2


def make_detection_policy(card: ModelCard) -> Sam2Policy:
    """Memory policy for objects that are prompted on every frame."""
    return Sam2Policy(
        recent=card.memory_slots - 1,
        pointers=card.pointers,
        max_conditioning=_MAX_CONDITIONING_FRAMES,
    )


class TrackPredictor:
    """Segments detections, and predicts tracks on the next frame.

    It works in a scratch session, so it changes nothing in `session`, but shares its image
    features. The scratch session is opened on first use: masks often need no model.
    """

    def __init__(self, session: Session) -> None:
        self.video = session.video
        self._tracked = session
        self._opened: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    def segment(self, prompts: Sequence[Prompt]) -> list[MaskPrompt | None]:
        """Masks of the prompts of one frame, in order.

        None where the model sees no object, and where it sees one that another prompt gave.
        """
        if all(isinstance(prompt, MaskPrompt) for prompt in prompts):
            return [prompt for prompt in prompts if isinstance(prompt, MaskPrompt)]
        shape, session = self.video.shape[1:], self._session
        segments = session.prompt_many(prompts)
        session.resume(PromptLog())
        masks = [CandidateMask.of(segment, shape, float(segment.iou)) for segment in segments]
        kept = {id(mask) for mask in remove_duplicates([mask for mask in masks if mask], shape)}
        return [
            MaskPrompt(segment.frame, segment.track, mask.to_plane(shape))
            if mask and id(mask) in kept
            else None
            for segment, mask in zip(segments, masks, strict=True)
        ]

    def predict(self, masks: Mapping[int, MaskPrompt], frame: int) -> np.ndarray:
        """Propagate tracks from the frame before to `frame`; `masks` by track.

        Returns
        -------
        numpy.ndarray
            (H, W) labels of the tracks.
        """
        session = self._session
        session.prompt_many([renumber_prompt(mask, track) for track, mask in masks.items()])
        ranges = tuple(PropagationRange(track, frame - 1, frame) for track in masks)
        session.run(Propagation(ranges)).finish()
        plane = compose_label_plane(session.get_segments(frame), self.video.shape[1:])
        session.resume(PromptLog())
        return plane

    @property
    def _session(self) -> Session:
        if self._opened is None:
            policy = make_detection_policy(self._tracked.model.card)
            self._opened = self._tracked.open_scratch(policy)
        return self._opened
