"""Time, slice, channel and position of image files, from the numbers and words in their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from pathlib import Path

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.opened import UNKNOWN_AXIS
from napari_sam2.io.readers.plate import find_well

_POSITION = "position"
_WORDS = {
    "t": ("t", "time", "timepoint", "tp", "sk"),
    "z": ("z", "slice", "plane", "zslice"),
    "c": ("c", "ch", "channel", "w", "wavelength"),
    _POSITION: (
        "p",
        "pos",
        "position",
        "xy",
        "site",
        "f",
        "field",
        "fov",
        "series",
        "scene",
        "tile",
    ),
}
_AXES = {word: axis for axis, words in _WORDS.items() for word in words}
# Operetta, Opera: row, column, field, plane; and the site of MetaXpress beside a wavelength
_OPERETTA = re.compile(r"r\d+c\d+f\d+p\d+-ch\d+")
_METAXPRESS = re.compile(r"_s\d+_w\d+")
_MICROMANAGER = re.compile(r"img_\d{9}_[^_]+_\d{3}\.")
_MAX_CHANNELS = 12  # more different words are not channels
_MAX_FOREIGN_SHARE = 1 / 3
_MAX_LISTED = 3


@dataclass(frozen=True)
class FileGrid:
    """Files in the order of a grid.

    Parameters
    ----------
    files
        In C order of `lengths`.
    axes
        A letter for each dimension of the grid, `UNKNOWN_AXIS` if the names do not tell.
    lengths
        Number of steps along each dimension.
    channels
        Names of the channels; empty if the names do not tell.
    notes
        What is doubtful about the set, one sentence each.
    """

    files: tuple[Path, ...]
    axes: str
    lengths: tuple[int, ...]
    channels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Field:
    """A place in the names of all files: its axis, "" if unknown, and its value in each name."""

    axis: str
    values: tuple[int | str, ...]
    decisive: bool
    """Whether the word before the number is more than one letter."""

    @property
    def numeric(self) -> bool:
        return isinstance(self.values[0], int)

    @property
    def varies(self) -> bool:
        return len(set(self.values)) > 1


def arrange_files(files: Sequence[Path], source: str) -> FileGrid:
    """Arrange files by their names; they must be in natural order.

    Numbers behind words such as time, z, ch and w name their axes if several numbers vary. A single
    number that varies leaves its axis unknown, unless a whole word is before it.

    Raises
    ------
    FileError
        If names have several forms, several positions or wells, or a combination is missing.
    """
    _check_wells(files, source)
    fields = _list_fields(files, source)
    varying = [field for field in fields if field.varies]
    _check_positions(varying, files, source)
    keys = _select_keys(varying, len(files))
    if keys is None or not keys:
        return FileGrid(tuple(files), UNKNOWN_AXIS, (len(files),))
    lengths = [len(set(key.values)) for key in keys]
    if prod(lengths) != len(files):
        if any(key.axis for key in keys):
            raise _make_incomplete_error(keys, files, source)
        _check_foreign(keys, files, source)
        return FileGrid(tuple(files), UNKNOWN_AXIS, (len(files),))
    return _make_grid(files, keys, fields, source)


def _make_grid(
    files: Sequence[Path], keys: list[_Field], fields: list[_Field], source: str
) -> FileGrid:
    axes = "".join(_name_axis(key, len(keys)) for key in keys)
    if len(set(axes.replace(UNKNOWN_AXIS, ""))) < len(axes.replace(UNKNOWN_AXIS, "")):
        axes = UNKNOWN_AXIS * len(keys)
    by_place = dict(zip(zip(*(key.values for key in keys), strict=True), files, strict=True))
    steps = [
        sorted(set(key.values), key=lambda value: (isinstance(value, str), value)) for key in keys
    ]
    ordered = tuple(by_place[place] for place in product(*steps))
    channels: tuple[str, ...] = ()
    if "c" in axes:
        channels = _name_channels(keys[axes.index("c")], fields, steps[axes.index("c")])
    notes = [_describe_gaps(key, files, source) for key in keys if key.numeric]
    lengths = tuple(len(step) for step in steps)
    return FileGrid(ordered, axes, lengths, channels, tuple(note for note in notes if note))


def _name_axis(key: _Field, n_keys: int) -> str:
    if key.axis and key.axis != _POSITION and (n_keys > 1 or key.decisive):
        return key.axis
    return "c" if not key.numeric and n_keys > 1 else UNKNOWN_AXIS


def _list_fields(files: Sequence[Path], source: str) -> list[_Field]:
    """The places of all names, which must have the same form."""
    common = files[0].parent
    while not all(file.is_relative_to(common) for file in files):
        common = common.parent
    names = [_strip_ending(str(file.relative_to(common))) for file in files]
    words = [re.findall(r"[^\W_]+", name) for name in names]
    lengths = Counter(map(len, words))
    usual, count = lengths.most_common(1)[0]
    if count < len(files):
        foreign = [file for file, each in zip(files, words, strict=True) if len(each) != usual]
        if len(foreign) <= _MAX_FOREIGN_SHARE * len(files):
            raise _make_foreign_error(foreign, files, source)
        return []
    fields: list[_Field] = []
    for column in zip(*words, strict=True):
        fields += _split_column(column, fields, files[0].name)
    return fields


def _strip_ending(name: str) -> str:
    return re.sub(r"(\.ome)?\.\w+$", "", name)


def _split_column(column: Sequence[str], before: list[_Field], example: str) -> list[_Field]:
    """The fields of one word of each name: its letters and numbers, if all words have the same."""
    pieces = [re.findall(r"\d+|\D+", word) for word in column]
    forms = {tuple(piece.isdecimal() for piece in each) for each in pieces}
    if len(forms) > 1:
        return [_split_channel(column)]
    fields: list[_Field] = []
    for part in zip(*pieces, strict=True):
        previous = (before + fields)[-1] if before or fields else None
        if part[0].isdecimal():
            axis, decisive = _find_axis(previous, example)
            fields.append(_Field(axis, tuple(map(int, part)), decisive))
        else:
            fields.append(_Field("", part, False))
    return fields


def _split_channel(column: Sequence[str]) -> _Field:
    """A word such as w1DAPI and w2Cy5, whose letters and numbers differ."""
    named = all(re.match(r"(w|ch|c)\d+\D", word.lower()) for word in column)
    return _Field("c" if named else "", tuple(column), named)


def _find_axis(previous: _Field | None, example: str) -> tuple[str, bool]:
    """The axis of a number by the word before it, and whether that is a whole word."""
    if previous is None or previous.numeric or previous.varies:
        return "", False
    word = str(previous.values[0]).lower()
    if word == "p" and _OPERETTA.match(example):
        return "z", True
    if word == "s" and _METAXPRESS.search(example):
        return _POSITION, True
    if word in ("r", "c") and _OPERETTA.match(example):
        return "", False
    if word == "img" and _MICROMANAGER.match(example):
        return "t", True
    return _AXES.get(word, ""), len(word) > 1


def _select_keys(varying: list[_Field], n_files: int) -> list[_Field] | None:
    """The fewest fields that tell all files apart, those with an axis first; None if none do."""
    numbers = [field for field in varying if field.axis]
    others = [field for field in varying if not field.axis]
    others.sort(key=lambda field: (not field.numeric, len(set(field.values))))
    keys: list[_Field] = []
    for field in numbers + others:
        if len(_list_places(keys)) == n_files and keys:
            break
        if len(_list_places([*keys, field])) > len(_list_places(keys)):
            keys.append(field)
    if len(_list_places(keys)) < n_files:
        return None
    for field in [key for key in keys if not key.axis]:
        rest = [key for key in keys if key is not field]
        if rest and len(_list_places(rest)) == n_files:
            keys = rest
    return [field for field in varying if field in keys]


def _list_places(keys: Sequence[_Field]) -> set[tuple[int | str, ...]]:
    return set(zip(*(key.values for key in keys), strict=True)) if keys else {()}


def _name_channels(
    key: _Field, fields: list[_Field], steps: Sequence[int | str]
) -> tuple[str, ...]:
    """The names of channels: the words themselves, or words that vary with their numbers."""
    if not key.numeric:
        return tuple(str(step) for step in steps)
    for field in fields:
        if not field.numeric and len(_list_places([key, field])) == len(set(field.values)) == len(
            steps
        ):
            names = dict(zip(key.values, field.values, strict=True))
            return tuple(str(names[step]) for step in steps)
    return ()


def _describe_gaps(key: _Field, files: Sequence[Path], source: str) -> str:
    """A note if most numbers follow each other and some are missing, else ""."""
    numbers = sorted({int(value) for value in key.values})
    steps = [after - before for before, after in pairwise(numbers)]
    usual, count = Counter(steps).most_common(1)[0]
    gaps = [step for step in steps if step > usual]
    if not gaps or 2 * count <= len(steps):
        return ""
    first = numbers[steps.index(gaps[0])]
    missing = sum(step // usual - 1 for step in gaps)
    return (
        f"{source}: {missing} numbers are missing in the names of {len(files)} files, the first "
        f"after {first}: frames are taken to follow each other"
    )


def _check_wells(files: Sequence[Path], source: str) -> None:
    wells = sorted({find_well(Path(file.name)) for file in files})
    if len(wells) > 1 and "" not in wells:
        raise FileError(
            f"{source}: contains {len(wells)} wells ({', '.join(wells[:_MAX_LISTED])}): expected "
            "one; select it with a pattern, or run `napari-sam2 batch`"
        )


def _check_positions(varying: list[_Field], files: Sequence[Path], source: str) -> None:
    several = [field for field in varying if field.axis == _POSITION]
    if not several or (len(varying) == 1 and not several[0].decisive):
        return
    values = sorted(set(map(int, several[0].values)))
    raise FileError(
        f"{source}: contains {len(values)} positions by the names of its files "
        f"({files[0].name}, …): expected one; select it with a pattern, for example one that has "
        f"the number {values[0]} of the position"
    )


def _check_foreign(keys: list[_Field], files: Sequence[Path], source: str) -> None:
    """Raise FileError if few files have another word in their names than all others."""
    for key in keys:
        if key.numeric:
            continue
        usual, count = Counter(key.values).most_common(1)[0]
        foreign = [file for file, value in zip(files, key.values, strict=True) if value != usual]
        if count > 1 and len(foreign) <= _MAX_FOREIGN_SHARE * len(files):
            raise _make_foreign_error(foreign, files, source)


def _make_foreign_error(foreign: Sequence[Path], files: Sequence[Path], source: str) -> FileError:
    listed = ", ".join(file.name for file in foreign[:_MAX_LISTED])
    return FileError(
        f"{source}: {len(foreign)} of {len(files)} files have names of another form ({listed}): "
        "expected one set; move them away, or select the set with a pattern"
    )


def _make_incomplete_error(keys: list[_Field], files: Sequence[Path], source: str) -> FileError:
    steps = [sorted(set(key.values), key=str) for key in keys]
    missing = [place for place in product(*steps) if place not in _list_places(keys)]
    names = [key.axis or "number" for key in keys]
    first = ", ".join(f"{name} {value}" for name, value in zip(names, missing[0], strict=True))
    return FileError(
        f"{source}: {len(missing)} of {len(missing) + len(files)} files are missing by their names "
        f"(the first: {first}): expected every combination; copy them, or select with a pattern"
    )
