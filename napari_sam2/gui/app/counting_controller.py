"""CountingController: detects objects that nobody clicked, shows them as seeds, and counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.gui.app.counting_task import DetectionRequest
from napari_sam2.gui.app.propagation_controller import PropagationController
from napari_sam2.gui.app.task_queue import TaskQueue
from napari_sam2.tracking.seeds import EditedSeed


class CountingController:
    """Detection and counting, one frame at a time, as any run."""

    def __init__(self, queue: TaskQueue, propagation: PropagationController) -> None:
        self._queue = queue
        self._propagation = propagation
        self._workspace = queue.workspace

    def estimate_scale(
        self,
        on_result: Callable[[ObjectScale | None], Any],
        *,
        learned: bool = True,
        dark: bool | None = None,
    ) -> None:
        """Estimate how large the objects are; `on_result` gets None if that is not possible.

        `learned`: as the learned detector sees them, else as the classical one does.
        """
        if self._workspace.key is not None:
            self._queue.submit_query(
                lambda worker: worker.estimate_scale(learned=learned, dark=dark),
                on_result,
                message="Estimating the object size…",
            )

    def detect_seeds(
        self, request: DetectionRequest, on_done: Callable[[], Any] = lambda: None
    ) -> None:
        """Detect seeds, which are shown as they arrive; `on_done` is called at the end."""
        if not self._check_idle():
            return
        key, state = self._workspace.key, self._workspace.state
        assert key is not None
        state.seeds.clear()
        self._queue.view.draw_seeds(key, ())

        def finish() -> None:
            count, frames = len(state.seeds), len({seed.prompt.frame for seed in state.seeds})
            self._workspace.message = (
                f"{count} seeds on {frames} frames. Add, move or delete seeds, then count."
            )
            on_done()

        self._propagation.start(
            lambda worker: worker.start_detection(request),
            message="Detecting objects…",
            on_run_end=finish,
        )

    def count_objects(
        self, edited_seeds: Sequence[EditedSeed], on_done: Callable[[], Any] = lambda: None
    ) -> None:
        """Make objects of the seeds and propagate them; `on_done` is called at the end."""
        if not self._check_idle():
            return
        state, seeds = self._workspace.state, tuple(edited_seeds)
        first, category = state.allocate_track_id(), state.category
        self._workspace.action_count += 1
        self._propagation.start(
            lambda worker: worker.start_counting(seeds, first_new_track=first, category=category),
            message="Counting…",
            on_run_end=on_done,
        )

    def _check_idle(self) -> bool:
        return self._queue.check_image_open() and not self._workspace.is_running
