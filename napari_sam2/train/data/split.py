"""Splits by group: no image, movie or patient is both trained on and held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from napari_sam2.core.errors import LabelsError


@dataclass(frozen=True)
class Split:
    """Items to train on and items held out, ascending."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_groups(groups: Sequence[str], *, share: float = 0.2, seed: int = 0) -> Split:
    """Hold out about `share` of the groups, at least one, and never all.

    The choice depends on the names and the seed only: new data move few of the other groups.

    Raises
    ------
    LabelsError
        Fewer than two groups, so that nothing can be held out.
    """
    if not 0 < share < 1:
        raise LabelsError(f"the held-out share is {share!r}: expected a number between 0 and 1")
    ordered = sorted(
        set(groups), key=lambda group: hashlib.sha256(f"{seed}|{group}".encode()).digest()
    )
    if len(ordered) < 2:
        raise LabelsError(
            f"{len(groups)} image(s) in {len(ordered)} group(s): at least two groups are needed "
            "to hold one out for validation; give a second image or movie, or cut the stack into "
            "pieces"
        )
    count = min(len(ordered) - 1, max(1, round(share * len(ordered))))
    out = set(ordered[:count])
    train = tuple(item for item, group in enumerate(groups) if group not in out)
    return Split(train, tuple(item for item, group in enumerate(groups) if group in out))
