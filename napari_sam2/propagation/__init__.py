"""Propagate prompted tracks through a video, store their segments, resolve overlaps."""
