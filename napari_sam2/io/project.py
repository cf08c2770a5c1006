"""Project files: what a project folder says about its image, its walk and its model, checked when it is opened again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import zarr
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, FileError, Sam2Error, StackError
from napari_sam2.core.inference_options import (
    Attention,
    InferenceOptions,
    Precision,
    Windows,
    rename_attention,
)
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.io.atomic import write_atomically
from napari_sam2.io.open import open_stack
from napari_sam2.io.tables import write_text

PROJECT_FILE_NAME = "project.json"
"""The file that makes a folder a project."""

IMAGE_COPY_NAME = "image.zarr"
"""A copy of the image in the project folder, where there is no file that holds the same pixels."""


class _ProjectModel(BaseModel):
    model_config = ConfigDict(
        serialize_by_alias=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class _SpacingModel(_ProjectModel):
    z_um: float | None
    y_um: float | None
    x_um: float | None
    t_s: float | None


class ImageReference(_ProjectModel):
    """Which image a project is of: where it is, and by what it is known again.

    `path` is absolute, `relative` leads from the project folder to the same file (None on another
    drive). Both are of the project's own copy where no file holds these pixels. `compute_fingerprint` is a
    hash of shape, type and some thousand pixels.
    """

    path: str
    relative: str | None
    name: str
    axes: str
    shape: tuple[PositiveInt, ...]
    dtype: str
    spacing: _SpacingModel
    channels: tuple[str, ...]
    rgb: bool
    fingerprint: str

    @classmethod
    def of(cls, stack: Stack, folder: Path) -> ImageReference:
        """The reference of a Stack; its pixels are copied into `folder` where its file, read again, does not give them."""
        draft = cls(
            path=str(Path(stack.source).absolute())
            if stack.source
            else str(folder.absolute() / IMAGE_COPY_NAME),
            relative=None,
            name=Path(stack.source).name if stack.source else stack.name,
            axes=stack.axes,
            shape=tuple(stack.sizes.values()),
            dtype=_get_dtype_name(stack),
            spacing=_SpacingModel(**asdict(stack.spacing)),
            channels=stack.channels,
            rgb=stack.rgb,
            fingerprint=compute_fingerprint(stack),
        )
        if not (stack.source and draft._is_same_image(draft.path)):
            draft = draft.model_copy(update={"path": str(folder.absolute() / IMAGE_COPY_NAME)})
            _copy_pixels(stack, folder / IMAGE_COPY_NAME)
        return draft.model_copy(update={"relative": _make_relative(draft.path, folder)})

    @property
    def description(self) -> str:
        """What an image must be to be this one, for people."""
        return (
            f"{self.axes.upper()} {' × '.join(map(str, self.shape))} {self.dtype}, fingerprint "
            f"{self.fingerprint[:12]}"
        )

    def open(self, folder: Path, image: Path | str | None = None) -> Stack:
        """The image: at `image` where that is given, else where it lies relative to the project, else where it was.

        Raises FileError that names the file and what it must be, where it is not there or another
        one.
        """
        reasons = []
        for path in [str(image)] if image is not None else self._list_candidate_paths(folder):
            try:
                return self._open_checked(path)
            except Sam2Error as error:
                reasons.append(str(error))
        advice = (
            "expected the image of this project"
            if image is not None
            else "give its path if it was moved"
        )
        raise FileError(f"{'; '.join(reasons)}: {advice}, {self.name} ({self.description})")

    def _list_candidate_paths(self, folder: Path) -> list[str]:
        """Where the image may be, the likeliest first; only what is there, and where it was."""
        near = [folder / self.relative] if self.relative else []
        near += [folder.parent / self.name, folder / self.name]
        there = [os.path.normpath(each) for each in near if each.exists()]
        return list(dict.fromkeys([*there, self.path]))

    def _is_same_image(self, path: str) -> bool:
        try:
            self._open_checked(path)
        except Sam2Error:
            return False
        return True

    def _open_checked(self, path: str) -> Stack:
        """The image at a path. Raises FileError where it is another one."""
        try:
            stack = open_stack(path)
        except AxesError:
            stack = open_stack(path, axes=self.axes)
        if (stack.axes, tuple(stack.sizes.values())) != (self.axes, self.shape) and not stack.rgb:
            try:
                stack = open_stack(path, axes=self.axes)
            except StackError as error:
                raise FileError(
                    f"{path}: is another image ({stack.axes.upper()} {tuple(stack.data.shape)!r})"
                ) from error
        found = {
            "shape": tuple(stack.sizes.values()),
            "type": _get_dtype_name(stack),
            "pixels": compute_fingerprint(stack),
        }
        expected = {"shape": self.shape, "type": self.dtype, "pixels": self.fingerprint}
        wrong = next((what for what in expected if found[what] != expected[what]), None)
        if wrong:
            seen = found[wrong] if wrong != "pixels" else f"fingerprint {str(found[wrong])[:12]}"
            raise FileError(
                f"{path}: is another image or was changed: its {wrong} "
                f"differ{'' if wrong == 'pixels' else 's'} ({seen})"
            )
        return replace(
            stack,
            spacing=Spacing(**self.spacing.model_dump()),
            channels=self.channels,
            rgb=self.rgb,
            name=stack.name,
        )


class VideoSettings(_ProjectModel):
    """How the image is walked: see `Video`. `contrast` is (low, high)."""

    along: Literal["z", "t"]
    channel: NonNegativeInt | None
    at: dict[str, NonNegativeInt]
    contrast: tuple[float, float]

    @classmethod
    def of(cls, video: Video) -> VideoSettings:
        """Of a Video."""
        contrast = (video.contrast.low, video.contrast.high)
        return cls.model_validate(
            {
                "along": video.along,
                "channel": video.channel,
                "at": dict(video.at),
                "contrast": contrast,
            }
        )

    def make_video(self, stack: Stack) -> Video:
        """The same Video of that stack."""
        return Video.of(
            stack,
            along=self.along,
            channel=self.channel,
            at=self.at,
            contrast=Contrast(*self.contrast),
        )


class ModelReference(_ProjectModel):
    """Which model a project is made with: its identity is the SHA-256, `name_or_path` what it was loaded by (a name or a path).

    `attention` and `windows` are how it looks at tracks, `precision` what it computes in; "whole"
    and "float32" in projects that are older than the choice.
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
        """The options the model was loaded with, on any device."""
        return InferenceOptions(
            attention=self.attention, precision=self.precision, windows=self.windows
        )

    @classmethod
    def of(cls, card: ModelCard, name_or_path: str | Path | None = None) -> ModelReference:
        """Of a model's card."""
        name_or_path = card.name if name_or_path is None else str(name_or_path)
        looks = {"attention": card.attention, "windows": card.windows, "precision": card.precision}
        return cls.model_validate(
            {"name": card.name, "sha256": card.sha256, "asked": name_or_path, **looks}
        )


