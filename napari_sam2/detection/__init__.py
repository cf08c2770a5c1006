"""Prompts nobody clicked: seeds from classical detectors, grids, label planes of other tools, and what resembles an example."""
