"""A remote model behind TLS: the contract, the same masks as a local one, what is refused."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from distributed import LocalCluster
from distributed.security import Security

from napari_sam2.api.project import Project
from napari_sam2.batch import remote_model as remote_module
from napari_sam2.batch import tasks
from napari_sam2.batch.compressed_array import CompressedArray, compress_arrays, decompress_arrays
from napari_sam2.batch.model_server import ModelServer
from napari_sam2.batch.remote_model import RemoteModel, check_address, load_remote_model
from napari_sam2.cli import main
from napari_sam2.core.errors import FileError, ModelError, PlanError, UnknownModelError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.core.window import Window
from napari_sam2.io.open import open_stack
from napari_sam2.models.device import describe_device
from napari_sam2.models.load import load_model
from napari_sam2.notebook import annotate
from napari_sam2.propagation.session import Session
from napari_sam2.testing.contracts import ModelContract
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_returning_scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.train.smoke import write_tiny_model
from tests.batch.conftest import start_tls_cluster

pytest.importorskip(
    "cryptography", reason="cryptography is not installed: no certificates can be made"
)


@pytest.fixture(scope="module")
def cluster(certificates: Path) -> Iterator[LocalCluster]:
    with start_tls_cluster(certificates, processes=False) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        yield cluster


@pytest.fixture(scope="module")
def remote(cluster: LocalCluster, certificates: Path) -> Iterator[RemoteModel]:
    """The toy model on the worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "napari_sam2.models.load.load_model",
            lambda name, **told: ToyModel() if name == "toy" else load_model(name, **told),
        )
        tasks.load_cached_model.cache_clear()
        with load_remote_model(
            cluster.scheduler_address, "toy", certificates=certificates
        ) as model:
            yield model
    tasks.load_cached_model.cache_clear()


class TestRemoteToy(ModelContract):
    """Every rule for models holds over the wire."""

    @pytest.fixture(autouse=True)
    def _remote(self, remote: RemoteModel) -> None:
        self.remote = remote

    def make_model(self) -> RemoteModel:
        return self.remote


@pytest.mark.parametrize(
    "scene",
    [make_drifting_scene(frames=5), make_returning_scene(frames=8)],
    ids=["drifting", "returning"],
)
def test_a_session_has_the_same_masks_as_here(remote: RemoteModel, scene: Scene) -> None:
    planes = []
    for model in (remote, ToyModel()):
        with Session(scene.video, model) as session:
            session.replay(scene.make_log())
            session.propagate(progress=False)
            planes.append(
                np.stack([session.compute_label_plane(frame) for frame in range(len(scene.video))])
            )
    np.testing.assert_array_equal(*planes)
    assert planes[0].any()


def test_the_panel_of_a_notebook_takes_it_as_any_model(remote: RemoteModel) -> None:
    scene = make_drifting_scene(frames=4)
    panel = annotate(scene.video, model=remote)
    for track in scene.tracks:
        panel.prompt(scene.make_click(track, 0))
    panel.propagate()
    assert panel.wait(60)
    np.testing.assert_array_equal(panel.labels.compute(), scene.labels)
    panel.session.close()


def test_what_nobody_holds_is_let_go_there(remote: RemoteModel) -> None:
    gc.collect()
    remote.last_segments = []
    before, scene = remote.count_features(), make_drifting_scene(frames=3)
    with Session(scene.video, remote) as session:
        session.replay(scene.make_log())
        session.propagate(progress=False)
        assert remote.count_features() > before
    del session
    gc.collect()
    assert remote.count_features() == before


