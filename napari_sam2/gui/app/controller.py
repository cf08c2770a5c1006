"""Controller: what a person does becomes work for the background thread, and what comes of it a picture of the state.

It lives in the main thread, computes nothing, and knows neither Qt nor napari.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from napari_sam2.core.card import Attention, Precision, Windows
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.gui.app.counting_controller import Seeking
from napari_sam2.gui.app.live_tables import Measured
from napari_sam2.gui.app.session_registry import Load
from napari_sam2.gui.app.session_state import Book
from napari_sam2.gui.app.session_update import Carry, Changed
from napari_sam2.gui.app.session_worker import Desk
from napari_sam2.gui.app.view import Choice, Place, Stage, View, Worker
from napari_sam2.propagation.session import Session


class Controller(Seeking):
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
        load: Load,
        model: str = "nano",
        root: Path | None = None,
    ) -> None:
        super().__init__(view, worker, load=load, model=model, root=root)

    def open(
        self, choice: Choice | None, frame: int = 0, at: tuple[tuple[str, int], ...] = ()
    ) -> None:
        """Work on this image, or on none."""
        place = None if choice is None else Place(choice, at)
        self._frame = frame
        if place == self._place:
            return
        self._interrupt()
        self._place = place
        self._stage = Stage.READY if place else Stage.EMPTY
        self._message = ""
        if place:
            self._opened("Opening the image and the model…")
        self._show()

    def take_up(self, place: Place, folder: Path, model: str) -> None:
        """Work on this place, when it is opened, in the project in `folder`, with the model it was made with."""
        self._model = model
        self._submit(lambda: self._bench.take_up(place, folder), lambda _: None)

    def look(self, frame: int, at: tuple[tuple[str, int], ...] = ()) -> None:
        """The person moved to another frame, or to another position of the axes that are not walked."""
        if self._place is not None and at != self._place.at:
            self.open(self._place.choice, frame, at)
        self._frame = frame

    def start_anew(self) -> None:
        """Begin with nothing; what there was stays in its project folder."""
        place = self._place
        if place is None:
            return
        self._interrupt()
        drawn = {frame for _, frame in self.book.facts}
        self._books[place] = Book()
        self._submit(lambda: self._bench.anew(place), lambda _: None)
        self._work(lambda desk: desk.state(drawn), message="Starting anew…")

    def forget(self, key: str) -> None:
        """An image is gone."""
        if self._place is not None and self._place.choice.key == key:
            self.open(None)
        for place in [each for each in self._books if each.choice.key == key]:
            del self._books[place]
        self._submit(lambda: self._bench.forget(key), lambda _: None)

    def use_model(self, name: str, then: Callable[[bool], Any] = lambda _: None) -> None:
        """Ask another model; what was said stays, what the old one made of it is asked again.

        `then` hears whether it came.
        """
        before, self._model = self._model, name
        self._interrupt()

        def failed(error: Exception) -> None:
            self._model = before
            then(False)
            self._failed(error)

        def loaded(_: object) -> None:
            then(True)
            if self._place:
                self._opened("Asking again…")

        self._message = f"Loading {name}…"
        self._submit(lambda: self._bench.model(name), loaded, failed)
        self._show()

    def look_by(
        self,
        attention: Attention | None = None,
        windows: Windows | None = None,
        precision: Precision | None = None,
    ) -> None:
        """Have the model look at frames by another attention or other windows, or compute in another precision.

        What was said stays, and is asked again.
        """
        self._interrupt()
        name = self._model
        self._submit(
            lambda: self._bench.look(name, attention, windows, precision),
            lambda _: self._opened("Asking again…") if self._place else self._show(),
        )
        self._show()

    # what is said

    def click(self, frame: int, yx: tuple[float, float], *, positive: bool) -> None:
        """A click on the object, or beside it."""
        if not positive and self.book.current not in {*self.book.log.track_ids, *self.book.asked}:
            self._view.tell("Click the object first, then what does not belong to it.", wrong=True)
            return
        self._prompt(lambda track: PointPrompt(frame, track, [yx], [positive]), frame)

    def box(self, frame: int, box: tuple[float, float, float, float]) -> None:
        """A box around the object: (y, x, y2, x2)."""
        self._prompt(lambda track: BoxPrompt(frame, track, box), frame)

    def mask(self, frame: int, mask: Any, track: int | None = None) -> None:
        """The (H, W) mask of an object as it was drawn."""
        if track in self.book.tracks:
            self.select(track)
        self._prompt(lambda current: MaskPrompt(frame, current, mask), frame)

    def edit(self, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]) -> None:
        """The current object's clicks and boxes on a frame were moved or deleted: this is what they are now."""
        track = self.book.current
        self._act(
            lambda desk: desk.edit(track, frame, prompts), frames=[frame], otherwise=self._draw_said
        )

    def bring(self, prompts: Iterable[Prompt], *, category: str = "") -> int:
        """Prompts from elsewhere, each track a new object (with its own id where it is free); how many objects."""
        book, given = self.book, list[Prompt]()
        ids: dict[int, int] = {}
        for prompt in prompts:
            if prompt.track not in ids:
                ids[prompt.track] = book.claim(prompt.track, category)
            given.append(_owned(prompt, ids[prompt.track]))
        if given:
            book.current = given[0].track
            described = [book.drafts[track] for track in ids.values()]
            book.asked.update(ids.values())
            self._act(
                lambda desk: desk.prompt(given, described),
                message=f"Taking {len(ids)} objects…",
                otherwise=lambda: book.abandon(ids.values()),
            )
        return len(ids)

    def next_choice(self) -> None:
        """Another of the masks that the model offers for the last click."""
        book = self.book
        if book.offered < 2:
            self._view.tell(
                "There is no other mask: the model offers others after the first click on an "
                "object."
            )
            return
        book.shown = (book.shown + 1) % book.offered
        number = book.shown
        self._act(lambda desk: desk.choose(number))

    def undo(self) -> None:
        """Take back the last action."""
        if self._ready() and (self.book.undoable or self._pending):
            self._act(lambda desk: desk.undo(), message="Undo…")

    def redo(self) -> None:
        """Do again what was taken back; what was carried is carried again."""
        if not (self._ready() and (self.book.redoable or self._pending)):
            return
        self._interrupt()
        place = self._place
        assert place is not None
        acts = self._acts
        self._work(
            lambda desk: desk.redo(),
            lambda changed: self._go(place, changed, acts) if changed.running else None,
        )

    # who is who

    def new(self) -> None:
        """A new object: the next click is its first."""
        if self._ready():
            self.book.draft()
            self._show()

    def select(self, track: int) -> None:
        """Work on this object."""
        if track != self.book.current and track in self.book.tracks:
            self.book.current = track
            self._show()

    def select_next(self, step: int = 1) -> None:
        """The object after the current one, or before it."""
        tracks = self.book.tracks
        if tracks:
            place = tracks.index(self.book.current) + step if self.book.current in tracks else 0
            self.select(tracks[place % len(tracks)])

    def describe(self, track: int, *, name: str | None = None, category: str | None = None) -> None:
        """Name an object, or say what kind it is."""
        book = self.book
        known = book.renamed(track, name=name, category=category)
        book.category = known.category if category is not None else book.category
        if track in book.drafts:
            book.drafts[track] = known
            self._show()
        elif track in book.log.track_ids and known != book.log.track(track):
            self._work(lambda desk: desk.describe(known))

    def remove(self, tracks: Iterable[int]) -> None:
        """Delete objects."""
        book, gone = self.book, set(tracks)
        for track in gone & set(book.drafts):
            del book.drafts[track]
        left = [track for track in book.tracks if track not in gone]
        if book.current in gone:
            book.current = min(left, key=lambda track: abs(track - book.current), default=0)
        if gone & set(book.log.track_ids):
            self._act(lambda desk: desk.remove(gone), message="Deleting…")
        self._show()

    def merge(self, tracks: Iterable[int]) -> None:
        """Make one object of several: the one with the lowest number stays."""
        chosen = sorted(set(tracks) & set(self.book.log.track_ids))
        if len(chosen) < 2:
            self._view.tell("Select two or more objects in the list to merge them.", wrong=True)
            return
        self.book.current = chosen[0]
        self._act(lambda desk: desk.merge(chosen[0], chosen[1:]), message="Merging…")

    def split(self, track: int, frame: int, yx: tuple[float, float] | None = None) -> None:
        """Make objects of the pieces of one on a frame; where it is in one piece, of the part that is clicked (`yx`)."""
        book = self.book
        first = book.fresh()
        if yx is None:
            self._act(lambda desk: desk.split(track, frame, first), frames=[frame])
        else:
            self._act(lambda desk: desk.split_at(track, frame, first, yx), frames=[frame])

    def accept(self, frame: int) -> None:
        """Lock the current object on a frame, or unlock it."""
        track, fact = self.book.current, self.book.facts.get((self.book.current, frame))
        if fact is None:
            self._view.tell(
                "There is nothing to accept here: click an object, or carry it to this frame.",
                wrong=True,
            )
            return
        locked = self.book.log.locked(track, frame)
        self._act(lambda desk: desk.lock([track], [frame], locked=not locked))

    def lock(self, tracks: Iterable[int], *, locked: bool = True) -> None:
        """Lock objects on all frames they are on, or unlock them."""
        chosen = set(tracks) & set(self.book.log.track_ids)
        if chosen:
            self._act(lambda desk: desk.lock(chosen, locked=locked))

    # carrying

    def propagate(self, carry: Carry | None = None) -> None:
        """Carry objects through the stack; where it is paused, go on."""
        if self._stage is Stage.PAUSED:
            self._resume()
            return
        if self._stage is Stage.RUNNING or not self._ready():
            return
        if not self.book.log.track_ids and not self._pending:
            self._view.tell("Click an object first, then carry it through the stack.", wrong=True)
            return
        place, wanted = self._place, carry or Carry()
        assert place is not None
        acts = self._acts
        self._work(
            lambda desk: desk.start(wanted),
            lambda changed: self._go(place, changed, acts),
            message="Starting…",
        )

    def save(self, folder: Path) -> None:
        """Write labels and tables into a folder."""
        if self._ready():
            self._message = "Saving labels and tables…"
            self._read(
                lambda desk: desk.save(folder),
                lambda path: self._view.tell(f"Saved labels and tables in {path}"),
            )

    @property
    def session(self) -> Session | None:
        """The session of what is open, to read from; None before it was opened."""
        return None if self._place is None else self._bench.session(self._place)

    def ask(
        self, work: Callable[[Desk], Any], then: Callable[[Any], Any], *, message: str = ""
    ) -> None:
        """Have the desk of what is open look something up."""
        if self._ready():
            self._read(work, then, message=message)

    def measure(self, then: Callable[[Measured], Any]) -> None:
        """Measure each frame that is drawn from now on, and those that were; `then` is given the tables that fill."""
        place = self._place
        if place is None:
            return

        def begun(both: tuple[Measured, Changed]) -> None:
            then(both[0])
            self._take(place, both[1], self._number)

        self._read(lambda desk: desk.measure(), begun)

    def say(self, message: str) -> None:
        """One quiet line."""
        self._message = message
        self._show()

    def close(self) -> None:
        """The window is closing: nothing that comes back is shown any more."""
        self._interrupt()
        self._closed = True
        self._worker.submit(self._bench.close, lambda _: None, lambda _: None)

    def _opened(self, message: str) -> None:
        """Have what is open shown, opened first where it is not: what was drawn before may look otherwise."""
        drawn = {frame for _, frame in self.book.facts}
        self._work(lambda desk: desk.state(drawn), message=message)

    def _prompt(self, make: Callable[[int], Prompt], frame: int) -> None:
        if not self._ready():
            return
        book = self.book
        if book.current not in book.tracks:
            book.draft()
        book.shown = 0
        prompt = make(book.current)
        described = [book.drafts[prompt.track]] if prompt.track in book.drafts else []
        book.asked.add(prompt.track)

        def failed() -> None:
            book.asked.discard(prompt.track)
            self._redraw(frame)

        self._act(lambda desk: desk.prompt([prompt], described), frames=[frame], otherwise=failed)

    def _act(
        self,
        work: Callable[[Desk], Changed],
        *,
        frames: Sequence[int] = (),
        message: str = "",
        otherwise: Callable[[], Any] = lambda: None,
    ) -> None:
        """Something that changes what was said: a run that is going on ends first."""
        if not self._ready():
            return
        self._acts += 1
        if self._interrupt():
            message = "Stopped to take this in; carry again to go on."
        self._work(work, frames=frames, message=message, otherwise=otherwise)


def _owned(prompt: Prompt, track: int) -> Prompt:
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
