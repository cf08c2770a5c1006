"""Many stacks, on this machine or on a cluster: `run_jobs`, and the jobs files of ``napari-sam2 batch``.

And a model whose network runs elsewhere: `remote_model`.
"""

from napari_sam2.batch.config import Batch, read_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.batch.remote_model import RemoteModel, remote_model
from napari_sam2.batch.run import run_batch, run_jobs

__all__ = ["Batch", "Pool", "RemoteModel", "read_jobs", "remote_model", "run_batch", "run_jobs"]
