"""The command ``napari-sam2 batch``: runs a jobs file and shows progress over all stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from napari_sam2.batch.config import read_jobs
from napari_sam2.batch.run import BatchProgress, raise_for_failures, run_batch
from napari_sam2.core.errors import PlanError

_BAR_FORMAT = "{desc} |{bar}| {n:.1f} of {total} stacks [{elapsed}<{remaining}]{postfix}"


def run_jobs_file(
    path: Path, *, scheduler: str | None, workers: int | None, report: Callable[[str], None]
) -> pd.DataFrame:
    """Run a jobs file; `scheduler` and `workers` override those of the file.

    Raises PlanError if any stack failed.
    """
    batch = read_jobs(path)
    if workers is not None and workers < 1:
        raise PlanError(f"--workers {workers}: expected 1 or more")
    overrides = {
        name: value
        for name, value in (("scheduler", scheduler), ("workers", workers))
        if value is not None
    }
    batch = replace(batch, pool=batch.pool.model_copy(update=overrides))
    report(f"batch: {len(batch.jobs)} stacks, results in {batch.out}")
    with tqdm(total=len(batch.jobs), desc="running", bar_format=_BAR_FORMAT) as bar:
        table = run_batch(batch, progress=lambda state: _advance_bar(bar, state))
    raise_for_failures(table)
    return table


def _advance_bar(bar: Any, progress: BatchProgress) -> None:
    bar.set_postfix_str(f"{progress.failed} failed" if progress.failed else "", refresh=False)
    bar.update(progress.stacks_done - bar.n)
