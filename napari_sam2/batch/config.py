"""Jobs files: one TOML file names the stacks, the prompts and the options of a batch."""

from __future__ import annotations

import glob
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sam2.api.count_job import make_job
from napari_sam2.api.job import Job
from napari_sam2.batch.pool import Pool
from napari_sam2.core.errors import FileError, PlanError
from napari_sam2.detection.registry import AUTO, DETECTORS
from napari_sam2.io.readers.plate import is_plate, list_fields
from napari_sam2.io.readers.zarr import is_store

_PATH_FIELDS = ("prompts", "masks")  # fields of a Job that are templates, filled in for each stack
_OBJECT_FIELDS = (
    *_PATH_FIELDS,
    "seeds",
    "counting",
)  # fields that say where objects are: those of a stack replace those of the defaults
_TEMPLATE_HELP = (
    "{stem} (file name without endings, and the field of a plate), {name}, {parent} (name of the "
    "folder), {number} (from 0)"
)


@dataclass(frozen=True)
class Batch:
    """Jobs to run, the folder of all results, and the workers."""

    jobs: tuple[Job, ...]
    out: Path
    pool: Pool

    def __post_init__(self) -> None:
        check_distinct_folders(self.jobs)


class _StacksEntry(BaseModel):
    """One ``[[stacks]]`` of a jobs file: a glob, and fields of `Job` for all stacks it matches."""

    model_config = ConfigDict(extra="allow")

    input: str
    out: str = "{stem}"


class _JobsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    out: Path
    defaults: dict[str, Any] = Field(default_factory=dict)
    cluster: Pool = Field(default_factory=Pool)
    stacks: list[_StacksEntry] = Field(min_length=1)


def read_jobs(path: Path | str) -> Batch:
    """Read a jobs file (TOML); paths in it are relative to the file.

    ``out`` is the folder of all results; ``[defaults]`` and each ``[[stacks]]`` hold fields of
    `Job`; ``input`` of a ``[[stacks]]`` may be a glob, and its ``prompts``, ``masks``, ``seeds``,
    ``well`` and ``out`` may use {stem}, {name}, {parent}, {number}. ``seeds`` (a detector or a
    label image, as in ``napari-sam2 count``) and ``counting`` (fields of `CountingOptions`) make a
    `CountJob`.
    ``[cluster]`` holds fields of `Pool`.

    Raises
    ------
    FileError
        If the file cannot be read.
    PlanError
        If it is not valid TOML, or a field is unknown or has a wrong value.
    """
    file = Path(path)
    try:
        jobs_file = _JobsFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise FileError(
            f"{file}: {error.strerror or error}; expected a jobs file in TOML"
        ) from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise PlanError(f"{file}: {faults}") from error
    except (ValueError, RecursionError) as error:  # wrong syntax, encoding, depth, or length
        raise PlanError(f"{file}: is not valid TOML: {error}") from error
    out = file.parent / jobs_file.out
    jobs = [
        job
        for stacks in jobs_file.stacks
        for job in _expand_stacks(stacks, jobs_file.defaults, file.parent, out)
    ]
    return Batch(tuple(jobs), out, jobs_file.cluster)


def check_distinct_folders(jobs: Sequence[Job]) -> None:
    """Raise PlanError if there are no jobs, or if two of them write into one folder."""
    if not jobs:
        raise PlanError("no jobs given: expected at least one")
    folder, count = Counter(job.out.resolve() for job in jobs).most_common(1)[0]
    if count > 1:
        raise PlanError(
            f"{count} stacks would be written to {folder}: give each its own folder: `out` with "
            f"{_TEMPLATE_HELP}"
        )


def _expand_stacks(
    stacks: _StacksEntry, defaults: Mapping[str, Any], base: Path, out: Path
) -> list[Job]:
    fields = _merge_fields(defaults, stacks.model_extra or {})
    jobs = []
    for number, (stack, field) in enumerate(_list_inputs(base / stacks.input)):
        input_ = stack / field
        stem = "-".join((stack.name.split(".")[0], *field.parts))
        names = {"stem": stem, "name": stack.name, "parent": stack.parent.name, "number": number}
        own: dict[str, Any] = {
            key: base / _fill_template(str(fields[key]), names)
            for key in _PATH_FIELDS
            if key in fields
        }
        if "well" in fields:
            own["well"] = _fill_template(str(fields["well"]), names)
        if "counting" in fields:
            own["counting"] = _resolve_counting(fields["counting"], names, base)
        jobs.append(
            make_job(
                {**fields, **own, "input": input_, "out": out / _fill_template(stacks.out, names)}
            )
        )
    return jobs


def _merge_fields(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a stack over the defaults; ``seeds`` becomes a field of ``counting``."""
    for fields in (defaults, own):
        _check_table("counting", fields.get("counting", {}))
    own_fields = [name for name in _OBJECT_FIELDS if name in own]
    shared = {
        name: value
        for name, value in defaults.items()
        if not own_fields or name not in _OBJECT_FIELDS
    }
    if own_fields and set(own_fields) <= {"seeds", "counting"}:  # completes the defaults
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


def _check_table(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise PlanError(f"{name} = {value!r}: expected a table of options, as in [defaults.{name}]")


def _resolve_counting(
    fields: Mapping[str, Any], names: Mapping[str, Any], base: Path
) -> dict[str, Any]:
    """CountingOptions of one stack: seeds that name no detector are a label image."""
    seeds = fields.get("seeds", AUTO)
    if seeds == AUTO or seeds in DETECTORS:
        return dict(fields)
    return {**fields, "seeds": str(base / _fill_template(str(seeds), names))}


def _list_inputs(pattern: Path) -> list[tuple[Path, Path]]:
    """Each stack with the path of a field in it, if it is a plate, else with "."."""
    return [(path, field) for path in _glob_stacks(pattern) for field in _list_plate_fields(path)]


def _list_plate_fields(path: Path) -> list[Path]:
    if not (path.is_dir() and is_store(path) and is_plate(path)):
        return [Path()]
    return [field.relative_to(path) for field in list_fields(path)]


def _glob_stacks(pattern: Path) -> list[Path]:
    if pattern.exists():
        return [pattern]
    found = sorted(
        Path(name)
        for name in glob.glob(str(pattern), recursive=True)
        if not Path(name).name.startswith(".")
    )
    if not found:
        raise FileError(f"{pattern}: matches no file or folder: expected at least one stack")
    return found


def _fill_template(template: str, names: Mapping[str, Any]) -> str:
    """Fill in names, and a number with a width of one or two digits, such as {number:03}."""
    try:
        for _, name, form, _ in Formatter().parse(template):
            if name is not None and (
                name not in names or not re.fullmatch(r"(0?\d\d?d?)?", form or "")
            ):
                raise ValueError(f"{{{name}{form and ':'}{form}}}")
        return template.format_map(names)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise PlanError(
            f"{template!r}: cannot be filled in ({error}): expected {_TEMPLATE_HELP}"
        ) from error
