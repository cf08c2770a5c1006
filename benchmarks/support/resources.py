"""What a piece of work takes: seconds of the clock and of the processor, and memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Seconds:
    """Wall clock, and processor time of all threads; other programs hardly change the latter."""

    wall: float
    cpu: float


def time_call(work: Callable[[], _T]) -> tuple[_T, Seconds]:
    """Return the result of a call, and the time it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def measure_peak_bytes() -> int:
    """Measure the largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
