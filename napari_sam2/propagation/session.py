"""Session: one video, one model, one prompt log. Run: a propagation of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.errors import ModelError, PlanError, PromptError
from napari_sam2.core.inference_options import parse_evidence
from napari_sam2.core.plan import Direction, Propagation
from napari_sam2.core.prompt import (
    Lock,
    Prompt,
    PromptLog,
    Removal,
    check_not_only_negative,
    fit_prompt,
)
from napari_sam2.core.protocols import MemoryPolicy, ObjectEvidence, VideoModel
from napari_sam2.core.provenance import Provenance
from napari_sam2.core.result import Segment
from napari_sam2.core.stack import Video
from napari_sam2.core.track import Presence, Track
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.propagation.evidence import EvidenceModel
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.overlaps import HiddenMask, choose_label_dtype, compose_frame
from napari_sam2.propagation.planning import is_finished, plan_propagation
from napari_sam2.propagation.prompting import group_prompts, segment_prompts
from napari_sam2.propagation.propagate import PropagationContext, PropagationStep, propagate
from napari_sam2.propagation.results import VIEWS, ResultTables, SessionResults
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.segment_store import SegmentRecord, SegmentStore

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd

EMBEDDINGS_FOLDER = "embeddings"
"""Folder of cached image features; it may be removed at any time."""

SEGMENT_STORE_FILE_NAME = "trail.sqlite"
"""The file of the `SegmentStore` in a session's folder."""


@dataclass(frozen=True)
class SessionSettings:
    """Limits of a session, and where it stores its results.

    Parameters
    ----------
    patience
        Frames in a row a track may be absent before its propagation ends; None: it continues to
        the end of the video.
    embedding_bytes
        Memory for image features.
    folder
        Folder that stores results, so that a killed session can be resumed; a temporary file if
        None.
    embedding_disk_bytes
        Disk for image features in `folder`, so that corrections in long stacks, or days later,
        encode no frame again. 0: none are stored.
    evidence
        What the detections given to the session are used for: "all", "none", or some of
        `core.inference_options.EVIDENCE_PARTS` with commas.
    """

    patience: int | None = 8
    embedding_bytes: int = DEFAULT_BYTES
    folder: Path | None = None
    embedding_disk_bytes: int = 0
    evidence: str = "all"

    @property
    def evidence_parts(self) -> tuple[str, ...]:
        """The parts of `evidence`; raises ModelError for an unknown one."""
        return parse_evidence(self.evidence)


