"""Project: a session in a folder.

Saved as it goes, opened again after a crash or elsewhere, replayed without a window.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Literal, Self

import numpy as np
from filelock import FileLock, Timeout
from pydantic import JsonValue

from napari_sam2.api.job import (
    JobResult,
    make_finished_result,
    make_other_job_error,
    save_results,
    summarize_results,
)
from napari_sam2.api.resume import UnfinishedRun
from napari_sam2.core.atomic import remove_path
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import (
    DeviceError,
    FileError,
    ModelError,
    OutputError,
    PlanError,
    Sam2Error,
    UnknownModelError,
)
from napari_sam2.core.inference_options import InferenceOptions, Precision, rename_attention
from napari_sam2.core.prompt import PromptLog, check_prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.core.track import MAX_TRACK
from napari_sam2.io.image_reference import ImageReference
from napari_sam2.io.output_folder import check_output, remove_leftovers
from napari_sam2.io.project_file import ModelReference, ProjectFile, VideoSettings, is_project
from napari_sam2.io.prompts import read_prompts, write_prompts
from napari_sam2.io.prompts_json import format_json_log
from napari_sam2.io.writers.project_labels import ProjectLabels
from napari_sam2.io.writers.sinks import LabelSpec
from napari_sam2.models.device import choose_device, describe_device
from napari_sam2.models.weights.cards import find_models
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.segment_store import SegmentStore
from napari_sam2.propagation.session import Session, SessionSettings

log = logging.getLogger(__name__)

PROMPTS, SEGMENT_STORE, LOCK = "prompts.json", "trail.sqlite", ".lock"

EMBEDDING_DISK_BYTES = 8 << 30
"""Disk that what a model made of frames may take in a project: 500 frames of 1024 × 1024 by SAM 2.1."""


class Project:
    """A session in a folder; made by `create` or `open`, and closed by `close`.

    In the folder: ``project.json`` (image, walk, model), ``prompts.json`` (written at once, with
    each prompt), ``trail.sqlite`` (the answers, each frame as it is done) and ``labels.ome.zarr``
    (what `put_labels` was given, on `save`). What was killed at any moment is taken up again by `open` and
    `session`. One program at a time may have it open. Where the processor encodes whole frames,
    which takes it seconds for each, ``embeddings`` keeps them for corrections; it may be removed.
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
        self._stops: Mapping[int, int] = {}
        self._changed_planes: dict[int, np.ndarray] = {}
        self._labels = ProjectLabels(
            folder, LabelSpec.of(video, MAX_TRACK)
        )  # uint32: nobody knows how many there will be

    @classmethod
    def create(
        cls,
        folder: Path | str,
        video: Video,
        card: ModelCard,
        *,
        name_or_path: str | Path | None = None,
        patience: int | None = 8,
    ) -> Self:
        """A new project of a video and a model, `name_or_path` being what that was loaded by.

        An image that no file holds (or none that reads the same) is copied into the folder. Raises
        OutputError where that cannot be written, or is a project already.
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
            )
            write_prompts(PromptLog(), path / PROMPTS)
            file.write(path)  # last: a folder without it is no project
        except BaseException:
            lock.release()
            raise
        return cls(path, file, video, PromptLog(), lock)

    @classmethod
    def open(cls, folder: Path | str, *, image: Path | str | None = None) -> Self:
        """A project that is there. Its image is found relative to it, or at `image`.

        Raises FileError where it is no project, or the image is not there or another one;
        OutputError where another program has it open, or the folder cannot be written to.
        """
        path = Path(folder).absolute()
        file, video, prompts = _read_project(path, image)
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
        """All that was said, as it is in the folder."""
        return self._log

    @property
    def model(self) -> ModelReference:
        """The model it is made with."""
        return self._file.model

    @property
    def view(self) -> dict[str, JsonValue]:
        """What the window wants to find again."""
        return dict(self._file.view)

    @view.setter
    def view(self, view: dict[str, JsonValue]) -> None:
        self._file = self._file.model_copy(update={"view": dict(view)})

    def session(
        self,
        model: VideoModel | None = None,
        *,
        device: str = "auto",
        precision: Precision | None = None,
        another_model: bool = False,
        name_or_path: str | Path | None = None,
    ) -> Session:
        """The session as it was left, its answers read from the folder.

        The model is loaded where none is given.

        `another_model` takes a model that is not the one of the project (`name_or_path` being what it was
        loaded by), `precision` another than the project's own; then, and where answers are missing
        in the folder, `replay_missing` has something to do. Raises ModelError for another model that was
        not asked for, DeviceError where the device does not compute in the precision.
        """
        own = self.model
        found = model or _load_project_model(own, device, precision)
        if found.card.sha256 != own.sha256:
            if not another_model:
                raise _make_other_model_error(found.card, own, "ask for it")
            own = ModelReference.of(found.card, name_or_path)
        found = _reconfigure_model(found, own, precision)
        own = own.model_copy(update={"precision": precision or own.precision})
        if own != self.model:
            self._change_model(own)
        encodes = (
            found.device == "cpu" and not found.card.object_crops
        )  # seconds a frame; on a GPU, reading takes as long
        settings = SessionSettings(
            patience=self._file.patience,
            folder=self.folder,
            embedding_disk_bytes=EMBEDDING_DISK_BYTES * encodes,
        )
        session = Session(self.video, found, settings=settings, on_log_change=self.save_log)
        answered = session.find_resumable_log(self._log)
        self._needs_replay = len(answered) < len(self._log)
        session.resume(answered)
        return session

    @property
    def needs_replay(self) -> bool:
        """Whether `replay_missing` has something to do before anything else may be said."""
        return self._needs_replay

    def replay_missing(self, session: Session, progress: Progress | None = None) -> None:
        """Replay in `session` what the log says and the folder has no answers to."""
        session.replay(self._log, steps_done=self._stops, progress=progress)
        self._needs_replay = False

    def save_log(self, prompts: PromptLog) -> None:
        """Write the log at once: answers in the trail without it would be forgotten.

        A session does this by itself.
        """
        with self._state_lock:
            if (
                self._needs_replay
                and len(prompts) < len(self._log)
                and prompts.entries == self._log.entries[: len(prompts)]
            ):
                return  # replayed so far: the whole log stays in the folder
            self._needs_replay = self._needs_replay and len(prompts) < len(self._log)
            self._log = prompts
            write_prompts(prompts, self.folder / PROMPTS)

    def put_labels(self, frame: int, plane: np.ndarray) -> None:
        """The (H, W) labels of a frame as they are now, to be written by the next `save`."""
        with self._state_lock:
            self._changed_planes[frame] = np.array(plane)

    def save(self) -> int:
        """Write what changed since the last time, each file whole or not at all: how many files and planes that were.

        Cheap where nothing did, but a plane takes some milliseconds: for the working thread, where
        `save_log` and `put_labels` do not wait for it. Raises OutputError where nothing can be written; then
        it is tried again the next time.
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
        """Save, and let other programs open it."""
        try:
            self.save()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _change_model(self, model: ModelReference) -> None:
        """Forget the answers of the old model; the log stays, and is caught up with."""
        self._stops = _read_stops(self.folder, self._log)
        self._file = self._file.model_copy(update={"model": model})
        self.save()
        for left in self.folder.glob(f"{SEGMENT_STORE}*"):
            remove_path(left)


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
    """Do again, without a window, all that a project says, and write labels, tables and pictures to `out` as `run_job` does.

    The project is only read. `image` is where its image is now; `model` another model than its own,
    by name or file, or one that is loaded already, such as a remote one: that is refused if it is
    another, unless `another_model` asks for it. `precision` is another than the project's own.
    Propagations that were cancelled are cancelled where they were. Raises the errors of
    `core.errors`.
    """
    where, target = Path(folder).absolute(), Path(out)
    file, video, prompts = _read_project(where, image)
    if not prompts.prompts:
        raise PlanError(f"{where}: holds no prompts: there is nothing to replay")
    check_output(target)
    remove_leftovers(target)
    report(f"project: {where}: {video.description}, {len(prompts.prompts)} prompts")
    loaded = _choose_model(model, file.model, device, precision, allow_other=another_model)
    report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
    stops = _read_stops(where, prompts)
    said = hashlib.sha256(format_json_log(prompts).encode()).hexdigest()
    same = {
        "video": video.identity,
        **loaded.card.inference_identity,
        "patience": file.patience,
        "prompts": said,
    }
    work = UnfinishedRun.open(target, same, resume=resume)
    if work is None:
        _check_same_model(target, loaded.card)
        return make_finished_result(target)
    with Session(
        video,
        loaded,
        settings=SessionSettings(patience=file.patience, folder=work.folder),
        on_log_change=work.save_log,
    ) as session:
        session.resume(session.find_resumable_log(work.load_log()))
        session.replay(prompts, steps_done=stops, progress=progress)
        results = session.collect_results()
        report(f"writing: labels, tables and picture to {target}")
        another = loaded.card.sha256 != file.model.sha256
        notes = (
            (f"another model than the project's own ({file.model.name}) was asked for",)
            if another
            else ()
        )
        save_results(results, target, format=format, notes=notes, settings={"project": str(where)})
        summary = summarize_results(results)
    work.remove()
    return JobResult(target, RunState.DONE, summary)


