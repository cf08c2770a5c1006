"""The panel for Jupyter: `annotate` shows a stack in a notebook."""

from napari_sam2.core.files.extras import NOTEBOOK, import_extra

for _module in ("anywidget", "ipywidgets", "traitlets", "PIL"):
    import_extra(_module, NOTEBOOK, "the panel for Jupyter")

from napari_sam2.notebook.panel import NotebookPanel, annotate  # noqa: E402

__all__ = ["NotebookPanel", "annotate"]
