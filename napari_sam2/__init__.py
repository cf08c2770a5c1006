"""Prompt an object once, propagate it through the stack, correct it, count and measure it.

>>> from napari_sam2 import PointPrompt
>>> PointPrompt(frame=0, track=1, yx=[(88, 140)], positive=[True]).yx
((88.0, 140.0),)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam2.api.count import count
    from napari_sam2.api.job import Job, run_job, track
    from napari_sam2.api.project import Project
    from napari_sam2.api.tables import measure
    from napari_sam2.core.inference_options import InferenceOptions
    from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, PromptLog
    from napari_sam2.core.stack import Spacing, Stack, Video
    from napari_sam2.io.open import open_stack
    from napari_sam2.measurement.evaluation.agreement import evaluate
    from napari_sam2.models.load import load_model
    from napari_sam2.propagation.session import Run, Session
    from napari_sam2.train.finetune import finetune

_MODULES = {
    "BoxPrompt": "core.prompt",
    "InferenceOptions": "core.inference_options",
    "Job": "api.job",
    "MaskPrompt": "core.prompt",
    "PointPrompt": "core.prompt",
    "Project": "api.project",
    "PromptLog": "core.prompt",
    "Run": "propagation.session",
    "Session": "propagation.session",
    "Spacing": "core.stack",
    "Stack": "core.stack",
    "Video": "core.stack",
    "count": "api.count",
    "evaluate": "measurement.evaluation.agreement",
    "finetune": "train.finetune",
    "load_model": "models.load",
    "measure": "api.tables",
    "open_stack": "io.open",
    "run_job": "api.job",
    "track": "api.job",
}
__all__ = [
    "BoxPrompt",
    "InferenceOptions",
    "Job",
    "MaskPrompt",
    "PointPrompt",
    "Project",
    "PromptLog",
    "Run",
    "Session",
    "Spacing",
    "Stack",
    "Video",
    "count",
    "evaluate",
    "finetune",
    "load_model",
    "measure",
    "open_stack",
    "run_job",
    "track",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # overrides a submodule of the same name that was just loaded
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
