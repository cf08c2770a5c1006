"""Write the golden files anew: ``python -m tests.golden.make``, from the root of the checkout."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.golden.test_counting_golden import write_golden

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_golden(Path(folder))
