"""Detections as evidence: a model whose answers are compared with what a detector sees.

The detector knows what objects look like; the model knows which one is meant. Each kind of
evidence can be switched off (`core.inference_options.EVIDENCE_PARTS`). The rules have no state:
every decision follows from the query and from the detections of the frames around it, so a resumed
run, a correction, and a run with other tracks beside it decide the same.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.protocols import ObjectEvidence, VideoModel, WrappedModel
from napari_sam2.core.result import (
    Alternative,
    DetectedObject,
    Embedding,
    FrameDetections,
    Memory,
    Query,
    Segment,
)
from napari_sam2.core.sam2_constants import ABSENT_LOGIT, MASK_PROMPT_LOGIT
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window

_ABSENT_SCORE = -1.0
"""The presence score of a track that the evidence ends; any number below 0 says the same."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvidenceRules:
    """The limits of the rules, chosen on sets that are not reported (docs/accuracy.md).

    Parameters
    ----------
    click_agreement
        IoU of the model's answer to clicks and the instance there from which both may be the same
        object; below it, the model means a part or a whole that the detector does not know.
    box_agreement
        The same of a box, and of the box around an instance.
    sure
        Sureness from which an instance may be chosen.
    surer
        How much its sureness must be above the IoU that the model predicts for its own mask.
    least_foreground
        Mean foreground, 0..1, under a mask below which the detector sees no object there.
    seen_foreground
        Mean foreground the detector must see where the object was prompted: if it is blind for
        an object, it does not judge its presence.
    mask_agreement
        IoU of a propagated mask and a detected instance from which they are the same object.
    same_mask
        IoU of them from which the model's mask is kept: it is no worse then.
    size_ratio
        An instance agrees with memory if its diameter is at most this many times that of the
        object there, and at least one over this.
    """

    click_agreement: float = 0.1
    box_agreement: float = 0.7
    sure: float = 0.7
    surer: float = 0.1
    least_foreground: float = 0.7
    seen_foreground: float = 0.7
    mask_agreement: float = 0.4
    same_mask: float = 0.8
    size_ratio: float = 1.5


