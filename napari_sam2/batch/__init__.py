"""Batches: many stacks on this machine or on a cluster, by `run_jobs` or by a jobs file.

`load_remote_model` gives a model whose network runs on another machine.
"""

from napari_sam2.batch.config import Batch, read_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.batch.remote_model import RemoteModel, load_remote_model
from napari_sam2.batch.run import run_batch, run_jobs

__all__ = [
    "Batch",
    "Pool",
    "RemoteModel",
    "load_remote_model",
    "read_jobs",
    "run_batch",
    "run_jobs",
]
