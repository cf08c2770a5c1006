"""Project folders as layers of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sam2.api.project import PROMPTS_FILE_NAME
from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.layers.samples import make_layer_scale
from napari_sam2.io.project_file import PROJECT_FILE_NAME, ProjectFile


@dataclass(frozen=True, eq=False)
class ProjectLayer:
    """A project to continue: its folder, its file, and its image as napari's readers return it."""

    folder: Path
    file: ProjectFile
    data: Any
    options: dict[str, Any]


def open_project_layer(folder: Path) -> ProjectLayer:
    """Read a project folder.

    Raises FileError if it is not a project, or its image is missing.
    """
    file = ProjectFile.read(folder)
    stack = file.image.open(folder)
    options = {
        "name": Path(file.image.name).stem or stack.name,
        "rgb": stack.rgb,
        **make_layer_scale(stack),
    }
    if not stack.rgb:
        return ProjectLayer(folder, file, stack.data, options)
    place = stack.axes.index("c")
    order = [n for n in range(len(stack.axes)) if n != place]
    options.update(
        {
            name: [value for n, value in enumerate(options[name]) if n != place]
            for name in ("scale", "units", "axis_labels")
        }
    )
    return ProjectLayer(folder, file, stack.data.transpose([*order, place]), options)


def find_latest_project(root: Path | None) -> tuple[Path, str] | None:
    """Find the newest project with prompts in `root`; returns its folder and its image's name."""
    found = [] if root is None else [each.parent for each in root.glob(f"*/{PROJECT_FILE_NAME}")]
    for folder in sorted(found, key=_read_modified_time, reverse=True):
        try:
            file = ProjectFile.read(folder)
            if '"kind"' in (folder / PROMPTS_FILE_NAME).read_text(encoding="utf-8"):
                return folder, file.image.name
        except (Sam2Error, OSError):  # damaged, or just deleted: try an older one
            continue
    return None


def _read_modified_time(folder: Path) -> float:
    prompts = folder / PROMPTS_FILE_NAME
    return prompts.stat().st_mtime if prompts.exists() else 0.0
