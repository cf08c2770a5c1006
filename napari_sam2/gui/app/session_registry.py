"""Bench: the models and desks of the background thread. Nobody else touches them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.card import ModelCard
from napari_sam2.core.inference_options import Attention, Precision, Windows
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.gui.app.project_store import (
    open_or_create_project,
    prompts_to_replay,
    reopen_project,
)
from napari_sam2.gui.app.session_worker import SessionWorker, filter_prompts, make_transfer_log
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.propagation.session import Session, SessionSettings

ModelLoader = Callable[[str], VideoModel]


class SessionRegistry:
    """Desks by place, all with one model.

    `load` gives a model by name; the one last asked for is held.

    `root` is the folder that projects are kept in; nothing is kept where None.
    """

    def __init__(self, load: ModelLoader, root: Path | None = None) -> None:
        self._load = load
        self._root = root
        self._workers: dict[SessionKey, SessionWorker] = {}
        self._model_name = ""
        self._model: VideoModel | None = None
        self.device = ""
        self.card = ModelCard(
            ""
        )  # of the model that is asked: as the project of the place has it, where there is one
        self.precisions: tuple[Precision, ...] = ("float32",)  # that it can be changed to
        self._keys_to_restart: set[SessionKey] = set()
        self._project_folders: dict[SessionKey, Path] = {}  # projects that a person opened
        self._logs_to_replay: dict[
            SessionKey, PromptLog
        ] = {}  # what is to be taken up by the model that is there now

    def load_model(self, model_name: str) -> VideoModel:
        """The model of that name. Another one than before closes all desks: open them again."""
        if self._model is None or model_name != self._model_name:
            loaded = self._load(model_name)  # first: where it fails, the old one stays
            self._use_model(loaded)
            self._model_name, self.device = model_name, loaded.device
            return loaded
        return self._model

    def reconfigure_model(
        self,
        model_name: str,
        attention: Attention | None = None,
        windows: Windows | None = None,
        precision: Precision | None = None,
    ) -> None:
        """Have the model of that name look at objects by another attention, or other windows, or compute in another precision.

        What is None stays as it is shown. Closes all desks: open them again. Raises ModelError for
        a model that cannot change it, DeviceError for a precision that its device does not have.
        """
        from napari_sam2.models.load import reconfigure  # torch: in the background

        loaded, shown = self.load_model(model_name), self.card  # first: where it fails, all stays
        model = reconfigure(
            loaded,
            attention or shown.attention,
            windows or shown.windows,
            precision or shown.precision,
        )
        if model.card != shown:
            self._keys_to_restart.update(
                self._workers
            )  # what was made by the old one stays in its project
            self._use_model(model)

    def _use_model(self, model: VideoModel) -> None:
        """Ask this model from now on; what was said to the old one is said to it."""
        from napari_sam2.models.load import list_model_precisions

        self._logs_to_replay = {
            place: make_transfer_log(desk.session) for place, desk in self._workers.items()
        }
        self.close()
        self._model, self.card, self.precisions = model, model.card, list_model_precisions(model)

    def open_worker(self, key: SessionKey, model_name: str, log: PromptLog) -> SessionWorker:
        """The desk of a place with the model `model_name`, opened where it is not; then what was said (`log`) is asked again.

        Raises AxesError or IntensityError for an image that cannot be walked, ModelError and
        FileError for the model.
        """
        model = self.load_model(model_name)
        if key not in self._workers:
            self._workers[key] = self._make_worker(
                key, model, model_name, self._logs_to_replay.pop(key, log)
            )
        self.card = self._workers[key].session.model.card
        return self._workers[key]

    def restart(self, key: SessionKey) -> None:
        """Close a desk, and have the next one there begin with nothing."""
        if key in self._workers:
            self._workers.pop(key).close()
        self._keys_to_restart.add(key)

    def reopen(self, key: SessionKey, folder: Path) -> None:
        """Have the desk of a place, when it is opened, go on with the project in this folder."""
        if key in self._workers:
            self._workers.pop(key).close()
        self._project_folders[key] = folder

    def get_session(self, key: SessionKey) -> Session | None:
        """The session of a place that is open; None where it is not."""
        desk = self._workers.get(key)
        return None if desk is None else desk.session

    def forget_image(self, layer_key: str) -> None:
        """Close the desks of an image that is gone."""
        for place in [each for each in self._workers if each.selection.layer_key == layer_key]:
            self._workers.pop(place).close()

    def close(self) -> None:
        """Close all desks."""
        for desk in self._workers.values():
            desk.close()
        self._workers.clear()

    def _make_worker(
        self, key: SessionKey, model: VideoModel, model_name: str, log: PromptLog
    ) -> SessionWorker:
        choice = key.selection
        video = Video.of(choice.stack, along=choice.along, channel=choice.channel, at=dict(key.at))
        project, notice, session = None, "", None
        if key in self._project_folders:
            project, notice = reopen_project(self._project_folders.pop(key))
        elif self._root is not None:
            anew = key in self._keys_to_restart or len(log) > 0
            project, notice = open_or_create_project(
                self._root, key, video, model.card, model_name=model_name, create_new=anew
            )
            self._keys_to_restart.discard(key)
        same = project is not None and project.model.sha256 == model.card.sha256
        if project is not None and same and project.model.precision not in self.precisions:
            log, told = prompts_to_replay(project, model)
            project, notice = (
                (None, "")
                if self._root is None
                else open_or_create_project(
                    self._root, key, video, model.card, model_name=model_name, create_new=True
                )
            )
            notice = " ".join(filter(None, (told, notice)))
        if project is not None:
            session = project.session(model)
            if project.needs_replay:
                project.replay_missing(session)
        budget = DEFAULT_BYTES // (1 + len(self._workers))
        session = session or Session(video, model, settings=SessionSettings(embedding_bytes=budget))
        if not session.log.entries:
            session.replay(filter_prompts(log))
        return SessionWorker(session, project=project, notice=notice)
