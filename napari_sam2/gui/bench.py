"""Bench: the models and desks of the background thread. Nobody else touches them."""

from __future__ import annotations

from collections.abc import Callable

from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.video import Video
from napari_sam2.engine.embeddings import DEFAULT_BYTES
from napari_sam2.engine.session import Session, Settings
from napari_sam2.gui.desk import Desk, prompts_only
from napari_sam2.gui.view import Place

Load = Callable[[str], VideoModel]


class Bench:
    """Desks by place, all with one model. `load` gives a model by name; the one last asked for is kept."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._desks: dict[Place, Desk] = {}
        self._name = ""
        self._model: VideoModel | None = None
        self.device = ""

    def model(self, name: str) -> VideoModel:
        """The model of that name. Another one than before closes all desks: open them again."""
        if self._model is None or name != self._name:
            loaded = self._load(name)  # first: where it fails, the old one stays
            self.close()
            self._model, self._name, self.device = loaded, name, loaded.device
        return self._model

    def desk(self, place: Place, name: str, log: PromptLog) -> Desk:
        """The desk of a place with the model `name`, opened where it is not; then what was said (`log`) is asked again.

        Raises AxesError or IntensityError for an image that cannot be walked, ModelError and FileError for the model.
        """
        model = self.model(name)
        if place not in self._desks:
            choice = place.choice
            video = Video.of(choice.stack, along=choice.along, channel=choice.channel, at=dict(place.at))
            desk = Desk(video, model, settings=Settings(embedding_bytes=DEFAULT_BYTES // (1 + len(self._desks))))
            desk.session.replay(prompts_only(log))
            self._desks[place] = desk
        return self._desks[place]

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
