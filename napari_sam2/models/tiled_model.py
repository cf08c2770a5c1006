"""Tiled: a model that looks at each track by a tile of the frame, where the whole frame would show it too small.

Tiles are encoded when they are first asked about, and once for all tracks in them; who holds the
frame's Embedding keeps them. A track that moves is handed over to the next tile: its memories are
brought there, cell by cell, as they lie on the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.byte_limited_cache import Shelf
from napari_sam2.core.result import Embedding, Query, Recall, Segment
from napari_sam2.core.video import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.click_scale import best, middle
from napari_sam2.models.cropping import EDGE_PX, corners_of, extent, joined, moved
from napari_sam2.models.local_attention import holds
from napari_sam2.models.memory_payload import Payload, nearest
from napari_sam2.models.network.sam2_network import STRIDE
from napari_sam2.models.predictor import Sam2
from napari_sam2.models.tile_grid import Tiles, within

_FITTING = (
    40.0,
    512.0,
)  # pixels of the input: what a click is answered by that is narrower or wider counts less
_T = TypeVar("_T")


class Tiled:
    """A VideoModel around a Sam2 that sees whole frames.

    The Embedding of a frame holds its pixels; what the network makes of a tile, or of the whole
    frame, is a part of it.
    """

    def __init__(self, inner: Sam2) -> None:
        self.inner = inner
        self.card = replace(inner.card, windows="tiles")
        self.device = inner.device

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`.

        Nothing is encoded yet. Where nobody else keeps the parts, the Embedding itself does.
        """
        return [
            Embedding(frame.index, window, (torch.from_numpy(frame.pixels),), self._shelf().had)
            for frame, window in views
        ]

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """See `VideoModel`: each Segment is over a tile, or over a Region of it."""
        tiles = [self._tile(embedding, query) for query in queries]

        def asked(tile: Window, part: list[int]) -> list[Segment]:
            return self.inner.segment(
                self._seen(embedding, tile), [self._brought(queries[place], tile) for place in part]
            )

        return _by_tile(tiles, asked)

    def remember(self, embedding: Embedding, segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
        """See `VideoModel`."""
        tiles = [_tiles(embedding).holding(segment.window) for segment in segments]

        def asked(tile: Window, part: list[int]) -> list[tuple[Any, ...]]:
            return self.inner.remember(
                self._seen(embedding, tile), [segments[place] for place in part]
            )

        return _by_tile(tiles, asked)

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """(H, W) float32 pixels of a frame, or the arrays of a part."""
        return self.inner.to_arrays(features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`. Pixels stay in the memory of the processor."""
        pixels = arrays[0].ndim == 2
        return (
            (torch.from_numpy(np.array(arrays[0], dtype=np.float32)),)
            if pixels
            else self.inner.from_arrays(arrays)
        )

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """See `VideoModel`."""
        return self.inner.nbytes(features)

    def _shelf(self) -> Shelf[Window, Embedding]:
        return Shelf(lambda embedding: self.inner.nbytes(embedding.features))

    def _seen(self, embedding: Embedding, tile: Window) -> Embedding:
        """What the network makes of a tile."""
        (pixels,) = embedding.features
        return embedding.part(
            tile, lambda: self.inner.embed([(Frame(embedding.frame, pixels.numpy()), tile)])[0]
        )

    def _tile(self, embedding: Embedding, query: Query) -> Window:
        """Where a track is known to be: in what was said, in its answer before, or on the frame before; else where it is found."""
        tiles, said = _tiles(embedding), query.said
        if said.mask is not None:
            return tiles.around(corners_of(said.mask))
        if query.logits is not None and query.window is not None:
            corners, tile = extent(query.logits, query.window), tiles.holding(query.window)
            if corners is None or holds(tile, said.points):
                return tile
            return tiles.around(joined(corners, said.points), query.window)
        if said.box is not None:
            top, left, bottom, right = (edge + EDGE_PX for edge in said.box)
            return tiles.around(joined(((top, left), (bottom, right)), said.points))
        if said.points:
            return self._found(embedding, query)
        last = nearest(query.memories, embedding.frame)
        if last is None or last.features is None:
            return embedding.window
        payload = cast(Payload, last.features)
        return (
            tiles.around(payload.corners, payload.window)
            if payload.corners
            else tiles.holding(payload.window)
        )

    def _found(self, embedding: Embedding, query: Query) -> Window:
        """The tile of what points alone speak of: it is looked at from near and from far, and the best answer taken."""
        tiles, points = _tiles(embedding), query.said.points
        steps = [tile for tile in tiles.ladder(middle(query.said)) if holds(tile, points)] or [
            embedding.window
        ]
        alone = Query(query.track, query.said)
        answers = [self.inner.segment(self._seen(embedding, tile), [alone])[0] for tile in steps]
        chosen = best(answers, _FITTING)
        corners = extent(chosen.logits, chosen.window)
        return tiles.around(joined(corners, points)) if corners else tiles.holding(chosen.window)

    def _brought(self, query: Query, tile: Window) -> Query:
        """The same question, all that comes with it over this tile."""
        recalls = tuple(self._recalled(recall, tile) for recall in query.recalls)
        if query.logits is None or query.window is None or within(query.window, tile):
            return replace(query, recalls=recalls)
        logits = _over(
            torch.from_numpy(query.logits)[None],
            query.window,
            tile,
            query.logits.shape[0] * tile.size // query.window.size,
        )
        return replace(query, recalls=recalls, logits=logits[0].numpy(), window=tile)

    def _recalled(self, recall: Recall, tile: Window) -> Recall:
        """A memory as it lies in this tile: in the Region around the object where it was of a Region."""
        if recall.memory.features is None:
            return recall
        payload = cast(Payload, recall.memory.features)
        seen = tile if payload.seen.size == tile.size else payload.seen
        if within(payload.window, tile):
            return replace(
                recall, memory=replace(recall.memory, features=payload._replace(seen=seen))
            )
        regions = self.inner.regions if payload.window.size < tile.size else None
        target = regions.around(payload.corners, tile) if regions and payload.corners else tile
        side, now = payload.window.size // STRIDE, target.size // STRIDE
        grid = payload.tokens.float().T.unflatten(1, (side, side))
        tokens = _over(grid, payload.window, target, now).flatten(1).T.to(payload.tokens.dtype)
        mask = (
            payload.mask
            if payload.mask is None
            else _over(payload.mask.float()[None], payload.window, target, target.size // 4)[0]
        )
        mask = mask if mask is None else mask.to(cast(Tensor, payload.mask).dtype)
        features = Payload(tokens, target, payload.corners, mask, tile if seen == tile else target)
        return replace(recall, memory=replace(recall.memory, features=features))


def _by_tile(
    tiles: Sequence[Window], asked: Callable[[Window, list[int]], Sequence[_T]]
) -> list[_T]:
    """Answers in order, all that lie in one tile asked for together."""
    found: dict[int, _T] = {}
    for tile in dict.fromkeys(tiles):
        part = [place for place, each in enumerate(tiles) if each == tile]
        found.update(zip(part, asked(tile, part), strict=True))
    return [found[place] for place in range(len(tiles))]


def _over(planes: Tensor, source: Window, target: Window, side: int) -> Tensor:
    """(C, side, side) of (C, h, w) planes over their source Window, at the cells of a target Window."""
    return moved(planes[None], [source], [target], side)[0]


def _tiles(embedding: Embedding) -> Tiles:
    height, width = embedding.features[0].shape
    return Tiles((int(height), int(width)), embedding.window)
