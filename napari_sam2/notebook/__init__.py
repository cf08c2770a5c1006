"""The panel in Jupyter: `annotate` a stack where the notebook is."""

from napari_sam2.notebook.panel import Panel, annotate

__all__ = ["Panel", "annotate"]
