"""Embeddings: encoded once, within a budget, on disk where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.video import Contrast, Video
from napari_sam2.engine.embeddings import Embeddings
from napari_sam2.testing.scenes import drifting
from napari_sam2.testing.toy import ToyModel

_FRAME_BYTES = 64 * 64 * 2  # of the toy model at 64 × 64


def test_each_frame_is_encoded_once() -> None:
    model = ToyModel()
    embeddings = Embeddings(drifting().video, model)
    for _ in range(3):
        for frame in range(10):
            assert embeddings.get(frame, ahead=frame + 1 if frame < 9 else None).frame == frame
    assert model.embedded_frames == list(range(10))


def test_memory_stays_within_the_budget_and_the_oldest_go_first() -> None:
    model = ToyModel()
    embeddings = Embeddings(drifting().video, model, budget=3 * _FRAME_BYTES)
    for frame in (0, 1, 2, 0, 3, 0, 2, 1):
        embeddings.get(frame)
    assert model.embedded_frames == [0, 1, 2, 3, 1], "0 was used again and stays; 1 went when 3 came"


def test_the_last_one_is_kept_however_small_the_budget() -> None:
    model = ToyModel()
    embeddings = Embeddings(drifting().video, model, budget=1)
    embeddings.get(0)
    embeddings.get(0)
    assert model.embedded_frames == [0]


def test_on_disk_a_second_session_encodes_nothing_and_gets_the_same(tmp_path: Path) -> None:
    first, second = ToyModel(), ToyModel()
    fresh = Embeddings(drifting().video, first, folder=tmp_path).get(3)
    again = Embeddings(drifting().video, second, folder=tmp_path).get(3)
    assert second.embedded_frames == []
    np.testing.assert_array_equal(fresh.features[0], again.features[0])


@pytest.mark.parametrize("other", ["contrast", "model"])
def test_on_disk_another_contrast_or_model_is_encoded_anew(tmp_path: Path, other: str) -> None:
    video = drifting().video
    Embeddings(video, ToyModel(), folder=tmp_path).get(0)
    model = ToyModel(tolerance=0.1) if other == "model" else ToyModel()
    changed = Video.of(video.stack, contrast=Contrast(0, 1000)) if other == "contrast" else video
    Embeddings(changed, model, folder=tmp_path).get(0)
    assert model.embedded_frames == [0]


def test_on_disk_one_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    import zarr

    video, model = drifting().video, ToyModel()
    Embeddings(video, ToyModel(), folder=tmp_path).get(0)
    [store] = tmp_path.iterdir()
    group = zarr.open_group(store, mode="a")
    [key] = group["0"].group_keys()
    group[f"0/{key}"].attrs.clear()
    Embeddings(video, model, folder=tmp_path).get(0)
    assert model.embedded_frames == [0]
