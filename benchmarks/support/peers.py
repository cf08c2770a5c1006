"""Implementations of SAM 2's video predictor behind one interface, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.support.click_case import Click
from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.session import Session, SessionSettings


class PeerVideo(Protocol):
    """A video opened by a peer."""

    def add_clicks(self, clicks: Sequence[Click]) -> None:
        """Add clicks, all on one frame, and segment it."""
        ...

    def propagate(self) -> None:
        """Propagate what is new or was corrected through the whole video."""
        ...

    def read_masks(self, frame: int) -> np.ndarray:
        """Read the current (n, H, W) bool masks of a frame, ascending by track."""
        ...

    def close(self) -> None:
        """Release its memory."""
        ...


class Peer(Protocol):
    """An implementation with its weights loaded."""

    name: str

    def open_video(self, frames: Any) -> PeerVideo:
        """Open (T, H, W) frames in 0..1: an array, or an object that is indexed like one."""
        ...


class NapariSam2Peer:
    """This package, by its own `Session`."""

    name = "napari-sam2"

    def __init__(self, size: int, *, embedding_bytes: int = DEFAULT_BYTES) -> None:
        from benchmarks.support import random_weights
        from napari_sam2.models.network.configs import PUBLISHED_CONFIGURATIONS
        from napari_sam2.models.network.sam2_network import Sam2Network
        from napari_sam2.models.predictor import Sam2Predictor

        card = ModelCard("random-tiny", input_sizes=(size,))
        self.model = Sam2Predictor(
            Sam2Network.of(
                PUBLISHED_CONFIGURATIONS[random_weights.SIZE], random_weights.make_state()
            ),
            card,
            "cpu",
        )
        self._settings = SessionSettings(patience=None, embedding_bytes=embedding_bytes)

    def open_video(self, frames: Any) -> _NapariSam2Video:
        """See `Peer`."""
        video = Video.of(Stack(frames, "tyx"), contrast=Contrast(0.0, 1.0))
        return _NapariSam2Video(Session(video, self.model, settings=self._settings))


class _NapariSam2Video:
    def __init__(self, session: Session) -> None:
        self._session = session

    def add_clicks(self, clicks: Sequence[Click]) -> None:
        self._session.prompt_many(
            [PointPrompt(click.frame, click.track, click.yx, click.positive) for click in clicks]
        )

    def propagate(self) -> None:
        self._session.propagate(progress=False)

    def read_masks(self, frame: int) -> np.ndarray:
        shape = self._session.video.shape[1:]
        return np.stack(
            [compute_mask(segment, shape) for segment in self._session.get_segments(frame)]
        )

    def close(self) -> None:
        self._session.close()


def make_peer(
    name: str, size: int, *, sam2: Sequence[Path] = (), embedding_bytes: int = DEFAULT_BYTES
) -> Peer:
    """Make the peer of that name, for frames of `size` pixels.

    Parameters
    ----------
    sam2
        Folders of the reference.
    embedding_bytes
        Memory for image features, for this package only.
    """
    return _BUILDERS[name](size, tuple(sam2), embedding_bytes)


def _make_napari_sam2(size: int, sam2: tuple[Path, ...], embedding_bytes: int) -> Peer:
    return NapariSam2Peer(size, embedding_bytes=embedding_bytes)


def _make_reference(size: int, sam2: tuple[Path, ...], embedding_bytes: int) -> Peer:
    from benchmarks.support.peer_reference import ReferencePeer

    return ReferencePeer(size, sam2)


def _make_transformers(size: int, sam2: tuple[Path, ...], embedding_bytes: int) -> Peer:
    from benchmarks.support.peer_transformers import TransformersPeer

    return TransformersPeer(size)


_BUILDERS: dict[str, Callable[[int, tuple[Path, ...], int], Peer]] = {
    "ours": _make_napari_sam2,
    "reference": _make_reference,
    "transformers": _make_transformers,
}
PEER_NAMES = tuple(_BUILDERS)
