"""Names of label files, and of other results that segmentation tools write beside an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LABEL_WORDS = ("cp_masks", "labels", "label", "masks", "mask", "seg", "segmentation")
"""Names of labels: ``cells_labels.tif`` beside ``cells.tif``, ``masks/`` beside ``images/``."""

_WORDS_OF_LABELS = {"labels", "label", "masks", "mask", "seg", "segmentation"}
_WORDS_OF_RESULTS = {"outlines", "flows", "probabilities", "prob", "probs"}
_WORDS_OF_IMAGES = {"image", "img", "raw"}


def split_results(files: Sequence[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """Files by their names: images, labels, and other results of a segmentation.

    A word counts if it stands alone, as in ``frame_000_cp_masks.tif`` and ``mask000.tif``.
    """
    images, labels, results = [], [], []
    for file in files:
        words = set(re.findall(r"[a-z]+", file.name.lower()))
        if words & _WORDS_OF_RESULTS:
            results.append(file)
        elif words & _WORDS_OF_LABELS:
            labels.append(file)
        else:
            images.append(file)
    return images, labels, results


def select_kind(files: Sequence[Path], *, labels: bool, source: str) -> tuple[list[Path], str]:
    """The images among files, or the labels; and a note about what is left out, "" if nothing is.

    Files of one kind only are all taken.
    """
    images, label_files, results = split_results(files)
    wanted = label_files if labels else images
    taken = wanted or images or label_files or results
    left_out = [file for file in files if file not in taken]
    if not left_out:
        return list(files), ""
    examples = ", ".join(file.name for file in left_out[:2]) + (", …" if len(left_out) > 2 else "")
    other = "images" if taken is label_files else "labels or other results"
    return taken, (
        f"{source}: {len(left_out)} of {len(files)} files are {other} by their names and left out "
        f"({examples})"
    )
