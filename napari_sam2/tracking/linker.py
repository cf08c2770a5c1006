"""Joining: what was found frame by frame becomes chains, one for each object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.detection.grid import CandidateMask, remove_duplicates
from napari_sam2.propagation.overlaps import compose_label_plane
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.linking import (
    find_ambiguous_tracks,
    find_daughter_pairs,
    find_divisions,
    link_frames,
)
from napari_sam2.tracking.merged_objects import find_merged_objects, split_merged_object
from napari_sam2.tracking.tracklets import MIN_DAUGHTER_FRAMES, Tracklet


@dataclass(frozen=True)
class LinkingOptions:
    """How objects of single frames become tracks.

    Parameters
    ----------
    patience
        Frames in a row an object may be missed and still be the same; the model carries it over
        them.
    min_frames
        Frames an object must be found on, unless the video begins or ends on it.
    reach_px
        How far an object may move from one frame to the next where it overlaps nothing; about twice
        its diameter.
    divisions
        Whether objects may divide (along t).
    """

    patience: int = 2
    min_frames: int = 2
    reach_px: float = 20.0
    divisions: bool = True


class Linker:
    """Chains that grow frame by frame, and the outline of each where it was last seen."""

    def __init__(self, session: Session, options: LinkingOptions) -> None:
        self.tracklets: dict[int, Tracklet] = {}
        self._session = session
        self._options = options
        self._outlines: dict[int, MaskPrompt] = {}
        self._merged_frames: dict[int, dict[int, int]] = defaultdict(
            dict
        )  # by chain and frame: whose body it was seen in, and only there

    def add_frame(self, frame: int, prompts: Sequence[Prompt]) -> int:
        """Add what was found on a frame; how many of it are new."""
        bodies = _FrameDetections.of(
            prompts, self._segment_prompts(prompts), self._session.video.shape[1:]
        )
        before = self._draw_last_seen(frame)
        carried = self._propagate_ambiguous(frame, before, bodies.plane)
        linked = link_frames(
            before, bodies.plane, propagated=carried, max_distance_px=self._options.reach_px
        )
        for plane in (before,) if carried is None else (carried, before):
            self._split_merged(frame, plane, bodies, linked)
        born = self._find_parents(frame, before, bodies, linked)
        partner = {label: number for number, label in linked.items()}
        fresh = [label for label in bodies.labels if label not in partner]
        for label in fresh:
            partner[label] = max(self.tracklets, default=0) + 1
            self.tracklets[partner[label]] = Tracklet(partner[label], parent=born.get(label))
        for label, number in partner.items():
            self.tracklets[number].prompts[frame] = bodies.prompts[label]
            self._outlines[number] = bodies.outlines[label]
        return len(fresh)

    def resolve_tracklets(self) -> list[Tracklet]:
        """All chains.

        Who shared a body and was never seen apart again was a part of it: its pixels are given
        back.
        """
        for number, shares in self._merged_frames.items():
            chain = self.tracklets[number]
            apart_on = max(frame for frame in chain.prompts if frame not in shares)
            if chain.last < len(self._session.video) - 1:
                for frame in [frame for frame in shares if frame > apart_on]:
                    part, owner = chain.prompts.pop(frame), shares[frame]
                    while frame not in self.tracklets[owner].prompts:  # given back itself
                        owner = self._merged_frames[owner][frame]
                    self.tracklets[owner].prompts[frame] = _merge_masks(
                        self.tracklets[owner].prompts[frame], part
                    )
        return list(self.tracklets.values())

    def _draw_last_seen(self, frame: int) -> np.ndarray:
        """The label plane of chains where they were last seen, those seen later in front."""
        oldest = frame - 1 - self._options.patience
        self._outlines = {
            number: outline for number, outline in self._outlines.items() if outline.frame >= oldest
        }
        return _draw_outlines(
            sorted(self._outlines.items(), key=lambda each: (each[1].frame, each[0])),
            self._session.video.shape[1:],
        )

    def _split_merged(
        self, frame: int, previous: np.ndarray, detections: _FrameDetections, links: dict[int, int]
    ) -> None:
        """Part bodies that hold several chains of a label plane, and link each to its part.

        A chain is looked for in a body of others no longer than it was seen apart.
        """
        lasting = {
            number
            for number in self._outlines
            if max(MIN_DAUGHTER_FRAMES, 2 * len(self._merged_frames[number]) + 1)
            <= len(self.tracklets[number].prompts)
        }
        for label, numbers in find_merged_objects(
            previous, detections.plane, links, lasting
        ).items():
            pieces = split_merged_object(detections.plane == label, previous, numbers)
            if all((pieces == number).any() for number in numbers):
                links.update(detections.split(label, pieces, numbers))
                self._merged_frames.update(
                    {
                        number: {**self._merged_frames[number], frame: numbers[0]}
                        for number in numbers[1:]
                    }
                )

    def _find_parents(
        self, frame: int, previous: np.ndarray, detections: _FrameDetections, links: dict[int, int]
    ) -> dict[int, int]:
        """Mothers by daughter; a mother goes on as one of hers until both are known to live."""
        if not (self._options.divisions and frame):
            return {}
        reach = self._options.reach_px
        fresh = sorted(set(detections.labels) - set(links.values()))
        pairs = find_daughter_pairs(previous, detections.plane, links, fresh, max_distance_px=reach)
        alone = [label for label in fresh if not any(label in pair for pair in pairs.values())]
        born = find_divisions(previous, detections.plane, links, alone, max_distance_px=reach)
        for mother, (one, two) in pairs.items():
            links[mother], born[two] = one, mother
        return born

    def _segment_prompts(self, prompts: Sequence[Prompt]) -> list[MaskPrompt | None]:
        """What each prompt points at: itself for a mask, else what the model answers; None where that is nothing, or told already."""
        if all(isinstance(prompt, MaskPrompt) for prompt in prompts):
            return [prompt for prompt in prompts if isinstance(prompt, MaskPrompt)]
        shape = self._session.video.shape[1:]
        segments = self._session.prompt_many(prompts)
        self._session.resume(PromptLog())
        answers = {
            place: CandidateMask.of(segment, shape, float(segment.iou))
            for place, segment in enumerate(segments)
        }
        kept = {
            id(answer)
            for answer in remove_duplicates(
                [answer for answer in answers.values() if answer], shape
            )
        }
        return [
            MaskPrompt(segment.frame, segment.track, answer.to_plane(shape))
            if (answer := answers[place]) and id(answer) in kept
            else None
            for place, segment in enumerate(segments)
        ]

    def _propagate_ambiguous(
        self, frame: int, previous: np.ndarray, detected: np.ndarray
    ) -> np.ndarray | None:
        """Where the model says that doubtful tracks went: each is shown to it on the frame before."""
        asked = [
            number
            for number in find_ambiguous_tracks(previous, detected)
            if self._outlines[number].frame == frame - 1
        ]
        if not asked or not detected.any():
            return None
        self._session.prompt_many(
            [renumber_prompt(self._outlines[number], number) for number in asked]
        )
        self._session.run(
            Propagation(tuple(PropagationRange(number, frame - 1, frame) for number in asked))
        ).finish()
        plane = compose_label_plane(self._session.segments(frame), self._session.video.shape[1:])
        self._session.resume(PromptLog())
        return plane


@dataclass(frozen=True, eq=False)
class _FrameDetections:
    """What was found on one frame: label plane (H, W), and the outline and what is said of each, by label from 1."""

    plane: np.ndarray
    outlines: dict[int, MaskPrompt]
    prompts: dict[int, Prompt]

    @classmethod
    def of(
        cls,
        prompts: Sequence[Prompt],
        outlines: Sequence[MaskPrompt | None],
        shape: tuple[int, ...],
    ) -> _FrameDetections:
        seen = {label: outline for label, outline in enumerate(outlines, start=1) if outline}
        return cls(
            _draw_outlines(seen.items(), shape), seen, {label: prompts[label - 1] for label in seen}
        )

    @property
    def labels(self) -> list[int]:
        """Those with pixels; what lies wholly behind others has none."""
        return [int(label) for label in np.unique(self.plane[self.plane > 0])]

    def split(self, label: int, pieces: np.ndarray, numbers: Sequence[int]) -> dict[int, int]:
        """Put the pieces of a body in its place: labels by the number each piece has in `pieces`; the first keeps its label."""
        labels = dict(
            zip(
                numbers,
                (label, *range(max(self.outlines) + 1, max(self.outlines) + len(numbers))),
                strict=True,
            )
        )
        frame = self.outlines[label].frame
        for number, own in labels.items():
            self.plane[pieces == number] = own
            self.outlines[own] = self.prompts[own] = MaskPrompt(frame, own, pieces == number)
        return labels


def _merge_masks(first: Prompt, second: Prompt) -> MaskPrompt:
    """Two parts of one body together."""
    assert isinstance(first, MaskPrompt) and isinstance(second, MaskPrompt)
    return MaskPrompt(first.frame, first.track, first.mask | second.mask)


def _draw_outlines(
    outlines: Iterable[tuple[int, MaskPrompt]], shape: tuple[int, ...]
) -> np.ndarray:
    """(H, W) int32 labels of these outlines by number, later ones in front."""
    plane = np.zeros(shape, dtype=np.int32)
    for number, outline in outlines:
        y, x, y2, x2 = outline.rectangle
        plane[y:y2, x:x2][outline.crop] = number
    return plane
