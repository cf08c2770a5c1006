"""Checkpoints and their cards: find, fetch, verify and import them."""
