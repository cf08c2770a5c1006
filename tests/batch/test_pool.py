"""Workers: of this machine, behind a scheduler with certificates, in a queue, and dying."""

from __future__ import annotations

import os
import signal
import stat
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
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security
from pydantic import ValidationError

from napari_sam2.api.job import Job, run_job
from napari_sam2.api.samples import SAMPLES
from napari_sam2.batch import run_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.batch.run import MAX_DEATHS, BatchProgress
from napari_sam2.cli import main
from napari_sam2.core.errors import PlanError
from napari_sam2.io.open import open_labels


def _listening() -> set[str]:
    """Addresses that this process and those it began accept connections at."""
    own = psutil.Process()
    ports = [
        port
        for process in (own, *own.children(recursive=True))
        for port in process.net_connections(kind="inet")
    ]
    return {port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN}


def test_workers_of_this_machine_listen_on_loopback_only() -> None:
    before = _listening()
    with Pool(workers=1).connect() as client:
        client.wait_for_workers(1, timeout=60)
        assert _listening() - before == {"127.0.0.1"}


def _addresses(client: Client) -> list[str]:
    """Every address of dask in a cluster: the scheduler's, the workers' and their nannies'."""
    told = client.scheduler_info(n_workers=-1)
    workers = [
        worker.get(key) or "" for worker in told["workers"].values() for key in ("id", "nanny")
    ]
    return [told["address"], *told["workers"], *(each for each in workers if "://" in str(each))]


