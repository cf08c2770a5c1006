"""EmbeddingCache: frames are encoded once, within a budget, optionally on disk."""

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


def _open_disk_cache(
    folder: Path, video: Video, model: ToyModel, most: int = 2**30
) -> EmbeddingCache:
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


def test_oldest_embeddings_are_dropped_beyond_the_budget() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=3 * _FRAME_BYTES)
    for frame in (0, 1, 2, 0, 3, 0, 2, 1):
        embeddings.get(frame)
    assert model.embedded_frames == [0, 1, 2, 3, 1], (
        "0 was used again and stays; 1 went when 3 came"
    )


def test_last_embedding_stays_with_any_budget() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=1)
    embeddings.get(0)
    embeddings.get(0)
    assert model.embedded_frames == [0]


def test_second_session_reads_the_same_embeddings_from_disk(tmp_path: Path) -> None:
    first, second = ToyModel(), ToyModel()
    fresh = _open_disk_cache(tmp_path, make_drifting_scene().video, first).get(3)
    again = _open_disk_cache(tmp_path, make_drifting_scene().video, second).get(3)
    assert second.embedded_frames == []
    np.testing.assert_array_equal(fresh.features[0], again.features[0])


@pytest.mark.parametrize("other", ["contrast", "model"])
def test_other_contrast_or_model_is_not_read_from_disk(tmp_path: Path, other: str) -> None:
    video = make_drifting_scene().video
    _open_disk_cache(tmp_path, video, ToyModel()).get(0)
    model = ToyModel(tolerance=0.1) if other == "model" else ToyModel()
    changed = Video.of(video.stack, contrast=Contrast(0, 1000)) if other == "contrast" else video
    _open_disk_cache(tmp_path, changed, model).get(0)
    assert model.embedded_frames == [0]


def test_incomplete_embedding_on_disk_is_computed_again(tmp_path: Path) -> None:
    import zarr

    video, model = make_drifting_scene().video, ToyModel()
    _open_disk_cache(tmp_path, video, ToyModel()).get(0)
    [store] = tmp_path.iterdir()
    group = zarr.open_group(store, mode="a")
    [key] = group["0"].group_keys()
    group[f"0/{key}"].attrs.clear()
    _open_disk_cache(tmp_path, video, model).get(0)
    assert model.embedded_frames == [0]


def test_disk_cache_stays_within_its_budget(tmp_path: Path) -> None:
    video, again = make_drifting_scene().video, ToyModel()
    first = _open_disk_cache(tmp_path, video, ToyModel(), 3 * _FRAME_BYTES)
    for frame in range(5):
        first.get(frame)
    second = _open_disk_cache(tmp_path, video, again, 3 * _FRAME_BYTES)
    for frame in range(5):
        second.get(frame)
    assert 1 < len(again.embedded_frames) < 5 and again.embedded_frames[-1] == 4


def test_full_disk_cache_drops_other_videos(tmp_path: Path) -> None:
    video = make_drifting_scene().video
    changed = Video.of(video.stack, contrast=Contrast(0, 1000))
    _open_disk_cache(tmp_path, video, ToyModel()).get(0)
    for most, groups in ((100 * _FRAME_BYTES, 2), (100, 1)):
        _open_disk_cache(tmp_path, changed, ToyModel(), most)
        assert len(list(tmp_path.iterdir())) == groups


def test_full_disk_only_stops_the_disk_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import zarr

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    embeddings = _open_disk_cache(tmp_path, make_drifting_scene().video, ToyModel())
    embeddings.get(0)
    monkeypatch.setattr(zarr.Group, "create_array", full)
    assert [embeddings.get(frame).frame for frame in (1, 2)] == [1, 2]
    assert [record.message for record in caplog.records if "No space left" in record.message][
        1:
    ] == [], "warned once"
    assert "no more is stored there" in caplog.text
    monkeypatch.undo()
    model = ToyModel()
    again = _open_disk_cache(tmp_path, make_drifting_scene().video, model)
    for frame in range(3):
        again.get(frame)
    assert model.embedded_frames == [1, 2]


PLACES = [Window(0.0, 0.0, 32.0, 32.0, 64), Window(16.5, 32.0, 32.0, 32.0, 64)]


def _get_parts(embeddings: EmbeddingCache, model: ToyModel, frame: int) -> list[Embedding]:
    """The parts of a frame that a tiled model would encode."""
    whole = embeddings.get(frame)
    pixels = make_drifting_scene().video.read_frame(frame)
    return [
        whole.get_part(place, lambda place=place: model.embed([(pixels, place)])[0])
        for place in (*PLACES, whole.window)
    ]  # type: ignore[misc]


def test_parts_share_the_budget() -> None:
    model = ToyModel()
    embeddings = EmbeddingCache(make_drifting_scene().video, model, budget=8 * _FRAME_BYTES)
    for frame in (0, 1, 0, 1):
        _get_parts(embeddings, model, frame)
    assert model.embedded_frames == [0] * 4 + [1] * 4, "a frame and its parts, once each"
    _get_parts(embeddings, model, 2)
    assert embeddings.cache.nbytes == 8 * _FRAME_BYTES
    _get_parts(embeddings, model, 1)
    assert model.embedded_frames[8:] == [2] * 4, "those of 0 went"


def test_parts_are_stored_on_disk_without_loss(tmp_path: Path) -> None:
    first, second, video = ToyModel(), ToyModel(), make_drifting_scene().video
    fresh = _get_parts(_open_disk_cache(tmp_path, video, first), first, 3)
    again = _get_parts(_open_disk_cache(tmp_path, video, second), second, 3)
    assert (first.embedded_frames, second.embedded_frames) == ([3] * 4, [])
    for one, other in zip(fresh, again, strict=True):
        assert (one.frame, one.window) == (other.frame, other.window)
        np.testing.assert_array_equal(one.features[0], other.features[0])
    assert len({each.features[0].tobytes() for each in again}) == 3, "each window has its own"


def test_incomplete_part_on_disk_is_computed_again(tmp_path: Path) -> None:
    import zarr

    video, model = make_drifting_scene().video, ToyModel()
    whole = _get_parts(_open_disk_cache(tmp_path, video, ToyModel()), ToyModel(), 0)
    [store] = tmp_path.iterdir()
    [cut] = [
        group for key, group in zarr.open_group(store, mode="a")["0"].groups() if "part_16.5" in key
    ]
    cut.attrs.clear()
    again = _get_parts(_open_disk_cache(tmp_path, video, model), model, 0)
    assert model.embedded_frames == [0]
    np.testing.assert_array_equal(whole[1].features[0], again[1].features[0])
