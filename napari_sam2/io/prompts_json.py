"""The whole PromptLog as JSON: version 1."""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from napari_sam2.core.errors import PromptError
from napari_sam2.core.plan import Leg, Propagation
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


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Placed(_Model):
    frame: NonNegativeInt
    track: PositiveInt


class _Point(_Placed):
    kind: Literal["point"] = "point"
    yx: tuple[tuple[float, float], ...]
    positive: tuple[bool, ...]
    anew: bool = False

    def entry(self) -> Entry:
        return PointPrompt(self.frame, self.track, self.yx, self.positive, anew=self.anew)


class _Box(_Placed):
    kind: Literal["box"] = "box"
    box: tuple[float, float, float, float]

    def entry(self) -> Entry:
        return BoxPrompt(self.frame, self.track, self.box)


class _Mask(_Placed):
    """`bits`: the rows one after the other, eight pixels a byte, the first the highest bit; zlib, then base64."""

    kind: Literal["mask"] = "mask"
    shape: tuple[PositiveInt, PositiveInt]
    bits: str

    def entry(self) -> Entry:
        return MaskPrompt(self.frame, self.track, _unpacked(self.bits, self.shape))


class _Lock(_Placed):
    kind: Literal["lock"] = "lock"
    locked: bool

    def entry(self) -> Entry:
        return Lock(self.frame, self.track, self.locked)


class _Removal(_Model):
    kind: Literal["removal"] = "removal"
    track: PositiveInt

    def entry(self) -> Entry:
        return Removal(self.track)


class _Leg(_Model):
    track: PositiveInt
    start: NonNegativeInt
    end: NonNegativeInt
    settles: bool


class _Propagation(_Model):
    kind: Literal["propagation"] = "propagation"
    legs: tuple[_Leg, ...]

    def entry(self) -> Entry:
        return Propagation(
            tuple(Leg(leg.track, leg.start, leg.end, leg.settles) for leg in self.legs)
        )


class _Track(_Model):
    id: PositiveInt
    name: str = ""
    category: str = ""
    parent: PositiveInt | None = None


_AnyEntry = Annotated[
    _Point | _Box | _Mask | _Lock | _Removal | _Propagation, Field(discriminator="kind")
]


class _Log(_Model):
    format: Literal["napari-sam2 prompts"] = "napari-sam2 prompts"
    version: Literal[1] = 1
    entries: tuple[_AnyEntry, ...]
    tracks: tuple[_Track, ...] = ()


def json_of_log(log: PromptLog) -> str:
    """The log as JSON, numbers as short as they come back exactly."""
    tracks = tuple(
        _Track(id=track.id, name=track.name, category=track.category, parent=track.parent)
        for track in log.tracks
    )
    return (
        _Log(entries=tuple(_written(entry) for entry in log), tracks=tracks).model_dump_json(
            indent=1
        )
        + "\n"
    )


def log_of_json(text: str, source: str) -> PromptLog:
    """The log a JSON text holds. Raises PromptError that names `source` and the place in it."""
    try:
        found = _Log.model_validate_json(text)
    except ValidationError as error:
        raise PromptError(f"{source}: {_first(error)}") from error
    entries = []
    for number, each in enumerate(found.entries):
        try:
            entries.append(each.entry())
        except PromptError as error:
            raise PromptError(f"{source}: entries.{number}: {error}") from error
    return PromptLog(tuple(entries), tuple(_track(each, source) for each in found.tracks))


def _track(each: _Track, source: str) -> Track:
    try:
        return Track(each.id, each.name, each.category, each.parent)
    except PromptError as error:
        raise PromptError(f"{source}: tracks: {error}") from error


def _written(entry: Entry) -> _AnyEntry:
    match entry:
        case PointPrompt():
            return _Point(
                frame=entry.frame,
                track=entry.track,
                yx=entry.yx,
                positive=entry.positive,
                anew=entry.anew,
            )
        case BoxPrompt():
            return _Box(frame=entry.frame, track=entry.track, box=entry.box)
        case MaskPrompt():
            return _Mask(
                frame=entry.frame, track=entry.track, shape=entry.shape, bits=_packed(entry)
            )
        case Lock():
            return _Lock(frame=entry.frame, track=entry.track, locked=entry.locked)
        case Removal():
            return _Removal(track=entry.track)
        case Propagation():
            legs = (
                _Leg(track=leg.track, start=leg.start, end=leg.end, settles=leg.settles)
                for leg in entry.legs
            )
            return _Propagation(legs=tuple(legs))


@lru_cache(
    maxsize=1024
)  # a log is written again after each prompt, and hundreds of masks take a second
def _packed(prompt: MaskPrompt) -> str:
    return base64.b64encode(zlib.compress(np.packbits(prompt.mask).tobytes(), 9)).decode("ascii")


def _unpacked(bits: str, shape: tuple[int, int]) -> np.ndarray:
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


def _first(error: ValidationError) -> str:
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
