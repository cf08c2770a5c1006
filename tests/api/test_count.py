"""Counting: exact scenes with the toy model, wrong input, and real nuclei with nano."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2.api.count import CountingOptions, CountResult, count, count_video
from napari_sam2.api.evaluation import evaluate_files
from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.errors import IntensityError, LabelsError, MeasurementError, PlanError
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.stack import Stack
from napari_sam2.measurement import evaluate
from napari_sam2.testing.scenes import (
    Scene,
    make_appearing_scene,
    make_blank_scene,
    make_dividing_scene,
    make_drifting_scene,
    make_ellipsoid_scene,
    make_touching_scene,
)
from napari_sam2.testing.toy import ToyModel

LARGE = {"shape": (128, 128)}


def counted(scene: Scene, **options: object) -> CountResult:
    chosen = {"seeds": "classical", **options}  # what is tested is what comes after
    found = count(scene.stack, model=ToyModel(), channel=0, **chosen)
    assert isinstance(found, CountResult)
    return found


@pytest.mark.parametrize("trust", ["seeds", "model"])
@pytest.mark.parametrize(
    "scene",
    [
        make_drifting_scene(**LARGE),
        make_touching_scene(**LARGE, radius=16),
        make_ellipsoid_scene(**LARGE, slices=20),
    ],
    ids=str,
)
def test_every_object_is_one_track_of_its_own(scene, trust):
    found = counted(scene, association=trust)
    with found.session:
        agreement = evaluate(found.run.labels.compute(), scene.labels, tracks=True)
        assert agreement.track_count_error == 0
        assert agreement.overall["track_iou"] > 0.9
        assert found.run.counts["n"].iloc[-1] == len(scene.tracks)


def test_later_objects_are_detected_when_they_appear():
    scene = make_appearing_scene(**LARGE)
    found = counted(scene)
    with found.session:
        tracks = found.run.tracks
    assert sorted(tracks["first_frame"]) == [scene.find_frames(track)[0] for track in scene.tracks]


def test_division_ends_the_parent_and_begins_two_daughters():
    scene = make_dividing_scene(**LARGE, division_frame=4)
    found = counted(scene)
    with found.session:
        tracks = found.run.tracks.set_index("track")
    assert len(tracks) == 3
    parent = tracks.index[tracks["fate"] == "division"].tolist()
    assert tracks.loc[parent, ["first_frame", "last_frame"]].to_numpy().tolist() == [[0, 3]]
    assert tracks.loc[tracks["origin"] == "division", "parent"].tolist() == parent * 2


def from_planes(planes: np.ndarray) -> type[CountingOptions]:
    """Counting whose seeds are the objects of these label planes, identities unknown."""

    class Drawn:
        name = "drawn"

        def detect(self, video, frame, *, first_track=1, occupied=None):
            ids = [label for label in np.unique(planes[frame]) if label]
            return [
                MaskPrompt(frame, first_track + number, planes[frame] == label)
                for number, label in enumerate(ids)
            ]

    class FromPlanes(CountingOptions):
        def open_detector(self, video, model):
            return Drawn()

    return FromPlanes


@pytest.mark.parametrize(
    ("together", "tracks"),
    [(range(4, 6), 2), (range(4, 10), 2), (range(10), 1)],
    ids=["for a while", "to the end", "always"],
)
def test_merged_objects_stay_two_if_they_were_seen_apart(together, tracks):
    scene = make_touching_scene(**LARGE, radius=16)
    planes = np.where(
        np.isin(np.arange(10), together)[:, None, None], scene.labels > 0, scene.labels
    )
    found = count_video(scene.video, ToyModel(), from_planes(planes)())
    with found.session:
        assert len(found.run.tracks) == tracks
        if together == range(4, 6):
            assert (
                evaluate(found.run.labels.compute(), scene.labels, tracks=True).overall["track_iou"]
                > 0.9
            )


def test_object_split_for_a_while_is_one_again():
    scene = make_drifting_scene(count=1, frames=10, **LARGE)
    planes = scene.labels.copy()
    for frame in range(3):  # its right half is an object of its own
        middle = round(float(np.nonzero(planes[frame])[1].mean()))
        planes[frame][:, middle:] *= 2
    found = count_video(scene.video, ToyModel(), from_planes(planes)())
    with found.session:
        for frame in range(3, 10):
            assert len(np.unique(found.session.compute_label_plane(frame))) == 2, frame
        np.testing.assert_array_equal(found.session.compute_label_plane(3) > 0, scene.labels[3] > 0)


@pytest.mark.parametrize("kind", ["point", "box"])
def test_two_seeds_on_one_object_are_one(kind):
    scene = make_drifting_scene(count=2, frames=3, **LARGE)

    class Twice:
        name = "twice"

        def detect(self, video, frame, *, first_track=1, occupied=None):
            found = []
            for label in scene.tracks * 2:
                y, x = np.argwhere(scene.labels[frame] == label).mean(axis=0).round()
                number = first_track + len(found)
                box = BoxPrompt(frame, number, (y - 18, x - 18, y + 18, x + 18))
                found.append(
                    PointPrompt(frame, number, [(y, x)], [True]) if kind == "point" else box
                )
            return found

    class FromTwice(CountingOptions):
        def open_detector(self, video, model):
            return Twice()

    found = count_video(scene.video, ToyModel(), FromTwice())
    with found.session:
        assert len(found.run.tracks) == 2


def test_object_missed_on_one_frame_is_propagated_over_it():
    scene = make_drifting_scene(count=2, frames=6, **LARGE)
    labels = scene.labels.copy()
    labels[3][labels[3] == 1] = 0

    result = count_video(scene.video, ToyModel(), from_planes(labels)())
    with result.session:
        np.testing.assert_array_equal(
            result.session.compute_label_plane(3) > 0, scene.labels[3] > 0
        )
        assert len(result.run.tracks) == 2


def test_counted_objects_can_be_corrected():
    scene = make_drifting_scene(count=2, frames=4, **LARGE)
    found = counted(scene)
    with found.session as session:
        assert {type(prompt) for prompt in session.log.prompts} == {MaskPrompt}
        before = session.compute_label_plane(2)
        session.prompt(PointPrompt(2, 1, [(2.0, 2.0)], [False]))
        assert session.undo()
        np.testing.assert_array_equal(session.compute_label_plane(2), before)


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_all_kinds_of_prompts_count_the_same(kind):
    scene = make_drifting_scene(count=3, frames=4, **LARGE)
    found = counted(scene, kind=kind)
    with found.session:
        assert (
            evaluate(found.run.labels.compute(), scene.labels, tracks=True).overall["track_iou"]
            > 0.9
        )


@pytest.mark.parametrize("seeds", ["grid", "blobs", "peaks"])
def test_other_detectors_count_the_same(seeds):
    scene = make_drifting_scene(count=3, frames=3, **LARGE)
    found = counted(scene, seeds=seeds, kind="point" if seeds != "grid" else "mask")
    with found.session:
        assert len(found.run.tracks) == 3


def test_labels_of_another_tool_are_seeds_too(tmp_path):
    scene = make_drifting_scene(count=3, frames=4, **LARGE)
    path = tmp_path / "labels.ome.tif"
    tifffile.imwrite(path, scene.labels * 30_000, metadata={"axes": "TYX"}, ome=True)
    found = counted(scene, seeds=str(path))
    with found.session:
        np.testing.assert_array_equal(found.run.labels.compute() > 0, scene.labels > 0)


@pytest.mark.parametrize("level", [0.0, 300.0], ids=["the same everywhere", "noise alone"])
def test_empty_image_gives_zero_counts_and_valid_tables(tmp_path, level):
    data = (
        np.random.default_rng(0).normal(1000, level, (3, 64, 64)).clip(0, 65535).astype(np.uint16)
    )
    outcome = count(Stack(data, "tyx"), model=ToyModel(), out=tmp_path / "out")
    assert outcome.counts["n"].tolist() == [0, 0, 0, 0]
    assert len(outcome.tracks) == len(outcome.objects) == 0
    assert "spots_c0" in outcome.objects.columns and "parent" in outcome.tracks.columns
    assert outcome.summary.startswith("0 objects")
    assert (tmp_path / "out" / "provenance.json").exists()


def test_image_of_nan_is_an_error():
    data = np.zeros((2, 32, 32), np.float32)
    data[0, 3, 3] = np.nan
    with pytest.raises(IntensityError, match="NaN"):
        count(Stack(data, "tyx"), model=ToyModel())


def test_missing_spacing_is_noted_and_leaves_columns_in_um_empty(tmp_path):
    scene = make_drifting_scene(count=2, frames=2, **LARGE)
    outcome = count(Stack(scene.stack.data, "tyx"), model=ToyModel(), out=tmp_path)
    assert any("sizes are in pixels" in note for note in outcome.notes)
    assert outcome.objects["area_um2"].isna().all() and outcome.objects["area_px"].notna().all()


def test_category_applies_to_all_objects():
    found = counted(make_drifting_scene(count=2, frames=2, **LARGE), category="nucleus")
    with found.session:
        assert found.run.counts["category"].tolist() == ["nucleus", "nucleus", "all"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": "magic"}, "expected auto"),
        ({"trust": "luck"}, "trust is 'luck'"),
        ({"diameter_px": -1}, "diameter_px"),
        ({"foo": 1}, "foo"),
    ],
    ids=["unknown seeds", "unknown trust", "negative size", "unknown option"],
)
def test_impossible_options_are_an_error(options, says):
    with pytest.raises(PlanError, match=says):
        counted(make_drifting_scene(count=2, frames=2), **options)


def test_rule_on_an_unknown_feature_is_an_error_before_the_work():
    class Unmoved(ToyModel):
        def embed(self, views):
            raise AssertionError("the work began")

    with pytest.raises(MeasurementError, match="rule for 'large' uses \\['size'\\]"):
        count(
            make_drifting_scene(count=2, frames=2).stack,
            model=Unmoved(),
            channel=0,
            rules={"large": "size > 3"},
        )


def test_seeds_of_another_shape_are_an_error(tmp_path):
    np.save(tmp_path / "labels.npy", np.ones((5, 9, 9), np.uint16))
    with pytest.raises(LabelsError, match=r"of shape \(5, 9, 9\): expected \(2, 64, 64\)"):
        counted(make_drifting_scene(count=2, frames=2), seeds=str(tmp_path / "labels.npy"))


def test_blank_scene_counts_nothing():
    found = counted(make_blank_scene())
    with found.session:
        assert found.run.counts["n"].sum() == 0


def test_real_nuclei_are_counted_within_a_seventh(shared_folder):
    folder = shared_folder / "data" / "zstack_and_2d_stardist"
    image, truth = tifffile.imread(folder / "img2d.tif"), tifffile.imread(folder / "mask2d.tif")
    found = count(Stack(image[None], "tyx"))
    with found.session:
        overall = evaluate(found.run.labels.compute(), truth[None]).overall
    assert overall["f1"] >= 0.8
    assert abs(overall["count_error"]) <= overall["n_truth"] / 7


def test_the_time_lapse_sample_is_counted_exactly(tmp_path: Path) -> None:
    """The real model on real cells that move, touch and leave."""
    sample = SAMPLES[1]
    count(sample.image, along="t", out=tmp_path / "counted", device="cpu")
    found = evaluate_files(tmp_path / "counted", sample.truth, tracks=True).agreement.to_dict()[
        "overall"
    ]
    assert found["TRA"] > 0.95 and found["iou"] > 0.85


def test_linking_encodes_no_frame_twice() -> None:
    """The model's help with linking shares the image features of the session."""
    model = ToyModel()
    scene = make_drifting_scene(**LARGE)
    with count(scene.stack, model=model, channel=0, kind="point", seeds="classical").session:
        assert sorted(model.embedded_frames) == list(range(len(scene.video)))


@pytest.mark.parametrize("value", [1, 255])
def test_seeds_that_are_a_mask_of_pieces_are_noted(tmp_path, value):
    scene = make_drifting_scene(count=3, frames=2, **LARGE)
    for name, labels in {"mask": (scene.labels > 0) * value, "labels": scene.labels}.items():
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            labels.astype(np.uint16),
            photometric="minisblack",
            metadata={"axes": "TYX"},
        )
        found = counted(scene, seeds=str(tmp_path / f"{name}.tif"))
        said = any("--relabel components" in note for note in found.notes)
        assert said == (name == "mask")
