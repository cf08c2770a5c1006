"""Panel: a stack, prompted and carried in the notebook.

The browser draws and clicks; all that is known stays in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.core.inference_options import DEFAULT_ATTENTION, Attention, Precision, Windows
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.track import Track
from napari_sam2.io.open import open_stack
from napari_sam2.models.load import load_model
from napari_sam2.notebook import views
from napari_sam2.notebook.background_run import BackgroundRun
from napari_sam2.notebook.description import describe_video, make_prompts_from_labels
from napari_sam2.notebook.frame_index import FrameIndex
from napari_sam2.notebook.planes import FrameEncoder
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.session import Session

_FOLDER = Path(__file__).parent
_SCRIPTS = ("drawing.js", "frame.js", "lanes.js", "objects.js", "panel.js")


class Panel(anywidget.AnyWidget):
    """A frame to click on, what the model makes of it, and buttons to carry it through the stack.

    Parameters
    ----------
    session
        What is prompted. Setting `session` later shows another one.

    Traits that the browser and Python share, readable and settable in both:

    - `frame`: the frame that is shown;
    - `track`: the object that clicks are for;
    - `channel`: the channel that is shown (the model looks at that of the session's video, always);
    - `contrast`: the intensities shown as black and white, in the file's own values;
    - `single`: whether every click or box is a new object;
    - `at`: where the other axes stand, e.g. ``{"z": 3}`` of a stack walked along t. Each place has a session of its own.
    """

    _esm = "\n".join((_FOLDER / "js" / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    _css = _FOLDER / "panel.css"

    frame = traitlets.Int(0).tag(sync=True)
    track = traitlets.Int(1).tag(sync=True)
    channel = traitlets.Int(0).tag(sync=True)
    contrast = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 1.0)).tag(
        sync=True
    )
    single = traitlets.Bool(False).tag(sync=True)
    at = traitlets.Dict().tag(sync=True)

    _video = traitlets.Dict().tag(sync=True)
    _image = traitlets.Dict().tag(sync=True)
    _overlay = traitlets.Dict().tag(sync=True)
    _objects: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _marks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _lanes = traitlets.Dict().tag(sync=True)
    _table: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _progress = traitlets.Dict({"carrying": False, "position": 0, "total": 0}).tag(sync=True)
    _message = traitlets.Dict({"text": "", "wrong": False}).tag(sync=True)

    def __init__(self, session: Session) -> None:
        self._ready = False
        super().__init__()
        self._lock = RLock()
        self._background_run: BackgroundRun | None = None
        self._sessions: dict[tuple[tuple[str, int], ...], Session] = {}
        self._show_session(session)
        self.on_msg(self._on_message)

    @property
    def session(self) -> Session:
        """What was said and answered so far."""
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._check_idle()
        self._sessions.clear()
        self._show_session(session)

    @property
    def labels(self) -> Any:
        """(frames, H, W) labels: a dask array that reads plane by plane; ``.compute()`` gives NumPy.

        Set to label planes of that shape, or of one frame (H, W), the objects in them are given to
        the session as masks.
        """
        return self._session.collect_results().labels

    @labels.setter
    def labels(self, labels: Any) -> None:
        self._check_idle()
        self._session.prompt_many(
            make_prompts_from_labels(np.asarray(labels), self._session.video, self.frame)
        )
        self._refresh()

    @property
    def counts(self) -> pd.DataFrame:
        """Objects per frame and category, and over all, as in ``counts.csv``."""
        return self._session.collect_results().counts

    @property
    def objects(self) -> pd.DataFrame:
        """One row per track and frame, as in ``objects.csv``."""
        return self._session.collect_results().objects

    @property
    def tracks(self) -> pd.DataFrame:
        """One row per track, as in ``tracks.csv``."""
        return self._session.collect_results().tracks

    @property
    def propagating(self) -> bool:
        """Whether a propagation is at work."""
        return self._background_run is not None and self._background_run.busy

    @property
    def message(self) -> str:
        """The last line the panel said to the person in front of it."""
        return str(self._message.get("text", ""))

    def prompt(self, prompt: Prompt) -> None:
        """The same as a click: answer it, and show the answer if it is on the frame that is shown."""
        self._check_idle()
        self._session.prompt(prompt)
        self._refresh()

    def undo(self) -> bool:
        """Take back the last prompt or lock and what was carried since; False where there is nothing to undo."""
        self._check_idle()
        done = self._session.undo()
        self._refresh()
        return done

    def describe(self, track: int, *, name: str | None = None, category: str | None = None) -> None:
        """Name an object, or say of which kind it is."""
        old = self._session.log.get_track(track)
        new = Track(
            track,
            old.name if name is None else name,
            old.category if category is None else category,
            old.parent,
        )
        self._session.describe(new)
        self._refresh()

    def propagate(self) -> None:
        """Carry what is new and what was corrected through the stack, in a thread; `wait` for it, or `cancel` it."""
        self._check_idle()
        run = self._session.run()
        if not run.plan.ranges:
            self._show_message("Nothing new to carry: every object is up to date.")
            return
        self._progress = {
            "carrying": True,
            "position": 0,
            "total": len(list(run.plan.iterate_steps())),
        }
        self._show_message("Carrying …")
        self._background_run = BackgroundRun(run, self._on_step, self._on_end)
        self._background_run.start()

    def cancel(self) -> None:
        """Stop the propagation before its next frame; what is done stays, and `propagate` goes on from there."""
        if self._background_run:
            self._background_run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the propagation; False where it has not ended in time.

        Meanwhile the buttons are not heard.
        """
        return self._background_run is None or self._background_run.wait(timeout_s)

    def _show_session(self, session: Session) -> None:
        """Begin anew with this session."""
        self._ready = False
        self._session, self._display, self._frame_index = (
            session,
            FrameEncoder(session.video),
            FrameIndex(session),
        )
        video = session.video
        self._sessions[video.at] = session
        with self.hold_sync():
            self.at = dict(video.at)
            self.frame = min(self.frame, len(video) - 1) if self._video else len(video) // 2
            self.track = max(session.log.track_ids, default=0) + 1
            self.channel = video.channel or 0
            self.contrast = (video.contrast.low, video.contrast.high)
            self._video = describe_video(session, self._display.shrink)
            self._ready = True
            self._draw_image()
            self._refresh()
        self._show_message(
            "Click on an object. Alt-click or right-click: not here. Drag: a box around it."
        )

    def _draw_image(self) -> None:
        channel = None if self._session.video.channel is None else self.channel
        self._image = self._display.encode_image(self.frame, channel, self.contrast)

    def _refresh(self) -> None:
        """Bring all that is drawn to what the session knows now."""
        session, frame, traces = self._session, self.frame, self._session.get_records()
        with self._lock, self.hold_sync():
            self._overlay = self._display.encode_labels(frame, session.compute_label_plane(frame))
            self._objects = views.list_objects(session, traces, self.track)
            self._marks = views.list_prompt_marks(session, frame)
            self._lanes = views.encode_lanes(session, traces)
            self._table = self._frame_index.make_rows(traces, frame)

    def _change_position(self) -> None:
        """Go to another place of the axes that are not walked: to the session that was there, or a new one."""
        self._check_idle()
        old = self._session
        video = Video.of(
            old.video.stack,
            along=old.video.along,
            channel=old.video.channel,
            contrast=old.video.contrast,
            at=self.at,
        )
        self._show_session(
            self._sessions.get(video.at)
            or Session(
                video, old.model, policy=old.policy, settings=replace(old.settings, folder=None)
            )
        )

    @traitlets.validate("frame", "track", "channel", "contrast")
    def _validate_trait(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if not self._ready:
            return value
        counts = {
            "frame": range(len(self._session.video)),
            "channel": range(len(self._session.video.stack.channels)),
        }
        if name in counts and value not in counts[name]:
            raise traitlets.TraitError(
                f"{name} is {value!r}: expected 0 to {len(counts[name]) - 1}"
            )
        if name == "track" and value < 1:
            raise traitlets.TraitError(f"track is {value!r}: expected a number from 1")
        if name == "contrast" and not value[0] < value[1]:
            raise traitlets.TraitError(
                f"contrast is {value!r}: expected two different numbers, the lower first"
            )
        return value

    @traitlets.observe("at")
    def _on_position_change(self, change: Mapping[str, Any]) -> None:
        if not self._ready:
            return
        with self._show_errors():
            try:
                self._change_position()
            except Sam2Error:
                self.set_trait("at", change["old"])
                raise

    @traitlets.observe("frame", "track", "channel", "contrast")
    def _on_view_change(self, change: Mapping[str, Any]) -> None:
        if not self._ready:
            return
        with self._show_errors(), self.hold_sync():
            if change["name"] == "channel":
                fresh = self._display.get_contrast(
                    None if self._session.video.channel is None else self.channel
                )
                self.contrast = (fresh.low, fresh.high)
            if change["name"] != "track":
                self._draw_image()
            if change["name"] in ("frame", "track"):
                self._refresh()

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        """A message of the browser: ``{"kind", …}``.

        What goes wrong is said in the panel, not raised.
        """
        answers: dict[str, Callable[[dict[str, Any]], None]] = {
            "point": self._on_click,
            "box": self._on_click,
            "undo": lambda _: self._on_undo(),
            "propagate": lambda _: self.propagate(),
            "cancel": lambda _: self.cancel(),
            "lock": self._on_lock,
            "describe": lambda given: self.describe(
                int(given["track"]), name=given.get("name"), category=given.get("category")
            ),
            "new": lambda _: self._on_new_object(),
        }
        answer = answers.get(str(content.get("kind")))
        if answer is not None:
            with self._show_errors():
                answer(dict(content))

    def _on_click(self, content: dict[str, Any]) -> None:
        self._check_idle()
        session = self._session
        if self.single and content.get("positive", True):
            content["track"] = max(session.log.track_ids, default=0) + 1
        segment = session.prompt(views.parse_prompt(content))
        with self.hold_sync():
            self.track = segment.track
            self._refresh()
            known = f"Object {segment.track}, frame {segment.frame}"
            self._show_message(
                f"{known}: predicted IoU {segment.iou:.2f}."
                if segment.present
                else f"{known}: nothing seen here."
            )

    def _on_undo(self) -> None:
        self._show_message("Taken back." if self.undo() else "Nothing to take back.")

    def _on_lock(self, content: dict[str, Any]) -> None:
        self._check_idle()
        track, frame = int(content["track"]), int(content["frame"])
        locked = not self._session.log.is_locked(track, frame)
        self._session.lock(track, frame, locked=locked)
        self._refresh()
        self._show_message(
            f"Object {track}, frame {frame}: "
            f"{'accepted, nothing overwrites it.' if locked else 'free again.'}"
        )

    def _on_new_object(self) -> None:
        self.track = max(self._session.log.track_ids, default=0) + 1
        self._show_message(f"Object {self.track}: click on it, or drag a box around it.")

    def _on_step(self, step: PropagationStep) -> None:
        self._progress = {"carrying": True, "position": step.position, "total": step.total}
        self._refresh()

    def _on_end(self, error: Exception | None) -> None:
        assert self._background_run is not None or error is None
        last = self._progress
        self._refresh()
        with self.hold_sync():
            cancelled = self._background_run is not None and self._background_run.cancelled
            self._progress = {
                "carrying": False,
                "position": last["position"] if cancelled or error else last["total"],
                "total": last["total"],
            }
            if error is not None:
                self._show_message(
                    f"{error}"
                    if isinstance(error, Sam2Error)
                    else f"{type(error).__name__}: {error}",
                    error=True,
                )
            else:
                self._show_message(
                    "Stopped; Propagate goes on from there."
                    if cancelled
                    else "Carried through the stack."
                )

    def _check_idle(self) -> None:
        if self.propagating:
            raise PlanError("objects are being carried: wait for it, or cancel first")

    def _show_message(self, text: str, *, error: bool = False) -> None:
        self._message = {"text": text, "wrong": error}

    @contextmanager
    def _show_errors(self) -> Iterator[None]:
        """An error of ours is one line in the panel: there is nobody in the browser to raise it to."""
        try:
            yield
        except Sam2Error as error:
            self._show_message(str(error), error=True)


def annotate(
    stack: Any,
    *,
    along: str | None = None,
    channel: int | None = None,
    model: Any = "nano",
    device: str = "auto",
    attention: Attention = DEFAULT_ATTENTION,
    precision: Precision = "float32",
    windows: Windows = "whole",
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
) -> Panel:
    """A Panel to prompt the objects of a stack and carry them through it.

    Parameters
    ----------
    stack
        A path, an array, a Stack, a Video, or a Session to go on with.
    along, channel, at, contrast
        How the stack is walked; see `Stack.as_video`.
    model
        A name ("nano", "sam2.1-tiny"), a checkpoint file, or a model that is loaded.
    device
        "auto", "cpu", "cuda", "mps".
    attention, precision, windows
        How a model that is given by name looks at frames ("auto", "global", "local"; "whole",
        "tiles"), and what it computes in ("float32", "bfloat16", "float16"); see `load_model`.
    """
    if isinstance(stack, Session):
        return Panel(stack)
    if isinstance(stack, Video):
        video = stack
    else:
        opened = stack if isinstance(stack, Stack) else open_stack(stack)
        video = opened.as_video(along, channel=channel, contrast=contrast, **(at or {}))
    how: dict[str, Any] = {"attention": attention, "precision": precision, "windows": windows}
    loaded = load_model(model, device=device, **how) if isinstance(model, str | Path) else model
    return Panel(Session(video, loaded))
