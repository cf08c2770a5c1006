"""Overlays: the layers over an image with its objects, and the current object's prompts."""

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
from napari_sam2.gui.app.view import SessionKey, TrackPrompts
from napari_sam2.gui.layers.layer_axes import (
    LayerAxes,
    compute_plane_index,
    get_layer_geometry,
    make_blank_labels,
)

POSITIVE, NEGATIVE = "object", "not object"
_CLICK_COLOURS = {POSITIVE: "#35d07f", NEGATIVE: "#ff5a5f"}
_BOX_COLOUR = "#ffd166"
_COLOUR_COUNT = 48  # then colours repeat
_GOLDEN_RATIO = 0.618034  # step of the hue, so that neighbouring ids never look alike

EditedCallback = Callable[[int, list[PointPrompt | BoxPrompt], list[PointPrompt]], None]
"""Called with a frame, its clicks and boxes, and the clicks that are new.

The new clicks are empty if other prompts changed too.
"""

PaintedCallback = Callable[[int, int, np.ndarray], None]
"""Called with a frame, a track, and the (H, W) mask that was painted."""
Defer = Callable[[Callable[[], None]], None]


class Overlays:
    """The layers over one image. Each is made when it is needed, also after it was deleted.

    Parameters
    ----------
    viewer, image, axes
        The viewer, the image layer, and the axes of its dimensions.
    on_edited, on_painted
        Called when the person edits these layers by hand; see `EditedCallback` and
        `PaintedCallback`.
    defer
        Calls a function when napari has finished what it is doing.
    """

    def __init__(
        self,
        viewer: Any,
        image: Any,
        axes: LayerAxes,
        *,
        on_edited: EditedCallback,
        on_painted: PaintedCallback,
        defer: Defer = lambda do: do(),
    ) -> None:
        self._viewer = viewer
        self.image = image
        self.axes = axes
        self._edited_callback = on_edited
        self._painted_callback = on_painted
        self.defer = defer
        self._painted_objects: set[tuple[int, int]] = set()
        self._label_data = make_blank_labels(axes)
        self._colormap = make_palette()
        self._labels: Labels | None = None
        self._points: Points | None = None
        self._shapes: Shapes | None = None
        self._track_prompts = TrackPrompts()
        self._key: SessionKey | None = None
        self._events_suppressed = False
        self._dragged_box: tuple[float, float, float, float] | None = None

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers that are in the viewer."""
        return tuple(
            layer
            for layer in (self._labels, self._points, self._shapes)
            if layer is not None and layer in self._viewer.layers
        )

    @property
    def labels(self) -> Labels:
        """The objects, with the geometry, axis labels and units of the image."""
        if self._labels is None or self._labels not in self._viewer.layers:
            self._labels = Labels(
                self._label_data,
                name=f"{self.image.name} objects",
                opacity=0.5,
                colormap=make_palette(),
                **get_layer_geometry(self.image),
            )
            self._labels.events.paint.connect(self._on_paint)
            self._add_layer(self._labels)
        return self._labels

    @property
    def points(self) -> Points:
        """The clicks of the current object."""
        if self._points is None or self._points not in self._viewer.layers:
            self._points = Points(
                np.empty((0, self.image.ndim)),
                ndim=self.image.ndim,
                name=f"{self.image.name} clicks",
                features=_make_kinds([]),
                face_color="kind",
                face_color_cycle=_CLICK_COLOURS,
                border_color="white",
                border_width=0.15,
                size=self._click_size_px,
                **get_layer_geometry(self.image),
            )
            self._points.events.data.connect(self._on_edit)
            self._add_layer(self._points)
        return self._points

    @property
    def shapes(self) -> Shapes:
        """The boxes of the current object."""
        if self._shapes is None or self._shapes not in self._viewer.layers:
            self._shapes = Shapes(
                ndim=self.image.ndim,
                name=f"{self.image.name} boxes",
                edge_color=_BOX_COLOUR,
                face_color="transparent",
                edge_width=self._click_size_px / 6,
                **get_layer_geometry(self.image),
            )
            self._shapes.events.data.connect(self._on_edit)
            self._add_layer(self._shapes)
        return self._shapes

    def get_colour(self, track: int) -> tuple[float, float, float]:
        """The colour of an object: red, green and blue from 0 to 1."""
        colours = self._colormap if self._labels is None else self._labels.colormap
        red, green, blue, _ = np.asarray(colours.map(np.array([track], dtype=np.uint16)))[0]
        return float(red), float(green), float(blue)

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes; `refresh` draws them."""
        if any(plane.any() for plane in planes.values()):
            self.labels  # noqa: B018 - makes the layer
        for frame, plane in planes.items():
            self._label_data[self._compute_plane_index(key, frame)] = plane

    def refresh(self) -> None:
        """Draw the labels."""
        if self._labels is not None and self._labels in self._viewer.layers:
            self._labels.refresh(thumbnail=False, extent=False)

    def count_pieces(self, key: SessionKey | None, frame: int, track: int) -> int:
        """Count the pieces of an object on a frame."""
        return (
            int(label(self._label_data[self._compute_plane_index(key, frame)] == track).max())
            if key is not None
            else 0
        )

    def select(self, track: int) -> None:
        """Have the brush paint this object."""
        if self._labels is not None and self._labels in self._viewer.layers and track:
            self._labels.selected_label = track

    def start_painting(self, track: int, *, lasso: bool) -> None:
        """Use the brush or the lasso of the Labels layer."""
        labels = self.labels
        self._viewer.layers.selection.active = labels
        labels.selected_label = track
        labels.mode = "polygon" if lasso else "paint"

    def leave_tools(self) -> None:
        """Leave the tools of these layers; the image is the selected layer again."""
        for layer in self.layers:
            layer.mode = "pan_zoom"
        if self.image in self._viewer.layers:
            self._viewer.layers.selection.active = self.image

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Draw clicks and boxes."""
        self._key, self._track_prompts = key, track_prompts
        points: list[tuple[float, ...]] = []
        positive: list[bool] = []
        for prompt in track_prompts.points:
            points += [(*self._compute_frame_index(prompt.frame), *yx) for yx in prompt.yx]
            positive += prompt.positive
        with self._suppress_events():
            if points or self._points is not None:
                layer = self.points
                layer.selected_data = set()
                layer.data = np.array(points, dtype=float).reshape(-1, self.image.ndim)
                layer.features = _make_kinds(positive)
                layer.refresh_colors()
            self._draw_boxes()

    def show_dragged_box(
        self, key: SessionKey, frame: int, box: tuple[float, float, float, float] | None
    ) -> None:
        """Draw the box that is being dragged; None when the drag is finished."""
        self._key, self._dragged_box = key, box
        with self._suppress_events():
            self._draw_boxes(frame)

    def refresh_channel(self) -> None:
        """Draw the prompts on the channel that the person moved to."""
        if "c" in self.axes.letters and self._key is not None:
            self.draw_prompts(self._key, self._track_prompts)

    def close(self) -> None:
        """Stop listening to these layers; they stay."""
        for layer in self.layers:
            if isinstance(layer, Labels):
                layer.events.paint.disconnect(self._on_paint)
            else:
                layer.events.data.disconnect(self._on_edit)

    @property
    def _click_size_px(self) -> float:
        """Size of a click in data pixels."""
        return float(np.clip(min(self.axes.shape[-2:]) * 0.02, 2.0, 24.0))

    def _add_layer(self, layer: Any) -> None:
        """Add a layer over the image, labels below clicks. The selected layer stays the same."""
        active = self._viewer.layers.selection.active
        layers = self._viewer.layers
        layers.append(layer)
        if isinstance(layer, Labels):
            layers.move(len(layers) - 1, layers.index(self.image) + 1)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active

    def _compute_plane_index(self, key: SessionKey, frame: int) -> tuple[int, ...]:
        return compute_plane_index(self.axes, {**dict(key.at), key.selection.along: frame})

    def _compute_frame_index(self, frame: int) -> tuple[int, ...]:
        assert self._key is not None
        position = {**dict(self._key.at), self._key.selection.along: frame}
        if "c" in self.axes.letters:
            position["c"] = self._current_channel
        return compute_plane_index(self.axes, position)

    @property
    def _current_channel(self) -> int:
        """The channel that is shown."""
        inside = self.image.world_to_data(self._viewer.dims.point)
        return int(
            np.clip(
                round(float(inside[self.axes.letters.index("c")])), 0, self.axes.channel_count - 1
            )
        )

    def _draw_boxes(self, frame: int = 0) -> None:
        boxes = [(prompt.frame, prompt.box) for prompt in self._track_prompts.boxes]
        if self._dragged_box is not None:
            boxes.append((frame, self._dragged_box))
        if self._key is None or not (boxes or self._shapes is not None):
            return
        corners = [
            [(*self._compute_frame_index(box_frame), *yx) for yx in _compute_corners(box)]
            for box_frame, box in boxes
        ]
        layer = self.shapes
        layer.selected_data = set()
        layer.data = []
        if corners:
            layer.add_rectangles(
                np.array(corners),
                edge_color=_BOX_COLOUR,
                face_color="transparent",
                edge_width=self._click_size_px / 6,
            )

    @contextmanager
    def _suppress_events(self) -> Iterator[None]:
        """Ignore the events of changes that the plugin makes."""
        before, self._events_suppressed = self._events_suppressed, True
        try:
            yield
        finally:
            self._events_suppressed = before

    def _on_edit(self, event: Any) -> None:
        if (
            self._events_suppressed
            or self._key is None
            or str(getattr(event, "action", "")).lower().endswith("ing")
        ):
            return
        now, before = self._read_points(), self._group_by_frame(self._track_prompts)
        boxes = self._read_boxes()
        for frame in sorted({*now, *boxes, *before}):
            prompts: list[PointPrompt | BoxPrompt] = [*boxes.get(frame, []), *now.get(frame, [])]
            if prompts != before.get(frame, []):
                self._edited_callback(
                    frame, prompts, _find_added_clicks(before.get(frame, []), prompts)
                )

    def _group_by_frame(
        self, track_prompts: TrackPrompts
    ) -> dict[int, list[PointPrompt | BoxPrompt]]:
        found: dict[int, list[PointPrompt | BoxPrompt]] = {}
        prompts: list[PointPrompt | BoxPrompt] = [*track_prompts.boxes, *track_prompts.points]
        for prompt in prompts:
            found.setdefault(prompt.frame, []).append(prompt)
        return found

    def _read_points(self) -> dict[int, list[PointPrompt]]:
        if self._points is None:
            return {}
        rows: dict[int, list[tuple[tuple[float, float], bool]]] = {}
        for place, kind in zip(self._points.data, self._points.features["kind"], strict=True):
            rows.setdefault(self._get_frame(place), []).append(
                ((float(place[-2]), float(place[-1])), kind != NEGATIVE)
            )
        return {
            frame: [
                PointPrompt(
                    frame,
                    self._track_prompts.track,
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
                frame = self._get_frame(corners[0])
                found[frame] = [
                    BoxPrompt(
                        frame, self._track_prompts.track, (*map(float, low), *map(float, high))
                    )
                ]
        return found

    def _get_frame(self, data_position: Sequence[float]) -> int:
        assert self._key is not None
        along = self._key.selection.along
        return (
            round(float(data_position[self.axes.letters.index(along)]))
            if along in self.axes.letters
            else 0
        )

    def _on_paint(self, event: Any) -> None:
        """Note what was painted.

        The masks are read a moment later, because napari emits this before it writes the pixels.
        """
        if self._events_suppressed or self._key is None:
            return
        for atom in event.value:
            # a mask in napari 0.9; indices in older ones, and for single pixels
            index, old, new = (
                atom if len(atom) == 3 else (atom.slice_key, atom.old_values, atom.new_value)
            )
            gained = {int(track) for track in np.unique(np.asarray(new))} - {0}
            tracks = gained or {int(track) for track in np.unique(np.asarray(old))} - {0}
            self._painted_objects |= {
                (frame, track) for frame in self._get_painted_frames(index) for track in tracks
            }
        self.defer(self._report_painted)

    def _report_painted(self) -> None:
        """Report the masks of the objects that were painted."""
        painted, self._painted_objects = self._painted_objects, set()
        for frame, track in sorted(painted):
            if self._key is not None:
                self._painted_callback(
                    frame,
                    track,
                    self._label_data[self._compute_plane_index(self._key, frame)] == track,
                )

    def _get_painted_frames(self, painted_index: Sequence[Any]) -> list[int]:
        """The frames of an index into the labels: slices or arrays of indices."""
        assert self._key is not None
        along = self._key.selection.along
        if along not in self.axes.letters:
            return [0]
        part = painted_index[self.axes.letters.index(along)]
        if isinstance(part, slice):
            return list(range(*part.indices(self._key.selection.length)))
        return [int(frame) for frame in np.unique(part)]


def make_palette() -> CyclicLabelColormap:
    """Make bright colours for objects, unlike each other for neighbouring ids."""
    steps = np.arange(_COLOUR_COUNT)
    hue, value = (steps * _GOLDEN_RATIO) % 1.0, 1.0 - 0.18 * (steps % 3 == 2)
    saturation = 0.85 - 0.25 * (steps % 2)
    solid = hsv_to_rgb(np.stack([hue, saturation, value], axis=-1))
    colours = np.concatenate(
        [np.zeros((1, 4)), np.concatenate([solid, np.ones((_COLOUR_COUNT, 1))], axis=1)]
    )
    return CyclicLabelColormap(colors=colours, background_value=0, name="napari-sam2 objects")


def _make_kinds(positive: Sequence[bool]) -> pd.DataFrame:
    kinds = [POSITIVE if each else NEGATIVE for each in positive]
    return pd.DataFrame({"kind": pd.Categorical(kinds, categories=[POSITIVE, NEGATIVE])})


def _compute_corners(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    y, x, y2, x2 = box
    return [(y, x), (y, x2), (y2, x2), (y2, x)]


def _find_added_clicks(
    before: Sequence[PointPrompt | BoxPrompt], now: Sequence[PointPrompt | BoxPrompt]
) -> list[PointPrompt]:
    """Find the clicks that were added, if nothing else changed."""
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
