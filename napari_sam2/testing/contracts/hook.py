"""HookContract: what every training hook must do, whatever it is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

if TYPE_CHECKING:  # `testing` lies below `train`: subclasses bring the training along
    from napari_sam2.core.card import ModelCard
    from napari_sam2.train.hooks import Hook

EVENTS = ("on_start", "on_clip", "on_step", "on_validate", "on_end")


class HookContract:
    """Tests of a hook; inherit, and override `make_hook` and `train`.

    ::

        from napari_sam2.train.smoke import trial

        class TestMyHook(HookContract):
            def make_hook(self):
                return MyHook()

            def train(self, folder, hooks):
                return trial(folder, hooks)
    """

    changes_training = False
    """Whether it is meant to change what is learned (a schedule, an augmentation), and not to look on only."""

    def make_hook(self) -> Hook:
        """A new hook."""
        raise NotImplementedError("override make_hook")

    def train(self, folder: Path, hooks: Sequence[Hook]) -> ModelCard:
        """Train a few steps in `folder` with these hooks: `napari_sam2.train.smoke.trial`."""
        raise NotImplementedError("override train")

    def test_it_has_a_method_for_every_event(self) -> None:
        hook = self.make_hook()
        for occasion in EVENTS:
            assert callable(getattr(hook, occasion, None)), (
                f"{occasion} is missing: inherit from napari_sam2.train.hooks.Quiet"
            )

    def test_training_with_it_ends(self, tmp_path: Path) -> None:
        watched = _RecordingHook(self.make_hook())
        card = self.train(tmp_path, [watched])
        assert (tmp_path / f"{card.name}.safetensors").is_file()
        assert watched.events[0] == "on_start" and watched.events[-1] == "on_end", (
            f"it was asked in this order: {watched.events}"
        )

    def test_clips_keep_their_shape_and_range(self, tmp_path: Path) -> None:
        watched = _RecordingHook(self.make_hook())
        self.train(tmp_path, [watched])
        assert watched.clips, "no clip was shown to it"
        for given, returned in watched.clips:
            assert returned is not None, "on_clip returned nothing: it must return the clip"
            assert returned.frames.shape == given.frames.shape, (
                f"frames of {given.frames.shape!r} became {returned.frames.shape!r}"
            )
            assert (
                returned.frames.dtype == np.float32
                and returned.frames.min() >= 0
                and returned.frames.max() <= 1
            ), "frames are float32 in 0..1"
            assert (
                returned.labels.shape == given.labels.shape
                and returned.labels.dtype == given.labels.dtype
            ), "labels stay int32, of one shape"

    def test_what_is_learned_is_the_same_without_it(self, tmp_path: Path) -> None:
        with_it, without = (
            self.train(tmp_path / "with", [self.make_hook()]),
            self.train(tmp_path / "without", []),
        )
        if not self.changes_training:
            assert with_it.training["best"] == without.training["best"], (
                "it looks on only, but training ended otherwise: does it draw random numbers?"
            )
            ours, theirs = (
                load_file(tmp_path / "with" / f"{with_it.name}.safetensors"),
                load_file(tmp_path / "without" / f"{without.name}.safetensors"),
            )
            assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), (
                "it looks on only, but the weights differ"
            )

    def test_finished_training_can_be_resumed(self, tmp_path: Path) -> None:
        first = self.train(tmp_path, [self.make_hook()])
        again = self.train(tmp_path, [self.make_hook()])
        assert again.training["best"] == first.training["best"], (
            "asked again, a training that was done came to another end"
        )


class _RecordingHook:
    """Passes all on to a hook, and notes what was asked and what came back."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.events: list[str] = []
        self.clips: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name not in EVENTS:
            raise AttributeError(name)

        def asked(*given: Any) -> Any:
            self.events.append(name)
            answer = getattr(self._hook, name)(*given)
            if name == "on_clip":
                self.clips.append((given[1], answer))
            else:
                assert answer is None, f"{name} returned {answer!r}: only on_clip returns something"
            return answer

        return asked
