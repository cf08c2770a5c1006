"""Prompts as CSV: one row for each click or box."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt, PromptLog
from napari_sam2.core.track import Track

COLUMNS = ("track", "frame", "kind", "y", "x", "y2", "x2", "positive", "category")
"""The columns of a table of prompts, in any order; the last four are optional. y, x in pixels."""

_REQUIRED_COLUMNS = COLUMNS[:5]
_TRUE_TEXTS, _FALSE_TEXTS = ("", "1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


@dataclass(frozen=True)
class _PromptRow:
    """The cells of a row by column, and its location in the file for error texts."""

    cells: dict[str, str]
    location: str

    def parse_number(self, column: str) -> float:
        text = self.cells.get(column, "")
        try:
            return float(text)
        except ValueError:
            raise self.make_error(f"{column} is {text!r}: expected a number") from None

    def parse_int(self, column: str) -> int:
        number = self.parse_number(column)
        if not number.is_integer():
            raise self.make_error(f"{column} is {self.cells[column]!r}: expected a whole number")
        return int(number)

    @property
    def positive(self) -> bool:
        text = self.cells.get("positive", "").lower()
        if text not in _TRUE_TEXTS + _FALSE_TEXTS:
            raise self.make_error(
                f"positive is {text!r}: expected 1 (the object is here) or 0 (it is not)"
            )
        return text in _TRUE_TEXTS

    def make_error(self, message: object) -> PromptError:
        return PromptError(f"{self.location}: {message}")


@dataclass
class _FrameRows:
    """The rows of one track and frame: a box, points, or a box with points in it."""

    frame: int
    track: int
    box: BoxPrompt | None
    yx: list[tuple[float, float]]
    positive: list[bool]

    def make_prompts(self) -> Iterator[Prompt]:
        """The box first, because the points then correct it."""
        if self.box is not None:
            yield self.box
        if self.yx:
            yield PointPrompt(self.frame, self.track, self.yx, self.positive)


def parse_csv_log(text: str, source: str) -> PromptLog:
    """Parse the log of a CSV text.

    Rows of one track and frame form one prompt; prompts are in the order of their first rows.
    Raises PromptError, which names `source` and the line.
    """
    groups: dict[tuple[int, int], _FrameRows] = {}
    categories: dict[int, str] = {}
    for row in _read_rows(text, source):
        _add_row(groups, row)
        category, track = row.cells.get("category", ""), row.parse_int("track")
        if category and categories.setdefault(track, category) != category:
            raise row.make_error(
                f"category {category!r} of track {track}, which has the category "
                f"{categories[track]!r} in an earlier row: give one"
            )
    if not groups:
        raise PromptError(
            f"{source}: contains no rows: expected at least one prompt below the line of columns"
        )
    entries = tuple(prompt for group in groups.values() for prompt in group.make_prompts())
    tracks = tuple(Track(track, category=categories[track]) for track in sorted(categories))
    return PromptLog(entries, tracks)


def _add_row(groups: dict[tuple[int, int], _FrameRows], row: _PromptRow) -> None:
    kind = row.cells["kind"].lower()
    if kind not in ("point", "box"):
        raise row.make_error(f"kind is {row.cells['kind']!r}: expected point or box")
    frame, track = row.parse_int("frame"), row.parse_int("track")
    try:
        group = groups.setdefault((frame, track), _FrameRows(frame, track, None, [], []))
        if kind == "point":
            _add_point(group, row)
        elif group.box is not None:
            raise row.make_error(f"a second box for track {track} on frame {frame}: give one")
        else:
            group.box = _make_box(row, frame, track)
    except PromptError as error:
        raise error if str(error).startswith(row.location) else row.make_error(error) from error


def _add_point(group: _FrameRows, row: _PromptRow) -> None:
    yx = (row.parse_number("y"), row.parse_number("x"))
    prompt = PointPrompt(group.frame, group.track, [yx], [row.positive])  # checks the values
    if row.cells.get("y2") or row.cells.get("x2"):
        raise row.make_error("a point with y2 or x2: expected these only for a box")
    group.yx += prompt.yx
    group.positive += prompt.positive


def _make_box(row: _PromptRow, frame: int, track: int) -> BoxPrompt:
    if not row.positive:
        raise row.make_error("a box that is not positive: expected 1 or an empty cell")
    return BoxPrompt(frame, track, [row.parse_number(column) for column in ("y", "x", "y2", "x2")])


def _read_rows(text: str, source: str) -> Iterator[_PromptRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = _iterate_rows(reader, source)
    columns = [cell.strip().lower() for cell in next(rows)]
    _check_columns(columns, source)
    for cells in rows:
        location = f"{source}, line {reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise PromptError(
                f"{location}: has {len(cells)} cells: expected {len(columns)}, one for each column"
            )
        values = (cell.strip() for cell in cells)
        yield _PromptRow(dict(zip(columns, values, strict=True)), location)


def _iterate_rows(reader: Any, source: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:  # a cell without end, or with a byte that no text has
        raise PromptError(
            f"{source}, line {reader.line_num}: is not valid CSV ({error}): expected short cells "
            "separated by commas"
        ) from error


def _check_columns(columns: list[str], source: str) -> None:
    missing = [column for column in _REQUIRED_COLUMNS if column not in columns]
    wrong = [column for column in columns if column not in COLUMNS or columns.count(column) > 1]
    if not missing and not wrong:
        return
    if missing:
        problem = f"lacks the columns {', '.join(missing)}"
    else:
        problem = f"has unknown or repeated columns {', '.join(map(repr, wrong))}"
    raise PromptError(
        f"{source}, line 1: {problem}: expected {','.join(COLUMNS)}, each once, separated by commas"
    )
