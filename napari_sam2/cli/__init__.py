"""The command line: ``napari-sam2 demo | track | count | measure | …``.

Exit code 0 only when the work is done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from napari_sam2.cli.parser import make_parser
from napari_sam2.core.errors import Sam2Error

EXIT_ERROR = 2
"""Exit code of a wrong call or a wrong input."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT, the convention of shells)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; an error of this package is one line on stderr and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        arguments.do(arguments)
    except Sam2Error as error:
        print(f"napari-sam2: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(
            f"napari-sam2: stopped; finished work is kept{arguments.after_stop}",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    return 0
