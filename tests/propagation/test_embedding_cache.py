"""Embeddings: encoded once, within a budget, on disk where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.result import Embedding
from napari_sam2.core.stack import Video
from napari_sam2.core.window import Window
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel

_FRAME_BYTES = 64 * 64 * 2  # of the toy model at 64 × 64


def _on_disk(folder: Path, video: Video, model: ToyModel, most: int = 2**30) -> EmbeddingCache:
    return EmbeddingCache(
        video, model, disk_cache=EmbeddingDiskCache(folder, video, model.card, most)
    )


def test_each_frame_is_encoded_once() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model)
    for _ in range(3):
        for frame in range(10):
            assert embeddings.get(frame, next_frame=frame + 1 if frame < 9 else None).frame == frame
    assert model.embedded_frames == list(range(10))


def test_memory_stays_within_the_budget_and_the_oldest_go_first() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=3 * _FRAME_BYTES)
    for frame in (0, 1, 2, 0, 3, 0, 2, 1):
        embeddings.get(frame)
    assert model.embedded_frames == [0, 1, 2, 3, 1], (
        "0 was used again and stays; 1 went when 3 came"
    )


def test_the_last_one_is_kept_however_small_the_budget() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=1)
    embeddings.get(0)
    embeddings.get(0)
    assert model.embedded_frames == [0]


def test_on_disk_a_second_session_encodes_nothing_and_gets_the_same(tmp_path: Path) -> None:
    first, second = ToyModel(), ToyModel()
    fresh = _on_disk(tmp_path, make_drifting_scene().video, first).get(3)
    again = _on_disk(tmp_path, make_drifting_scene().video, second).get(3)
    assert second.embedded_frames == []
    np.testing.assert_array_equal(fresh.features[0], again.features[0])


@pytest.mark.parametrize("other", ["contrast", "model"])
def test_on_disk_another_contrast_or_model_is_encoded_anew(tmp_path: Path, other: str) -> None:
    video = make_drifting_scene().video
    _on_disk(tmp_path, video, ToyModel()).get(0)
    model = ToyModel(tolerance=0.1) if other == "model" else ToyModel()
    changed = Video.of(video.stack, contrast=Contrast(0, 1000)) if other == "contrast" else video
    _on_disk(tmp_path, changed, model).get(0)
    assert model.embedded_frames == [0]


def test_on_disk_one_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    import zarr

    video, model = make_drifting_scene().video, ToyModel()
    _on_disk(tmp_path, video, ToyModel()).get(0)
    [store] = tmp_path.iterdir()
    group = zarr.open_group(store, mode="a")
    [key] = group["0"].group_keys()
    group[f"0/{key}"].attrs.clear()
    _on_disk(tmp_path, video, model).get(0)
    assert model.embedded_frames == [0]


def test_on_disk_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    video, again = make_drifting_scene().video, ToyModel()
    first = _on_disk(tmp_path, video, ToyModel(), 3 * _FRAME_BYTES)
    for frame in range(5):
        first.get(frame)
    second = _on_disk(tmp_path, video, again, 3 * _FRAME_BYTES)
    for frame in range(5):
        second.get(frame)
    assert 1 < len(again.embedded_frames) < 5 and again.embedded_frames[-1] == 4


def test_on_disk_what_was_kept_for_another_makes_room(tmp_path: Path) -> None:
    video = make_drifting_scene().video
    changed = Video.of(video.stack, contrast=Contrast(0, 1000))
    _on_disk(tmp_path, video, ToyModel()).get(0)
    for most, groups in ((100 * _FRAME_BYTES, 2), (100, 1)):
        _on_disk(tmp_path, changed, ToyModel(), most)
        assert len(list(tmp_path.iterdir())) == groups


def test_a_full_disk_ends_what_is_kept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import zarr

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    embeddings = _on_disk(tmp_path, make_drifting_scene().video, ToyModel())
    embeddings.get(0)
    monkeypatch.setattr(zarr.Group, "create_array", full)
    assert [embeddings.get(frame).frame for frame in (1, 2)] == [1, 2]
    assert [record.message for record in caplog.records if "No space left" in record.message][
        1:
    ] == [], "said once"
    assert "no more is stored there" in caplog.text
    monkeypatch.undo()
    model = ToyModel()
    again = _on_disk(tmp_path, make_drifting_scene().video, model)
    for frame in range(3):
        again.get(frame)
    assert model.embedded_frames == [1, 2]


PLACES = [Window(0.0, 0.0, 32.0, 32.0, 64), Window(16.5, 32.0, 32.0, 32.0, 64)]


def _parts(embeddings: EmbeddingCache, model: ToyModel, frame: int) -> list[Embedding]:
    """What a model would ask for that looks at parts of a frame."""
    whole = embeddings.get(frame)
    pixels = make_drifting_scene().video.read_frame(frame)
    return [
        whole.get_part(place, lambda place=place: model.embed([(pixels, place)])[0])
        for place in (*PLACES, whole.window)
    ]  # type: ignore[misc]


def test_parts_of_frames_share_the_budget() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=8 * _FRAME_BYTES)
    for frame in (0, 1, 0, 1):
        _parts(embeddings, model, frame)
    assert model.embedded_frames == [0] * 4 + [1] * 4, "a frame and its parts, once each"
    _parts(embeddings, model, 2)
    assert embeddings._cache.nbytes == 8 * _FRAME_BYTES
    _parts(embeddings, model, 1)
    assert model.embedded_frames[8:] == [2] * 4, "those of 0 went"


def test_parts_of_frames_are_kept_on_disk_and_come_back_the_same(tmp_path: Path) -> None:
    first, second, video = ToyModel(), ToyModel(), make_drifting_scene().video
    fresh = _parts(_on_disk(tmp_path, video, first), first, 3)
    again = _parts(_on_disk(tmp_path, video, second), second, 3)
    assert (first.embedded_frames, second.embedded_frames) == ([3] * 4, [])
    for one, other in zip(fresh, again, strict=True):
        assert (one.frame, one.window) == (other.frame, other.window)
        np.testing.assert_array_equal(one.features[0], other.features[0])
    assert len({each.features[0].tobytes() for each in again}) == 3, "each place its own"


def test_a_part_that_was_cut_off_on_disk_is_made_again(tmp_path: Path) -> None:
    import zarr

    video, model = make_drifting_scene().video, ToyModel()
    whole = _parts(_on_disk(tmp_path, video, ToyModel()), ToyModel(), 0)
    [store] = tmp_path.iterdir()
    [cut] = [
        group for key, group in zarr.open_group(store, mode="a")["0"].groups() if "part_16.5" in key
    ]
    cut.attrs.clear()
    again = _parts(_on_disk(tmp_path, video, model), model, 0)
    assert model.embedded_frames == [0]
    np.testing.assert_array_equal(whole[1].features[0], again[1].features[0])
