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
from napari_sam2.gui.app.view import Choice, Place, Said, Snapshot, Stage
from napari_sam2.gui.layers.layer_axes import Reading, key_of, locate
from napari_sam2.gui.layers.mouse import Gestures, Mouse
from napari_sam2.gui.layers.overlays import Later, Overlays
from napari_sam2.gui.layers.seed_layer import SeedLayer
from napari_sam2.gui.layers.tracks_layer import tracks_layer
from napari_sam2.gui.widgets.tools_section import Tool

Tell = Callable[..., None]


class Canvas:
    """The chosen image in the viewer, its overlays, the mouse, and the frame that is looked at.

    Parameters
    ----------
    viewer, controller, tell
        Where, who is told what the person does, and how to say a sentence.
    later
        Does something when napari has done what it is at.
    """

    def __init__(
        self, viewer: Any, controller: Controller, tell: Tell, *, later: Later = lambda do: do()
    ) -> None:
        self._viewer = viewer
        self._controller = controller
        self._tell = tell
        self._later = later
        self._overlays: dict[str, Overlays] = {}
        self._seeds: dict[str, SeedLayer] = {}
        self._tracks: dict[str, Tracks] = {}
        self.moved: list[Callable[[], None]] = []  # called when another frame is looked at
        self._moving = False
        self._dirty = False
        self._followed: int | None = None
        self._home: int | None = None
        self.splitting = 0
        self.tool = Tool.POINT
        self.image: Any = None
        self.reading: Reading | None = None
        self.overlays: Overlays | None = None
        self._mouse = Mouse(
            viewer,
            Gestures(self._click, self._drag, listening=self._listening, boxing=self._boxing),
        )
        self._listened = (viewer.dims.events.current_step, viewer.dims.events.point)
        for emitter in self._listened:
            emitter.connect(self._on_dims)

    def close(self) -> None:
        """Let go of the viewer; the layers stay."""
        self._mouse.close()
        for emitter in self._listened:
            emitter.disconnect(self._on_dims)
        for overlays in self._overlays.values():
            overlays.close()
        self._overlays.clear()
        self.image, self.reading, self.overlays = None, None, None

    def use(self, image: Any, reading: Reading | None, choice: Choice | None) -> None:
        """Work on this image, or on none."""
        self.image, self.reading, self.overlays = image, reading, None
        if reading is None or choice is None:
            self._controller.open(None)
            return
        known = self._overlays.get(choice.key)
        if known is None or known.reading.letters != reading.letters:
            known = Overlays(
                self._viewer,
                image,
                reading,
                edited=self._on_edited,
                painted=self._on_painted,
                later=self._later,
            )
            self._overlays[choice.key] = known
            self._seeds[choice.key] = SeedLayer(self._viewer, image, reading)
        self.overlays = known
        frame, at, _ = self._where(self._viewer.dims.point, choice.along)
        self._controller.open(choice, frame, at)

    def forget(self, key: str) -> None:
        """An image is gone."""
        self._seeds.pop(key, None)
        self._tracks.pop(key, None)
        gone = self._overlays.pop(key, None)
        if gone is not None:
            gone.close()

    @property
    def ours(self) -> set[str]:
        """Keys of the layers that this made."""
        seeds = [each.layer for each in self._seeds.values() if each.layer is not None]
        return {
            key_of(layer)
            for layer in (
                *seeds,
                *(layer for overlays in self._overlays.values() for layer in overlays.layers),
            )
        }

    @property
    def seeds(self) -> SeedLayer | None:
        """The seeds over the image that is worked on."""
        place = self._controller.place
        return None if place is None else self._seeds.get(place.choice.key)

    def colour(self, track: int) -> tuple[float, float, float]:
        """The colour (red, green, blue, 0 to 1) that an object is shown in."""
        return (0.5, 0.5, 0.5) if self.overlays is None else self.overlays.colour(track)

    # drawing

    def draw(self, place: Place, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes; `refresh` shows them."""
        overlays = self._overlays.get(place.choice.key)
        if overlays is None or overlays.image not in self._viewer.layers:
            return
        overlays.draw(place, planes)
        if self._followed is not None and len(planes) == 1:
            self._followed = next(iter(planes))
        here = place == self._controller.place and (
            self._controller.frame in planes or not self._flat
        )
        self._dirty = self._dirty or here

    def draw_said(self, place: Place, said: Said) -> None:
        """Show the current object's clicks and boxes."""
        if self.overlays is not None and self.overlays.image in self._viewer.layers:
            self.overlays.draw_said(place, said)
            self.overlays.select(said.track)

    def draw_seeds(self, place: Place, seeds: Sequence[Seed]) -> None:
        """Show what a search found."""
        layer = self._seeds.get(place.choice.key)
        if layer is not None and self._overlays[place.choice.key].image in self._viewer.layers:
            layer.show(place, seeds)

    def draw_tracks(self, place: Place, tables: TableSet) -> None:
        """Show the tracks of a place as they are now, in their layer.

        Raises PlanError where nothing was measured yet.
        """
        overlays = self._overlays.get(place.choice.key)
        if overlays is None or overlays.image not in self._viewer.layers:
            return
        fresh, old = (
            tracks_layer(overlays.image, overlays.reading, place, tables),
            self._tracks.get(place.choice.key),
        )
        if old is not None and old in self._viewer.layers:
            old.graph = {}
            old.data, old.graph = fresh.data, fresh.graph
            return
        active = self._viewer.layers.selection.active
        self._tracks[place.choice.key] = self._viewer.add_layer(fresh)
        self._viewer.layers.selection.active = active

    def refresh(self) -> None:
        """Go to the frame that is followed, which draws it; else draw what was written on the one that is looked at."""
        if self._followed is not None and self._followed != self._controller.frame:
            self.go_to(self._followed)
            self._dirty = False
        if self._dirty and self.overlays is not None:
            self._dirty = False
            self.overlays.refresh()

    def follow(self, snapshot: Snapshot, *, wanted: bool) -> None:
        """While objects are carried, look at the frame that was done last; then go back to where the person was.

        Images that are read from disk or computed are not followed: napari would wait for each of
        their frames.
        """
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        if moving and self._home is None:
            self._home = self._controller.frame
            quick = self.image is not None and isinstance(self.image.data, np.ndarray)
            self._followed = self._home if wanted and quick else None
        elif not moving and self._home is not None:
            home, watched = self._home, self._followed is not None
            self._home = self._followed = None
            if watched:
                self.go_to(home)

    # where

    def go_to(self, frame: int) -> None:
        """Look at another frame."""
        place = self._controller.place
        if (
            self.image is None
            or self.reading is None
            or place is None
            or place.choice.along not in self.reading.letters
        ):
            return
        axis = self.reading.letters.index(place.choice.along)
        inside = list(self.image.world_to_data(self._viewer.dims.point))
        inside[axis] = min(max(frame, 0), place.choice.length - 1)
        world = self.image.data_to_world(inside)
        self._moving = True
        self._viewer.dims.set_point(axis + self._viewer.dims.ndim - self.image.ndim, world[axis])
        self._moving = False

    def look_at(self, place: Place) -> None:
        """Look at the position of the axes that are not walked."""
        if self.image is None or self.reading is None:
            return
        dims, inside = self._viewer.dims, list(self.image.world_to_data(self._viewer.dims.point))
        for axis, number in place.at:
            inside[self.reading.letters.index(axis)] = number
        dims.set_point(
            range(dims.ndim - self.image.ndim, dims.ndim), self.image.data_to_world(inside)
        )

    def _where(
        self, world: Sequence[float], along: str
    ) -> tuple[int, tuple[tuple[str, int], ...], tuple[float, float]]:
        """Frame, position of the axes that are not walked, and (y, x) of a position in the world."""
        assert self.reading is not None
        where, yx = locate(self.image, self.reading, world)
        at = tuple((axis, place) for axis, place in where.items() if axis in "tz" and axis != along)
        return where.get(along, 0), at, yx

    def _on_dims(self, event: Any) -> None:
        place = self._controller.place
        if self.reading is None or place is None or self.image not in self._viewer.layers:
            return
        if not self._moving:
            self._followed = None  # the person looks elsewhere
        before = self._controller.frame
        self._controller.look(*self._where(self._viewer.dims.point, place.choice.along)[:2])
        if self.overlays is not None:
            self.overlays.refresh_channel()
        if self._controller.frame != before:
            for tell in self.moved:
                tell()

    # the mouse

    def take_up(self, tool: Tool) -> None:
        """Painting is napari's own, in the Labels layer; for clicks and boxes the image is the selected layer."""
        self.tool = tool
        if self.overlays is None:
            return
        if tool in (Tool.PAINT, Tool.LASSO):
            if self._controller.book.current not in self._controller.book.tracks:
                self._controller.new()
            self.overlays.paint(self._controller.book.current, lasso=tool is Tool.LASSO)
        else:
            self.overlays.rest()

    def split(self, track: int) -> None:
        """Split an object into its pieces here; of one piece, wait for a click on the part."""
        frame, place = self._controller.frame, self._controller.place
        if self.overlays is not None and self.overlays.pieces(place, frame, track) > 1:
            self._controller.split(track, frame)
        elif track:
            self.splitting = track
            self._tell("Click the part that is another object.")

    def _listening(self) -> bool:
        """Whether a click on the canvas is ours: not while a layer is being edited."""
        if self._controller.place is None:
            return False
        active = self._viewer.layers.selection.active
        return active is None or str(active.mode) == "pan_zoom"

    def _boxing(self) -> bool:
        return self.tool is Tool.BOX and self._viewer.dims.ndisplay == 2

    def _click(self, world: Sequence[float], positive: bool) -> None:
        place = self._controller.place
        if place is None or self.reading is None or not self._seen():
            return
        frame, _, (y, x) = self._where(world, place.choice.along)
        height, width = self.reading.shape[-2:]
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            self._tell("That is outside the image: click inside it.", wrong=True)
        elif self.splitting:
            track, self.splitting = self.splitting, 0
            self._controller.split(track, frame, (y, x))
        else:
            self._controller.click(frame, (y, x), positive=positive)

    def _drag(self, start: Sequence[float], end: Sequence[float], done: bool) -> None:
        place = self._controller.place
        if (
            place is None
            or self.reading is None
            or self.overlays is None
            or not self._seen(quiet=not done)
        ):
            return
        (frame, _, one), (_, _, other) = (
            self._where(start, place.choice.along),
            self._where(end, place.choice.along),
        )
        height, width = self.reading.shape[-2:]
        y, y2 = sorted(float(np.clip(each[0], 0, height - 1)) for each in (one, other))
        x, x2 = sorted(float(np.clip(each[1], 0, width - 1)) for each in (one, other))
        self.overlays.drag(place, frame, None if done else (y, x, y2, x2))
        if done and y < y2 and x < x2:
            self._controller.box(frame, (y, x, y2, x2))

    @property
    def _flat(self) -> bool:
        """Whether the canvas shows one frame: y and x."""
        dims = self._viewer.dims
        return dims.ndisplay == 2 and set(dims.displayed) == {dims.ndim - 2, dims.ndim - 1}

    def _seen(self, *, quiet: bool = False) -> bool:
        """Whether y and x are what the canvas shows; says what to do where they are not."""
        dims = self._viewer.dims
        problem = ""
        if dims.ndisplay != 2:
            problem = "Show the image in 2D to prompt: the square button below the list of layers."
        elif not self._flat:
            problem = "Show the y and x axes to prompt: the canvas shows other ones."
        if problem and not quiet:
            self._tell(problem, wrong=True)
        return not problem

    # by hand, in the layers

    def _on_edited(
        self, frame: int, prompts: list[PointPrompt | BoxPrompt], added: list[PointPrompt]
    ) -> None:
        if not added:
            self._controller.edit(frame, prompts)
            return
        for yx, positive in zip(added[0].yx, added[0].positive, strict=True):
            self._controller.click(frame, yx, positive=positive)

    def _on_painted(self, frame: int, track: int, drawn: np.ndarray) -> None:
        if drawn.any():
            self._controller.mask(frame, drawn, track)
        else:
            self._tell(
                "Nothing is left of this object here. To take it out altogether, delete it in "
                "the list.",
                wrong=True,
            )
