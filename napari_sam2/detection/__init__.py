"""Detectors: objects that nobody prompted, as prompts."""
