"""Project: a session in a folder that is saved as it changes and can be opened again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Self

import numpy as np
from filelock import FileLock, Timeout
from pydantic import JsonValue

from napari_sam2.api.project_models import (
    load_project_model,
    make_other_model_error,
    reconfigure_model,
)
from napari_sam2.api.resume import make_evidence
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import FileError, OutputError
from napari_sam2.core.files.atomic import remove_path
from napari_sam2.core.inference_options import InferenceOptions, Precision
from napari_sam2.core.prompt import PromptLog, check_prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.core.track import MAX_TRACK
from napari_sam2.io.image_reference import ImageReference
from napari_sam2.io.output_folder import check_output, remove_leftovers
from napari_sam2.io.project_file import ModelReference, ProjectFile, VideoSettings, is_project
from napari_sam2.io.prompts import read_prompts, write_prompts
from napari_sam2.io.writers.project_labels import ProjectLabels
from napari_sam2.io.writers.sinks import LabelSpec
from napari_sam2.propagation.run_state import Progress
from napari_sam2.propagation.segment_store import SegmentStore
from napari_sam2.propagation.session import SEGMENT_STORE_FILE_NAME, Session, SessionSettings

log = logging.getLogger(__name__)

PROMPTS_FILE_NAME = "prompts.json"
LOCK_FILE_NAME = ".lock"

EMBEDDING_DISK_BYTES = 8 << 30
"""Disk for image features in a project: 500 frames of 1024 × 1024 pixels with SAM 2.1."""


class Project:
    """A session in a folder; made by `create` or `open`, and closed by `close`.

    The folder holds ``project.json`` (image, axis, model), ``prompts.json`` (written with each
    prompt), ``trail.sqlite`` (the segments, written with each frame) and ``labels.ome.zarr``
    (the planes given to `put_labels`, written by `save`). If the program is killed at any moment,
    `open` and `open_session` continue from there. One program at a time may have a project open.

    On a CPU, a model that encodes whole frames takes seconds per frame. Its image features are
    then kept in ``embeddings`` for corrections; that folder may be removed.
    """

    def __init__(
        self, folder: Path, file: ProjectFile, video: Video, prompts: PromptLog, lock: FileLock
    ) -> None:
        self.folder, self.video = folder, video
        self._file, self._saved = file, file
        self._log = prompts
        self._lock = lock
        self._state_lock, self._save_lock = RLock(), RLock()
        self._needs_replay = False
        self._steps_done: Mapping[int, int] = {}
        self._changed_planes: dict[int, np.ndarray] = {}
        # uint32, because the number of tracks is not known yet
        self._labels = ProjectLabels(folder, LabelSpec.of(video, MAX_TRACK))

    @classmethod
    def create(
        cls,
        folder: Path | str,
        video: Video,
        card: ModelCard,
        *,
        name_or_path: str | Path | None = None,
        patience: int | None = 8,
        evidence: str = "none",
    ) -> Self:
        """Create a project of a video and a model.

        An image that is in no file (or in none that reads the same) is copied into the folder.

        Parameters
        ----------
        name_or_path
            What the model was loaded by, if it is not the name on its card.
        patience
            See `SessionSettings`.
        evidence
            What the learned detector is used for: "all", "none", or some of "click", "presence",
            "mask" and "review" with commas. The project keeps it.

        Raises
        ------
        OutputError
            The folder cannot be written to, or is a project already.
        """
        path = Path(folder).absolute()
        if is_project(path):
            raise OutputError(f"{path}: is a project already: open it, or choose another folder")
        check_output(path)
        lock = _acquire_lock(path)
        try:
            file = ProjectFile(
                image=ImageReference.of(video.stack, path),
                video=VideoSettings.of(video),
                model=ModelReference.of(card, name_or_path),
                patience=patience,
                evidence=evidence,
            )
            write_prompts(PromptLog(), path / PROMPTS_FILE_NAME)
            file.write(path)  # last, because a folder without it is not a project
        except BaseException:
            lock.release()
            raise
        return cls(path, file, video, PromptLog(), lock)

    @classmethod
    def open(cls, folder: Path | str, *, image: Path | str | None = None) -> Self:
        """Open an existing project; its image is found relative to it, or given by `image`.

        Raises
        ------
        FileError
            The folder is not a project, or its image is missing or another one.
        OutputError
            Another program has the project open, or the folder cannot be written to.
        """
        path = Path(folder).absolute()
        file, video, prompts = read_project(path, image)
        lock = _acquire_lock(path)
        remove_leftovers(path)
        project = cls(path, file, video, prompts, lock)
        if video.stack.source and video.stack.source != file.image.path:
            project._file = file.model_copy(
                update={"image": _relocate_image(file.image, video, path)}
            )
        return project

    @property
    def log(self) -> PromptLog:
        """The log as it is in the folder."""
        return self._log

    @property
    def model(self) -> ModelReference:
        """The model of the project."""
        return self._file.model

    @property
    def evidence(self) -> str:
        """What detections are used for in this project; see `create`."""
        return self._file.evidence

    @property
    def view(self) -> dict[str, JsonValue]:
        """Whatever the window wants to restore."""
        return dict(self._file.view)

    @view.setter
    def view(self, view: dict[str, JsonValue]) -> None:
        self._file = self._file.model_copy(update={"view": dict(view)})

    def open_session(
        self,
        model: VideoModel | None = None,
        *,
        device: str = "auto",
        precision: Precision | None = None,
        another_model: bool = False,
        name_or_path: str | Path | None = None,
    ) -> Session:
        """Open the session as it was left, with the segments in the folder.

        Parameters
        ----------
        model
            The project's own model is loaded if none is given.
        device, precision
            The device, and a precision that overrides the project's.
        another_model
            Accept a model with other weights; `name_or_path` is what it was loaded by. After that,
            `needs_replay` is True.

        Raises
        ------
        ModelError
            A model with other weights, without `another_model`.
        DeviceError
            The device cannot compute in the precision.
        """
        reference = self.model
        found = model or load_project_model(reference, device, precision)
        if found.card.sha256 != reference.sha256:
            if not another_model:
                raise make_other_model_error(found.card, reference, "ask for it")
            reference = ModelReference.of(found.card, name_or_path)
        found = reconfigure_model(found, reference, precision)
        reference = reference.model_copy(update={"precision": precision or reference.precision})
        if reference != self.model:
            self._change_model(reference)
        # on a GPU, reading image features takes as long as encoding a frame
        slow_to_encode = found.device == "cpu" and not found.card.object_crops
        settings = SessionSettings(
            patience=self._file.patience,
            folder=self.folder,
            embedding_disk_bytes=EMBEDDING_DISK_BYTES if slow_to_encode else 0,
            evidence=self.evidence,
        )
        session = Session(
            self.video,
            found,
            settings=settings,
            on_log_change=self.save_log,
            evidence=make_evidence(self.video, self.evidence, InferenceOptions(device)),
        )
        resumable = session.find_resumable_log(self._log)
        self._needs_replay = len(resumable) < len(self._log)
        session.resume(resumable)
        return session

    @property
    def needs_replay(self) -> bool:
        """Whether `replay_missing` must be called before any new prompt."""
        return self._needs_replay

    def replay_missing(self, session: Session, progress: Progress | None = None) -> None:
        """Replay in `session` the log entries whose segments are not in the folder."""
        session.replay(self._log, steps_done=self._steps_done, progress=progress)
        self._needs_replay = False

    def save_log(self, prompts: PromptLog) -> None:
        """Write the log at once, because segments without their log entry are deleted on `open`.

        A session calls this by itself.
        """
        with self._state_lock:
            if (
                self._needs_replay
                and len(prompts) < len(self._log)
                and prompts.entries == self._log.entries[: len(prompts)]
            ):
                return  # a replay in progress: the whole log stays in the folder
            self._needs_replay = self._needs_replay and len(prompts) < len(self._log)
            self._log = prompts
            write_prompts(prompts, self.folder / PROMPTS_FILE_NAME)

    def put_labels(self, frame: int, plane: np.ndarray) -> None:
        """Set the (H, W) labels of a frame; the next `save` writes them."""
        with self._state_lock:
            self._changed_planes[frame] = np.array(plane)

    def save(self) -> int:
        """Write what changed since the last save, each file as a whole or not at all.

        A plane takes some milliseconds: call this on a worker thread. `save_log` and `put_labels`
        do not wait for it.

        Returns
        -------
        int
            Number of files and planes written.

        Raises
        ------
        OutputError
            The folder cannot be written to; the next call tries again.
        """
        with self._save_lock:
            with self._state_lock:
                file, planes, self._changed_planes = self._file, self._changed_planes, {}
            written = 0
            try:
                if file != self._saved:
                    file.write(self.folder)
                    self._saved, written = file, 1
                for frame in list(planes):
                    written += self._labels.put(frame, planes[frame])
                    del planes[frame]
            finally:
                with self._state_lock:
                    self._changed_planes = {**planes, **self._changed_planes}
        return written

    def read_labels(self, frame: int) -> np.ndarray:
        """(H, W) uint32 labels of a frame as they were saved last."""
        return self._labels.get(frame)

    def close(self) -> None:
        """Save, and let other programs open the project."""
        try:
            self.save()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _change_model(self, model: ModelReference) -> None:
        """Delete the segments of the old model; the log stays and is replayed."""
        self._steps_done = find_steps_done(self.folder, self._log)
        self._file = self._file.model_copy(update={"model": model})
        self.save()
        for path in self.folder.glob(f"{SEGMENT_STORE_FILE_NAME}*"):
            remove_path(path)


def read_project(
    folder: Path, image: Path | str | None = None
) -> tuple[ProjectFile, Video, PromptLog]:
    """The file, video and log of a project; see `Project.open` for `image` and errors."""
    file = ProjectFile.read(folder)
    try:
        stack = file.image.open(folder, image)
    except FileError as error:
        raise FileError(f"project {folder}: {error}") from error
    video = file.video.make_video(stack)
    prompts = read_prompts(folder / PROMPTS_FILE_NAME)
    for prompt in prompts.prompts:
        check_prompt(prompt, video.shape)
    return file, video, prompts


def find_steps_done(folder: Path, prompts: PromptLog) -> dict[int, int]:
    """Steps done, by log entry, of cancelled propagations; empty if there are no segments."""
    path = folder / SEGMENT_STORE_FILE_NAME
    if not path.is_file():
        return {}
    store = SegmentStore(path)
    try:
        return store.find_steps_done(prompts) if store.count_entries() else {}
    finally:
        store.close()


def _relocate_image(reference: ImageReference, video: Video, folder: Path) -> ImageReference:
    """The reference to an image that was found in another place."""
    found = ImageReference.of(video.stack, folder)
    return reference.model_copy(
        update={"path": found.path, "relative": found.relative, "name": found.name}
    )


def _acquire_lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK_FILE_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"{folder}: is open in another window or program: close it there first"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}): copy the project to a "
            "folder of your own"
        ) from error
    return lock