class EvidenceModel(WrappedModel):
    """A `VideoModel` whose segments are compared with detections of the same video.

    Parameters
    ----------
    inner
        The model; it embeds frames and encodes memories.
    evidence
        The detections of the video that the model is used on.
    parts
        Which of "click", "presence" and "mask" are used.
    shape
        (H, W) of the video's frames.
    """

    def __init__(
        self,
        inner: VideoModel,
        evidence: ObjectEvidence,
        parts: Collection[str],
        shape: tuple[int, int],
        *,
        rules: EvidenceRules | None = None,
    ) -> None:
        super().__init__(inner)
        self.evidence = evidence
        self.parts = frozenset(parts)
        self.shape = shape
        self.rules = rules or EvidenceRules()
        self._blind_tracks: set[int] = set()

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """The inner model's segments, replaced if the detections say otherwise."""
        segments = list(self.inner.segment(embedding, queries))
        chosen: dict[int, DetectedObject] = {}
        for index, query in enumerate(queries):
            if not is_prompted(query.prompts):
                segments[index] = self._judge_tracked(query, segments[index])
            elif "click" in self.parts and _is_first_prompt(query):
                found = self._find_prompted(query.prompts, segments[index])
                if found is None:
                    continue
                if self._is_better(query.prompts, segments[index], found):
                    chosen[index] = found
                else:
                    segments[index] = offer_object(segments[index], found)
        for index, answer in self._segment_objects(embedding, queries, chosen):
            segments[index] = answer_with_alternatives(answer, segments[index])
        return segments

    def _find_prompted(self, prompts: FramePrompts, segment: Segment) -> DetectedObject | None:
        """The detected object that fits the prompts of one track."""
        detections = self.evidence.get_frame(segment.frame)
        if prompts.box is not None:
            label = find_best_label(segment, detections.labels)
        else:
            pairs = zip(prompts.points, prompts.positive, strict=True)
            labels = {_read_label(detections.labels, *point) for point, sign in pairs if sign}
            label = labels.pop() if len(labels) == 1 else 0
        if not label:
            return None
        found = get_instance(detections, label)
        return found if _obeys_clicks(found, prompts) else None

    def _is_better(self, prompts: FramePrompts, segment: Segment, found: DetectedObject) -> bool:
        """Whether an instance answers a first prompt better than the model's mask."""
        rules = self.rules
        if found.sureness < rules.sure or found.sureness < segment.iou + rules.surer:
            return False
        if prompts.box is not None:
            return compute_box_iou(found.box, prompts.box) >= rules.box_agreement
        shown = find_segment_object(segment)
        return compute_object_iou(shown, found) >= rules.click_agreement

    def _segment_objects(
        self,
        embedding: Embedding,
        queries: Sequence[Query],
        chosen: dict[int, DetectedObject],
    ) -> Iterator[tuple[int, Segment]]:
        """The model's segments of chosen instances, with a window and a pointer that fit them."""
        masks = [
            Query(
                queries[index].track,
                FramePrompts(mask=each.fill_plane(self.shape)),
                video_length=queries[index].video_length,
            )
            for index, each in chosen.items()
        ]
        if masks:
            yield from zip(chosen, self.inner.segment(embedding, masks), strict=True)

    def _judge_tracked(self, query: Query, segment: Segment) -> Segment:
        """A propagated segment: absent, replaced by a detected instance, or as it is."""
        if not self.parts & {"mask", "presence"}:
            return segment
        detections = self.evidence.get_frame(segment.frame)
        identity = self._find_identity(query)
        instance = self._find_instance(query, segment, detections, identity)
        if instance is None:
            ended = identity is not None or self._is_unseen(query, segment)
            absent = ended and segment.present and "presence" in self.parts
            return make_absent(segment) if absent else segment
        agreement = compute_object_iou(find_segment_object(segment), instance)
        if "mask" in self.parts and not (segment.present and agreement >= self.rules.same_mask):
            return replace_mask(segment, instance)
        return segment

    def _find_instance(
        self, query: Query, segment: Segment, detections: FrameDetections, identity: int | None
    ) -> DetectedObject | None:
        """The detected instance of a track on this frame.

        The ends of an object in a volume are blurred: a slice of it that the detector hardly sees
        does not count.
        """
        if identity is not None:
            slice_of_it = get_identified(detections, identity)
            seen = slice_of_it is not None and self._sees(segment.frame, slice_of_it)
            return slice_of_it if seen else None
        label = find_best_label(segment, detections.labels) if segment.present else 0
        if not label:
            return None
        instance = get_instance(detections, label)
        agrees = (
            compute_object_iou(find_segment_object(segment), instance) >= self.rules.mask_agreement
        )
        return instance if agrees and self._fits_memory(query, instance) else None

    def _fits_memory(self, query: Query, instance: DetectedObject) -> bool:
        """Whether an instance is about as large as the object on the nearest known frame."""
        memory = _find_last_present(query)
        return memory is None or self._has_size(instance, memory)

    def _has_size(self, instance: DetectedObject, memory: Memory) -> bool:
        if memory.position is None:
            return False
        ratio = instance.diameter_px / memory.position.diameter_px
        return 1 / self.rules.size_ratio <= ratio <= self.rules.size_ratio

    def _find_identity(self, query: Query) -> int | None:
        """The detected identity of the object on its prompted and accepted frames.

        None if the frames were detected one by one, if the detector sees no such object there, or
        different ones.
        """
        found: set[int | None] = set()
        for memory in _list_conditioning(query):
            detections = self.evidence.get_frame(memory.frame)
            if detections.ids is None:
                return None
            assert memory.position is not None
            label = _read_label(detections.labels, memory.position.y, memory.position.x)
            fits = label and self._has_size(get_instance(detections, label), memory)
            found.add(int(detections.ids[label - 1]) if fits else None)
        return found.pop() if len(found) == 1 else None

    def _is_unseen(self, query: Query, segment: Segment) -> bool:
        """Whether the detector sees nothing under a mask, here and on a neighbouring frame.

        It must have seen the object on its prompted frames. One frame alone may be a gap of the
        detector. The mask of this frame is used for both, so that the result does not depend on
        the way the track came.
        """
        if not self._sees_track(query):
            return False
        shown = find_segment_object(segment)
        if not shown.area_px or self._sees(segment.frame, shown):
            return False
        last = (query.video_length or segment.frame + 1) - 1
        around = [n for n in (segment.frame - 1, segment.frame + 1) if 0 <= n <= last]
        return not around or not all(self._sees(frame, shown) for frame in around)

    def _sees(self, frame: int, shown: DetectedObject) -> bool:
        foreground = _cut(self.evidence.get_frame(frame).foreground, shown)
        return float(foreground.mean()) >= 255 * self.rules.least_foreground

    def _sees_track(self, query: Query) -> bool:
        """Whether the detector sees the object where it was prompted; said once if not."""
        memories = _list_conditioning(query)
        seen = bool(memories) and all(
            _measure_foreground(self.evidence.get_frame(each.frame).foreground, each)
            >= self.rules.seen_foreground
            for each in memories
        )
        if not seen and query.track not in self._blind_tracks:
            self._blind_tracks.add(query.track)
            log.info(
                "object %d: the detector does not see it on its prompted frame, so detections do "
                "not decide where it ends",
                query.track,
            )
        return seen


