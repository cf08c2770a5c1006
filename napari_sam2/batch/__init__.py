"""Many stacks, on this machine or on a cluster: `run_jobs`, and the jobs files of ``napari-sam2 batch``.

And a model whose network runs elsewhere: `load_remote_model`.
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