def test_answers_that_were_just_given_do_not_travel_again(
    remote: RemoteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, sent = make_drifting_scene(frames=2), []
    call = remote.call
    monkeypatch.setattr(
        remote, "call", lambda method, *given: sent.append(given) or call(method, *given)
    )
    (embedding,) = remote.embed(
        [(scene.video.read_frame(0), remote.card.make_frame_window(scene.video.shape[1:]))]
    )
    answers = remote.segment(
        embedding,
        [Query(track, scene.make_log().combine_prompts(track, 0)) for track in scene.tracks],
    )
    remote.encode_memory(embedding, answers[::-1])
    assert sent[-1][1] == [2, 1, 0]


class ByHalves(ToyModel):
    """It looks at the upper half of a frame as well, which it makes when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        half = embedding.get_part(Window(0.0, 0.0, 32.0, 64.0, 64), lambda: self._half(embedding))
        assert half.frame == embedding.frame
        return super().segment(embedding, queries)

    def _half(self, embedding: Embedding) -> Embedding:
        self.made.append(embedding.frame)
        return Embedding(
            embedding.frame, Window(0.0, 0.0, 32.0, 64.0, 64), (embedding.features[0].copy(),)
        )


def test_parts_of_frames_are_made_once_there_and_go_with_their_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, scene = ByHalves(), make_drifting_scene(frames=3)
    monkeypatch.setattr("napari_sam2.batch.model_server.get_model", lambda *_, **__: model)
    host, window, asked = (
        ModelServer("toy", InferenceOptions("cpu")),
        model.card.make_frame_window(scene.video.shape[1:]),
        compress_arrays([Query(1, scene.make_log().combine_prompts(1, 0))]),
    )
    kept = host.embed(
        compress_arrays([(scene.video.read_frame(frame), window) for frame in range(3)]), []
    )
    for frame in (0, 1, 2, 0, 1):
        host.segment(Embedding(frame, window, (kept[frame],)), asked, [])
    assert (model.made, len(host.frame_parts)) == ([0, 1, 2], 3)
    assert host.count_features([kept[1].number]) == 2
    assert len(host.frame_parts) == 2, "that of frame 1 went"


def test_it_says_where_it_runs(remote: RemoteModel, cluster: LocalCluster) -> None:
    assert remote.device == describe_device(remote.device) == f"{cluster.scheduler_address} (cpu)"
    assert remote.card == ToyModel().card


def test_an_error_there_is_the_same_error_here(remote: RemoteModel) -> None:
    scene = make_drifting_scene(frames=2)
    (embedding,) = remote.embed(
        [(scene.video.read_frame(1), remote.card.make_frame_window(scene.video.shape[1:]))]
    )
    with pytest.raises(
        ModelError, match="track 7, frame 1: the query has neither a prompt nor a memory"
    ) as caught:
        remote.segment(embedding, [Query(7)])
    assert (caught.value.frame, caught.value.track) == (1, 7)


def test_features_that_are_lost_there_are_named(remote: RemoteModel) -> None:
    scene = make_drifting_scene(frames=2)
    (embedding,) = remote.embed(
        [(scene.video.read_frame(0), remote.card.make_frame_window(scene.video.shape[1:]))]
    )
    remote.released.append(embedding.features[0].number)
    with pytest.raises(ModelError, match="resume with `track --resume`"):
        remote.segment(embedding, [Query(1, FramePrompts(points=((5.0, 5.0),), positive=(True,)))])


def test_a_model_that_is_not_there_is_named(cluster: LocalCluster, certificates: Path) -> None:
    tasks.load_cached_model.cache_clear()
    with pytest.raises(
        UnknownModelError,
        match=r"on the worker of tls://127\.0\.0\.1:\d+: no model is called 'nanno'",
    ):
        load_remote_model(cluster.scheduler_address, "nanno", certificates=certificates)


@pytest.mark.parametrize(
    "address",
    [
        "tls://gpu.example.org:8786",
        "tcp://127.0.0.1:8786",
        "tcp://[::1]:8786",
        "localhost:8786",
        "tcp://localhost:1",
    ],
)
def test_addresses_that_are_allowed(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://10.0.0.5:8786",
        "gpu.example.org:8786",
        "tcp://0.0.0.0:8786",
        "tcp://127.0.0.1.evil.org:1",
    ],
)
def test_plain_tcp_to_another_machine_is_refused_unless_wanted(address: str) -> None:
    with pytest.raises(PlanError, match="Expected tls:// with certificates"):
        load_remote_model(address)
    check_address(address, allow_plain_tcp=True)


@pytest.mark.parametrize("address", ["http://gpu:8786", "ucx://gpu:8786", "tls://gpu:port", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(PlanError, match="expected tls://host:port"):
        check_address(address, allow_plain_tcp=True)


def test_certificates_are_asked_for(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="needs certificates"):
        load_remote_model(cluster.scheduler_address)
    with pytest.raises(FileError, match=r"ca\.pem: no such file"):
        load_remote_model(cluster.scheduler_address, certificates=tmp_path)


def test_certificates_of_somebody_else_are_not_let_in(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam2.batch.remote_model._CONNECT_TIMEOUT_S", 2)
    made = Security.temporary()
    for name, text in (
        ("ca", made.tls_ca_file),
        ("key", made.tls_client_key),
        ("cert", made.tls_client_cert),
    ):
        (tmp_path / f"{name}.pem").write_text(text)
    with pytest.raises(PlanError, match="no scheduler answers"):
        load_remote_model(cluster.scheduler_address, certificates=tmp_path)


def test_a_scheduler_without_workers_is_named(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam2.batch.remote_model._WORKER_TIMEOUT_S", 0.5)
    with start_tls_cluster(certificates, processes=False) as cluster:
        cluster.scale(0)
        with pytest.raises(PlanError, match="has no worker"):
            load_remote_model(cluster.scheduler_address, certificates=certificates)


def test_a_worker_that_leaves_before_it_loads_is_not_waited_for(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when it was looked for, and dask would wait for another one without end."""
    monkeypatch.setattr("napari_sam2.batch.remote_model._WORKER_TIMEOUT_S", 0.5)
    monkeypatch.setattr("napari_sam2.batch.remote_model._POLL_S", 0.5)
    with start_tls_cluster(certificates, processes=False) as cluster:
        cluster.scale(0)
        for _ in range(200):
            if not cluster.scheduler.workers:
                break
            sleep(0.05)
        looks, look = [], remote_module.await_worker

        def looked(*given: Any) -> None:
            looks.append(given)
            if len(looks) > 1:
                look(*given)

        monkeypatch.setattr(remote_module, "await_worker", looked)
        with pytest.raises(PlanError, match="has no worker"):
            load_remote_model(cluster.scheduler_address, certificates=certificates)
        assert len(looks) == 2


def test_track_runs_its_model_elsewhere(
    remote: RemoteModel,
    cluster: LocalCluster,
    certificates: Path,
    write_stacks: Callable[[int], Path],
    scene: Scene,
    tmp_path: Path,
) -> None:
    folder = write_stacks(1)
    call = [
        "track",
        str(folder / "s0.npy"),
        "--axes",
        "TYX",
        "--prompts",
        str(folder / "prompts" / "s0.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert (
        main(
            [
                *call,
                "--model",
                "toy",
                "--model-on",
                cluster.scheduler_address,
                "--certificates",
                str(certificates),
            ]
        )
        == 0
    )
    table = pd.read_csv(tmp_path / "o" / "objects.csv")
    assert table["area_px"].to_list() == [
        int(scene.mask(track, frame).sum()) for frame in range(6) for track in scene.tracks
    ]
    assert "tls://127.0.0.1" in (tmp_path / "o" / "provenance.json").read_text()


def test_a_project_is_replayed_with_its_model_elsewhere(
    remote: RemoteModel,
    cluster: LocalCluster,
    certificates: Path,
    tmp_path: Path,
    scene: Scene,
    capsys: Any,
) -> None:
    """A project is replayed with a remote model; another model is refused, as locally."""
    tifffile.imwrite(
        tmp_path / "cells.ome.tif", scene.stack.data, metadata={"axes": "TYX"}, ome=True
    )
    video, folder = open_stack(tmp_path / "cells.ome.tif").as_video(), tmp_path / "project"
    with (
        Project.create(folder, video, remote.card, name_or_path="toy") as project,
        project.open_session(remote) as session,
    ):
        session.replay(scene.make_log())
        session.propagate(progress=False)
    call = [
        "track",
        "--project",
        str(folder),
        "--model-on",
        cluster.scheduler_address,
        "--certificates",
        str(certificates),
    ]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "labels.ome.tif"), scene.labels
    )
    assert "tls://127.0.0.1" in (tmp_path / "out" / "provenance.json").read_text()
    file = json.loads((folder / "project.json").read_text())
    (folder / "project.json").write_text(
        json.dumps(file | {"model": file["model"] | {"sha256": "f" * 64}})
    )
    assert main([*call, "--out", str(tmp_path / "other")]) == 2
    assert "ask for it with --model" in capsys.readouterr().err
    assert main([*call, "--out", str(tmp_path / "other"), "--model", "toy"]) == 0
    assert (
        "another model than the project's own"
        in (tmp_path / "other" / "provenance.json").read_text()
    )


