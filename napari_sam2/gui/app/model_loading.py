"""Loading: models for a window. torch is imported here, in the background thread, and leaves the window a core."""

from __future__ import annotations

from napari_sam2.core.protocols import VideoModel


def load_model_in_background(name: str) -> VideoModel:
    """The model of that name, computing in this thread on all cores but one.

    Called in the background; see `load_model`.
    """
    from napari_sam2.models.device import (
        reserve_core,
    )  # torch: seconds for which the window would stand still
    from napari_sam2.models.load import load_model

    reserve_core()
    return load_model(name)
