"""Pool: the workers that jobs run on: processes of this machine, a scheduler that runs, or jobs of a queue."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT
from pydantic import BaseModel, ConfigDict, Field

from napari_sam2.core.errors import PlanError
from napari_sam2.core.files.extras import CLUSTER, import_extra

_CONNECT_TIMEOUT_S = 30
# deaths of workers dask tries a task again after: how often a job is tried is decided where it is
# known how far it came
_ALLOWED_FAILURES = 0
_WORKER_BYTES = 2 * 1024**3  # memory that is counted upon for a worker
# by itself it would listen to everybody; at any port, as there may be other batches
_DASHBOARD = "127.0.0.1:0"
_LOCAL_SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "1000 days"
}  # else a worker that is away for 15 s, or twice, stays away
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_QUEUE_CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}


class Pool(BaseModel):
    """The workers jobs run on. Each worker carries one stack at a time and loads a model once.

    Parameters
    ----------
    scheduler
        Address of a dask scheduler that runs, ``tcp://…`` or ``tls://…``. Certificates come from
        dask's own configuration (``distributed.comm.tls``).
    kind
        "local": processes of this machine, which listen on the loopback interface only. The others
        ask a queueing system for workers through dask-jobqueue.
    workers
        How many; where not given, one for each core that is there (for `threads` of them), as far
        as memory goes; 1 from a queue.
    threads
        Cores one worker computes with. One is best where there are as many stacks as cores: two
        threads wait for each other.
    options
        What dask-jobqueue is given, e.g. ``{"cores": 4, "memory": "16GB", "queue": "gpu"}``; dask's
        configuration holds the rest. A job of the queue is one worker unless ``processes`` says
        otherwise; one whose time is up is asked for again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str | None = None
    kind: Literal["local", "slurm", "pbs", "lsf", "sge", "htcondor"] = "local"
    workers: int | None = Field(default=None, ge=1)
    threads: int = Field(default=1, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @contextmanager
    def connect(self) -> Iterator[Client]:
        """A client of the workers; those that were started for it end with it.

        Raises PlanError where nobody answers.
        """
        with ExitStack() as stack:
            target = self.scheduler or stack.enter_context(self.start_cluster())
            try:
                yield stack.enter_context(
                    Client(target, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
                )
            except OSError as error:
                if self.scheduler is None:
                    raise
                raise PlanError(
                    f"no scheduler answers at {self.scheduler}: {error}; start one with `dask "
                    "scheduler`"
                ) from error

    @contextmanager
    def start_cluster(self) -> Iterator[Any]:
        """The workers of `kind`, started now; one that dies is replaced."""
        if self.kind == "local":
            with (
                dask.config.set({**self._make_dask_settings(), **_LOCAL_SETTINGS}),
                LocalCluster(**self._make_local_options()) as cluster,
            ):
                yield cluster
            return
        with dask.config.set(self._make_dask_settings()):
            dask_jobqueue = import_extra("dask_jobqueue", CLUSTER, f"cluster kind {self.kind!r}")
            with getattr(dask_jobqueue, _QUEUE_CLASSES[self.kind])(
                **self._make_queue_options()
            ) as cluster:
                workers = self.workers or 1
                cluster.adapt(
                    minimum=workers, maximum=workers
                )  # `scale` would not replace a job whose time is up
                yield cluster

    @property
    def _worker_count(self) -> int:
        room = max(1, MEMORY_LIMIT // _WORKER_BYTES)
        return self.workers or max(1, min(CPU_COUNT // self.threads, room))

    def _make_local_options(self) -> dict[str, Any]:
        closed = {
            "host": "127.0.0.1",
            "protocol": "tcp://",
            "dashboard_address": _DASHBOARD,
        }  # nobody outside this machine
        return {
            "n_workers": self._worker_count,
            "threads_per_worker": 1,
            "silence_logs": logging.CRITICAL,
            **closed,
            **self.options,
        }

    def _make_queue_options(self) -> dict[str, Any]:
        """As `_make_local_options`: one worker a job, which carries one stack at a time with `threads` cores."""
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
        return {"processes": 1, "silence_logs": logging.CRITICAL, **self.options, **own}

    def _make_dask_settings(self) -> dict[str, Any]:
        """What dask is told of workers on this machine: the threads of the model, and to leave memory and stacks alone.

        By its own settings glibc gives every freed tensor back at once, and a thread looks 100
        times a second at what the others do: together they cost a third of the time of a stack.
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
