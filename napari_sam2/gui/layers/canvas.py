"""Canvas: the chosen image in napari's viewer, what is drawn over it, and the mouse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Tracks

from napari_sam2.core.prompt import BoxPrompt, PointPrompt
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.live_tables import TableSet
from napari_sam2.gui.app.view import ImageSelection, SessionKey, Snapshot, Stage, TrackPrompts
from napari_sam2.gui.layers.layer_axes import LayerAxes, get_layer_key, locate
from napari_sam2.gui.layers.mouse import Gestures, Mouse
from napari_sam2.gui.layers.overlays import Defer, Overlays
from napari_sam2.gui.layers.seed_layer import SeedLayer
from napari_sam2.gui.layers.tracks_layer import make_tracks_layer
from napari_sam2.gui.widgets.tools_section import Tool
from napari_sam2.tracking.seeds import Seed

Notify = Callable[..., None]


class Canvas:
    """The chosen image, its overlays, the mouse, and the frame that is shown.

    Parameters
    ----------
    viewer, controller
        The viewer, and what a click or drag is passed to.
    notify
        Tells the person something, in one sentence.
    defer
        Calls a function when napari has finished what it is doing.

    Attributes
    ----------
    frame_callbacks
        Called when another frame is shown.
    track_to_split
        The object that the next click splits; 0 if there is none.
    """

    def __init__(
        self, viewer: Any, controller: Controller, notify: Notify, *, defer: Defer = lambda do: do()
    ) -> None:
        self.image: Any = None
        self.axes: LayerAxes | None = None
        self.overlays: Overlays | None = None
        self.tool = Tool.POINT
        self.track_to_split = 0
        self.frame_callbacks: list[Callable[[], None]] = []
        self._viewer = viewer
        self._controller = controller
        self.notify = notify
        self._defer = defer
        self.overlays_by_layer: dict[str, Overlays] = {}
        self._seed_layers: dict[str, SeedLayer] = {}
        self._tracks_layers: dict[str, Tracks] = {}
        self._needs_redraw = False
        self._changing_frame = False
        self._followed_frame: int | None = None
        self._frame_before: int | None = None
        self._mouse = Mouse(
            viewer,
            Gestures(
                self.click,
                self._on_drag,
                is_listening=self._is_listening,
                is_drawing_box=self._is_drawing_box,
            ),
        )
        self._dims_events = (viewer.dims.events.current_step, viewer.dims.events.point)
        for emitter in self._dims_events:
            emitter.connect(self._on_dims)

    def close(self) -> None:
        """Release the viewer; the layers stay."""
        self._mouse.close()
        for emitter in self._dims_events:
            emitter.disconnect(self._on_dims)
        for overlays in self.overlays_by_layer.values():
            overlays.close()
        self.overlays_by_layer.clear()
        self.image, self.axes, self.overlays = None, None, None

    def use_image(
        self, image: Any, axes: LayerAxes | None, selection: ImageSelection | None
    ) -> None:
        """Work on this image, or on none."""
        self.image, self.axes, self.overlays = image, axes, None
        if axes is None or selection is None:
            self._controller.open(None)
            return
        overlays = self.overlays_by_layer.get(selection.layer_key)
        if overlays is None or overlays.axes.letters != axes.letters:
            overlays = Overlays(
                self._viewer,
                image,
                axes,
                on_edited=self._on_edited,
                on_painted=self._on_painted,
                defer=self._defer,
            )
            self.overlays_by_layer[selection.layer_key] = overlays
            self._seed_layers[selection.layer_key] = SeedLayer(self._viewer, image, axes)
        self.overlays = overlays
        frame, at, _ = self._locate(self._viewer.dims.point, selection.along)
        self._controller.open(selection, frame, at)

    def forget_image(self, layer_key: str) -> None:
        """An image was removed."""
        self._seed_layers.pop(layer_key, None)
        self._tracks_layers.pop(layer_key, None)
        overlays = self.overlays_by_layer.pop(layer_key, None)
        if overlays is not None:
            overlays.close()

    def is_overlay(self, layer: Any) -> bool:
        """Whether a layer shows objects, clicks or boxes of any image."""
        return any(
            layer is each
            for overlays in self.overlays_by_layer.values()
            for each in overlays.layers
        )

    @property
    def own_layer_keys(self) -> set[str]:
        """Keys of the layers that the plugin made."""
        layers = [
            layer for overlays in self.overlays_by_layer.values() for layer in overlays.layers
        ]
        layers += [each.layer for each in self._seed_layers.values() if each.layer is not None]
        return {get_layer_key(layer) for layer in layers}

    @property
    def seed_layer(self) -> SeedLayer | None:
        """The seeds of the open image."""
        key = self._controller.key
        return None if key is None else self._seed_layers.get(key.selection.layer_key)

    def get_colour(self, track: int) -> tuple[float, float, float]:
        """The colour of an object: red, green and blue from 0 to 1."""
        return (0.5, 0.5, 0.5) if self.overlays is None else self.overlays.get_colour(track)

    # drawing

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes; `refresh` draws them."""
        overlays = self.overlays_by_layer.get(key.selection.layer_key)
        if overlays is None or overlays.image not in self._viewer.layers:
            return
        overlays.draw_planes(key, planes)
        if self._followed_frame is not None and len(planes) == 1:
            self._followed_frame = next(iter(planes))
        shown = self._controller.frame in planes or not self._shows_yx
        self._needs_redraw = self._needs_redraw or (key == self._controller.key and shown)

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Draw the current object's clicks and boxes."""
        if self.overlays is not None and self.overlays.image in self._viewer.layers:
            self.overlays.draw_prompts(key, track_prompts)
            self.overlays.select(track_prompts.track)

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Draw detected seeds."""
        layer_key = key.selection.layer_key
        seed_layer = self._seed_layers.get(layer_key)
        if (
            seed_layer is not None
            and self.overlays_by_layer[layer_key].image in self._viewer.layers
        ):
            seed_layer.show_seeds(key, seeds)

    def draw_tracks(self, key: SessionKey, tables: TableSet) -> None:
        """Draw the tracks of a session in a Tracks layer, which replaces an older one.

        Raises PlanError if nothing was measured yet.
        """
        layer_key, layers = key.selection.layer_key, self._viewer.layers
        overlays, old = self.overlays_by_layer.get(layer_key), self._tracks_layers.get(layer_key)
        if overlays is None or overlays.image not in layers:
            return
        new = make_tracks_layer(overlays.image, overlays.axes, key, tables)
        if old is not None and old in layers:
            old.graph = {}
            old.data, old.graph = new.data, new.graph
            return
        active = layers.selection.active
        self._tracks_layers[layer_key] = self._viewer.add_layer(new)
        layers.selection.active = active

    def refresh(self) -> None:
        """Show the followed frame, which draws it; else draw what was written on this frame."""
        if self._followed_frame is not None and self._followed_frame != self._controller.frame:
            self.go_to_frame(self._followed_frame)
            self._needs_redraw = False
        if self._needs_redraw and self.overlays is not None:
            self._needs_redraw = False
            self.overlays.refresh()

    def follow_propagation(self, snapshot: Snapshot, *, enabled: bool) -> None:
        """During a run, show the frame that was done last; then go back to the frame before.

        Images that are read from disk or computed are not followed, because napari would wait for
        each of their frames.
        """
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        if moving and self._frame_before is None:
            self._frame_before = self._controller.frame
            in_memory = self.image is not None and isinstance(self.image.data, np.ndarray)
            self._followed_frame = self._frame_before if enabled and in_memory else None
        elif not moving and self._frame_before is not None:
            frame, followed = self._frame_before, self._followed_frame is not None
            self._frame_before = self._followed_frame = None
            if followed:
                self.go_to_frame(frame)

    # position

    def go_to_frame(self, frame: int) -> None:
        """Show another frame."""
        key = self._controller.key
        if self.image is None or self.axes is None or key is None:
            return
        if key.selection.along not in self.axes.letters:
            return
        dims, axis = self._viewer.dims, self.axes.letters.index(key.selection.along)
        position = list(self.image.world_to_data(dims.point))
        position[axis] = min(max(frame, 0), key.selection.length - 1)
        world = self.image.data_to_world(position)
        self._changing_frame = True
        dims.set_point(axis + dims.ndim - self.image.ndim, world[axis])
        self._changing_frame = False

    def show_position(self, key: SessionKey) -> None:
        """Show the position of a session on the axes that it is not propagated along."""
        if self.image is None or self.axes is None:
            return
        dims = self._viewer.dims
        position = list(self.image.world_to_data(dims.point))
        for axis, number in key.at:
            position[self.axes.letters.index(axis)] = number
        dims.set_point(
            range(dims.ndim - self.image.ndim, dims.ndim), self.image.data_to_world(position)
        )

    def _locate(
        self, world: Sequence[float], along: str
    ) -> tuple[int, tuple[tuple[str, int], ...], tuple[float, float]]:
        """The frame, the position on other axes, and the (y, x) of a position in the world."""
        assert self.axes is not None
        index, yx = locate(self.image, self.axes, world)
        at = tuple(
            (axis, number) for axis, number in index.items() if axis in "tz" and axis != along
        )
        return index.get(along, 0), at, yx

    def _on_dims(self, event: Any) -> None:
        key = self._controller.key
        if self.axes is None or key is None or self.image not in self._viewer.layers:
            return
        if not self._changing_frame:
            self._followed_frame = None  # the person moved the slider
        frame_before = self._controller.frame
        frame, at, _ = self._locate(self._viewer.dims.point, key.selection.along)
        self._controller.set_position(frame, at)
        if self.overlays is not None:
            self.overlays.refresh_channel()
        if self._controller.frame != frame_before:
            for callback in self.frame_callbacks:
                callback()

    # mouse

    def use_tool(self, tool: Tool) -> None:
        """Use a tool: the Labels layer is painted on, or the image is clicked."""
        self.tool = tool
        if self.overlays is None:
            return
        if tool in (Tool.PAINT, Tool.LASSO):
            if self._controller.state.current not in self._controller.state.tracks:
                self._controller.start_object()
            self.overlays.start_painting(self._controller.state.current, lasso=tool is Tool.LASSO)
        else:
            self.overlays.leave_tools()

    def split(self, track: int) -> None:
        """Split an object into its pieces here; if it is in one piece, wait for a click."""
        frame, key = self._controller.frame, self._controller.key
        if self.overlays is not None and self.overlays.count_pieces(key, frame, track) > 1:
            self._controller.split(track, frame)
        elif track:
            self.track_to_split = track
            self.notify("Click the part that is another object.")

    def _is_listening(self) -> bool:
        """Whether a click on the canvas is a prompt: not while a layer is being edited."""
        if self._controller.key is None:
            return False
        active = self._viewer.layers.selection.active
        return active is None or str(active.mode) == "pan_zoom"

    def _is_drawing_box(self) -> bool:
        return self.tool is Tool.BOX and self._viewer.dims.ndisplay == 2

    def click(self, world: Sequence[float], positive: bool) -> None:
        """Prompt, or split an object, where the user clicked."""
        key = self._controller.key
        if key is None or self.axes is None or not self._check_yx_shown():
            return
        frame, _, (y, x) = self._locate(world, key.selection.along)
        height, width = self.axes.shape[-2:]
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            self.notify("That is outside the image. Click inside it.", is_error=True)
        elif self.track_to_split:
            track, self.track_to_split = self.track_to_split, 0
            self._controller.split(track, frame, (y, x))
        else:
            self._controller.add_click(frame, (y, x), positive=positive)

    def _on_drag(self, start: Sequence[float], end: Sequence[float], finished: bool) -> None:
        key = self._controller.key
        if key is None or self.axes is None or self.overlays is None:
            return
        if not self._check_yx_shown(silent=not finished):
            return
        frame, _, one = self._locate(start, key.selection.along)
        _, _, other = self._locate(end, key.selection.along)
        height, width = self.axes.shape[-2:]
        y, y2 = sorted(float(np.clip(each[0], 0, height - 1)) for each in (one, other))
        x, x2 = sorted(float(np.clip(each[1], 0, width - 1)) for each in (one, other))
        self.overlays.show_dragged_box(key, frame, None if finished else (y, x, y2, x2))
        if finished and y < y2 and x < x2:
            self._controller.add_box(frame, (y, x, y2, x2))

    @property
    def _shows_yx(self) -> bool:
        """Whether the canvas shows one frame: y and x."""
        dims = self._viewer.dims
        return dims.ndisplay == 2 and set(dims.displayed) == {dims.ndim - 2, dims.ndim - 1}

    def _check_yx_shown(self, *, silent: bool = False) -> bool:
        """Whether the canvas shows y and x; if not, say how to change that."""
        if self._shows_yx:
            return True
        if not silent:
            self.notify(
                "Show the image in 2D to prompt: use the square button below the layer list."
                if self._viewer.dims.ndisplay != 2
                else "Show the y and x axes to prompt. The canvas shows other axes.",
                is_error=True,
            )
        return False

    # edits by hand, in the layers

    def _on_edited(
        self, frame: int, prompts: list[PointPrompt | BoxPrompt], added: list[PointPrompt]
    ) -> None:
        if not added:
            self._controller.edit_prompts(frame, prompts)
            return
        for yx, positive in zip(added[0].yx, added[0].positive, strict=True):
            self._controller.add_click(frame, yx, positive=positive)

    def _on_painted(self, frame: int, track: int, mask: np.ndarray) -> None:
        if mask.any():
            self._controller.add_mask(frame, mask, track)
        else:
            self.notify(
                "Nothing is left of this object on this frame. To delete the whole object, use the "
                "list of objects.",
                is_error=True,
            )
