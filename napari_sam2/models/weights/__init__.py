"""Checkpoints and their cards: found, fetched, verified, imported."""
