"""The project file: which image, video and model a project folder belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import FileError, ModelError
from napari_sam2.core.files.strict_model import StrictModel, format_validation_error
from napari_sam2.core.inference_options import (
    Attention,
    InferenceOptions,
    Precision,
    Windows,
    check_evidence,
    rename_attention,
)
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.image_reference import ImageReference
from napari_sam2.io.readers.files import read_utf8_text
from napari_sam2.io.tables import write_text

PROJECT_FILE_NAME = "project.json"
"""The file that makes a folder a project."""


class VideoSettings(StrictModel):
    """How the image becomes a `Video`; `contrast` is (low, high)."""

    along: Literal["z", "t"]
    channel: NonNegativeInt | None
    at: dict[str, NonNegativeInt]
    contrast: tuple[float, float]

    @classmethod
    def of(cls, video: Video) -> VideoSettings:
        """The settings of a Video."""
        settings = {
            "along": video.along,
            "channel": video.channel,
            "at": dict(video.at),
            "contrast": (video.contrast.low, video.contrast.high),
        }
        return cls.model_validate(settings)

    def make_video(self, stack: Stack) -> Video:
        """The Video of a Stack with these settings."""
        return Video.of(
            stack,
            along=self.along,
            channel=self.channel,
            at=self.at,
            contrast=Contrast(*self.contrast),
        )


class ModelReference(StrictModel):
    """Which model a project is made with.

    `sha256` identifies the model; `name_or_path` is what the user loaded it by. Projects older than
    `attention`, `windows` and `precision` have the defaults.
    """

    name: str
    sha256: str
    name_or_path: str = Field(
        validation_alias=AliasChoices("name_or_path", "asked"), serialization_alias="asked"
    )
    attention: Annotated[Attention, BeforeValidator(rename_attention)] = "global"
    windows: Windows = "whole"
    precision: Precision = "float32"

    @property
    def inference_options(self) -> InferenceOptions:
        """The options that the model was loaded with, on any device."""
        return InferenceOptions(
            attention=self.attention, precision=self.precision, windows=self.windows
        )

    @classmethod
    def of(cls, card: ModelCard, name_or_path: str | Path | None = None) -> ModelReference:
        """The reference to the model of a card; without `name_or_path`, its name is used."""
        return cls(
            name=card.name,
            sha256=card.sha256,
            name_or_path=card.name if name_or_path is None else str(name_or_path),
            attention=card.attention,
            windows=card.windows,
            precision=card.precision,
        )


class ProjectFile(StrictModel):
    """``project.json``.

    Beside it, ``prompts.json`` has prompts, locks and categories, and ``trail.sqlite`` the masks.
    `view` is free for the settings of a window. Projects older than `evidence` have none.
    """

    format: Literal["napari-sam2 project"] = "napari-sam2 project"
    version: Literal[1] = 1
    image: ImageReference
    video: VideoSettings = Field(
        validation_alias=AliasChoices("video", "walk"), serialization_alias="walk"
    )
    model: ModelReference
    patience: PositiveInt | None = 8
    evidence: Annotated[str, AfterValidator(check_evidence)] = "none"
    view: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the file of a project folder; raises FileError if it is missing or invalid."""
        path = folder / PROJECT_FILE_NAME
        text = read_utf8_text(path, f"a project folder, with {PROJECT_FILE_NAME} in it")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise FileError(
                f"{path}: {format_validation_error(error)}; it was damaged, or made by another "
                "version of napari-sam2"
            ) from error
        except ModelError as error:
            raise FileError(f"{path}: {error}") from error

    def write(self, folder: Path) -> None:
        """Write the file into a project folder, atomically."""
        write_text(self.model_dump_json(indent=1) + "\n", folder / PROJECT_FILE_NAME)


def is_project(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / PROJECT_FILE_NAME).is_file()