def test_a_model_elsewhere_looks_near_where_that_is_asked_for(
    cluster: LocalCluster, certificates: Path, write_stacks: Callable[[int], Path], tmp_path: Path
) -> None:
    """A SAM 2 of random weights gives the same labels as locally, and not those of "global"."""
    folder, model = write_stacks(1), write_tiny_model(tmp_path)
    call = [
        "track",
        str(folder / "s0.npy"),
        "--axes",
        "TYX",
        "--prompts",
        str(folder / "prompts" / "s0.csv"),
        "--model",
        str(model),
    ]
    elsewhere = ["--model-on", cluster.scheduler_address, "--certificates", str(certificates)]
    ways = {
        "here": ["--attention", "local"],
        "there": ["--attention", "local", *elsewhere],
        "whole": ["--attention", "global", *elsewhere],
    }
    for name, way in ways.items():
        assert main([*call, "--device", "cpu", *way, "--out", str(tmp_path / name)]) == 0
    said = {
        name: json.loads((tmp_path / name / "provenance.json").read_text())["model"]["attention"]
        for name in ways
    }
    assert said == {"here": "local", "there": "local", "whole": "global"}
    here, there = (
        tifffile.imread(tmp_path / name / "labels.ome.tif") for name in ("here", "there")
    )
    np.testing.assert_array_equal(here, there)


