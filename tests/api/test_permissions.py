"""Permissions of what is written follow the umask, so that a group can share a folder."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_sam2.api.count import count
from napari_sam2.api.job import Job, run_job
from napari_sam2.api.project import Project
from napari_sam2.io.open import open_stack
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")


@pytest.fixture(params=[0o002, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def check_modes(folder: Path, umask: int) -> None:
    paths = [folder, *folder.rglob("*")]
    assert any(path.is_file() for path in paths)
    wrong = {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in paths
        if stat.S_IMODE(path.stat().st_mode) != (0o777 if path.is_dir() else 0o666) & ~umask
    }
    assert not wrong


@pytest.mark.parametrize("format", ["tiff", "zarr"])
def test_results_follow_the_umask(tmp_path: Path, umask: int, format: str) -> None:
    scene = make_drifting_scene(frames=3)
    np.save(tmp_path / "cells.npy", scene.stack.data)
    (y, x) = scene.make_click(scene.tracks[0], 0).yx[0]
    table = pd.DataFrame({"track": [1], "frame": [0], "kind": ["point"], "y": [y], "x": [x]})
    table.to_csv(tmp_path / "prompts.csv", index=False)
    job = Job(
        input=tmp_path / "cells.npy",
        prompts=tmp_path / "prompts.csv",
        out=tmp_path / "out",
        axes="TYX",
        format=format,
    )

    def check_unfinished(step: object) -> None:
        check_modes(tmp_path / "out", umask)  # somebody else may have to resume it

    run_job(job, model=ToyModel(), progress=check_unfinished)
    check_modes(tmp_path / "out", umask)


def test_a_count_follows_the_umask(tmp_path: Path, umask: int) -> None:
    scene = make_drifting_scene(frames=2)
    count(scene.stack, model=ToyModel(), seeds="classical", diameter_px=12, out=tmp_path / "out")
    check_modes(tmp_path / "out", umask)


def test_an_open_project_follows_the_umask(tmp_path: Path, umask: int) -> None:
    scene = make_drifting_scene(frames=3)
    np.save(tmp_path / "cells.npy", scene.stack.data)
    video = open_stack(tmp_path / "cells.npy", axes="TYX").as_video()
    with Project.create(tmp_path / "project", video, ToyModel().card) as project:
        session = project.open_session(ToyModel())
        session.prompt(scene.make_click(scene.tracks[0], 0))
        session.propagate()
        project.put_labels(0, session.compute_label_plane(0))
        project.save()
        check_modes(tmp_path / "project", umask)
