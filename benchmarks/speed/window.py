"""Heartbeat: how long the napari window stands still at most, while objects are carried with the embedded model.

xvfb-run -a -s "-screen 0 1400x1000x24" python -m benchmarks.speed.window --out results.json

A timer in Qt's loop beats every few milliseconds; what lies between two beats is how long a click
would have waited. A second thread looks on, and notes where the window's thread was when a beat was
late.
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
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.testing.scenes import BRIGHTEST, Scene, make_drifting_scene

MAX_STALL_S = 0.2
"""What the longest stall may be."""

_BEAT_MS = 5
_LATE_S = 0.05  # from here on it is noted where the window's thread was
_TIMEOUT_S = 240.0


class EventLoopTimer:
    """Beats in Qt's loop, from `start` to `stop`: seconds between beats, and where the thread was during those that were late."""

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
        """Begin."""
        self._last = (time.perf_counter(), time.thread_time())
        self._timer.start()
        Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._beat()
        self._timer.stop()
        self._ended.set()

    @property
    def figures(self) -> dict[str, float]:
        """Milliseconds: the longest wait, what the window's own thread worked in the busiest, and quantiles of all of them."""
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
    """A napari window with the panel, on a scene; projects are kept in `root`."""

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
        self.wait_until(lambda: self.idle and self.panel.controller.snapshot.device != "")

    @property
    def idle(self) -> bool:
        """Whether all that was asked for is done and drawn."""
        from napari_sam2.gui.app.view import Stage

        return (
            self.panel.controller.snapshot.stage is Stage.READY
            and not self.panel._redraw_timer.isActive()
        )

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Let the window work until this is true, in Qt's own loop."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop, look, end = QEventLoop(), QTimer(), time.monotonic() + _TIMEOUT_S
        look.setInterval(20)
        look.timeout.connect(lambda: loop.quit() if condition() or time.monotonic() > end else None)
        look.start()
        loop.exec()
        look.stop()
        if time.monotonic() > end:
            raise TimeoutError(
                f"waited {_TIMEOUT_S:.0f} s in vain; the panel says "
                f"{self.panel.controller.snapshot}"
            )

    def prompt_all(self, scene: Scene) -> None:
        """A click on each object."""
        for track in scene.tracks:
            self.panel.controller.start_object()
            self.panel.controller.add_click(0, scene.make_click(track, 0).yx[0], positive=True)
        self.wait_until(lambda: self.idle)

    def propagate(self) -> tuple[EventLoopTimer, float]:
        """Propagate to the end: the beats meanwhile, and the seconds it took."""
        heart, began = EventLoopTimer(), time.perf_counter()
        heart.start()
        self.panel.propagate()
        self.wait_until(lambda: self.idle)
        heart.stop()
        return heart, time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON: 0 where no stall was longer than `MAX_STALL_S`, else 1."""
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
            if not window.panel.docks.buttons[name].isChecked():
                window.panel.docks.toggle(name)
        window.wait_until(lambda: window.idle)
        heart, took = window.propagate()
        carried = len(window.panel.controller.state.statuses)
        window.viewer.close()
    figures = {**heart.figures, "took_s": took, "carried": carried}
    print(format_markdown(list(figures), [list(figures.values())]))
    for place, count in heart.late_positions.most_common(12):
        print(f"{count:4d} × {place}")
    reached = figures["longest_ms"] < 1000 * MAX_STALL_S
    print(
        f"longest stall {figures['longest_ms']:.0f} ms (below {1000 * MAX_STALL_S:.0f}): "
        f"{'reached' if reached else 'MISSED'}"
    )
    write_results({"machine": about, **figures, "late": dict(heart.late_positions)}, options.out)
    return 0 if reached else 1


@contextmanager
def _make_settings_folder() -> Iterator[Path]:
    """A folder that goes; the person's own settings and projects are left alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        yield Path(folder)


def _describe_position(stack: traceback.StackSummary) -> str:
    """Where a thread is: the innermost frames, those of ours in front."""
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
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--docks", nargs="*", default=["lanes", "tables"], help="what is shown beside the panel"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
