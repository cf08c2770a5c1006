"""ModelContract: what every VideoModel must do, however well or badly it segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.stack import Frame
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.testing.scenes import Scene, make_drifting_scene


class ModelContract:
    """Tests of a VideoModel; inherit, and override `make_model`.

    They hold for random weights too: nothing here asks for a good mask but the echo of a mask
    prompt.
    """

    tolerance: float = 1e-3
    """Largest difference of two logits that count as the same."""
    min_mask_prompt_iou: float = 0.8
    """Least IoU of a mask prompt with its answer: below 1 where logits are coarser than pixels."""

    def make_model(self) -> VideoModel:
        """A new model; cache the weights yourself where they are large."""
        raise NotImplementedError("override make_model")

    def make_scene(self) -> Scene:
        """What the model is shown: objects on several frames."""
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
        views = [(frame, model.card.frame_window(frame.shape)) for frame in chosen]
        embeddings = model.embed(views)
        assert [each.frame for each in embeddings] == [2, 0, 1], (
            "embeddings are not those of the frames given, in order"
        )
        assert [each.window for each in embeddings] == [window for _, window in views], (
            "embeddings do not keep their windows"
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
            "to_arrays gave something that is no NumPy array"
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
        """Kept as on disk; models that make no parts of frames pass."""
        model, kept = self.make_model(), dict[Window, tuple[np.ndarray, ...]]()
        (embedding,) = self._embed(model, self._load_frames()[:1])

        def keep(window: Window, make: Callable[[], Embedding]) -> Embedding:
            if window not in kept:
                kept[window] = model.to_arrays(make().features)
            part = Embedding(
                embedding.frame, window, model.from_arrays([each.copy() for each in kept[window]])
            )
            assert model.nbytes(part.features) > 0, "a part of 0 bytes"
            return part

        alone = model.segment(replace(embedding, get_or_make_part=None), self._make_click_queries())
        for when in ("first", "again"):
            self._assert_same(
                model.segment(
                    replace(embedding, get_or_make_part=keep), self._make_click_queries()
                ),
                alone,
                f"with parts that are kept, asked {when}",
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
            "answers are not in the order of the questions"
        )
        assert {each.frame for each in answers} == {embedding.frame}, "answers of another frame"
        if not _has_own_windows(model):
            assert {each.window for each in answers} == {embedding.window}, (
                "answers of another window"
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
                "logits or pointer hold NaN or infinity"
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
            "a clicked object is not PROMPTED"
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
        recalls = self._make_memory_references(model, embedding)
        for each in model.segment(
            gone, [Query(track, memory_references=(recall,)) for track, recall in recalls.items()]
        ):
            if each.presence_score <= 0:
                assert (each.logits == ABSENT_LOGIT).all(), (
                    "an absent object whose logits are not ABSENT_LOGIT everywhere"
                )

    def test_segments_do_not_depend_on_the_other_queries(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        recalls = self._make_memory_references(model, first)
        walks = [Query(track, memory_references=(recall,)) for track, recall in recalls.items()]
        for embedding, queries in (
            (first, self._make_click_queries()),
            (second, walks),
            (second, [*self._make_click_queries()[:1], *walks[1:]]),
        ):
            alone = [model.segment(embedding, [query])[0] for query in queries]
            self._assert_same(model.segment(embedding, queries), alone, "asked together and alone")

    def test_memories_do_not_depend_on_the_others(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        segments = model.segment(first, self._make_click_queries())
        segments[0] = replace(
            segments[0], presence=Presence.TRACKED
        )  # one of them no conditioning frame
        together = model.encode_memory(first, segments)
        assert len(together) == len(segments), (
            f"{len(together)} memories of {len(segments)} segments"
        )
        for segment, features in zip(segments, together, strict=True):
            (alone,) = model.encode_memory(first, [segment])
            asked = [self._make_memory_query(segment, each) for each in (features, alone)]
            self._assert_same(
                model.segment(second, asked[:1]),
                model.segment(second, asked[1:]),
                "remembered together and alone",
            )

    def test_the_same_query_has_the_same_segment(self) -> None:
        model = self.make_model()
        first, second = self._embed(model, self._load_frames()[:2])
        before = model.segment(first, self._make_click_queries())
        model.segment(
            second,
            [
                Query(track, memory_references=(recall,))
                for track, recall in self._make_memory_references(model, first).items()
            ],
        )
        self._assert_same(
            model.segment(first, self._make_click_queries()),
            before,
            "before and after other questions",
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
                f"a mask of {mask.sum()} pixels is answered by one of IoU {iou:.3f}: expected "
                f"{self.min_mask_prompt_iou} at least"
            )
            assert segment.presence is Presence.PROMPTED, (
                f"a mask prompt is answered {segment.presence!r}: expected PROMPTED"
            )

    def test_inputs_are_not_changed(self) -> None:
        model, frames, scene = self.make_model(), self._load_frames(), self.make_scene()
        pixels, mask = frames[0].pixels.copy(), scene.mask(scene.tracks[0], 0).copy()
        (embedding,) = self._embed(model, frames[:1])
        arrays = [each.copy() for each in model.to_arrays(embedding.features)]
        click, *_ = self._make_click_queries()
        (segment,) = model.segment(embedding, [click])
        logits, pointer = segment.logits.copy(), segment.pointer.copy()
        given = np.clip(logits, -32, 32)
        shown = given.copy()
        recall = MemoryReference(
            Memory(0, True, segment.pointer, features=model.encode_memory(embedding, [segment])[0]),
            0,
            1,
        )
        model.segment(
            embedding,
            [
                replace(click, logits=given, memory_references=(recall,)),
                Query(click.track, FramePrompts(mask=mask)),
            ],
        )
        now = [
            frames[0].pixels,
            given,
            segment.logits,
            segment.pointer,
            mask,
            *model.to_arrays(embedding.features),
        ]
        names = (
            "pixels",
            "previous logits",
            "segment's logits",
            "segment's pointer",
            "mask",
            *("features" for _ in arrays),
        )
        for name, after, before in zip(
            names,
            now,
            [pixels, shown, logits, pointer, scene.mask(scene.tracks[0], 0), *arrays],
            strict=True,
        ):
            np.testing.assert_array_equal(
                after, before, err_msg=f"the model changed the {name} it was given"
            )

    def test_non_square_frames_have_segments(self) -> None:
        model = self.make_model()
        pixels = self._load_frames()[0].pixels
        for part in (pixels[: pixels.shape[0] // 2], pixels[:, : pixels.shape[1] // 2]):
            (embedding,) = self._embed(model, [Frame(0, np.ascontiguousarray(part))])
            (segment,) = model.segment(
                embedding,
                [
                    Query(
                        1,
                        FramePrompts(
                            points=((part.shape[0] / 2, part.shape[1] / 2),), positive=(True,)
                        ),
                    )
                ],
            )
            assert np.isfinite(segment.logits).all(), f"no answer on a frame of {part.shape!r}"
            assert _has_own_windows(model) or segment.window == embedding.window, (
                "an answer of another window"
            )

    def _load_frames(self) -> list[Frame]:
        video = self.make_scene().video
        return [video.read_frame(index) for index in range(len(video))]

    def _embed(self, model: VideoModel, frames: Sequence[Frame]) -> list[Embedding]:
        return model.embed([(frame, model.card.frame_window(frame.shape)) for frame in frames])

    def _make_click_queries(self) -> list[Query]:
        scene = self.make_scene()
        log = scene.make_log()
        return [
            Query(track, log.frame_prompts(track, 0))
            for track in scene.tracks
            if scene.find_frames(track)[0] == 0
        ]

    def _make_memory_references(
        self, model: VideoModel, embedding: Embedding
    ) -> dict[int, MemoryReference]:
        segments = model.segment(embedding, self._make_click_queries())
        remembered = zip(segments, model.encode_memory(embedding, segments), strict=True)
        return {
            segment.track: self._make_memory_query(segment, features).memory_references[0]
            for segment, features in remembered
        }

    def _make_memory_query(self, segment: Segment, features: tuple[object, ...]) -> Query:
        """The question about the next frame with this one memory."""
        memory = Memory(
            segment.frame, segment.conditioning, segment.pointer, segment.present, features=features
        )
        return Query(
            segment.track,
            memory_references=(MemoryReference(memory, 0 if segment.conditioning else 1, 1),),
        )

    def _propagate_one_frame(self, model: VideoModel) -> tuple[list[Segment], list[Segment]]:
        """Answers to clicks on frame 0, and those on frame 1 with memory."""
        first, second = self._embed(model, self._load_frames()[:2])
        recalls = self._make_memory_references(model, first)
        return model.segment(first, self._make_click_queries()), model.segment(
            second, [Query(track, memory_references=(each,)) for track, each in recalls.items()]
        )

    def _assert_same(
        self, answers: Sequence[Segment], others: Sequence[Segment], what: str
    ) -> None:
        assert len(answers) == len(others), f"{what}: {len(answers)} and {len(others)} answers"
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
    """Whether prompts may be answered over another Window than the frame's own."""
    return model.card.object_crops or model.card.windows == "tiles"
