"""A damaged input: the error names the file, and the run resumes after the repair."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from napari_sam2.api.job import Job, run_job
from napari_sam2.api.resume import RESUME_FOLDER
from napari_sam2.core.errors import FileError
from napari_sam2.io.open import open_labels
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.run_state import RunState
from napari_sam2.propagation.segment_store import SegmentStore
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel

_BROKEN = 30  # neither the contrast nor the identity reads this frame


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_drifting_scene(frames=60, shape=(48, 48))


@pytest.fixture
def job(scene: Scene, tmp_path: Path) -> Job:
    """A zarr stack of one chunk per frame, and one click per object."""
    array = zarr.create_array(
        tmp_path / "cells.zarr",
        shape=scene.labels.shape,
        chunks=(1, 48, 48),
        dtype="uint16",
        dimension_names=["t", "y", "x"],
    )
    array[...] = scene.stack.data
    rows = [(track, 0, "point", *scene.make_click(track, 0).yx[0], 1, "") for track in scene.tracks]
    table = pd.DataFrame(rows, columns=["track", "frame", "kind", "y", "x", "positive", "category"])
    table.to_csv(tmp_path / "prompts.csv", index=False)
    return Job(
        input=tmp_path / "cells.zarr", prompts=tmp_path / "prompts.csv", out=tmp_path / "out"
    )


@pytest.mark.parametrize("damage", ["cut off", "scrambled"])
def test_corrupt_chunk_is_named_and_the_run_resumes_after_repair(
    damage: str, job: Job, scene: Scene, tmp_path: Path
) -> None:
    chunk = tmp_path / "cells.zarr" / "c" / str(_BROKEN) / "0" / "0"
    shutil.copy(chunk, tmp_path / "whole")
    content = chunk.read_bytes()
    chunk.write_bytes(
        content[: len(content) // 2] if damage == "cut off" else bytes(reversed(content))
    )
    steps: list[PropagationStep] = []
    with pytest.raises(FileError, match=rf"frame {_BROKEN}: .*cells\.zarr: plane {_BROKEN}"):
        run_job(job, model=ToyModel(), progress=steps.append)
    assert [stepped.step.frame for stepped in steps] == list(range(1, _BROKEN))
    assert not (job.out / "provenance.json").exists() and not (job.out / "labels.ome.tif").exists()
    kept = SegmentStore(job.out / RESUME_FOLDER / "trail.sqlite")
    assert {frame for _, frame in kept.get_records()} == set(range(_BROKEN))
    kept.close()

    shutil.copy(tmp_path / "whole", chunk)
    again: list[PropagationStep] = []
    outcome = run_job(
        job.model_copy(update={"resume": True}), model=ToyModel(), progress=again.append
    )
    assert outcome.state is RunState.DONE
    assert again[0].step.frame == _BROKEN, "nothing is computed twice"
    np.testing.assert_array_equal(
        np.asarray(open_labels(job.out / "labels.ome.tif").data), scene.labels
    )
    assert not (job.out / RESUME_FOLDER).exists()
