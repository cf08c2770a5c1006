"""Swim lanes: every track over all frames."""
