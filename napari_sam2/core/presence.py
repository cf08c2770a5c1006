"""Presence: what a Track is on a Frame. What the swim lanes draw."""

from enum import StrEnum


class Presence(StrEnum):
    """Per Track and Frame, from most to least certain."""

    LOCKED = "locked"
    """A person accepted it; nothing overwrites it."""
    PROMPTED = "prompted"
    """A person or a rule prompted it here; no walk overwrites it."""
    TRACKED = "tracked"
    """The model carried it here."""
    UNCERTAIN = "uncertain"
    """The model carried it here and doubts it: look at this frame."""
    ABSENT = "absent"
    """The model says the object is not on this frame."""


CONDITIONING_PRESENCES = (Presence.LOCKED, Presence.PROMPTED)
"""The frames that no walk overwrites, and that the others are conditioned on."""
