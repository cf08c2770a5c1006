"""Controller: turns what a person does into work for the background thread.

It lives in the main thread, computes nothing, and knows neither Qt nor napari.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt, renumber_prompt
from napari_sam2.gui.app.counting_controller import CountingController
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.propagation_controller import PropagationController
from napari_sam2.gui.app.session_registry import ModelLoader, SessionRegistry
from napari_sam2.gui.app.session_state import SessionState
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.gui.app.task_queue import TaskQueue
from napari_sam2.gui.app.view import ImageSelection, SessionKey, Snapshot, Stage, View, Worker
from napari_sam2.gui.app.workspace import Workspace
from napari_sam2.propagation.session import Session

_REPLAYING = "Applying your prompts again…"
_EDIT_STOPPED_RUN = "Propagation stopped for your edit. Press P to resume."


class Controller:
    """The state of the window, and what can be done in it.

    Parameters
    ----------
    view, worker
        The window, and the thread that does the work.
    load
        Loads a model by name; called in the thread.
    model
        The name of the first model.
    root
        The folder of the projects, one for each image and model; None if nothing is kept.

    Attributes
    ----------
    propagation, counting
        What runs frame by frame: propagation through the stack, and counting without a click.
    """

    def __init__(
        self,
        view: View,
        worker: Worker,
        *,
        load: ModelLoader,
        model: str = "nano",
        root: Path | None = None,
    ) -> None:
        self._view = view
        self._worker = worker
        self.registry = SessionRegistry(load, root)
        self._workspace = Workspace(model)
        self._queue = TaskQueue(view, worker, self.registry, self._workspace)
        self.propagation = PropagationController(self._queue)
        self.counting = CountingController(self._queue, self.propagation)

    # the open session

    @property
    def key(self) -> SessionKey | None:
        """The open session; None if no image is open."""
        return self._workspace.key

    @property
    def closed(self) -> bool:
        """Whether the window is gone."""
        return self._workspace.closed

    @property
    def frame(self) -> int:
        """The frame that the window shows."""
        return self._workspace.frame

    @property
    def state(self) -> SessionState:
        """What is known of the open session."""
        return self._workspace.state

    @property
    def snapshot(self) -> Snapshot:
        """The state as a window shows it."""
        return self._queue.snapshot

    @property
    def session(self) -> Session | None:
        """The open session, to read from; None before it was opened."""
        return None if self.key is None else self.registry.get_session(self.key)

    def open(
        self, selection: ImageSelection | None, frame: int = 0, at: tuple[tuple[str, int], ...] = ()
    ) -> None:
        """Work on this image, or on none."""
        key = None if selection is None else SessionKey(selection, at)
        self._workspace.frame = frame
        if key == self.key:
            return
        self.propagation.interrupt()
        self._workspace.key = key
        self._workspace.stage = Stage.READY if key else Stage.EMPTY
        self._workspace.message = ""
        if key:
            self._refresh_session("Opening the image and loading the model…")
        self._queue.show_state()

    def reopen(self, key: SessionKey, folder: Path, model: str) -> None:
        """Continue the project in `folder`, made with `model`, when this session is opened."""
        self._workspace.model_name = model
        self._queue.submit(lambda: self.registry.reopen(key, folder), lambda _: None)

    def set_position(self, frame: int, at: tuple[tuple[str, int], ...] = ()) -> None:
        """The window shows another frame, or another position of the other axes."""
        if self.key is not None and at != self.key.at:
            self.open(self.key.selection, frame, at)
        self._workspace.frame = frame

    def restart(self) -> None:
        """Start over with this image; the old work stays in its project folder."""
        key = self.key
        if key is None:
            return
        self.propagation.interrupt()
        drawn = {frame for _, frame in self.state.statuses}
        self._workspace.states[key] = SessionState()
        self._queue.submit(lambda: self.registry.restart(key), lambda _: None)
        self._queue.submit_update(
            lambda worker: worker.report_state(drawn), message="Starting over…"
        )

    def forget_image(self, layer_key: str) -> None:
        """An image was removed."""
        if self.key is not None and self.key.selection.layer_key == layer_key:
            self.open(None)
        states = self._workspace.states
        for key in [each for each in states if each.selection.layer_key == layer_key]:
            del states[key]
        self._queue.submit(lambda: self.registry.forget_image(layer_key), lambda _: None)

    def close(self) -> None:
        """The window closes: no result is shown from now on."""
        self.propagation.interrupt()
        self._workspace.closed = True
        self._worker.submit(self.registry.close, lambda _: None, lambda _: None)

    # the model

    def use_model(self, name: str, on_result: Callable[[bool], Any] = lambda _: None) -> None:
        """Use another model, which applies all prompts again.

        `on_result` gets whether the model was loaded.
        """
        old_name, self._workspace.model_name = self._workspace.model_name, name
        self.propagation.interrupt()

        def fail(error: Exception) -> None:
            self._workspace.model_name = old_name
            on_result(False)
            self._queue.show_error(error)

        def finish(_: object) -> None:
            on_result(True)
            if self.key:
                self._refresh_session(_REPLAYING)

        self._workspace.message = f"Loading {name}…"
        self._queue.submit(lambda: self.registry.load_model(name), finish, fail)
        self._queue.show_state()

    def reconfigure_model(self, **changes: Any) -> None:
        """Change how is segmented, and apply all prompts again.

        `changes` are options of the model, e.g. ``attention="local"``, or `evidence`.
        """
        self.propagation.interrupt()
        name = self._workspace.model_name

        def finish(_: object) -> None:
            if self.key:
                self._refresh_session(_REPLAYING)

        self._queue.submit(lambda: self.registry.reconfigure_model(name, **changes), finish)
        self._queue.show_state()

    # prompts

    def add_click(self, frame: int, yx: tuple[float, float], *, positive: bool) -> None:
        """Add a click on the current object, or beside it."""
        state = self.state
        known = {*state.log.track_ids, *state.submitted_drafts}
        if not positive and state.current not in known:
            self._view.notify(
                "Click the object first, then Ctrl+click what does not belong to it.",
                is_error=True,
            )
        elif self._queue.check_image_open():
            self._submit_prompt(PointPrompt(frame, state.ensure_current(), [yx], [positive]))

    def add_box(self, frame: int, box: tuple[float, float, float, float]) -> None:
        """Add a box around the current object: (y, x, y2, x2)."""
        if self._queue.check_image_open():
            self._submit_prompt(BoxPrompt(frame, self.state.ensure_current(), box))

    def add_mask(self, frame: int, mask: Any, track: int | None = None) -> None:
        """Add an (H, W) mask of an object; of the current one by default."""
        if track in self.state.tracks:
            self.select(track)
        if self._queue.check_image_open():
            self._submit_prompt(MaskPrompt(frame, self.state.ensure_current(), mask))

    def edit_prompts(self, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]) -> None:
        """Replace the current object's clicks and boxes on a frame."""
        track = self.state.current
        self._submit_action(
            lambda worker: worker.edit_prompts(track, frame, prompts),
            frames=[frame],
            on_failure=self._queue.draw_prompts,
        )

    def add_prompts(self, prompts: Iterable[Prompt], *, category: str = "") -> int:
        """Add prompts from elsewhere, each track as a new object, with its own id if that is free.

        Returns the number of objects.
        """
        state, renumbered, ids = self.state, list[Prompt](), dict[int, int]()
        for prompt in prompts:
            if prompt.track not in ids:
                ids[prompt.track] = state.claim_track_id(prompt.track, category)
            renumbered.append(renumber_prompt(prompt, ids[prompt.track]))
        if renumbered:
            state.current = renumbered[0].track
            tracks = [state.drafts[track] for track in ids.values()]
            state.submitted_drafts.update(ids.values())
            self._submit_action(
                lambda worker: worker.prompt(renumbered, tracks),
                message=f"Adding {len(ids)} objects…",
                on_failure=lambda: state.discard_drafts(ids.values()),
            )
        return len(ids)

    def choose_next_mask(self) -> None:
        """Show another mask that the model offers for the last click."""
        state = self.state
        if state.alternative_count < 2:
            self._view.notify(
                "There is no other mask. The model offers other masks after the first click on an "
                "object."
            )
            return
        state.shown_alternative = (state.shown_alternative + 1) % state.alternative_count
        number = state.shown_alternative
        self._submit_action(lambda worker: worker.choose_mask(number))

    def undo(self) -> None:
        """Undo the last action."""
        if self._queue.check_image_open() and (self.state.undoable or self._queue.pending_count):
            self._submit_action(lambda worker: worker.undo(), message="Undo…")

    def redo(self) -> None:
        """Redo the action that was undone last; a propagation runs again."""
        if self._queue.check_image_open() and (self.state.redoable or self._queue.pending_count):
            self.propagation.interrupt()
            self.propagation.start(lambda worker: worker.redo())

    # objects

    def start_object(self) -> None:
        """Start a new object: the next click is its first."""
        if self._queue.check_image_open():
            self.state.start_draft()
            self._queue.show_state()

    def select(self, track: int) -> None:
        """Make this object the current one."""
        if track != self.state.current and track in self.state.tracks:
            self.state.current = track
            self._queue.show_state()

    def select_next(self, step: int = 1) -> None:
        """Select the object after the current one; with -1 the one before."""
        tracks, current = self.state.tracks, self.state.current
        if tracks:
            index = tracks.index(current) + step if current in tracks else 0
            self.select(tracks[index % len(tracks)])

    def describe(self, track: int, *, name: str | None = None, category: str | None = None) -> None:
        """Set the name or the category of an object."""
        state = self.state
        described = state.get_track(track)
        if name is not None:
            described = replace(described, name=name)
        if category is not None:
            described = replace(described, category=category)
            state.category = category
        if track in state.drafts:
            state.drafts[track] = described
            self._queue.show_state()
        elif track in state.log.track_ids and described != state.log.get_track(track):
            self._queue.submit_update(lambda worker: worker.describe(described))

    def remove(self, tracks: Iterable[int]) -> None:
        """Delete objects."""
        state, gone = self.state, set(tracks)
        for track in gone & set(state.drafts):
            del state.drafts[track]
        left = [track for track in state.tracks if track not in gone]
        if state.current in gone:
            state.current = min(left, key=lambda track: abs(track - state.current), default=0)
        if gone & set(state.log.track_ids):
            self._submit_action(lambda worker: worker.remove(gone), message="Deleting…")
        self._queue.show_state()

    def merge(self, tracks: Iterable[int]) -> None:
        """Merge objects into the one with the lowest number."""
        chosen = sorted(set(tracks) & set(self.state.log.track_ids))
        if len(chosen) < 2:
            self._view.notify(
                "Select two or more objects in the list to merge them.", is_error=True
            )
            return
        self.state.current = chosen[0]
        self._submit_action(lambda worker: worker.merge(chosen[0], chosen[1:]), message="Merging…")

    def split(self, track: int, frame: int, yx: tuple[float, float] | None = None) -> None:
        """Split an object on a frame into its pieces, or off the part that was clicked at `yx`."""
        first = self.state.allocate_track_id()
        if yx is None:
            self._submit_action(lambda worker: worker.split(track, frame, first), frames=[frame])
        else:
            self._submit_action(
                lambda worker: worker.split_at(track, frame, first, yx), frames=[frame]
            )

    def accept(self, frame: int) -> None:
        """Lock the current object on a frame, or unlock it."""
        track = self.state.current
        if (track, frame) not in self.state.statuses:
            self._view.notify(
                "There is nothing to accept here. Click an object, or propagate it to this frame.",
                is_error=True,
            )
            return
        locked = self.state.log.is_locked(track, frame)
        self._submit_action(lambda worker: worker.lock([track], [frame], locked=not locked))

    def lock(self, tracks: Iterable[int], *, locked: bool = True) -> None:
        """Lock or unlock objects on all their frames."""
        chosen = set(tracks) & set(self.state.log.track_ids)
        if chosen:
            self._submit_action(lambda worker: worker.lock(chosen, locked=locked))

    # results

    def save(self, folder: Path) -> None:
        """Write labels and tables into a folder."""
        if self._queue.check_image_open():
            self._queue.submit_query(
                lambda worker: worker.save(folder),
                lambda path: self._view.notify(f"Saved labels and tables in {path}"),
                message="Saving labels and tables…",
            )

    def query(
        self,
        work: Callable[[SessionWorker], Any],
        on_result: Callable[[Any], Any],
        *,
        message: str = "",
    ) -> None:
        """Ask the open session something."""
        if self._queue.check_image_open():
            self._queue.submit_query(work, on_result, message=message)

    def start_measuring(self, on_result: Callable[[LiveTables], Any]) -> None:
        """Measure frames from now on; `on_result` gets the tables, which fill over time."""
        key = self.key
        if key is None:
            return

        def start(answer: tuple[LiveTables, SessionUpdate]) -> None:
            tables, update = answer
            on_result(tables)
            self._queue.apply_update(key, update)

        self._queue.submit_query(lambda worker: worker.start_measuring(), start)

    def run_in_background(
        self, work: Callable[[], Any], on_result: Callable[[Any], Any], *, message: str = ""
    ) -> None:
        """Run work that needs no image in the background."""
        self._workspace.message = message or self._workspace.message
        self._queue.submit(work, on_result)
        self._queue.show_state()

    def show_message(self, message: str) -> None:
        """Show one line in the panel."""
        self._workspace.message = message
        self._queue.show_state()

    def _refresh_session(self, message: str) -> None:
        """Show the open session, which is opened first if necessary."""
        drawn = {frame for _, frame in self.state.statuses}
        self._queue.submit_update(lambda worker: worker.report_state(drawn), message=message)

    def _submit_prompt(self, prompt: Prompt) -> None:
        """Add one prompt of the current object."""
        key, state, track = self.key, self.state, prompt.track
        assert key is not None
        state.shown_alternative = 0
        tracks = [state.drafts[track]] if track in state.drafts else []
        state.submitted_drafts.add(track)

        def fail() -> None:
            state.submitted_drafts.discard(track)
            if self.key is not None:
                self._queue.redraw_frames(self.key, [prompt.frame])

        self._submit_action(
            lambda worker: worker.prompt([prompt], tracks), frames=[prompt.frame], on_failure=fail
        )

    def _submit_action(
        self,
        work: Callable[[SessionWorker], SessionUpdate],
        *,
        frames: Sequence[int] = (),
        message: str = "",
        on_failure: Callable[[], Any] | None = None,
    ) -> None:
        """Submit an action that changes prompts; it ends a run that is going on."""
        if not self._queue.check_image_open():
            return
        self._workspace.action_count += 1
        if self._workspace.is_running and self.propagation.interrupt():
            message = _EDIT_STOPPED_RUN
        self._queue.submit_update(work, frames=frames, message=message, on_failure=on_failure)
