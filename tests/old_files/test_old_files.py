"""Files that an old version wrote are opened by this one, and give what they gave then.

See `make` for how they were made. What the model in NumPy answered is compared exactly, what the
embedded one did by IoU, for its sums differ between processors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from tests.old_files import current
from tests.old_files.runs import COUNT, TRACK

DATA = Path(__file__).parent / "data"
GAVE: dict[str, Any] = json.loads((DATA / "gave.json").read_text(encoding="utf-8"))
TABLES = ("objects", "tracks", "counts")
RUNS = {"track": TRACK, "count": COUNT}
LEAST_IOU = 0.98
NEW_ATTENTION = {"whole": "global", "near": "local"}
"""Values that were renamed; the old ones are read."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, in the working folder: opening some of them writes beside them."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module", params=RUNS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nothing interrupts, made now; the folder is named by the run."""
    folder = tmp_path_factory.mktemp("whole")
    for path in DATA.glob("*.*"):
        shutil.copy(path, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        current.run({**RUNS[request.param], "out": request.param})
    return folder / request.param


def read_labels(name: str) -> np.ndarray:
    """Labels as the old version gave them."""
    with np.load(DATA / "gave.npz") as arrays:
        return np.asarray(arrays[name])


def assert_alike(labels: np.ndarray, expected: np.ndarray) -> None:
    """The same objects on the same frames, nearly the same pixels of each."""
    for frame, (plane, other) in enumerate(zip(labels, expected, strict=True)):
        assert set(np.unique(plane)) == set(np.unique(other)), f"frame {frame}"
        for track in set(np.unique(other)) - {0}:
            one, two = plane == track, other == track
            iou = np.count_nonzero(one & two) / np.count_nonzero(one | two)
            assert iou >= LEAST_IOU, f"object {track} on frame {frame}: IoU {iou:.3f}"


def assert_has(now: Any, then: Any, where: str = "") -> None:
    """All that was there then is there now; fields that were not known then may be there too."""
    if isinstance(then, Mapping):
        assert isinstance(now, Mapping), where
        for key, value in then.items():
            assert key in now, f"{where}.{key}"
            assert_has(now[key], value, f"{where}.{key}")
    elif isinstance(then, list | tuple):
        assert len(now) == len(then), where
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_has(one, other, f"{where}[{number}]")
    elif where.endswith(".attention"):
        assert now == NEW_ATTENTION.get(then, then), where
    elif isinstance(then, str):
        assert str(now).replace("\\", "/") == then, where
    else:
        assert now == pytest.approx(then), where


def assert_same_table(now: pd.DataFrame, path: Path) -> None:
    """A table is the one in a file, to 1e-6."""
    now.to_csv("now.csv", index=False)
    pd.testing.assert_frame_equal(
        pd.read_csv("now.csv"), pd.read_csv(path), check_dtype=False, rtol=1e-6, atol=1e-9
    )


def assert_same_log(text: str, path: Path) -> None:
    """A log, as JSON, is the one in a file."""
    assert json.loads(text) == json.loads(path.read_text(encoding="utf-8"))


def skip_if_nano_changed(sha256: str) -> None:
    """Skip where another model is embedded now than then."""
    if current.find_nano_sha256() != sha256:
        pytest.skip("another nano is embedded than the one these files were made with")


@pytest.fixture
def nano_project(data: Path) -> Path:
    """The project of the embedded model."""
    said = json.loads((data / "project_nano" / "project.json").read_text(encoding="utf-8"))
    skip_if_nano_changed(said["model"]["sha256"])
    return data / "project_nano"


def test_a_project_opens_as_it_was_left(data: Path) -> None:
    model = current.make_toy()
    with current.open_project(data / "project_toy", model) as opened:
        assert not opened.behind and opened.unfinished
        assert opened.view == {"frame": 3, "limits": [0, 50000]}
        assert opened.presence == GAVE["presence_toy"]
        assert_same_log(opened.log, DATA / "project_toy" / "prompts.json")
        np.testing.assert_array_equal(opened.saved, read_labels("toy_saved"))
        np.testing.assert_array_equal(opened.labels, read_labels("toy_left"))
        assert model.calls == [], "nothing is computed again"


def test_a_propagation_that_was_cancelled_goes_on(data: Path) -> None:
    with current.open_project(data / "project_toy", current.make_toy()) as opened:
        before = json.loads(opened.log)
        opened.finish()
        assert not opened.unfinished and json.loads(opened.log) == before
        np.testing.assert_array_equal(opened.labels, read_labels("toy_finished"))
        for name in TABLES:
            assert_same_table(opened.tables[name], DATA / f"project_toy_{name}.csv")
        finished = opened.labels
    with current.open_project(data / "project_toy", current.make_toy()) as again:
        np.testing.assert_array_equal(again.labels, finished)
        np.testing.assert_array_equal(again.saved, finished)


def test_a_project_is_undone_step_by_step(data: Path) -> None:
    with current.open_project(data / "project_toy", current.make_toy()) as opened:
        count = len(json.loads(opened.log)["entries"])
        while count:
            opened.undo()
            left = len(json.loads(opened.log)["entries"])
            assert left < count
            count = left
        assert not opened.labels.any()


def test_a_project_of_the_embedded_model_opens_by_its_hash(nano_project: Path) -> None:
    with current.open_project(nano_project) as opened:
        assert not opened.behind and opened.unfinished
        assert opened.presence == GAVE["presence_nano"]
        assert_same_log(opened.log, DATA / "project_nano" / "prompts.json")
        np.testing.assert_array_equal(opened.saved, read_labels("nano_saved"))
        assert_alike(opened.labels, read_labels("nano_left"))
        opened.finish()
        assert_alike(opened.labels, read_labels("nano_finished"))


def test_a_project_is_replayed_to_the_labels_it_had(data: Path) -> None:
    current.replay_project(data / "project_toy", data / "replayed", current.make_toy())
    found = tifffile.imread(data / "replayed" / "labels.ome.tif")
    np.testing.assert_array_equal(found, read_labels("toy_left"))
    written = (data / "replayed" / "prompts.json").read_text(encoding="utf-8")
    assert_same_log(written, DATA / "project_toy" / "prompts.json")


def test_the_command_replays_a_project_of_the_embedded_model(nano_project: Path) -> None:
    call = ["track", "--project", str(nano_project), "--out", "replayed", "--device", "cpu"]
    assert current.main(call) == 0
    assert_alike(tifffile.imread("replayed/labels.ome.tif"), read_labels("nano_left"))


def test_what_was_made_of_frames_is_not_made_again(data: Path) -> None:
    folder = data / "project_toy"
    frames = current.count_frames_encoded(folder, Path("cells.ome.tif"), folder / "prompts.json")
    assert frames == 0


def test_an_unfinished_run_is_resumed_to_what_a_whole_one_gives(data: Path, whole: Path) -> None:
    positions: list[int] = []
    out, then = data / f"{whole.name}_unfinished", DATA / f"{whole.name}_finished"
    fields = {**RUNS[whole.name], "out": out.name, "resume": True}
    current.run(fields, lambda stepped: positions.append(stepped.position))
    assert positions[0] == 3, "goes on after the second frame"
    assert not (out / ".napari-sam2").exists()
    for table in TABLES:
        assert (out / f"{table}.csv").read_bytes() == (whole / f"{table}.csv").read_bytes()
        assert_same_table(pd.read_csv(out / f"{table}.csv"), then / f"{table}.csv")
    assert (out / "prompts.json").read_bytes() == (whole / "prompts.json").read_bytes()
    assert_same_log((out / "prompts.json").read_text(encoding="utf-8"), then / "prompts.json")
    labels = tifffile.imread(out / "labels.ome.tif")
    np.testing.assert_array_equal(labels, tifffile.imread(then / "labels.ome.tif"))


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_known_to_be_finished(data: Path, name: str) -> None:
    out = data / f"{name}_finished"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    asked: list[Any] = []
    ended = current.run({**RUNS[name], "out": out.name, "resume": True}, asked.append)
    assert "nothing to resume" in ended or "finished" in ended
    assert not asked
    assert {path: path.read_bytes() for path in before} == before
    assert not (out / "overview.png").exists(), "nothing was written"


def test_provenance_says_the_same(whole: Path) -> None:
    now = json.loads((whole / "provenance.json").read_text(encoding="utf-8"))
    path = DATA / f"{whole.name}_finished" / "provenance.json"
    then = json.loads(path.read_text(encoding="utf-8"))
    for changing in ("made", "versions", "notes"):
        assert changing in now
        del then[changing]
    del then["settings"]["job"]["out"]
    assert_has(now, current.rename_values(then))


@pytest.mark.parametrize("name", GAVE["batches"])
def test_a_jobs_file_says_what_it_said(data: Path, name: str) -> None:
    jobs = current.read_batch(Path(f"jobs_{name}.toml"))
    assert_has(jobs, current.rename_values(GAVE["batches"][name]))


@pytest.mark.parametrize("name", GAVE["csv"])
def test_a_prompt_table_says_what_it_said(data: Path, name: str) -> None:
    assert json.loads(current.read_log(data / f"prompts_{name}.csv")) == GAVE["csv"][name]


def test_a_prompt_file_is_written_again_as_it_was(data: Path) -> None:
    path = data / "prompts_all.json"
    assert_same_log(current.read_log(path), path)


def test_a_recipe_says_what_it_said(data: Path) -> None:
    assert_has(current.read_recipe(data / "recipe.toml"), GAVE["recipe"])


@pytest.mark.parametrize("name", GAVE["cards"])
def test_a_card_says_what_it_said(data: Path, name: str) -> None:
    said, written = current.read_card(data / f"card_{name}.safetensors")
    assert_has(json.loads(json.dumps(said)), current.rename_values(GAVE["cards"][name]))
    then = json.loads((data / f"card_{name}.json").read_text("utf-8"))
    assert_has(json.loads(written), current.rename_values(then))
