"""Drive the counting pipelines of the package: the only file here that knows the code's names.

The cases and the golden files speak of scenes, options and edits in plain data. After a renaming,
this file is adapted, and nothing else in this folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import tifffile

from napari_sam2.api.count import CountingOptions, count
from napari_sam2.api.count_job import CountJob, run_count_job
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, PromptLog
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import Track
from napari_sam2.gui.app.counting_task import DetectionRequest
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.io.prompts_json import format_json_log
from napari_sam2.propagation.session import Session
from napari_sam2.testing import scenes
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.seeds import EditedSeed, Seed

TABLES = ("objects", "tracks", "counts")

RefusedError = Sam2Error
"""What the package raises for input that cannot be counted."""

_SCENES = {
    "appearing": scenes.make_appearing_scene,
    "blank": scenes.make_blank_scene,
    "crossing": scenes.make_crossing_scene,
    "dividing": scenes.make_dividing_scene,
    "drifting": scenes.make_drifting_scene,
    "ellipsoids": scenes.make_ellipsoid_scene,
    "jumping": scenes.make_jumping_scene,
    "passing": scenes.make_passing_scene,
    "returning": scenes.make_returning_scene,
    "touching": scenes.make_touching_scene,
    "twelve_bit": scenes.make_twelve_bit_scene,
    "two_channels": scenes.make_two_channel_scene,
}

_OPTIONS = {"at": "division_frame", "alike": "same_level"}
"""Options of scenes, by the names that cases use."""


@dataclass
class Outcome:
    """What one case came to, in plain data: what is compared and written to the golden files."""

    labels: np.ndarray
    log: list[str]
    tracks: list[list[Any]]
    tables: dict[str, pd.DataFrame]
    seeds: list[str] = field(default_factory=list)
    logs: list[list[str]] = field(default_factory=list)  # after each undo or redo
    planes: list[str] = field(default_factory=list)  # hashes of labels after each undo or redo
    asked: str = ""  # a hash of what the model was asked, with which memories


class Killed(Exception):
    """Stands for a kill in the middle of a run."""


def make_scene(name: str, **options: Any) -> Any:
    """A scene of the package by the name of its function; short ones, where nothing is said."""
    short = {"slices": 10} if name == "ellipsoids" else {"frames": 8}
    given = {_OPTIONS.get(key, key): value for key, value in options.items()}
    return _SCENES[name](**short | given)


def make_labels(scene: Any, how: str) -> np.ndarray:
    """Labels of another tool: the truth, changed as `how` says."""
    labels = scene.labels.astype(np.int32)
    frames = np.arange(len(labels))[:, None, None]
    match how.split(":"):
        case ["truth"]:
            return labels
        case ["turned"]:  # other numbers on each frame: no identities
            return np.where(labels, (labels + 7 * frames) % 97 + 1, 0)
        case ["sparse"]:  # large numbers with holes between them
            return labels * 30_000
        case ["gap", track, frame]:  # missed on a frame
            return np.where((frames == int(frame)) & (labels == int(track)), 0, labels)
        case ["turned-gap", track, *missed]:
            away = np.isin(frames, [int(each) for each in missed]) & (labels == int(track))
            return np.where(labels * ~away, (labels + 7 * frames) % 97 + 1, 0)
        case ["merged", first, last]:  # one body for a while
            together = (frames >= int(first)) & (frames < int(last))
            turned = np.where(labels, (labels + 7 * frames) % 97 + 1, 0)
            return np.where(together & (labels > 0), 50, turned)
        case ["halved", until]:  # the right half of track 1 is an object of its own for a while
            middle = [int(np.nonzero(plane == 1)[1].mean()) for plane in labels]
            right = np.arange(labels.shape[2])[None, None] >= np.array(middle)[:, None, None]
            cut = np.where((frames < int(until)) & right & (labels == 1), 9, labels)
            return np.where(cut, (cut + 7 * frames) % 97 + 1, 0)
    raise ValueError(how)


def count_headless(scene: Any, options: Mapping[str, Any], folder: Path) -> Outcome:
    """Count a scene in this process, without files."""
    chosen, model = _with_labels(scene, options, folder), ToyModel()
    with count(scene.stack, model=model, channel=0, **chosen).session as session:
        # the tables of the run are those of its session, categories by rules included
        outcome = describe_session(session)
    outcome.asked = _describe_asked(model)
    return outcome


def count_to_folder(scene: Any, options: Mapping[str, Any], folder: Path) -> Outcome:
    """Count a scene as the command does, and read the files that come of it."""
    chosen = _with_labels(scene, options, folder)
    out = folder / "out"
    count(scene.stack, out=out, model=ToyModel(), channel=0, **chosen)
    return describe_folder(out)


def count_job(scene: Any, options: Mapping[str, Any], folder: Path, *, kill: str = "") -> Outcome:
    """Count a file in a job; where `kill` is given, it is killed there and resumed.

    "look:3": while it looks at the 3rd frame; "carry:2": after 2 frames were carried;
    "write": when it writes the results.
    """
    image = folder / "image.npy"
    np.save(image, np.asarray(scene.stack.data))
    chosen = _with_labels(scene, options, folder)
    fields = {"input": image, "out": folder / "out", "axes": scene.stack.axes.upper()}
    spacing = scene.stack.spacing
    if spacing.y_um is not None:
        sides = (spacing.z_um, spacing.y_um, spacing.x_um)
        fields["spacing"] = tuple(side for side in sides if side is not None)
        fields["interval"] = spacing.t_s
    job = CountJob.from_fields(
        {**fields, "along": scene.video.along, "channel": 0, "counting": chosen}
    )
    if kill:
        try:
            with _without_pictures():
                run_count_job(job, model=ToyModel(), **_killing(kill))
        except Killed:
            pass
        else:
            raise AssertionError(f"{kill}: was not killed")
        assert not (folder / "out" / "provenance.json").exists()
        job = job.model_copy(update={"resume": True})
    with _without_pictures():
        run_count_job(job, model=ToyModel())
    return describe_folder(folder / "out")


def count_in_window(
    scene: Any, options: Mapping[str, Any], steps: Sequence[Sequence[Any]], folder: Path
) -> Outcome:
    """Do what a person does in the window: each of `steps` is an action and its arguments."""
    with_desk = _Window(scene, options, folder)
    try:
        for name, *arguments in steps:
            getattr(with_desk, name)(*arguments)
        outcome = with_desk.read or describe_session(with_desk.desk.session)
        outcome.seeds, outcome.logs = with_desk.found, with_desk.logs
        outcome.planes = with_desk.planes
        outcome.asked = _describe_asked(with_desk.desk.session.model)
        return outcome
    finally:
        with_desk.desk.close()


class _Window:
    """The background thread's half of a window, without the thread."""

    def __init__(self, scene: Any, options: Mapping[str, Any], folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.options = dict(options)
        self.desk = SessionWorker(Session(scene.video, ToyModel()))
        self.seeds: list[Seed] = []
        self.placed: list[EditedSeed] = []
        self.found: list[str] = []
        self.logs: list[list[str]] = []
        self.planes: list[str] = []
        self.read: Outcome | None = None

    def click(self, track: int, frame: int, number: int) -> None:
        """Click a true object; it becomes the object `number`."""
        yx = self.scene.make_click(track, frame).yx
        self.desk.prompt([PointPrompt(frame, number, yx, [True])])

    def box(self, track: int, frame: int, number: int) -> None:
        """Draw a box around a true object."""
        rows, columns = np.nonzero(self.scene.mask(track, frame))
        corners = (rows.min(), columns.min(), rows.max(), columns.max())
        self.desk.prompt([BoxPrompt(frame, number, [float(each) for each in corners])])

    def mask(self, track: int, frame: int, number: int, striped: bool = False) -> None:
        """Draw the mask of a true object, or every second column of it."""
        mask = self.scene.mask(track, frame)
        if striped:
            mask = mask & (np.arange(mask.shape[1]) % 2 == 0)
        self.desk.prompt([MaskPrompt(frame, number, mask)])

    def name(self, number: int, name: str, category: str) -> None:
        """Name an object."""
        self.desk.describe(Track(number, name, category))

    def lock(self, number: int, frame: int) -> None:
        """Accept an object on a frame."""
        self.desk.lock([number], [frame])

    def remove(self, number: int) -> None:
        """Take an object out."""
        self.desk.remove([number])

    def propagate(self, first: int | None = None, after: int | None = None) -> None:
        """Carry all there is to carry, on these frames or on all."""
        frames = None if first is None else (first, after)
        self.desk.start_propagation(PropagationRequest(frames=frames))
        self._work()

    def look(self, most: int | None = None, **changes: Any) -> None:
        """Find seeds; stop after `most` frames where that is given."""
        options = {"seeds": "classical", **self.options, **changes}  # the default of then
        frame, how = options.pop("frame", 0), options.pop("labels", None)
        labels = None if how is None else make_labels(self.scene, how)
        self.desk.start_detection(
            DetectionRequest(CountingOptions.from_fields(options), labels, frame)
        )
        self.seeds = []
        for changed in self._work(most):
            self.seeds.extend(changed.seeds)
        self.placed = [EditedSeed(each.number, each.prompt.frame, each.yx) for each in self.seeds]
        self.found += [
            f"{each.number} label={each.label} at={each.yx[0]:.4f},{each.yx[1]:.4f} "
            + _describe_entries(PromptLog((each.prompt,)))[0]
            for each in self.seeds
        ]

    def look_again(self, options: Mapping[str, Any]) -> None:
        """Find seeds with other options."""
        self.options = dict(options)
        self.look()

    def delete(self, *numbers: int) -> None:
        """Delete seeds by number."""
        self.placed = [each for each in self.placed if each.number not in numbers]

    def delete_frame(self, frame: int) -> None:
        """Delete all seeds of a frame."""
        self.placed = [each for each in self.placed if each.frame != frame]

    def delete_object(self, track: int) -> None:
        """Delete all seeds that lie on a true object."""

        def lies(each: EditedSeed) -> bool:
            y, x = (round(side) for side in each.yx)
            return bool(self.scene.mask(track, each.frame)[y, x])

        self.placed = [each for each in self.placed if not lies(each)]

    def move(self, number: int, dy: float, dx: float) -> None:
        """Move a seed by so many pixels."""
        self.placed = [
            EditedSeed(each.number, each.frame, (each.yx[0] + dy, each.yx[1] + dx))
            if each.number == number
            else each
            for each in self.placed
        ]

    def add(self, track: int, frame: int) -> None:
        """Add a seed on a true object."""
        self.placed.append(EditedSeed(0, frame, self.scene.make_click(track, frame).yx[0]))

    def add_at(self, frame: int, y: float, x: float) -> None:
        """Add a seed anywhere."""
        self.placed.append(EditedSeed(0, frame, (y, x)))

    def copy(self, number: int, dy: float, dx: float) -> None:
        """Copy a seed, as copy and paste in its layer does: the copy has the same number."""
        (one,) = (each for each in self.placed if each.number == number)
        self.placed.append(EditedSeed(number, one.frame, (one.yx[0] + dy, one.yx[1] + dx)))

    def shuffle(self) -> None:
        """Turn the order of the seeds around, as editing a layer may."""
        self.placed.reverse()

    def count(self, category: str = "", most: int | None = None) -> None:
        """Make objects of the seeds; stop after `most` steps where that is given."""
        first = max(self.desk.session.log.track_ids, default=0) + 1
        self.desk.start_counting(self.placed, first_new_track=first, category=category)
        self._work(most)

    def undo(self) -> None:
        """Take back the last action."""
        self.desk.undo()
        self._work()
        self._note()

    def redo(self) -> None:
        """Do the last action again."""
        self.desk.redo()
        self._work()
        self._note()

    def save(self) -> None:
        """Save the results; the files are what is compared."""
        self.desk.save(self.folder / "saved")
        self.read = describe_folder(self.folder / "saved")

    def _work(self, most: int | None = None) -> list[Any]:
        """Step to the end, or stop after `most` steps as a person does."""
        done = []
        while most is None or len(done) < most:
            changed = self.desk.step()
            if changed is None:
                return done
            done.append(changed)
        self.desk.stop()
        return done

    def _note(self) -> None:
        session = self.desk.session
        self.logs.append(_describe_entries(session.log))
        self.planes.append(_hash(_stack(session)))


_measured: dict[Any, dict[str, pd.DataFrame]] = {}
"""Tables by all they are made from: the same labels of many cases are measured once."""


def describe_session(session: Any) -> Outcome:
    """What a session holds, its tables measured."""
    run, labels = session.run(Propagation(())), _stack(session)
    log = _describe_log(session.log)
    traces = [(key, each.presence, each.iou) for key, each in sorted(session.get_records().items())]
    key = (session.video.identity, _hash(labels), repr(traces), repr(log[1]))
    if key not in _measured:
        _measured[key] = {name: getattr(run, name) for name in TABLES}
    return Outcome(labels, *log, _measured[key])


def describe_folder(folder: Path) -> Outcome:
    """What the files of a finished run hold."""
    said = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    labels = tifffile.imread(folder / "labels.ome.tif")
    assert (folder / "provenance.json").is_file()
    assert (folder / "overview.png").is_file()
    assert (folder / "report.html").is_file()
    assert not (folder / ".napari-sam2").exists()
    return Outcome(labels, *_describe_said(said), tables)


@contextmanager
def _without_pictures() -> Iterator[None]:
    """Leave out what takes most of the time of a small job and is not compared."""
    with (
        patch("napari_sam2.api.results.draw_overview", lambda *given: Path(given[-1]).touch()),
        patch("napari_sam2.api.exports.render_run_report", lambda *_: ""),
    ):
        yield


@contextmanager
def look_up_plug_ins_once() -> Iterator[None]:
    """Look through the installed packages once, and not at each case: a quarter of the time."""
    with patch("napari_sam2.core.registry.entry_points", _find_entry_points):
        yield


@cache
def _find_entry_points(**which: str) -> Any:
    return entry_points(**which)


def _killing(kill: str) -> dict[str, Any]:
    """Callbacks that end a job in the middle."""
    where, _, number = kill.partition(":")
    stage = {"look": TrackingStage.DETECT, "carry": TrackingStage.PROPAGATE}.get(where)

    def report(line: str) -> None:
        if where == "write" and line.startswith("writing"):
            raise Killed

    def follow(step: TrackingProgress) -> None:
        if step.stage == stage and step.done == int(number):
            raise Killed

    return {"report": report, "progress": follow}


def _with_labels(scene: Any, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Options whose seeds are a label image on disk, where `labels` says which."""
    chosen = {"seeds": "classical", **options}  # the default of then
    how = chosen.pop("labels", None)
    if how is not None:
        path = folder / "labels.ome.tif"
        labels = make_labels(scene, how).astype(np.uint32)
        axes = "ZYX" if scene.video.along == "z" else "TYX"
        tifffile.imwrite(path, labels, metadata={"axes": axes}, ome=True)
        chosen["seeds"] = str(path)
    return chosen


def make_stack(scene: Any) -> Any:
    """The pixels of a scene without their spacing."""
    return Stack(scene.stack.data, scene.stack.axes)


def _stack(session: Any) -> np.ndarray:
    return np.stack([session.compute_label_plane(frame) for frame in range(len(session.video))])


def _describe_log(log: Any) -> tuple[list[str], list[list[Any]]]:
    return _describe_said(json.loads(format_json_log(log)))


def _describe_entries(log: Any) -> list[str]:
    return _describe_log(log)[0]


def _describe_said(said: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The content of a prompts.json, a line an entry; masks by the hash of their pixels."""
    assert (said["format"], said["version"]) == ("napari-sam2 prompts", 1)
    keys = ("id", "name", "category", "parent")
    return [_describe_entry(each) for each in said["entries"]], [
        [track[key] for key in keys] for track in said["tracks"]
    ]


def _describe_entry(entry: Mapping[str, Any]) -> str:
    rest = dict(entry)
    words = [rest.pop("kind")]
    words += [f"{key[0]}{rest.pop(key)}" for key in ("frame", "track") if key in rest]
    if "bits" in rest:
        shape = rest.pop("shape")
        words += ["x".join(map(str, shape)), _hash(_unpack(rest.pop("bits"), shape))]
    for leg in rest.pop("legs", ()):
        words.append(f"{leg['track']}:{leg['start']}>{leg['end']}" + "!" * leg["settles"])
    return " ".join(words + [f"{key}={json.dumps(rest[key])}" for key in rest])


def _describe_asked(model: Any) -> str:
    """Which questions were put to the model, in whatever order and however often.

    A question is a frame, an object, and the memories shown with each. This
    tells sessions apart that choose memories by other rules, where the answers happen to agree.
    """
    calls = (call for call in model.calls if call.kind == "segment")
    questions = {
        (call.frame, track, *((each.frame, each.slot, each.age) for each in shown))
        for call in calls
        for track, shown in zip(call.tracks, call.shown_memories, strict=True)
    }
    return hashlib.sha256("\n".join(sorted(map(repr, questions))).encode()).hexdigest()[:12]


def _unpack(bits: str, shape: Sequence[int]) -> np.ndarray:
    import base64
    import zlib

    raw = np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8)
    return np.unpackbits(raw, count=shape[0] * shape[1]).reshape(shape)


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint32).tobytes()).hexdigest()[:12]
