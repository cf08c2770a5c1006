"""Synthetic scenes as a source of training clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.synthetic.scenes import SCENE_PAINTERS, paint_scene


class SyntheticSource:
    """Draws synthetic scenes: an item is a kind of scene, and each draw paints a new one.

    Parameters
    ----------
    names
        Kinds of scenes, see `SCENE_PAINTERS`; all by default.
    repeats
        Items of each kind. Each is a group of its own, so that a split has all kinds on both
        sides.
    """

    def __init__(self, names: Sequence[str] | None = None, *, repeats: int = 16) -> None:
        self.names = tuple(SCENE_PAINTERS if names is None else names)
        unknown = [name for name in self.names if name not in SCENE_PAINTERS]
        if unknown or not self.names:
            raise LabelsError(
                f"synthetic scenes {unknown or self.names!r}: expected some of "
                f"{', '.join(SCENE_PAINTERS)}"
            )
        self.repeats = repeats

    def __len__(self) -> int:
        return len(self.names) * self.repeats

    def groups(self) -> Sequence[str]:
        """A group for each item."""
        return [
            f"painted {self.names[item % len(self.names)]} {item // len(self.names)}"
            for item in range(len(self))
        ]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """Paint a new scene, in either direction; its first frame shows an object."""
        name = self.names[item % len(self.names)]
        frames, labels = paint_scene(name, rng, length=length, size=size)
        if rng.random() < 0.5 and labels[-1].any():
            frames, labels = frames[::-1].copy(), labels[::-1].copy()
        return Clip(frames, labels, name=f"painted {name}", group=self.groups()[item])
