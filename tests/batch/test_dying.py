"""A remote model whose worker is killed: one line, nothing is lost, a new worker continues.

Real processes behind TLS, killed by SIGKILL. They answer with the toy model, so that a worker is
there again in seconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import tifffile
from distributed import LocalCluster

from napari_sam2.batch.remote_model import RemoteModel, load_remote_model
from napari_sam2.cli import main
from napari_sam2.core.errors import ModelError
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import Scene
from tests.batch.conftest import start_tls_cluster

pytestmark = pytest.mark.slow

_TOY = """
import os

from napari_sam2.batch import model_server
from napari_sam2.testing.toy import ToyModel

model_server.get_model = lambda name, *_, **__: os._exit(1) if name == "too large" else ToyModel()
"""


_PATIENT = {
    # else LocalCluster gives up workers that are slow to start anew
    "distributed.deploy.lost-worker-timeout": "120s",
    # workers that die on a task are not given it again
    "distributed.scheduler.allowed-failures": 0,
}


@pytest.fixture(scope="module")
def cluster(certificates: Path) -> Iterator[LocalCluster]:
    with (
        dask.config.set(_PATIENT),
        start_tls_cluster(certificates, processes=True, preload=[_TOY]) as cluster,
    ):
        yield cluster


class Asked:
    """Records the frames that the worker segments, and kills the worker on one of them."""

    def __init__(self, cluster: LocalCluster, patch: pytest.MonkeyPatch) -> None:
        self.frames: list[int] = []
        self.fatal: int | None = None
        self._cluster, segment = cluster, RemoteModel.segment
        patch.setattr(
            RemoteModel,
            "segment",
            lambda model, embedding, queries: self._asked(segment, model, embedding, queries),
        )

    def _asked(
        self, segment: Callable[..., Any], model: RemoteModel, embedding: Any, queries: Any
    ) -> Any:
        self.frames.append(embedding.frame)
        if embedding.frame == self.fatal:
            self.fatal = None
            process = self._cluster.workers[0].pid
            os.kill(process, signal.SIGSTOP)  # so that the question reaches it, and no answer comes
            Timer(0.3, os.kill, (process, signal.SIGKILL)).start()
        return segment(model, embedding, queries)


@pytest.fixture
def asked(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(cluster, monkeypatch)


def test_track_ends_with_one_line_and_goes_on_with_resume(
    cluster: LocalCluster,
    asked: Asked,
    certificates: Path,
    write_stacks: Callable[[int], Path],
    scene: Scene,
    tmp_path: Path,
    capsys: Any,
) -> None:
    folder, out = write_stacks(1), tmp_path / "out"
    call = [
        "track",
        str(folder / "s0.npy"),
        "--axes",
        "TYX",
        "--prompts",
        str(folder / "prompts" / "s0.csv"),
        "--out",
        str(out),
    ]
    call += ["--model-on", cluster.scheduler_address, "--certificates", str(certificates)]
    asked.fatal = 3
    assert main(call) == 2
    (line,) = (
        line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-sam2: ")
    )
    assert (
        f"the worker of {cluster.scheduler_address} is gone" in line
        and "resume with `track --resume`" in line
    )
    assert not (out / "labels.ome.tif").exists(), "nothing half done under a final name"
    asked.frames.clear()
    assert main([*call, "--resume"]) == 0
    assert asked.frames == [3, 4, 5], "what was done was still there"
    np.testing.assert_array_equal(tifffile.imread(out / "labels.ome.tif"), scene.labels)
    table = pd.read_csv(out / "objects.csv")
    assert table["area_px"].to_list() == [
        int(scene.mask(track, frame).sum()) for frame in range(6) for track in scene.tracks
    ]


def test_a_session_keeps_what_was_done_and_takes_up_a_new_model(
    cluster: LocalCluster, asked: Asked, certificates: Path, scene: Scene
) -> None:
    def model() -> RemoteModel:
        return load_remote_model(cluster.scheduler_address, "toy", certificates=certificates)

    with model() as first, Session(scene.video, first) as session:
        session.replay(scene.make_log())
        asked.fatal = 4
        with pytest.raises(ModelError, match="is gone"):
            session.propagate(progress=False)
        assert session.unfinished
        for frame in range(4):
            np.testing.assert_array_equal(session.compute_label_plane(frame), scene.labels[frame])
        said = session.log
        with pytest.raises(ModelError, match="is gone"):
            session.prompt(PointPrompt(5, 1, scene.make_click(1, 5).yx, [True]))
        assert session.log == said, "what was not answered was not said"
        with model() as second:
            asked.frames.clear()
            session.reconnect_model(second)
            session.propagate(progress=False)
            assert asked.frames == [4, 5]
            np.testing.assert_array_equal(
                np.stack([session.compute_label_plane(frame) for frame in range(6)]), scene.labels
            )
            session.prompt(scene.make_click(1, 2))
            assert session.propagate(progress=False).state.value == "done", (
                "and is corrected as ever"
            )


def test_a_worker_that_dies_while_it_loads_the_model_is_named(
    cluster: LocalCluster, certificates: Path
) -> None:
    """As one whose memory is too small."""
    with pytest.raises(ModelError, match="died while it loaded the model: read its log"):
        load_remote_model(cluster.scheduler_address, "too large", certificates=certificates)
