"""The panel that `annotate` shows in a notebook.

The browser draws and sends clicks. The kernel holds the state.
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

from napari_sam2.api.resume import make_evidence
from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.core.inference_options import (
    DEFAULT_ATTENTION,
    Attention,
    InferenceOptions,
    Precision,
    Windows,
)
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.track import Track
from napari_sam2.io.open import open_stack
from napari_sam2.models.load import load_model
from napari_sam2.notebook import views
from napari_sam2.notebook.background_run import BackgroundRun
from napari_sam2.notebook.description import describe_video
from napari_sam2.notebook.frame_encoder import FrameEncoder
from napari_sam2.notebook.frame_index import FrameIndex
from napari_sam2.notebook.prompts import make_prompts_from_labels, parse_prompt
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.session import Session, SessionSettings

_FOLDER = Path(__file__).parent
_SCRIPTS = ("drawing.js", "frame.js", "lanes.js", "objects.js", "panel.js")


def read_script() -> str:
    """Read the script of the panel: one module, without imports and without a build step."""
    return "\n".join((_FOLDER / "js" / name).read_text(encoding="utf-8") for name in _SCRIPTS)


class NotebookPanel(anywidget.AnyWidget):
    """A frame to click on, the masks of the model, and a button to propagate them.

    Parameters
    ----------
    session
        The session that receives the prompts. Set `session` to show another one.

    Notes
    -----
    The browser and Python share these traits, and both may set them:

    - `frame`: index of the frame that is shown;
    - `track`: id of the selected object, which receives the clicks;
    - `channel`: the channel that is shown; the model always uses that of the session's video;
    - `contrast`: the intensities shown as black and white, in values of the file;
    - `single`: whether every positive click or box makes a new object;
    - `at`: positions on the other axes, for example ``{"z": 3}`` for a stack that is propagated
      along t. Each position has its own session.

    Python writes the other traits for the browser: `video_info`, `image_data`, `label_data`,
    `object_rows`, `prompt_marks`, `lane_data`, `count_rows`, `progress` and `status`.
    """

    _esm = read_script()
    _css = _FOLDER / "panel.css"

    frame = traitlets.Int(0).tag(sync=True)
    track = traitlets.Int(1).tag(sync=True)
    channel = traitlets.Int(0).tag(sync=True)
    contrast = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(0.0, 1.0)).tag(
        sync=True
    )
    single = traitlets.Bool(False).tag(sync=True)
    at = traitlets.Dict().tag(sync=True)

    video_info = traitlets.Dict().tag(sync=True)
    image_data = traitlets.Dict().tag(sync=True)
    label_data = traitlets.Dict().tag(sync=True)
    object_rows: traitlets.List[Any] = traitlets.List().tag(sync=True)
    prompt_marks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    lane_data = traitlets.Dict().tag(sync=True)
    count_rows: traitlets.List[Any] = traitlets.List().tag(sync=True)
    progress = traitlets.Dict({"propagating": False, "position": 0, "total": 0}).tag(sync=True)
    status = traitlets.Dict({"text": "", "error": False}).tag(sync=True)

    def __init__(self, session: Session) -> None:
        self._ready = False
        super().__init__()
        self._lock = RLock()
        self._background_run: BackgroundRun | None = None
        self._sessions: dict[tuple[tuple[str, int], ...], Session] = {}
        self._show_session(session)
        self.on_msg(lambda _, content, __: self.handle_message(content))

    @property
    def session(self) -> Session:
        """The session with its prompts and segments."""
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._check_idle()
        self._sessions.clear()
        self._show_session(session)

    @property
    def labels(self) -> Any:
        """(frames, H, W) labels as a dask array, which reads plane by plane.

        Set it to labels of that shape, or of the shown frame (H, W), to prompt the session with
        their objects as masks.
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
        """Objects per frame and category, and in all, as in ``counts.csv``."""
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
        """Whether objects are being propagated."""
        return self._background_run is not None and self._background_run.busy

    @property
    def message(self) -> str:
        """The last line of the status bar."""
        return str(self.status.get("text", ""))

    def prompt(self, prompt: Prompt) -> None:
        """Add a prompt as a click does, and show the mask if its frame is shown."""
        self._check_idle()
        self._session.prompt(prompt)
        self._refresh()

    def undo(self) -> bool:
        """Undo the last prompt or lock and what was propagated since.

        Returns False if there is nothing to undo.
        """
        self._check_idle()
        undone = self._session.undo()
        self._refresh()
        return undone

    def describe(self, track: int, *, name: str | None = None, category: str | None = None) -> None:
        """Set the name or the category of an object."""
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
        """Propagate new and corrected objects in a thread; see `wait` and `cancel`."""
        self._check_idle()
        run = self._session.run()
        if not run.plan.ranges:
            self._show_message("Nothing to propagate: every object is up to date.")
            return
        self.progress = {
            "propagating": True,
            "position": 0,
            "total": len(list(run.plan.iterate_steps())),
        }
        self._show_message("Propagating …")
        self._background_run = BackgroundRun(run, self._on_step, self._on_end)
        self._background_run.start()

    def cancel(self) -> None:
        """Stop before the next frame; finished frames stay, and `propagate` continues from them."""
        if self._background_run:
            self._background_run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the propagation, and return whether it ended within `timeout_s`.

        The kernel handles no buttons while it waits.
        """
        return self._background_run is None or self._background_run.wait(timeout_s)

    def handle_message(self, content: Mapping[str, Any]) -> None:
        """Handle a message of the browser, ``{"kind": …}``; the status bar shows errors."""
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "point": self._on_click,
            "box": self._on_click,
            "undo": lambda _: self._on_undo(),
            "propagate": lambda _: self.propagate(),
            "cancel": lambda _: self.cancel(),
            "lock": self._on_lock,
            "describe": lambda values: self.describe(
                int(values["track"]), name=values.get("name"), category=values.get("category")
            ),
            "new": lambda _: self._on_new_object(),
        }
        handler = handlers.get(str(content.get("kind")))
        if handler is not None:
            with self._show_errors():
                handler(dict(content))

    def _show_session(self, session: Session) -> None:
        self._ready = False
        self._session = session
        self._frame_encoder = FrameEncoder(session.video)
        self._frame_index = FrameIndex(session)
        video = session.video
        self._sessions[video.at] = session
        with self.hold_sync():
            self.at = dict(video.at)
            self.frame = min(self.frame, len(video) - 1) if self.video_info else len(video) // 2
            self.track = max(session.log.track_ids, default=0) + 1
            self.channel = video.channel or 0
            self.contrast = (video.contrast.low, video.contrast.high)
            self.video_info = describe_video(session, self._frame_encoder.shrink)
            self._ready = True
            self._draw_image()
            self._refresh()
        self._show_message(
            "Click on an object. Alt-click or right-click: not the object. Drag: a box around it."
        )

    def _draw_image(self) -> None:
        channel = None if self._session.video.channel is None else self.channel
        self.image_data = self._frame_encoder.encode_image(self.frame, channel, self.contrast)

    def _refresh(self) -> None:
        """Update the traits that the browser draws from the session."""
        session, frame, records = self._session, self.frame, self._session.get_records()
        with self._lock, self.hold_sync():
            self.label_data = self._frame_encoder.encode_labels(
                frame, session.compute_label_plane(frame)
            )
            self.object_rows = views.list_objects(session, records, self.track)
            self.prompt_marks = views.list_prompt_marks(session, frame)
            self.lane_data = views.encode_lanes(session, records)
            self.count_rows = self._frame_index.make_rows(records, frame)

    def _change_position(self) -> None:
        """Show the session at the position `at`; the first visit makes a new session."""
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
                contrast = self._frame_encoder.get_contrast(
                    None if self._session.video.channel is None else self.channel
                )
                self.contrast = (contrast.low, contrast.high)
            if change["name"] != "track":
                self._draw_image()
            if change["name"] in ("frame", "track"):
                self._refresh()

    def _on_click(self, content: dict[str, Any]) -> None:
        self._check_idle()
        session = self._session
        if self.single and content.get("positive", True):
            content["track"] = max(session.log.track_ids, default=0) + 1
        segment = session.prompt(parse_prompt(content))
        with self.hold_sync():
            self.track = segment.track
            self._refresh()
            outcome = f"predicted IoU {segment.iou:.2f}" if segment.present else "no object found"
            self._show_message(f"Object {segment.track}, frame {segment.frame}: {outcome}.")

    def _on_undo(self) -> None:
        self._show_message("Undone." if self.undo() else "Nothing to undo.")

    def _on_lock(self, content: dict[str, Any]) -> None:
        self._check_idle()
        track, frame = int(content["track"]), int(content["frame"])
        locked = not self._session.log.is_locked(track, frame)
        self._session.lock(track, frame, locked=locked)
        self._refresh()
        outcome = "accepted; propagation does not change it" if locked else "no longer accepted"
        self._show_message(f"Object {track}, frame {frame}: {outcome}.")

    def _on_new_object(self) -> None:
        self.track = max(self._session.log.track_ids, default=0) + 1
        self._show_message(f"Object {self.track}: click on it, or drag a box around it.")

    def _on_step(self, step: PropagationStep) -> None:
        self.progress = {"propagating": True, "position": step.position, "total": step.total}
        self._refresh()

    def _on_end(self, error: Exception | None) -> None:
        assert self._background_run is not None
        self._refresh()
        position, total = self.progress["position"], self.progress["total"]
        cancelled = self._background_run.cancelled
        with self.hold_sync():
            if not cancelled and error is None:
                position = total
            self.progress = {"propagating": False, "position": position, "total": total}
            if isinstance(error, Sam2Error):
                self._show_message(str(error), error=True)
            elif error is not None:
                self._show_message(f"{type(error).__name__}: {error}", error=True)
            elif cancelled:
                self._show_message("Stopped. Press Propagate to continue.")
            else:
                self._show_message("Propagated through the stack.")

    def _check_idle(self) -> None:
        if self.propagating:
            raise PlanError("objects are being propagated: wait until the end, or cancel first")

    def _show_message(self, text: str, *, error: bool = False) -> None:
        self.status = {"text": text, "error": error}

    @contextmanager
    def _show_errors(self) -> Iterator[None]:
        """Show a Sam2Error in the status bar, because a browser event has no caller to raise to."""
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
    evidence: str = "none",
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
) -> NotebookPanel:
    """Show a stack in a panel, to prompt its objects and propagate them.

    Parameters
    ----------
    stack
        A path, an array, a Stack, a Video, or a Session to continue.
    along, channel, at, contrast
        Which axis is propagated along, and what of the stack is shown; see `Stack.as_video`.
    model
        A name ("nano", "sam2.1-tiny"), a checkpoint file, or a loaded model.
    device
        "auto", "cpu", "cuda" or "mps".
    attention, precision, windows
        Options of a model that is loaded here: attention "auto", "global" or "local"; precision
        "float32", "bfloat16" or "float16"; windows "whole" or "tiles". See `load_model`.
    evidence
        What the learned detector is used for: "all", "none", or some of "click", "presence",
        "mask" and "review" with commas.

    Returns
    -------
    NotebookPanel
        The last line of a cell shows it. Read its results while you work.
    """
    if isinstance(stack, Session):
        return NotebookPanel(stack)
    if isinstance(stack, Video):
        video = stack
    else:
        opened = stack if isinstance(stack, Stack) else open_stack(stack)
        video = opened.as_video(along, channel=channel, contrast=contrast, **(at or {}))
    options: dict[str, Any] = {"attention": attention, "precision": precision, "windows": windows}
    loaded = load_model(model, device=device, **options) if isinstance(model, str | Path) else model
    found = make_evidence(video, evidence, InferenceOptions(device=device))
    settings = SessionSettings(evidence=evidence)
    return NotebookPanel(Session(video, loaded, settings=settings, evidence=found))
