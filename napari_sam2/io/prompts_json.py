"""The whole PromptLog as JSON: version 1."""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from napari_sam2.core.errors import PromptError
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


class _PromptModel(BaseModel):
    model_config = ConfigDict(
        serialize_by_alias=True, extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


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
    """`bits`: the rows one after the other, eight pixels a byte, the first the highest bit; zlib, then base64."""

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
                PropagationRange(leg.track, leg.start, leg.end, leg.stop_when_unchanged)
                for leg in self.ranges
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
    """The log as JSON, numbers as short as they come back exactly."""
    tracks = tuple(
        _TrackModel(id=track.id, name=track.name, category=track.category, parent=track.parent)
        for track in log.tracks
    )
    return (
        _LogModel(
            entries=tuple(_make_entry_model(entry) for entry in log), tracks=tracks
        ).model_dump_json(indent=1)
        + "\n"
    )


def parse_json_log(text: str, source: str) -> PromptLog:
    """The log a JSON text holds. Raises PromptError that names `source` and the place in it."""
    try:
        found = _LogModel.model_validate_json(text)
    except ValidationError as error:
        raise PromptError(f"{source}: {_format_first_error(error)}") from error
    entries = []
    for number, each in enumerate(found.entries):
        try:
            entries.append(each.to_entry())
        except PromptError as error:
            raise PromptError(f"{source}: entries.{number}: {error}") from error
    return PromptLog(tuple(entries), tuple(_make_track(each, source) for each in found.tracks))


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
            legs = (
                _RangeModel(
                    track=leg.track,
                    start=leg.start,
                    end=leg.end,
                    stop_when_unchanged=leg.stop_when_unchanged,
                )
                for leg in entry.ranges
            )
            return _PropagationEntry(ranges=tuple(legs))


@lru_cache(
    maxsize=1024
)  # a log is written again after each prompt, and hundreds of masks take a second
def _pack_mask(prompt: MaskPrompt) -> str:
    return base64.b64encode(zlib.compress(np.packbits(prompt.mask).tobytes(), 9)).decode("ascii")


def _unpack_mask(bits: str, shape: tuple[int, int]) -> np.ndarray:
    pixels = shape[0] * shape[1]
    size = -(-pixels // 8)
    try:
        # one byte more than there may be shows that there are too many, and a small file cannot
        # fill the memory
        raw = zlib.decompressobj().decompress(base64.b64decode(bits, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise PromptError(f"the bits of a mask cannot be read ({error})") from error
    if len(raw) != size:
        raise PromptError(
            f"a mask of shape {shape!r} with {len(raw)} bytes of bits: expected {size}"
        )
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=pixels).reshape(shape).astype(bool)


def _format_first_error(error: ValidationError) -> str:
    """The first thing wrong, on one line, and how many more there are."""
    first, *others = error.errors(include_url=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"])
    value = repr(first["input"])
    found = (
        f"{where}: {first['msg']}, got {value if len(value) < 60 else value[:57] + '…'}"
        if where
        else first["msg"]
    )
    return f"{found} (and {len(others)} more)" if others else found