def is_prompted(prompts: FramePrompts) -> bool:
    """Whether there is any prompt."""
    return bool(prompts.points) or prompts.box is not None or prompts.mask is not None


def find_segment_object(segment: Segment) -> DetectedObject:
    """The mask of a segment as an object; its sureness is the predicted IoU."""
    return _find_logits_object(segment, segment.logits)


def find_best_label(segment: Segment, labels: np.ndarray) -> int:
    """The label that covers most of a mask, 0 if none does."""
    shown = find_segment_object(segment)
    if not shown.area_px:
        return 0
    counts = np.bincount(_cut(labels, shown), minlength=1)
    counts[0] = 0
    return int(counts.argmax())


def get_instance(detections: FrameDetections, label: int) -> DetectedObject:
    """The detected object of a label of a frame."""
    return DetectedObject.of(detections.labels, label, float(detections.sureness[label - 1]))


def get_identified(detections: FrameDetections, identity: int) -> DetectedObject | None:
    """The detected object of an identity on a frame, None if it is not there."""
    assert detections.ids is not None
    found = np.flatnonzero(detections.ids == identity)
    return get_instance(detections, int(found[0]) + 1) if found.size else None


def compute_object_iou(one: DetectedObject, other: DetectedObject) -> float:
    """IoU of two masks; 0 if both are empty."""
    (y, x), (v, u) = one.corner, other.corner
    top, left = max(y, v), max(x, u)
    bottom = min(y + one.mask.shape[0], v + other.mask.shape[0])
    right = min(x + one.mask.shape[1], u + other.mask.shape[1])
    common = 0
    if top < bottom and left < right:
        mine = one.mask[top - y : bottom - y, left - x : right - x]
        theirs = other.mask[top - v : bottom - v, left - u : right - u]
        common = int((mine & theirs).sum())
    union = one.area_px + other.area_px - common
    return common / union if union else 0.0


def compute_box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two boxes (y, x, y2, x2); 0 if both are empty."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    union = sum(areas) - common
    return common / union if union else 0.0


def replace_mask(segment: Segment, found: DetectedObject) -> Segment:
    """A segment with the mask of an instance, in the segment's own window."""
    presence = segment.presence
    return replace(
        segment,
        logits=_resample(found, segment),
        presence_score=max(segment.presence_score, -_ABSENT_SCORE),
        presence=Presence.TRACKED if presence == Presence.ABSENT else presence,
    )


def make_absent(segment: Segment) -> Segment:
    """The segment of a track that is not on this frame."""
    return replace(
        segment,
        logits=np.full_like(segment.logits, ABSENT_LOGIT),
        presence_score=min(segment.presence_score, _ABSENT_SCORE),
        presence=Presence.ABSENT,
    )


def offer_object(segment: Segment, found: DetectedObject) -> Segment:
    """A segment that offers an instance too, if its window shows it whole."""
    if not segment.present or not _is_inside(found, segment.window):
        return segment
    masks = segment.alternatives or (Alternative(segment.logits, segment.iou),)
    offered = Alternative(_resample(found, segment), found.sureness)
    return replace(segment, alternatives=(*masks, offered))


