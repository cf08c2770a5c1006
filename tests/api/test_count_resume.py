"""A count that is interrupted loses nothing, and ends as one that was not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile

from napari_sam2.api.count import count
from napari_sam2.api.results import JobResult
from napari_sam2.api.resume import RESUME_FOLDER
from napari_sam2.core.errors import OutputError, PlanError
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage

FRAMES = 8
FILES = ("objects.csv", "tracks.csv", "counts.csv", "prompts.json")

# counts in a process of its own, which kills itself after a step
SCRIPT = """
import os, signal, sys
from napari_sam2.api.count import count
from napari_sam2.testing.toy import ToyModel

folder, out, stage, done, association = sys.argv[1:]

def kill(step):
    if (step.stage, step.done) == (stage, int(done)):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

count(
    f"{folder}/image.ome.tif",
    out=out,
    seeds=f"{folder}/labels.ome.tif",
    association=association,
    patience=5,
    model=ToyModel(),
    progress=kill,
)
"""


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack, and labels without identities in which one object is missed for some frames."""
    folder = tmp_path_factory.mktemp("scene")
    scene = make_drifting_scene(frames=FRAMES)
    frames = np.arange(FRAMES)[:, None, None]
    missed = np.isin(frames, [3, 4, 5]) & (scene.labels == 2)
    labels = np.where((scene.labels > 0) & ~missed, (scene.labels + 7 * frames) % 97 + 1, 0)
    tifffile.imwrite(folder / "image.ome.tif", scene.stack.data[...], metadata={"axes": "TYX"})
    tifffile.imwrite(
        folder / "labels.ome.tif", labels.astype(np.uint32), metadata={"axes": "TYX"}, ome=True
    )
    return folder


def run_count(folder: Path, out: Path, **options: Any) -> JobResult:
    """Count the scene into `out`."""
    given: dict[str, Any] = {"model": ToyModel(), "patience": 5, **options}
    result = count(folder / "image.ome.tif", out=out, seeds=str(folder / "labels.ome.tif"), **given)
    assert isinstance(result, JobResult)
    return result


@pytest.fixture(scope="module", autouse=True)
def without_pictures() -> Iterator[None]:
    """Leave out what takes most of the time of a small count and is not compared."""
    with (
        patch("napari_sam2.api.results.draw_overview", lambda *given: Path(given[-1]).touch()),
        patch("napari_sam2.api.exports.render_run_report", lambda *_: ""),
    ):
        yield


@pytest.fixture(scope="module")
def whole(scene_folder: Path, without_pictures: None) -> dict[str, Path]:
    """Counts that nothing interrupts, by association."""
    folders = {name: scene_folder / name for name in ("seeds", "model")}
    for name, out in folders.items():
        run_count(scene_folder, out, association=name)
    return folders


def assert_same_files(out: Path, whole: Path) -> None:
    """The files of two counts have the same bytes."""
    for name in FILES:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    labels, expected = (tifffile.imread(each / "labels.ome.tif") for each in (out, whole))
    np.testing.assert_array_equal(labels, expected)  # the file has a random identifier
    assert not (out / RESUME_FOLDER).exists()


@pytest.mark.parametrize(
    ("association", "stage", "done"),
    [
        ("seeds", "detect", 3),
        ("seeds", "prompt", 4),
        ("seeds", "propagate", 2),
        ("model", "propagate", 2),
    ],
    ids=["detecting", "prompting", "propagating", "propagating a round"],
)
def test_killed_count_resumes_to_the_same_bytes(
    scene_folder: Path,
    whole: dict[str, Path],
    tmp_path: Path,
    association: str,
    stage: str,
    done: int,
) -> None:
    out = tmp_path / "out"
    call = [
        sys.executable,
        "-c",
        SCRIPT,
        str(scene_folder),
        str(out),
        stage,
        str(done),
        association,
    ]
    killed = subprocess.run(call, check=False, capture_output=True, text=True)
    assert killed.returncode not in (0, 1), killed.stderr
    assert not (out / "provenance.json").exists()
    assert (out / RESUME_FOLDER).is_dir()
    run_count(scene_folder, out, association=association, resume=True)
    assert_same_files(out, whole[association])


