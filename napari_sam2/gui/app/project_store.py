"""Project folders of sessions, and the prompts that another model takes over from a session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from napari_sam2.api.project import Project
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import Lock, MaskPrompt, Prompt, PromptLog, Removal
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.io.image_reference import compute_fingerprint
from napari_sam2.io.project_file import PROJECT_FILE_NAME, is_project
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.session import Session, SessionSettings

_MAX_COPIED_BYTES = 2 << 30  # of an image that is not in a file: it is copied into the project


@dataclass(frozen=True, eq=False)
class OpenedProject:
    """A project, None if nothing can be kept; and a sentence about it for the person, or ""."""

    project: Project | None
    notice: str = ""


def get_projects_folder() -> Path:
    """Where this user's projects are (Linux: ``~/.local/share/napari-sam2/projects``)."""
    return user_data_path("napari-sam2", appauthor=False) / "projects"


def open_or_create_project(
    root: Path,
    key: SessionKey,
    video: Video,
    card: ModelCard,
    *,
    model_name: str,
    evidence: str,
    create_new: bool,
) -> OpenedProject:
    """The newest project of this session and model, or a new one with `evidence`.

    It is always a new one with `create_new`.
    """
    stem = _make_stem(key, video, card)
    found = sorted(
        (each for each in root.glob(f"{stem}*") if is_project(each)),
        key=lambda each: (each / PROJECT_FILE_NAME).stat().st_mtime,
    )
    notice = ""
    if found and not create_new:
        try:
            return reopen_project(found[-1])
        except Sam2Error as error:
            notice = (
                "The saved project of this image cannot be opened, so a new one is started: "
                f"{error}"
            )
    if not video.stack.source and _count_bytes(video) > _MAX_COPIED_BYTES:
        return OpenedProject(
            None,
            "This image is not in a file and is too large to copy into a project. Save your "
            "results before you close the window.",
        )
    try:
        folder = _find_free_folder(root, stem)
        project = Project.create(folder, video, card, name_or_path=model_name, evidence=evidence)
        return OpenedProject(project, notice)
    except Sam2Error as error:
        return OpenedProject(
            None,
            f"No project can be created, so save your results before you close the window: {error}",
        )


def reopen_project(folder: Path) -> OpenedProject:
    """The project in a folder.

    Raises FileError or OutputError if it cannot be opened.
    """
    project = Project.open(folder)
    count = len(project.log.track_ids)
    objects = f"{count} object{'s' if count != 1 else ''}"
    return OpenedProject(project, f"Restored {objects} from {folder}." if count else "")


def extract_prompts(project: Project, model: VideoModel) -> tuple[PromptLog, str]:
    """The prompts of a project whose precision `model` does not have, and a sentence about it.

    The project is closed and stays as it is.
    """
    with (
        project,
        Session(project.video, model, settings=SessionSettings(folder=project.folder)) as session,
    ):
        answered = session.find_resumable_log(project.log)
        session.resume(answered)
        complete = len(answered) == len(project.log)
        log = make_transfer_log(session) if complete else filter_prompts(project.log)
    here, there = model.card.precision, project.model.precision
    return log, (
        f"This project was computed in {there}, which is not available on this device. It stays "
        f"in {project.folder}. Your prompts were applied again in {here}."
    )


def filter_prompts(log: PromptLog) -> PromptLog:
    """Select what does not depend on a model: prompts, removals, and locks of prompted frames."""
    prompted = {(prompt.track, prompt.frame) for prompt in log.prompts}
    locks = {
        entry for entry in log if isinstance(entry, Lock) and (entry.track, entry.frame) in prompted
    }
    return PromptLog(
        tuple(entry for entry in log if isinstance(entry, Prompt | Removal) or entry in locks),
        log.tracks,
    )


def make_transfer_log(session: Session) -> PromptLog:
    """Make the log that another model starts from: prompts, and the masks of locked frames."""
    log, shape = filter_prompts(session.log), session.video.shape[1:]
    prompted = {(prompt.track, prompt.frame) for prompt in log.prompts}
    locks = {(entry.track, entry.frame) for entry in session.log if isinstance(entry, Lock)}
    for track, frame in sorted(locks - prompted):
        if not session.log.is_locked(track, frame):
            continue
        for segment in session.get_segments(frame):
            if segment.track != track or not segment.present:
                continue
            mask = compute_mask(segment, shape)
            if mask.any():
                log = log.add(MaskPrompt(frame, track, mask)).add(Lock(frame, track))
    return log


def _count_bytes(video: Video) -> int:
    data = video.stack.data
    return int(np.prod(data.shape) * np.dtype(data.dtype).itemsize)


def _make_stem(key: SessionKey, video: Video, card: ModelCard) -> str:
    selection = key.selection
    name = re.sub(r"[^\w.-]+", "_", selection.name or video.stack.name)[:40].strip("._") or "image"
    channel = "" if selection.channel is None else f"-c{selection.channel}"
    position = "".join(f"-{axis}{number}" for axis, number in key.at)
    image = compute_fingerprint(video.stack)[:8]
    model = card.sha256[:8] or card.name
    return f"{name}-{selection.along}{channel}{position}-{image}-{model}"


def _find_free_folder(root: Path, stem: str) -> Path:
    taken = {each.name for each in root.glob(f"{stem}*")}
    names = (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
    return root / next(name for name in names if name not in taken)
