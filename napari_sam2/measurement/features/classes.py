"""Classes: a category for each track, by rules on its features or by a trained classifier."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.files.extras import CLASSES, import_extra

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
    """The conditions that a track of a category fulfils, each (feature, operator, number)."""

    category: str
    conditions: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, category: str, text: str) -> CategoryRule:
        """Parse a rule like ``area_px > 500 and mean_c1 < 1e3``.

        Raises MeasurementError if the text is not a rule.
        """
        conditions = []
        for part in re.split(r"\band\b", text):
            match = _CONDITION.fullmatch(part)
            if match is None:
                raise MeasurementError(
                    f"rule {text!r} for {category!r}: expected conditions like 'area_px > 500', "
                    "joined by 'and'"
                )
            conditions.append((match[1], match[2], float(match[3])))
        return cls(category, tuple(conditions))

    def matches(self, features: pd.DataFrame) -> pd.Series[bool]:
        """Whether each row fulfils all conditions; an empty feature fulfils none.

        Raises MeasurementError if a feature is not in the table.
        """
        unknown = [name for name, _, _ in self.conditions if name not in features.columns]
        if unknown:
            raise MeasurementError(
                f"rule for {self.category!r} uses {unknown!r}: expected some of "
                f"{list(features.columns)!r}"
            )
        fulfilled = pd.Series(True, index=features.index)
        for name, sign, number in self.conditions:
            fulfilled &= features[name].notna() & _OPERATORS[sign](features[name], number)
        return fulfilled


def compute_track_features(objects: pd.DataFrame) -> pd.DataFrame:
    """The mean features of each track over its frames, with the index `track`.

    Features are the numeric columns of the table of objects, except identities, positions and the
    score.
    """
    names = [
        name
        for name in objects.columns
        if name not in _NOT_FEATURES and pd.api.types.is_numeric_dtype(objects[name])
    ]
    return objects[names].astype("float64").groupby(objects["track"]).mean()


def classify_by_rules(objects: pd.DataFrame, rules: list[CategoryRule]) -> dict[int, str]:
    """Category by track: that of the first rule that matches, else its present category."""
    features = compute_track_features(objects)
    categories = _get_categories(objects)
    for rule in reversed(rules):
        matching = features.index[rule.matches(features)]
        categories |= {int(track): rule.category for track in matching}
    return categories


def classify_by_examples(objects: pd.DataFrame, examples: Mapping[int, str]) -> dict[int, str]:
    """Category by track, predicted by a random forest that is trained on examples.

    Features that are empty for any track are not used. The result is reproducible.

    Parameters
    ----------
    examples
        Category by track, of at least two categories; these tracks keep their category.

    Raises
    ------
    MeasurementError
        If there are fewer than two categories, or a track is not in the table.
    MissingPackageError
        If the extra "classes" is not installed.
    """
    features = compute_track_features(objects).dropna(axis=1)
    _check_examples(examples, features)
    ensemble = import_extra("sklearn.ensemble", CLASSES, "a classifier")
    forest = ensemble.RandomForestClassifier(
        n_estimators=_N_TREES, random_state=0, class_weight="balanced"
    )
    forest.fit(features.loc[list(examples)].to_numpy(), np.array(list(examples.values())))
    predicted = forest.predict(features.to_numpy())
    categories = zip(features.index, predicted, strict=True)
    return {int(track): str(category) for track, category in categories} | dict(examples)


def _check_examples(examples: Mapping[int, str], features: pd.DataFrame) -> None:
    unknown = sorted(set(examples) - set(features.index))
    categories = sorted(set(examples.values()))
    if unknown:
        problem = f"tracks {unknown!r} are not in the table"
    elif len(categories) < 2:
        problem = f"examples of the categories {categories!r} only"
    else:
        return
    raise MeasurementError(f"{problem}: expected tracks of the table, of at least two categories")


def set_categories(table: pd.DataFrame, categories: Mapping[int, str]) -> pd.DataFrame:
    """The table of objects or tracks with new categories by track; other tracks keep theirs."""
    new = table["track"].map(dict(categories)).astype("string")
    return table.assign(category=new.fillna(table["category"]).astype("string"))


def _get_categories(objects: pd.DataFrame) -> dict[int, str]:
    first = objects.groupby("track")["category"].first().fillna("")
    return {int(str(track)): str(category) for track, category in first.items()}
