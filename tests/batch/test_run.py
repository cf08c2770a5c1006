"""Batches on workers of this process with the toy model: done, skipped, retried, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from distributed.scheduler import KilledWorker

from napari_sam2.api.count import CountingOptions
from napari_sam2.api.count_job import CountJob
from napari_sam2.api.job import Job, run_job
from napari_sam2.api.resume import RESUME_FOLDER
from napari_sam2.batch import run_jobs, tasks
from napari_sam2.batch.pool import Pool
from napari_sam2.batch.run import MAX_DEATHS, BatchProgress, _Ledger, raise_for_failures
from napari_sam2.core.errors import FileError, OutputError, PlanError, PromptError
from napari_sam2.io.open import open_labels
from napari_sam2.io.output_folder import lock_folder
from napari_sam2.measurement import evaluate
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.pipeline import TrackingPipeline

Loads = list[tuple[str, str]]


def _jobs(folder: Path, count: int, **more: Any) -> list[Job]:
    return [
        Job(
            input=folder / f"s{n}.npy",
            prompts=folder / "prompts" / f"s{n}.csv",
            out=folder / "out" / f"s{n}",
            axes="TYX",
            **more,
        )
        for n in range(count)
    ]


def test_every_stack_is_carried_and_the_summary_counts_them(
    write_stacks: Callable[[int], Path], scene: Scene, thread_pool: Pool, loaded_models: Loads
) -> None:
    folder, seen = write_stacks(4), []
    table = run_jobs(_jobs(folder, 4), out=folder / "out", pool=thread_pool, progress=seen.append)
    assert table["state"].to_list() == ["done"] * 4
    assert table["objects"].to_list() == table["n_disc"].to_list() == [3] * 4
    assert table["masks"].to_list() == [3 * 6] * 4
    for number in range(4):
        labels = np.asarray(open_labels(folder / "out" / f"s{number}" / "labels.ome.tif").data)
        np.testing.assert_array_equal(labels, scene.labels)
    written = pd.read_csv(
        folder / "out" / "summary.csv", dtype={"worker": str}, keep_default_na=False
    )
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    assert loaded_models == [("nano", "auto")], "one model for all stacks of a worker"
    last: BatchProgress = seen[-1]
    assert (last.finished, last.failed, last.total, last.stacks_done) == (4, 0, 4, 4)
    assert not list((folder / "out").rglob("*.lock"))


def test_planes_are_read_where_the_model_is(
    write_stacks: Callable[[int], Path],
    thread_pool: Pool,
    loaded_models: Loads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Asking(ToyModel):
        def embed(self, views: Any) -> Any:
            assert dask.config.get("scheduler") == "synchronous", "not as tasks of the cluster"
            return super().embed(views)

    monkeypatch.setattr("napari_sam2.models.load.load_model", lambda *_, **__: Asking())
    tasks.load_cached_model.cache_clear()
    assert run_jobs(_jobs(write_stacks(1), 1), pool=thread_pool).loc[0, "state"] == "done"


def test_finished_jobs_are_skipped_and_a_new_one_is_done(
    write_stacks: Callable[[int], Path], thread_pool: Pool, loaded_models: Loads
) -> None:
    folder = write_stacks(3)
    run_jobs(_jobs(folder, 2), pool=thread_pool)
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.*")}
    table = run_jobs(_jobs(folder, 3), pool=thread_pool)
    assert table["state"].to_list() == ["skipped", "skipped", "done"]
    assert table["objects"].to_list() == [3, 3, 3]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_finished_folder_of_another_job_is_not_taken_for_this_one(
    write_stacks: Callable[[int], Path], thread_pool: Pool, loaded_models: Loads
) -> None:
    folder = write_stacks(1)
    run_jobs(_jobs(folder, 1), pool=thread_pool)
    table = run_jobs(_jobs(folder, 1, frames=(0, 3)), pool=thread_pool)
    assert table.loc[0, "state"] == "failed"
    assert "results of another job" in table.loc[0, "error"]
    with pytest.raises(PlanError, match="1 of 1 stacks failed"):
        raise_for_failures(table)


def test_a_broken_stack_stands_in_the_table_and_stops_no_other(
    write_stacks: Callable[[int], Path], thread_pool: Pool, loaded_models: Loads
) -> None:
    folder = write_stacks(3)
    (folder / "s1.npy").write_bytes(b"not an array")
    (folder / "prompts" / "s2.csv").write_text("track,frame,kind,y,x\n1,99,point,1,1\n")
    table = run_jobs(_jobs(folder, 3), pool=thread_pool)
    assert table["state"].to_list() == ["done", "failed", "failed"]
    assert "s1.npy" in table.loc[1, "error"] and "frames 0 to 5" in table.loc[2, "error"]
    assert table["tries"].to_list() == [1, 3, 1], "a file may come back, a wrong prompt stays wrong"


def test_what_fails_for_no_reason_of_its_own_is_tried_again_and_goes_on(
    write_stacks: Callable[[int], Path],
    scene: Scene,
    thread_pool: Pool,
    loaded_models: Loads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, embedded = write_stacks(1), []

    class Failing(ToyModel):
        def embed(self, views: Any) -> Any:
            embedded.append(views[0][0].index)
            if len(embedded) == 3:
                raise RuntimeError("CUDA error: an illegal memory access")
            return super().embed(views)

    monkeypatch.setattr("napari_sam2.models.load.load_model", lambda *_, **__: Failing())
    tasks.load_cached_model.cache_clear()
    table = run_jobs(_jobs(folder, 1), pool=thread_pool)
    assert (table.loc[0, "state"], table.loc[0, "tries"]) == ("done", 2)
    np.testing.assert_array_equal(
        np.asarray(open_labels(folder / "out" / "s0" / "labels.ome.tif").data), scene.labels
    )


def test_two_batches_or_runs_in_one_folder_are_refused(
    write_stacks: Callable[[int], Path], thread_pool: Pool, loaded_models: Loads
) -> None:
    folder = write_stacks(1)
    (job,) = _jobs(folder, 1)
    job.out.mkdir(parents=True)
    with (
        lock_folder(folder / "out"),
        pytest.raises(OutputError, match="another run is writing there"),
    ):
        run_jobs([job], out=folder / "out", pool=thread_pool)
    with lock_folder(job.out):
        with pytest.raises(OutputError, match="another run is writing there"):
            run_job(job, model=ToyModel())
        table = run_jobs([job], pool=thread_pool)
        assert "another run is writing there" in table.loc[0, "error"]
    assert run_jobs([job], pool=thread_pool).loc[0, "state"] == "done"


def test_a_run_killed_before_it_noted_what_it_was_begins_anew(
    write_stacks: Callable[[int], Path], thread_pool: Pool, loaded_models: Loads
) -> None:
    folder = write_stacks(1)
    (folder / "out" / "s0" / RESUME_FOLDER).mkdir(parents=True)
    assert run_jobs(_jobs(folder, 1), pool=thread_pool).loc[0, "state"] == "done"


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (PromptError("no"), 1),
        (PlanError("no"), 1),
        (FileError("no"), 3),
        (OutputError("no"), 3),
        (RuntimeError("no"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_often_a_job_is_tried(error: Exception, times: int) -> None:
    ledger = _Ledger(1)
    tries = 1
    while ledger.record_failure(0, error):
        tries += 1
    assert tries == times


def _died() -> KilledWorker:
    return KilledWorker("job", None, 0)  # type: ignore[arg-type]


def test_a_stack_may_see_as_many_deaths_as_it_comes_further() -> None:
    ledger = _Ledger(1)
    for frame in range(1, 20):
        ledger.record_event({"number": 0, "position": 0, "total": 20})
        ledger.record_event({"number": 0, "position": frame, "total": 20})
        assert ledger.record_failure(0, _died())
    for _ in range(MAX_DEATHS - 2):
        ledger.record_event({"number": 0, "position": 0, "total": 20})
        assert ledger.record_failure(0, _died())
    ledger.record_event({"number": 0, "position": 0, "total": 20})
    assert not ledger.record_failure(0, _died())


def test_a_stack_that_waited_behind_one_whose_worker_died_is_not_to_blame() -> None:
    ledger = _Ledger(2)
    assert all(ledger.record_failure(1, _died()) for _ in range(3 * MAX_DEATHS))


def test_a_batch_may_be_counted_without_prompts(
    tmp_path: Path, thread_pool: Pool, loaded_models: Loads
) -> None:
    scene = make_drifting_scene(frames=5, shape=(128, 128))
    for number in range(2):
        np.save(tmp_path / f"s{number}.npy", scene.stack.data)
    np.save(tmp_path / "blank.npy", np.zeros((5, 64, 64), dtype=np.uint16))
    np.save(tmp_path / "labels.npy", scene.labels.astype(np.uint16))
    given = {"axes": "TYX", "along": "t"}
    jobs = [
        CountJob(
            input=tmp_path / "s0.npy",
            out=tmp_path / "out" / "0",
            counting=CountingOptions(category="disc"),
            also=(),
            **given,
        ),
        CountJob(
            input=tmp_path / "s1.npy",
            out=tmp_path / "out" / "1",
            counting=CountingOptions(seeds=str(tmp_path / "labels.npy")),
            **given,
        ),
        CountJob(
            input=tmp_path / "blank.npy",
            out=tmp_path / "out" / "2",
            counting=CountingOptions(),
            **given,
        ),
    ]
    table = run_jobs(jobs, out=tmp_path / "out", pool=thread_pool)
    assert table["error"].to_list() == [""] * 3
    assert table["objects"].to_list() == [3, 3, 0]
    assert table.loc[0, "n_disc"] == 3
    assert (
        evaluate(labels_in(tmp_path / "out" / "1"), scene.labels, tracks=True).overall["track_iou"]
        > 0.99
    )
    assert run_jobs(jobs, pool=thread_pool)["state"].to_list() == ["skipped"] * 3


def test_counting_that_was_killed_while_it_carried_goes_on(
    tmp_path: Path, thread_pool: Pool, loaded_models: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_drifting_scene(frames=8, shape=(128, 128))
    labels = scene.labels.astype(np.uint16)
    labels[3:5] = 0  # missed by the other tool: the model carries tracks over these frames
    np.save(tmp_path / "s.npy", scene.stack.data)
    np.save(tmp_path / "labels.npy", labels)
    job = CountJob(
        input=tmp_path / "s.npy",
        out=tmp_path / "out",
        axes="TYX",
        along="t",
        counting=CountingOptions(seeds=str(tmp_path / "labels.npy")),
    )
    looked: list[int] = []
    encode_memory = ToyModel.encode_memory

    def dying(model: ToyModel, embedding: Any, segments: Any) -> Any:
        if (
            embedding.frame == 3
            and not any(segment.conditioning for segment in segments)
            and len(looked) == 1
        ):
            raise RuntimeError("killed")
        return encode_memory(model, embedding, segments)

    detect = TrackingPipeline.detect

    def note_detection(pipeline: TrackingPipeline) -> Any:
        looked.append(1)
        return detect(pipeline)

    monkeypatch.setattr(TrackingPipeline, "detect", note_detection)
    monkeypatch.setattr(ToyModel, "encode_memory", dying)
    monkeypatch.setattr("napari_sam2.batch.run.MAX_TRIES", 1)
    assert "killed" in run_jobs([job], pool=thread_pool).loc[0, "error"]
    looked.append(2)
    assert run_jobs([job], pool=thread_pool).loc[0, "state"] == "done"
    assert looked == [1, 2], "objects are looked for once"
    assert evaluate(labels_in(job.out), scene.labels, tracks=True).overall["track_iou"] > 0.9
    assert np.all(labels_in(job.out)[3:5].any(axis=(1, 2)))


def labels_in(folder: Path) -> np.ndarray:
    return np.asarray(open_labels(folder / "labels.ome.tif").data)
