"""Prompts in CSV files, JSON files and label images."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sam2.core.errors import FileError, LabelsError, PromptError
from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import BoxPrompt, Lock, MaskPrompt, PointPrompt, PromptLog, Removal
from napari_sam2.core.track import Track
from napari_sam2.io.prompts import make_mask_prompts, read_prompts, write_prompts
from napari_sam2.io.prompts_json import format_json_log, parse_json_log

_HEAD = "track,frame,kind,y,x,y2,x2,positive,category\n"


def _write_csv(folder: Path, text: str) -> Path:
    (folder / "p.csv").write_text(text, encoding="utf-8")
    return folder / "p.csv"


@pytest.mark.parametrize(
    ("rows", "entries"),
    [
        ("1,0,point,88,140.5,,,1,\n", (PointPrompt(0, 1, [(88, 140.5)], [True]),)),
        (
            "1,0,point,8,9,,,1,\n2,0,point,5,5,,,1,\n1,0,point,3,4,,,0,\n",
            (
                PointPrompt(0, 1, [(8, 9), (3, 4)], [True, False]),
                PointPrompt(0, 2, [(5, 5)], [True]),
            ),
        ),
        ("3,7,box,1,2,10,20,,\n", (BoxPrompt(7, 3, (1, 2, 10, 20)),)),
        (
            "3,7,point,5,6,,,no,\n3,7,box,1,2,10,20,1,\n",
            (BoxPrompt(7, 3, (1, 2, 10, 20)), PointPrompt(7, 3, [(5, 6)], [False])),
        ),
        (
            "1,5,point,8,9,,,TRUE,\n1,2,Point,8,9,,,,\n",
            (PointPrompt(5, 1, [(8, 9)], [True]), PointPrompt(2, 1, [(8, 9)], [True])),
        ),
        ("1.0,0.0,point,1e1, 9 ,,,1.0,\n\n , ,,,,,,,\n", (PointPrompt(0, 1, [(10, 9)], [True]),)),
    ],
    ids=["click", "clicks of one track", "box", "box and click", "order kept", "spreadsheet"],
)
def test_rows_of_one_track_and_frame_make_one_prompt(
    rows: str, entries: tuple[object, ...], tmp_path: Path
) -> None:
    assert read_prompts(_write_csv(tmp_path, _HEAD + rows)).entries == entries


def test_columns_may_have_any_order_and_the_last_four_are_optional(tmp_path: Path) -> None:
    text = "\ufeffKind, frame,x,y,track\r\npoint,4,2,1,9\r\n"
    assert read_prompts(_write_csv(tmp_path, text)).entries == (
        PointPrompt(4, 9, [(1, 2)], [True]),
    )


def test_categories_describe_tracks(tmp_path: Path) -> None:
    rows = (
        "2,0,point,8,9,,,1,nucleus\n2,3,point,8,9,,,1,\n"
        "1,0,point,1,1,,,1,vesicle\n3,0,point,1,1,,,1,\n"
    )
    log = read_prompts(_write_csv(tmp_path, _HEAD + rows))
    assert log.tracks == (Track(1, category="vesicle"), Track(2, category="nucleus"))
    assert log.get_track(3).category == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (_HEAD, "contains no rows"),
        ("track,frame,kind,y\n1,0,point,5\n", "line 1: lacks the columns x"),
        (
            "track;frame;kind;y;x\n1;0;point;5;5\n",
            "line 1: lacks the columns track.*separated by commas",
        ),
        ("track,frame,kind,y,x,colour\n", "line 1: has unknown or repeated columns 'colour'"),
        ("track,frame,kind,y,x,x\n", "line 1: has unknown or repeated columns 'x'"),
        (_HEAD + "0,0,point,5,5,,,1,\n", "line 2: .*0 is the background"),
        (_HEAD + "-1,0,point,5,5,,,1,\n", "line 2: track is -1"),
        (_HEAD + "1,-2,point,5,5,,,1,\n", "line 2: frame is -2"),
        (
            _HEAD + "1,0,point,5,5,,,1,\n1,0.5,point,5,5,,,1,\n",
            "line 3: frame is '0.5': expected a whole number",
        ),
        (_HEAD + "1,0,point,five,5,,,1,\n", "line 2: y is 'five': expected a number"),
        (_HEAD + "1,0,point,5,,,,1,\n", "line 2: x is '': expected a number"),
        (_HEAD + "1,0,point,nan,5,,,1,\n", "line 2: .*finite"),
        (_HEAD + "inf,0,point,5,5,,,1,\n", "line 2: track is 'inf'"),
        (_HEAD + "1,0,circle,5,5,,,1,\n", "line 2: kind is 'circle'"),
        (_HEAD + "1,0,point,5,5,7,7,1,\n", "line 2: a point with y2 or x2"),
        (_HEAD + "1,0,box,5,5,,,1,\n", "line 2: y2 is ''"),
        (_HEAD + "1,0,box,5,5,4,9,1,\n", "line 2: .*has no area"),
        (_HEAD + "1,0,box,5,5,9,9,0,\n", "line 2: a box that is not positive"),
        (
            _HEAD + "1,0,box,5,5,9,9,1,\n1,0,box,5,5,20,20,1,\n",
            "line 3: a second box for track 1 on frame 0",
        ),
        (_HEAD + "1,0,point,5,5,,,maybe,\n", "line 2: positive is 'maybe'"),
        (
            _HEAD + "1,0,point,5,5,,,1,a\n1,1,point,5,5,,,1,b\n",
            "line 3: category 'b' of track 1, which has the category 'a'",
        ),
        (_HEAD + "1,0,point,5,5\n", "line 2: has 5 cells: expected 9"),
        (_HEAD + "99999999999,0,point,5,5,,,1,\n", "line 2: .*4294967295"),
    ],
)
def test_invalid_row_raises_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=f"p.csv.*{message}") as caught:
        read_prompts(_write_csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_without_prompts_raise(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.csv: No such file"):
        read_prompts(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match="directory"):
        read_prompts(tmp_path / "folder.csv")
    with pytest.raises(PromptError, match=r"\.csv or \.json"):
        read_prompts(tmp_path / "p.xlsx")
    (tmp_path / "latin.csv").write_bytes(
        _HEAD.encode() + "1,0,point,5,5,,,1,Zähler\n".encode("latin-1")
    )
    with pytest.raises(FileError, match="UTF-8"):
        read_prompts(tmp_path / "latin.csv")


_NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
_PLACES = {"frame": st.integers(0, 10_000), "track": st.integers(1, 2**32 - 1)}
_POINTS = st.lists(st.tuples(st.tuples(_NUMBERS, _NUMBERS), st.booleans()), min_size=1, max_size=4)
_ENTRIES = st.one_of(
    st.builds(
        lambda points, **place: PointPrompt(
            **place, yx=[yx for yx, _ in points], positive=[p for _, p in points]
        ),
        points=_POINTS,
        **_PLACES,
    ),
    st.builds(
        lambda y, x, **place: BoxPrompt(**place, box=(y, x, y + 1, x + 2.5)),
        y=_NUMBERS,
        x=_NUMBERS,
        **_PLACES,
    ),
    st.builds(
        MaskPrompt,
        mask=arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))).filter(np.any),
        **_PLACES,
    ),
    st.builds(Lock, locked=st.booleans(), **_PLACES),
    st.builds(
        lambda ranges: Propagation(tuple(PropagationRange(*each) for each in ranges)),
        st.lists(
            st.tuples(
                st.integers(1, 2**32 - 1), st.integers(0, 99), st.integers(0, 99), st.booleans()
            ),
            max_size=4,
        ),
    ),
)
_TRACKS = st.builds(
    Track,
    id=st.integers(1, 50),
    name=st.text(max_size=9),
    category=st.text(max_size=9),
    parent=st.none() | st.integers(51, 99),
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(entries=st.lists(_ENTRIES, max_size=6), tracks=st.lists(_TRACKS, max_size=3))
def test_any_log_survives_json(entries: list[object], tracks: list[Track]) -> None:
    log = PromptLog(tuple(entries), tuple(tracks))  # type: ignore[arg-type]
    assert parse_json_log(format_json_log(log), "x") == log


def test_log_survives_writing_and_reading(tmp_path: Path) -> None:
    log = PromptLog(
        (
            PointPrompt(0, 1, [(88, 140)], [True]),
            Propagation((PropagationRange(1, 0, 5),)),
            Lock(3, 1),
            Removal(2),
        ),
        (Track(1, "A", "nucleus"),),
    )
    write_prompts(log, tmp_path / "prompts.json")
    assert read_prompts(tmp_path / "prompts.json") == log
    write_prompts(PromptLog(), tmp_path / "prompts.json")
    assert read_prompts(tmp_path / "prompts.json") == PromptLog()
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.json"]


def test_mask_is_compressed(tmp_path: Path) -> None:
    mask = np.zeros((2000, 2000), bool)
    mask[500:1500, 700:900] = True
    write_prompts(PromptLog((MaskPrompt(0, 1, mask),)), tmp_path / "p.json")
    assert (tmp_path / "p.json").stat().st_size < 3000


_GOOD = {
    "format": "napari-sam2 prompts",
    "version": 1,
    "entries": [
        {"frame": 0, "track": 1, "kind": "point", "yx": [[1.0, 2.0]], "positive": [True]},
        {
            "frame": 0,
            "track": 2,
            "kind": "mask",
            "shape": [2, 3],
            "bits": base64.b64encode(zlib.compress(b"\xa4")).decode(),
        },
    ],
    "tracks": [{"id": 1, "category": "nucleus"}],
}


def _change_json(*path: object, to: object) -> str:
    data = json.loads(json.dumps(_GOOD))
    here = data
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = to
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON.*line 1"),
        ("[]", "p.json"),
        (_change_json("version", to=2), "version: Input should be 1, got 2"),
        (_change_json("format", to="else"), "format"),
        (_change_json("colour", to=1), "colour: Extra inputs are not permitted"),
        (
            _change_json("entries", 0, "obj_idx", to=1),
            r"entries\.0\.point\.obj_idx: Extra inputs are not permitted",
        ),
        (_change_json("entries", 0, "kind", to="circle"), r"entries\.0.*circle"),
        (
            _change_json("entries", 0, "track", to=0),
            r"entries\.0\.point\.track: .*greater than 0, got 0",
        ),
        (_change_json("entries", 0, "track", to="1"), r"entries\.0\.point\.track"),
        (_change_json("entries", 0, "frame", to=-1), r"entries\.0\.point\.frame"),
        (_change_json("entries", 0, "positive", to=[]), r"entries\.0: .*one flag for each"),
        (
            _change_json("entries", 1, "bits", to="!"),
            r"entries\.1: the bits of a mask cannot be read",
        ),
        (
            _change_json("entries", 1, "bits", to="AAAA"),
            r"entries\.1: the bits of a mask cannot be read",
        ),
        (
            _change_json("entries", 1, "shape", to=[2000, 3000]),
            r"entries\.1: a mask of shape \(2000, 3000\) with 1 bytes of bits",
        ),
        (_change_json("entries", 1, "shape", to=[0, 3]), r"entries\.1\.mask\.shape"),
        (_change_json("tracks", 0, "parent", to=1), "tracks: .*its own parent"),
    ],
)
def test_invalid_json_raises_with_the_entry(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(_GOOD))
    assert len(read_prompts(tmp_path / "p.json")) == 2
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(PromptError, match=message) as caught:
        read_prompts(tmp_path / "p.json")
    assert "\n" not in str(caught.value) and "p.json" in str(caught.value)


def test_each_label_becomes_a_mask_prompt() -> None:
    labels = np.zeros((6, 8), np.uint16)
    labels[1:3, 1:4], labels[4, 5:] = 7, 300
    log = make_mask_prompts(labels, 4)
    assert log.entries == (MaskPrompt(4, 7, labels == 7), MaskPrompt(4, 300, labels == 300))


def test_real_labels_become_mask_prompts(shared_folder: Path) -> None:
    labels = tifffile.imread(shared_folder / "data" / "zstack_and_2d_stardist" / "mask2d.tif")
    log = make_mask_prompts(labels, 0)
    assert len(log) == 125
    masks = [prompt.mask for prompt in log.prompts if isinstance(prompt, MaskPrompt)]
    assert sum(int(mask.sum()) for mask in masks) == np.count_nonzero(labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((4, 4), np.float32), "expected a label plane of whole numbers"),
        (np.ones((2, 4, 4), np.uint8), "expected a label plane"),
        (np.full((4, 4), -3), "contains the label -3"),
        (np.zeros((4, 4), np.uint8), "contains no labels"),
    ],
    ids=["float", "stack", "negative", "empty"],
)
def test_invalid_label_plane_raises(labels: np.ndarray, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        make_mask_prompts(labels, 0)