def test_track_refuses_plain_tcp_to_another_machine(
    write_stacks: Callable[[int], Path], tmp_path: Path, capsys: Any
) -> None:
    folder = write_stacks(1)
    call = [
        "track",
        str(folder / "s0.npy"),
        "--axes",
        "TYX",
        "--prompts",
        str(folder / "prompts" / "s0.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*call, "--model-on", "tcp://192.0.2.1:8786"]) == 2
    assert "--plain-tcp" in capsys.readouterr().err


@pytest.mark.slow
def test_the_embedded_model_in_another_process_has_the_same_masks_and_scores(
    certificates: Path,
) -> None:
    scene, planes, scores = make_drifting_scene(frames=4, shape=(96, 96), noise=0.05), [], []
    with (
        start_tls_cluster(certificates, processes=True) as cluster,
        load_remote_model(
            cluster.scheduler_address, device="cpu", certificates=certificates
        ) as remote,
    ):
        for model in (remote, load_model("nano", device="cpu")):
            with Session(scene.video, model) as session:
                session.replay(scene.make_log())
                session.propagate(progress=False)
                planes.append(
                    np.stack(
                        [session.compute_label_plane(frame) for frame in range(len(scene.video))]
                    )
                )
                scores.append([trace.iou for trace in session.get_records().values()])
    np.testing.assert_array_equal(*planes)
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
    assert len(np.unique(planes[0])) == 4


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.zeros((0, 3), np.uint16),
        np.array(True),
        np.eye(9, dtype=bool),
    ],
    ids=["no block of memory", "empty", "one value", "a mask"],
)
def test_parcels_hold_arrays_without_loss(array: np.ndarray) -> None:
    back = decompress_arrays(compress_arrays([(array,)]))[0][0]
    np.testing.assert_array_equal(back, array)
    assert (back.dtype, back.flags.writeable) == (array.dtype, True)


def test_masks_travel_small() -> None:
    mask = np.zeros((512, 512), dtype=bool)
    mask[100:200, 50:300] = True
    assert len(CompressedArray.of(mask).data) < mask.size / 100


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_can_read_is_named(
    cluster: LocalCluster,
    certificates: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    warned: bool,
) -> None:
    keys = Path(shutil.copytree(certificates, tmp_path / "keys"))
    (keys / "key.pem").chmod(mode)
    tasks.load_cached_model.cache_clear()
    with pytest.raises(UnknownModelError):
        load_remote_model(cluster.scheduler_address, "nanno", certificates=keys)
    assert ("chmod 600" in caplog.text) == warned
