"""A whole PromptLog as JSON, version 1 of the format."""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import AliasChoices, Field, NonNegativeInt, PositiveInt, ValidationError

from napari_sam2.core.errors import PromptError
from napari_sam2.core.files.strict_model import StrictModel, format_validation_error
from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import (
    BoxPrompt,
    Entry,
    Lock,
    MaskPrompt,
    PointPrompt,
    PromptLog,
    Removal,
)
from napari_sam2.core.track import Track


class _PromptModel(StrictModel, strict=True):
    """Base of all models: no conversion between types."""


class _FrameEntry(_PromptModel):
    frame: NonNegativeInt
    track: PositiveInt


class _PointEntry(_FrameEntry):
    kind: Literal["point"] = "point"
    yx: tuple[tuple[float, float], ...]
    positive: tuple[bool, ...]
    replaces_previous: bool = Field(
        default=False,
        validation_alias=AliasChoices("replaces_previous", "anew"),
        serialization_alias="anew",
    )

    def to_entry(self) -> Entry:
        return PointPrompt(
            self.frame, self.track, self.yx, self.positive, replaces_previous=self.replaces_previous
        )


class _BoxEntry(_FrameEntry):
    kind: Literal["box"] = "box"
    box: tuple[float, float, float, float]

    def to_entry(self) -> Entry:
        return BoxPrompt(self.frame, self.track, self.box)


class _MaskEntry(_FrameEntry):
    """A mask; `bits` are its rows, eight pixels a byte, highest bit first, as zlib in base64."""

    kind: Literal["mask"] = "mask"
    shape: tuple[PositiveInt, PositiveInt]
    bits: str

    def to_entry(self) -> Entry:
        return MaskPrompt(self.frame, self.track, _unpack_mask(self.bits, self.shape))


class _LockEntry(_FrameEntry):
    kind: Literal["lock"] = "lock"
    locked: bool

    def to_entry(self) -> Entry:
        return Lock(self.frame, self.track, self.locked)


class _RemovalEntry(_PromptModel):
    kind: Literal["removal"] = "removal"
    track: PositiveInt

    def to_entry(self) -> Entry:
        return Removal(self.track)


class _RangeModel(_PromptModel):
    track: PositiveInt
    start: NonNegativeInt
    end: NonNegativeInt
    stop_when_unchanged: bool = Field(
        validation_alias=AliasChoices("stop_when_unchanged", "settles"),
        serialization_alias="settles",
    )


class _PropagationEntry(_PromptModel):
    kind: Literal["propagation"] = "propagation"
    ranges: tuple[_RangeModel, ...] = Field(
        validation_alias=AliasChoices("ranges", "legs"), serialization_alias="legs"
    )

    def to_entry(self) -> Entry:
        return Propagation(
            tuple(
                PropagationRange(each.track, each.start, each.end, each.stop_when_unchanged)
                for each in self.ranges
            )
        )


class _TrackModel(_PromptModel):
    id: PositiveInt
    name: str = ""
    category: str = ""
    parent: PositiveInt | None = None


_AnyEntry = Annotated[
    _PointEntry | _BoxEntry | _MaskEntry | _LockEntry | _RemovalEntry | _PropagationEntry,
    Field(discriminator="kind"),
]


class _LogModel(_PromptModel):
    format: Literal["napari-sam2 prompts"] = "napari-sam2 prompts"
    version: Literal[1] = 1
    entries: tuple[_AnyEntry, ...]
    tracks: tuple[_TrackModel, ...] = ()


def format_json_log(log: PromptLog) -> str:
    """The log as JSON; numbers are as short as possible without loss."""
    tracks = tuple(
        _TrackModel(id=track.id, name=track.name, category=track.category, parent=track.parent)
        for track in log.tracks
    )
    model = _LogModel(entries=tuple(_make_entry_model(entry) for entry in log), tracks=tracks)
    return model.model_dump_json(indent=1) + "\n"


def parse_json_log(text: str, source: str) -> PromptLog:
    """Parse the log of a JSON text; raises PromptError, which names `source` and the entry."""
    try:
        model = _LogModel.model_validate_json(text)
    except ValidationError as error:
        raise PromptError(f"{source}: {format_validation_error(error)}") from error
    entries = []
    for number, entry in enumerate(model.entries):
        try:
            entries.append(entry.to_entry())
        except PromptError as error:
            raise PromptError(f"{source}: entries.{number}: {error}") from error
    return PromptLog(tuple(entries), tuple(_make_track(track, source) for track in model.tracks))


def _make_track(model: _TrackModel, source: str) -> Track:
    try:
        return Track(model.id, model.name, model.category, model.parent)
    except PromptError as error:
        raise PromptError(f"{source}: tracks: {error}") from error


def _make_entry_model(entry: Entry) -> _AnyEntry:
    match entry:
        case PointPrompt():
            return _PointEntry(
                frame=entry.frame,
                track=entry.track,
                yx=entry.yx,
                positive=entry.positive,
                replaces_previous=entry.replaces_previous,
            )
        case BoxPrompt():
            return _BoxEntry(frame=entry.frame, track=entry.track, box=entry.box)
        case MaskPrompt():
            return _MaskEntry(
                frame=entry.frame, track=entry.track, shape=entry.shape, bits=_pack_mask(entry)
            )
        case Lock():
            return _LockEntry(frame=entry.frame, track=entry.track, locked=entry.locked)
        case Removal():
            return _RemovalEntry(track=entry.track)
        case Propagation():
            return _PropagationEntry(ranges=tuple(_make_range_model(each) for each in entry.ranges))


def _make_range_model(frames: PropagationRange) -> _RangeModel:
    return _RangeModel(
        track=frames.track,
        start=frames.start,
        end=frames.end,
        stop_when_unchanged=frames.stop_when_unchanged,
    )


# cached, because the whole log is written after each prompt, and packing takes ms for each mask
@lru_cache(maxsize=1024)
def _pack_mask(prompt: MaskPrompt) -> str:
    return base64.b64encode(zlib.compress(np.packbits(prompt.mask).tobytes(), 9)).decode("ascii")


def _unpack_mask(bits: str, shape: tuple[int, int]) -> np.ndarray:
    n_pixels = shape[0] * shape[1]
    size = -(-n_pixels // 8)
    try:
        # at most one byte too many, so that a small malicious file cannot fill the memory
        raw = zlib.decompressobj().decompress(base64.b64decode(bits, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise PromptError(f"the bits of a mask cannot be read ({error})") from error
    if len(raw) != size:
        raise PromptError(
            f"a mask of shape {shape!r} with {len(raw)} bytes of bits: expected {size}"
        )
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=n_pixels).reshape(shape).astype(bool)
