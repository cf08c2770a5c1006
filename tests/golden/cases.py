"""The cases: which scene, which options, what a person does. Plain data; no names of the code.

A case is (name, pipeline, scene, options of the scene, options of counting, more). The pipelines:
"headless" (in this process), "folder" (as the command), "job" (a file; `more` says where it is
killed before it is resumed) and "window" (`more` is what a person does).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    """One run of one pipeline."""

    name: str
    pipeline: str
    scene: str
    scene_options: dict[str, Any]
    options: dict[str, Any]
    more: Any = None


_COUNT: list[list[Any]] = [["look"], ["count"]]
_BIG = {"shape": (96, 96), "radius": 12}
_SHORT = {"frames": 4}
_TURNED = {"seeds": "labels", "labels": "turned"}
_VOLUME = {"seeds": "labels", "labels": "truth"}

_HEADLESS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("drifting", "drifting", {}, {}),
    ("touching", "touching", _BIG, {}),
    ("merging alike", "touching", {**_BIG, "alike": True}, {}),
    ("returning", "returning", {}, {}),
    ("dividing", "dividing", {"shape": (96, 96)}, {}),
    ("dividing late", "dividing", {"shape": (96, 96), "at": 7}, {}),
    ("appearing", "appearing", {}, {}),
    ("crossing", "crossing", {}, {}),
    ("twelve bit", "twelve_bit", {}, {}),
    ("z ellipsoids", "ellipsoids", {}, {}),
    ("two channels", "two_channels", _SHORT, {}),
    ("passing", "passing", {}, {}),
    ("passing fast", "passing", {"frames": 6, "speed": 4.0, "noise": 900.0}, {}),
    ("jumping", "jumping", {}, {}),
    ("blank", "blank", {"frames": 3}, {}),
    ("trust model drifting", "drifting", {}, {"trust": "model"}),
    ("trust model appearing", "appearing", {}, {"trust": "model"}),
    ("trust model merging", "touching", {**_BIG, "alike": True}, {"trust": "model"}),
    ("trust model returning", "returning", {}, {"trust": "model"}),
    ("trust model dividing", "dividing", {}, {"trust": "model"}),
    ("trust model crossing", "crossing", {}, {"trust": "model", "least": 4}),
    ("trust model z", "ellipsoids", {}, {"trust": "model"}),
    ("trust model points", "appearing", {}, {"trust": "model", "kind": "point"}),
    ("bodies boxes", "drifting", _SHORT, {"seeds": "bodies", "kind": "box"}),
    ("bodies points", "drifting", _SHORT, {"seeds": "bodies", "kind": "point"}),
    ("points that appear", "appearing", {}, {"kind": "point"}),
    ("boxes that divide", "dividing", {"shape": (96, 96)}, {"kind": "box"}),
    ("z boxes", "ellipsoids", {}, {"kind": "box"}),
    ("blobs", "drifting", _SHORT, {"seeds": "blobs"}),
    ("peaks", "drifting", _SHORT, {"seeds": "peaks"}),
    ("blobs along z", "ellipsoids", {"slices": 8}, {"seeds": "blobs"}),
    ("grid", "drifting", {"frames": 3}, {"seeds": "grid"}),
    ("everything", "drifting", {"frames": 2}, {"seeds": "everything"}),
    ("grid of the model", "drifting", {"frames": 3}, {"seeds": "grid", "trust": "model"}),
    ("labels", "drifting", _SHORT, {"labels": "truth"}),
    ("labels in boxes", "drifting", _SHORT, {"labels": "turned", "kind": "box"}),
    ("labels turned", "crossing", {}, {"labels": "turned"}),
    ("labels sparse", "appearing", {}, {"labels": "sparse"}),
    ("labels with a gap", "drifting", {}, {"labels": "gap:2:4"}),
    ("labels turned with a gap", "drifting", {}, {"labels": "turned-gap:2:4:5"}),
    (
        "a gap longer than patience",
        "drifting",
        {},
        {"labels": "turned-gap:2:4:5:6", "patience": 1},
    ),
    ("a gap and no patience", "drifting", {}, {"labels": "turned-gap:2:4", "patience": 0}),
    ("a gap and much patience", "drifting", {}, {"labels": "turned-gap:2:3:4:5:6", "patience": 5}),
    ("merged for a while", "touching", _BIG, {"labels": "merged:4:6"}),
    ("merged to the end", "touching", _BIG, {"labels": "merged:4:8"}),
    ("merged always", "touching", _BIG, {"labels": "merged:0:8"}),
    ("cut in two for a while", "drifting", {"count": 1, "shape": (96, 96)}, {"labels": "halved:3"}),
    ("labels along z", "ellipsoids", {}, {"labels": "truth"}),
    ("labels turned along z", "ellipsoids", {}, {"labels": "turned"}),
    ("labels of the model", "appearing", {}, {"labels": "truth", "trust": "model"}),
    ("turned labels of the model", "appearing", {}, {"labels": "turned", "trust": "model"}),
    ("least 1", "appearing", {}, {"least": 1}),
    ("least 5", "appearing", {}, {"least": 5}),
    ("least along z", "ellipsoids", {}, {"least": 7}),
    ("diameter", "drifting", _SHORT, {"diameter_px": 19.0}),
    ("diameter that is wrong", "drifting", _SHORT, {"diameter_px": 9.0}),
    ("diameter in µm", "drifting", _SHORT, {"diameter_um": 9.5}),
    ("bright", "drifting", _SHORT, {"dark": False}),
    ("dark", "drifting", {"frames": 3}, {"dark": True}),
    ("category", "dividing", {"shape": (96, 96)}, {"category": "nucleus"}),
    ("rules", "appearing", {}, {"rules": {"bright": "mean_c0 > 40000", "dim": "mean_c0 <= 40000"}}),
    (
        "rules and a category",
        "drifting",
        _SHORT,
        {"category": "cell", "rules": {"bright": "mean_c0 > 40000"}},
    ),
]

_FOLDERS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("dividing", "dividing", {"shape": (96, 96)}, {"category": "nucleus"}),
    ("two channels and rules", "two_channels", {"frames": 3}, {"rules": {"a": "mean_c1 > 1000"}}),
]

_GAPS = {
    "labels": "turned-gap:2:3:4:5:6",
    "patience": 5,
    "rules": {"bright": "mean_c0 > 45000"},
}
_JOBS: list[tuple[str, str, dict[str, Any], dict[str, Any], str]] = [
    ("whole", "drifting", {}, _GAPS, ""),
    ("killed while it looked", "drifting", {}, _GAPS, "look:3"),
    ("killed while it carried", "drifting", {}, _GAPS, "carry:2"),
    ("killed while it wrote", "drifting", {}, _GAPS, "write"),
    ("a volume killed", "ellipsoids", {}, {"labels": "gap:1:6", "category": "e"}, "carry:1"),
    ("trust model killed", "appearing", {"frames": 6}, {"trust": "model"}, "look:2"),
]

_WINDOWS: list[tuple[str, str, dict[str, Any], dict[str, Any], list[list[Any]]]] = [
    ("drifting", "drifting", {}, {}, _COUNT),
    ("touching", "touching", _BIG, {}, _COUNT),
    ("merging alike", "touching", {**_BIG, "alike": True}, {}, _COUNT),
    ("returning", "returning", {}, {}, _COUNT),
    ("dividing", "dividing", {"shape": (96, 96)}, {}, [["look"], ["count", "nucleus"]]),
    ("appearing", "appearing", {}, {}, _COUNT),
    ("crossing", "crossing", {}, {}, _COUNT),
    ("passing", "passing", {}, {}, _COUNT),
    ("z ellipsoids", "ellipsoids", {}, {}, _COUNT),
    ("blank", "drifting", {"frames": 3}, {"dark": True}, _COUNT),
    ("boxes", "drifting", _SHORT, {"kind": "box"}, _COUNT),
    ("points", "appearing", {}, {"kind": "point"}, _COUNT),
    ("blobs", "drifting", _SHORT, {"seeds": "blobs"}, _COUNT),
    ("peaks", "drifting", _SHORT, {"seeds": "peaks"}, _COUNT),
    ("grid", "drifting", {"frames": 3}, {"seeds": "grid"}, _COUNT),
    ("everything", "drifting", {"frames": 2}, {"seeds": "everything"}, _COUNT),
    ("diameter", "drifting", _SHORT, {"diameter_px": 19.0, "least": 3, "patience": 1}, _COUNT),
    ("labels", "drifting", _SHORT, _VOLUME, _COUNT),
    ("labels turned", "crossing", {}, _TURNED, _COUNT),
    ("labels with a gap", "drifting", {}, {"seeds": "labels", "labels": "gap:2:4"}, _COUNT),
    ("merged for a while", "touching", _BIG, {"seeds": "labels", "labels": "merged:4:6"}, _COUNT),
    ("merged to the end", "touching", _BIG, {"seeds": "labels", "labels": "merged:4:8"}, _COUNT),
    ("labels turned along z", "ellipsoids", {}, _TURNED, _COUNT),
    ("trust model", "appearing", {}, {"trust": "model"}, [["look"], ["count", "cell"]]),
    ("trust model from frame 5", "appearing", {}, {"trust": "model", "frame": 5}, _COUNT),
    ("trust model z", "ellipsoids", {}, {"trust": "model", "frame": 6}, _COUNT),
    ("trust model merging", "touching", {**_BIG, "alike": True}, {"trust": "model"}, _COUNT),
    ("trust model returning", "returning", {}, {"trust": "model", "least": 4}, _COUNT),
    (
        "trust model, seeds edited",
        "drifting",
        {},
        {"trust": "model"},
        [["look"], ["delete", 1], ["move", 2, 1.0, 2.0], ["add_at", 0, 3.0, 60.0], ["count"]],
    ),
    (
        "trust model on what is known",
        "drifting",
        {},
        {"trust": "model"},
        [["click", 2, 3, 1], ["propagate"], ["look"], ["count"]],
    ),
    (
        "trust model stopped",
        "drifting",
        {},
        {"trust": "model"},
        [["look"], ["count", "", 6], ["propagate"]],
    ),
    ("an object deleted", "drifting", {}, _TURNED, [["look"], ["delete_object", 2], ["count"]]),
    ("a slice deleted", "drifting", {}, _TURNED, [["look"], ["delete_frame", 4], ["count"]]),
    (
        "an object of a volume deleted",
        "drifting",
        {},
        _VOLUME,
        [["look"], ["delete_object", 2], ["count"]],
    ),
    (
        "a slice of a volume deleted",
        "ellipsoids",
        {},
        _VOLUME,
        [["look"], ["delete_frame", 6], ["count"]],
    ),
    (
        "an object added by hand",
        "drifting",
        {},
        _TURNED,
        [["look"], ["delete_object", 2], ["add", 2, 5], ["count", "cell"]],
    ),
    (
        "an object of a volume added by hand",
        "drifting",
        {},
        _VOLUME,
        [["look"], ["delete_object", 2], ["add", 2, 5], ["count"]],
    ),
    (
        "seeds moved, copied, added and deleted",
        "drifting",
        {},
        {},
        [
            ["look"],
            ["move", 1, 2.0, -3.0],
            ["move", 5, 0.3, 0.3],
            ["copy", 4, 2.0, 0.0],
            ["delete", 8, 9],
            ["add", 3, 7],
            ["add_at", 2, -4.0, 80.0],
            ["shuffle"],
            ["count"],
        ],
    ),
    ("all deleted", "drifting", _SHORT, {}, [["look"], ["delete", *range(1, 99)], ["count"]]),
    (
        "objects that are known",
        "drifting",
        {},
        _TURNED,
        [
            ["name", 1, "mine", "cell"],
            ["click", 2, 0, 1],
            ["mask", 2, 5, 1, True],
            ["lock", 1, 5],
            ["look"],
            ["count", "nucleus"],
        ],
    ),
    (
        "objects of a volume that are known",
        "drifting",
        {},
        _VOLUME,
        [["click", 2, 0, 1], ["mask", 2, 5, 1, True], ["look"], ["count"]],
    ),
    (
        "objects that were carried",
        "drifting",
        {},
        {},
        [["click", 2, 4, 5], ["box", 3, 2, 7], ["propagate"], ["look"], ["count"]],
    ),
    (
        "objects that were carried in part",
        "appearing",
        {},
        _TURNED,
        [["click", 1, 2, 3], ["propagate", 0, 5], ["look"], ["count"]],
    ),
    (
        "an object that was removed",
        "drifting",
        {},
        {},
        [["click", 2, 0, 1], ["propagate"], ["remove", 1], ["look"], ["count"]],
    ),
    (
        "a division that is known in part",
        "dividing",
        {"shape": (96, 96)},
        {},
        [["click", 2, 5, 4], ["propagate", 5, 8], ["look"], ["count"]],
    ),
    (
        "counting twice",
        "drifting",
        {},
        {},
        [["look"], ["count", "first"], ["look"], ["count", "second"]],
    ),
    (
        "counting twice, other seeds",
        "appearing",
        {},
        {},
        [["look"], ["delete_object", 3], ["count"], ["look_again", _TURNED], ["count", "late"]],
    ),
    (
        "a volume after a count",
        "ellipsoids",
        {},
        {},
        [["look"], ["delete_object", 2], ["count"], ["look_again", _VOLUME], ["count"]],
    ),
    (
        "the model after a count",
        "appearing",
        {},
        {},
        [["look"], ["delete_object", 2], ["count"], ["look_again", {"trust": "model"}], ["count"]],
    ),
    (
        "examples",
        "drifting",
        {"count": 4, "frames": 4},
        {"seeds": "examples"},
        [["mask", 1, 0, 1], ["click", 2, 1, 2], ["look"], ["count"]],
    ),
    (
        "examples in boxes",
        "drifting",
        {"count": 4, "frames": 4},
        {"seeds": "examples", "kind": "box"},
        [["mask", 1, 0, 1], ["look"], ["count"]],
    ),
    (
        "examples and the model",
        "drifting",
        {"count": 4, "frames": 4},
        {"seeds": "examples", "trust": "model"},
        [["mask", 1, 0, 1], ["look"], ["count", "same"]],
    ),
    (
        "undone and done again",
        "drifting",
        {},
        {"seeds": "labels", "labels": "gap:2:4"},
        [["look"], ["count", "cell"], ["undo"], ["redo"]],
    ),
    (
        "the model undone and done again",
        "appearing",
        {},
        {"trust": "model"},
        [["look"], ["count"], ["undo"], ["undo"], ["undo"], ["redo"], ["redo"], ["redo"]],
    ),
    (
        "stopped while it looked",
        "drifting",
        {},
        {},
        [["look", 4], ["count"]],
    ),
    (
        "stopped while it joined",
        "drifting",
        {},
        {},
        [["click", 1, 0, 1], ["look"], ["count", "", 5], ["undo"]],
    ),
    (
        "stopped while it told",
        "drifting",
        {},
        {},
        [["click", 1, 0, 1], ["look"], ["count", "", 11]],
    ),
    (
        "stopped while it carried, and on",
        "drifting",
        {},
        {"seeds": "labels", "labels": "turned-gap:2:3:4:5:6", "patience": 5},
        [["look"], ["count", "", 18], ["propagate"]],
    ),
    (
        "saved",
        "dividing",
        {"shape": (96, 96)},
        {},
        [["look"], ["count", "nucleus"], ["save"]],
    ),
]

_WRONG: list[tuple[str, str, dict[str, Any], Any]] = [
    ("unknown seeds", "headless", {"seeds": "magic"}, None),
    ("unknown trust", "headless", {"trust": "luck"}, None),
    ("unknown option", "headless", {"colour": 1}, None),
    ("negative diameter", "headless", {"diameter_px": -1}, None),
    ("two diameters", "headless", {"diameter_px": 9, "diameter_um": 9}, None),
    ("rule on nothing", "headless", {"rules": {"large": "size > 3"}}, None),
    ("examples of nothing", "headless", {"seeds": "examples"}, None),
    ("labels of nothing", "window", {"seeds": "labels"}, [["look"]]),
    ("no examples", "window", {"seeds": "examples"}, [["look"]]),
    ("counting before looking", "window", {}, [["count"]]),
]

CASES: list[Case] = [
    *(Case(f"headless: {name}", "headless", *rest) for name, *rest in _HEADLESS),
    *(Case(f"folder: {name}", "folder", *rest) for name, *rest in _FOLDERS),
    *(Case(f"job: {name}", "job", *rest) for name, *rest in _JOBS),
    *(Case(f"window: {name}", "window", *rest) for name, *rest in _WINDOWS),
]

WRONG: list[Case] = [
    Case(name, pipeline, "drifting", {"frames": 2}, options, more)
    for name, pipeline, options, more in _WRONG
]
