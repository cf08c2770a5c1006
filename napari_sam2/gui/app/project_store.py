"""Keeping: the project folder of a place, so that nothing is lost when a window closes or a computer stops."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from napari_sam2.api.project import Project
from napari_sam2.api.session import Session
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.video import Video
from napari_sam2.gui.app.session_worker import handed_over, prompts_only
from napari_sam2.gui.app.view import Place
from napari_sam2.io.project import PROJECT, fingerprint, is_project
from napari_sam2.propagation.session import Settings

_MOST_BYTES = 2 << 30  # of an image that no file holds: it is copied into the project


def projects() -> Path:
    """Where the projects of this user are kept (Linux: ``~/.local/share/napari-sam2/projects``)."""
    return user_data_path("napari-sam2", appauthor=False) / "projects"


def kept(
    root: Path, place: Place, video: Video, card: ModelCard, *, asked: str, anew: bool
) -> tuple[Project | None, str]:
    """The newest project of this place and model, or a new one; and a sentence for the person, "" where there is nothing to say.

    With `anew` always a new one. None where it cannot be kept; the sentence says why.
    """
    stem = _stem(place, video, card)
    found = sorted(
        (each for each in root.glob(f"{stem}*") if is_project(each)),
        key=lambda each: (each / PROJECT).stat().st_mtime,
    )
    notice = ""
    if found and not anew:
        try:
            project = Project.open(found[-1])
        except Sam2Error as error:
            notice = (
                f"What was kept of this image cannot be opened, and a new start is made: {error}"
            )
        else:
            return project, _found(project)
    if (
        not video.stack.source
        and np.prod(video.stack.data.shape) * np.dtype(video.stack.data.dtype).itemsize
        > _MOST_BYTES
    ):
        return (
            None,
            (
                "This image is in no file and too large to be copied: save your results before you "
                "close the window."
            ),
        )
    try:
        return Project.create(_free(root, stem), video, card, asked=asked), notice
    except Sam2Error as error:
        return (
            None,
            f"Nothing can be kept, so save your results before you close the window: {error}",
        )


def taken_up(folder: Path) -> tuple[Project, str]:
    """The project that a person opened, and a sentence.

    Raises FileError or OutputError where that cannot be.
    """
    project = Project.open(folder)
    return project, _found(project)


def left_there(project: Project, model: VideoModel) -> tuple[PromptLog, str]:
    """What is to be said again where the model cannot compute as a project was, and a sentence.

    The project is closed, and stays.
    """
    with (
        project,
        Session(project.video, model, settings=Settings(folder=project.folder)) as session,
    ):
        answered = session.resumable(project.log)
        session.resume(answered)
        log = (
            handed_over(session) if len(answered) == len(project.log) else prompts_only(project.log)
        )
    here, there = model.card.precision, project.model.precision
    return (
        log,
        (
            f"This was computed in {there}, which is not to be had here: it is kept in "
            f"{project.folder}, and asked again in {here}."
        ),
    )


def _found(project: Project) -> str:
    count = len(project.log.track_ids)
    return (
        f"{count} object{'s' if count != 1 else ''} from last time, kept in {project.folder}"
        if count
        else ""
    )


def _stem(place: Place, video: Video, card: ModelCard) -> str:
    choice = place.choice
    name = re.sub(r"[^\w.-]+", "_", choice.name or video.stack.name)[:40].strip("._") or "image"
    where = "".join(f"-{axis}{number}" for axis, number in place.at)
    channel = "" if choice.channel is None else f"-c{choice.channel}"
    return f"{name}-{choice.along}{channel}{where}-{fingerprint(video.stack)[:8]}-{card.sha256[:8] or card.name}"


def _free(root: Path, stem: str) -> Path:
    taken = {each.name for each in root.glob(f"{stem}*")}
    return root / next(
        name
        for name in (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
        if name not in taken
    )
