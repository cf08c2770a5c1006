"""Synthetic scenes for training: images that look like microscopy, with exact truth.

They are seeded and cheap to draw.
"""
