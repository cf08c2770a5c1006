"""The commands: each gets the parsed options.

Heavy packages are imported when a command needs them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_sam2.core.errors import PlanError

if TYPE_CHECKING:
    from napari_sam2.core.protocols import VideoModel
    from napari_sam2.propagation.propagate import PropagationStep
    from napari_sam2.tracking.progress import TrackingProgress

INFERENCE_OPTIONS = ("attention", "precision", "windows")
"""Options of inference, as in `InferenceOptions`."""

PROJECT_OPTIONS = (
    "along",
    "channel",
    "axes",
    "spacing",
    "interval",
    "level",
    "series",
    "at",
    "contrast",
    "frame",
    "direction",
    "frames",
    "patience",
    "attention",
    "windows",
    "evidence",
)
"""Options of ``track`` that a project holds itself."""


_UNLIMITED_STEPS = 1_000_000  # for a training that ends by time


def execute_demo(arguments: argparse.Namespace) -> None:
    """Propagate the prompts of the shipped samples and compare with their ground truth."""
    from napari_sam2.api.samples import run_demo

    with _open_progress_bar() as progress:
        scores = run_demo(arguments.out, progress=progress, report=_print_line)
    for name, iou in scores.items():
        print(
            f"{name}: mean IoU with the ground truth {iou:.2f}, of objects prompted once, over "
            "all their frames"
        )
    print(
        "Done: labels.ome.tif, objects.csv, tracks.csv, counts.csv and overview.png for "
        f"{len(scores)} samples in {arguments.out.resolve()}"
    )


def execute_track(arguments: argparse.Namespace) -> None:
    """Propagate the prompts of one stack, or replay a project."""
    from napari_sam2.api.job import Job, run_job

    if arguments.project is not None:
        _replay_project(arguments)
        return
    if arguments.input is None:
        raise PlanError("no INPUT: give the image stack, or a --project")
    given = {name: value for name, value in vars(arguments).items() if name in Job.model_fields}
    for name in [name for name in ("model", "precision") if given[name] is None]:
        del given[name]
    job = Job.from_fields(given)
    arguments.precision = job.precision
    with _open_remote_model(arguments, job.model) as model, _open_progress_bar() as progress:
        outcome = run_job(job, model=model, progress=progress, report=_print_line)
    _print_notes(outcome.notes)
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


@contextmanager
def _open_remote_model(arguments: argparse.Namespace, name: str) -> Iterator[VideoModel | None]:
    """The model on the machine of ``--model-on``; None without that option."""
    if arguments.model_on is None:
        yield None
        return
    _check_cluster_packages("--model-on")
    from napari_sam2.batch.remote_model import load_remote_model

    options = {
        name: getattr(arguments, name) for name in ("device", "certificates", *INFERENCE_OPTIONS)
    } | {"allow_plain_tcp": arguments.plain_tcp}
    with load_remote_model(arguments.model_on, name, **options) as model:
        yield model


def _replay_project(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.replay import replay_project
    from napari_sam2.io.project_file import ProjectFile

    conflicts = [
        name
        for name, unused in zip(PROJECT_OPTIONS, arguments.unused, strict=True)
        if getattr(arguments, name) != unused
    ]
    if conflicts:
        raise PlanError(
            f"--{conflicts[0]} does not go with --project: the project holds this option"
        )
    options = {
        name: getattr(arguments, name) for name in ("device", "format", "precision", "resume")
    }
    own = ProjectFile.read(arguments.project).model
    name, arguments.attention, arguments.windows = (
        arguments.model or own.name_or_path,
        own.attention,
        own.windows,
    )
    arguments.precision = arguments.precision or own.precision
    with _open_remote_model(arguments, name) as remote, _open_progress_bar() as progress:
        options |= {
            "model": remote or arguments.model,
            "another_model": arguments.model is not None,
        }
        outcome = replay_project(
            arguments.project,
            arguments.out,
            image=arguments.input,
            **options,
            progress=progress,
            report=_print_line,
        )
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


def execute_count(arguments: argparse.Namespace) -> None:
    """Count the objects of one stack without prompts."""
    from napari_sam2.api.count import CountingOptions, count
    from napari_sam2.api.results import JobResult
    from napari_sam2.io.open import open_stack

    given = vars(arguments)
    options = {name: value for name, value in given.items() if name in CountingOptions.model_fields}
    video_options = {
        name: given[name]
        for name in (
            "along",
            "channel",
            "at",
            "contrast",
            "model",
            "device",
            "out",
            "also",
            "evidence",
            "resume",
            *INFERENCE_OPTIONS,
        )
    }
    for rule in arguments.rule:
        if not rule.partition(":")[0].strip() or not rule.partition(":")[2].strip():
            raise PlanError(
                f"--rule {rule!r}: expected NAME:CONDITION, as in 'large: area_px > 500'"
            )
    options["rules"] = {
        name.strip(): text for name, _, text in (rule.partition(":") for rule in arguments.rule)
    }
    CountingOptions.from_fields(options)
    stack = open_stack(arguments.input, **_get_reading_options(arguments))
    with _open_remote_model(arguments, arguments.model) as model, _open_progress_bar() as progress:
        outcome = count(
            stack,
            **video_options | {"model": model or arguments.model},
            **options,
            progress=progress,
            report=_print_line,
        )
    assert isinstance(outcome, JobResult)
    _print_notes(outcome.notes)
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


def execute_measure(arguments: argparse.Namespace) -> None:
    """Write tables from existing labels."""
    from napari_sam2.api.tables import measure, open_labels_for, select_measured_video
    from napari_sam2.io.open import open_stack
    from napari_sam2.measurement.features.options import MeasurementOptions, SpotOptions

    image = open_stack(arguments.image, **_get_reading_options(arguments))
    video_options = {"along": arguments.along, "channel": arguments.channel, "at": arguments.at}
    cells = (
        None
        if arguments.cells is None
        else open_labels_for(arguments.cells, select_measured_video(image, **video_options))
    )
    spots = (
        SpotOptions()
        if arguments.spot_sigma is None
        else SpotOptions(sigma_px=arguments.spot_sigma)
    )
    options = MeasurementOptions(spots=spots, cells=cells, saturation=arguments.saturation)
    tables = measure(
        arguments.labels,
        image,
        **video_options,
        options=options,
        relabel=arguments.relabel,
        out=arguments.out,
    )
    _print_notes(tables.notes)
    print(
        f"Done: {len(tables.tracks)} objects, {len(tables.objects)} masks measured; tables in "
        f"{arguments.out.resolve()}"
    )


def execute_evaluate(arguments: argparse.Namespace) -> None:
    """Print the agreement with ground truth, and write it if asked."""
    from napari_sam2.api.evaluation import evaluate_files
    from napari_sam2.io.tables import write_json

    found = evaluate_files(arguments.predicted, arguments.truth, tracks=arguments.tracks)
    figures = found.agreement.to_dict()
    print(found.agreement.table.to_string(index=False, float_format="{:.3f}".format))
    if found.counts is not None:
        print(found.counts.to_string(index=False, float_format="{:.3f}".format))
    print(json.dumps(figures["overall"], indent=2))
    if arguments.out:
        write_json(
            {**figures, "counts": [] if found.counts is None else found.counts.to_dict("records")},
            arguments.out,
        )


def execute_finetune(arguments: argparse.Namespace) -> None:
    """Fine-tune a model on annotated data."""
    from napari_sam2.train.finetune import finetune
    from napari_sam2.train.hooks import LogHook, ProgressBar

    card = finetune(
        arguments.data,
        model=arguments.model,
        out=arguments.out,
        recipe=_make_recipe(arguments),
        hooks=[ProgressBar(), LogHook(_print_line)],
    )
    before, after = (card.training[which] for which in ("before", "best"))
    print(
        f"Mean IoU on held-out data: {before['iou_1']:.2f} → {after['iou_1']:.2f} after one click, "
        f"{before['iou_box']:.2f} → {after['iou_box']:.2f} from a box, "
        f"{before['iou_carried']:.2f} → {after['iou_carried']:.2f} propagated, "
        f"{before['iou_track']:.2f} → {after['iou_track']:.2f} whole tracks"
    )
    print(_describe_detector(card.training["detector"]))
    print(f"Done: {card.name} is in {arguments.out.resolve()}; use it with --model {arguments.out}")


def _describe_detector(figures: Mapping[str, Any]) -> str:
    """What a fine-tuning did to the detector."""
    if "left_out" in figures:
        return f"The detector was left out: {figures['left_out']}"
    before, after = figures["before"], figures["best"]
    return (
        f"Without a click: F1 {before['f1']:.2f} → {after['f1']:.2f}, count error "
        f"{before['count_error']:.0%} → {after['count_error']:.0%}"
        + ("" if after["step"] else " (no better: the detector stays as it was)")
    )


def _make_recipe(arguments: argparse.Namespace) -> Any:
    """The recipe with the options of the call."""
    from napari_sam2.train.recipe import Recipe

    recipe = Recipe.read(arguments.recipe) if arguments.recipe else Recipe()
    overrides = {
        name: getattr(arguments, name)
        for name in ("axes", "along", "channel")
        if getattr(arguments, name) is not None
    }
    changed = recipe.model_dump(exclude_unset=True) | {
        "reading": asdict(recipe.reading) | overrides
    }
    if arguments.detector is not None:
        changed |= {"detector": arguments.detector}
    if arguments.minutes is not None:
        changed |= {"minutes": arguments.minutes, "steps": _UNLIMITED_STEPS}
    return Recipe.of(changed, source="finetune")


def execute_models_list(arguments: argparse.Namespace) -> None:
    """Print one line per known model."""
    from napari_sam2.models.weights.cards import find_models

    for model in find_models().values():
        size = f"{model.size_bytes / 1e6:.0f} MB" if model.size_bytes else "?"
        detector = "detector" if model.card.has_detector else ""
        print(
            f"{model.card.name:<18} {model.state:<10} {size:>8}  {model.card.licence:<13} "
            f"{detector:<9} {model.card.description}"
        )


def execute_models_fetch(arguments: argparse.Namespace) -> None:
    """Fetch a published model into the cache."""
    from napari_sam2.models.weights.fetch import fetch_model

    print(
        f"Done: {arguments.name} is in "
        f"{fetch_model(arguments.name, url=arguments.url, sha256=arguments.sha256)}"
    )


def execute_models_verify(arguments: argparse.Namespace) -> None:
    """Compare the file of a model with its hash."""
    from napari_sam2.models.weights.checkpoints import verify_checkpoint

    card = verify_checkpoint(arguments.name)
    print(f"Done: {card.name} is verified, SHA-256 {card.sha256}")


def execute_models_import(arguments: argparse.Namespace) -> None:
    """Import a checkpoint into the cache."""
    from napari_sam2.models.weights.conversion import import_checkpoint

    model = import_checkpoint(arguments.file, name=arguments.name, input_size=arguments.input_size)
    print(f"Done: {model.card.name} is in {model.path}; use it with --model {model.card.name}")


def execute_batch(arguments: argparse.Namespace) -> None:
    """Run a jobs file."""
    _check_cluster_packages("batch")
    from napari_sam2.batch.command import run_jobs_file

    table = run_jobs_file(
        arguments.jobs, scheduler=arguments.scheduler, workers=arguments.workers, report=_print_line
    )
    print(
        f"Done: {len(table)} stacks, {int(table['objects'].sum())} objects; one folder per stack "
        f"beside {table.attrs['summary']}"
    )


def _get_reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `open_stack`."""
    return {
        **{name: getattr(arguments, name) for name in ("axes", "spacing", "interval", "series")},
        "level": arguments.level or 0,
    }


def _check_cluster_packages(purpose: str) -> None:
    from napari_sam2.core.files.extras import CLUSTER, import_extra

    import_extra("distributed", CLUSTER, purpose)


def _print_line(line: str) -> None:
    print(line, flush=True)


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}")


@contextmanager
def _open_progress_bar() -> Iterator[Callable[[PropagationStep | TrackingProgress], None]]:
    """A progress bar on stderr: a new one for each propagation, and for each stage of a count."""
    from tqdm import tqdm

    bars: list[Any] = []

    def advance(step: PropagationStep | TrackingProgress) -> None:
        stage = getattr(step, "stage", "propagate")  # only a count has stages
        position, total = step.position, step.total
        if not bars or bars[-1].desc.rstrip(": ") != stage or position <= bars[-1].n:
            if bars:
                bars[-1].close()
            bars.append(tqdm(total=total, desc=stage, unit="frame", initial=max(0, position - 1)))
        bars[-1].update(position - bars[-1].n)
        if position == total:
            bars[-1].close()

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()
