"""Names of the package: functions begin with a verb, and a class name stands once."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "napari_sam2"

IRREGULAR = frozenset(
    [
        "begun",
        "bought",
        "bound",
        "brought",
        "built",
        "caught",
        "chosen",
        "cut",
        "done",
        "drawn",
        "driven",
        "fed",
        "felt",
        "found",
        "given",
        "gone",
        "grown",
        "had",
        "heard",
        "held",
        "hidden",
        "kept",
        "known",
        "laid",
        "left",
        "lent",
        "lit",
        "lost",
        "made",
        "meant",
        "met",
        "paid",
        "put",
        "said",
        "seen",
        "sent",
        "set",
        "shown",
        "sold",
        "sought",
        "spent",
        "split",
        "spoken",
        "spread",
        "stood",
        "taken",
        "taught",
        "thought",
        "thrown",
        "told",
        "understood",
        "woken",
        "won",
        "worn",
        "written",
    ]
)
"""Past participles that do not end in -ed."""

VERBS = frozenset(
    {"cut", "embed", "feed", "need", "proceed", "put", "set", "shed", "speed", "split"}
)
"""Words of that form that are verbs as they stand."""


def is_participle(name: str) -> bool:
    """Whether a name is one word and a past participle: "kept", "settled"."""
    word = name.strip("_")
    return "_" not in word and word not in VERBS and (word.endswith("ed") or word in IRREGULAR)


def test_functions_begin_with_a_verb() -> None:
    named = [
        f"{path.relative_to(PACKAGE)}:{function.lineno} {function.name}"
        for path, function in _find_functions()
        if not _is_attribute(function) and is_participle(function.name)
    ]
    assert named == []


def test_class_name_stands_once() -> None:
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_participles_are_recognised() -> None:
    names = (
        "kept",
        "_settled",
        "found",
        "find_tracks",
        "split",
        "set_frame",
        "propagate",
        "shared",
    )
    assert [is_participle(name) for name in names] == [True, True, True, *[False] * 4, True]


def _find_functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def _is_attribute(function: ast.FunctionDef) -> bool:
    """Properties are adjectives where they say how something is: `finished`."""
    return any("property" in ast.unparse(each) for each in function.decorator_list)
