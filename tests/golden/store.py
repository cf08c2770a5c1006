"""Store: the golden files. Label stacks, table columns and log lines are kept once each.

``counting.json`` says of each case which lines its log has, and where its labels and the columns
of its tables lie in ``counting.npz``; numbers of tables are float32 there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from tests.golden.pipelines import Outcome

FOLDER = Path(__file__).parent
RELATIVE = 1e-6


@dataclass
class Store:
    """Cases by name, and the pools of what they hold."""

    cases: dict[str, dict[str, Any]]
    lines: list[str] = field(default_factory=list)
    heads: list[list[str]] = field(default_factory=list)
    tables: list[list[Any]] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    seen: dict[tuple[str, bytes], int] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Self:
        """What is in the files; nothing where there are none."""
        if not (FOLDER / "counting.json").is_file():
            return cls({})
        said = json.loads((FOLDER / "counting.json").read_text(encoding="utf-8"))
        with np.load(FOLDER / "counting.npz") as arrays:
            parts = {name: arrays[name] for name in arrays.files}
        numbers = np.split(parts["numbers"], np.cumsum(parts["lengths"])[:-1])
        labels = [parts[f"labels{number}"] for number in range(said["labels"])]
        return cls(
            said["cases"],
            said["lines"],
            said["heads"],
            said["tables"],
            said["words"],
            numbers,
            labels,
        )

    def write(self) -> None:
        """Into the files."""
        said = {
            "cases": self.cases,
            "lines": self.lines,
            "heads": self.heads,
            "tables": self.tables,
            "words": self.words,
            "labels": len(self.labels),
        }
        parts = (f" {json.dumps(key)}: {_one_line_each(value)}" for key, value in said.items())
        text = "{\n" + ",\n".join(parts) + "\n}\n"
        (FOLDER / "counting.json").write_text(text, encoding="utf-8")
        lengths = np.array([len(each) for each in self.numbers], dtype=np.int32)
        labels = {f"labels{number}": each for number, each in enumerate(self.labels)}
        np.savez_compressed(
            FOLDER / "counting.npz",
            numbers=np.concatenate(self.numbers),
            lengths=lengths,
            **labels,
        )

    def put(self, name: str, outcome: Outcome) -> None:
        """Keep what a case came to."""
        tables = {}
        for title, table in outcome.tables.items():
            head = self._kept("heads", "\n".join(table.columns).encode(), list(table.columns))
            columns = [self._column(table[column]) for column in table.columns]
            kept = [head, len(table), " ".join(columns)]
            tables[title] = self._kept("tables", json.dumps(kept).encode(), kept)
        self.cases[name] = {
            "labels": self._kept(
                "labels",
                repr(outcome.labels.shape).encode() + _narrow(outcome.labels).tobytes(),
                _narrow(outcome.labels),
            ),
            "log": [self._line(line) for line in outcome.log],
            "tracks": outcome.tracks,
            "tables": tables,
            "seeds": [self._line(line) for line in outcome.seeds],
            "logs": [[self._line(line) for line in log] for log in outcome.logs],
            "planes": outcome.planes,
            "asked": outcome.asked,
        }

    def compare(self, name: str, outcome: Outcome) -> None:
        """Assert that a case came to what is kept of it."""
        case = self.cases[name]
        assert outcome.seeds == self._lines(case["seeds"])
        assert outcome.log == self._lines(case["log"])
        assert outcome.logs == [self._lines(log) for log in case["logs"]]
        assert outcome.tracks == case["tracks"]
        assert outcome.planes == case["planes"]
        assert outcome.asked == case["asked"], "other questions, or other memories with them"
        np.testing.assert_array_equal(outcome.labels, self.labels[case["labels"]])
        assert list(outcome.tables) == list(case["tables"])
        for title, table in outcome.tables.items():
            head, length, columns = self.tables[case["tables"][title]]
            assert (list(table.columns), len(table)) == (self.heads[head], length), title
            for column, place in zip(table.columns, columns.split(), strict=True):
                self._compare_column(f"{title} {column}", table[column], place)

    def _compare_column(self, name: str, column: pd.Series, place: str) -> None:
        number = int(place[1:])
        if place[0] == "w":
            assert _text(column) == self.words[number], name
            return
        expected = self.numbers[number]
        limit = {"rtol": RELATIVE, "atol": 1e-6}
        np.testing.assert_allclose(_figures(column), expected, **limit, err_msg=name)

    def _column(self, column: pd.Series) -> str:
        if _is_text(column):
            text = _text(column)
            return f"w{self._kept('words', json.dumps(text).encode(), text)}"
        figures = _figures(column).astype(np.float32)
        return f"n{self._kept('numbers', figures.tobytes(), figures)}"

    def _line(self, line: str) -> int:
        return self._kept("lines", line.encode(), line)

    def _lines(self, numbers: list[int]) -> list[str]:
        return [self.lines[number] for number in numbers]

    def _kept(self, pool: str, key: bytes, value: Any) -> int:
        """The place of a value in a pool, where it is put if it is new."""
        if (pool, key) not in self.seen:
            self.seen[pool, key] = len(getattr(self, pool))
            getattr(self, pool).append(value)
        return self.seen[pool, key]


def _one_line_each(value: Any) -> str:
    """JSON with one line for each item of a list or field of an object."""

    def dump(each: Any) -> str:
        return json.dumps(each, ensure_ascii=False, separators=(",", ":"))

    if isinstance(value, dict):
        return (
            "{\n"
            + ",\n".join(f"  {dump(key)}: {dump(each)}" for key, each in value.items())
            + "\n }"
        )
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"  {dump(each)}" for each in value) + "\n ]"
    return dump(value)


def _is_text(column: pd.Series) -> bool:
    """Whether a column holds words; one of nothing at all is one of numbers."""
    try:
        _figures(column)
    except (TypeError, ValueError):
        return True
    return False


def _text(column: pd.Series) -> list[str]:
    return ["" if pd.isna(each) else str(each) for each in column]


def _figures(column: pd.Series) -> np.ndarray:
    values = [np.nan if pd.isna(each) else each for each in column]
    if any(isinstance(each, str) for each in values):
        raise TypeError(column.name)
    return np.array(values, dtype=np.float64)


def _narrow(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
