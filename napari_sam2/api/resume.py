"""Headless runs in an output folder that can be resumed after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from napari_sam2.api.results import JobResult
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import PlanError
from napari_sam2.core.inference_options import InferenceOptions, parse_evidence, rename_attention
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import ObjectEvidence, VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.detection.evidence import VideoEvidence
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.io.output_folder import check_output, lock_folder, remove_leftovers
from napari_sam2.io.prompts import read_prompts, write_prompts
from napari_sam2.io.tables import write_json
from napari_sam2.propagation.run_state import RunState

RESUME_FOLDER = ".napari-sam2"
"""Folder inside ``--out`` that holds an unfinished run; removed when the run is finished."""


@dataclass(frozen=True)
class UnfinishedRun:
    """The work folder of a run: its segments, its log, and what it is a run of."""

    folder: Path

    @classmethod
    def open(cls, out: Path, identity: Mapping[str, Any], *, resume: bool) -> Self | None:
        """The unfinished run in `out`, or a new one; None if the run to resume is finished.

        Raises PlanError if the unfinished run has another `identity`.
        """
        work = cls(out / RESUME_FOLDER)
        if resume and (work.folder / "job.json").is_file():
            before = json.loads((work.folder / "job.json").read_text())
            if "attention" in before:
                before["attention"] = rename_attention(before["attention"])
            if before != json.loads(json.dumps(identity)):
                raise PlanError(
                    f"{out} holds an unfinished run of another input, model or setting: give the "
                    "same, or leave out --resume"
                )
            return work
        if resume and (out / "provenance.json").exists():
            return None
        work.remove()
        work.folder.mkdir(parents=True)
        write_json(identity, work.folder / "job.json")
        return work

    def save_log(self, log: PromptLog) -> None:
        """Save the log."""
        write_prompts(log, self.folder / "prompts.json")

    def load_log(self) -> PromptLog:
        """The saved log; an empty one if there is none."""
        path = self.folder / "prompts.json"
        return read_prompts(path) if path.exists() else PromptLog()

    def remove_if_empty(self) -> None:
        """Remove the work folder if nothing was detected or prompted yet."""
        names = {path.name for path in self.folder.iterdir()}
        if all(name == "job.json" or name.startswith("trail.sqlite") for name in names):
            self.remove()

    def remove(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class OutputRun:
    """A run whose results go to a folder: the steps that all headless runs share.

    Parameters
    ----------
    out
        Output folder.
    resume
        Continue an interrupted run of the same identity.
    is_finished
        Whether `out` holds the results of this very run already; raises PlanError if it holds
        those of another.
    load_model
        Loads the model, once it is needed.
    make_identity
        What an interrupted run and its continuation must have in common.
    """

    out: Path
    resume: bool
    is_finished: Callable[[], bool]
    load_model: Callable[[], VideoModel]
    make_identity: Callable[[ModelCard], Mapping[str, Any]]

    def execute(self, work: Callable[[VideoModel, UnfinishedRun], JobResult]) -> JobResult:
        """Do `work` in a locked folder, and remove the work folder when it is finished.

        A run that is finished already is not done again. Raises OutputError if the folder cannot be
        written, or another run is writing there.
        """
        check_output(self.out)
        with lock_folder(self.out):
            if self.resume and self.is_finished():
                return make_finished_result(self.out)
            remove_leftovers(self.out)
            model = self.load_model()
            unfinished = UnfinishedRun.open(
                self.out, self.make_identity(model.card), resume=self.resume
            )
            if unfinished is None:
                return make_finished_result(self.out)
            try:
                result = work(model, unfinished)
            except ValueError:
                unfinished.remove_if_empty()  # a wrong option or input leaves nothing
                raise
            unfinished.remove()
            return result


def make_finished_result(folder: Path) -> JobResult:
    """The result of resuming a finished run."""
    return JobResult(folder, RunState.DONE, f"{folder} is finished already: nothing to resume")


def make_other_job_error(folder: Path) -> PlanError:
    """Error for a run to be resumed in a folder with the results of another one."""
    return PlanError(
        f"{folder} holds the results of another job: choose another folder, or leave out "
        "--resume to replace them"
    )


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Provenance of the finished run in a folder; None if there is no such run."""
    path = folder / "provenance.json"
    if (folder / RESUME_FOLDER).is_dir() or not path.exists():
        return None
    return dict(json.loads(path.read_text(encoding="utf-8")))


def load_named_model(name: str, options: InferenceOptions) -> VideoModel:
    """A model by name; see `load_model`."""
    from napari_sam2.models.load import load_model  # torch takes seconds to import

    return load_model(name, options=options)


def make_evidence(video: Video, parts: str, options: InferenceOptions) -> ObjectEvidence | None:
    """What the embedded model's detector sees of a video, for any model; None for "none".

    Nothing is detected before it is asked for.
    """
    if not parse_evidence(parts):
        return None
    from napari_sam2.models.load import load_detector  # torch takes seconds to import

    maps = load_detector(options=InferenceOptions(device=options.device))
    return VideoEvidence(LearnedDetector(DetectionOptions(maps=maps)), video)
