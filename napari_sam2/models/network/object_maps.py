"""ObjectMapPredictor: the learned detector's network behind `ObjectMapModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import CheckpointError
from napari_sam2.core.inference_options import Precision
from napari_sam2.models.network.conv_encoder import ConvEncoder
from napari_sam2.models.network.detector import STRIDE, DetectorNetwork
from napari_sam2.models.precision import check_precision, use_precision

HIDDEN = 128  # channels of the encoder
# Pixels that are computed at once: 0.2 GB of activations in float32.
_BATCH_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 24, "mps": 1 << 22}


class ObjectMapPredictor:
    """Maps of objects on planes; see `ObjectMapModel`.

    Parameters
    ----------
    network
        With its weights; it is moved to the device.
    sha256
        Hash of the file of the weights.
    device, precision
        See `InferenceOptions`. Raises DeviceError if the device does not have the precision.
    """

    def __init__(
        self,
        network: DetectorNetwork,
        sha256: str,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        check_precision(precision, device)
        self.network = network.to(device).eval()
        self.device, self.precision = device, precision
        self._sha256 = sha256

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        sha256: str,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> Self:
        """Of the weights of a detector. Raises CheckpointError if they are of another network."""
        network = DetectorNetwork(ConvEncoder(HIDDEN))
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(
                f"not the weights of a detector ({reason}); get the file again"
            ) from error
        return cls(network, sha256, device, precision)

    @property
    def sha256(self) -> str:
        """See `ObjectMapModel`."""
        return self._sha256

    @torch.inference_mode()
    def predict(self, planes: np.ndarray) -> np.ndarray:
        """See `ObjectMapModel`; planes are padded to what the network takes, and cropped again."""
        count, height, width = planes.shape
        margins = ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE))
        padded = np.pad(np.asarray(planes, np.float32), margins, mode="edge")
        limit = _BATCH_PIXELS[torch.device(self.device).type]
        batch = max(1, limit // (padded.shape[1] * padded.shape[2]))
        maps = np.empty((count, 4, height, width), np.float32)
        for start in range(0, count, batch):
            pixels = torch.from_numpy(padded[start : start + batch, None]).to(self.device)
            with use_precision(self.precision, self.device):
                logits = self.network(pixels)
            found = logits[:, :, :height, :width].float().sigmoid()
            maps[start : start + batch] = found.cpu().numpy()
        return maps
