"""Following: each track is looked at through a Window of its own, which shows it large enough and follows it.

A network that sees objects always about as large needs to be neither large nor shown whole frames:
what a frame costs is what its tracks cost, however large it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.result import Embedding, Query, Recall, Segment
from napari_sam2.core.video import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.click_scale import best, middle
from napari_sam2.models.cropping import (
    EDGE_PX,
    Corners,
    around,
    corners_of,
    extent,
    joined,
    ladder,
    moved,
)
from napari_sam2.models.local_attention import holds
from napari_sam2.models.memory_payload import Payload, nearest, payload_of
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY
from napari_sam2.models.network.mask_decoder import Decoded, mean
from napari_sam2.models.network.sam2_network import STRIDE, Features
from napari_sam2.models.predictor import Looks, Sam2

_ENCODED_AT_ONCE = 32  # Windows of one batch; larger ones are no faster on a CPU
_FITTING = (
    14.0,
    72.0,
)  # pixels of the input an object is wide, in training: outside of it an answer counts less
_TURN = (-2, -1)  # axes that are reversed: half a circle


class Following(Sam2):
    """See the module.

    An Embedding holds the frame's pixels, and the features of the Windows that were asked about
    last.
    """

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """The frames as they are: what is encoded depends on what is asked."""
        return [
            Embedding(frame.index, window, (torch.from_numpy(frame.pixels), _Encoded()))
            for frame, window in views
        ]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order, each with its own Window; see `Sam2.segment`."""
        windows = [self._known(embedding, query) for query in queries]
        unknown = [place for place, window in enumerate(windows) if window is None]
        found = self._searched(embedding, [queries[place] for place in unknown])
        for place, window in zip(unknown, found, strict=True):
            windows[place] = window
        embedding.features[1].forget_all_but(windows)
        return self._segments(embedding, queries, cast(list[Window], windows))

    @torch.inference_mode()
    def remember(self, embedding: Embedding, segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
        """As `Sam2.remember`; nothing that was encoded of the frame is kept after it, for nobody asks again."""
        found = super().remember(embedding, segments)
        embedding.features[1].forget_all_but(())
        return found

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The frame's pixels, (H, W) float32."""
        return (features[0].numpy(),)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`; nothing is encoded yet."""
        return (torch.from_numpy(np.array(arrays[0], dtype=np.float32)), _Encoded())

    def _cores(self, rooms: Sequence[int]) -> int:
        return (
            torch.get_num_threads() if self.device == "cpu" else 1
        )  # for one track too: more are slower

    def _features(
        self, embedding: Embedding, windows: Sequence[Window], *, turned: bool = False
    ) -> Features:
        pixels, encoded = cast(tuple[Tensor, _Encoded], embedding.features)
        known = encoded.turned if turned else encoded.upright
        lacking = sorted(
            {window for window in windows if window not in known},
            key=lambda each: (each.top, each.left, each.height),
        )
        for start in range(0, len(lacking), _ENCODED_AT_ONCE):
            part = lacking[start : start + _ENCODED_AT_ONCE]
            crops = torch.from_numpy(np.stack([window.crop(pixels.numpy()) for window in part])).to(
                self.device
            )
            levels = self.network.embed((crops.flip(_TURN) if turned else crops)[:, None])
            known.update(
                (window, tuple(level[row] for level in levels)) for row, window in enumerate(part)
            )
        rows = [known[window] for window in windows]
        fine, middle, coarse = (torch.stack([row[level] for row in rows]) for level in range(3))
        return fine, middle, coarse

    def _brought(
        self,
        planes: Sequence[Tensor],
        sources: Sequence[Window],
        targets: Sequence[Window],
        whole: Window,
    ) -> Tensor:
        return moved(torch.stack(list(planes))[:, None], sources, targets)[:, 0]

    def _remembered(
        self, looks: Looks, shown: Sequence[Sequence[Recall]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Memories as they lie in each query's own Window: see `Sam2._remembered`."""
        pairs = [
            (query, window, recall)
            for (query, window), recalls in zip(looks.pairs, shown, strict=True)
            for recall in recalls
        ]
        kept = [payload_of(recall, query) for query, _, recall in pairs]
        tokens, side = (
            self._stack([payload.tokens for payload in kept]).float(),
            looks.size // STRIDE,
        )
        if kept:
            grids = tokens.transpose(1, 2).unflatten(2, (side, side))
            tokens = (
                moved(
                    grids, [payload.window for payload in kept], [window for _, window, _ in pairs]
                )
                .flatten(2)
                .transpose(1, 2)
            )
        slots = torch.tensor(
            [[recall.slot for recall in recalls] for recalls in shown],
            dtype=torch.long,
            device=self.device,
        )
        return tokens.reshape(len(shown), -1, side**2, MEMORY), slots, None

    def _decoded(self, features: Features, looks: Looks, points: Tensor, labels: Tensor) -> Decoded:
        """Where nothing is recalled, the mean of two looks: as it is, and turned by half a circle."""
        decoded = super()._decoded(features, looks, points, labels)
        if looks.queries[0].recalls:
            return decoded
        features = self._features(looks.embedding, looks.windows, turned=True)
        dense = self._dense(looks, points, labels)
        shown = None if dense is None else dense.flip(_TURN)
        image = self.network.unconditioned(features[2])
        turned = self.network.decode(
            features, image, prompt_tokens.turned(points, labels), labels, shown
        )
        return mean(decoded, replace(turned, masks=turned.masks.flip(_TURN)))

    def _known(self, embedding: Embedding, query: Query) -> Window | None:
        """Where the track is known to be: in what was said, in its answer before, or on the frame before; else None."""
        said, shape = query.said, _shape(embedding)
        if said.mask is not None:
            return self._framed(corners_of(said.mask), shape, ())
        if query.logits is not None and query.window is not None:
            corners = extent(query.logits, query.window)
            if holds(query.window, said.points) and (corners is not None or said.box is None):
                return query.window
            return self._framed(corners, shape, said.points) if corners else None
        if said.box is not None:
            low, high = said.box[:2], said.box[2:]
            return self._framed(
                ((low[0] + EDGE_PX, low[1] + EDGE_PX), (high[0] + EDGE_PX, high[1] + EDGE_PX)),
                shape,
                said.points,
            )
        last = nearest(query.memories, embedding.frame)
        if last is None or said.points:
            return None
        kept = cast(Payload, last.features)
        return self._framed(kept.corners, shape, ()) if kept.corners else kept.window

    def _framed(
        self, corners: Corners, shape: tuple[int, int], points: Sequence[tuple[float, float]]
    ) -> Window:
        """The Window around an object and the points that speak of it."""
        return around(*joined(corners, points), shape, self.card.input_sizes[0])

    def _searched(self, embedding: Embedding, queries: Sequence[Query]) -> list[Window]:
        """Where the object is that points alone speak of: it is looked at from near and from far, and the best answer framed."""
        shape, size = _shape(embedding), self.card.input_sizes[0]
        asked, windows, counts = [], [], []
        for query in queries:
            steps = ladder(middle(query.said), shape, size)
            fitting = [window for window in steps if holds(window, query.said.points)] or steps[-1:]
            asked += [Query(query.track, query.said)] * len(fitting)
            windows += fitting
            counts.append(len(fitting))
        answers = iter(self._segments(embedding, asked, windows))
        found: list[Window] = []
        for query, count in zip(queries, counts, strict=True):
            own = list(islice(answers, count))
            chosen = best(own, _FITTING)
            corners = extent(chosen.logits, chosen.window)
            found.append(
                self._framed(corners, shape, query.said.points) if corners else chosen.window
            )
        return found


class _Encoded:
    """Features by Window, of those asked about last: they are wanted once more when the answers are remembered."""

    def __init__(self) -> None:
        self.upright: dict[Window, tuple[Tensor, ...]] = {}
        self.turned: dict[Window, tuple[Tensor, ...]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes they take."""
        return sum(
            int(level.nbytes)
            for known in (self.upright, self.turned)
            for levels in known.values()
            for level in levels
        )

    def forget_all_but(self, windows: Sequence[Window]) -> None:
        """Those that are not asked about any more."""
        wanted = set(windows)
        for known in (self.upright, self.turned):
            for window in known.keys() - wanted:
                del known[window]


def _shape(embedding: Embedding) -> tuple[int, int]:
    height, width = embedding.features[0].shape
    return int(height), int(width)
