"""The napari plugin.

Qt and napari are imported here only, and not by the controller: it is tested without a window.
"""
