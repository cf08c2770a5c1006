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

from napari_sam2.api.count_job import job_of
from napari_sam2.api.job import Job
from napari_sam2.batch.pool import Pool
from napari_sam2.core.errors import FileError, PlanError
from napari_sam2.detection.registry import AUTO, SOURCES
from napari_sam2.io.readers.plate import fields_of, is_plate
from napari_sam2.io.readers.zarr import is_store

_PATHS = ("prompts", "masks")  # fields of a Job that may speak of the stack they belong to
_WAYS = (
    *_PATHS,
    "seeds",
    "counting",
)  # fields that say where objects are: a stack's own take the place of the defaults'
_NAMES = (
    "{stem} (the file's name without endings, and the field of a plate), {name}, {parent} (its "
    "folder's name), {number} (from 0)"
)


@dataclass(frozen=True)
class Batch:
    """Jobs to run, the folder they all write into, and what they run on."""

    jobs: tuple[Job, ...]
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

    ``out`` is the folder of all results; ``[defaults]`` and each ``[[stacks]]`` hold fields of
    `Job`; ``input`` of a ``[[stacks]]`` may be a glob, and its ``prompts``, ``masks``, ``seeds``,
    ``well`` and ``out`` may use {stem}, {name}, {parent}, {number}. ``seeds`` (a source or a label
    image, as of ``napari-sam2 count``) and ``counting`` (fields of `Counting`) make a `CountJob`.
    ``[cluster]`` is a `Pool`. Raises FileError where the file cannot be read, PlanError where it
    says what cannot be.
    """
    file = Path(path)
    try:
        said = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise FileError(f"{file}: {error.strerror or error}; expected a jobs file, TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{file}: is no TOML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise PlanError(f"{file}: {wrong}") from error
    out = file.parent / said.out
    jobs = [
        job for stacks in said.stacks for job in _expanded(stacks, said.defaults, file.parent, out)
    ]
    return Batch(tuple(jobs), out, said.cluster)


def check_apart(jobs: Sequence[Job]) -> None:
    """Raise PlanError where there are no jobs, or two of them write into one folder."""
    if not jobs:
        raise PlanError("no jobs given: expected at least one")
    folder, count = Counter(job.out.resolve() for job in jobs).most_common(1)[0]
    if count > 1:
        raise PlanError(
            f"{count} stacks would be written to {folder}: give each a folder of its own, by out "
            f"with {_NAMES}"
        )


def _expanded(stacks: _Stacks, defaults: Mapping[str, Any], base: Path, out: Path) -> list[Job]:
    fields = _together(defaults, stacks.model_extra or {})
    jobs = []
    for number, (stack, field) in enumerate(_inputs(base / stacks.input)):
        input_ = stack / field
        stem = "-".join((stack.name.split(".")[0], *field.parts))
        names = {"stem": stem, "name": stack.name, "parent": stack.parent.name, "number": number}
        own: dict[str, Any] = {
            key: base / _filled(str(fields[key]), names) for key in _PATHS if key in fields
        }
        if "well" in fields:
            own["well"] = _filled(str(fields["well"]), names)
        if "counting" in fields:
            own["counting"] = _counting(fields["counting"], names, base)
        jobs.append(
            job_of({**fields, **own, "input": input_, "out": out / _filled(stacks.out, names)})
        )
    return jobs


def _together(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a stack over the defaults; ``seeds`` becomes a field of ``counting``."""
    ways = [name for name in _WAYS if name in own]
    shared = {name: value for name, value in defaults.items() if not ways or name not in _WAYS}
    if ways and set(ways) <= {"seeds", "counting"}:  # the same way as the defaults, said in part
        shared |= {name: defaults[name] for name in ("seeds", "counting") if name in defaults}
    counting = {**shared.pop("counting", {}), **own.get("counting", {})}
    seeds = (
        {"seeds": value}
        if (value := own.get("seeds", shared.pop("seeds", None))) is not None
        else {}
    )
    fields = {
        name: value
        for name, value in {**shared, **own}.items()
        if name not in ("seeds", "counting")
    }
    return {**fields, "counting": {**counting, **seeds}} if counting or seeds else fields


def _counting(said: Mapping[str, Any], names: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Fields of a Counting for one stack: seeds that are no source by name are a label image."""
    seeds = said.get("seeds", AUTO)
    if seeds in (AUTO, *SOURCES):
        return dict(said)
    return {**said, "seeds": str(base / _filled(str(seeds), names))}


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
    found = sorted(
        Path(name)
        for name in glob.glob(str(pattern), recursive=True)
        if not Path(name).name.startswith(".")
    )
    if not found:
        raise FileError(f"{pattern}: names no file or folder: expected at least one stack")
    return found


def _filled(template: str, names: Mapping[str, Any]) -> str:
    try:
        return template.format_map(names)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise PlanError(
            f"{template!r}: cannot be filled in ({error}): expected {_NAMES}"
        ) from error
