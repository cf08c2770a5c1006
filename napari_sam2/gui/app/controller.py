"""Controller: what a person does becomes work for the background thread, and what comes of it a picture of the state.

It lives in the main thread, computes nothing, and knows neither Qt nor napari.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from napari_sam2.core.inference_options import Attention, Precision, Windows
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.gui.app.counting_controller import CountingController
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.session_registry import ModelLoader
from napari_sam2.gui.app.session_state import SessionState
from napari_sam2.gui.app.session_update import PropagationRequest, SessionUpdate
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.gui.app.view import ImageSelection, SessionKey, Stage, View, Worker
from napari_sam2.propagation.session import Session


class Controller(CountingController):
    """The state of the window: what is open, who is who, and what is going on.

    Parameters
    ----------
    view, worker
        Where things are shown, and who does the work.
    load
        Gives a model by name; called in the worker.
    model
        The name of the model to begin with.
    root
        The folder that projects are kept in, each image and model its own; nothing is kept where
        None.
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
        super().__init__(view, worker, load=load, model=model, root=root)

    def open(
        self, selection: ImageSelection | None, frame: int = 0, at: tuple[tuple[str, int], ...] = ()
    ) -> None:
        """Work on this image, or on none."""
        place = None if selection is None else SessionKey(selection, at)
        self._frame = frame
        if place == self._key:
            return
        self._interrupt()
        self._key = place
        self._stage = Stage.READY if place else Stage.EMPTY
        self._message = ""
        if place:
            self._refresh_session("Opening the image and the model…")
        self._show_state()

    def reopen(self, key: SessionKey, folder: Path, model: str) -> None:
        """Work on this place, when it is opened, in the project in `folder`, with the model it was made with."""
        self._model_name = model
        self._submit(lambda: self._registry.reopen(key, folder), lambda _: None)

    def set_position(self, frame: int, at: tuple[tuple[str, int], ...] = ()) -> None:
        """The person moved to another frame, or to another position of the axes that are not walked."""
        if self._key is not None and at != self._key.at:
            self.open(self._key.selection, frame, at)
        self._frame = frame

    def restart(self) -> None:
        """Begin with nothing; what there was stays in its project folder."""
        place = self._key
        if place is None:
            return
        self._interrupt()
        drawn = {frame for _, frame in self.state.statuses}
        self._states[place] = SessionState()
        self._submit(lambda: self._registry.restart(place), lambda _: None)
        self._submit_update(lambda desk: desk.report_state(drawn), message="Starting anew…")

    def forget_image(self, layer_key: str) -> None:
        """An image is gone."""
        if self._key is not None and self._key.selection.layer_key == layer_key:
            self.open(None)
        for place in [each for each in self._states if each.selection.layer_key == layer_key]:
            del self._states[place]
        self._submit(lambda: self._registry.forget_image(layer_key), lambda _: None)

    def use_model(self, name: str, on_result: Callable[[bool], Any] = lambda _: None) -> None:
        """Ask another model; what was said stays, what the old one made of it is asked again.

        `on_result` hears whether it came.
        """
        before, self._model_name = self._model_name, name
        self._interrupt()

        def failed(error: Exception) -> None:
            self._model_name = before
            on_result(False)
            self._show_error(error)

        def loaded(_: object) -> None:
            on_result(True)
            if self._key:
                self._refresh_session("Asking again…")

        self._message = f"Loading {name}…"
        self._submit(lambda: self._registry.load_model(name), loaded, failed)
        self._show_state()

    def reconfigure_model(
        self,
        attention: Attention | None = None,
        windows: Windows | None = None,
        precision: Precision | None = None,
    ) -> None:
        """Have the model look at frames by another attention or other windows, or compute in another precision.

        What was said stays, and is asked again.
        """
        self._interrupt()
        name = self._model_name
        self._submit(
            lambda: self._registry.reconfigure_model(name, attention, windows, precision),
            lambda _: self._refresh_session("Asking again…") if self._key else self._show_state(),
        )
        self._show_state()

    # what is said

    def add_click(self, frame: int, yx: tuple[float, float], *, positive: bool) -> None:
        """A click on the object, or beside it."""
        if not positive and self.state.current not in {
            *self.state.log.track_ids,
            *self.state.submitted_drafts,
        }:
            self._view.notify(
                "Click the object first, then what does not belong to it.", is_error=True
            )
            return
        self._submit_prompt(lambda track: PointPrompt(frame, track, [yx], [positive]), frame)

    def add_box(self, frame: int, box: tuple[float, float, float, float]) -> None:
        """A box around the object: (y, x, y2, x2)."""
        self._submit_prompt(lambda track: BoxPrompt(frame, track, box), frame)

    def add_mask(self, frame: int, mask: Any, track: int | None = None) -> None:
        """The (H, W) mask of an object as it was drawn."""
        if track in self.state.tracks:
            self.select(track)
        self._submit_prompt(lambda current: MaskPrompt(frame, current, mask), frame)

    def edit_prompts(self, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]) -> None:
        """The current object's clicks and boxes on a frame were moved or deleted: this is what they are now."""
        track = self.state.current
        self._submit_action(
            lambda desk: desk.edit_prompts(track, frame, prompts),
            frames=[frame],
            on_failure=self._draw_prompts,
        )

    def add_prompts(self, prompts: Iterable[Prompt], *, category: str = "") -> int:
        """Prompts from elsewhere, each track a new object (with its own id where it is free); how many objects."""
        book, given = self.state, list[Prompt]()
        ids: dict[int, int] = {}
        for prompt in prompts:
            if prompt.track not in ids:
                ids[prompt.track] = book.claim_track_id(prompt.track, category)
            given.append(_assign_track(prompt, ids[prompt.track]))
        if given:
            book.current = given[0].track
            described = [book.drafts[track] for track in ids.values()]
            book.submitted_drafts.update(ids.values())
            self._submit_action(
                lambda desk: desk.prompt(given, described),
                message=f"Taking {len(ids)} objects…",
                on_failure=lambda: book.discard_drafts(ids.values()),
            )
        return len(ids)

    def choose_next_mask(self) -> None:
        """Another of the masks that the model offers for the last click."""
        book = self.state
        if book.alternative_count < 2:
            self._view.notify(
                "There is no other mask: the model offers others after the first click on an "
                "object."
            )
            return
        book.shown_alternative = (book.shown_alternative + 1) % book.alternative_count
        number = book.shown_alternative
        self._submit_action(lambda desk: desk.choose_mask(number))

    def undo(self) -> None:
        """Take back the last action."""
        if self._check_image_open() and (self.state.undoable or self._pending_count):
            self._submit_action(lambda desk: desk.undo(), message="Undo…")

    def redo(self) -> None:
        """Do again what was taken back; what was carried is carried again."""
        if not (self._check_image_open() and (self.state.redoable or self._pending_count)):
            return
        self._interrupt()
        place = self._key
        assert place is not None
        acts = self._action_count
        self._submit_update(
            lambda desk: desk.redo(),
            lambda changed: self._begin_stepping(place, changed, acts) if changed.running else None,
        )

    # who is who

    def start_object(self) -> None:
        """A new object: the next click is its first."""
        if self._check_image_open():
            self.state.start_draft()
            self._show_state()

    def select(self, track: int) -> None:
        """Work on this object."""
        if track != self.state.current and track in self.state.tracks:
            self.state.current = track
            self._show_state()

    def select_next(self, step: int = 1) -> None:
        """The object after the current one, or before it."""
        tracks = self.state.tracks
        if tracks:
            place = tracks.index(self.state.current) + step if self.state.current in tracks else 0
            self.select(tracks[place % len(tracks)])

    def describe(self, track: int, *, name: str | None = None, category: str | None = None) -> None:
        """Name an object, or say what kind it is."""
        book = self.state
        known = book.replace_description(track, name=name, category=category)
        book.category = known.category if category is not None else book.category
        if track in book.drafts:
            book.drafts[track] = known
            self._show_state()
        elif track in book.log.track_ids and known != book.log.track(track):
            self._submit_update(lambda desk: desk.describe(known))

    def remove(self, tracks: Iterable[int]) -> None:
        """Delete objects."""
        book, gone = self.state, set(tracks)
        for track in gone & set(book.drafts):
            del book.drafts[track]
        left = [track for track in book.tracks if track not in gone]
        if book.current in gone:
            book.current = min(left, key=lambda track: abs(track - book.current), default=0)
        if gone & set(book.log.track_ids):
            self._submit_action(lambda desk: desk.remove(gone), message="Deleting…")
        self._show_state()

    def merge(self, tracks: Iterable[int]) -> None:
        """Make one object of several: the one with the lowest number stays."""
        chosen = sorted(set(tracks) & set(self.state.log.track_ids))
        if len(chosen) < 2:
            self._view.notify(
                "Select two or more objects in the list to merge them.", is_error=True
            )
            return
        self.state.current = chosen[0]
        self._submit_action(lambda desk: desk.merge(chosen[0], chosen[1:]), message="Merging…")

    def split(self, track: int, frame: int, yx: tuple[float, float] | None = None) -> None:
        """Make objects of the pieces of one on a frame; where it is in one piece, of the part that is clicked (`yx`)."""
        book = self.state
        first = book.allocate_track_id()
        if yx is None:
            self._submit_action(lambda desk: desk.split(track, frame, first), frames=[frame])
        else:
            self._submit_action(lambda desk: desk.split_at(track, frame, first, yx), frames=[frame])

    def accept(self, frame: int) -> None:
        """Lock the current object on a frame, or unlock it."""
        track, fact = self.state.current, self.state.statuses.get((self.state.current, frame))
        if fact is None:
            self._view.notify(
                "There is nothing to accept here: click an object, or carry it to this frame.",
                is_error=True,
            )
            return
        locked = self.state.log.is_locked(track, frame)
        self._submit_action(lambda desk: desk.lock([track], [frame], locked=not locked))

    def lock(self, tracks: Iterable[int], *, locked: bool = True) -> None:
        """Lock objects on all frames they are on, or unlock them."""
        chosen = set(tracks) & set(self.state.log.track_ids)
        if chosen:
            self._submit_action(lambda desk: desk.lock(chosen, locked=locked))

    # carrying

    def propagate(self, request: PropagationRequest | None = None) -> None:
        """Carry objects through the stack; where it is paused, go on."""
        if self._stage is Stage.PAUSED:
            self._resume()
            return
        if self._stage is Stage.RUNNING or not self._check_image_open():
            return
        if not self.state.log.track_ids and not self._pending_count:
            self._view.notify(
                "Click an object first, then carry it through the stack.", is_error=True
            )
            return
        place, wanted = self._key, request or PropagationRequest()
        assert place is not None
        acts = self._action_count
        self._submit_update(
            lambda desk: desk.start_propagation(wanted),
            lambda changed: self._begin_stepping(place, changed, acts),
            message="Starting…",
        )

    def save(self, folder: Path) -> None:
        """Write labels and tables into a folder."""
        if self._check_image_open():
            self._message = "Saving labels and tables…"
            self._submit_query(
                lambda desk: desk.save(folder),
                lambda path: self._view.notify(f"Saved labels and tables in {path}"),
            )

    @property
    def session(self) -> Session | None:
        """The session of what is open, to read from; None before it was opened."""
        return None if self._key is None else self._registry.get_session(self._key)

    def query(
        self,
        work: Callable[[SessionWorker], Any],
        on_result: Callable[[Any], Any],
        *,
        message: str = "",
    ) -> None:
        """Have the desk of what is open look something up."""
        if self._check_image_open():
            self._submit_query(work, on_result, message=message)

    def start_measuring(self, on_result: Callable[[LiveTables], Any]) -> None:
        """Measure each frame that is drawn from now on, and those that were; `on_result` is given the tables that fill."""
        place = self._key
        if place is None:
            return

        def begun(both: tuple[LiveTables, SessionUpdate]) -> None:
            on_result(both[0])
            self._apply_update(place, both[1], self._task_number)

        self._submit_query(lambda desk: desk.start_measuring(), begun)

    def show_message(self, message: str) -> None:
        """One quiet line."""
        self._message = message
        self._show_state()

    def close(self) -> None:
        """The window is closing: nothing that comes back is shown any more."""
        self._interrupt()
        self._closed = True
        self._worker.submit(self._registry.close, lambda _: None, lambda _: None)

    def _refresh_session(self, message: str) -> None:
        """Have what is open shown, opened first where it is not: what was drawn before may look otherwise."""
        drawn = {frame for _, frame in self.state.statuses}
        self._submit_update(lambda desk: desk.report_state(drawn), message=message)

    def _submit_prompt(self, make_prompt: Callable[[int], Prompt], frame: int) -> None:
        if not self._check_image_open():
            return
        book = self.state
        if book.current not in book.tracks:
            book.start_draft()
        book.shown_alternative = 0
        prompt = make_prompt(book.current)
        described = [book.drafts[prompt.track]] if prompt.track in book.drafts else []
        book.submitted_drafts.add(prompt.track)

        def failed() -> None:
            book.submitted_drafts.discard(prompt.track)
            self._redraw_frame(frame)

        self._submit_action(
            lambda desk: desk.prompt([prompt], described), frames=[frame], on_failure=failed
        )

    def _submit_action(
        self,
        work: Callable[[SessionWorker], SessionUpdate],
        *,
        frames: Sequence[int] = (),
        message: str = "",
        on_failure: Callable[[], Any] = lambda: None,
    ) -> None:
        """Something that changes what was said: a run that is going on ends first."""
        if not self._check_image_open():
            return
        self._action_count += 1
        if self._interrupt():
            message = "Stopped to take this in; carry again to go on."
        self._submit_update(work, frames=frames, message=message, on_failure=on_failure)


def _assign_track(prompt: Prompt, track: int) -> Prompt:
    """The same prompt of another track."""
    if prompt.track == track:
        return prompt
    match prompt:
        case PointPrompt():
            return PointPrompt(prompt.frame, track, prompt.yx, prompt.positive)
        case BoxPrompt():
            return BoxPrompt(prompt.frame, track, prompt.box)
        case MaskPrompt():
            return MaskPrompt(prompt.frame, track, prompt.mask)
