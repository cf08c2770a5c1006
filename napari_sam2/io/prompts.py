"""Prompts in files: CSV for people, JSON for all there is, label images for masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam2.core.errors import FileError, LabelsError, PromptError
from napari_sam2.core.prompt import MaskPrompt, PromptLog
from napari_sam2.io.prompts_csv import parse_csv_log
from napari_sam2.io.prompts_json import format_json_log, parse_json_log
from napari_sam2.io.tables import write_text


def read_prompts(path: Path | str) -> PromptLog:
    """The log a file holds: CSV with the columns of `prompts_csv.COLUMNS`, or JSON as `write_prompts` makes it.

    Raises FileError for a file that cannot be read, PromptError (with the line or the place) for
    what is no prompt.
    """
    file = Path(path)
    readers = {".csv": parse_csv_log, ".json": parse_json_log}
    if file.suffix.lower() not in readers:
        raise PromptError(f"{file}: expected prompts in a file ending in .csv or .json")
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets begin their files with a mark
    except OSError as error:
        raise FileError(
            f"{file}: {error.strerror or error}; expected prompts as .csv or .json"
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{file}: is no text in UTF-8: save it as CSV UTF-8") from error
    if not text.strip():
        raise PromptError(f"{file}: is empty: expected at least one prompt")
    return readers[file.suffix.lower()](text, str(file))


def write_prompts(log: PromptLog, path: Path | str) -> None:
    """The whole log as JSON: prompts, locks, propagations and tracks, in order; `read_prompts` gives an equal one."""
    write_text(format_json_log(log), path)


def make_mask_prompts(labels: np.ndarray, frame: int) -> PromptLog:
    """One MaskPrompt on `frame` for each label of a (H, W) label plane, the label being the track's id."""
    plane = np.asarray(labels)
    if plane.ndim != 2 or plane.dtype.kind not in "bui":
        raise LabelsError(
            f"got {plane.dtype} {plane.shape!r}: expected a label plane of whole numbers, "
            "(height, width)",
            frame=frame,
        )
    found = np.unique(plane)
    if found[0] < 0:
        raise LabelsError(
            f"holds the label {int(found[0])}: expected 0 for the background and numbers above it",
            frame=frame,
        )
    tracks = [int(label) for label in found if label]
    if not tracks:
        raise LabelsError(
            "holds no labels: expected a number above 0 on every pixel of an object", frame=frame
        )
    return PromptLog(tuple(MaskPrompt(frame, track, plane == track) for track in tracks))
