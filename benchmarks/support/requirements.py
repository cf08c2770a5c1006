"""Requirements: what a benchmark must reach, and the exit code that says whether it did."""

from __future__ import annotations

from collections.abc import Iterable

Check = tuple[str, bool]
"""A requirement as text, and whether it is reached."""


def report_checks(checks: Iterable[Check]) -> int:
    """Print a line per requirement. Returns the exit code: 0 if all are reached, else 1."""
    found = list(checks)
    for requirement, reached in found:
        print(f"{'reached' if reached else 'MISSED '}  {requirement}")
    return 0 if all(reached for _, reached in found) else 1
