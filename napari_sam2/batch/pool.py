"""The workers that jobs run on: local processes, a dask scheduler, or jobs of a queue."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.security import Security
from distributed.system import MEMORY_LIMIT
from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict, Field, field_validator

from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.core.files.atomic import convert_write_errors
from napari_sam2.core.files.extras import CLUSTER, import_extra

_CONNECT_TIMEOUT_S = 30
# dask itself never retries a task whose worker died: `run` decides, because it knows the progress
_ALLOWED_FAILURES = 0
_WORKER_BYTES = 2 * 1024**3  # memory planned for a worker
# dask would listen on all interfaces; any port, because other batches may run
_DASHBOARD = "127.0.0.1:0"
_LOCAL_SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "1000 days"
}  # else dask gives up a worker that is lost for 15 s, or twice
_PROTOCOL = "tls://"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_QUEUE_CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}


class Pool(BaseModel):
    """The workers that jobs run on. A worker runs one stack at a time and loads a model once.

    Parameters
    ----------
    scheduler
        Address of a running dask scheduler, ``tcp://…`` or ``tls://…``. Certificates come from
        the configuration of dask (``distributed.comm.tls``).
    kind
        "local": processes of this machine that listen on the loopback interface only. The others
        request workers from a queueing system through dask-jobqueue. Both accept only connections
        with the credentials of this batch, which exist as long as it runs: whoever reaches the
        port of a dask scheduler can run code as its user.
    workers
        Number of workers. Default: one for every `threads` cores, as far as memory allows; 1 in a
        queue.
    threads
        Threads of one worker. One is best if there are as many stacks as cores.
    options
        Options of dask-jobqueue, such as ``{"cores": 4, "memory": "16GB", "queue": "gpu"}``; the
        configuration of dask holds the rest. A job of the queue is one worker unless ``processes``
        is given; a job whose walltime is over is requested again. The jobs of a queue read the
        credentials from ``shared_temp_directory``, by default this user's cache folder; the files
        are readable by this user alone, and removed at the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str | None = Field(default=None, pattern=r"^(tcp|tls)://.+")
    kind: Literal["local", "slurm", "pbs", "lsf", "sge", "htcondor"] = "local"
    workers: int | None = Field(default=None, ge=1)
    threads: int = Field(default=1, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _check_encrypted(cls, options: dict[str, Any]) -> dict[str, Any]:
        scheduler_options = options.get("scheduler_options")
        for given in (options, scheduler_options if isinstance(scheduler_options, dict) else {}):
            protocol = given.get("protocol", _PROTOCOL)
            if str(protocol).split(":")[0] != "tls":
                raise ValueError(
                    f"protocol = {protocol!r}: expected 'tls://', because others who reach the "
                    "port of an unencrypted scheduler can run code as you: remove `protocol`"
                )
        return options

    @contextmanager
    def connect(self) -> Iterator[Client]:
        """A dask client of the workers; workers started for it end with it.

        Raises PlanError if the scheduler does not answer.
        """
        with ExitStack() as stack:
            target: Any = self.scheduler or stack.enter_context(self.start_cluster())
            try:
                yield stack.enter_context(
                    Client(target, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
                )
            except (OSError, ValueError, RuntimeError) as error:
                if self.scheduler is None or isinstance(error, Sam2Error):
                    raise
                raise PlanError(
                    f"no scheduler answers at {self.scheduler}: {error}; start one with `dask "
                    "scheduler`"
                ) from error

    @contextmanager
    def start_cluster(self) -> Iterator[Any]:
        """Start the workers of `kind`; a worker that dies is replaced."""
        if self.kind == "local":
            with (
                dask.config.set({**self._make_dask_settings(), **_LOCAL_SETTINGS}),
                LocalCluster(**self._make_local_options()) as cluster,
            ):
                yield cluster
            return
        with dask.config.set(self._make_dask_settings()), self._share_credentials() as security:
            dask_jobqueue = import_extra("dask_jobqueue", CLUSTER, f"cluster kind {self.kind!r}")
            with getattr(dask_jobqueue, _QUEUE_CLASSES[self.kind])(
                **self._make_queue_options(security)
            ) as cluster:
                workers = self.workers or 1
                cluster.adapt(
                    minimum=workers, maximum=workers
                )  # `scale` does not replace a job whose walltime is over
                yield cluster

    @contextmanager
    def _share_credentials(self) -> Iterator[Security]:
        """Credentials in files that the jobs of a queue can read: those of this site, or new ones.

        dask-jobqueue would leave the files of temporary credentials where they are.
        """
        if dask.config.get("distributed.comm.tls.ca-file"):
            yield Security(require_encryption=True)
            return
        folder = Path(
            self.options.get("shared_temp_directory")
            or dask.config.get(f"jobqueue.{self.kind}.shared-temp-directory", None)
            or user_cache_path("napari-sam2", appauthor=False) / "batch"
        ).expanduser()
        with ExitStack() as stack:
            with convert_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                made = TemporaryDirectory(dir=folder, prefix="credentials-")  # for this user alone
                security = _write_credentials(Path(stack.enter_context(made)))
            yield security

    @property
    def _worker_count(self) -> int:
        room = max(1, MEMORY_LIMIT // _WORKER_BYTES)
        return self.workers or max(1, min(CPU_COUNT // self.threads, room))

    def _make_local_options(self) -> dict[str, Any]:
        loopback = {
            "host": "127.0.0.1",
            "protocol": _PROTOCOL,
            "dashboard_address": _DASHBOARD,
        }
        return {
            "n_workers": self._worker_count,
            "threads_per_worker": 1,
            "silence_logs": logging.CRITICAL,
            **loopback,
            "security": _make_credentials(),
            **self.options,
        }

    def _make_queue_options(self, security: Security) -> dict[str, Any]:
        """Options of the queue: one worker per job, which runs one stack at a time."""
        prologue = [f"export {name}={self.threads}" for name in _THREAD_VARIABLES] + list(
            self.options.get("job_script_prologue", ())
        )
        extra = [*self.options.get("worker_extra_args", ()), "--nthreads", "1"]
        scheduler = {"dashboard_address": _DASHBOARD, **self.options.get("scheduler_options", {})}
        own = {
            "job_script_prologue": prologue,
            "worker_extra_args": extra,
            "scheduler_options": scheduler,
        }
        return {
            "processes": 1,
            "silence_logs": logging.CRITICAL,
            "protocol": _PROTOCOL,
            "security": security,
            **self.options,
            **own,
        }

    def _make_dask_settings(self) -> dict[str, Any]:
        """Settings of dask for local workers.

        The defaults of dask make glibc return every freed tensor at once, and profile each worker
        100 times a second: together a third of the time of a stack.
        """
        spawned = {
            **dask.config.get("distributed.nanny.pre-spawn-environ"),
            **dict.fromkeys(_THREAD_VARIABLES, self.threads),
        }
        spawned.pop("MALLOC_TRIM_THRESHOLD_", None)
        return {
            "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
            "distributed.nanny.pre-spawn-environ": spawned,
            "distributed.worker.profile.enabled": False,
        }


def _make_credentials() -> Security:
    """Credentials that only the scheduler, workers and client of one batch have."""
    import_extra("cryptography", CLUSTER, "a batch")
    return Security.temporary()


def _write_credentials(folder: Path) -> Security:
    """New credentials in files that only this user can read."""
    made = _make_credentials()
    texts = {
        "ca.pem": made.tls_ca_file,
        "cert.pem": made.tls_client_cert,
        "key.pem": made.tls_client_key,
    }
    for name, text in texts.items():
        with open(folder / name, "x", opener=_open_privately) as file:
            file.write(text)
    roles = {
        f"tls_{role}_{kind}": str(folder / f"{kind}.pem")
        for role in ("scheduler", "worker", "client")
        for kind in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(folder / "ca.pem"), **roles)


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
