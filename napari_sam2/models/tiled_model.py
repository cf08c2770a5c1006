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

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.click_scale import find_click_centre, select_best_segment
from napari_sam2.models.cropping import (
    EDGE_PX,
    find_logit_corners,
    find_mask_corners,
    include_points,
    resample,
)
from napari_sam2.models.local_attention import contains_points
from napari_sam2.models.memory_payload import MemoryPayload, find_nearest_memory
from napari_sam2.models.network.sam2_network import STRIDE
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tile_grid import TileGrid, is_within

_OBJECT_WIDTH_RANGE_PX = (
    40.0,
    512.0,
)  # pixels of the input: what a click is answered by that is narrower or wider counts less
_T = TypeVar("_T")


class TiledModel:
    """A VideoModel around a Sam2 that sees whole frames.

    The Embedding of a frame holds its pixels; what the network makes of a tile, or of the whole
    frame, is a part of it.
    """

    def __init__(self, inner: Sam2Predictor) -> None:
        self.inner = inner
        self.card = replace(inner.card, windows="tiles")
        self.device = inner.device

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`.

        Nothing is encoded yet. Where nobody else keeps the parts, the Embedding itself does.
        """
        return [
            Embedding(
                frame.index,
                window,
                (torch.from_numpy(frame.pixels),),
                self._make_part_cache().get_or_make,
            )
            for frame, window in views
        ]

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """See `VideoModel`: each Segment is over a tile, or over a Region of it."""
        tiles = [self._choose_tile(embedding, query) for query in queries]

        def asked(tile: Window, part: list[int]) -> list[Segment]:
            return self.inner.segment(
                self._get_tile_embedding(embedding, tile),
                [self._resample_query(queries[place], tile) for place in part],
            )

        return _map_tiles(tiles, asked)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """See `VideoModel`."""
        tiles = [_make_tile_grid(embedding).find_tile_of(segment.window) for segment in segments]

        def asked(tile: Window, part: list[int]) -> list[tuple[Any, ...]]:
            return self.inner.encode_memory(
                self._get_tile_embedding(embedding, tile), [segments[place] for place in part]
            )

        return _map_tiles(tiles, asked)

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

    def _make_part_cache(self) -> ByteLimitedCache[Window, Embedding]:
        return ByteLimitedCache(lambda embedding: self.inner.nbytes(embedding.features))

    def _get_tile_embedding(self, embedding: Embedding, tile: Window) -> Embedding:
        """What the network makes of a tile."""
        (pixels,) = embedding.features
        return embedding.get_part(
            tile, lambda: self.inner.embed([(Frame(embedding.frame, pixels.numpy()), tile)])[0]
        )

    def _choose_tile(self, embedding: Embedding, query: Query) -> Window:
        """Where a track is known to be: in what was said, in its answer before, or on the frame before; else where it is found."""
        tiles, said = _make_tile_grid(embedding), query.prompts
        if said.mask is not None:
            return tiles.choose_tile(find_mask_corners(said.mask))
        if query.logits is not None and query.window is not None:
            corners, tile = (
                find_logit_corners(query.logits, query.window),
                tiles.find_tile_of(query.window),
            )
            if corners is None or contains_points(tile, said.points):
                return tile
            return tiles.choose_tile(include_points(corners, said.points), query.window)
        if said.box is not None:
            top, left, bottom, right = (edge + EDGE_PX for edge in said.box)
            return tiles.choose_tile(include_points(((top, left), (bottom, right)), said.points))
        if said.points:
            return self._search_tile(embedding, query)
        last = find_nearest_memory(query.memories, embedding.frame)
        if last is None or last.features is None:
            return embedding.window
        payload = cast(MemoryPayload, last.features)
        return (
            tiles.choose_tile(payload.corners, payload.window)
            if payload.corners
            else tiles.find_tile_of(payload.window)
        )

    def _search_tile(self, embedding: Embedding, query: Query) -> Window:
        """The tile of what points alone speak of: it is looked at from near and from far, and the best answer taken."""
        tiles, points = _make_tile_grid(embedding), query.prompts.points
        steps = [
            tile
            for tile in tiles.make_tile_pyramid(find_click_centre(query.prompts))
            if contains_points(tile, points)
        ] or [embedding.window]
        alone = Query(query.track, query.prompts)
        answers = [
            self.inner.segment(self._get_tile_embedding(embedding, tile), [alone])[0]
            for tile in steps
        ]
        chosen = select_best_segment(answers, _OBJECT_WIDTH_RANGE_PX)
        corners = find_logit_corners(chosen.logits, chosen.window)
        return (
            tiles.choose_tile(include_points(corners, points))
            if corners
            else tiles.find_tile_of(chosen.window)
        )

    def _resample_query(self, query: Query, tile: Window) -> Query:
        """The same question, all that comes with it over this tile."""
        recalls = tuple(
            self._resample_reference(recall, tile) for recall in query.memory_references
        )
        if query.logits is None or query.window is None or is_within(query.window, tile):
            return replace(query, memory_references=recalls)
        logits = _resample_planes(
            torch.from_numpy(query.logits)[None],
            query.window,
            tile,
            query.logits.shape[0] * tile.size // query.window.size,
        )
        return replace(query, memory_references=recalls, logits=logits[0].numpy(), window=tile)

    def _resample_reference(self, reference: MemoryReference, tile: Window) -> MemoryReference:
        """A memory as it lies in this tile: in the Region around the object where it was of a Region."""
        if reference.memory.features is None:
            return reference
        payload = cast(MemoryPayload, reference.memory.features)
        seen = tile if payload.view_window.size == tile.size else payload.view_window
        if is_within(payload.window, tile):
            return replace(
                reference,
                memory=replace(reference.memory, features=payload._replace(view_window=seen)),
            )
        regions = self.inner.regions if payload.window.size < tile.size else None
        target = regions.make_region(payload.corners, tile) if regions and payload.corners else tile
        side, now = payload.window.size // STRIDE, target.size // STRIDE
        grid = payload.tokens.float().T.unflatten(1, (side, side))
        tokens = (
            _resample_planes(grid, payload.window, target, now)
            .flatten(1)
            .T.to(payload.tokens.dtype)
        )
        mask = (
            payload.mask
            if payload.mask is None
            else _resample_planes(
                payload.mask.float()[None], payload.window, target, target.size // 4
            )[0]
        )
        mask = mask if mask is None else mask.to(cast(Tensor, payload.mask).dtype)
        features = MemoryPayload(
            tokens, target, payload.corners, mask, tile if seen == tile else target
        )
        return replace(reference, memory=replace(reference.memory, features=features))


def _map_tiles(
    tiles: Sequence[Window], call: Callable[[Window, list[int]], Sequence[_T]]
) -> list[_T]:
    """Answers in order, all that lie in one tile asked for together."""
    found: dict[int, _T] = {}
    for tile in dict.fromkeys(tiles):
        part = [place for place, each in enumerate(tiles) if each == tile]
        found.update(zip(part, call(tile, part), strict=True))
    return [found[place] for place in range(len(tiles))]


def _resample_planes(planes: Tensor, source: Window, target: Window, side: int) -> Tensor:
    """(C, side, side) of (C, h, w) planes over their source Window, at the cells of a target Window."""
    return resample(planes[None], [source], [target], side)[0]


def _make_tile_grid(embedding: Embedding) -> TileGrid:
    height, width = embedding.features[0].shape
    return TileGrid((int(height), int(width)), embedding.window)
