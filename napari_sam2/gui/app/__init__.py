"""The state and the logic of the plugin, without Qt and napari, so that tests need no window."""