def _read_project(folder: Path, image: Path | str | None) -> tuple[ProjectFile, Video, PromptLog]:
    """What a project folder says, its image found and checked, its prompts checked against it."""
    file = ProjectFile.read(folder)
    try:
        stack = file.image.open(folder, image)
    except FileError as error:
        raise FileError(f"project {folder}: {error}") from error
    video = file.video.make_video(stack)
    prompts = read_prompts(folder / PROMPTS)
    for prompt in prompts.prompts:
        check_prompt(prompt, video.shape)
    return file, video, prompts


def _check_same_model(folder: Path, card: ModelCard) -> None:
    """Raise PlanError where the results in a folder were made by another model, or by one that looks or computes another way."""
    made = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["model"]
    made = {**made, "model": made["sha256"]}
    if "attention" in made:
        made["attention"] = rename_attention(made["attention"])
    same = card.inference_identity
    if {name: made.get(name, now) for name, now in same.items()} != same:
        raise make_other_job_error(folder)


def _relocate_image(reference: ImageReference, video: Video, folder: Path) -> ImageReference:
    """The reference to an image that was found in another place."""
    found = ImageReference.of(video.stack, folder)
    return reference.model_copy(
        update={"path": found.path, "relative": found.relative, "name": found.name}
    )


def _read_stops(folder: Path, prompts: PromptLog) -> dict[int, int]:
    """Where propagations were cancelled; nothing where the answers are not in the folder."""
    if not (folder / SEGMENT_STORE).is_file():
        return {}
    trail = SegmentStore(folder / SEGMENT_STORE)
    try:
        return trail.find_steps_done(prompts) if trail.count_entries() else {}
    finally:
        trail.close()


