"""Workers: of this machine, behind a scheduler with certificates, in a queue, and dying."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from distributed.security import Security

from napari_sam2.api.job import Job, run_job
from napari_sam2.api.samples import SAMPLES
from napari_sam2.batch import run_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.cli import main
from napari_sam2.core.errors import PlanError
from napari_sam2.io.open import open_labels


def test_workers_of_this_machine_listen_on_loopback_only() -> None:
    with Pool(workers=1, options={"processes": False}).client() as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1")
    assert Pool(workers=2)._local()["host"] == "127.0.0.1"
    assert Pool(workers=2)._local()["dashboard_address"] is None


def test_who_hands_jobs_out_loads_no_torch() -> None:
    code = "import sys, napari_sam2.batch; print('torch' in sys.modules, 'transformers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam2.batch.pool._CONNECT_S", 0.5)
    with pytest.raises(PlanError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"), Pool(scheduler="tcp://127.0.0.1:1").client():
        pass


@pytest.mark.parametrize(("kind", "line"), [("slurm", "#SBATCH -p gpu"), ("pbs", "#PBS -q gpu"), ("lsf", "#BSUB -q gpu")])
def test_a_queue_is_asked_for_workers_as_configured(kind: Any, line: str) -> None:
    options = {"cores": 2, "memory": "4GB", "queue": "gpu", "interface": "lo", "scheduler_options": {"dashboard_address": None}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dask_jobqueue.core.JobQueueCluster.scale", lambda cluster, jobs: cluster.asked.append(jobs), raising=True)
        patch.setattr("dask_jobqueue.core.JobQueueCluster.asked", [], raising=False)
        with Pool(kind=kind, workers=3, options=options).cluster() as cluster:
            assert line in cluster.job_script()
            assert cluster.asked == [3]


def test_tls_comes_from_dasks_own_configuration(tmp_path: Path, stacks: Callable[[int], Path], loads: list[tuple[str, str]]) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed: no certificates can be made")
    files = _certificates(tmp_path)
    folder = stacks(1)
    job = Job(input=folder / "s0.npy", prompts=folder / "prompts" / "s0.csv", out=folder / "out", axes="TYX")
    with dask.config.set({f"distributed.comm.{key}": value for key, value in files.items()}):
        options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(protocol="tls://", host="127.0.0.1", security=Security(), **options) as cluster:
            assert cluster.scheduler_address.startswith("tls://")
            table = run_jobs([job], pool=Pool(scheduler=cluster.scheduler_address))
    assert table.loc[0, "state"] == "done"


def _certificates(folder: Path) -> dict[str, str | bool]:
    made = Security.temporary()
    (folder / "ca.pem").write_text(made.tls_ca_file)
    (folder / "key.pem").write_text(made.tls_client_key)
    (folder / "cert.pem").write_text(made.tls_client_cert)
    files: dict[str, str | bool] = {"tls.ca-file": str(folder / "ca.pem"), "require-encryption": True}
    for role in ("client", "scheduler", "worker"):
        files |= {f"tls.{role}.key": str(folder / "key.pem"), f"tls.{role}.cert": str(folder / "cert.pem")}
    return files


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killing_workers_loses_nothing_and_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = SAMPLES[1]
    fields = {"input": str(sample.image), "prompts": str(sample.prompts), "along": "t", "device": "cpu"}
    text = f'out = "out"\n[cluster]\nworkers = 2\n[defaults]\nprompts = "{sample.prompts}"\nalong = "t"\ndevice = "cpu"\n'
    text += "".join(f'[[stacks]]\ninput = "{sample.image}"\nout = "{number}"\n' for number in range(3))
    (tmp_path / "jobs.toml").write_text(text)
    killer = _Killer(tmp_path / "out", times=2)
    killer.start()
    assert main(["batch", str(tmp_path / "jobs.toml")]) == 0
    killer.join()
    assert killer.killed == 2, "workers died while they carried"
    assert "Done: 3 stacks, 45 objects" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert table["state"].to_list() == ["done"] * 3
    alone = run_job(Job(**fields, out=tmp_path / "alone"))
    for number in range(3):
        for name in ("objects.csv", "tracks.csv", "counts.csv"):
            assert (tmp_path / "out" / str(number) / name).read_bytes() == (alone.folder / name).read_bytes()
        labels = [np.asarray(open_labels(folder / "labels.ome.tif").data) for folder in (tmp_path / "out" / str(number), alone.folder)]
        np.testing.assert_array_equal(*labels)


class _Killer(Thread):
    """Kills a worker process of ours that is at work on a stack, so many times: no warning, no clean-up."""

    def __init__(self, out: Path, times: int) -> None:
        super().__init__(daemon=True)
        self.out, self.times, self.killed = out, times, 0

    def run(self) -> None:
        last = monotonic()
        while self.killed < self.times and monotonic() - last < 240:
            trails = list(self.out.glob("*/.napari-sam2/trail.sqlite"))
            for trail in trails:
                holder = _holder(trail)
                if holder is not None and trail.stat().st_size > 0:
                    sleep(0.5)
                    os.kill(holder, signal.SIGKILL)
                    self.killed += 1
                    sleep(2)
                    break
            sleep(0.05)


def _holder(path: Path) -> int | None:
    """The child process that has a file open; Linux only."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and any(os.path.realpath(fd) == str(path) for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    return None
