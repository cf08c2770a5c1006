"""What ``napari-sam2 batch`` does: a jobs file run, with a bar over all stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from napari_sam2.batch.config import read_jobs
from napari_sam2.batch.run import Standing, failures, run_batch
from napari_sam2.core.errors import PlanError

_BAR = "{desc} |{bar}| {n:.1f} of {total} stacks [{elapsed}<{remaining}]{postfix}"


def run_file(
    path: Path, *, scheduler: str | None, workers: int | None, say: Callable[[str], None]
) -> pd.DataFrame:
    """Run a jobs file; `scheduler` and `workers` go before what it says.

    Raises PlanError where any stack failed.
    """
    batch = read_jobs(path)
    if workers is not None and workers < 1:
        raise PlanError(f"--workers {workers}: expected a number from 1")
    said = {
        name: value
        for name, value in (("scheduler", scheduler), ("workers", workers))
        if value is not None
    }
    batch = replace(batch, pool=batch.pool.model_copy(update=said))
    say(f"batch: {len(batch.jobs)} stacks, results in {batch.out}")
    with tqdm(total=len(batch.jobs), desc="carrying", bar_format=_BAR) as bar:
        table = run_batch(batch, progress=lambda standing: _advance(bar, standing))
    failures(table)
    return table


def _advance(bar: Any, standing: Standing) -> None:
    bar.set_postfix_str(f"{standing.failed} failed" if standing.failed else "", refresh=False)
    bar.update(standing.stacks - bar.n)
