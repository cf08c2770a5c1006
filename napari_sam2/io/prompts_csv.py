"""Prompts as CSV: one row a click or a box."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt, PromptLog
from napari_sam2.core.track import Track

COLUMNS = ("track", "frame", "kind", "y", "x", "y2", "x2", "positive", "category")
"""The columns of a prompt table, in any order; the last four may be left out. y, x in data pixels."""

_NEEDED = COLUMNS[:5]
_YES, _NO = ("", "1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


@dataclass(frozen=True)
class _Row:
    """One row, its cells by column, and where it stands."""

    cells: dict[str, str]
    place: str

    def number(self, column: str) -> float:
        text = self.cells.get(column, "")
        try:
            return float(text)
        except ValueError:
            raise self.error(f"{column} is {text!r}: expected a number") from None

    def whole(self, column: str) -> int:
        number = self.number(column)
        if not number.is_integer():
            raise self.error(f"{column} is {self.cells[column]!r}: expected a whole number")
        return int(number)

    @property
    def positive(self) -> bool:
        text = self.cells.get("positive", "").lower()
        if text not in _YES + _NO:
            raise self.error(
                f"positive is {text!r}: expected 1 (the object is here) or 0 (it is not)"
            )
        return text in _YES

    def error(self, message: object) -> PromptError:
        return PromptError(f"{self.place}: {message}")


@dataclass
class _Said:
    """What the rows of one track and frame say together: a box, or points, or a box and points in it."""

    row: _Row
    box: BoxPrompt | None
    yx: list[tuple[float, float]]
    positive: list[bool]

    def prompts(self) -> Iterator[Prompt]:
        """The box first: a model takes it for a fresh start, and the points as corrections of it."""
        if self.box is not None:
            yield self.box
        if self.yx:
            yield PointPrompt(
                self.row.whole("frame"), self.row.whole("track"), self.yx, self.positive
            )


def log_of_csv(text: str, source: str) -> PromptLog:
    """The log a CSV holds; rows of one track and frame make one prompt, and prompts stand in the order they begin in.

    Raises PromptError that names `source` and the line.
    """
    said: dict[tuple[int, int], _Said] = {}
    categories: dict[int, str] = {}
    for row in _rows(text, source):
        _add(said, row)
        category, track = row.cells.get("category", ""), row.whole("track")
        if category and categories.setdefault(track, category) != category:
            raise row.error(
                f"category {category!r} of track {track}, which has the category "
                f"{categories[track]!r} above: give one"
            )
    if not said:
        raise PromptError(
            f"{source}: holds no rows: expected at least one prompt under the line with the columns"
        )
    entries = tuple(prompt for each in said.values() for prompt in each.prompts())
    return PromptLog(
        entries, tuple(Track(track, category=categories[track]) for track in sorted(categories))
    )


def _add(said: dict[tuple[int, int], _Said], row: _Row) -> None:
    kind = row.cells["kind"].lower()
    if kind not in ("point", "box"):
        raise row.error(f"kind is {row.cells['kind']!r}: expected point or box")
    frame, track = row.whole("frame"), row.whole("track")
    try:
        here = said.setdefault((frame, track), _Said(row, None, [], []))
        if kind == "point":
            _add_point(
                here,
                row,
                PointPrompt(frame, track, [(row.number("y"), row.number("x"))], [row.positive]),
            )
        elif here.box is not None:
            raise row.error(f"a second box for track {track} on frame {frame}: give one")
        else:
            here.box = _box(row, frame, track)
    except PromptError as error:
        raise error if str(error).startswith(row.place) else row.error(error) from error


def _add_point(said: _Said, row: _Row, prompt: PointPrompt) -> None:
    if row.cells.get("y2") or row.cells.get("x2"):
        raise row.error("a point with y2 or x2: expected these for a box only")
    said.yx += prompt.yx
    said.positive += prompt.positive


def _box(row: _Row, frame: int, track: int) -> BoxPrompt:
    if not row.positive:
        raise row.error("a box that is not positive: expected 1 or nothing")
    return BoxPrompt(frame, track, [row.number(column) for column in ("y", "x", "y2", "x2")])


def _rows(text: str, source: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""))
    columns = [cell.strip().lower() for cell in next(reader)]
    _check_columns(columns, source)
    for cells in reader:
        place = f"{source}, line {reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise PromptError(
                f"{place}: has {len(cells)} cells: expected {len(columns)}, one for each column"
            )
        yield _Row(dict(zip(columns, (cell.strip() for cell in cells), strict=True)), place)


def _check_columns(columns: list[str], source: str) -> None:
    missing = [column for column in _NEEDED if column not in columns]
    wrong = [column for column in columns if column not in COLUMNS or columns.count(column) > 1]
    if missing or wrong:
        what = (
            f"lacks the columns {', '.join(missing)}"
            if missing
            else f"has the columns {', '.join(map(repr, wrong))}"
        )
        raise PromptError(
            f"{source}, line 1: {what}: expected {','.join(COLUMNS)} with commas between them, "
            "each once"
        )
