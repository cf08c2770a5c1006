"""SavedWork: what an unfinished count has detected and prompted, on disk as it comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.prompt import PromptLog
from napari_sam2.io.prompts import read_prompts, write_prompts
from napari_sam2.io.prompts_json import format_json_log, parse_json_log
from napari_sam2.tracking.seeds import Seed

_PLANNED = "prompts.json"
_ROUNDS = "rounds.json"


@dataclass(frozen=True)
class SavedFrame:
    """Detections of a frame; `volume` if the detector knows which are of one object."""

    seeds: tuple[Seed, ...]
    volume: bool


@dataclass(frozen=True)
class SavedWork:
    """Files in the work folder of a count. Each is written atomically.

    ``detections/`` has one file per frame. ``prompts.json`` has the whole log of the finished
    count, from the moment it is known; the segment store tells how much of it is done.
    ``rounds.json`` has the log so far, if the model associates.
    """

    folder: Path

    def load_frame(self, frame: int) -> SavedFrame | None:
        """Detections of a frame; None if it was not finished."""
        path = self._get_path(frame)
        if not path.is_file():
            return None
        fields = json.loads(path.read_text(encoding="utf-8"))
        prompts = parse_json_log(json.dumps(fields["prompts"]), str(path)).prompts
        seeds = (
            Seed(number, prompt, label)
            for number, prompt, label in zip(
                fields["numbers"], prompts, fields["labels"], strict=True
            )
        )
        return SavedFrame(tuple(seeds), fields["volume"])

    def save_frame(self, frame: int, seeds: Sequence[Seed], *, volume: bool) -> None:
        """Save the detections of a frame. Raises OutputError if that is not possible."""
        path = self._get_path(frame)
        fields = {
            "volume": volume,
            "numbers": [seed.number for seed in seeds],
            "labels": [seed.label for seed in seeds],
            "prompts": json.loads(format_json_log(PromptLog(tuple(seed.prompt for seed in seeds)))),
        }
        with write_atomically(path) as part:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(fields), encoding="utf-8")

    def load_planned(self) -> PromptLog:
        """Log of the finished count; empty if it is not known yet."""
        return self._load(_PLANNED)

    def save_planned(self, log: PromptLog) -> None:
        """Save the log of the finished count."""
        write_prompts(log, self.folder / _PLANNED)

    def load_rounds(self) -> PromptLog:
        """Log so far of a count that the model associates."""
        return self._load(_ROUNDS)

    def save_rounds(self, log: PromptLog) -> None:
        """Save the log so far."""
        write_prompts(log, self.folder / _ROUNDS)

    def _load(self, name: str) -> PromptLog:
        path = self.folder / name
        return read_prompts(path) if path.exists() else PromptLog()

    def _get_path(self, frame: int) -> Path:
        return self.folder / "detections" / f"{frame:06}.json"