class Interrupted(Exception):
    """Stands for a kill."""


def interrupt(stage: TrackingStage, done: int) -> Any:
    """Progress that ends the count after a step."""

    def follow(step: TrackingProgress) -> None:
        if (step.stage, step.done) == (stage, done):
            raise Interrupted

    return follow


@pytest.mark.parametrize(
    ("association", "stage", "done"),
    [
        ("seeds", TrackingStage.LINK, 4),
        ("model", TrackingStage.DETECT, 3),
        ("model", TrackingStage.DETECT, 7),
    ],
    ids=["linking", "a round", "a later round"],
)
def test_interrupted_count_resumes_to_the_same_bytes(
    scene_folder: Path,
    whole: dict[str, Path],
    tmp_path: Path,
    association: str,
    stage: TrackingStage,
    done: int,
) -> None:
    options = {"association": association}
    with pytest.raises(Interrupted):
        run_count(scene_folder, tmp_path, progress=interrupt(stage, done), **options)
    run_count(scene_folder, tmp_path, resume=True, **options)
    assert_same_files(tmp_path, whole[association])


def test_finished_frames_are_detected_once(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detected: list[int] = []
    detect = LabelImageDetector.detect

    def note_frame(detector: Any, video: Any, frame: int, **options: Any) -> Any:
        detected.append(frame)
        return detect(detector, video, frame, **options)

    monkeypatch.setattr(LabelImageDetector, "detect", note_frame)
    with pytest.raises(Interrupted):
        run_count(scene_folder, tmp_path, progress=interrupt(TrackingStage.DETECT, 5))
    run_count(scene_folder, tmp_path, resume=True)
    assert detected == list(range(FRAMES))


def test_prompted_frames_are_segmented_once(scene_folder: Path, tmp_path: Path) -> None:
    steps: list[TrackingProgress] = []
    with pytest.raises(Interrupted):
        run_count(scene_folder, tmp_path, progress=interrupt(TrackingStage.PROMPT, 5))
    run_count(scene_folder, tmp_path, resume=True, progress=steps.append)
    prompted = [step.changed_frames for step in steps if step.stage == TrackingStage.PROMPT]
    assert prompted == [(5,), (6,), (7,)]
    assert {step.stage for step in steps} == {TrackingStage.PROMPT, TrackingStage.PROPAGATE}


@pytest.mark.parametrize("written", [2, 5, FRAMES + 2, FRAMES + 4])
def test_full_disk_loses_nothing(
    scene_folder: Path,
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
) -> None:
    """The disk is full after so many files: while detecting, and while writing the results."""
    replace, files = os.replace, list[str]()

    def fill_disk(source: Any, target: Any) -> None:
        files.append(str(target))
        if len(files) > written:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fill_disk)
        with pytest.raises(OutputError, match="free some space"):
            run_count(scene_folder, tmp_path)
    run_count(scene_folder, tmp_path, resume=True)
    assert_same_files(tmp_path, whole["seeds"])


def test_finished_count_is_not_done_again(scene_folder: Path, tmp_path: Path) -> None:
    run_count(scene_folder, tmp_path)
    model, steps = ToyModel(), list[TrackingProgress]()
    result = run_count(scene_folder, tmp_path, model=model, resume=True, progress=steps.append)
    assert "nothing to resume" in result.summary
    assert not steps and not model.calls


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_another_count_is_not_resumed(scene_folder: Path, tmp_path: Path, finished: bool) -> None:
    if finished:
        run_count(scene_folder, tmp_path)
    else:
        with pytest.raises(Interrupted):
            run_count(scene_folder, tmp_path, progress=interrupt(TrackingStage.DETECT, 2))
    with pytest.raises(PlanError, match="leave out --resume"):
        run_count(scene_folder, tmp_path, resume=True, min_frames=5)
