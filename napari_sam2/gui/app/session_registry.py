"""Bench: the models and desks of the background thread. Nobody else touches them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_sam2.api.session import Session
from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.card import Attention, ModelCard, Precision, Windows
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.video import Video
from napari_sam2.gui.app.project_store import kept, left_there, taken_up
from napari_sam2.gui.app.session_worker import Desk, handed_over, prompts_only
from napari_sam2.gui.app.view import Place
from napari_sam2.propagation.session import Settings

Load = Callable[[str], VideoModel]


class Bench:
    """Desks by place, all with one model.

    `load` gives a model by name; the one last asked for is held.

    `root` is the folder that projects are kept in; nothing is kept where None.
    """

    def __init__(self, load: Load, root: Path | None = None) -> None:
        self._load = load
        self._root = root
        self._desks: dict[Place, Desk] = {}
        self._name = ""
        self._model: VideoModel | None = None
        self.device = ""
        self.card = ModelCard(
            ""
        )  # of the model that is asked: as the project of the place has it, where there is one
        self.precisions: tuple[Precision, ...] = ("float32",)  # that it can be changed to
        self._anew: set[Place] = set()
        self._folders: dict[Place, Path] = {}  # projects that a person opened
        self._left: dict[
            Place, PromptLog
        ] = {}  # what is to be taken up by the model that is there now

    def model(self, name: str) -> VideoModel:
        """The model of that name. Another one than before closes all desks: open them again."""
        if self._model is None or name != self._name:
            loaded = self._load(name)  # first: where it fails, the old one stays
            self._take(loaded)
            self._name, self.device = name, loaded.device
            return loaded
        return self._model

    def look(
        self,
        name: str,
        attention: Attention | None = None,
        windows: Windows | None = None,
        precision: Precision | None = None,
    ) -> None:
        """Have the model of that name look at objects by another attention, or other windows, or compute in another precision.

        What is None stays as it is shown. Closes all desks: open them again. Raises ModelError for
        a model that cannot change it, DeviceError for a precision that its device does not have.
        """
        from napari_sam2.models.load import looking  # torch: in the background

        loaded, shown = self.model(name), self.card  # first: where it fails, all stays
        model = looking(
            loaded,
            attention or shown.attention,
            windows or shown.windows,
            precision or shown.precision,
        )
        if model.card != shown:
            self._anew.update(self._desks)  # what was made by the old one stays in its project
            self._take(model)

    def _take(self, model: VideoModel) -> None:
        """Ask this model from now on; what was said to the old one is said to it."""
        from napari_sam2.models.load import precisions_of

        self._left = {place: handed_over(desk.session) for place, desk in self._desks.items()}
        self.close()
        self._model, self.card, self.precisions = model, model.card, precisions_of(model)

    def desk(self, place: Place, name: str, log: PromptLog) -> Desk:
        """The desk of a place with the model `name`, opened where it is not; then what was said (`log`) is asked again.

        Raises AxesError or IntensityError for an image that cannot be walked, ModelError and
        FileError for the model.
        """
        model = self.model(name)
        if place not in self._desks:
            self._desks[place] = self._opened(place, model, name, self._left.pop(place, log))
        self.card = self._desks[place].session.model.card
        return self._desks[place]

    def anew(self, place: Place) -> None:
        """Close a desk, and have the next one there begin with nothing."""
        if place in self._desks:
            self._desks.pop(place).close()
        self._anew.add(place)

    def take_up(self, place: Place, folder: Path) -> None:
        """Have the desk of a place, when it is opened, go on with the project in this folder."""
        if place in self._desks:
            self._desks.pop(place).close()
        self._folders[place] = folder

    def session(self, place: Place) -> Session | None:
        """The session of a place that is open; None where it is not."""
        desk = self._desks.get(place)
        return None if desk is None else desk.session

    def forget(self, key: str) -> None:
        """Close the desks of an image that is gone."""
        for place in [each for each in self._desks if each.choice.key == key]:
            self._desks.pop(place).close()

    def close(self) -> None:
        """Close all desks."""
        for desk in self._desks.values():
            desk.close()
        self._desks.clear()

    def _opened(self, place: Place, model: VideoModel, name: str, log: PromptLog) -> Desk:
        choice = place.choice
        video = Video.of(
            choice.stack, along=choice.along, channel=choice.channel, at=dict(place.at)
        )
        project, notice, session = None, "", None
        if place in self._folders:
            project, notice = taken_up(self._folders.pop(place))
        elif self._root is not None:
            anew = place in self._anew or len(log) > 0
            project, notice = kept(self._root, place, video, model.card, asked=name, anew=anew)
            self._anew.discard(place)
        same = project is not None and project.model.sha256 == model.card.sha256
        if project is not None and same and project.model.precision not in self.precisions:
            log, told = left_there(project, model)
            project, notice = (
                (None, "")
                if self._root is None
                else kept(self._root, place, video, model.card, asked=name, anew=True)
            )
            notice = " ".join(filter(None, (told, notice)))
        if project is not None:
            session = project.session(model)
            if project.behind:
                project.catch_up(session)
        budget = DEFAULT_BYTES // (1 + len(self._desks))
        session = session or Session(video, model, settings=Settings(embedding_bytes=budget))
        if not session.log.entries:
            session.replay(prompts_only(log))
        return Desk(session, project=project, notice=notice)
