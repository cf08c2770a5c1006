"""transformers' ``Sam2VideoModel`` with its own inference session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from benchmarks.support import random_weights
from benchmarks.support.click_case import Click
from benchmarks.support.peer_reference import normalise_frames


class TransformersPeer:
    """`Sam2VideoModel` of SAM 2.1 tiny.

    It cannot keep a corrected frame corrected (see docs/benchmarks.md).
    """

    name = "transformers"

    def __init__(self, size: int) -> None:
        config = Sam2VideoConfig(
            image_size=size, memory_attention_rope_feat_sizes=[size // 16, size // 16]
        )
        config.vision_config.backbone_feature_sizes = [
            [size // stride] * 2 for stride in (4, 8, 16)
        ]
        config.vision_config.backbone_config.image_size = [size, size]
        config.prompt_encoder_config.image_size = size
        self._model = Sam2VideoModel(config).eval()
        self._model.load_state_dict(random_weights.make_state())

    def open_video(self, frames: Any) -> _TransformersVideo:
        """See `Peer`."""
        return _TransformersVideo(self._model, np.asarray(frames))


class _TransformersVideo:
    def __init__(self, model: Any, frames: np.ndarray) -> None:
        self._model = model
        self._shape = frames.shape[1:]
        self._session = Sam2VideoInferenceSession(
            normalise_frames(frames), *self._shape, dtype=torch.float32
        )
        self._masks: dict[int, np.ndarray] = {}

    def add_clicks(self, clicks: Sequence[Click]) -> None:
        session = self._session
        for click in clicks:
            index = session.obj_id_to_idx(click.track)
            xy = torch.tensor(np.array(click.yx)[:, ::-1].copy(), dtype=torch.float32)[None, None]
            labels = torch.tensor(click.positive, dtype=torch.int32)[None, None]
            session.add_point_inputs(
                index, click.frame, {"point_coords": xy, "point_labels": labels}
            )
        session.obj_with_new_inputs = [click.track for click in clicks]
        self._model(session, frame_idx=clicks[0].frame)

    def propagate(self) -> None:
        with torch.inference_mode():
            for answer in self._model.propagate_in_video_iterator(self._session, start_frame_idx=0):
                logits = F.interpolate(
                    answer.pred_masks, size=self._shape, mode="bilinear", align_corners=False
                )
                self._masks[answer.frame_idx] = (logits[:, 0] > 0).numpy()

    def read_masks(self, frame: int) -> np.ndarray:
        return self._masks[frame]

    def close(self) -> None:
        self._session.reset_inference_session()
        self._masks.clear()