class Session:
    """Prompts on one video, answered and propagated by one model.

    Results are read per frame (`compute_label_plane`, `get_segments`), so that nothing holds the
    whole stack.

    Parameters
    ----------
    video, model
        The video, and the model that segments it.
    policy
        The memory policy; SAM 2's own rule, sized by the model's card, if not given.
    settings
        See `SessionSettings`.
    on_log_change
        Called with each new log before anything is propagated, e.g. to save it.
    embedding_cache
        Image features of another session of the same video and model, which closes them.
    evidence
        Detections of the video, used as `settings.evidence` says; None: none are used.

    Raises
    ------
    PlanError
        Settings with `embedding_disk_bytes` but without a folder.

    Examples
    --------
    >>> from napari_sam2.testing.scenes import make_drifting_scene
    >>> from napari_sam2.testing.toy import ToyModel
    >>> scene = make_drifting_scene()
    >>> with Session(scene.video, ToyModel()) as session:
    ...     segment = session.prompt(scene.make_click(1))
    ...     run = session.propagate(progress=False)
    ...     run.tracks["track"].to_list()
    [1]
    """

    def __init__(
        self,
        video: Video,
        model: VideoModel,
        *,
        policy: MemoryPolicy | None = None,
        settings: SessionSettings | None = None,
        on_log_change: Callable[[PromptLog], None] | None = None,
        embedding_cache: EmbeddingCache | None = None,
        evidence: ObjectEvidence | None = None,
    ) -> None:
        self.video = video
        self.model = model
        self.settings = settings or SessionSettings()
        self.evidence = evidence if self.settings.evidence_parts else None
        self.policy = policy or Sam2Policy(
            recent=model.card.memory_slots - 1, pointers=model.card.pointers
        )
        folder = self.settings.folder
        if self.settings.embedding_disk_bytes and folder is None:
            raise PlanError("embedding_disk_bytes needs a folder: give SessionSettings(folder=…)")
        self._segment_store = SegmentStore(folder / SEGMENT_STORE_FILE_NAME if folder else None)
        self._shared_embeddings = embedding_cache
        self._create_context()
        self._log = PromptLog()
        self._hidden_masks: dict[int, tuple[HiddenMask, ...]] = {}
        self._on_log_change = on_log_change

    @property
    def log(self) -> PromptLog:
        """The prompts, locks, removals and propagations so far."""
        return self._log

    @property
    def unfinished(self) -> bool:
        """Whether the last log entry is a propagation that was cancelled or killed."""
        last = len(self.log) - 1
        return (
            last >= 0
            and isinstance(self.log.entries[last], Propagation)
            and not is_finished(self.log, self._segment_store, last)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release memory, threads and files; the files in a folder stay there."""
        if self._shared_embeddings is None:
            self._embedding_cache.close()
        self._segment_store.close()

    def open_scratch(self, policy: MemoryPolicy) -> Session:
        """An empty session on the same video and model, which shares the image features.

        Close it before this session.
        """
        return Session(self.video, self.model, policy=policy, embedding_cache=self._embedding_cache)

    def reconnect_model(self, model: VideoModel) -> None:
        """Continue with the same model loaded anew, e.g. after its remote worker died.

        Prompts and segments stay. Image features and memories are computed again when they are
        needed. `run` continues an interrupted propagation.

        Raises
        ------
        ModelError
            The model has other weights or inference options.
        """
        if model.card.inference_identity != self.model.card.inference_identity:
            raise ModelError(
                f"{model.card.name} has other weights or inference options than "
                f"{self.model.card.name}: expected the same"
            )
        self._embedding_cache.close()
        self.model = model
        self._create_context()

    def prompt(self, prompt: Prompt) -> Segment:
        """Segment one prompt: the mask of its track on its frame, and the alternatives.

        Raises
        ------
        PromptError
            The prompt lies outside the video; of a box, all of it. Or there are only negative
            points, and the track has no mask on the frame.
        """
        return self.prompt_many([prompt])[0]

    def prompt_many(self, prompts: Iterable[Prompt]) -> list[Segment]:
        """Segment many prompts, in order; those of one frame together, which is faster."""
        given = [fit_prompt(prompt, self.video.shape) for prompt in prompts]
        check_not_only_negative(self.log.add(*given), given, self._has_mask)
        return self._segment_prompts(given)

    def _segment_prompts(self, given: Sequence[Prompt]) -> list[Segment]:
        segments: dict[int, Segment] = {}
        for indices in group_prompts(given):
            group = [given[index] for index in indices]
            log, first_entry = self.log.add(*group), len(self.log)
            found = segment_prompts(self._context, log, group)
            self._segment_store.put_prompted(found, first_entry)
            self._set_log(log)
            segments.update(zip(indices, found, strict=True))
        return [segments[index] for index in range(len(given))]

    def describe(self, *tracks: Track) -> None:
        """Set the names, categories and parents of tracks."""
        self._set_log(self.log.describe(*tracks))

    def lock(self, track: int, frame: int, *, locked: bool = True) -> None:
        """Accept a track on a frame: propagation keeps it and conditions other frames on it."""
        segment = self._segment_store.get(track, frame)
        if segment is None:
            raise PromptError(
                "nothing to lock: the track has no mask on this frame; propagate it first",
                track=track,
                frame=frame,
            )
        presence = Presence.TRACKED if segment.present else Presence.ABSENT
        if frame in self.log.find_prompted_frames(track):
            presence = Presence.PROMPTED
        if locked:
            presence = Presence.LOCKED
        self._segment_store.put_prompted([replace(segment, presence=presence)], len(self.log))
        self._set_log(self.log.add(Lock(frame, track, locked)))

    def remove(self, track: int) -> None:
        """Remove a track from the results; `undo` restores it."""
        if track not in self.log.track_ids:
            raise PromptError(
                f"no such track: expected one of {list(self.log.track_ids)!r}", track=track
            )
        self._set_log(self.log.add(Removal(track)))

    def undo(self) -> bool:
        """Undo the last prompt, lock or removal and the propagations after it.

        Returns
        -------
        bool
            False if there was nothing to undo.
        """
        shorter = self.log.without_last()
        if len(shorter) == len(self.log):
            return False
        self._segment_store.delete_from(len(shorter))
        self._set_log(shorter)
        return True

    def replay(
        self,
        log: PromptLog,
        *,
        steps_done: Mapping[int, int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Execute the entries of a log that this session has not executed yet.

        Parameters
        ----------
        steps_done
            Steps done, by log entry, of propagations that were cancelled. They are cancelled
            after as many steps again, because later prompts depend on how far they came.

        Raises
        ------
        PromptError
            This session's log is not the beginning of `log`.
        """
        log = replace(
            log,
            entries=tuple(
                fit_prompt(entry, self.video.shape) if isinstance(entry, Prompt) else entry
                for entry in log.entries
            ),
        )
        if log.entries[: len(self.log)] != self.log.entries:
            raise PromptError(
                "this session holds other prompts: start a new one to replay that log"
            )
        if self.unfinished:
            self._replay_run(None, steps_done, progress)
        pending: list[Prompt] = []
        for entry in log.entries[len(self.log) :]:
            if isinstance(entry, Prompt):
                pending.append(entry)
                continue
            self._segment_prompts(pending)
            pending = []
            if isinstance(entry, Lock):
                self.lock(entry.track, entry.frame, locked=entry.locked)
            elif isinstance(entry, Removal):
                self.remove(entry.track)
            else:
                self._replay_run(entry, steps_done, progress)
        self._segment_prompts(pending)
        self._set_log(replace(self.log, tracks=log.tracks))

    def plan(
        self,
        *,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        tracks: Sequence[int] | None = None,
        from_first_prompt: bool = False,
    ) -> Propagation:
        """Plan what is to be propagated: new tracks and corrections.

        Parameters
        ----------
        direction
            "both", "forward" or "backward" from each prompt.
        frames
            First frame and the one after the last, as in a slice; the whole video if not given.
        tracks
            Ids of the tracks; all if not given.
        from_first_prompt
            Propagate all tracks from their first prompt, even if they were propagated before.

        Raises
        ------
        PlanError
            No object was prompted, or one of `tracks` was not.
        """
        return plan_propagation(
            self.log,
            self._segment_store,
            len(self.video),
            direction=direction,
            frames=frames,
            tracks=tracks,
            from_first_prompt=from_first_prompt,
        )

    def run(self, plan: Propagation | None = None) -> Run:
        """A `Run` that executes `plan` step by step.

        If no plan is given, it continues a propagation that was cancelled or killed, else it
        executes `self.plan()`.
        """
        if plan is None and self.unfinished:
            plan = cast(Propagation, self.log.entries[-1])
        else:
            plan = plan or self.plan()
            if plan.ranges:
                self._set_log(self.log.add(plan))
        steps = propagate(
            self._context, plan, entry=len(self.log) - 1, patience=self.settings.patience
        )
        return Run(self, plan, steps)

    def propagate(
        self,
        *,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        tracks: Sequence[int] | None = None,
        from_first_prompt: bool = False,
        progress: bool = True,
    ) -> Run:
        """Propagate new tracks and corrections, and wait for the end; see `plan` for parameters.

        Without parameters, a propagation that was cancelled continues where it stopped.
        `progress` shows a progress bar.
        """
        from tqdm.auto import tqdm  # only interactive use needs a progress bar

        default = direction == "both" and frames is None and tracks is None
        if default and not from_first_prompt:
            run = self.run()
        else:
            plan = self.plan(
                direction=direction,
                frames=frames,
                tracks=tracks,
                from_first_prompt=from_first_prompt,
            )
            run = self.run(plan)
        with tqdm(desc="propagate", unit="frame", disable=not progress) as bar:
            run.finish(lambda step: _advance_bar(bar, step))
        return run

    def resume(self, log: PromptLog) -> None:
        """Continue with a log whose segments are in this session's folder.

        Segments of entries beyond the log are deleted.
        """
        self._log = log
        self._segment_store.delete_from(len(log))

    def find_resumable_log(self, log: PromptLog) -> PromptLog:
        """The beginning of a log whose segments are in this session's folder.

        `resume` accepts it; `replay` executes the rest.
        """
        count = self._segment_store.count_entries()
        while 0 < count < len(log) and isinstance(log.entries[count], Propagation):
            count += 1  # it was cancelled before its first frame
        return replace(log, entries=log.entries[:count])

    def get_segments(self, frame: int) -> list[Segment]:
        """The segments of all tracks on a frame, ascending by track, without removed tracks."""
        removed = self.log.removed
        return [
            segment
            for segment in self._segment_store.get_frame(frame)
            if segment.track not in removed
        ]

    def compute_label_plane(self, frame: int) -> np.ndarray:
        """(H, W) labels of a frame, overlaps resolved, uint16 or uint32.

        Drawn masks keep exactly the pixels that were drawn.
        """
        dtype = choose_label_dtype(max(self.log.track_ids, default=0))
        composed = compose_frame(
            self.get_segments(frame),
            self.video.shape[1:],
            drawn_masks=self.log.get_drawn_masks(frame),
            dtype=dtype,
        )
        self._hidden_masks[frame] = composed.hidden
        return composed.labels

    @property
    def hidden_masks(self) -> dict[int, tuple[HiddenMask, ...]]:
        """Masks that lost pixels to other tracks, by frame, as far as labels were computed."""
        return {frame: found for frame, found in sorted(self._hidden_masks.items()) if found}

    def get_records(self) -> dict[tuple[int, int], SegmentRecord]:
        """Presence and score by (track, frame), without removed tracks."""
        removed = self.log.removed
        return {
            key: record
            for key, record in self._segment_store.get_records().items()
            if key[0] not in removed
        }

    def collect_results(self) -> SessionResults:
        """Labels and tables of everything propagated so far."""
        return SessionResults(self)

    def make_provenance(self, *, notes: tuple[str, ...] = ()) -> Provenance:
        """The input, model and settings that results of this session are made from."""
        evidence = describe_evidence(self.evidence, self.settings.evidence)
        return Provenance.of(
            self.video,
            self.model.card,
            notes=notes,
            device=self.model.device,
            policy=self.policy.name,
            patience=self.settings.patience,
            prompts=len(self.log.prompts),
            tracks=len(self.log.track_ids),
            **evidence,
        )

    def _repr_html_(self) -> str:
        return str(VIEWS.get("session html")(self))

    def _create_context(self) -> None:
        """A context with nothing cached yet of what the model computes."""
        folder, budget = self.settings.folder, self.settings.embedding_disk_bytes
        disk_cache = (
            EmbeddingDiskCache(folder / EMBEDDINGS_FOLDER, self.video, self.model.card, budget)
            if folder and budget
            else None
        )
        self._embedding_cache = self._shared_embeddings or EmbeddingCache(
            self.video, self.model, budget=self.settings.embedding_bytes, disk_cache=disk_cache
        )
        self._context = PropagationContext(
            self._add_evidence(self.model), self.policy, self._embedding_cache, self._segment_store
        )

    def _add_evidence(self, model: VideoModel) -> VideoModel:
        if self.evidence is None:
            return model
        parts, (_, *shape) = self.settings.evidence_parts, self.video.shape
        return EvidenceModel(model, self.evidence, parts, (shape[0], shape[1]))

    def _has_mask(self, track: int, frame: int) -> bool:
        segment = self._segment_store.get(track, frame)
        return segment is not None and segment.present

    def _set_log(self, log: PromptLog) -> None:
        self._log = log
        if self._on_log_change:
            self._on_log_change(log)

    def _replay_run(
        self,
        plan: Propagation | None,
        steps_done: Mapping[int, int] | None,
        progress: Progress | None,
    ) -> None:
        """Execute a propagation up to the step at which it was cancelled before."""
        run = self.run(plan)
        max_steps = (steps_done or {}).get(len(self.log) - 1)
        if max_steps == 0:
            return
        for step in run:
            if progress:
                progress(step)
            if max_steps is not None and step.position >= max_steps:
                run.cancel()


class Run:
    """A propagation being executed, and the results of its session.

    Iterate over it for its steps, or call `finish`. `cancel` may be called from any thread: the
    run stops before the next frame, and what is done stays. A cancelled run is not an error: its
    state is `RunState.CANCELLED`, and the next propagation continues from there.
    """

    def __init__(
        self, session: Session, plan: Propagation, steps: Iterator[PropagationStep]
    ) -> None:
        self.session = session
        self.plan = plan
        self.state = RunState.WAITING
        self.last_step: PropagationStep | None = None
        self._steps = steps
        self._cancelled = Event()

    def __iter__(self) -> Iterator[PropagationStep]:
        self.state = RunState.RUNNING
        while not self._cancelled.is_set():
            try:
                step = next(self._steps, None)
            except BaseException:
                self.state = RunState.FAILED
                raise
            if step is None:
                self.state = RunState.DONE
                return
            self.last_step = step
            yield step
        self.state = RunState.CANCELLED

    def cancel(self) -> None:
        """Stop before the next frame."""
        self._cancelled.set()

    def finish(self, progress: Progress | None = None) -> Run:
        """Execute all remaining steps; `progress` is called after each."""
        for step in self:
            if progress:
                progress(step)
        return self

    @cached_property
    def results(self) -> SessionResults:
        """Labels and tables, computed when they are first read."""
        return self.session.collect_results()

    @property
    def labels(self) -> da.Array:
        """(frames, H, W) labels, uint16 or uint32: a dask array that computes plane by plane."""
        return self.results.labels

    @property
    def tables(self) -> ResultTables:
        """All tables, computed together."""
        return self.results.tables

    @property
    def objects(self) -> pd.DataFrame:
        """One row per track and frame; see docs/tables.md."""
        return self.results.objects

    @property
    def tracks(self) -> pd.DataFrame:
        """One row per track; see docs/tables.md."""
        return self.results.tracks

    @property
    def counts(self) -> pd.DataFrame:
        """Objects per frame and category, and over all frames; see docs/tables.md."""
        return self.results.counts

    @property
    def provenance(self) -> Provenance:
        """The input, model and settings the results are made from."""
        return self.results.provenance

    def _repr_html_(self) -> str:
        return str(VIEWS.get("run html")(self))


def describe_evidence(evidence: ObjectEvidence | None, parts: str) -> dict[str, str]:
    """The detections and what they are used for, as results and unfinished runs record them.

    Empty without evidence, so that both are as they were before there was any.
    """
    used = parse_evidence(parts) if evidence else ()
    return {"evidence": f"{', '.join(used)}: {evidence.name}"} if evidence and used else {}


def _advance_bar(bar: Any, step: PropagationStep) -> None:
    bar.total = step.total
    bar.update(step.position - bar.n)
