"""Replay a project without a window: labels, tables and pictures from its prompts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from napari_sam2.api.project import find_steps_done, read_project
from napari_sam2.api.project_models import choose_model
from napari_sam2.api.results import JobResult, save_results, summarize_results
from napari_sam2.api.resume import (
    OutputRun,
    UnfinishedRun,
    make_evidence,
    make_other_job_error,
    read_provenance,
)
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import PlanError
from napari_sam2.core.inference_options import InferenceOptions, Precision, rename_attention
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.io.prompts_json import format_json_log
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.session import Session, SessionSettings, describe_evidence

log = logging.getLogger(__name__)


def replay_project(
    folder: Path | str,
    out: Path | str,
    *,
    image: Path | str | None = None,
    model: VideoModel | str | Path | None = None,
    another_model: bool = False,
    device: str = "auto",
    precision: Precision | None = None,
    format: Literal["tiff", "zarr"] = "tiff",
    resume: bool = False,
    progress: Progress | None = None,
    report: Callable[[str], None] = log.info,
) -> JobResult:
    """Execute a project's prompts and write labels, tables and pictures as `run_job` does.

    The project itself is only read. Propagations that were cancelled are cancelled after the same
    step again.

    Parameters
    ----------
    folder, out
        The project, and the folder for the results.
    image
        Where the image is now, if it was moved.
    model
        Another model than the project's own, by name or file; or a loaded one, e.g. a remote one.
    another_model
        Accept a loaded model with other weights than the project's.
    device, precision
        The device, and a precision that overrides the project's.
    resume
        Continue an interrupted replay.
    progress, report
        Called after each frame, and with one line before each part of the work.

    Raises
    ------
    Sam2Error
        Any of `core.errors`; `PlanError` for a project without prompts.
    """
    source, target = Path(folder).absolute(), Path(out)
    file, video, prompts = read_project(source, image)
    if not prompts.prompts:
        raise PlanError(f"{source}: holds no prompts: there is nothing to replay")

    evidence = make_evidence(video, file.evidence, InferenceOptions(device))

    @cache
    def load_model() -> VideoModel:
        report(f"project: {source}: {video.description}, {len(prompts.prompts)} prompts")
        options = InferenceOptions(device)
        loaded = choose_model(model, file.model, options, precision, allow_other=another_model)
        report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
        return loaded

    def execute(loaded: VideoModel, work: UnfinishedRun) -> JobResult:
        other = loaded.card.sha256 != file.model.sha256
        note = f"another model than the project's own ({file.model.name}) was asked for"
        settings = SessionSettings(
            patience=file.patience, folder=work.folder, evidence=file.evidence
        )
        with Session(
            video,
            loaded,
            settings=settings,
            on_log_change=work.save_log,
            evidence=evidence,
        ) as session:
            session.resume(session.find_resumable_log(work.load_log()))
            session.replay(prompts, steps_done=find_steps_done(source, prompts), progress=progress)
            results = session.collect_results()
            report(f"writing: labels, tables and picture to {target}")
            save_results(
                results,
                target,
                format=format,
                notes=(note,) if other else (),
                settings={"project": str(source)},
            )
            return JobResult(target, RunState.DONE, summarize_results(results))

    return OutputRun(
        target,
        resume,
        lambda: _is_finished(target, load_model().card),
        load_model,
        lambda card: {
            **_make_run_identity(video, card, file.patience, prompts),
            **describe_evidence(evidence, file.evidence),
        },
    ).execute(execute)


def _make_run_identity(
    video: Video, card: ModelCard, patience: int | None, prompts: PromptLog
) -> dict[str, Any]:
    """What an interrupted replay and its continuation must have in common."""
    return {
        "video": video.identity,
        **card.inference_identity,
        "patience": patience,
        "prompts": hashlib.sha256(format_json_log(prompts).encode()).hexdigest(),
    }


def _is_finished(folder: Path, card: ModelCard) -> bool:
    """Whether a folder holds results; PlanError if another model or other options made them."""
    provenance = read_provenance(folder)
    if provenance is None:
        return False
    made = {**provenance["model"], "model": provenance["model"]["sha256"]}
    if "attention" in made:
        made["attention"] = rename_attention(made["attention"])
    expected = card.inference_identity
    if {name: made.get(name, value) for name, value in expected.items()} != expected:
        raise make_other_job_error(folder)
    return True
