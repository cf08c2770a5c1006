"""The functions and jobs that notebooks, the command line and napari call."""
