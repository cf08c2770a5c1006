"""The panel for Jupyter: `annotate` shows a stack in a notebook."""

from napari_sam2.notebook.panel import NotebookPanel, annotate

__all__ = ["NotebookPanel", "annotate"]