def answer_with_alternatives(answer: Segment, model_segment: Segment) -> Segment:
    """The segment of a chosen instance, which offers the model's own masks as well."""
    own = model_segment.alternatives or (Alternative(model_segment.logits, model_segment.iou),)
    masks = [(_find_logits_object(model_segment, each.logits), each.iou) for each in own]
    others = [
        Alternative(_resample(mask, answer), iou)
        for mask, iou in masks
        if mask.area_px and _is_inside(mask, answer.window)
    ]
    return replace(answer, alternatives=(Alternative(answer.logits, answer.iou), *others))


def _is_first_prompt(query: Query) -> bool:
    """Whether a person prompts the object anew: not a mask, and not a correction."""
    return (
        query.prompts.mask is None
        and query.logits is None
        and not query.memory_references
        and (bool(query.prompts.points) or query.prompts.box is not None)
    )


def _obeys_clicks(found: DetectedObject, prompts: FramePrompts) -> bool:
    return all(
        found.contains(point) == sign
        for point, sign in zip(prompts.points, prompts.positive, strict=True)
    )


def _list_conditioning(query: Query) -> list[Memory]:
    """The prompted and accepted frames of a track on which the object is."""
    memories = [each.memory for each in query.memory_references]
    return [each for each in memories if each.conditioning and each.position is not None]


def _find_last_present(query: Query) -> Memory | None:
    """The memory nearest in time on which the object is; tracked ones before prompted ones."""
    present = [each for each in query.memory_references if each.memory.position is not None]
    if not present:
        return None
    return min(present, key=lambda each: (each.age is None, abs(each.age or 0))).memory


def _find_logits_object(segment: Segment, logits: np.ndarray) -> DetectedObject:
    limits = (np.iinfo(np.int32).max,) * 2
    rows, columns = segment.window.find_positive_region(logits, limits)
    if rows.start == rows.stop or columns.start == columns.stop:
        return DetectedObject(np.zeros((0, 0), bool), (rows.start, columns.start), 0.0)
    mask = segment.window.paste(logits, rows, columns) > 0
    return DetectedObject(mask, (rows.start, columns.start), segment.iou)


def _cut(plane: np.ndarray, found: DetectedObject) -> np.ndarray:
    """The (n,) values of a (H, W) plane under a mask, without what lies outside of the plane."""
    (y, x), (height, width) = found.corner, found.mask.shape
    part = plane[y : y + height, x : x + width]
    return np.asarray(part[found.mask[: part.shape[0], : part.shape[1]]])


def _resample(found: DetectedObject, segment: Segment) -> np.ndarray:
    """The mask of an object as (h, w) logits over the window of a segment."""
    (y, x), window = found.corner, segment.window
    target = replace(
        window, top=window.top - y + 1, left=window.left - x + 1, size=segment.logits.shape[0]
    )
    padded = np.pad(found.mask, 1).astype(np.float32)
    return np.asarray((2 * target.crop(padded) - 1) * MASK_PROMPT_LOGIT, np.float32)


def _is_inside(found: DetectedObject, window: Window) -> bool:
    top, left, bottom, right = (edge + 0.5 for edge in found.box)
    return (
        window.top <= top
        and window.left <= left
        and bottom <= window.top + window.height
        and right <= window.left + window.width
    )


def _read_label(labels: np.ndarray, y: float, x: float) -> int:
    row, column = (
        min(max(round(value), 0), size - 1)
        for value, size in zip((y, x), labels.shape, strict=True)
    )
    return int(labels[row, column])


def _measure_foreground(foreground: np.ndarray, memory: Memory) -> float:
    """Mean foreground, 0..1, in the inner half of the object of a memory."""
    assert memory.position is not None
    y, x, diameter = memory.position
    reach = max(1.0, diameter / 4)
    rows, columns = (slice(max(0, round(v - reach)), round(v + reach) + 1) for v in (y, x))
    part = foreground[rows, columns]
    return float(part.mean()) / 255 if part.size else 0.0
