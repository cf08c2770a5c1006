"""load_model: from a name or a file to a model that answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, ModelError
from napari_sam2.core.inference_options import Attention, InferenceOptions, Precision, Windows
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.device import choose_device
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.network.configs import Configuration, infer_configuration
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.object_crops import ObjectCropModel
from napari_sam2.models.precision import check_precision, list_precisions
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tiled_model import TiledModel
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.cards import ENTRY_POINT_GROUP, locate, verify_card
from napari_sam2.models.weights.key_mapping import rename_keys

_INPUT_SIDE_MULTIPLE = 32  # input sides are multiples of this: the coarsest level any encoder has


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
    """A model by name ("nano", "sam2.1-tiny"), or the one in a checkpoint file or model folder.

    Parameters
    ----------
    options
        The device, attention, precision and windows; see `InferenceOptions`.
    device, attention, precision, windows
        Override those of `options`.
    configuration
        What the network is made of, for weights that do not tell (see `configs.infer`); read off
        them where not given.
    image_size
        Side of the input in pixels, for a file whose card does not tell: fine-tunes such as MedSAM2
        (512).

    Raises
    ------
    UnknownModelError, FileError, CheckpointError, DeviceError, ModelError
        Nothing is called so; no such file; not the weights of such a network; no such device; no
        such attention, or no such precision on that device. Nothing else is taken instead.
    """
    options = (options or InferenceOptions()).override(
        device=device, attention=attention, precision=precision, windows=windows
    )
    device, precision = choose_device(options.device), options.precision
    model = locate(name_or_path)
    check_precision(precision, device)
    if model.state == "plug-in":
        _check_plugin_options(model.card, options.attention, precision, options.windows)
        return _load_plugin(model.card.name, device)
    path = checkpoints.find_checkpoint(name_or_path)
    tensors, metadata = checkpoints.read_checkpoint(path)
    card = verify_card(model)
    try:
        network = build_network(rename_keys(tensors), metadata, configuration)
        kind = ObjectCropModel if card.object_crops else Sam2Predictor
        attention = "global" if card.object_crops else options.attention
        made = kind(
            network,
            replace(
                _set_input_size(card, metadata, image_size),
                attention=attention,
                precision=precision,
            ),
            device,
        )
        loaded: VideoModel = (
            TiledModel(made) if options.windows == "tiles" and not card.object_crops else made
        )
        return loaded if device == "cpu" else BatchLimitedModel(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_plugin_options(
    card: ModelCard, attention: Attention, precision: Precision, windows: Windows
) -> None:
    """Raise ModelError for what only our own models can be told."""
    own = {
        "attention": (attention, ("auto", "global")),
        "precision": (precision, ("float32",)),
        "windows": (windows, ("whole",)),
    }
    for name, (given, usual) in own.items():
        if given not in usual:
            raise ModelError(
                f"{name} {given!r}: {card.name} is a plug-in, which decides that itself; leave "
                "it out"
            )


def reconfigure(
    model: VideoModel,
    attention: Attention | None = None,
    windows: Windows | None = None,
    precision: Precision | None = None,
) -> VideoModel:
    """The same model by another attention, by other windows or in another precision, its weights shared; what is None stays.

    One that follows has neither attention nor windows, and keeps its own. Raises ModelError for one
    that cannot change what is asked: a plug-in, or a model on another machine; DeviceError for a
    precision that its device does not have.
    """
    card = model.card
    looks: dict[str, Any] = (
        {} if card.object_crops else {"attention": attention, "windows": windows}
    )
    told = {
        name: given
        for name, given in (looks | {"precision": precision}).items()
        if given not in (None, getattr(card, name))
    }
    if not told:
        return model
    if isinstance(model, BatchLimitedModel):
        return BatchLimitedModel(reconfigure(model.inner, attention, windows, precision))
    if not isinstance(model, Sam2Predictor | TiledModel):
        now = _format_options({name: getattr(card, name) for name in told})
        raise ModelError(
            f"{card.name} has {now} and cannot change it: load it with {_format_options(told)}"
        )
    asked = replace(card, **told)
    check_precision(asked.precision, model.device)
    made = (model.inner if isinstance(model, TiledModel) else model).with_attention(asked.attention)
    made.card = replace(made.card, precision=asked.precision)
    return TiledModel(made) if asked.windows == "tiles" else made


def list_model_precisions(model: VideoModel) -> tuple[Precision, ...]:
    """The precisions that `reconfigure` can give a model: those of its device, or its own alone where it cannot change it."""
    inner = model.inner if isinstance(model, BatchLimitedModel) else model
    return (
        tuple(list_precisions(inner.device))
        if isinstance(inner, Sam2Predictor | TiledModel)
        else (model.card.precision,)
    )


def _format_options(options: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {given!r}" for name, given in options.items())


def build_network(
    state: Mapping[str, Any],
    metadata: Mapping[str, str],
    configuration: Configuration | None = None,
) -> Sam2Network:
    """The network of a state dict under transformers' keys: as given, as its metadata say, or as its shapes tell."""
    if configuration is None:
        said = metadata.get("configuration")
        configuration = (
            Configuration.from_json(said)
            if said
            else infer_configuration(state, **_read_hiera_options(metadata))
        )
    return Sam2Network.of(configuration, state)


def _set_input_size(
    card: ModelCard, metadata: Mapping[str, str], image_size: int | None
) -> ModelCard:
    """The card with the input size given, or that of transformers' config.json."""
    size = image_size or _parse_transformers_config(metadata).get("image_size")
    size = size[0] if isinstance(size, list) else size
    sizes = (int(size),) if size else card.input_sizes
    if any(side % _INPUT_SIDE_MULTIPLE or side <= 0 for side in sizes):
        raise CheckpointError(
            f"input sizes {sizes!r}: expected multiples of {_INPUT_SIDE_MULTIPLE}"
        )
    return replace(card, input_sizes=sizes)


def _read_hiera_options(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a config.json of transformers tells of Hiera that shapes do not; fields it leaves out are SAM 2.1 tiny's."""
    backbone = (
        _parse_transformers_config(metadata).get("vision_config", {}).get("backbone_config", {})
    )
    fields = {
        "global_blocks": "global_attention_blocks",
        "windows": "window_size_per_stage",
        "heads": "num_attention_heads",
    }
    return {
        ours: backbone[theirs]
        for ours, theirs in fields.items()
        if backbone.get(theirs) is not None
    }


def _parse_transformers_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(metadata.get("config", "{}"))
    except ValueError as error:
        raise CheckpointError(f"config.json beside it is no JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _load_plugin(name: str, device: str) -> VideoModel:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group=ENTRY_POINT_GROUP, name=name)
    model: VideoModel = entry.load()(device=device)
    return model
