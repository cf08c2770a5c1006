"""Seeking: objects that nobody clicked, looked for, shown as seeds, and counted, one frame at a time like any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_sam2.detection.object_scale import Scale
from napari_sam2.detection.options import Hints
from napari_sam2.gui.app.counting_task import Placed, Wanted
from napari_sam2.gui.app.propagation_controller import Carrying
from napari_sam2.gui.app.view import Stage


class Seeking(Carrying):
    """Carrying, and what goes before it where nobody clicks."""

    def guess(self, then: Callable[[Scale | None], Any], *, dark: bool | None = None) -> None:
        """Look how large the objects are; `then` is given it, None where nothing is to be seen."""
        if self._place is not None:
            self._read(
                lambda desk: Hints(dark=dark).scale(desk.session.video),
                then,
                message="Looking how large the objects are…",
            )

    def find(self, wanted: Wanted, then: Callable[[], Any] = lambda: None) -> None:
        """Look for seeds; they are shown as they come.

        `then` is called when all frames were looked at.
        """
        if not self._free():
            return
        place, book = self._place, self.book
        assert place is not None
        book.seeds.clear()
        self._view.draw_seeds(place, ())

        def ended() -> None:
            found, frames = len(book.seeds), len({seed.prompt.frame for seed in book.seeds})
            self._message = (
                f"{found} seeds on {frames} frames. Move, delete or add some in their layer, "
                "then count."
            )
            then()

        self._seek(lambda desk: desk.look(wanted), ended, "Looking for objects…")

    def count(self, placed: Sequence[Placed], then: Callable[[], Any] = lambda: None) -> None:
        """Make objects of the seeds, as they lie now, and carry them; `then` is called when nothing new appears."""
        if not self._free():
            return
        given, first, category = tuple(placed), self.book.fresh(), self.book.category
        self._acts += 1
        self._seek(
            lambda desk: desk.count(given, first=first, category=category), then, "Counting…"
        )

    def _free(self) -> bool:
        return self._ready() and self._stage not in (Stage.RUNNING, Stage.PAUSED)

    def _seek(self, begin: Callable[[Any], Any], ended: Callable[[], Any], message: str) -> None:
        place, acts = self._place, self._acts
        assert place is not None

        def begun(changed: Any) -> None:
            self._ended = ended
            self._go(place, changed, acts)

        self._work(begin, begun, message=message)
