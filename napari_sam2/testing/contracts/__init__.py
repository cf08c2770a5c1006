"""Tests of extension points, to inherit for each implementation.

Subclass with a name that pytest collects, and return a new implementation::

    class TestMyModel(ModelContract):
        def make_model(self):
            return MyModel()
"""

from napari_sam2.testing.contracts.detector import DetectorContract
from napari_sam2.testing.contracts.hook import HookContract
from napari_sam2.testing.contracts.model import ModelContract
from napari_sam2.testing.contracts.policy import PolicyContract
from napari_sam2.testing.contracts.sink import SinkContract

__all__ = ["DetectorContract", "HookContract", "ModelContract", "PolicyContract", "SinkContract"]
