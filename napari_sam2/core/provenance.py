"""Provenance: the input, model, settings and automatic choices behind a result."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_sam2.core.card import ModelCard
from napari_sam2.core.stack import Video

_PACKAGES = ("napari-sam2", "numpy", "scikit-image", "torch", "transformers")


def collect_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Provenance:
    """The input, model and settings of a result, enough to reproduce it.

    It is written as ``provenance.json``. `notes` are choices made for the user (a channel, a
    device), one phrase each.
    """

    input: dict[str, Any]
    model: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: dict[str, str] = field(default_factory=collect_versions)

    @classmethod
    def of(
        cls, video: Video, card: ModelCard, *, notes: tuple[str, ...] = (), **settings: Any
    ) -> Provenance:
        """The provenance of results of a model on a video."""
        return cls(_describe_input(video), card.to_dict(), settings, notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def _describe_input(video: Video) -> dict[str, Any]:
    stack = video.stack
    return {
        "source": stack.source,
        "name": stack.name,
        "identity": stack.identity,
        "axes": stack.axes,
        "shape": list(stack.sizes.values()),
        "dtype": str(stack.data.dtype),
        "spacing": asdict(stack.spacing),
        "along": video.along,
        "channel": video.channel,
        "at": dict(video.at),
        "contrast": asdict(video.contrast),
    }
