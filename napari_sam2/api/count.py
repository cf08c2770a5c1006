"""Counting: from an image stack and not one click to tracks, labels and tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from napari_sam2.api.exports import Results, check_exports, export
from napari_sam2.api.fields import Fields
from napari_sam2.api.job import LabelFormat, Outcome, loaded_model, save
from napari_sam2.api.session import Run, Session
from napari_sam2.api.tables import Tables, open_labels_of
from napari_sam2.core.card import ATTENTION, Attention, Precision, Windows
from napari_sam2.core.errors import IntensityError, PlanError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.protocols import PromptSource, VideoModel
from napari_sam2.core.stack import Stack
from napari_sam2.core.video import Contrast, Video
from napari_sam2.detection.options import Hints, Kind
from napari_sam2.detection.registry import AUTO, SOURCES, open_source
from napari_sam2.io.atomic import alone, check_output
from napari_sam2.io.open import open_stack
from napari_sam2.measurement.columns import object_columns, table
from napari_sam2.measurement.counts import counts
from napari_sam2.measurement.features.classes import Rule, by_rules, categorised, features_of
from napari_sam2.measurement.features.objects import channel_count
from napari_sam2.models.device import describe
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.run import Progress, RunState
from napari_sam2.propagation.session import Settings
from napari_sam2.tracking.linker import Joining
from napari_sam2.tracking.pipeline import explain, find_tracks, tell

log = logging.getLogger(__name__)

Trust = Literal["seeds", "model"]
_REACH = 2.0  # of a diameter: as far as an object goes from one frame to the next
_CONDITIONING = (
    2  # prompted frames shown at once: every frame is one here, and the nearest tell most
)


class Counting(Fields):
    """How objects that nobody clicked are found and joined. Unknown fields are errors.

    Parameters
    ----------
    seeds
        A source by name (see `sources.registry.SOURCES`), "auto" for the one that measured best, or
        a label image of another tool.
    kind
        What a seed is said as: its outline ("mask"), its "box", or a click ("point"). The model
        answers the last two.
    trust
        "seeds": objects are found on every frame and joined, the model tells who is who where masks
        do not, and fills gaps. "model": found on the first frame and carried by the model, then
        again what it does not explain, to the end.
    diameter_px, diameter_um, dark
        See `Hints`; guessed where not given.
    patience
        Frames an object may be missed on and still be the same.
    least
        Frames it must be found on, unless the video begins or ends there; 2 along t, and along z a
        third of a diameter.
    category
        What all objects are called.
    rules
        Condition by category, e.g. ``{"large": "area_px > 500"}``: the first that holds for a track
        is its category.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: str = AUTO
    kind: Kind = "mask"
    trust: Trust = "seeds"
    diameter_px: float | None = Field(default=None, gt=0)
    diameter_um: float | None = Field(default=None, gt=0)
    dark: bool | None = None
    patience: int = Field(default=2, ge=0)
    least: int | None = Field(default=None, ge=1)
    category: str = ""
    rules: dict[str, str] = Field(default_factory=dict)

    def source(self, video: Video, model: VideoModel) -> PromptSource:
        """The source of seeds for a video.

        Raises PlanError for one that nobody knows, LabelsError for labels that do not fit.
        """
        labels, name = None, self.seeds
        if name != AUTO and name not in SOURCES and Path(name).exists():
            labels, name = open_labels_of(Path(name), video), "labels"
        elif name not in (AUTO, *SOURCES):
            raise PlanError(
                f"seeds {name!r}: expected {AUTO}, one of {', '.join(SOURCES)}, or a label image "
                "that exists"
            )
        hints = Hints(self.diameter_px, self.diameter_um, self.dark, self.kind, model, labels)
        return open_source(name, hints)

    def joining(self, source: PromptSource, video: Video) -> Joining:
        """How objects become tracks, by their size."""
        guess = getattr(source, "scale", lambda _: None)(video)
        diameter = guess.diameter_px if guess else 20.0
        thick = (
            diameter
            * (video.spacing.y_um or 1.0)
            / (video.spacing.z_um or video.spacing.y_um or 1.0)
        )
        least = self.least or (
            max(1, min(len(video) // 4, round(thick / 3))) if video.along == "z" else 2
        )
        return Joining(
            self.patience, least, reach_px=_REACH * diameter, divisions=video.along == "t"
        )


@dataclass(frozen=True, eq=False)
class Found:
    """What counting came to: the Run, with labels and tables, and its session, in which everything can be corrected."""

    run: Run
    notes: tuple[str, ...]

    @property
    def session(self) -> Session:
        """All prompts as if they had been clicked."""
        return self.run.session


def count_video(
    video: Video,
    model: VideoModel,
    counting: Counting | None = None,
    *,
    settings: Settings | None = None,
    stage: Callable[[str], None] = log.info,
) -> Found:
    """Find, join and carry every object of a video.

    The caller closes the session (``found.session.close()``).
    """
    counting = counting or Counting()
    session = counted_session(video, model, settings or Settings(patience=8))
    source = counting.source(video, model)
    run = found_in(session, counting, source, stage)
    return finish(run, counting, source)


def counted_session(video: Video, model: VideoModel, settings: Settings) -> Session:
    """An empty session whose policy suits objects that are prompted on every frame."""
    policy = Sam2Policy(
        recent=model.card.memory_slots - 1, pointers=model.card.pointers, conditioning=_CONDITIONING
    )
    return Session(video, model, policy=policy, settings=settings)


def found_in(
    session: Session, counting: Counting, source: PromptSource, stage: Callable[[str], None]
) -> Run:
    """Say every object to an empty session: the Run, not begun, over the frames that objects were missed on.

    Raises LabelsError before the work begins for rules on a feature that nothing has.
    """
    _rules(counting, session.video)
    joining = counting.joining(source, session.video)
    if counting.trust == "model":
        explain(session, source, stage, least=joining.least)
        return session.run(Propagation(()))
    return session.run(
        tell(session, find_tracks(session, source, joining, stage), category=counting.category)
    )


def finish(
    run: Run, counting: Counting, source: PromptSource, progress: Progress | None = None
) -> Found:
    """Carry such a Run out, and give its tracks the categories that rules ask for."""
    run.finish(progress)
    if counting.rules:
        _categorise(run, _rules(counting, run.session.video))
    video = run.session.video
    return Found(run, notes_of(source, video, counting, counting.joining(source, video)))


def _rules(counting: Counting, video: Video) -> list[Rule]:
    """The rules, each tried on an empty table: raises LabelsError for a feature that nothing has."""
    nothing = features_of(table(object_columns(channel_count(video)), []))
    rules = [Rule.of(category, text) for category, text in counting.rules.items()]
    for rule in rules:
        rule.holds(nothing)
    return rules


def _categorise(run: Run, rules: list[Rule]) -> None:
    """Give each track the category its features ask for: in the log and in the tables, which are measured once."""
    categories = by_rules(run.objects, rules)
    run.session.describe(
        *(
            replace(run.session.log.track(track), category=category)
            for track, category in categories.items()
        )
    )
    objects, tracks = (categorised(rows, categories) for rows in (run.objects, run.tracks))
    run.tables = Tables(objects, tracks, counts(objects, len(run.session.video)))


def count(
    input: Any,
    *,
    out: str | Path | None = None,
    along: str | None = None,
    channel: int | None = None,
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
    model: str | VideoModel = "nano",
    device: str = "auto",
    attention: Attention = ATTENTION,
    precision: Precision = "float32",
    windows: Windows = "whole",
    also: Sequence[str] = (),
    stage: Callable[[str], None] = log.info,
    **options: Any,
) -> Found | Outcome:
    """Count every object of a stack nobody clicked in.

    Parameters
    ----------
    input
        A path, an array or a Stack.
    out
        Folder for labels, tables, picture, prompts, report and provenance; then an Outcome is
        returned, else `Found`.
    along, channel, at, contrast
        How the stack is walked; see `Stack.as_video`.
    model, device, attention, precision, windows
        A model or its name; where a named one runs, how it looks at tracks and what it computes in:
        see `models.load.load_model`.
    also
        What else is written to `out`: some of "ctc", "geff", "parquet", "h5ad"; see
        `exports.EXPORTS`. The report always is.
    options
        The fields of `Counting`.
    """
    counting = Counting.checked(options)
    check_counting(counting, also)
    stack = input if isinstance(input, Stack) else open_stack(input)
    video = video_of(stack, along=along, channel=channel, at=at, contrast=contrast)
    if out is not None:
        check_output(Path(out))
    stage(f"input: {stack.source or stack.name}: {video.description}")
    loaded = (
        loaded_model(model, device, attention=attention, precision=precision, windows=windows)
        if isinstance(model, str)
        else model
    )
    stage(f"model: {loaded.card.name} on {describe(loaded.device)}")
    if out is None:
        return count_video(video, loaded, counting, stage=stage)
    with alone(out):
        found = count_video(video, loaded, counting, stage=stage)
        with found.session:
            stage(f"writing: labels, tables and picture to {out}")
            return save_counted(
                found, Path(out), ["report", *also], settings=counting.model_dump(mode="json")
            )


def check_counting(counting: Counting, also: Sequence[str]) -> None:
    """Raise PlanError or OutputError for rules or exports that cannot be: before the work begins."""
    check_exports(also)
    for category, text in counting.rules.items():
        Rule.of(category, text)


def video_of(
    stack: Stack,
    *,
    along: str | None = None,
    channel: int | None = None,
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
) -> Video:
    """A Video, also of a stack that is the same everywhere: there it shows nothing, and nothing is counted."""
    given = None if contrast is None else Contrast(*contrast)
    try:
        return Video.of(stack, along=along, channel=channel, at=at, contrast=given)
    except IntensityError:
        video = Video.of(stack, along=along, channel=channel, at=at, contrast=Contrast(0.0, 1.0))
        value = float(video.raw(0).flat[0])
        if any(np.any(video.raw(frame) != value) for frame in range(len(video))):
            raise
        return Video.of(
            stack, along=along, channel=channel, at=at, contrast=Contrast(value, value + 1.0)
        )


def save_counted(
    found: Found,
    out: Path,
    also: Sequence[str] = ("report",),
    *,
    settings: Any,
    format: LabelFormat = "tiff",
) -> Outcome:
    """Write all results, `also` the exports that are named; `settings` go into the provenance.

    Raises OutputError where the folder cannot be written to.
    """
    check_output(out)
    export(Results.of(found.run, found.notes), out, also)
    save(found.run, out, format=format, notes=found.notes, settings=settings)
    tracks, frames = len(found.run.tracks), len(found.session.video)
    divisions = found.run.tracks["parent"].dropna().nunique()
    divided = f", {divisions} of them divided" if divisions else ""
    where = f"on {frames} frames" if frames > 1 else "on one frame"
    return Outcome(
        out,
        RunState.DONE,
        f"{tracks} object{'' if tracks == 1 else 's'} {where}{divided}",
        found.notes,
    )


def notes_of(
    source: PromptSource, video: Video, counting: Counting, joining: Joining
) -> tuple[str, ...]:
    """Decisions that were taken for the user."""
    notes = [f"seeds from {source.name}" + (" (auto)" if counting.seeds == AUTO else "")]
    guess = getattr(source, "scale", lambda _: None)(video)
    if hasattr(source, "scale") and counting.diameter_px is None and counting.diameter_um is None:
        notes.append(
            f"diameter of {guess.diameter_px:.1f} px guessed"
            if guess
            else "no objects to guess a size from"
        )
    if guess and counting.dark is None:
        notes.append(
            f"objects taken for {'darker' if guess.dark else 'brighter'} than the background"
        )
    if video.spacing.pixel_um2 is None:
        notes.append("no spacing known: sizes are in pixels, columns in µm are empty")
    if video.along == "z" and video.spacing.z_um is None:
        notes.append(
            "no z spacing known: slices are taken to be a pixel apart, volumes in µm³ are empty"
        )
    return (
        *notes,
        (
            f"objects on fewer than {joining.least} frames dropped, unless the stack begins or ends "
            "there"
        ),
    )
