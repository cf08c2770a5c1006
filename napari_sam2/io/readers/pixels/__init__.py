"""Meaning of stored samples: colours, palettes, polarity and compression."""
