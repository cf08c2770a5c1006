"""TrackingPipeline: detect, link, prompt, propagate, finalise.

The command line, batch, napari and notebooks all drive this one generator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from napari_sam2.core.prompt import MaskPrompt, PromptLog
from napari_sam2.core.protocols import (
    Detector,
    ExplainingDetector,
    SteppedDetector,
    VolumeDetector,
)
from napari_sam2.detection.prompts import make_label_prompts
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.association import Association
from napari_sam2.tracking.linker import LinkingOptions
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.saved_work import SavedWork
from napari_sam2.tracking.seeds import EditedSeed, Seed, SeedSelection
from napari_sam2.tracking.session_driver import SessionDriver

_R = TypeVar("_R")
_Steps = Generator[TrackingProgress, None, _R]

# share of an object's pixels on known tracks: above it, the object is such a track
_MIN_KNOWN_FRACTION = 0.5


class TrackingPipeline:
    """Counts objects: from detections on single frames to tracks in a session.

    `run` does everything. napari runs `detect`, lets a person edit the seeds, and then runs
    `track`. Both are generators: the caller shows progress between the steps, and stops by closing
    them. To stop a propagation after the current frame, call `cancel` and let the generator end.

    Parameters
    ----------
    session
        Session that gets the tracks. What it knows already is not changed.
    detector
        Finds the objects.
    association
        How detections become tracks.
    linking
        How objects of single frames become tracks.
    category
        Category of all new tracks.
    saved
        Where unfinished work is saved, so that it can be resumed; the session must keep its
        segments in the same folder. None: nowhere.
    on_action
        See `SessionDriver`.
    """

    def __init__(
        self,
        session: Session,
        detector: Detector,
        *,
        association: Association,
        linking: LinkingOptions | None = None,
        category: str = "",
        saved: SavedWork | None = None,
        on_action: Callable[[PromptLog], None] | None = None,
    ) -> None:
        self.session = session
        self.detector = detector
        self.association = association
        self.linking = linking or LinkingOptions()
        self.category = category
        self.saved = saved
        self.driver = SessionDriver(session, on_action)
        self.first_track = 1
        self.seeds: dict[int, Seed] = {}
        self.has_volume_labels = False
        self._detect_plane: Callable[[int], np.ndarray] | None = None
        # pixels by known track, by label of the volume's object
        self._known_pixels: dict[int, Counter[int]] = {}

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames that `detect` looks at."""
        return self.association.choose_frames(
            len(self.session.video), volume=self.has_volume_labels
        )

    def run(self) -> Iterator[TrackingProgress]:
        """Count everything; go on where saved work stopped."""
        planned = self.saved.load_planned() if self.saved is not None else PromptLog()
        if len(planned):
            yield from self.driver.resume(planned)
            return
        yield from self.detect()
        yield from self.track()

    def cancel(self) -> None:
        """Stop after the current frame of a propagation."""
        self.driver.cancel()

    def detect(self) -> Iterator[TrackingProgress]:
        """Detect seeds frame by frame; objects that the session knows are left out."""
        self.has_volume_labels = yield from self._check_volume()
        for done, frame in enumerate(self.frames, start=1):
            seeds = yield from self._load_or_detect(frame, done - 1)
            self.seeds.update((seed.number, seed) for seed in seeds)
            yield TrackingProgress(
                TrackingStage.DETECT,
                done,
                len(self.frames),
                f"Frame {frame}: {len(seeds)} detected, {len(self.seeds)} in all",
                seeds=seeds,
                doubt=self._get_doubt() if done == len(self.frames) else "",
            )

    def track(
        self,
        edited_seeds: Iterable[EditedSeed] | None = None,
        *,
        first_track: int = 1,
    ) -> Iterator[TrackingProgress]:
        """Make tracks of the seeds.

        Parameters
        ----------
        edited_seeds
            Seeds as a person left them; None: all, as they were detected.
        first_track
            Number of the first new track.
        """
        self.first_track = first_track
        self.driver.cancelled = False
        shape = self.session.video.shape[1:]
        selection = (
            SeedSelection.of_all(self.seeds.values())
            if edited_seeds is None
            else SeedSelection.of_edited(self.seeds, edited_seeds, shape)
        )
        yield from self.association.track(self, selection)

    def _get_doubt(self) -> str:
        if not isinstance(self.detector, ExplainingDetector):
            return ""
        return self.detector.get_doubt(self.session.video)

    def find_known_objects(self) -> dict[int, int]:
        """Tracks that the session knows, by label of the volume's object they are."""
        return {label: pixels.most_common(1)[0][0] for label, pixels in self._known_pixels.items()}

    def _check_volume(self) -> _Steps[bool]:
        """Whether the detector knows which detections are of one object."""
        if not self.association.uses_volumes:
            return False
        first = self.saved.load_frame(0) if self.saved is not None else None
        if first is not None:
            return first.volume
        self._detect_plane = yield from self._detect_volume()
        return self._detect_plane is not None

    def _detect_volume(self) -> _Steps[Callable[[int], np.ndarray] | None]:
        if isinstance(self.detector, SteppedDetector):
            steps = self.detector.detect_volume_in_steps(self.session.video)
            return (yield from self._report_steps(steps, "Volume", 0))
        if not isinstance(self.detector, VolumeDetector):
            return None
        return self.detector.detect_volume(self.session.video)

    def _report_steps(
        self, steps: Generator[tuple[int, int], None, _R], name: str, finished_frames: int
    ) -> _Steps[_R]:
        """The result of a detector that takes many steps for one frame; each step is reported."""
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                result: _R = end.value
                return result
            if done < total:
                message = f"{name}: {done} of {total} parts looked at"
                count = len(self.session.video)
                yield TrackingProgress(TrackingStage.DETECT, finished_frames, count, message)

    def _load_or_detect(self, frame: int, finished_frames: int) -> _Steps[tuple[Seed, ...]]:
        saved = self.saved.load_frame(frame) if self.saved is not None else None
        if saved is not None:
            return saved.seeds
        if self.has_volume_labels:
            seeds = yield from self._detect_slice(frame)
        else:
            seeds = yield from self._detect_frame(frame, finished_frames)
        numbered = tuple(
            replace(seed, number=number) for number, seed in enumerate(seeds, len(self.seeds) + 1)
        )
        if self.saved is not None:
            self.saved.save_frame(frame, numbered, volume=self.has_volume_labels)
        return numbered

    def _detect_frame(self, frame: int, finished_frames: int) -> _Steps[list[Seed]]:
        occupied = self.session.compute_label_plane(frame) > 0
        if isinstance(self.detector, SteppedDetector):
            steps = self.detector.detect_in_steps(self.session.video, frame, occupied=occupied)
            prompts = yield from self._report_steps(steps, f"Frame {frame}", finished_frames)
        else:
            prompts = self.detector.detect(self.session.video, frame, occupied=occupied)
        return [Seed(0, prompt) for prompt in prompts]

    def _detect_slice(self, frame: int) -> _Steps[list[Seed]]:
        """Slices of the volume's objects on a frame, but for those of known tracks."""
        if self._detect_plane is None:  # resumed: the first frames are saved
            self._detect_plane = yield from self._detect_volume()
            assert self._detect_plane is not None
        plane, known = self._detect_plane(frame), self.session.compute_label_plane(frame)
        seeds = []
        labels = np.unique(plane[plane > 0]).tolist()
        prompts = make_label_prompts(plane, frame, "mask", 1, None)
        for label, prompt in zip(labels, prompts, strict=True):
            assert isinstance(prompt, MaskPrompt)
            y, x, y2, x2 = prompt.rectangle
            tracks = known[y:y2, x:x2][prompt.crop]
            if np.count_nonzero(tracks) > _MIN_KNOWN_FRACTION * tracks.size:
                pixels = self._known_pixels.setdefault(label, Counter())
                pixels.update(tracks[tracks > 0].tolist())
            else:
                seeds.append(Seed(0, prompt, label))
        return seeds
