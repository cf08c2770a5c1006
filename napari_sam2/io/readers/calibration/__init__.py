"""Calibration of TIFF files: pixel sizes, intervals, channel names and meaning of values."""
