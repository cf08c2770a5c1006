"""The model of a project: loaded by its name, else by its SHA-256; or another on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam2.api.resume import load_named_model
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import DeviceError, FileError, ModelError, UnknownModelError
from napari_sam2.core.inference_options import InferenceOptions, Precision
from napari_sam2.core.protocols import VideoModel
from napari_sam2.io.project_file import ModelReference
from napari_sam2.models.device import choose_device
from napari_sam2.models.weights.cards import find_models


def choose_model(
    model: VideoModel | str | Path | None,
    reference: ModelReference,
    options: InferenceOptions,
    precision: Precision | None,
    *,
    allow_other: bool,
) -> VideoModel:
    """The given model, or the project's own if none is given.

    Parameters
    ----------
    model
        A loaded model, or a name or file, which is loaded with `options`.
    precision
        Overrides the precision of the project.

    Raises
    ------
    ModelError
        A loaded model with other weights, unless `allow_other`.
    """
    if isinstance(model, (str, Path)):
        return load_named_model(str(model), options.override(precision=precision))
    found = model or load_project_model(reference, options.device, precision)
    if found.card.sha256 != reference.sha256 and not allow_other:
        raise make_other_model_error(found.card, reference, "ask for it with --model")
    return reconfigure_model(found, ModelReference.of(found.card), precision)


def load_project_model(
    reference: ModelReference, device: str, precision: Precision | None
) -> VideoModel:
    """The model of a project, loaded by its name or path, else any model here with its SHA-256.

    Raises
    ------
    ModelError
        No model on this machine has that SHA-256.
    DeviceError
        The device cannot compute in the project's precision.
    """
    options = reference.inference_options.override(
        device=choose_device(device), precision=precision
    )
    with _explain_precision_error(precision):
        try:
            return load_named_model(reference.name_or_path, options)
        except (UnknownModelError, FileError) as error:
            same = [
                each.path
                for each in find_models().values()
                if each.path and each.card.sha256 == reference.sha256
            ]
            if same:
                return load_named_model(str(same[0]), options)
            raise ModelError(
                f"the project was made with {reference.name}, SHA-256 {reference.sha256[:12]}: "
                f"{error}"
            ) from error


def reconfigure_model(
    model: VideoModel, reference: ModelReference, precision: Precision | None
) -> VideoModel:
    """The model with the project's attention, windows and precision; `precision` overrides it."""
    from napari_sam2.models.load import reconfigure  # torch takes seconds to import

    options = reference.inference_options.override(precision=precision)
    with _explain_precision_error(precision):
        return reconfigure(
            model,
            attention=options.attention,
            windows=options.windows,
            precision=options.precision,
        )


def make_other_model_error(card: ModelCard, reference: ModelReference, advice: str) -> ModelError:
    """The error for a model with other weights than the project's."""
    return ModelError(
        f"the project was made with {reference.name}, SHA-256 {reference.sha256[:12]}; "
        f"{card.name} here is another model ({card.sha256[:12]}): {advice} to compute everything "
        "again with it"
    )


@contextmanager
def _explain_precision_error(precision: Precision | None) -> Iterator[None]:
    """Say that the refused precision is the project's, unless the caller asked for it."""
    try:
        yield
    except DeviceError as error:
        if precision is not None:
            raise
        raise DeviceError(
            f"the project's {error} by precision= (--precision); then everything is computed again"
        ) from error
