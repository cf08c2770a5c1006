"""Replay a project without a window: labels, tables and pictures from its prompts."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from napari_sam2.api.project import find_steps_done, read_project
from napari_sam2.api.project_models import choose_model
from napari_sam2.api.results import JobResult, save_results, summarize_results
from napari_sam2.api.resume import UnfinishedRun, make_finished_result, make_other_job_error
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import PlanError
from napari_sam2.core.inference_options import InferenceOptions, Precision, rename_attention
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.io.output_folder import check_output, remove_leftovers
from napari_sam2.io.prompts_json import format_json_log
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.session import Session, SessionSettings

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
    check_output(target)
    remove_leftovers(target)
    report(f"project: {source}: {video.description}, {len(prompts.prompts)} prompts")
    loaded = choose_model(
        model, file.model, InferenceOptions(device), precision, allow_other=another_model
    )
    report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
    identity = _make_run_identity(video, loaded.card, file.patience, prompts)
    work = UnfinishedRun.open(target, identity, resume=resume)
    if work is None:
        _check_same_model(target, loaded.card)
        return make_finished_result(target)
    other = loaded.card.sha256 != file.model.sha256
    notes = (f"another model than the project's own ({file.model.name}) was asked for",)
    with Session(
        video,
        loaded,
        settings=SessionSettings(patience=file.patience, folder=work.folder),
        on_log_change=work.save_log,
    ) as session:
        session.resume(session.find_resumable_log(work.load_log()))
        session.replay(prompts, steps_done=find_steps_done(source, prompts), progress=progress)
        results = session.collect_results()
        report(f"writing: labels, tables and picture to {target}")
        settings = {"project": str(source)}
        save_results(
            results, target, format=format, notes=notes if other else (), settings=settings
        )
        summary = summarize_results(results)
    work.remove()
    return JobResult(target, RunState.DONE, summary)


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


def _check_same_model(folder: Path, card: ModelCard) -> None:
    """Raise PlanError if other weights or inference options made the results in a folder."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    made = {**provenance["model"], "model": provenance["model"]["sha256"]}
    if "attention" in made:
        made["attention"] = rename_attention(made["attention"])
    expected = card.inference_identity
    if {name: made.get(name, value) for name, value in expected.items()} != expected:
        raise make_other_job_error(folder)
