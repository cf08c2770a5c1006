"""The reference: the video predictor of Meta's ``sam2`` package, on given frames and weights.

Nothing of it is in this repository: it is imported from a folder of the user.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support import random_weights
from benchmarks.support.click_case import Click
from napari_sam2.models.weights.key_mapping import rename_keys

# ImageNet's mean and standard deviation, with which its loader normalises frames.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Four parameters in the reference, but one tensor in transformers.
_POINTS = "prompt_encoder.point_embed.weight"


class ReferencePeer:
    """`SAM2VideoPredictor` of SAM 2.1 tiny on the CPU.

    It does not fill holes, and every corrected frame is a conditioning frame.
    """

    name = "reference (sam2)"

    def __init__(self, size: int, folders: Sequence[Path] = ()) -> None:
        self._package = _import_reference(folders)
        overrides = {
            "image_size": size,
            "memory_attention.layer.self_attention.feat_sizes": f"[{size // 16},{size // 16}]",
            "memory_attention.layer.cross_attention.feat_sizes": f"[{size // 16},{size // 16}]",
            "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": "true",
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
            "binarize_mask_from_pts_for_mem_enc": "true",
            "add_all_frames_to_correct_as_cond": "true",
        }
        with _ignore_warnings():
            self._predictor = self._package.build_sam2_video_predictor(
                "configs/sam2.1/sam2.1_hiera_t.yaml",
                device="cpu",
                # the overrides contain what this adds, except hole filling
                apply_postprocessing=False,
                hydra_overrides_extra=[
                    f"++model.{key}={value}" for key, value in overrides.items()
                ],
            )
        _copy_weights(self._predictor.state_dict())

    def open_video(self, frames: Any) -> _ReferenceVideo:
        """See `Peer`."""
        return _ReferenceVideo(self._predictor, np.asarray(frames))


class _ReferenceVideo:
    def __init__(self, predictor: Any, frames: np.ndarray) -> None:
        self._predictor = predictor
        self._masks: dict[int, np.ndarray] = {}
        module: Any = importlib.import_module(type(predictor).__module__)
        module.tqdm = lambda steps, **_: steps  # no progress bars
        loader = module.load_video_frames  # reads JPEG files only
        module.load_video_frames = lambda **_: (normalise_frames(frames), *frames.shape[1:])
        try:
            self._state = predictor.init_state("frames")
        finally:
            module.load_video_frames = loader

    def add_clicks(self, clicks: Sequence[Click]) -> None:
        for click in clicks:
            xy = np.array(click.yx, dtype=np.float32)[:, ::-1].copy()
            labels = np.array(click.positive, dtype=np.int32)
            self._predictor.add_new_points_or_box(
                self._state, click.frame, click.track, points=xy, labels=labels
            )

    def propagate(self) -> None:
        for frame, _, logits in self._predictor.propagate_in_video(self._state):
            self._masks[frame] = (logits[:, 0] > 0).numpy()

    def read_masks(self, frame: int) -> np.ndarray:
        return self._masks[frame]

    def close(self) -> None:
        self._state.clear()
        self._masks.clear()


def normalise_frames(frames: np.ndarray) -> torch.Tensor:
    """Convert (T, H, W) in 0..1 to (T, 3, H, W) as networks trained on ImageNet expect them."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
    return (torch.from_numpy(np.asarray(frames, dtype=np.float32))[:, None] - mean) / deviation


@torch.no_grad()
def _copy_weights(reference_state: dict[str, torch.Tensor]) -> None:
    """Copy our weights into the reference; `rename_keys` returns its tensors, except for points."""
    ours = random_weights.make_state()
    for name, tensor in rename_keys(reference_state).items():
        tensor.copy_(ours[name])
    for label, row in enumerate(ours[_POINTS]):
        reference_state[f"sam_prompt_encoder.point_embeddings.{label}.weight"].copy_(row[None])


def _import_reference(folders: Sequence[Path]) -> Any:
    """Import ``sam2.build_sam`` from folders of sources, or as installed."""
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise SystemExit(
            f"--sam2 {' '.join(missing)}: no such folder; docs/benchmarks.md says how to get the "
            "reference"
        )
    sys.path[:0] = [str(folder.resolve()) for folder in folders]
    if importlib.util.find_spec("sam2") is None:
        raise SystemExit(
            "the reference is not installed: give --sam2 FOLDER, or leave it out of --peers; see "
            "docs/benchmarks.md"
        )
    if importlib.util.find_spec("torchvision") is None:
        _install_torchvision_stub()
    with _ignore_warnings():
        return importlib.import_module("sam2.build_sam")


@contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Ignore the deprecation warnings of hydra 1.3 with omegaconf 2.4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _install_torchvision_stub() -> None:
    """Install an empty torchvision: sam2 uses its transforms for single images only."""
    import transformers  # noqa: F401  # it looks for torchvision, and must not find this one

    package, transforms = (
        types.ModuleType("torchvision"),
        types.ModuleType("torchvision.transforms"),
    )
    for module in (package, transforms):
        module.__spec__ = ModuleSpec(module.__name__, None)
    for name in ("Normalize", "Resize", "ToTensor"):
        setattr(transforms, name, object)
    package.transforms = transforms  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": package, "torchvision.transforms": transforms})
