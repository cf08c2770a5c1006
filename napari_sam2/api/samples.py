"""The samples of the package, and the demo that runs on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_sam2.api.job import Job, run_job
from napari_sam2.core.errors import FileError
from napari_sam2.io.open import open_labels
from napari_sam2.io.prompts import read_prompts
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.propagation.run_state import Progress


@dataclass(frozen=True)
class Sample:
    """A real stack with one prompt per object, and its ground truth for comparison.

    See ``sample_data/README.md``.
    """

    name: str
    along: Literal["z", "t"]

    @property
    def image(self) -> Path:
        """The stack, OME-TIFF."""
        return _find_folder() / f"{self.name}.ome.tif"

    @property
    def prompts(self) -> Path:
        """One prompt per object, CSV."""
        return _find_folder() / f"{self.name}_prompts.csv"

    @property
    def truth(self) -> Path:
        """The true labels, OME-TIFF."""
        return _find_folder() / f"{self.name}_labels.ome.tif"


SAMPLES = (Sample("nuclei_z", "z"), Sample("migration_t", "t"))


def run_demo(
    out: Path, *, progress: Progress | None = None, report: Callable[[str], None] = print
) -> dict[str, float]:
    """Run the main job on every sample, and compare its objects with the ground truth.

    Parameters
    ----------
    out
        Folder for the results, one subfolder per sample.

    Returns
    -------
    dict
        Mean IoU of the prompted objects by sample name.
    """
    scores = {}
    for sample in SAMPLES:
        outcome = run_job(
            Job(
                input=sample.image,
                prompts=sample.prompts,
                along=sample.along,
                out=out / sample.name,
            ),
            progress=progress,
            report=report,
        )
        agreement = evaluate(
            open_labels(outcome.folder / "labels.ome.tif"),
            open_labels(sample.truth),
            tracks=True,
            match="id",
        )
        prompted = read_prompts(sample.prompts).track_ids
        assert agreement.tracks is not None
        rows = agreement.tracks[agreement.tracks["truth"].isin(prompted)]
        scores[sample.name] = float(rows["iou"].mean())
        report(f"done: {outcome.summary}")
    return scores


def _find_folder() -> Path:
    """The sample data: in the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "sample_data", package.parent / "sample_data"):
        if folder.is_dir():
            return folder
    raise FileError(
        "the sample data is not installed: expected the folder sample_data beside the package; "
        "install napari-sam2 again"
    )
