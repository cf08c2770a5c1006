"""Reference of a project to its image: where the image is, and how to recognise it."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import PositiveInt

from napari_sam2.core.errors import AxesError, FileError, Sam2Error, StackError
from napari_sam2.core.files.strict_model import StrictModel
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.open import open_stack
from napari_sam2.io.writers.image_copy import get_dtype_name, write_image_copy

IMAGE_COPY_NAME = "image.zarr"
"""The copy of the image in a project folder, if no file contains the same pixels."""


class SpacingModel(StrictModel):
    """A `Spacing` in a file."""

    z_um: float | None
    y_um: float | None
    x_um: float | None
    t_s: float | None


class ImageReference(StrictModel):
    """Where the image of a project is, and how to recognise it.

    `path` is absolute; `relative` leads from the project folder to the same file (None on another
    drive). If no file contains these pixels, both lead to a copy in the project folder.
    `fingerprint` is a hash of shape, type and some thousand pixels.
    """

    path: str
    relative: str | None
    name: str
    axes: str
    shape: tuple[PositiveInt, ...]
    dtype: str
    spacing: SpacingModel
    channels: tuple[str, ...]
    rgb: bool
    fingerprint: str

    @classmethod
    def of(cls, stack: Stack, folder: Path) -> ImageReference:
        """The reference to a Stack.

        If its file, read again, does not contain the same pixels, they are copied into `folder`.
        """
        copy_path = folder.absolute() / IMAGE_COPY_NAME
        source = Path(stack.source).absolute() if stack.source else copy_path
        draft = cls(
            path=str(source),
            relative=None,
            name=source.name if stack.source else stack.name,
            axes=stack.axes,
            shape=tuple(stack.sizes.values()),
            dtype=get_dtype_name(stack),
            spacing=SpacingModel(**asdict(stack.spacing)),
            channels=stack.channels,
            rgb=stack.rgb,
            fingerprint=compute_fingerprint(stack),
        )
        if not (stack.source and draft._is_same_image(draft.path)):
            draft = draft.model_copy(update={"path": str(copy_path)})
            write_image_copy(stack, folder / IMAGE_COPY_NAME)
        return draft.model_copy(update={"relative": _make_relative(draft.path, folder)})

    @property
    def description(self) -> str:
        """Axes, shape, type and fingerprint, for error texts."""
        return (
            f"{self.axes.upper()} {' × '.join(map(str, self.shape))} {self.dtype}, fingerprint "
            f"{self.fingerprint[:12]}"
        )

    def open(self, folder: Path, image: Path | str | None = None) -> Stack:
        """Open the image of the project in `folder`.

        Without `image`, the path relative to the project is tried first, then the names beside and
        in the folder, then the absolute path.

        Raises
        ------
        FileError
            If the image is missing or is another one; the text names the file and what is expected.
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
        """Existing paths where the image may be, the most likely first, and the absolute path."""
        nearby = [folder / self.relative] if self.relative else []
        nearby += [folder.parent / self.name, folder / self.name]
        existing = [os.path.normpath(path) for path in nearby if path.exists()]
        return list(dict.fromkeys([*existing, self.path]))

    def _is_same_image(self, path: str) -> bool:
        try:
            self._open_checked(path)
        except Sam2Error:
            return False
        return True

    def _open_checked(self, path: str) -> Stack:
        """Open the image at a path; raises FileError if it is another one."""
        stack = self._open_with_axes(path)
        actual = {
            "shape": tuple(stack.sizes.values()),
            "type": get_dtype_name(stack),
            "pixels": compute_fingerprint(stack),
        }
        expected = {"shape": self.shape, "type": self.dtype, "pixels": self.fingerprint}
        for what, value in actual.items():
            if value != expected[what]:
                verb = "differ" if what == "pixels" else "differs"
                shown = f"fingerprint {str(value)[:12]}" if what == "pixels" else value
                raise FileError(
                    f"{path}: is another image or was changed: its {what} {verb} ({shown})"
                )
        return replace(
            stack,
            spacing=Spacing(**self.spacing.model_dump()),
            channels=self.channels,
            rgb=self.rgb,
            name=stack.name,
        )

    def _open_with_axes(self, path: str) -> Stack:
        """Open the image with the axes of its metadata, or with those of the project."""
        try:
            stack = open_stack(path)
        except AxesError:
            return open_stack(path, axes=self.axes)
        if stack.rgb or (stack.axes, tuple(stack.sizes.values())) == (self.axes, self.shape):
            return stack
        try:
            return open_stack(path, axes=self.axes)
        except StackError as error:
            raise FileError(
                f"{path}: is another image ({stack.axes.upper()} {tuple(stack.data.shape)!r})"
            ) from error


def compute_fingerprint(stack: Stack) -> str:
    """A hash of shape, type and some thousand pixels, independent of the path: `Stack.identity`."""
    return replace(stack, source="").identity


def _make_relative(path: str, folder: Path) -> str | None:
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive of Windows
        return None
