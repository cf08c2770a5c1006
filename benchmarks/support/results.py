"""Results of benchmarks as Markdown tables and JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam2.models.weights.files import replace_atomically


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a table as Markdown; floats have three digits."""
    lines = [
        [str(cell) for cell in header],
        ["---"] * len(header),
        *([_format_cell(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_results(results: Any, path: Path | None) -> None:
    """Write results as JSON if a path is given; the file is complete when it appears."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _format_cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
