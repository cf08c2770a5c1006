"""Jobs files: one TOML file says which stacks, which prompts, and how they are carried."""

from __future__ import annotations

import glob
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sam2.api.count_job import CountJob
from napari_sam2.api.job import Job
from napari_sam2.batch.pool import Pool
from napari_sam2.core.errors import FileError, PlanError
from napari_sam2.io.plate import fields_of, is_plate
from napari_sam2.io.zarr import is_store
from napari_sam2.sources.registry import AUTO, SOURCES

AnyJob = Job | CountJob
_PATHS = ("prompts", "masks")  # fields of a Job that may speak of the stack they belong to
_NAMES = "{stem} (the file's name without endings, and the field of a plate), {name}, {parent} (its folder's name), {number} (from 0)"


@dataclass(frozen=True)
class Batch:
    """Jobs to run, the folder they all write into, and what they run on."""

    jobs: tuple[AnyJob, ...]
    out: Path
    pool: Pool

    def __post_init__(self) -> None:
        check_apart(self.jobs)


class _Stacks(BaseModel):
    """One ``[[stacks]]`` of a jobs file: a glob, and fields of `Job` for all it names."""

    model_config = ConfigDict(extra="allow")

    input: str
    out: str = "{stem}"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    out: Path
    defaults: dict[str, Any] = Field(default_factory=dict)
    cluster: Pool = Field(default_factory=Pool)
    stacks: list[_Stacks] = Field(min_length=1)


def read_jobs(path: Path | str) -> Batch:
    """The Batch a TOML file describes; paths in it are relative to the file.

    ``out`` is the folder of all results; ``[defaults]`` and each ``[[stacks]]`` hold fields of `Job`, or, with ``seeds``, of
    `CountJob`; ``input`` of a ``[[stacks]]`` may be a glob, and its ``prompts``, ``masks``, ``seeds`` (where they are labels),
    ``well`` and ``out`` may use {stem}, {name}, {parent}, {number}.
    ``[cluster]`` is a `Pool`. Raises FileError where the file cannot be read, PlanError where it says what cannot be.
    """
    file = Path(path)
    try:
        said = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise FileError(f"{file}: {error.strerror or error}; expected a jobs file, TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{file}: is no TOML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise PlanError(f"{file}: {wrong}") from error
    out = file.parent / said.out
    jobs = [job for stacks in said.stacks for job in _expanded(stacks, said.defaults, file.parent, out)]
    return Batch(tuple(jobs), out, said.cluster)


def job_of(fields: Mapping[str, Any]) -> AnyJob:
    """The job of these fields: a CountJob where they name `seeds`, else a Job. Raises PlanError where they cannot be either."""
    if "seeds" in fields and (also := [name for name in _PATHS if fields.get(name) is not None]):
        raise PlanError(f"seeds and {also[0]} for {fields.get('input')}: give seeds to count, or {also[0]} to carry what is said")
    return CountJob.checked(fields) if "seeds" in fields else Job.checked(fields)


def check_apart(jobs: Sequence[AnyJob]) -> None:
    """Raise PlanError where there are no jobs, or two of them write into one folder."""
    if not jobs:
        raise PlanError("no jobs given: expected at least one")
    folder, count = Counter(job.out.resolve() for job in jobs).most_common(1)[0]
    if count > 1:
        raise PlanError(f"{count} stacks would be written to {folder}: give each a folder of its own, by out with {_NAMES}")


def _expanded(stacks: _Stacks, defaults: Mapping[str, Any], base: Path, out: Path) -> list[AnyJob]:
    fields = {**defaults, **(stacks.model_extra or {})}
    jobs = []
    for number, (stack, field) in enumerate(_inputs(base / stacks.input)):
        input_ = stack / field
        stem = "-".join((stack.name.split(".")[0], *field.parts))
        names = {"stem": stem, "name": stack.name, "parent": stack.parent.name, "number": number}
        own: dict[str, Any] = {key: base / _filled(str(fields[key]), names) for key in _PATHS if key in fields}
        if "well" in fields:
            own["well"] = _filled(str(fields["well"]), names)
        if "seeds" in fields:
            own["seeds"] = _seeds(str(fields["seeds"]), names, base)
        jobs.append(job_of({**fields, **own, "input": input_, "out": out / _filled(stacks.out, names)}))
    return jobs


def _seeds(said: str, names: Mapping[str, Any], base: Path) -> str:
    """A source by name, or else the path of labels. Raises FileError where that is neither."""
    if said == AUTO or said in SOURCES:
        return said
    path = base / _filled(said, names)
    if not path.exists():
        raise FileError(f"seeds {path}: not there, and none of {AUTO}, {', '.join(SOURCES)}")
    return str(path)


def _inputs(pattern: Path) -> list[tuple[Path, Path]]:
    """Each stack, and, where it is a plate, the place of one of its fields in it ("." elsewhere)."""
    return [(path, field) for path in _found(pattern) for field in _fields(path)]


def _fields(path: Path) -> list[Path]:
    if not (path.is_dir() and is_store(path) and is_plate(path)):
        return [Path()]
    return [field.relative_to(path) for field in fields_of(path)]


def _found(pattern: Path) -> list[Path]:
    if pattern.exists():
        return [pattern]
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True) if not Path(name).name.startswith("."))
    if not found:
        raise FileError(f"{pattern}: names no file or folder: expected at least one stack")
    return found


def _filled(template: str, names: Mapping[str, Any]) -> str:
    try:
        return template.format_map(names)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise PlanError(f"{template!r}: cannot be filled in ({error}): expected {_NAMES}") from error
