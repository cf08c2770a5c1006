"""Pool: the workers that jobs run on: processes of this machine, a scheduler that runs, or jobs of a queue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import dask
from distributed import Client, LocalCluster
from pydantic import BaseModel, ConfigDict, Field

from napari_sam2.core.errors import PlanError

_CONNECT_S = 30
_FAILURES = 1_000  # deaths of workers a task may have seen: how often a job is tried again is ours to decide (`run.Patience`)
_QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster", "htcondor": "HTCondorCluster"}


class Pool(BaseModel):
    """The workers jobs run on. Each worker carries one stack at a time and loads a model once.

    Parameters
    ----------
    scheduler
        Address of a dask scheduler that runs, ``tcp://…`` or ``tls://…``. Certificates come from dask's own configuration
        (``distributed.comm.tls``).
    kind
        "local": processes of this machine, which listen on the loopback interface only. The others ask a queueing system
        for workers through dask-jobqueue.
    workers
        How many; one for two cores where not given, 1 from a queue.
    options
        What dask-jobqueue is given, e.g. ``{"cores": 4, "memory": "16GB", "queue": "gpu"}``; dask's configuration holds the rest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str | None = None
    kind: Literal["local", "slurm", "pbs", "lsf", "sge", "htcondor"] = "local"
    workers: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the workers; those that were started for it end with it. Raises PlanError where nobody answers."""
        with ExitStack() as stack:
            target = self.scheduler or stack.enter_context(self.cluster())
            try:
                yield stack.enter_context(Client(target, timeout=_CONNECT_S, set_as_default=False))
            except OSError as error:
                if self.scheduler is None:
                    raise
                raise PlanError(f"no scheduler answers at {self.scheduler}: {error}; start one with `dask scheduler`") from error

    @contextmanager
    def cluster(self) -> Iterator[Any]:
        """The workers of `kind`, started now."""
        if self.kind == "local":
            with dask.config.set(self._settings()), LocalCluster(**self._local()) as cluster:
                yield cluster
            return
        try:
            import dask_jobqueue
        except ImportError as error:
            raise PlanError(f"cluster kind {self.kind!r} needs dask-jobqueue: pip install 'napari-sam2[cluster]'") from error
        with getattr(dask_jobqueue, _QUEUES[self.kind])(**self.options) as cluster:
            cluster.scale(self.workers or 1)
            yield cluster

    @property
    def _count(self) -> int:
        return self.workers or max(1, (os.cpu_count() or 1) // 2)

    def _local(self) -> dict[str, Any]:
        closed = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": None}  # nobody outside this machine
        return {"n_workers": self._count, "threads_per_worker": 1, **closed, **self.options}

    def _settings(self) -> dict[str, Any]:
        """Threads of the model: the cores are shared out among the workers."""
        threads = max(1, (os.cpu_count() or 1) // self._count)
        spawned = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return {"distributed.scheduler.allowed-failures": _FAILURES, **spawned}
