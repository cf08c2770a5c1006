"""SessionDriver: prompts and propagates in a session step by step, and can be cancelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.track import Track
from napari_sam2.propagation.session import Run, Session
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage


class SessionDriver:
    """What the tracking pipeline does with a session.

    Parameters
    ----------
    session
        The session.
    on_action
        Called after each action that a person can undo, with the log from before it. If it is
        given, an action that is stopped half way leaves the session as it was; else what was done
        stays, so that it can be resumed.
    """

    def __init__(
        self, session: Session, on_action: Callable[[PromptLog], None] | None = None
    ) -> None:
        self.session = session
        self.cancelled = False
        self.run: Run | None = None
        self._on_action = on_action

    def cancel(self) -> None:
        """Stop after the current frame of a propagation."""
        self.cancelled = True
        if self.run is not None:
            self.run.cancel()

    def add_tracks(
        self,
        prompts: Iterable[Prompt],
        describe: Callable[[], Iterable[Track]],
        plan: Propagation,
        message: str,
    ) -> Iterator[TrackingProgress]:
        """Prompt, describe the tracks and propagate them; one action."""
        before = self.session.log
        try:
            yield from self._prompt(prompts, message)
            self.session.describe(*describe())
        except BaseException:  # a generator that is closed raises GeneratorExit
            if self._on_action is not None:
                self.session.resume(before)
                self.session.replay(before)
            raise
        self.finish_action(before)
        yield from self.propagate(plan)

    def finish_action(self, before: PromptLog) -> None:
        """Report an action; `before` is the log from before it."""
        if self._on_action is not None:
            self._on_action(before)

    def propagate(self, plan: Propagation | None) -> Iterator[TrackingProgress]:
        """Carry out a plan; None: what an interrupted propagation has left."""
        if plan is not None and not plan.ranges:
            return
        self.run = self.session.run(plan)
        try:
            for step in self.run:
                yield TrackingProgress(
                    TrackingStage.PROPAGATE,
                    step.position,
                    step.total,
                    changed_frames=(step.step.frame,) if step.segments else (),
                    step=step,
                )
        finally:
            self.run = None

    def resume(self, log: PromptLog) -> Iterator[TrackingProgress]:
        """Bring the session to `log`: keep the answers in its folder, and do the rest."""
        self.session.resume(self.session.find_resumable_log(log))
        if self.session.unfinished:
            yield from self.propagate(None)
        pending: list[Prompt] = []
        for entry in log.entries[len(self.session.log) :]:
            if isinstance(entry, Prompt):
                pending.append(entry)
                continue
            assert isinstance(entry, Propagation)  # a count neither locks nor removes
            yield from self._prompt(pending, "")
            pending = []
            yield from self.propagate(entry)
        yield from self._prompt(pending, "")
        self.session.describe(*log.tracks)

    def _prompt(self, prompts: Iterable[Prompt], message: str) -> Iterator[TrackingProgress]:
        """Prompt frame by frame, so that each is in the session's folder before the next."""
        by_frame = group_by_frame(prompts)
        for done, frame in enumerate(by_frame, start=1):
            self.session.prompt_many(by_frame[frame])
            yield TrackingProgress(
                TrackingStage.PROMPT,
                done,
                len(by_frame),
                f"Frame {frame}: {message}" if message else f"Frame {frame}",
                changed_frames=(frame,),
            )


def group_by_frame(prompts: Iterable[Prompt]) -> dict[int, list[Prompt]]:
    """Prompts by frame, in the order in which a session logs them."""
    by_frame: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_frame[prompt.frame].append(prompt)
    return dict(by_frame)
