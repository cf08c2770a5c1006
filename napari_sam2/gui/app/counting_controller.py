"""Seeking: objects that nobody clicked, looked for, shown as seeds, and counted, one frame at a time like any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.gui.app.counting_task import DetectionRequest, EditedSeed
from napari_sam2.gui.app.propagation_controller import PropagationController
from napari_sam2.gui.app.view import Stage


class CountingController(PropagationController):
    """Carrying, and what goes before it where nobody clicks."""

    def estimate_scale(
        self, on_result: Callable[[ObjectScale | None], Any], *, dark: bool | None = None
    ) -> None:
        """Look how large the objects are; `on_result` is given it, None where nothing is to be seen."""
        if self._key is not None:
            self._submit_query(
                lambda worker: DetectionOptions(dark=dark).estimate_scale(worker.session.video),
                on_result,
                message="Looking how large the objects are…",
            )

    def detect_seeds(
        self, request: DetectionRequest, on_done: Callable[[], Any] = lambda: None
    ) -> None:
        """Look for seeds; they are shown as they come.

        `on_done` is called when all frames were looked at.
        """
        if not self._check_idle():
            return
        place, book = self._key, self.state
        assert place is not None
        book.seeds.clear()
        self._view.draw_seeds(place, ())

        def ended() -> None:
            found, frames = len(book.seeds), len({seed.prompt.frame for seed in book.seeds})
            self._message = (
                f"{found} seeds on {frames} frames. Move, delete or add some in their layer, "
                "then count."
            )
            on_done()

        self._start_task(
            lambda worker: worker.start_detection(request), ended, "Looking for objects…"
        )

    def count_objects(
        self, edited_seeds: Sequence[EditedSeed], on_done: Callable[[], Any] = lambda: None
    ) -> None:
        """Make objects of the seeds, as they lie now, and carry them; `on_done` is called when nothing new appears."""
        if not self._check_idle():
            return
        given, first, category = (
            tuple(edited_seeds),
            self.state.allocate_track_id(),
            self.state.category,
        )
        self._action_count += 1
        self._start_task(
            lambda worker: worker.start_counting(given, first_new_track=first, category=category),
            on_done,
            "Counting…",
        )

    def _check_idle(self) -> bool:
        return self._check_image_open() and self._stage not in (Stage.RUNNING, Stage.PAUSED)

    def _start_task(
        self, start: Callable[[Any], Any], on_run_end: Callable[[], Any], message: str
    ) -> None:
        place, acts = self._key, self._action_count
        assert place is not None

        def begun(changed: Any) -> None:
            self._on_run_end = on_run_end
            self._begin_stepping(place, changed, acts)

        self._submit_update(start, begun, message=message)
