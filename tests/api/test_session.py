"""Sessions as in the README: propagate, labels and tables."""

from __future__ import annotations

import numpy as np
import pytest

import napari_sam2 as ns
from napari_sam2.propagation.run_state import RunState
from napari_sam2.testing.scenes import (
    make_drifting_scene,
    make_ellipsoid_scene,
    make_two_channel_scene,
)
from napari_sam2.testing.toy import ToyModel


def test_five_lines_give_labels_and_tables() -> None:
    scene = make_drifting_scene()
    video = ns.Stack(scene.stack.data, "tyx", scene.stack.spacing).as_video(along="t", channel=0)
    session = ns.Session(video, ToyModel())
    session.prompt(scene.make_click(1))
    run = session.propagate(progress=False)
    assert run.state is RunState.DONE
    np.testing.assert_array_equal(run.labels.compute() == 1, scene.labels == 1)
    assert run.counts.iloc[-1].to_list() == ["all", "all", 1]
    assert run.objects["area_um2"].to_list() == [
        scene.mask(1, frame).sum() * 0.25 for frame in range(10)
    ]
    assert run.tracks.loc[0, "duration_s"] == 9 * 60
    assert run.provenance.to_dict()["model"]["name"] == "toy"


def test_volumes_of_a_z_stack_are_in_micrometres() -> None:
    scene = make_ellipsoid_scene()
    with ns.Session(scene.video, ToyModel()) as session:
        session.prompt_many(scene.make_log().prompts)
        tracks = session.propagate(progress=False).tracks.set_index("track")
    for track, volume in scene.volume_um3.items():
        assert tracks.loc[track, "volume_um3"] == pytest.approx(volume, rel=0.05)


def test_intensities_of_every_channel_come_from_the_raw_pixels() -> None:
    scene = make_two_channel_scene()
    with ns.Session(scene.video, ToyModel()) as session:
        session.prompt_many(scene.make_log().prompts)
        objects = session.propagate(progress=False).objects
    for track, levels in scene.intensity.items():
        for channel, level in enumerate(levels):
            rows = objects[objects["track"] == track]
            assert (rows[f"mean_c{channel}"] == level).all()
            assert (rows[f"background_c{channel}"] == scene.background[channel]).all()


def test_objects_table_has_presence_and_score() -> None:
    scene = make_drifting_scene()
    with ns.Session(scene.video, ToyModel()) as session:
        session.prompt(scene.make_click(2, 3))
        objects = session.propagate(progress=False).objects.set_index("frame")
    assert objects.loc[3, "presence"] == "prompted"
    assert objects.loc[4, "presence"] == "tracked"
    assert objects["score"].between(0.5, 1).all()


def test_propagating_twice_is_not_an_error() -> None:
    scene = make_drifting_scene()
    with ns.Session(scene.video, ToyModel()) as session:
        session.prompt(scene.make_click(1))
        session.propagate(progress=False)
        log = session.log
        run = session.propagate(progress=False)
        assert run.state is RunState.DONE
        assert session.log == log
        assert len(run.counts) == 11