def _load_model(model: str | Path, options: InferenceOptions) -> VideoModel:
    from napari_sam2.models.load import (
        load_model,
    )  # torch: seconds that a window which opens need not wait

    return load_model(model, options=options)


def _reconfigure_model(
    model: VideoModel, reference: ModelReference, precision: Precision | None
) -> VideoModel:
    """A model that looks at tracks as a project says, and computes in the project's precision or another one."""
    from napari_sam2.models.load import reconfigure

    with _explain_precision_error(precision):
        options = reference.inference_options.override(precision=precision)
        return reconfigure(
            model,
            attention=options.attention,
            windows=options.windows,
            precision=options.precision,
        )


def _load_project_model(
    reference: ModelReference, device: str, precision: Precision | None
) -> VideoModel:
    """The model of a project: by what it was loaded by, else any on this machine that has its SHA-256."""
    options = reference.inference_options.override(
        device=choose_device(device), precision=precision
    )
    with _explain_precision_error(precision):
        try:
            return _load_model(reference.name_or_path, options)
        except (UnknownModelError, FileError) as error:
            same = [
                each.path
                for each in find_models().values()
                if each.path and each.card.sha256 == reference.sha256
            ]
            if same:
                return _load_model(same[0], options)
            raise ModelError(
                f"the project was made with {reference.name}, SHA-256 {reference.sha256[:12]}: "
                f"{error}"
            ) from error


@contextmanager
def _explain_precision_error(precision: Precision | None) -> Iterator[None]:
    """Where nobody asked for the precision that a device refuses, say that it is the project's, and what to do."""
    try:
        yield
    except DeviceError as error:
        if precision is not None:
            raise
        raise DeviceError(
            f"the project's {error} by precision= (--precision), and everything is made again in it"
        ) from error


def _choose_model(
    model: VideoModel | str | Path | None,
    reference: ModelReference,
    device: str,
    precision: Precision | None,
    *,
    allow_other: bool,
) -> VideoModel:
    """The model that is asked for, else the project's own."""
    if isinstance(model, (str, Path)):
        return _load_model(model, InferenceOptions().override(device=device, precision=precision))
    found = model or _load_project_model(reference, device, precision)
    if found.card.sha256 != reference.sha256 and not allow_other:
        raise _make_other_model_error(found.card, reference, "ask for it with --model")
    return _reconfigure_model(found, ModelReference.of(found.card), precision)


def _make_other_model_error(card: ModelCard, reference: ModelReference, advice: str) -> Sam2Error:
    return ModelError(
        f"the project was made with {reference.name}, SHA-256 {reference.sha256[:12]}; "
        f"{card.name} here is another model "
        f"({card.sha256[:12]}): {advice} to have everything made again with it"
    )


def _acquire_lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
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
