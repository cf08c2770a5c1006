"""Keeping: the project folder of a place, so that nothing is lost when a window closes or a computer stops."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from napari_sam2.api.project import Project
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.gui.app.session_worker import filter_prompts, make_transfer_log
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.io.image_reference import compute_fingerprint
from napari_sam2.io.project_file import PROJECT_FILE_NAME, is_project
from napari_sam2.propagation.session import Session, SessionSettings

_MAX_COPIED_BYTES = 2 << 30  # of an image that no file holds: it is copied into the project


def get_projects_folder() -> Path:
    """Where the projects of this user are kept (Linux: ``~/.local/share/napari-sam2/projects``)."""
    return user_data_path("napari-sam2", appauthor=False) / "projects"


def open_or_create_project(
    root: Path, key: SessionKey, video: Video, card: ModelCard, *, model_name: str, create_new: bool
) -> tuple[Project | None, str]:
    """The newest project of this place and model, or a new one; and a sentence for the person, "" where there is nothing to say.

    With `create_new` always a new one. None where it cannot be kept; the sentence says why.
    """
    stem = _make_stem(key, video, card)
    found = sorted(
        (each for each in root.glob(f"{stem}*") if is_project(each)),
        key=lambda each: (each / PROJECT_FILE_NAME).stat().st_mtime,
    )
    notice = ""
    if found and not create_new:
        try:
            project = Project.open(found[-1])
        except Sam2Error as error:
            notice = (
                f"What was kept of this image cannot be opened, and a new start is made: {error}"
            )
        else:
            return project, _describe_project(project)
    if (
        not video.stack.source
        and np.prod(video.stack.data.shape) * np.dtype(video.stack.data.dtype).itemsize
        > _MAX_COPIED_BYTES
    ):
        return (
            None,
            (
                "This image is in no file and too large to be copied: save your results before you "
                "close the window."
            ),
        )
    try:
        return Project.create(
            _find_free_folder(root, stem), video, card, name_or_path=model_name
        ), notice
    except Sam2Error as error:
        return (
            None,
            f"Nothing can be kept, so save your results before you close the window: {error}",
        )


def reopen_project(folder: Path) -> tuple[Project, str]:
    """The project that a person opened, and a sentence.

    Raises FileError or OutputError where that cannot be.
    """
    project = Project.open(folder)
    return project, _describe_project(project)


def prompts_to_replay(project: Project, model: VideoModel) -> tuple[PromptLog, str]:
    """What is to be said again where the model cannot compute as a project was, and a sentence.

    The project is closed, and stays.
    """
    with (
        project,
        Session(project.video, model, settings=SessionSettings(folder=project.folder)) as session,
    ):
        answered = session.find_resumable_log(project.log)
        session.resume(answered)
        log = (
            make_transfer_log(session)
            if len(answered) == len(project.log)
            else filter_prompts(project.log)
        )
    here, there = model.card.precision, project.model.precision
    return (
        log,
        (
            f"This was computed in {there}, which is not to be had here: it is kept in "
            f"{project.folder}, and asked again in {here}."
        ),
    )


def _describe_project(project: Project) -> str:
    count = len(project.log.track_ids)
    return (
        f"{count} object{'s' if count != 1 else ''} from last time, kept in {project.folder}"
        if count
        else ""
    )


def _make_stem(key: SessionKey, video: Video, card: ModelCard) -> str:
    choice = key.selection
    name = re.sub(r"[^\w.-]+", "_", choice.name or video.stack.name)[:40].strip("._") or "image"
    where = "".join(f"-{axis}{number}" for axis, number in key.at)
    channel = "" if choice.channel is None else f"-c{choice.channel}"
    return f"{name}-{choice.along}{channel}{where}-{compute_fingerprint(video.stack)[:8]}-{card.sha256[:8] or card.name}"


def _find_free_folder(root: Path, stem: str) -> Path:
    taken = {each.name for each in root.glob(f"{stem}*")}
    return root / next(
        name
        for name in (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
        if name not in taken
    )
