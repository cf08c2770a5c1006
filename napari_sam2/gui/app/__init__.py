"""The state of the plugin and what it does, without Qt and napari: tested without a window."""
