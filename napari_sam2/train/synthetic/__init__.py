"""Painted scenes: images that look like microscopy, to train on.

Seeded, cheap, and their truth known; ours, so free to use.
"""
