"""What every implementation of an extension point must do, as tests to inherit.

Subclass with a name that pytest collects, and say how one is made::

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
