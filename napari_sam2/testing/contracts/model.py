"""The contract of video models, as tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT, MAX_PREVIOUS_LOGIT
from napari_sam2.core.stack import Frame
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.testing.scenes import Scene, make_drifting_scene


class ModelContract:
    """Tests of a VideoModel: inherit, and override `make_model`.

    They hold for random weights too: no test requires good masks, except of a mask prompt.
    """

    tolerance: float = 1e-3
    """Largest difference of two logits that count as equal."""
    min_mask_prompt_iou: float = 0.8
    """Least IoU of a mask prompt with its segment: below 1 if logits are coarser than pixels."""

    def make_model(self) -> VideoModel:
        """Return a new model. Cache the weights yourself if they are large."""
        raise NotImplementedError("override make_model")

    def make_scene(self) -> Scene:
        """Return a scene of objects on several frames."""
        return make_drifting_scene()

    def test_card_says_which_model_and_which_inputs(self) -> None:
        card = self.make_model().card
        assert card.name, "card.name is empty"
        assert len(card.sha256) == 64 and set(card.sha256) <= set("0123456789abcdef"), (
            f"card.sha256 is {card.sha256!r}: expected 64 hex digits"
        )
        assert list(card.input_sizes) == sorted(card.input_sizes) and card.input_sizes[0] > 0, (
            f"input_sizes {card.input_sizes!r}: expected ascending"
        )

    def test_embeddings_come_in_the_order_of_the_views(self) -> None:
        model, frames = self.make_model(), self._load_frames()
        chosen = [frames[2], frames[0], frames[1]]
        views = [(frame, model.card.make_frame_window(frame.shape)) for frame in chosen]
        embeddings = model.embed(views)
        assert [each.frame for each in embeddings] == [2, 0, 1], (
            "the embeddings are not in the order of the frames"
        )
        assert [each.window for each in embeddings] == [window for _, window in views], (
            "the embeddings have other windows"
        )

    def test_frames_embedded_together_are_as_one_by_one(self) -> None:
        model, frames = self.make_model(), self._load_frames()
        queries = self._make_click_queries()
        for together in self._embed(model, frames[:3]):
            (alone,) = self._embed(model, [frames[together.frame]])
            self._assert_same(
                model.segment(together, queries),
                model.segment(alone, queries),
                "embedded together and alone",
            )

    def test_features_survive_arrays(self) -> None:
        model = self.make_model()
        (embedding,) = self._embed(model, self._load_frames()[:1])
        arrays = model.to_arrays(embedding.features)
        assert all(isinstance(each, np.ndarray) for each in arrays), (
            "to_arrays must return NumPy arrays"
        )
        back = replace(embedding, features=model.from_arrays([each.copy() for each in arrays]))
        for before, after in zip(arrays, model.to_arrays(back.features), strict=True):
            np.testing.assert_array_equal(
                after, before, err_msg="to_arrays(from_arrays(arrays)) differs from arrays"
            )
        self._assert_same(
            model.segment(back, self._make_click_queries()),
            model.segment(embedding, self._make_click_queries()),
            "before and after arrays",
        )

    def test_features_have_a_size_in_bytes(self) -> None:
        model = self.make_model()
        (embedding,) = self._embed(model, self._load_frames()[:1])
        assert model.nbytes(embedding.features) > 0, "an embedding of 0 bytes"
        for features in model.encode_memory(
            embedding, model.segment(embedding, self._make_click_queries())
        ):
            assert model.nbytes(features) > 0, "a memory of 0 bytes"

    def test_cached_parts_give_the_same_answers(self) -> None:
        """Parts are cached as on disk; models without parts of frames pass."""
        model, cached = self.make_model(), dict[Window, tuple[np.ndarray, ...]]()
        (embedding,) = self._embed(model, self._load_frames()[:1])

        def get_or_make(window: Window, make: Callable[[], Embedding]) -> Embedding:
            if window not in cached:
                cached[window] = model.to_arrays(make().features)
            arrays = [each.copy() for each in cached[window]]
            part = Embedding(embedding.frame, window, model.from_arrays(arrays))
            assert model.nbytes(part.features) > 0, "a part of 0 bytes"
            return part

        alone = model.segment(replace(embedding, get_or_make_part=None), self._make_click_queries())
        for when in ("first", "again"):
            self._assert_same(
                model.segment(
                    replace(embedding, get_or_make_part=get_or_make), self._make_click_queries()
                ),
                alone,
                f"with cached parts, {when}",
            )

    def test_no_queries_give_no_answers(self) -> None:
        model = self.make_model()
        (embedding,) = self._embed(model, self._load_frames()[:1])
        assert (
            list(model.embed([])),
            list(model.segment(embedding, [])),
            list(model.encode_memory(embedding, [])),
        ) == ([], [], [])

    def test_segments_come_in_the_order_of_the_queries(self) -> None:
        model = self.make_model()
        embedding = self._embed(model, self._load_frames()[:2])[1]
        queries = self._make_click_queries()[::-1]
        answers = model.segment(embedding, queries)
        assert [each.track for each in answers] == [each.track for each in queries], (
            "the segments are not in the order of the queries"
        )
        assert {each.frame for each in answers} == {embedding.frame}, "segments of another frame"
        if not _has_own_windows(model):
            assert {each.window for each in answers} == {embedding.window}, (
                "segments of another window"
            )

    def test_segments_have_the_documented_shapes_and_types(self) -> None:
        prompted, tracked = self._propagate_one_frame(self.make_model())
        for each in (*prompted, *tracked):
            assert each.logits.ndim == 2 and each.logits.dtype == np.float32, (
                f"logits {each.logits.shape} {each.logits.dtype}: expected (h, w) float32"
            )
            assert each.pointer.ndim == 1 and each.pointer.dtype == np.float32, (
                f"pointer {each.pointer.shape} {each.pointer.dtype}: (C,) float32"
            )
            assert np.isfinite(each.logits).all() and np.isfinite(each.pointer).all(), (
                "logits or pointer contain NaN or infinity"
            )
            assert np.isfinite([each.iou, each.presence_score]).all(), (
                "iou or presence_score is NaN or infinite"
            )
        assert len({each.pointer.shape for each in (*prompted, *tracked)}) == 1, (
            "pointers of different lengths"
        )

    def test_presence_says_whether_it_was_prompted(self) -> None:
        prompted, tracked = self._propagate_one_frame(self.make_model())
        assert {each.presence for each in prompted} == {Presence.PROMPTED}, (
            "the presence of a clicked object is not PROMPTED"
        )
        for each in tracked:
            expected = (
                (Presence.TRACKED, Presence.UNCERTAIN)
                if each.presence_score > 0
                else (Presence.ABSENT,)
            )
            assert each.presence in expected, (
                f"presence {each.presence!r} with score {each.presence_score:.3g}: expected "
                f"{expected!r}"
            )

    def test_absent_objects_write_nothing(self) -> None:
        model, frames = self.make_model(), self._load_frames()
        embedding, gone = self._embed(model, [frames[0], Frame(1, np.zeros_like(frames[1].pixels))])
        for each in model.segment(gone, self._make_tracking_queries(model, embedding)):
            if each.presence_score <= 0:
                assert (each.logits == ABSENT_LOGIT).all(), (
                    "the logits of an absent object must be ABSENT_LOGIT everywhere"
                )

    def test_segments_do_not_depend_on_the_other_queries(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        tracking = self._make_tracking_queries(model, first)
        for embedding, queries in (
            (first, self._make_click_queries()),
            (second, tracking),
            (second, [*self._make_click_queries()[:1], *tracking[1:]]),
        ):
            alone = [model.segment(embedding, [query])[0] for query in queries]
            self._assert_same(model.segment(embedding, queries), alone, "together and alone")

    def test_memories_do_not_depend_on_the_others(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        segments = model.segment(first, self._make_click_queries())
        # one of them is not a conditioning frame
        segments[0] = replace(segments[0], presence=Presence.TRACKED)
        together = model.encode_memory(first, segments)
        assert len(together) == len(segments), (
            f"{len(together)} memories of {len(segments)} segments"
        )
        for segment, features in zip(segments, together, strict=True):
            (alone,) = model.encode_memory(first, [segment])
            queries = [self._make_memory_query(segment, each) for each in (features, alone)]
            self._assert_same(
                model.segment(second, queries[:1]),
                model.segment(second, queries[1:]),
                "memories encoded together and alone",
            )

    def test_the_same_query_has_the_same_segment(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        before = model.segment(first, self._make_click_queries())
        model.segment(second, self._make_tracking_queries(model, first))
        self._assert_same(
            model.segment(first, self._make_click_queries()), before, "before and after others"
        )

    def test_a_mask_is_answered_by_itself(self) -> None:
        model, scene = self.make_model(), self.make_scene()
        (embedding,) = self._embed(model, self._load_frames()[:1])
        masks = {
            track: scene.mask(track, 0)
            for track in scene.tracks
            if scene.find_frames(track)[0] == 0
        }
        for segment in model.segment(
            embedding, [Query(track, FramePrompts(mask=mask)) for track, mask in masks.items()]
        ):
            height, width = scene.labels.shape[1:]
            answer = segment.window.paste(segment.logits, slice(0, height), slice(0, width)) > 0
            mask = masks[segment.track]
            iou = (answer & mask).sum() / (answer | mask).sum()
            assert iou >= self.min_mask_prompt_iou, (
                f"the segment of a mask of {mask.sum()} pixels has IoU {iou:.3f} with it: "
                f"expected at least {self.min_mask_prompt_iou}"
            )
            assert segment.presence is Presence.PROMPTED, (
                f"the segment of a mask prompt is {segment.presence!r}: expected PROMPTED"
            )

    def test_inputs_are_not_changed(self) -> None:
        model, frames, scene = self.make_model(), self._load_frames(), self.make_scene()
        pixels, mask = frames[0].pixels.copy(), scene.mask(scene.tracks[0], 0).copy()
        (embedding,) = self._embed(model, frames[:1])
        arrays = [each.copy() for each in model.to_arrays(embedding.features)]
        click, *_ = self._make_click_queries()
        (segment,) = model.segment(embedding, [click])
        logits, pointer = segment.logits.copy(), segment.pointer.copy()
        previous = np.clip(logits, -MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)
        previous_copy = previous.copy()
        (features,) = model.encode_memory(embedding, [segment])
        reference = MemoryReference(Memory(0, True, segment.pointer, features=features), 0, 1)
        model.segment(
            embedding,
            [
                replace(click, logits=previous, memory_references=(reference,)),
                Query(click.track, FramePrompts(mask=mask)),
            ],
        )
        inputs = [
            ("pixels", frames[0].pixels, pixels),
            ("previous logits", previous, previous_copy),
            ("segment's logits", segment.logits, logits),
            ("segment's pointer", segment.pointer, pointer),
            ("mask", mask, scene.mask(scene.tracks[0], 0)),
        ]
        for after, before in zip(model.to_arrays(embedding.features), arrays, strict=True):
            inputs.append(("features", after, before))
        for name, after, before in inputs:
            np.testing.assert_array_equal(
                after, before, err_msg=f"the model changed the {name} it was given"
            )

    def test_non_square_frames_have_segments(self) -> None:
        model = self.make_model()
        pixels = self._load_frames()[0].pixels
        for part in (pixels[: pixels.shape[0] // 2], pixels[:, : pixels.shape[1] // 2]):
            (embedding,) = self._embed(model, [Frame(0, np.ascontiguousarray(part))])
            middle = (part.shape[0] / 2, part.shape[1] / 2)
            query = Query(1, FramePrompts(points=(middle,), positive=(True,)))
            (segment,) = model.segment(embedding, [query])
            assert np.isfinite(segment.logits).all(), f"no segment on a frame of {part.shape!r}"
            assert _has_own_windows(model) or segment.window == embedding.window, (
                "a segment of another window"
            )

    def _load_frames(self) -> list[Frame]:
        video = self.make_scene().video
        return [video.read_frame(index) for index in range(len(video))]

    def _embed(self, model: VideoModel, frames: Sequence[Frame]) -> list[Embedding]:
        return model.embed([(frame, model.card.make_frame_window(frame.shape)) for frame in frames])

    def _make_click_queries(self) -> list[Query]:
        scene = self.make_scene()
        log = scene.make_log()
        return [
            Query(track, log.combine_prompts(track, 0))
            for track in scene.tracks
            if scene.find_frames(track)[0] == 0
        ]

    def _make_tracking_queries(self, model: VideoModel, embedding: Embedding) -> list[Query]:
        """Make queries for the next frame, with the memory of clicked objects."""
        segments = model.segment(embedding, self._make_click_queries())
        memories = model.encode_memory(embedding, segments)
        return [
            self._make_memory_query(segment, features)
            for segment, features in zip(segments, memories, strict=True)
        ]

    def _make_memory_query(self, segment: Segment, features: tuple[object, ...]) -> Query:
        """Make a query for the next frame with one memory."""
        memory = Memory(
            segment.frame, segment.conditioning, segment.pointer, segment.present, features=features
        )
        reference = MemoryReference(memory, 0 if segment.conditioning else 1, 1)
        return Query(segment.track, memory_references=(reference,))

    def _propagate_one_frame(self, model: VideoModel) -> tuple[list[Segment], list[Segment]]:
        """Return segments of clicks on frame 0, and of frame 1 with memory."""
        first, second = self._embed(model, self._load_frames()[:2])
        tracking = self._make_tracking_queries(model, first)
        return model.segment(first, self._make_click_queries()), model.segment(second, tracking)

    def _assert_same(
        self, answers: Sequence[Segment], others: Sequence[Segment], what: str
    ) -> None:
        assert len(answers) == len(others), f"{what}: {len(answers)} and {len(others)} segments"
        numbers: dict[str, Callable[[Segment], object]] = {
            "logits": lambda each: each.logits,
            "iou": lambda each: each.iou,
            "presence_score": lambda each: each.presence_score,
            "pointer": lambda each: each.pointer,
        }
        for one, other in zip(answers, others, strict=True):
            for name, get in numbers.items():
                text = f"{what}: the {name} of track {one.track} differ"
                np.testing.assert_allclose(
                    get(one), get(other), rtol=0, atol=self.tolerance, err_msg=text
                )  # type: ignore[call-overload]


def _has_own_windows(model: VideoModel) -> bool:
    """Whether a segment may have another window than its frame."""
    return model.card.object_crops or model.card.windows == "tiles"
