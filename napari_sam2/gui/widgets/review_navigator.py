"""ReviewNavigator: goes through the frames that a person should check."""

from __future__ import annotations

from collections.abc import Callable

from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.propagation.review import Review, ReviewFlag


class ReviewNavigator:
    """The review of each session, and the flag that is shown.

    Parameters
    ----------
    controller
        Reviews the open session, and selects the object of a flag.
    go_to_frame
        Shows a frame.
    notify
        Tells the person something, in one sentence.
    on_reviewed
        Called with a session and its new review.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        go_to_frame: Callable[[int], None],
        notify: Callable[[str], None],
        on_reviewed: Callable[[SessionKey, Review], None],
    ) -> None:
        self._controller = controller
        self._go_to_frame = go_to_frame
        self._notify = notify
        self._on_reviewed = on_reviewed
        self._reviews: dict[SessionKey, Review] = {}
        self._current_flag: ReviewFlag | None = None

    def forget_review(self, key: SessionKey) -> None:
        """A session changed: review it again."""
        self._reviews.pop(key, None)

    def leave_flag(self) -> None:
        """Another session is open."""
        self._current_flag = None

    def go_to_next(self, step: int = 1) -> None:
        """Go to the next flag; with -1 to the one before. Reviews the session if it changed."""
        key = self._controller.key
        if key is None:
            return
        if key in self._reviews:
            self._go_to_flag(self._reviews[key], step)
            return
        self._current_flag = None

        def show(review: Review) -> None:
            self._reviews[key] = review
            self._on_reviewed(key, review)
            self._go_to_flag(review, step)

        self._controller.query(
            lambda worker: worker.review(), show, message="Looking for frames to check…"
        )

    def _go_to_flag(self, review: Review, step: int) -> None:
        if not len(review):
            self._notify("No frame looks wrong. Still, check the first and the last frames.")
            return
        flag = self._find_flag(review, step)
        self._current_flag = flag
        if flag is None:
            self._notify(f"That was the last of {len(review)} frames to check.")
            return
        self._go_to_frame(flag.frame)
        self._controller.select(flag.track)
        number = list(review).index(flag) + 1
        detail = f" ({flag.detail})" if flag.detail else ""
        self._controller.show_message(
            f"{number} of {len(review)}: object {flag.track}, frame {flag.frame}, "
            f"{flag.reason}{detail}"
        )

    def _find_flag(self, review: Review, step: int) -> ReviewFlag | None:
        if self._current_flag is None:
            return review[0 if step > 0 else -1]
        find = review.find_next if step > 0 else review.find_previous
        return find(self._controller.frame, self._current_flag)
