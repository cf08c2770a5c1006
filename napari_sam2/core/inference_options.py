"""InferenceOptions: the device a model runs on, and how it looks at frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

from napari_sam2.core.errors import ModelError

Attention = Literal["auto", "global", "local"]
Precision = Literal["float32", "bfloat16", "float16"]
Windows = Literal["whole", "tiles"]

EVIDENCE_PARTS = ("click", "presence", "mask", "review")
"""What detections are evidence for.

click
    The detected instance under a click, or in a box, may be the answer.
presence
    A propagated mask under which the detector sees nothing is absent.
mask
    The detected instance that agrees with memory may replace a propagated mask.
review
    "Detected, not tracked" and "tracked, not detected" are flagged.
"""

DEFAULT_ATTENTION: Attention = "auto"
"""The attention if none is given.

On no accuracy set did "auto" change an IoU by more than 0.003 (docs/benchmarks.md).
"""

_OLD_ATTENTION_NAMES = {"whole": "global", "near": "local"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferenceOptions:
    """The device a model runs on, how it looks at frames, and what it computes in.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    attention
        "global": the model reads the whole frame for each propagated track, as SAM 2 does.
        "local": it reads the part of the frame around the track, which is many times cheaper if
        objects are small, and nearly the same. "auto": local for those tracks whose masks are the
        same on the first frame after a prompt, else global. The old names "whole" and "near" are
        still read.
    precision
        "float32", "bfloat16" or "float16". The model's output is float32 always.
    windows
        "whole": each frame is one input. "tiles": objects that are too small in the whole frame
        are read from a tile that shows them larger.

    Raises
    ------
    ModelError
        An attention, precision or windows that does not exist.

    Examples
    --------
    >>> InferenceOptions(attention="local").override(device="cpu", precision=None)
    InferenceOptions(device='cpu', attention='local', precision='float32', windows='whole')
    """

    device: str = "auto"
    attention: Attention = DEFAULT_ATTENTION
    precision: Precision = "float32"
    windows: Windows = "whole"

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", rename_attention(self.attention, warn=True))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ModelError(f"{name} {getattr(self, name)!r}: expected one of {choices!r}")

    def override(
        self,
        *,
        device: str | None = None,
        attention: Attention | None = None,
        precision: Precision | None = None,
        windows: Windows | None = None,
    ) -> InferenceOptions:
        """These options with the given values in place; None keeps a value."""
        given = {
            "device": device,
            "attention": attention,
            "precision": precision,
            "windows": windows,
        }
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        return replace(self, **changes)


def parse_evidence(value: str) -> tuple[str, ...]:
    """The parts of `EVIDENCE_PARTS` in "all", "none" or names with commas: "click,presence".

    Raises ModelError for any other name.

    >>> parse_evidence("mask, click")
    ('click', 'mask')
    """
    names = [name.strip() for name in value.split(",") if name.strip()]
    if names in (["all"], ["none"]):
        return EVIDENCE_PARTS if names == ["all"] else ()
    if not names or set(names) - set(EVIDENCE_PARTS):
        raise ModelError(
            f"evidence {value!r}: expected 'all', 'none', or some of "
            f"{', '.join(EVIDENCE_PARTS)} with commas"
        )
    return tuple(part for part in EVIDENCE_PARTS if part in names)


def check_evidence(value: str) -> str:
    """The same value; raises ModelError if `parse_evidence` does."""
    parse_evidence(value)
    return value


_CHOICES: dict[str, tuple[str, ...]] = {
    "attention": get_args(Attention),
    "precision": get_args(Precision),
    "windows": get_args(Windows),
}


def rename_attention(value: Any, *, warn: bool = False) -> Any:
    """The current name of an attention; anything but the old names "whole" and "near" stays.

    `warn` logs one warning for each old name: for the Python API and the command line. Files are
    read without one.
    """
    new = _OLD_ATTENTION_NAMES.get(value) if isinstance(value, str) else None
    if new is None:
        return value
    if warn:
        warn_old_attention(value, new)
    return new


@cache
def warn_old_attention(old: str, new: str) -> None:
    """Log that an old name was read, once for each name."""
    log.warning(
        "attention %r is now called %r: the old name will not be read in the next release", old, new
    )
