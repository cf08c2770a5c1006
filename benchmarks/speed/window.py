"""Window: the longest stall of the napari window while objects are propagated.

    xvfb-run -a -s "-screen 0 1400x1000x24" python -m benchmarks.speed.window --out results.json

A timer in Qt's event loop fires every few milliseconds; the time between two of its events is how
long a click would have waited. A second thread records what the window's thread was doing when an
event was late. The model is the embedded one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, get_ident
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.testing.scenes import BRIGHTEST, Scene, make_drifting_scene

MAX_STALL_S = 0.2
"""Seconds of the longest stall."""

_BEAT_MS = 5
_LATE_S = 0.05  # when an event is this late, the position of the window's thread is recorded
_TIMEOUT_S = 240.0


class EventLoopTimer:
    """Measures the time between events of Qt's loop, from `start` to `stop`."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.waits: list[float] = []
        self.busy: list[float] = []
        self.late_positions: Counter[str] = Counter()
        self._last = (0.0, 0.0)
        self._thread, self._ended = get_ident(), Event()
        self._timer = QTimer()
        self._timer.setInterval(_BEAT_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Start measuring."""
        self._last = (time.perf_counter(), time.thread_time())
        self._timer.start()
        Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop measuring."""
        self._beat()
        self._timer.stop()
        self._ended.set()

    @property
    def figures(self) -> dict[str, float]:
        """In ms: the longest wait, the most work of the window's thread in one, and quantiles."""
        waits = 1000 * np.array(self.waits)
        return {
            "longest_ms": float(waits.max()),
            "busiest_ms": 1000 * max(self.busy),
            "p99_ms": float(np.quantile(waits, 0.99)),
            "median_ms": float(np.median(waits)),
            "beats": len(waits),
        }

    def _beat(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        self.waits.append(now - self._last[0])
        self.busy.append(worked - self._last[1])
        self._last = (now, worked)

    def _watch(self) -> None:
        while not self._ended.wait(_LATE_S / 5):
            late = time.perf_counter() - self._last[0]
            frame = sys._current_frames().get(self._thread)
            if late > _LATE_S and frame is not None:
                self.late_positions[_describe_position(traceback.extract_stack(frame))] += 1


class PanelWindow:
    """A napari window with the panel, on a scene; its projects lie in `root`."""

    def __init__(self, scene: Scene, model: str, root: Path) -> None:
        import napari

        from napari_sam2.gui.widgets.panel import Panel

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1300, 900)
        self.panel = Panel(self.viewer, root=lambda: root)
        self.viewer.window.add_dock_widget(self.panel, name="SAM 2 for stacks", area="right")
        self.panel.controller.use_model(model)
        self.viewer.add_image(
            scene.stack.data, axis_labels=tuple(scene.stack.axes), name=scene.name
        )
        self.viewer.dims.set_point(0, 0)
        self.wait_until(lambda: self.idle and self.panel.controller.snapshot.options.device != "")

    @property
    def idle(self) -> bool:
        """Whether everything is computed and drawn."""
        from napari_sam2.gui.app.view import Stage

        return self.panel.controller.snapshot.stage is Stage.READY and not self.panel.redraw_pending

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Run Qt's event loop until a condition is true."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop, look, end = QEventLoop(), QTimer(), time.monotonic() + _TIMEOUT_S
        look.setInterval(20)
        look.timeout.connect(lambda: loop.quit() if condition() or time.monotonic() > end else None)
        look.start()
        loop.exec()
        look.stop()
        if time.monotonic() > end:
            raise TimeoutError(
                f"nothing happened for {_TIMEOUT_S:.0f} s; the panel shows "
                f"{self.panel.controller.snapshot}"
            )

    def prompt_all(self, scene: Scene) -> None:
        """Click each object."""
        for track in scene.tracks:
            self.panel.controller.start_object()
            self.panel.controller.add_click(0, scene.make_click(track, 0).yx[0], positive=True)
        self.wait_until(lambda: self.idle)

    def propagate(self) -> tuple[EventLoopTimer, float]:
        """Propagate to the end. Returns the timer, and the seconds it took."""
        timer, start = EventLoopTimer(), time.perf_counter()
        timer.start()
        self.panel.propagate()
        self.wait_until(lambda: self.idle)
        timer.stop()
        return timer, time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if no stall is longer than `MAX_STALL_S`."""
    options = _parse_options(arguments)
    about = describe_machine()
    scene = make_drifting_scene(
        count=options.objects,
        frames=options.frames,
        shape=(options.size,) * 2,
        noise=0.05 * BRIGHTEST,
    )
    with _make_settings_folder() as folder:
        window = PanelWindow(scene, options.model, folder / "projects")
        window.prompt_all(scene)
        for name in options.docks:
            dock = getattr(window.panel.docks, name)
            if not dock.button.isChecked():
                dock.toggle()
        window.wait_until(lambda: window.idle)
        timer, seconds = window.propagate()
        tracks = len(window.panel.controller.state.statuses)
        window.viewer.close()
    figures = {**timer.figures, "took_s": seconds, "tracks": tracks}
    print(format_markdown(list(figures), [list(figures.values())]))
    for position, count in timer.late_positions.most_common(12):
        print(f"{count:4d} × {position}")
    write_results({"machine": about, **figures, "late": dict(timer.late_positions)}, options.out)
    text = f"longest stall {figures['longest_ms']:.0f} ms, at most {1000 * MAX_STALL_S:.0f}"
    return report_checks([(text, figures["longest_ms"] < 1000 * MAX_STALL_S)])


@contextmanager
def _make_settings_folder() -> Iterator[Path]:
    """Make a temporary folder for napari's settings: the user's own ones are not touched."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        yield Path(folder)


def _describe_position(stack: traceback.StackSummary) -> str:
    """Describe where a thread is by its innermost stack frames, those of this package first."""
    shown = [
        f"{Path(each.filename).parent.name}/{Path(each.filename).name}:{each.lineno} {each.name}"
        for each in stack
    ]
    ours = [text for each, text in zip(stack, shown, strict=True) if "/gui/" in each.filename]
    return " > ".join([*ours[-2:], *shown[-3:]])


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.window", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--objects", type=int, default=20, help="number of objects (%(default)s)")
    parser.add_argument("--frames", type=int, default=30, help="number of frames (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels")
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument(
        "--docks", nargs="*", default=["lanes", "tables"], help="docks to open beside the panel"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
