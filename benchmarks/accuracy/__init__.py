"""Benchmarks of accuracy: masks, tracks and counts against the truth."""
