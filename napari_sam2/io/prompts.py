"""Prompts in files: CSV for people, JSON for complete logs, label images for masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.prompt import MaskPrompt, PromptLog
from napari_sam2.io.prompts_csv import parse_csv_log
from napari_sam2.io.prompts_json import format_json_log, parse_json_log
from napari_sam2.io.readers.files import read_utf8_text
from napari_sam2.io.tables import write_text


def read_prompts(path: Path | str) -> PromptLog:
    """Read the log of a CSV file with the columns `prompts_csv.COLUMNS`, or of a JSON file.

    Raises
    ------
    FileError
        If the file cannot be read or is not text in UTF-8.
    PromptError
        If an entry is not a valid prompt; the text names the line or the entry.
    """
    file = Path(path)
    parsers = {".csv": parse_csv_log, ".json": parse_json_log}
    if file.suffix.lower() not in parsers:
        raise PromptError(f"{file}: expected prompts in a file ending in .csv or .json")
    text = read_utf8_text(file, "prompts as .csv or .json, saved as UTF-8")
    if not text.strip():
        raise PromptError(f"{file}: is empty: expected at least one prompt")
    return parsers[file.suffix.lower()](text, str(file))


def write_prompts(log: PromptLog, path: Path | str) -> None:
    """Write the whole log as JSON; `read_prompts` returns an equal log."""
    write_text(format_json_log(log), path)


def make_mask_prompts(labels: np.ndarray, frame: int) -> PromptLog:
    """One mask prompt on `frame` for each label of an (H, W) plane; the label is the track's id.

    Raises LabelsError if the plane has no labels, negative ones, or numbers that are not whole.
    """
    plane = np.asarray(labels)
    if plane.ndim != 2 or plane.dtype.kind not in "bui":
        raise LabelsError(
            f"got {plane.dtype} {plane.shape!r}: expected a label plane of whole numbers, "
            "(height, width)",
            frame=frame,
        )
    labels_found = np.unique(plane)
    if labels_found[0] < 0:
        raise LabelsError(
            f"contains the label {int(labels_found[0])}: expected 0 for the background and numbers "
            "above 0 for objects",
            frame=frame,
        )
    tracks = [int(label) for label in labels_found if label]
    if not tracks:
        raise LabelsError(
            "contains no labels: expected a number above 0 on every pixel of an object",
            frame=frame,
        )
    return PromptLog(tuple(MaskPrompt(frame, track, plane == track) for track in tracks))
