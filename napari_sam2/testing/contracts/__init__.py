"""What every implementation of an extension point must do, as tests to inherit.

Subclass with a name that pytest collects, and say how one is made::

    class TestMyModel(ModelContract):
        def make_model(self):
            return MyModel()
"""

from napari_sam2.testing.contracts.hook import HookContract
from napari_sam2.testing.contracts.model import ModelContract
from napari_sam2.testing.contracts.policy import PolicyContract
from napari_sam2.testing.contracts.sink import SinkContract
from napari_sam2.testing.contracts.source import SourceContract

__all__ = ["HookContract", "ModelContract", "PolicyContract", "SinkContract", "SourceContract"]
