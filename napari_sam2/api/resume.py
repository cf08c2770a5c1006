"""Work: what an unfinished headless run has done so far, so that a killed one goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from napari_sam2.core.errors import PlanError
from napari_sam2.core.inference_options import rename_attention
from napari_sam2.core.prompt import PromptLog
from napari_sam2.io.prompts import read_prompts, write_prompts
from napari_sam2.io.tables import write_json

RESUME_FOLDER = ".napari-sam2"
"""Folder inside ``--out`` that holds what an unfinished run has done; gone when the run is finished."""


@dataclass(frozen=True)
class UnfinishedRun:
    """The Trail, the log, and what it was a run of."""

    folder: Path

    @classmethod
    def open(cls, out: Path, identity: Mapping[str, Any], *, resume: bool) -> Self | None:
        """The work in `out` to go on with, or a fresh start; None where a finished run is to be resumed.

        Raises PlanError where the run that was interrupted differs in what must be the `identity`.
        """
        work = cls(out / RESUME_FOLDER)
        if resume and (work.folder / "job.json").is_file():
            before = json.loads((work.folder / "job.json").read_text())
            if "attention" in before:
                before["attention"] = rename_attention(before["attention"])
            if before != json.loads(json.dumps(identity)):
                raise PlanError(
                    f"{out} holds an unfinished run of another input, model or setting: give the "
                    "same, or leave out --resume"
                )
            return work
        if resume and (out / "provenance.json").exists():
            return None
        work.remove()
        work.folder.mkdir(parents=True)
        write_json(identity, work.folder / "job.json")
        return work

    def save_log(self, log: PromptLog) -> None:
        """Save the log, so that a killed run knows what it was doing."""
        write_prompts(log, self.folder / "prompts.json")

    def load_log(self) -> PromptLog:
        """The log of the run that was killed; an empty one where it had not begun."""
        path = self.folder / "prompts.json"
        return read_prompts(path) if path.exists() else PromptLog()

    def remove(self) -> None:
        """When it is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
