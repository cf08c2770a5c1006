"""Canvas: where the person looks and clicks in napari's viewer, and what is drawn there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Tracks

from napari_sam2.core.prompt import BoxPrompt, PointPrompt
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.gui.app.live_tables import TableSet
from napari_sam2.gui.app.view import ImageSelection, SessionKey, Snapshot, Stage, TrackPrompts
from napari_sam2.gui.layers.layer_axes import LayerAxes, get_layer_key, locate
from napari_sam2.gui.layers.mouse import Gestures, Mouse
from napari_sam2.gui.layers.overlays import Defer, Overlays
from napari_sam2.gui.layers.seed_layer import SeedLayer
from napari_sam2.gui.layers.tracks_layer import make_tracks_layer
from napari_sam2.gui.widgets.tools_section import Tool

Notify = Callable[..., None]


class Canvas:
    """The chosen image in the viewer, its overlays, the mouse, and the frame that is looked at.

    Parameters
    ----------
    viewer, controller, notify
        Where, who is told what the person does, and how to say a sentence.
    defer
        Does something when napari has done what it is at.
    """

    def __init__(
        self, viewer: Any, controller: Controller, notify: Notify, *, defer: Defer = lambda do: do()
    ) -> None:
        self._viewer = viewer
        self._controller = controller
        self._notify = notify
        self._defer = defer
        self._overlays: dict[str, Overlays] = {}
        self._seed_layers: dict[str, SeedLayer] = {}
        self._tracks_layers: dict[str, Tracks] = {}
        self.frame_callbacks: list[
            Callable[[], None]
        ] = []  # called when another frame is looked at
        self._changing_frame = False
        self._needs_redraw = False
        self._followed_frame: int | None = None
        self._frame_before: int | None = None
        self.track_to_split = 0
        self.tool = Tool.POINT
        self.image: Any = None
        self.axes: LayerAxes | None = None
        self.overlays: Overlays | None = None
        self._mouse = Mouse(
            viewer,
            Gestures(
                self._on_click,
                self._on_drag,
                is_listening=self._is_listening,
                is_drawing_box=self._is_drawing_box,
            ),
        )
        self._dims_events = (viewer.dims.events.current_step, viewer.dims.events.point)
        for emitter in self._dims_events:
            emitter.connect(self._on_dims)

    def close(self) -> None:
        """Let go of the viewer; the layers stay."""
        self._mouse.close()
        for emitter in self._dims_events:
            emitter.disconnect(self._on_dims)
        for overlays in self._overlays.values():
            overlays.close()
        self._overlays.clear()
        self.image, self.axes, self.overlays = None, None, None

    def use_image(
        self, image: Any, axes: LayerAxes | None, selection: ImageSelection | None
    ) -> None:
        """Work on this image, or on none."""
        self.image, self.axes, self.overlays = image, axes, None
        if axes is None or selection is None:
            self._controller.open(None)
            return
        known = self._overlays.get(selection.layer_key)
        if known is None or known.axes.letters != axes.letters:
            known = Overlays(
                self._viewer,
                image,
                axes,
                on_edited=self._on_edited,
                on_painted=self._on_painted,
                defer=self._defer,
            )
            self._overlays[selection.layer_key] = known
            self._seed_layers[selection.layer_key] = SeedLayer(self._viewer, image, axes)
        self.overlays = known
        frame, at, _ = self._locate(self._viewer.dims.point, selection.along)
        self._controller.open(selection, frame, at)

    def forget_image(self, layer_key: str) -> None:
        """An image is gone."""
        self._seed_layers.pop(layer_key, None)
        self._tracks_layers.pop(layer_key, None)
        gone = self._overlays.pop(layer_key, None)
        if gone is not None:
            gone.close()

    @property
    def own_layer_keys(self) -> set[str]:
        """Keys of the layers that this made."""
        seeds = [each.layer for each in self._seed_layers.values() if each.layer is not None]
        return {
            get_layer_key(layer)
            for layer in (
                *seeds,
                *(layer for overlays in self._overlays.values() for layer in overlays.layers),
            )
        }

    @property
    def seed_layer(self) -> SeedLayer | None:
        """The seeds over the image that is worked on."""
        place = self._controller.key
        return None if place is None else self._seed_layers.get(place.selection.layer_key)

    def get_colour(self, track: int) -> tuple[float, float, float]:
        """The colour (red, green, blue, 0 to 1) that an object is shown in."""
        return (0.5, 0.5, 0.5) if self.overlays is None else self.overlays.get_colour(track)

    # drawing

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes; `refresh` shows them."""
        overlays = self._overlays.get(key.selection.layer_key)
        if overlays is None or overlays.image not in self._viewer.layers:
            return
        overlays.draw_planes(key, planes)
        if self._followed_frame is not None and len(planes) == 1:
            self._followed_frame = next(iter(planes))
        here = key == self._controller.key and (
            self._controller.frame in planes or not self._shows_yx
        )
        self._needs_redraw = self._needs_redraw or here

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Show the current object's clicks and boxes."""
        if self.overlays is not None and self.overlays.image in self._viewer.layers:
            self.overlays.draw_prompts(key, track_prompts)
            self.overlays.select(track_prompts.track)

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Show what a search found."""
        layer = self._seed_layers.get(key.selection.layer_key)
        if (
            layer is not None
            and self._overlays[key.selection.layer_key].image in self._viewer.layers
        ):
            layer.show_seeds(key, seeds)

    def draw_tracks(self, key: SessionKey, tables: TableSet) -> None:
        """Show the tracks of a place as they are now, in their layer.

        Raises PlanError where nothing was measured yet.
        """
        overlays = self._overlays.get(key.selection.layer_key)
        if overlays is None or overlays.image not in self._viewer.layers:
            return
        fresh, old = (
            make_tracks_layer(overlays.image, overlays.axes, key, tables),
            self._tracks_layers.get(key.selection.layer_key),
        )
        if old is not None and old in self._viewer.layers:
            old.graph = {}
            old.data, old.graph = fresh.data, fresh.graph
            return
        active = self._viewer.layers.selection.active
        self._tracks_layers[key.selection.layer_key] = self._viewer.add_layer(fresh)
        self._viewer.layers.selection.active = active

    def refresh(self) -> None:
        """Go to the frame that is followed, which draws it; else draw what was written on the one that is looked at."""
        if self._followed_frame is not None and self._followed_frame != self._controller.frame:
            self.go_to_frame(self._followed_frame)
            self._needs_redraw = False
        if self._needs_redraw and self.overlays is not None:
            self._needs_redraw = False
            self.overlays.refresh()

    def follow_propagation(self, snapshot: Snapshot, *, enabled: bool) -> None:
        """While objects are carried, look at the frame that was done last; then go back to where the person was.

        Images that are read from disk or computed are not followed: napari would wait for each of
        their frames.
        """
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        if moving and self._frame_before is None:
            self._frame_before = self._controller.frame
            quick = self.image is not None and isinstance(self.image.data, np.ndarray)
            self._followed_frame = self._frame_before if enabled and quick else None
        elif not moving and self._frame_before is not None:
            home, watched = self._frame_before, self._followed_frame is not None
            self._frame_before = self._followed_frame = None
            if watched:
                self.go_to_frame(home)

    # where

    def go_to_frame(self, frame: int) -> None:
        """Look at another frame."""
        place = self._controller.key
        if (
            self.image is None
            or self.axes is None
            or place is None
            or place.selection.along not in self.axes.letters
        ):
            return
        axis = self.axes.letters.index(place.selection.along)
        inside = list(self.image.world_to_data(self._viewer.dims.point))
        inside[axis] = min(max(frame, 0), place.selection.length - 1)
        world = self.image.data_to_world(inside)
        self._changing_frame = True
        self._viewer.dims.set_point(axis + self._viewer.dims.ndim - self.image.ndim, world[axis])
        self._changing_frame = False

    def show_position(self, key: SessionKey) -> None:
        """Look at the position of the axes that are not walked."""
        if self.image is None or self.axes is None:
            return
        dims, inside = self._viewer.dims, list(self.image.world_to_data(self._viewer.dims.point))
        for axis, number in key.at:
            inside[self.axes.letters.index(axis)] = number
        dims.set_point(
            range(dims.ndim - self.image.ndim, dims.ndim), self.image.data_to_world(inside)
        )

    def _locate(
        self, world: Sequence[float], along: str
    ) -> tuple[int, tuple[tuple[str, int], ...], tuple[float, float]]:
        """Frame, position of the axes that are not walked, and (y, x) of a position in the world."""
        assert self.axes is not None
        where, yx = locate(self.image, self.axes, world)
        at = tuple((axis, place) for axis, place in where.items() if axis in "tz" and axis != along)
        return where.get(along, 0), at, yx

    def _on_dims(self, event: Any) -> None:
        place = self._controller.key
        if self.axes is None or place is None or self.image not in self._viewer.layers:
            return
        if not self._changing_frame:
            self._followed_frame = None  # the person looks elsewhere
        before = self._controller.frame
        self._controller.set_position(
            *self._locate(self._viewer.dims.point, place.selection.along)[:2]
        )
        if self.overlays is not None:
            self.overlays.refresh_channel()
        if self._controller.frame != before:
            for tell in self.frame_callbacks:
                tell()

    # the mouse

    def use_tool(self, tool: Tool) -> None:
        """Painting is napari's own, in the Labels layer; for clicks and boxes the image is the selected layer."""
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
        """Split an object into its pieces here; of one piece, wait for a click on the part."""
        frame, place = self._controller.frame, self._controller.key
        if self.overlays is not None and self.overlays.count_pieces(place, frame, track) > 1:
            self._controller.split(track, frame)
        elif track:
            self.track_to_split = track
            self._notify("Click the part that is another object.")

    def _is_listening(self) -> bool:
        """Whether a click on the canvas is ours: not while a layer is being edited."""
        if self._controller.key is None:
            return False
        active = self._viewer.layers.selection.active
        return active is None or str(active.mode) == "pan_zoom"

    def _is_drawing_box(self) -> bool:
        return self.tool is Tool.BOX and self._viewer.dims.ndisplay == 2

    def _on_click(self, world: Sequence[float], positive: bool) -> None:
        place = self._controller.key
        if place is None or self.axes is None or not self._check_yx_shown():
            return
        frame, _, (y, x) = self._locate(world, place.selection.along)
        height, width = self.axes.shape[-2:]
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            self._notify("That is outside the image: click inside it.", is_error=True)
        elif self.track_to_split:
            track, self.track_to_split = self.track_to_split, 0
            self._controller.split(track, frame, (y, x))
        else:
            self._controller.add_click(frame, (y, x), positive=positive)

    def _on_drag(self, start: Sequence[float], end: Sequence[float], finished: bool) -> None:
        place = self._controller.key
        if (
            place is None
            or self.axes is None
            or self.overlays is None
            or not self._check_yx_shown(silent=not finished)
        ):
            return
        (frame, _, one), (_, _, other) = (
            self._locate(start, place.selection.along),
            self._locate(end, place.selection.along),
        )
        height, width = self.axes.shape[-2:]
        y, y2 = sorted(float(np.clip(each[0], 0, height - 1)) for each in (one, other))
        x, x2 = sorted(float(np.clip(each[1], 0, width - 1)) for each in (one, other))
        self.overlays.show_dragged_box(place, frame, None if finished else (y, x, y2, x2))
        if finished and y < y2 and x < x2:
            self._controller.add_box(frame, (y, x, y2, x2))

    @property
    def _shows_yx(self) -> bool:
        """Whether the canvas shows one frame: y and x."""
        dims = self._viewer.dims
        return dims.ndisplay == 2 and set(dims.displayed) == {dims.ndim - 2, dims.ndim - 1}

    def _check_yx_shown(self, *, silent: bool = False) -> bool:
        """Whether y and x are what the canvas shows; says what to do where they are not."""
        dims = self._viewer.dims
        problem = ""
        if dims.ndisplay != 2:
            problem = "Show the image in 2D to prompt: the square button below the list of layers."
        elif not self._shows_yx:
            problem = "Show the y and x axes to prompt: the canvas shows other ones."
        if problem and not silent:
            self._notify(problem, is_error=True)
        return not problem

    # by hand, in the layers

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
            self._notify(
                "Nothing is left of this object here. To take it out altogether, delete it in "
                "the list.",
                is_error=True,
            )
