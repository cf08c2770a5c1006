"""What training reports to its hooks: the training as hooks see it, a step and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train.clip_propagation import MemoryLimits, PropagationOptions
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.validation import Validation


@dataclass(frozen=True)
class TrainingEnvironment:
    """Where and how large a training runs.

    Parameters
    ----------
    size
        Side of the network's input in pixels.
    memory_limits
        Memories and object pointers that the network sees.
    device
        Device of torch.
    folder
        Folder of the training's own files: state, logs, pictures.
    """

    size: int
    memory_limits: MemoryLimits
    device: str
    folder: Path


@dataclass(frozen=True)
class TrainingStep:
    """A finished step of the optimizer.

    Parameters
    ----------
    number
        Number of the step, from 1.
    loss, parts
        The loss, and its parts by name.
    norm
        Norm of the gradient before it is clipped.
    seconds
        Duration of the step.
    """

    number: int
    loss: float
    parts: dict[str, float]
    norm: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """Why training ended, after how many steps, and the best validation."""

    reason: str
    steps: int
    best: Validation


class TrainingContext(Protocol):
    """A training as hooks see it: they read it, set its learning rate, and may stop it."""

    network: Sam2Network
    recipe: Recipe
    environment: TrainingEnvironment
    step: int
    history: list[Validation]
    learning_rate: float

    @property
    def clips(self) -> Sequence[Clip]:
        """The clips of each validation."""
        ...

    @property
    def best(self) -> Validation | None:
        """The best validation so far."""
        ...

    @property
    def fraction(self) -> float:
        """How much of the training is done, 0..1."""
        ...

    @property
    def propagation_options(self) -> PropagationOptions:
        """How a clip is propagated without corrections."""
        ...

    def stop(self, reason: str) -> None:
        """End training after the current step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The whole state of the training, for an exact resume."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        ...
