"""The command line: ``napari-sam2 demo | track | count | measure | …``.

Exit code 0 only when the work is done.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from napari_sam2.cli.parser import make_parser
from napari_sam2.core.errors import Sam2Error

EXIT_ERROR = 2
"""Exit code of a wrong call or a wrong input."""

EXIT_TERMINATED = 143
"""Exit code after SIGTERM (128 + SIGTERM)."""

_MAX_NAME_CHARS = 100

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT, the convention of shells)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; an error of this package is one line on stderr and exit code 2."""
    arguments = make_parser().parse_args(argv)
    previous = _handle_terminate()
    try:
        arguments.do(arguments)
    except (Sam2Error, OSError, MemoryError, RecursionError) as error:
        print(f"napari-sam2: {_describe_error(error)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt as stop:
        print(
            f"napari-sam2: stopped; finished work is kept{arguments.after_stop}",
            file=sys.stderr,
        )
        return EXIT_TERMINATED if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which a queue sends when the time of a job is up."""


def _handle_terminate() -> Any:
    """End by SIGTERM as by Ctrl-C; returns the previous handler, None in other threads."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def stop(*_: object) -> None:
        raise _Terminated

    return signal.signal(signal.SIGTERM, stop)


def _describe_error(error: BaseException) -> str:
    """One line; errors of the system are those that no part of this package has explained."""
    if isinstance(error, Sam2Error):
        return " ".join(str(error).splitlines())
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}): give a smaller part, or use a larger machine"
    if isinstance(error, RecursionError):
        return "a file is nested too deeply: expected some levels"
    assert isinstance(error, OSError)
    name = str(error.filename or "")
    shown = name if len(name) <= _MAX_NAME_CHARS else f"{name[:_MAX_NAME_CHARS]}…"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{shown}: {reason}" if shown else reason
