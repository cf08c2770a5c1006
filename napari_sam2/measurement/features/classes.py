"""Classes: a category for each track, by rules on its features or by a classifier taught with a few of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.errors import LabelsError

_OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(
    r"\s*([A-Za-z_]\w*)\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*"
)
_NOT_FEATURES = ("track", "frame", "t", "z", "y", "x", "y_um", "x_um", "score")
_N_TREES = 100


@dataclass(frozen=True)
class CategoryRule:
    """What a track must be to be of a category: all of its conditions, each ``feature operator number``, joined by "and"."""

    category: str
    conditions: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, category: str, text: str) -> CategoryRule:
        """From ``area_px > 500 and mean_c1 < 1e3``.

        Raises LabelsError for what is no such thing.
        """
        found = []
        for part in re.split(r"\band\b", text):
            match = _CONDITION.fullmatch(part)
            if match is None:
                raise LabelsError(
                    f"rule {text!r} for {category!r}: expected conditions like 'area_px > 500', "
                    "joined by 'and'"
                )
            found.append((match[1], match[2], float(match[3])))
        return cls(category, tuple(found))

    def matches(self, features: pd.DataFrame) -> pd.Series[bool]:
        """By row.

        A feature that is empty fulfils nothing. Raises LabelsError for a feature that is not there.
        """
        unknown = [name for name, _, _ in self.conditions if name not in features.columns]
        if unknown:
            raise LabelsError(
                f"rule for {self.category!r} asks for {unknown!r}: expected some of "
                f"{list(features.columns)!r}"
            )
        held = pd.Series(True, index=features.index)
        for name, sign, number in self.conditions:
            held &= features[name].notna() & _OPERATORS[sign](features[name], number)
        return held


def compute_track_features(objects: pd.DataFrame) -> pd.DataFrame:
    """Index `track`; the mean over its frames of every number in the table `objects` that says what it is like, not where it is."""
    names = [
        name
        for name in objects.columns
        if name not in _NOT_FEATURES and pd.api.types.is_numeric_dtype(objects[name])
    ]
    return objects[names].astype("float64").groupby(objects["track"]).mean()


def classify_by_rules(objects: pd.DataFrame, rules: list[CategoryRule]) -> dict[int, str]:
    """Category by track: of the first rule that holds; the one it has where none does."""
    features = compute_track_features(objects)
    found = _get_categories(objects)
    for rule in reversed(rules):
        found |= {int(track): rule.category for track in features.index[rule.matches(features)]}
    return found


def classify_by_examples(objects: pd.DataFrame, examples: Mapping[int, str]) -> dict[int, str]:
    """Category by track, by a random forest (scikit-learn, the extra "classes") taught with the tracks in `examples`; they keep theirs.

    Features that are empty for any track are left out. Always the same for the same table.

    Raises
    ------
    LabelsError
        Fewer than two categories, tracks that are not in the table, or scikit-learn not installed.
    """
    features = compute_track_features(objects).dropna(axis=1)
    unknown = sorted(set(examples) - set(features.index))
    if unknown or len(set(examples.values())) < 2:
        wrong = (
            f"tracks {unknown!r} are not in the table"
            if unknown
            else f"examples of {sorted(set(examples.values()))!r} alone"
        )
        raise LabelsError(f"{wrong}: expected tracks of the table, of at least two categories")
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise LabelsError(
            'a classifier needs scikit-learn: pip install "napari-sam2[classes]"'
        ) from error
    forest = RandomForestClassifier(n_estimators=_N_TREES, random_state=0, class_weight="balanced")
    forest.fit(features.loc[list(examples)].to_numpy(), np.array(list(examples.values())))
    told = forest.predict(features.to_numpy())
    return {
        int(track): str(category) for track, category in zip(features.index, told, strict=True)
    } | dict(examples)


def set_categories(table: pd.DataFrame, categories: Mapping[int, str]) -> pd.DataFrame:
    """The table `objects` or `tracks` with these categories, by track; the others keep theirs."""
    new = table["track"].map(dict(categories)).astype("string")
    return table.assign(category=new.fillna(table["category"]).astype("string"))


def _get_categories(objects: pd.DataFrame) -> dict[int, str]:
    first = objects.groupby("track")["category"].first().fillna("")
    return {int(str(track)): str(category) for track, category in first.items()}
