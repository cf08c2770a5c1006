"""The scenes are as documented, and the toy model is exact on them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.errors import IntensityError
from napari_sam2.core.result import Memory, MemoryReference, Query
from napari_sam2.core.window import Window
from napari_sam2.testing import scenes
from napari_sam2.testing.scenes import CORRECTION_SCENES, SCENES, Scene
from napari_sam2.testing.toy import ToyModel


def walked(scene: Scene, model: ToyModel, *, size: int = 64) -> np.ndarray:
    """Propagate forward without a session: the last six memories and the prompted one."""
    video, log = scene.video, scene.make_log()
    labels = np.zeros(video.shape, dtype=np.uint16)
    memories: dict[int, list[Memory]] = {track: [] for track in scene.tracks}
    for embedding in model.embed(
        [(video.read_frame(i), Window.full_frame(video.shape[1:], size)) for i in range(len(video))]
    ):
        frame = embedding.frame
        queries = [
            Query(track, said, memory_references=tuple(_recalls(memories[track], frame)))
            for track in scene.tracks
            for said in [log.combine_prompts(track, frame)]
            if said.points or memories[track]
        ]
        segments = model.segment(embedding, queries)
        for segment, features in zip(
            segments, model.encode_memory(embedding, segments), strict=True
        ):
            memories[segment.track].append(
                Memory(
                    frame, segment.conditioning, segment.pointer, segment.present, features=features
                )
            )
            labels[frame][
                embedding.window.paste(
                    segment.logits, slice(0, video.shape[1]), slice(0, video.shape[2])
                )
                > 0
            ] = segment.track
    return labels


def _recalls(memories: list[Memory], frame: int) -> list[MemoryReference]:
    conditioning = [
        MemoryReference(each, 0, frame - each.frame) for each in memories if each.conditioning
    ]
    return conditioning + [
        MemoryReference(each, frame - each.frame, frame - each.frame)
        for each in memories[-6:]
        if not each.conditioning
    ]


@pytest.mark.parametrize("scene", SCENES, ids=str)
@pytest.mark.parametrize("size", [64, 128])
def test_toy_model_propagates_one_click_per_object_exactly(scene: Scene, size: int) -> None:
    np.testing.assert_array_equal(walked(scene, ToyModel(), size=size), scene.labels)


def test_toy_model_propagates_noisy_objects_with_a_tolerance() -> None:
    scene = scenes.make_drifting_scene(noise=300.0)
    agreement = (walked(scene, ToyModel(tolerance=0.05)) == scene.labels).mean()
    assert agreement > 0.995


@pytest.mark.parametrize("scene", CORRECTION_SCENES, ids=str)
def test_toy_model_makes_errors_on_correction_scenes(scene: Scene) -> None:
    assert (walked(scene, ToyModel()) != scene.labels).any()


@pytest.mark.parametrize("scene", [*SCENES, *CORRECTION_SCENES], ids=str)
def test_grey_values_are_the_documented_ones(scene: Scene) -> None:
    walked_planes = [
        [scene.video.read_raw_plane(i, channel) for i in range(len(scene.video))]
        for channel in range(len(scene.background))
    ]
    for channel, planes in enumerate(walked_planes):
        pixels = np.array(planes)
        assert set(pixels[scene.labels == 0].tolist()) == {scene.background[channel]}
        for track in scene.tracks:
            assert set(pixels[scene.labels == track].tolist()) == {scene.intensity[track][channel]}


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_click_lies_on_its_object(scene: Scene) -> None:
    for track in scene.tracks:
        prompt = scene.make_click(track)
        y, x = (int(place) for place in prompt.yx[0])
        assert scene.labels[prompt.frame, y, x] == track
        assert prompt.frame == scene.find_frames(track)[0]


def in_contact(plane: np.ndarray) -> bool:
    return bool(((plane[:, :-1] == 1) & (plane[:, 1:] == 2)).any())


def test_touching_discs_touch_and_separate() -> None:
    contact = [in_contact(plane) for plane in scenes.make_touching_scene().labels]
    assert contact[0] is False and contact[-1] is False and any(contact)


@pytest.mark.parametrize("away", [1, 2, 3])
def test_returning_disc_is_absent_for_the_given_frames(away: int) -> None:
    seen = scenes.make_returning_scene(absent_frames=away).find_frames(1)
    assert (seen[0], seen[-1]) == (0, 9)
    assert 10 - len(seen) == away


def test_division_names_the_parent_and_ends_it() -> None:
    scene = scenes.make_dividing_scene(division_frame=4)
    assert scene.parents == {2: 1, 3: 1}
    assert scene.find_frames(1) == (0, 1, 2, 3) and scene.find_frames(2) == scene.find_frames(
        3
    ) == (
        4,
        5,
        6,
        7,
        8,
        9,
    )
    assert scene.make_log().get_track(2).parent == 1


def test_objects_appear_at_their_frames() -> None:
    scene = scenes.make_appearing_scene(interval=3)
    assert [scene.find_frames(track)[0] for track in scene.tracks] == [0, 3, 6, 9]


def _middle(scene: Scene, track: int, frame: int) -> float:
    """Compute the column of an object's centre."""
    return float(np.argwhere(scene.mask(track, frame))[:, 1].mean())


