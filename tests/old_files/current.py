"""What of the current code opens files: the only file here that knows the code's names.

After a renaming this file is adapted, and neither the tests nor the files in ``data``.
`make.py` runs with the old code alone and stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from napari_sam2.api.count_job import make_job, run_count_job
from napari_sam2.api.job import run_job
from napari_sam2.api.project import Project
from napari_sam2.api.replay import replay_project as replay
from napari_sam2.batch import read_jobs
from napari_sam2.cli import main
from napari_sam2.core.inference_options import rename_attention
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import read_prompts
from napari_sam2.io.prompts_json import format_json_log
from napari_sam2.models.load import load_model
from napari_sam2.models.weights.card_files import card_to_json
from napari_sam2.models.weights.card_files import read_card as read_saved_card
from napari_sam2.models.weights.cards import locate
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.toy import ToyModel
from napari_sam2.train.recipe import Recipe

__all__ = ["load_nano", "main", "make_toy"]


def rename_values(old: Any) -> Any:
    """Plain values of an old file, those that have other names now under the new ones."""
    if isinstance(old, list):
        return [rename_values(each) for each in old]
    if not isinstance(old, dict):
        return old
    return {
        key: rename_attention(value) if key == "attention" else rename_values(value)
        for key, value in old.items()
    }


def make_toy() -> Any:
    """The model in NumPy that the files of "toy" were made with."""
    return ToyModel(stride=2, input_sizes=(48,))


def load_nano() -> Any:
    """The embedded model on the processor."""
    return load_model("nano", device="cpu")


def find_nano_sha256() -> str:
    """Of the embedded model."""
    return str(locate("nano").card.sha256)


def read_log(path: Path) -> str:
    """A prompt file as the JSON of its log."""
    return format_json_log(read_prompts(path))


def read_recipe(path: Path) -> dict[str, Any]:
    """A training recipe as plain values."""
    return dict(json.loads(Recipe.read(path).model_dump_json()))


def read_card(path: Path) -> tuple[dict[str, Any], str]:
    """The card of a checkpoint, and how it is written again."""
    card = read_saved_card(path)
    return card.to_dict(), card_to_json(card)


def read_batch(path: Path) -> dict[str, Any]:
    """A jobs file as plain values."""
    batch = read_jobs(path)
    jobs = [job.model_dump(mode="json") for job in batch.jobs]
    return {"out": str(batch.out), "pool": batch.pool.model_dump(mode="json"), "jobs": jobs}


def run(fields: dict[str, Any], progress: Callable[[Any], None] | None = None) -> str:
    """Carry out a job with the toy model, or one that counts; how it ended, and its summary."""
    job = make_job(fields)
    begin: Any = run_count_job if "counting" in fields else run_job

    def follow(step: Any) -> None:
        step = getattr(step, "step", step) if "counting" in fields else step
        if progress is not None and step is not None:
            progress(step)

    with _without_picture():
        outcome = begin(job, model=make_toy(), progress=follow, report=lambda _: None)
    return f"{outcome.state.value}: {outcome.summary}"


def count_frames_encoded(folder: Path, image: Path, log: Path) -> int:
    """Go on with what lies in a project folder, by a click: how many frames the toy encodes."""
    model, video = make_toy(), open_stack(image).as_video()
    settings = SessionSettings(folder=folder, embedding_disk_bytes=1 << 20)
    with Session(video, model, settings=settings) as session:
        session.resume(read_prompts(log))
        for frame in range(len(video) - 1):
            session.prompt(PointPrompt(frame, 9, [(14.0, 11.0)], [True]))
    return len(model.embedded_frames)


def replay_project(folder: Path, out: Path, model: Any = None) -> None:
    """Do again without a window what a project says."""
    with _without_picture():
        replay(folder, out, model=model, device="cpu", report=lambda _: None)


def _without_picture() -> Any:
    """Leave out the overview, which takes most of the time of a small run and is not compared."""
    return patch("napari_sam2.api.results.draw_overview", lambda *given: Path(given[-1]).touch())


class OpenProject:
    """A project as the window has it open."""

    def __init__(self, project: Any, model: Any) -> None:
        self._project = project
        self.model = model
        self.saved = np.stack([project.read_labels(frame) for frame in range(len(project.video))])
        self.view = project.view
        self.sha256 = project.model.sha256
        self.session = project.open_session(model, device="cpu")
        self.behind = project.needs_replay
        self._desk = SessionWorker(self.session, project=project)

    @property
    def labels(self) -> np.ndarray:
        """(frames, H, W) as they are now."""
        frames = range(len(self.session.video))
        return np.stack([self.session.compute_label_plane(frame) for frame in frames])

    @property
    def log(self) -> str:
        """All that was said, as JSON."""
        return format_json_log(self.session.log)

    @property
    def presence(self) -> dict[str, str]:
        """How each object is there on each frame, by "track/frame"."""
        traces = self.session.get_records()
        return {
            f"{track}/{frame}": traces[track, frame].presence.value
            for track, frame in sorted(traces)
        }

    @property
    def unfinished(self) -> bool:
        """Whether a propagation was cancelled."""
        return bool(self.session.unfinished)

    @property
    def tables(self) -> dict[str, Any]:
        """All tables."""
        found = self.session.collect_results()
        return {"objects": found.objects, "tracks": found.tracks, "counts": found.counts}

    def finish(self) -> None:
        """Propagate what was cancelled to the end."""
        self._desk.start_propagation(PropagationRequest())
        while self._desk.step() is not None:
            pass

    def undo(self) -> None:
        """Take back the last thing said, in the session."""
        self.session.undo()

    def close(self) -> None:
        """As the window closes."""
        self._desk.close()


@contextmanager
def open_project(folder: Path, model: Any = None) -> Iterator[OpenProject]:
    """A project folder opened as the window opens it."""
    opened = OpenProject(Project.open(folder), model)
    try:
        yield opened
    finally:
        opened.close()
