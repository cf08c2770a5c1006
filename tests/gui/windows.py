"""Doubles of a window for these tests: they note what they are to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from napari_sam2.core.protocols import VideoModel
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.view import (
    ImageSelection,
    InlineWorker,
    SessionKey,
    Snapshot,
    TrackPrompts,
)
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.testing.scenes import Scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.seeds import Seed


class MockView:
    """A View that keeps everything: the last snapshot, the planes drawn, the messages."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.planes: dict[tuple[tuple[tuple[str, int], ...], int], np.ndarray] = {}
        self.drawn_frames: list[int] = []
        self.prompts = TrackPrompts()
        self.seeds: tuple[Seed, ...] = ()
        self.messages: list[str] = []
        self.errors: list[str] = []
        self.statuses: dict[tuple[int, int], TrackStatus] = {}
        self.snapshots: list[Snapshot] = []

    def show_state(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.snapshots.append(snapshot)

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        self.planes.update({(key.at, frame): plane.copy() for frame, plane in planes.items()})
        self.drawn_frames += planes

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        self.prompts = track_prompts

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        self.seeds = tuple(seeds)

    def notify(self, text: str, *, is_error: bool = False) -> None:
        (self.errors if is_error else self.messages).append(text)

    def update_statuses(
        self,
        key: SessionKey,
        statuses: Mapping[tuple[int, int], TrackStatus],
        new: Mapping[tuple[int, int], TrackStatus] | None,
    ) -> None:
        self.statuses = dict(statuses)

    def labels(self, scene: Scene, at: tuple[tuple[str, int], ...] = ()) -> np.ndarray:
        """(frames, H, W): what is drawn."""
        blank = np.zeros(scene.video.shape[1:], dtype=np.uint16)
        return np.stack([self.planes.get((at, frame), blank) for frame in range(len(scene.video))])


class MockWindow:
    """A controller on a scene, with a mock view."""

    def __init__(
        self,
        scene: Scene,
        *,
        manual: bool = False,
        load: Callable[[str], VideoModel] = lambda _: ToyModel(),
        **options: Any,
    ) -> None:
        self.scene = scene
        self.view = MockView()
        self.worker = InlineWorker(manual=manual)
        self.controller = Controller(self.view, self.worker, load=load, **options)
        self.selection = ImageSelection(
            "image", scene.stack, scene.video.along, scene.video.channel, scene.name
        )
        self.controller.open(self.selection)

    def click(self, track: int, frame: int | None = None, *, positive: bool = True) -> None:
        """A click on the true object."""
        prompt = self.scene.make_click(track, frame)
        self.controller.add_click(prompt.frame, prompt.yx[0], positive=positive)

    def click_all(self) -> None:
        """One click on each object, on its first frame."""
        for track in self.scene.tracks:
            self.controller.start_object()
            self.click(track)

    @property
    def labels(self) -> np.ndarray:
        """What is drawn."""
        return self.view.labels(self.scene)

    @property
    def session_labels(self) -> np.ndarray:
        """What the session holds."""
        session = self.controller.session
        assert session is not None
        return np.stack([session.compute_label_plane(frame) for frame in range(len(session.video))])
