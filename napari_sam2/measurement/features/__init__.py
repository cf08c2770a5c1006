"""Measurements per object and per track."""
