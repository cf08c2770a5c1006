"""Overlays: the three layers over an image that show its objects, and the current object's clicks and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import hsv_to_rgb
from napari.layers import Labels, Points, Shapes
from napari.utils.colormaps import CyclicLabelColormap
from skimage.measure import label

from napari_sam2.core.prompt import BoxPrompt, PointPrompt
from napari_sam2.gui.app.view import Place, Said
from napari_sam2.gui.layers.layer_axes import Reading, blank_labels, geometry, index

POSITIVE, NEGATIVE = "object", "not object"
_COLOURS = {POSITIVE: "#35d07f", NEGATIVE: "#ff5a5f"}
_BOX = "#ffd166"
_COLOUR_COUNT = 48  # then they come again
# of the circle of hues from one object to the next: no two that follow each other are alike
_GOLDEN = 0.618034

Edited = Callable[[int, list[PointPrompt | BoxPrompt], list[PointPrompt]], None]
"""Called with a frame, what its clicks and boxes are now, and those clicks alone that are new (empty where others changed)."""
Painted = Callable[[int, int, np.ndarray], None]
"""Called with a frame, a track, and the (H, W) mask that somebody painted."""
Later = Callable[[Callable[[], None]], None]


class Overlays:
    """Made when they are needed, and made again where somebody deleted them; what they show is kept by the engine.

    Parameters
    ----------
    viewer, image, reading
        Where, over which layer, and how its dimensions are read.
    edited, painted
        See `Edited` and `Painted`: called when the person changes these layers by hand.
    later
        Does something when napari has done what it is at.
    """

    def __init__(
        self,
        viewer: Any,
        image: Any,
        reading: Reading,
        *,
        edited: Edited,
        painted: Painted,
        later: Later = lambda do: do(),
    ) -> None:
        self._viewer = viewer
        self.image = image
        self.reading = reading
        self._edited = edited
        self._painted = painted
        self._later = later
        self._touched: set[tuple[int, int]] = set()
        self._data = blank_labels(reading)
        self._colours = palette()
        self._labels: Labels | None = None
        self._points: Points | None = None
        self._shapes: Shapes | None = None
        self._said = Said()
        self._place: Place | None = None
        self._quiet = False
        self._dragged: tuple[float, float, float, float] | None = None

    @property
    def layers(self) -> tuple[Any, ...]:
        """Those that are there."""
        return tuple(
            layer
            for layer in (self._labels, self._points, self._shapes)
            if layer is not None and layer in self._viewer.layers
        )

    @property
    def labels(self) -> Labels:
        """The objects, in the place and with the axis labels and units of the image."""
        if self._labels is None or self._labels not in self._viewer.layers:
            self._labels = Labels(
                self._data,
                name=f"{self.image.name} objects",
                opacity=0.5,
                colormap=palette(),
                **geometry(self.image),
            )
            self._labels.events.paint.connect(self._on_paint)
            self._add(self._labels)
        return self._labels

    @property
    def points(self) -> Points:
        """The clicks of the current object."""
        if self._points is None or self._points not in self._viewer.layers:
            self._points = Points(
                np.empty((0, self.image.ndim)),
                ndim=self.image.ndim,
                name=f"{self.image.name} clicks",
                features=_kinds([]),
                face_color="kind",
                face_color_cycle=_COLOURS,
                border_color="white",
                border_width=0.15,
                size=self._dot,
                **geometry(self.image),
            )
            self._points.events.data.connect(self._on_edit)
            self._add(self._points)
        return self._points

    @property
    def shapes(self) -> Shapes:
        """The boxes of the current object."""
        if self._shapes is None or self._shapes not in self._viewer.layers:
            self._shapes = Shapes(
                ndim=self.image.ndim,
                name=f"{self.image.name} boxes",
                edge_color=_BOX,
                face_color="transparent",
                edge_width=self._dot / 6,
                **geometry(self.image),
            )
            self._shapes.events.data.connect(self._on_edit)
            self._add(self._shapes)
        return self._shapes

    def colour(self, track: int) -> tuple[float, float, float]:
        """The colour (red, green, blue, 0 to 1) that an object is shown in."""
        colours = self._colours if self._labels is None else self._labels.colormap
        red, green, blue, _ = np.asarray(colours.map(np.array([track], dtype=np.uint16)))[0]
        return float(red), float(green), float(blue)

    def draw(self, place: Place, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes; `refresh` shows them."""
        if any(plane.any() for plane in planes.values()):
            self.labels  # noqa: B018 - made where it is not there
        for frame, plane in planes.items():
            self._data[self._plane(place, frame)] = plane

    def refresh(self) -> None:
        """Draw the canvas anew."""
        if (
            self._labels is not None and self._labels in self._viewer.layers
        ):  # what is drawn on the canvas of a deleted one is gone
            self._labels.refresh(thumbnail=False, extent=False)

    def pieces(self, place: Place | None, frame: int, track: int) -> int:
        """In how many pieces an object is on a frame, as it is shown."""
        return (
            int(label(self._data[self._plane(place, frame)] == track).max())
            if place is not None
            else 0
        )

    def select(self, track: int) -> None:
        """Make this object the one that the brush paints."""
        if self._labels is not None and self._labels in self._viewer.layers and track:
            self._labels.selected_label = track

    def paint(self, track: int, *, lasso: bool) -> None:
        """Take the brush or the lasso in hand."""
        labels = self.labels
        self._viewer.layers.selection.active = labels
        labels.selected_label = track
        labels.mode = "polygon" if lasso else "paint"

    def rest(self) -> None:
        """Put all tools of these layers down: the image is the selected layer again."""
        for layer in self.layers:
            layer.mode = "pan_zoom"
        if self.image in self._viewer.layers:
            self._viewer.layers.selection.active = self.image

    def draw_said(self, place: Place, said: Said) -> None:
        """Show clicks and boxes."""
        self._place, self._said = place, said
        points: list[tuple[float, ...]] = []
        positive: list[bool] = []
        for prompt in said.points:
            points += [(*self._index(prompt.frame), *yx) for yx in prompt.yx]
            positive += prompt.positive
        with self._hushed():
            if points or self._points is not None:
                layer = self.points
                layer.selected_data = set()
                layer.data = np.array(points, dtype=float).reshape(-1, self.image.ndim)
                layer.features = _kinds(positive)
                layer.refresh_colors()
            self._draw_boxes()

    def drag(self, place: Place, frame: int, box: tuple[float, float, float, float] | None) -> None:
        """Show the box that is being dragged; None when it is done."""
        self._place, self._dragged = place, box
        with self._hushed():
            self._draw_boxes(frame)

    def refresh_channel(self) -> None:
        """The person moved along the channels: what is shown is shown there as well."""
        if "c" in self.reading.letters and self._place is not None:
            self.draw_said(self._place, self._said)

    def close(self) -> None:
        """Listen to these layers no more; they stay."""
        for layer in self.layers:
            if isinstance(layer, Labels):
                layer.events.paint.disconnect(self._on_paint)
            else:
                layer.events.data.disconnect(self._on_edit)

    @property
    def _dot(self) -> float:
        """Size of a click in data pixels: to be seen, and not in the way."""
        return float(np.clip(min(self.reading.shape[-2:]) * 0.02, 2.0, 24.0))

    def _add(self, layer: Any) -> None:
        """Over the image, the objects below the clicks; the image stays the selected layer, so that its canvas pans and zooms."""
        active = self._viewer.layers.selection.active
        layers = self._viewer.layers
        layers.append(layer)
        if isinstance(layer, Labels):
            layers.move(len(layers) - 1, layers.index(self.image) + 1)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active

    def _plane(self, place: Place, frame: int) -> tuple[int, ...]:
        return index(self.reading, {**dict(place.at), place.choice.along: frame})

    def _index(self, frame: int) -> tuple[int, ...]:
        assert self._place is not None
        where = {**dict(self._place.at), self._place.choice.along: frame}
        if "c" in self.reading.letters:
            where["c"] = self._channel
        return index(self.reading, where)

    @property
    def _channel(self) -> int:
        """The channel that is looked at."""
        inside = self.image.world_to_data(self._viewer.dims.point)
        return int(
            np.clip(
                round(float(inside[self.reading.letters.index("c")])), 0, self.reading.channels - 1
            )
        )

    def _draw_boxes(self, frame: int = 0) -> None:
        boxes = [(prompt.frame, prompt.box) for prompt in self._said.boxes]
        if self._dragged is not None:
            boxes.append((frame, self._dragged))
        if self._place is None or not (boxes or self._shapes is not None):
            return
        corners = [[(*self._index(where), *yx) for yx in _corners(box)] for where, box in boxes]
        layer = self.shapes
        layer.selected_data = set()
        layer.data = []
        if corners:
            layer.add_rectangles(
                np.array(corners),
                edge_color=_BOX,
                face_color="transparent",
                edge_width=self._dot / 6,
            )

    @contextmanager
    def _hushed(self) -> Iterator[None]:
        """What changes now, we changed."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _on_edit(self, event: Any) -> None:
        if (
            self._quiet
            or self._place is None
            or str(getattr(event, "action", "")).lower().endswith("ing")
        ):
            return
        now, before = self._read_points(), self._by_frame(self._said)
        boxes = self._read_boxes()
        for frame in sorted({*now, *boxes, *before}):
            prompts: list[PointPrompt | BoxPrompt] = [*boxes.get(frame, []), *now.get(frame, [])]
            if prompts != before.get(frame, []):
                self._edited(frame, prompts, _added(before.get(frame, []), prompts))

    def _by_frame(self, said: Said) -> dict[int, list[PointPrompt | BoxPrompt]]:
        found: dict[int, list[PointPrompt | BoxPrompt]] = {}
        prompts: list[PointPrompt | BoxPrompt] = [*said.boxes, *said.points]
        for prompt in prompts:
            found.setdefault(prompt.frame, []).append(prompt)
        return found

    def _read_points(self) -> dict[int, list[PointPrompt]]:
        if self._points is None:
            return {}
        rows: dict[int, list[tuple[tuple[float, float], bool]]] = {}
        for place, kind in zip(self._points.data, self._points.features["kind"], strict=True):
            rows.setdefault(self._frame_of(place), []).append(
                ((float(place[-2]), float(place[-1])), kind != NEGATIVE)
            )
        return {
            frame: [
                PointPrompt(
                    frame,
                    self._said.track,
                    [yx for yx, _ in found],
                    [positive for _, positive in found],
                )
            ]
            for frame, found in rows.items()
        }

    def _read_boxes(self) -> dict[int, list[BoxPrompt]]:
        if self._shapes is None:
            return {}
        found: dict[int, list[BoxPrompt]] = {}
        for corners in self._shapes.data:
            low, high = corners[:, -2:].min(axis=0), corners[:, -2:].max(axis=0)
            if (high > low).all():
                frame = self._frame_of(corners[0])
                found[frame] = [
                    BoxPrompt(frame, self._said.track, (*map(float, low), *map(float, high)))
                ]
        return found

    def _frame_of(self, place: Sequence[float]) -> int:
        assert self._place is not None
        along = self._place.choice.along
        return (
            round(float(place[self.reading.letters.index(along)]))
            if along in self.reading.letters
            else 0
        )

    def _on_paint(self, event: Any) -> None:
        """Somebody painted.

        What is there is read a moment later: napari says so before it writes the pixels.
        """
        if self._quiet or self._place is None:
            return
        for (
            atom
        ) in event.value:  # with a mask in napari 0.9, with indices before and for single pixels
            where, old, new = (
                atom if len(atom) == 3 else (atom.slice_key, atom.old_values, atom.new_value)
            )
            gained = {int(track) for track in np.unique(np.asarray(new))} - {0}
            tracks = gained or {int(track) for track in np.unique(np.asarray(old))} - {0}
            self._touched |= {
                (frame, track) for frame in self._frames_of(where) for track in tracks
            }
        self._later(self._read_painted)

    def _read_painted(self) -> None:
        """The masks of the objects that were painted, as they are now."""
        touched, self._touched = self._touched, set()
        for frame, track in sorted(touched):
            if self._place is not None:
                self._painted(frame, track, self._data[self._plane(self._place, frame)] == track)

    def _frames_of(self, where: Sequence[Any]) -> list[int]:
        """The frames of an index into the labels: slices, or arrays of indices."""
        assert self._place is not None
        along = self._place.choice.along
        if along not in self.reading.letters:
            return [0]
        part = where[self.reading.letters.index(along)]
        if isinstance(part, slice):
            return list(range(*part.indices(self._place.choice.length)))
        return [int(frame) for frame in np.unique(part)]


def palette() -> CyclicLabelColormap:
    """Colours to be told apart on a grey image: bright, and neighbours unlike each other."""
    steps = np.arange(_COLOUR_COUNT)
    hue, value = (steps * _GOLDEN) % 1.0, 1.0 - 0.18 * (steps % 3 == 2)
    saturation = 0.85 - 0.25 * (steps % 2)
    solid = hsv_to_rgb(np.stack([hue, saturation, value], axis=-1))
    colours = np.concatenate(
        [np.zeros((1, 4)), np.concatenate([solid, np.ones((_COLOUR_COUNT, 1))], axis=1)]
    )
    return CyclicLabelColormap(colors=colours, background_value=0, name="napari-sam2 objects")


def _kinds(positive: Sequence[bool]) -> pd.DataFrame:
    kinds = [POSITIVE if each else NEGATIVE for each in positive]
    return pd.DataFrame({"kind": pd.Categorical(kinds, categories=[POSITIVE, NEGATIVE])})


def _corners(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    y, x, y2, x2 = box
    return [(y, x), (y, x2), (y2, x2), (y2, x)]


def _added(
    before: Sequence[PointPrompt | BoxPrompt], now: Sequence[PointPrompt | BoxPrompt]
) -> list[PointPrompt]:
    """The clicks that came to those before, where nothing else changed; else none."""
    if [each for each in before if isinstance(each, BoxPrompt)] != [
        each for each in now if isinstance(each, BoxPrompt)
    ]:
        return []
    old = [each for each in before if isinstance(each, PointPrompt)]
    new = [each for each in now if isinstance(each, PointPrompt)]
    count = len(old[0].yx) if old else 0
    if len(new) != 1 or (
        old and (new[0].yx[:count], new[0].positive[:count]) != (old[0].yx, old[0].positive)
    ):
        return []
    if len(new[0].yx) <= count:
        return []
    return [PointPrompt(new[0].frame, new[0].track, new[0].yx[count:], new[0].positive[count:])]
