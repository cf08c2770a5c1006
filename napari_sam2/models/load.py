"""Models by name or file, and the same model with other inference options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, ModelError
from napari_sam2.core.inference_options import Attention, InferenceOptions, Precision, Windows
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.device import choose_device
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.network.configs import Configuration, infer_configuration
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.object_crops import ObjectCropModel
from napari_sam2.models.precision import check_precision, list_precisions
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tiled_model import TiledModel
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.cards import (
    EMBEDDED,
    ENTRY_POINT_GROUP,
    KnownModel,
    find_detector,
    locate,
    verify_card,
)
from napari_sam2.models.weights.files import compute_sha256
from napari_sam2.models.weights.key_mapping import rename_keys
from napari_sam2.models.weights.transformers_config import (
    read_network_options,
    set_input_size,
)


def load_model(
    name_or_path: str | Path,
    *,
    options: InferenceOptions | None = None,
    device: str | None = None,
    attention: Attention | None = None,
    precision: Precision | None = None,
    windows: Windows | None = None,
    configuration: Configuration | None = None,
    image_size: int | None = None,
) -> VideoModel:
    """A model by name ("nano", "sam2.1-tiny"), or from a checkpoint file or model folder.

    Parameters
    ----------
    options
        The device, attention, precision and windows; see `InferenceOptions`. A model that crops
        objects has its own attention and windows. A plug-in has its own options.
    device, attention, precision, windows
        Override those of `options`.
    configuration
        Architecture of the network; by default inferred from the weights.
    image_size
        Side of the input in pixels, for fine-tuned files without a card (MedSAM2: 512).

    Raises
    ------
    UnknownModelError
        No model has this name.
    FileError
        The file does not exist.
    CheckpointError
        The file does not hold the weights of such a network.
    DeviceError
        The device, or this precision on it, is not available.
    ModelError
        An option does not exist, or the model does not have it.

    Examples
    --------
    >>> load_model("nano", device="cpu").card.name
    'nano'
    """
    options = (options or InferenceOptions()).override(
        device=device, attention=attention, precision=precision, windows=windows
    )
    options = replace(options, device=choose_device(options.device))
    model = locate(name_or_path)
    check_precision(options.precision, options.device)
    if model.state == "plug-in":
        _check_plugin_options(model.card, options)
        return _load_plugin(model.card.name, options.device)
    path = checkpoints.find_checkpoint(name_or_path)
    tensors, metadata = checkpoints.read_checkpoint(path)
    card = verify_card(model)
    try:
        network = build_network(rename_keys(tensors), metadata, configuration)
        card = set_input_size(card, metadata, image_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network.source = model
    return _make_model(network, card, options)


def load_detector(
    model: VideoModel | str | Path | None = None, *, options: InferenceOptions | None = None
) -> ObjectMapPredictor:
    """The detector of a model, on its device and in its precision.

    A model that has none of its own (SAM 2.1, a plug-in) gets that of the embedded model.

    Parameters
    ----------
    model
        A loaded model, its name, or its checkpoint; None: the embedded model.
    options
        The device and the precision, for a model that is not loaded.

    Raises
    ------
    UnknownModelError, FileError
        There is no such model, or the file of its detector is missing.
    CheckpointError
        The file was changed or damaged, or holds something else.
    DeviceError
        The device, or this precision on it, is not available.

    Examples
    --------
    >>> import numpy as np
    >>> load_detector().predict(np.zeros((1, 32, 32), np.float32)).shape
    (1, 4, 32, 32)
    """
    options = options or InferenceOptions()
    source: KnownModel | None = None
    if isinstance(model, str | Path):
        source = locate(model)
    elif model is not None:
        network = getattr(_unwrap(model), "network", None)
        if isinstance(network, Sam2Network):
            source = network.source
            options = replace(options, device=model.device, precision=model.card.precision)
    embedded = locate(EMBEDDED)
    path = (find_detector(source) if source else None) or find_detector(embedded)
    if path is None:
        raise CheckpointError(f"{embedded.path}: its card names no detector; install again")
    return _read_detector(
        path, compute_sha256(path), choose_device(options.device), options.precision
    )


@lru_cache(maxsize=2)
def _read_detector(
    path: Path, sha256: str, device: str, precision: Precision
) -> ObjectMapPredictor:
    tensors, _ = checkpoints.read_checkpoint(path)
    try:
        return ObjectMapPredictor.of(tensors, sha256, device, precision)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _unwrap(model: VideoModel) -> VideoModel:
    while isinstance(model, BatchLimitedModel | TiledModel):
        model = model.inner
    return model


def _make_model(network: Sam2Network, card: ModelCard, options: InferenceOptions) -> VideoModel:
    """A VideoModel of a network, with the options that its card allows."""
    card = replace(card, precision=options.precision)
    loaded: VideoModel
    if card.object_crops:
        loaded = ObjectCropModel(network, replace(card, attention="global"), options.device)
    else:
        predictor = Sam2Predictor(
            network, replace(card, attention=options.attention), options.device
        )
        loaded = TiledModel(predictor) if options.windows == "tiles" else predictor
    return loaded if options.device == "cpu" else BatchLimitedModel(loaded)


def reconfigure(
    model: VideoModel,
    attention: Attention | None = None,
    windows: Windows | None = None,
    precision: Precision | None = None,
) -> VideoModel:
    """The same model with other options, its weights shared; None keeps an option.

    A model that crops objects keeps its attention and windows.

    Raises
    ------
    ModelError
        The model cannot change an option: a plug-in, or a model on another machine.
    DeviceError
        The device of the model does not have this precision.
    """
    card = model.card
    given: dict[str, Any] = {"precision": precision}
    if not card.object_crops:
        given = {"attention": attention, "windows": windows, **given}
    changes = {
        name: value for name, value in given.items() if value not in (None, getattr(card, name))
    }
    if not changes:
        return model
    if isinstance(model, BatchLimitedModel):
        return BatchLimitedModel(reconfigure(model.inner, attention, windows, precision))
    if not isinstance(model, Sam2Predictor | TiledModel):
        current = _format_options({name: getattr(card, name) for name in changes})
        raise ModelError(
            f"{card.name} has {current} and cannot change it: load it with "
            f"{_format_options(changes)}"
        )
    changed = replace(card, **changes)
    check_precision(changed.precision, model.device)
    inner = model.inner if isinstance(model, TiledModel) else model
    predictor = inner.with_attention(changed.attention)
    predictor.card = replace(predictor.card, precision=changed.precision)
    return TiledModel(predictor) if changed.windows == "tiles" else predictor


def list_model_precisions(model: VideoModel) -> tuple[Precision, ...]:
    """The precisions that `reconfigure` can give a model; its own alone if it cannot change it."""
    inner = model.inner if isinstance(model, BatchLimitedModel) else model
    return (
        tuple(list_precisions(inner.device))
        if isinstance(inner, Sam2Predictor | TiledModel)
        else (model.card.precision,)
    )


def build_network(
    state: Mapping[str, Any],
    metadata: Mapping[str, str],
    configuration: Configuration | None = None,
) -> Sam2Network:
    """The network of a state dict under transformers' keys.

    Its architecture is `configuration`, or that in the metadata, or inferred from the shapes.
    """
    if configuration is None:
        written = metadata.get("configuration")
        configuration = (
            Configuration.from_json(written)
            if written
            else infer_configuration(state, **read_network_options(metadata))
        )
    return Sam2Network.of(configuration, state)


def _check_plugin_options(card: ModelCard, options: InferenceOptions) -> None:
    """Raise ModelError for options that plug-ins do not take."""
    usual = {
        "attention": ("auto", "global"),
        "precision": ("float32",),
        "windows": ("whole",),
    }
    for name, values in usual.items():
        if getattr(options, name) not in values:
            raise ModelError(
                f"{name} {getattr(options, name)!r}: {card.name} is a plug-in, which decides this "
                "itself; leave it out"
            )


def _load_plugin(name: str, device: str) -> VideoModel:
    (entry,) = entry_points(group=ENTRY_POINT_GROUP, name=name)
    model: VideoModel = entry.load()(device=device)
    return model


def _format_options(options: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {value!r}" for name, value in options.items())