@pytest.mark.parametrize("options", [{}, {"processes": False}], ids=["processes", "threads"])
def test_no_stranger_connects_to_a_local_batch(options: dict[str, Any]) -> None:
    with Pool(workers=1, options=options).connect() as client:
        client.wait_for_workers(1, timeout=60)
        addresses = _addresses(client)
        assert {address.split("://")[0] for address in addresses} <= {"tls"}
        for address in addresses:
            host_port = address.split("://")[1]
            for scheme, security in (
                ("tcp", Security()),
                ("tls", Security.temporary()),  # encrypted, by the credentials of somebody else
            ):
                with pytest.raises((OSError, RuntimeError)):
                    Client(f"{scheme}://{host_port}", security=security, timeout=2)


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "tcp://"},
        {"protocol": "tcp"},
        {"protocol": "ws://"},
        {"protocol": "inproc://"},
        {"scheduler_options": {"protocol": "tcp://"}},
    ],
    ids=str,
)
def test_an_unencrypted_protocol_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected 'tls://'"):
        Pool(workers=1, options=options)


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge"])
def test_jobs_of_a_queue_get_credentials_that_only_their_user_reads(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam2.batch.pool.user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr("dask_jobqueue.core.JobQueueCluster.adapt", lambda *_, **__: None)
    options = {"cores": 1, "memory": "1GB", "interface": "lo"}
    with Pool(kind=kind, options=options).start_cluster() as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        (folder,) = (tmp_path / "batch").iterdir()
        files = list(folder.iterdir())
        assert len(files) == 3 and all(str(file) in cluster.job_script() for file in files)
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises((OSError, RuntimeError)):
            Client(
                cluster.scheduler_address.replace("tls://", "tcp://"),
                security=Security(),
                timeout=2,
            )
    assert not list((tmp_path / "batch").iterdir()), "removed with the batch"


def test_who_hands_jobs_out_loads_no_torch() -> None:
    code = (
        "import sys, napari_sam2.batch; print('torch' in sys.modules, 'transformers' in "
        "sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam2.batch.pool._CONNECT_TIMEOUT_S", 0.5)
    with (
        pytest.raises(PlanError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"),
        Pool(scheduler="tcp://127.0.0.1:1").connect(),
    ):
        pass


@pytest.mark.parametrize(
    ("kind", "line"), [("slurm", "#SBATCH -p gpu"), ("pbs", "#PBS -q gpu"), ("lsf", "#BSUB -q gpu")]
)
def test_a_queue_is_asked_for_workers_as_configured(kind: Any, line: str) -> None:
    options = {"cores": 2, "memory": "4GB", "queue": "gpu", "interface": "lo"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dask_jobqueue.core.JobQueueCluster.adapt",
            lambda cluster, **asked: cluster.asked.append(asked),
            raising=True,
        )
        patch.setattr("dask_jobqueue.core.JobQueueCluster.asked", [], raising=False)
        with Pool(kind=kind, workers=3, threads=2, options=options).start_cluster() as cluster:
            script = cluster.job_script()
            assert line in script and "export OMP_NUM_THREADS=2" in script
            assert script.rindex("--nthreads 1") == script.rindex("--nthreads"), (
                "one stack at a time: the last one counts"
            )
            assert cluster.asked == [{"minimum": 3, "maximum": 3}]


_SBATCH = """#!/bin/sh
cp "$1" "$1.kept"
setsid sh "$1.kept" > /dev/null 2>&1 &
echo "Submitted batch job $!"
echo $! >> "{jobs}"
"""
_SCANCEL = """#!/bin/sh
kill -KILL -- "-$1" 2> /dev/null || true
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue of this machine: each job begins at once, in a process group whose number is its own.

    Gives the file of numbers.
    """
    folder, jobs = tmp_path / "bin", tmp_path / "jobs"
    folder.mkdir()
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        (folder / name).write_text(text.format(jobs=jobs))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return jobs


@pytest.mark.slow
def test_a_job_of_a_queue_whose_time_is_up_is_asked_for_again(
    tmp_path: Path, write_stacks: Callable[[int], Path], queue: Path
) -> None:
    (tmp_path / "preload.py").write_text(_PRELOAD)
    preloaded = ["--preload", str(tmp_path / "preload.py")]
    options = {
        "cores": 1,
        "memory": "2GB",
        "interface": "lo",
        "log_directory": str(tmp_path),
        "worker_extra_args": preloaded,
    }
    folder = write_stacks(2)
    jobs = [
        Job(
            input=folder / f"s{n}.npy",
            prompts=folder / "prompts" / f"s{n}.csv",
            out=folder / f"{n}",
            axes="TYX",
        )
        for n in range(2)
    ]

    def killing(standing: BatchProgress) -> None:
        if standing.parts and not killed:
            assert _listening() == {"127.0.0.1"}, "no open dashboard"
            killed.append(int(queue.read_text()))
            os.killpg(killed[0], signal.SIGKILL)

    killed: list[int] = []
    with dask.config.set(
        {"distributed.deploy.lost-worker-timeout": "1s"}
    ):  # after which another one is asked for
        table = run_jobs(
            jobs, pool=Pool(kind="slurm", workers=1, options=options), progress=killing
        )
    assert table["state"].to_list() == ["done"] * 2
    assert len(queue.read_text().split()) == 2, "asked for once more"
    assert table["tries"].sum() == 3, "one job was at work when its worker died"


_PRELOAD = """
import os
import time
from napari_sam2.batch import tasks
from napari_sam2.testing.toy import ToyModel

class Dying(ToyModel):
    def embed(self, views):
        if views[0][0].pixels.shape == (40, 40):
            time.sleep(1)  # a nanny that still starts a worker does not start another
            os._exit(9)
        return super().embed(views)

tasks.get_model = lambda *_, **__: Dying()
"""


def test_a_stack_that_kills_its_workers_is_given_up_and_stops_no_other(
    tmp_path: Path, write_stacks: Callable[[int], Path]
) -> None:
    (tmp_path / "preload.py").write_text(_PRELOAD)
    folder = write_stacks(3)
    np.save(folder / "s1.npy", np.load(folder / "s1.npy")[:, :40, :40])
    (folder / "prompts" / "s1.csv").write_text("track,frame,kind,y,x\n1,0,point,10,10\n")
    jobs = [
        Job(
            input=folder / f"s{n}.npy",
            prompts=folder / "prompts" / f"s{n}.csv",
            out=folder / f"{n}",
            axes="TYX",
        )
        for n in range(3)
    ]
    table = run_jobs(jobs, pool=Pool(workers=1, options={"preload": str(tmp_path / "preload.py")}))
    assert table["state"].to_list() == ["done", "failed", "done"]
    assert table.loc[1, "tries"] == MAX_DEATHS
    assert table.loc[1, "error"].startswith(f"WorkerError: {MAX_DEATHS} workers in a row died")


def test_tls_comes_from_dasks_own_configuration(
    tmp_path: Path, write_stacks: Callable[[int], Path], loaded_models: list[tuple[str, str]]
) -> None:
    pytest.importorskip(
        "cryptography", reason="cryptography is not installed: no certificates can be made"
    )
    files = _certificates(tmp_path)
    folder = write_stacks(1)
    job = Job(
        input=folder / "s0.npy",
        prompts=folder / "prompts" / "s0.csv",
        out=folder / "out",
        axes="TYX",
    )
    with dask.config.set({f"distributed.comm.{key}": value for key, value in files.items()}):
        options = {
            "processes": False,
            "n_workers": 1,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
        with LocalCluster(
            protocol="tls://", host="127.0.0.1", security=Security(), **options
        ) as cluster:
            assert cluster.scheduler_address.startswith("tls://")
            table = run_jobs([job], pool=Pool(scheduler=cluster.scheduler_address))
    assert table.loc[0, "state"] == "done"


def _certificates(folder: Path) -> dict[str, str | bool]:
    made = Security.temporary()
    (folder / "ca.pem").write_text(made.tls_ca_file)
    (folder / "key.pem").write_text(made.tls_client_key)
    (folder / "cert.pem").write_text(made.tls_client_cert)
    files: dict[str, str | bool] = {
        "tls.ca-file": str(folder / "ca.pem"),
        "require-encryption": True,
    }
    for role in ("client", "scheduler", "worker"):
        files |= {
            f"tls.{role}.key": str(folder / "key.pem"),
            f"tls.{role}.cert": str(folder / "cert.pem"),
        }
    return files


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killing_workers_loses_nothing_and_gives_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = SAMPLES[1]
    fields = {
        "input": str(sample.image),
        "prompts": str(sample.prompts),
        "along": "t",
        "device": "cpu",
    }
    text = (
        f'out = "out"\n[cluster]\nworkers = 2\n[defaults]\nprompts = "{sample.prompts}"\nalong = '
        '"t"\ndevice = "cpu"\n'
    )
    text += "".join(
        f'[[stacks]]\ninput = "{sample.image}"\nout = "{number}"\n' for number in range(3)
    )
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
            assert (tmp_path / "out" / str(number) / name).read_bytes() == (
                alone.folder / name
            ).read_bytes()
        labels = [
            np.asarray(open_labels(folder / "labels.ome.tif").data)
            for folder in (tmp_path / "out" / str(number), alone.folder)
        ]
        np.testing.assert_array_equal(*labels)


class _Killer(Thread):
    """Kills a worker process that runs a stack, a number of times: no warning, no clean-up."""

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
            if int(process.name) != os.getpid() and any(
                os.path.realpath(fd) == str(path) for fd in (process / "fd").iterdir()
            ):
                return int(process.name)
        except OSError:
            continue
    return None
