"""SessionRegistry: the model and the session workers of the background thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam2.api.project import Project
from napari_sam2.api.resume import make_evidence
from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.inference_options import InferenceOptions, Precision
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import SteppedEvidence, VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.gui.app.project_store import (
    OpenedProject,
    extract_prompts,
    filter_prompts,
    make_transfer_log,
    open_or_create_project,
    reopen_project,
)
from napari_sam2.gui.app.session_worker import SessionWorker, get_options
from napari_sam2.gui.app.view import NO_MODEL_OPTIONS, SessionKey
from napari_sam2.propagation.session import Session, SessionSettings

ModelLoader = Callable[[str], VideoModel]


def load_model_in_background(name: str) -> VideoModel:
    """Load a model by name, to compute on all cores but one.

    torch is imported here because that takes seconds, for which the window would freeze.
    """
    from napari_sam2.models.device import reserve_core
    from napari_sam2.models.load import load_model

    reserve_core()
    return load_model(name)


class SessionRegistry:
    """The session workers by key, all with one model. Only the background thread uses it.

    Parameters
    ----------
    load
        Loads a model by name. The one loaded last is kept.
    root
        The folder of the projects; None if nothing is kept.

    `on_detection` is called by the background thread after each step of a detection of evidence.
    """

    def __init__(self, load: ModelLoader, root: Path | None = None) -> None:
        self.options = NO_MODEL_OPTIONS  # of the open session; a project has options of its own
        self.precisions: tuple[Precision, ...] = ("float32",)  # that the model can change to
        self.evidence = "none"  # of the open session, and of projects created from now on
        self.on_detection: Callable[[int, int], Any] = lambda done, total: None
        self._load = load
        self._root = root
        self.workers: dict[SessionKey, SessionWorker] = {}
        self._model_name = ""
        self._model: VideoModel | None = None
        self._keys_to_restart: set[SessionKey] = set()
        self._folders_to_open: dict[SessionKey, Path] = {}
        self._transfer_logs: dict[SessionKey, PromptLog] = {}

    def load_model(self, model_name: str) -> VideoModel:
        """The model of that name. All workers are closed if it is another one than before."""
        if self._model is None or model_name != self._model_name:
            model = self._load(model_name)  # first, so that the old one stays if this fails
            self._use_model(model)
            self._model_name = model_name
            return model
        return self._model

    def reconfigure_model(
        self, model_name: str, *, evidence: str | None = None, **changes: Any
    ) -> None:
        """Change options of the model of that name, e.g. ``attention="local"``, or the evidence.

        All workers are closed if anything changes. Raises ModelError if the model has no choice,
        DeviceError for a precision that the device does not have.
        """
        from napari_sam2.models.load import reconfigure

        loaded, shown = self.load_model(model_name), self.options
        wanted = shown.override(**changes)
        model = reconfigure(loaded, wanted.attention, wanted.windows, wanted.precision)
        changed = get_options(model) != shown or evidence not in (None, self.evidence)
        self.evidence = self.evidence if evidence is None else evidence
        if changed:
            self._keys_to_restart.update(self.workers)  # old results stay in their projects
            self._use_model(model)

    def open_worker(self, key: SessionKey, model_name: str, log: PromptLog) -> SessionWorker:
        """The worker of a session; a new one applies the prompts of `log`.

        Raises AxesError or IntensityError for the image, ModelError or FileError for the model.
        """
        model = self.load_model(model_name)
        worker = self.workers.get(key)
        if worker is None:
            worker = self._make_worker(key, model, self._transfer_logs.pop(key, log))
            self.workers[key] = worker
        self.options, self.evidence = worker.options, worker.evidence
        return worker

    def restart(self, key: SessionKey) -> None:
        """Close a worker; the next one of this key starts with nothing."""
        self._close_worker(key)
        self._keys_to_restart.add(key)

    def reopen(self, key: SessionKey, folder: Path) -> None:
        """Have the next worker of this key continue the project in `folder`."""
        self._close_worker(key)
        self._folders_to_open[key] = folder

    def get_session(self, key: SessionKey) -> Session | None:
        """The session of a worker; None if there is none."""
        worker = self.workers.get(key)
        return None if worker is None else worker.session

    def forget_image(self, layer_key: str) -> None:
        """Close the workers of an image that was removed."""
        for key in [each for each in self.workers if each.selection.layer_key == layer_key]:
            self._close_worker(key)

    def close(self) -> None:
        """Close all workers."""
        for key in list(self.workers):
            self._close_worker(key)

    def _close_worker(self, key: SessionKey) -> None:
        if key in self.workers:
            self.workers.pop(key).close()

    def _use_model(self, model: VideoModel) -> None:
        """Use another model; it will be given the prompts of all sessions."""
        from napari_sam2.models.load import list_model_precisions

        self._transfer_logs = {
            key: make_transfer_log(worker.session) for key, worker in self.workers.items()
        }
        self.close()
        self._model, self.options = model, get_options(model)
        self.precisions = list_model_precisions(model)

    def _make_worker(self, key: SessionKey, model: VideoModel, log: PromptLog) -> SessionWorker:
        selection = key.selection
        video = Video.of(
            selection.stack, along=selection.along, channel=selection.channel, at=dict(key.at)
        )
        create_new = key in self._keys_to_restart or len(log) > 0
        opened = self._open_project(key, video, model, create_new=create_new)
        project = opened.project
        if project is not None and not self._can_compute(project, model):
            self.evidence = project.evidence
            log, notice = extract_prompts(project, model)
            opened = self._open_project(key, video, model, create_new=True)
            project = opened.project
            opened = OpenedProject(project, " ".join(filter(None, (notice, opened.notice))))
        if project is None:
            budget = DEFAULT_BYTES // (1 + len(self.workers))
            settings = SessionSettings(embedding_bytes=budget, evidence=self.evidence)
            found = make_evidence(video, self.evidence, InferenceOptions())
            session = Session(video, model, settings=settings, evidence=found)
        else:
            session = project.open_session(model)
        if isinstance(session.evidence, SteppedEvidence):
            session.evidence.on_progress = self.on_detection
        if project is not None and project.needs_replay:
            project.replay_missing(session)
        if not session.log.entries:
            session.replay(filter_prompts(log))
        return SessionWorker(session, project=project, notice=opened.notice)

    def _open_project(
        self, key: SessionKey, video: Video, model: VideoModel, *, create_new: bool
    ) -> OpenedProject:
        """The project that a person opened for this key, else the one in the root folder."""
        if key in self._folders_to_open:
            return reopen_project(self._folders_to_open.pop(key))
        if self._root is None:
            return OpenedProject(None)
        self._keys_to_restart.discard(key)
        return open_or_create_project(
            self._root,
            key,
            video,
            model.card,
            model_name=self._model_name,
            evidence=self.evidence,
            create_new=create_new,
        )

    def _can_compute(self, project: Project, model: VideoModel) -> bool:
        """Whether this device has the precision that the model of a project computed in."""
        same_model = project.model.sha256 == model.card.sha256
        return not same_model or project.model.precision in self.precisions