@pytest.mark.parametrize(("apart", "hidden"), [(2.2, False), (1.5, True)])
def test_passing_discs_move_steadily_in_both_directions(apart: float, hidden: bool) -> None:
    scene = scenes.make_passing_scene(
        frames=8, shape=(96, 96), radius=6, row_spacing=apart, speed=3
    )
    assert len(set(scene.intensity.values())) == 1
    full = [track for track in scene.tracks if len(scene.find_frames(track)) == 8]
    ways = {
        round(float(step))
        for track in full
        for step in np.diff([np.argwhere(scene.mask(track, f))[:, 1].max() for f in range(4)])
    }
    areas = np.array(
        [
            scene.mask(track, frame).sum()
            for track in full
            for frame in range(8)
            if 12 < _middle(scene, track, frame) < 84
        ]
    )
    assert len(full) > 10 and {-3, 3} <= ways
    assert (areas.min() < 0.9 * areas.max()) == hidden


def test_crossing_objects_hide_each_other_only_partly() -> None:
    area = (scenes.make_crossing_scene().labels == 1).sum(axis=(1, 2))
    assert 0 < area.min() < 0.7 * area.max()


def test_volumes_agree_with_counted_voxels() -> None:
    scene = scenes.make_ellipsoid_scene(slices=40, shape=(128, 128))
    voxel = scene.stack.spacing.voxel_um3
    assert voxel == 0.5
    for track, volume in scene.volume_um3.items():
        assert (scene.labels == track).sum() * voxel == pytest.approx(volume, rel=0.01)


def test_twelve_bit_pair_is_one_object_in_eight_bit() -> None:
    scene = scenes.make_twelve_bit_scene()
    assert all(in_contact(plane) for plane in scene.labels)
    assert scene.stack.data.max() == 4095
    eight = (scene.video.read_frame(0).pixels * 255).round()
    assert len(np.unique(eight[np.isin(scene.labels[0], (1, 2))])) == 1


def test_blank_scene_has_no_contrast() -> None:
    scene = scenes.make_blank_scene()
    assert scene.tracks == ()
    with pytest.raises(IntensityError):
        _ = scene.video


def test_scenes_grow_to_many_objects() -> None:
    scene = scenes.make_drifting_scene(count=100, frames=4, shape=(256, 256))
    assert len(scene.tracks) == 100
    np.testing.assert_array_equal(walked(scene, ToyModel(), size=256), scene.labels)


def test_scene_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SCENES[0].labels[0, 0, 0] = 1
