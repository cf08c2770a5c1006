"""load_model: from a name or a file to a model that answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from napari_sam2.core.card import ATTENTION, Attention, ModelCard, Precision, Windows
from napari_sam2.core.errors import CheckpointError, ModelError
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.device import choose
from napari_sam2.models.gpu_memory import Fitting
from napari_sam2.models.network.configs import Configuration, infer
from napari_sam2.models.network.sam2_network import Network
from napari_sam2.models.object_crops import Following
from napari_sam2.models.precision import check_precision, precisions
from napari_sam2.models.predictor import Sam2
from napari_sam2.models.tiled_model import Tiled
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.cards import PLUG_INS, identified, locate
from napari_sam2.models.weights.key_mapping import renamed

_GRAIN = 32  # input sides are multiples of this: the coarsest level any encoder has


def load_model(
    name_or_path: str | Path,
    *,
    device: str = "auto",
    configuration: Configuration | None = None,
    image_size: int | None = None,
    attention: Attention = ATTENTION,
    precision: Precision = "float32",
    windows: Windows = "whole",
) -> VideoModel:
    """A model by name ("nano", "sam2.1-tiny"), or the one in a checkpoint file or model folder.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    configuration
        What the network is made of, for weights that do not tell (see `configs.infer`); read off
        them where not given.
    image_size
        Side of the input in pixels, for a file whose card does not tell: fine-tunes such as MedSAM2
        (512).
    attention
        "near": tracks that are carried along are looked at by the part of the frame around them,
        which is many times cheaper where objects are small, and nearly the same; "whole": by all of
        it, as SAM 2 does; "auto": near for those tracks that are seen the same so on the first
        frame after a prompt, else whole. A model that follows is near always, and plug-ins are as
        they are.
    precision
        "bfloat16", "float16": faster on a device that has instructions for it, and nearly the same.
        Plug-ins may not know it.
    windows
        "tiles": where the network would see an object too small in the whole frame, it looks at it
        by a tile that shows it larger; see `models.tiles`. Each tile costs what a whole frame
        costs. A model that follows needs none.

    Raises
    ------
    UnknownModelError, FileError, CheckpointError, DeviceError, ModelError
        Nothing is called so; no such file; not the weights of such a network; no such device; no
        such attention, or no such precision on that device. Nothing else is taken instead.
    """
    device = choose(device)
    model = locate(name_or_path)
    for option, given, words in (
        ("attention", attention, Attention),
        ("windows", windows, Windows),
    ):
        if given not in get_args(words):
            raise ModelError(f"{option} {given!r}: expected one of {get_args(words)!r}")
    check_precision(precision, device)
    if model.state == "plug-in":
        _check_plugged_in(model.card, attention, precision, windows)
        return _plugged_in(model.card.name, device)
    path = checkpoints.find(name_or_path)
    tensors, metadata = checkpoints.read(path)
    card = identified(model)
    try:
        network = network_of(renamed(tensors), metadata, configuration)
        kind = Following if card.follows else Sam2
        looks: Attention = "whole" if card.follows else attention
        made = kind(
            network,
            replace(_sized(card, metadata, image_size), attention=looks, precision=precision),
            device,
        )
        loaded: VideoModel = Tiled(made) if windows == "tiles" and not card.follows else made
        return loaded if device == "cpu" else Fitting(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_plugged_in(
    card: ModelCard, attention: Attention, precision: Precision, windows: Windows
) -> None:
    """Raise ModelError for what only our own models can be told."""
    own = {
        "attention": (attention, ("auto", "whole")),
        "precision": (precision, ("float32",)),
        "windows": (windows, ("whole",)),
    }
    for name, (given, usual) in own.items():
        if given not in usual:
            raise ModelError(
                f"{name} {given!r}: {card.name} is a plug-in, which decides that itself; leave "
                "it out"
            )


def looking(
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
    looks: dict[str, Any] = {} if card.follows else {"attention": attention, "windows": windows}
    told = {
        name: given
        for name, given in (looks | {"precision": precision}).items()
        if given not in (None, getattr(card, name))
    }
    if not told:
        return model
    if isinstance(model, Fitting):
        return Fitting(looking(model.inner, attention, windows, precision))
    if not isinstance(model, Sam2 | Tiled):
        now = _named({name: getattr(card, name) for name in told})
        raise ModelError(f"{card.name} has {now} and cannot change it: load it with {_named(told)}")
    asked = replace(card, **told)
    check_precision(asked.precision, model.device)
    made = (model.inner if isinstance(model, Tiled) else model).by(asked.attention)
    made.card = replace(made.card, precision=asked.precision)
    return Tiled(made) if asked.windows == "tiles" else made


def precisions_of(model: VideoModel) -> tuple[Precision, ...]:
    """The precisions that `looking` can give a model: those of its device, or its own alone where it cannot change it."""
    inner = model.inner if isinstance(model, Fitting) else model
    return (
        tuple(precisions(inner.device))
        if isinstance(inner, Sam2 | Tiled)
        else (model.card.precision,)
    )


def _named(told: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {given!r}" for name, given in told.items())


def network_of(
    state: Mapping[str, Any],
    metadata: Mapping[str, str],
    configuration: Configuration | None = None,
) -> Network:
    """The network of a state dict under transformers' keys: as given, as its metadata say, or as its shapes tell."""
    if configuration is None:
        said = metadata.get("configuration")
        configuration = Configuration.from_json(said) if said else infer(state, **_hiera(metadata))
    return Network.of(configuration, state)


def _sized(card: ModelCard, metadata: Mapping[str, str], image_size: int | None) -> ModelCard:
    """The card with the input size given, or that of transformers' config.json."""
    size = image_size or _config(metadata).get("image_size")
    size = size[0] if isinstance(size, list) else size
    sizes = (int(size),) if size else card.input_sizes
    if any(side % _GRAIN or side <= 0 for side in sizes):
        raise CheckpointError(f"input sizes {sizes!r}: expected multiples of {_GRAIN}")
    return replace(card, input_sizes=sizes)


def _hiera(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a config.json of transformers tells of Hiera that shapes do not; fields it leaves out are SAM 2.1 tiny's."""
    backbone = _config(metadata).get("vision_config", {}).get("backbone_config", {})
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


def _config(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(metadata.get("config", "{}"))
    except ValueError as error:
        raise CheckpointError(f"config.json beside it is no JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _plugged_in(name: str, device: str) -> VideoModel:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group=PLUG_INS, name=name)
    model: VideoModel = entry.load()(device=device)
    return model
