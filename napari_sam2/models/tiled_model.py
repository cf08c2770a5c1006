"""A model that reads each track from a tile of the frame that shows it large enough.

A tile is encoded when a track first needs it, once for all tracks in it; the owner of the frame's
Embedding keeps it. If a track moves to the next tile, its memories are resampled to that tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import (
    contains_points,
    find_logit_corners,
    include_points,
    resample,
)
from napari_sam2.models.memory_payload import MemoryPayload, resample_memory
from napari_sam2.models.object_location import locate_object, search_clicked_objects
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tile_grid import TileGrid, is_within

# Usual widths of objects, in input pixels. Answers outside of it count less.
_OBJECT_WIDTH_RANGE_PX = (40.0, 512.0)
_T = TypeVar("_T")


class TiledModel:
    """A VideoModel around one that reads whole frames.

    The Embedding of a frame holds its pixels; the features of tiles and of the whole frame are
    parts of it.
    """

    def __init__(self, inner: Sam2Predictor) -> None:
        self.inner = inner
        self.card = replace(inner.card, windows="tiles")
        self.device = inner.device

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`. Nothing is encoded yet; each Embedding keeps its own parts."""
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
        """See `VideoModel`: each Segment is over a tile, or over a region of it."""
        tiles = [self._choose_tile(embedding, query) for query in queries]

        def segment_tile(tile: Window, part: list[int]) -> list[Segment]:
            return self.inner.segment(
                self._get_tile_embedding(embedding, tile),
                [self._resample_query(queries[index], tile) for index in part],
            )

        return _map_tiles(tiles, segment_tile)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """See `VideoModel`."""
        tiles = [_make_tile_grid(embedding).find_tile_of(segment.window) for segment in segments]

        def encode_tile(tile: Window, part: list[int]) -> list[tuple[Any, ...]]:
            return self.inner.encode_memory(
                self._get_tile_embedding(embedding, tile), [segments[index] for index in part]
            )

        return _map_tiles(tiles, encode_tile)

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """(H, W) float32 pixels of a frame, or the arrays of a part."""
        return self.inner.to_arrays(features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`. Pixels stay in main memory."""
        is_frame = arrays[0].ndim == 2
        return (
            (torch.from_numpy(np.array(arrays[0], dtype=np.float32)),)
            if is_frame
            else self.inner.from_arrays(arrays)
        )

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """See `VideoModel`."""
        return self.inner.nbytes(features)

    def _make_part_cache(self) -> ByteLimitedCache[Window, Embedding]:
        return ByteLimitedCache(lambda embedding: self.inner.nbytes(embedding.features))

    def _get_tile_embedding(self, embedding: Embedding, tile: Window) -> Embedding:
        """The features of a tile, encoded if they are not kept."""
        (pixels,) = embedding.features
        return embedding.get_part(
            tile, lambda: self.inner.embed([(Frame(embedding.frame, pixels.numpy()), tile)])[0]
        )

    def _choose_tile(self, embedding: Embedding, query: Query) -> Window:
        """The tile of a query's object; the whole frame if nothing tells where the object is."""
        grid, points = _make_tile_grid(embedding), query.prompts.points
        location = locate_object(query, embedding.frame)
        if location is None:
            return self._search_tile(embedding, query) if points else embedding.window
        if location.corners is None:
            return grid.find_tile_of(cast(Window, location.window))
        if location.source == "answer":
            tile = grid.find_tile_of(cast(Window, location.window))
            if contains_points(tile, points):
                return tile
        return grid.choose_tile(location.corners, location.window)

    def _search_tile(self, embedding: Embedding, query: Query) -> Window:
        """The tile of an object that only clicks point at."""
        grid = _make_tile_grid(embedding)

        def segment(queries: Sequence[Query], tiles: Sequence[Window]) -> list[Segment]:
            return [
                self.inner.segment(self._get_tile_embedding(embedding, tile), [each])[0]
                for each, tile in zip(queries, tiles, strict=True)
            ]

        (best,) = search_clicked_objects(
            [query], grid.make_tile_pyramid, segment, _OBJECT_WIDTH_RANGE_PX
        )
        corners = find_logit_corners(best.logits, best.window)
        if corners is None:
            return grid.find_tile_of(best.window)
        return grid.choose_tile(include_points(corners, query.prompts.points))

    def _resample_query(self, query: Query, tile: Window) -> Query:
        """The query with its memories and previous logits over this tile."""
        references = tuple(
            self.resample_reference(reference, tile) for reference in query.memory_references
        )
        if query.logits is None or query.window is None or is_within(query.window, tile):
            return replace(query, memory_references=references)
        logits = resample(
            torch.from_numpy(query.logits)[None, None],
            [query.window],
            [tile],
            query.logits.shape[0] * tile.size // query.window.size,
        )[0, 0]
        return replace(query, memory_references=references, logits=logits.numpy(), window=tile)

    def resample_reference(self, reference: MemoryReference, tile: Window) -> MemoryReference:
        """A memory over this tile; that of a region stays in a region around the object."""
        if reference.memory.features is None:
            return reference
        payload = cast(MemoryPayload, reference.memory.features)
        was_global = payload.view_window.size == tile.size
        if is_within(payload.window, tile):
            features = payload._replace(view_window=tile if was_global else payload.view_window)
        else:
            target = self._choose_memory_target(payload, tile)
            features = resample_memory(payload, target, tile if was_global else target)
        return replace(reference, memory=replace(reference.memory, features=features))

    def _choose_memory_target(self, payload: MemoryPayload, tile: Window) -> Window:
        """The region of the tile for a memory of a region, else the tile."""
        regions = self.inner.regions if payload.window.size < tile.size else None
        return regions.make_region(payload.corners, tile) if regions and payload.corners else tile


def _map_tiles(
    tiles: Sequence[Window], call: Callable[[Window, list[int]], Sequence[_T]]
) -> list[_T]:
    """Results in order; `call` gets each tile once, with the indices of all items in it."""
    results: dict[int, _T] = {}
    for tile in dict.fromkeys(tiles):
        part = [index for index, each in enumerate(tiles) if each == tile]
        results.update(zip(part, call(tile, part), strict=True))
    return [results[index] for index in range(len(tiles))]


def _make_tile_grid(embedding: Embedding) -> TileGrid:
    height, width = embedding.features[0].shape
    return TileGrid((int(height), int(width)), embedding.window)
