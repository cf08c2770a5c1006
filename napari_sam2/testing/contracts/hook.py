"""The contract of training hooks, as tests to inherit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from napari_sam2.core.card import ModelCard

EVENTS = ("on_start", "on_clip", "on_step", "on_validate", "on_end")

TrainingHook = Any
"""A `napari_sam2.train.hooks.Hook`. `testing` lies below `train`, and cannot import it."""


class HookContract:
    """Tests of a hook: inherit, and override `make_hook` and `train`.

    ::

        from napari_sam2.train.smoke import run_smoke_training

        class TestMyHook(HookContract):
            def make_hook(self):
                return MyHook()

            def train(self, folder, hooks):
                return run_smoke_training(folder, hooks)
    """

    changes_training = False
    """Whether the hook is meant to change the weights, as a schedule or an augmentation does."""

    def make_hook(self) -> TrainingHook:
        """Return a new hook."""
        raise NotImplementedError("override make_hook")

    def train(self, folder: Path, hooks: Sequence[TrainingHook]) -> ModelCard:
        """Train a few steps in `folder`: return `napari_sam2.train.smoke.run_smoke_training`."""
        raise NotImplementedError("override train")

    def test_it_has_a_method_for_every_event(self) -> None:
        hook = self.make_hook()
        for event in EVENTS:
            assert callable(getattr(hook, event, None)), (
                f"{event} is missing: inherit from napari_sam2.train.hooks.BaseHook"
            )

    def test_training_with_it_ends(self, tmp_path: Path) -> None:
        recorded = _RecordingHook(self.make_hook())
        card = self.train(tmp_path, [recorded])
        assert (tmp_path / f"{card.name}.safetensors").is_file()
        assert recorded.events[0] == "on_start" and recorded.events[-1] == "on_end", (
            f"its methods were called in this order: {recorded.events}"
        )

    def test_clips_keep_their_shape_and_range(self, tmp_path: Path) -> None:
        recorded = _RecordingHook(self.make_hook())
        self.train(tmp_path, [recorded])
        assert recorded.clips, "on_clip was never called"
        for given, returned in recorded.clips:
            assert returned is not None, "on_clip returned nothing: it must return the clip"
            assert returned.frames.shape == given.frames.shape, (
                f"frames of {given.frames.shape!r} became {returned.frames.shape!r}"
            )
            assert (
                returned.frames.dtype == np.float32
                and returned.frames.min() >= 0
                and returned.frames.max() <= 1
            ), "frames must be float32 in 0..1"
            assert (
                returned.labels.shape == given.labels.shape
                and returned.labels.dtype == given.labels.dtype
            ), "labels must keep their shape and type"

    def test_what_is_learned_is_the_same_without_it(self, tmp_path: Path) -> None:
        with_hook = self.train(tmp_path / "with", [self.make_hook()])
        without_hook = self.train(tmp_path / "without", [])
        if not self.changes_training:
            assert with_hook.training["best"] == without_hook.training["best"], (
                "the hook changed the training, although changes_training is False: does it draw "
                "random numbers?"
            )
            ours = load_file(tmp_path / "with" / f"{with_hook.name}.safetensors")
            theirs = load_file(tmp_path / "without" / f"{without_hook.name}.safetensors")
            assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), (
                "the hook changed the weights, although changes_training is False"
            )

    def test_finished_training_can_be_resumed(self, tmp_path: Path) -> None:
        first = self.train(tmp_path, [self.make_hook()])
        resumed = self.train(tmp_path, [self.make_hook()])
        assert resumed.training["best"] == first.training["best"], (
            "a training that was complete gave another result when it was started again"
        )


class _RecordingHook:
    """Passes all calls to a hook, and records them with the clips it returned."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.events: list[str] = []
        self.clips: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name not in EVENTS:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.events.append(name)
            result = getattr(self._hook, name)(*arguments)
            if name == "on_clip":
                self.clips.append((arguments[1], result))
            else:
                assert result is None, f"{name} returned {result!r}: only on_clip returns something"
            return result

        return call
