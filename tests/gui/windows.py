"""What stands for a window in these tests: it notes what it is told to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from napari_sam2.core.protocols import VideoModel
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.gui.app.view import Choice, Inline, Place, Said, Snapshot
from napari_sam2.measurement.track_status import Fact
from napari_sam2.testing.scenes import Scene
from napari_sam2.testing.toy import ToyModel


class Mock:
    """A View that keeps everything: the last snapshot, the planes drawn, the sentences told."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.planes: dict[tuple[tuple[tuple[str, int], ...], int], np.ndarray] = {}
        self.drawn: list[int] = []
        self.said = Said()
        self.seeds: tuple[Seed, ...] = ()
        self.told: list[str] = []
        self.wrong: list[str] = []
        self.facts: dict[tuple[int, int], Fact] = {}
        self.snapshots: list[Snapshot] = []

    def show_state(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.snapshots.append(snapshot)

    def draw(self, place: Place, planes: Mapping[int, np.ndarray]) -> None:
        self.planes.update({(place.at, frame): plane.copy() for frame, plane in planes.items()})
        self.drawn += planes

    def draw_said(self, place: Place, said: Said) -> None:
        self.said = said

    def draw_seeds(self, place: Place, seeds: Sequence[Seed]) -> None:
        self.seeds = tuple(seeds)

    def tell(self, text: str, *, wrong: bool = False) -> None:
        (self.wrong if wrong else self.told).append(text)

    def facts_changed(
        self,
        place: Place,
        facts: Mapping[tuple[int, int], Fact],
        new: Mapping[tuple[int, int], Fact] | None,
    ) -> None:
        self.facts = dict(facts)

    def labels(self, scene: Scene, at: tuple[tuple[str, int], ...] = ()) -> np.ndarray:
        """(frames, H, W): what a person sees."""
        blank = np.zeros(scene.video.shape[1:], dtype=np.uint16)
        return np.stack([self.planes.get((at, frame), blank) for frame in range(len(scene.video))])


class Window:
    """A controller on a scene, with a mock view."""

    def __init__(
        self,
        scene: Scene,
        *,
        held: bool = False,
        load: Callable[[str], VideoModel] = lambda _: ToyModel(),
        **options: Any,
    ) -> None:
        self.scene = scene
        self.view = Mock()
        self.worker = Inline(held=held)
        self.controller = Controller(self.view, self.worker, load=load, **options)
        self.choice = Choice(
            "image", scene.stack, scene.video.along, scene.video.channel, scene.name
        )
        self.controller.open(self.choice)

    def click(self, track: int, frame: int | None = None, *, positive: bool = True) -> None:
        """A click on the true object."""
        prompt = self.scene.click(track, frame)
        self.controller.click(prompt.frame, prompt.yx[0], positive=positive)

    def click_all(self) -> None:
        """One click on each object, on its first frame."""
        for track in self.scene.tracks:
            self.controller.new()
            self.click(track)

    @property
    def labels(self) -> np.ndarray:
        """What is drawn."""
        return self.view.labels(self.scene)

    @property
    def session_labels(self) -> np.ndarray:
        """What the engine holds."""
        place = self.controller.place
        assert place is not None
        session = self.controller._bench._desks[place].session
        return np.stack([session.plane(frame) for frame in range(len(session.video))])