class ProjectFile(_ProjectModel):
    """``project.json``.

    Prompts, locks and categories are beside it in ``prompts.json``, answers in ``trail.sqlite``.

    `view` belongs to the window: whatever it wants to find again.
    """

    format: Literal["napari-sam2 project"] = "napari-sam2 project"
    version: Literal[1] = 1
    image: ImageReference
    video: VideoSettings = Field(
        validation_alias=AliasChoices("video", "walk"), serialization_alias="walk"
    )
    model: ModelReference
    patience: PositiveInt | None = 8
    view: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file of a project folder.

        Raises FileError where there is none, or where it is none.
        """
        path = folder / PROJECT_FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"{path}: {error.strerror or error}; expected a project folder, with {PROJECT_FILE_NAME} "
                "in it"
            ) from error
        except UnicodeDecodeError as error:
            raise FileError(f"{path}: is no text in UTF-8: expected a project file") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first, *others = error.errors(include_url=False, include_context=False)
            where = ".".join(map(str, first["loc"])) or "the file"
            more = f" (and {len(others)} more)" if others else ""
            raise FileError(
                f"{path}: {where}: {first['msg']}{more}; it was damaged, or made by another version"
            ) from error

    def write(self, folder: Path) -> None:
        """Into a project folder, whole or not at all."""
        write_text(self.model_dump_json(indent=1) + "\n", folder / PROJECT_FILE_NAME)


def compute_fingerprint(stack: Stack) -> str:
    """A hash of what the pixels are, wherever they lie: shape, type and some thousand of them; see `Stack.identity`."""
    return replace(stack, source="").identity


def _get_dtype_name(stack: Stack) -> str:
    """The type of the pixels, in this machine's byte order."""
    return str(np.dtype(stack.data.dtype).newbyteorder("="))


def is_project(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / PROJECT_FILE_NAME).is_file()


def _make_relative(path: str, folder: Path) -> str | None:
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive of Windows
        return None


def _copy_pixels(stack: Stack, path: Path) -> None:
    """The pixels as a zarr array, plane by plane."""
    with write_atomically(path) as part:
        shape = tuple(stack.sizes.values())
        chunks = (*(1 for _ in shape[:-2]), *shape[-2:])
        array: Any = zarr.create_array(
            part,
            shape=shape,
            chunks=chunks,
            dtype=_get_dtype_name(stack),
            dimension_names=list(stack.axes),
        )
        for at in _iterate_positions(stack):
            array[tuple(at.values())] = stack.read_plane(at)


def _iterate_positions(stack: Stack) -> Iterator[Mapping[str, int]]:
    """The index of each plane, by axis."""
    leading = stack.axes[:-2]
    for index in product(*(range(stack.sizes[axis]) for axis in leading)):
        yield dict(zip(leading, index, strict=True))
