"""The command line: ``napari-sam2 demo | track | count | measure | …``. Exit code 0 only when the work is done."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2.core.card import ATTENTION
from napari_sam2.core.errors import PlanError, Sam2Error

if TYPE_CHECKING:
    from napari_sam2.core.protocols import VideoModel
    from napari_sam2.engine.walk import Stepped

WRONG = 2
"""Exit code of a wrong call or wrong input."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


_MANY_STEPS = 1_000_000  # of a training that ends by the clock

_HOW = ("attention", "precision", "windows")

_OF_THE_PROJECT = (
    "along",
    "channel",
    "axes",
    "spacing",
    "interval",
    "at",
    "contrast",
    "frame",
    "direction",
    "frames",
    "patience",
    "attention",
    "windows",
)
"""Options of ``track`` that a project answers itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors of ours are one line on stderr, and exit code 2."""
    arguments = parser().parse_args(argv)
    try:
        arguments.do(arguments)
    except Sam2Error as error:
        print(f"napari-sam2: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print(f"napari-sam2: stopped; what was finished is kept{arguments.after_stop}", file=sys.stderr)
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="napari-sam2", description="Prompt an object once, carry it through the stack with SAM 2, count and measure it."
    )
    top.set_defaults(after_stop="")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_demo, _add_track, _add_count, _add_measure, _add_evaluate, _add_finetune, _add_models, _add_batch):
        add(commands)
    return top


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="the main job on the shipped samples: labels, tables, pictures, in about a minute")
    demo.add_argument("--out", type=Path, default=Path("napari-sam2-demo"), metavar="DIR", help="folder for the results (%(default)s)")
    demo.set_defaults(do=_demo)


def _add_track(commands: Any) -> None:
    track = commands.add_parser("track", help="carry prompted objects through a stack: labels, tables, picture")
    track.add_argument(
        "input", type=Path, nargs="?", metavar="INPUT", help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob"
    )
    track.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    track.add_argument("--along", choices=("z", "t"), help="axis to walk; may be left out where only one of them is there")
    said = track.add_mutually_exclusive_group(required=True)
    said.add_argument("--prompts", type=Path, metavar="FILE", help="CSV (track,frame,kind,y,x,y2,x2,positive,category) or JSON")
    said.add_argument("--masks", type=Path, metavar="LABELS", help="label image: each label is a mask prompt on --frame")
    said.add_argument(
        "--project", type=Path, metavar="FOLDER", help="replay a project saved by napari; INPUT only where its image was moved"
    )
    track.add_argument("--frame", type=int, default=0, metavar="K", help="frame of --masks, from 0 (%(default)s)")
    _add_reading(track)
    _add_contrast(track)
    track.add_argument("--model", metavar="NAME|FILE", help="see `napari-sam2 models list` (nano, or the project's)")
    track.add_argument("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where the model runs (%(default)s)")
    _add_elsewhere(track)
    _add_how(track, precision=None)
    track.add_argument("--direction", choices=("both", "forward", "backward"), default="both", help="from the prompted frame (%(default)s)")
    track.add_argument("--frames", type=_frames, metavar="A:B", help="carry from frame A to the one before B, counted from 0")
    track.add_argument(
        "--patience", type=_patience, default=8, metavar="N|never", help="absent frames after which a track ends (%(default)s)"
    )
    track.add_argument("--format", choices=("tiff", "zarr"), default="tiff", help="labels.ome.tif or labels.ome.zarr (%(default)s)")
    track.add_argument("--resume", action="store_true", help="go on where an interrupted run of the same call stopped")
    unused = [track.get_default(name) for name in _OF_THE_PROJECT]
    track.set_defaults(do=_track, unused=unused, after_stop=": the same call with --resume goes on from there")


def _add_count(commands: Any) -> None:
    count = commands.add_parser("count", help="find, join, count and measure every object; nobody clicks")
    count.add_argument("input", type=Path, metavar="INPUT", help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob")
    count.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    count.add_argument("--along", choices=("z", "t"), help="axis to walk; may be left out where only one of them is there")
    count.add_argument(
        "--seeds", default="auto", metavar="auto|bodies|blobs|peaks|grid|everything|LABELS", help="who finds objects (%(default)s)"
    )
    count.add_argument("--kind", choices=("mask", "box", "point"), default="mask", help="what a seed is said as (%(default)s)")
    count.add_argument(
        "--trust", choices=("seeds", "model"), default="seeds", help="who says where objects are on later frames (%(default)s)"
    )
    count.add_argument("--diameter", type=float, metavar="UM", dest="diameter_um", help="of a typical object in µm (guessed)")
    count.add_argument("--diameter-px", type=float, metavar="PX", help="the same in pixels")
    count.add_argument(
        "--dark", action=argparse.BooleanOptionalAction, default=None, help="objects are darker than the background (guessed)"
    )
    count.add_argument("--least", type=int, metavar="N", help="frames an object must be on, unless the stack begins or ends there")
    count.add_argument("--rule", action="append", default=[], metavar="NAME:CONDITION", help="category, e.g. 'large: area_px > 500'")
    count.add_argument("--also", nargs="+", default=[], metavar="ctc|geff|parquet|h5ad", help="what else is written")
    count.add_argument("--category", default="", metavar="NAME", help="what all objects are called")
    _add_reading(count)
    _add_contrast(count)
    count.add_argument("--model", default="nano", metavar="NAME|FILE", help="see `napari-sam2 models list` (%(default)s)")
    count.add_argument("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where the model runs (%(default)s)")
    _add_elsewhere(count)
    _add_how(count)
    count.set_defaults(do=_count)


def _add_measure(commands: Any) -> None:
    measure = commands.add_parser("measure", help="tables from labels that exist")
    measure.add_argument("labels", type=Path, metavar="LABELS", help="label stack of the image's frames")
    measure.add_argument("--image", type=Path, required=True, metavar="INPUT", help="the image that was labelled")
    measure.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the tables")
    measure.add_argument("--along", choices=("z", "t"), help="axis the labels are stacked along")
    measure.add_argument("--cells", type=Path, metavar="LABELS", help="labels of whole cells: the objects are their nuclei")
    measure.add_argument("--spot-sigma", type=float, metavar="PX", help="spread of the spots that are looked for inside objects (1.5)")
    measure.add_argument("--saturation", type=_saturation, default={}, metavar="C=V", help="grey value of saturation, e.g. 0=4095,1=4095")
    _add_reading(measure)
    measure.set_defaults(do=_measure)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="agreement with ground truth")
    evaluate.add_argument("predicted", type=Path, metavar="PREDICTED", help="label file, folder of results, or 01_RES of the CTC")
    evaluate.add_argument("truth", type=Path, metavar="TRUTH", help="the same, or 01_GT/TRA")
    evaluate.add_argument("--tracks", action="store_true", help="identities matter: compare tracks, not only objects per frame")
    evaluate.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures there as JSON")
    evaluate.set_defaults(do=_evaluate)


def _add_finetune(commands: Any) -> None:
    finetune = commands.add_parser("finetune", help="train a model on annotated images or stacks")
    finetune.add_argument("data", nargs="+", metavar="DATA", help="CTC folder, images/ with masks/, or NAME.tif with NAME_labels.tif")
    finetune.add_argument("--model", default="nano", metavar="NAME|FILE", help="what to start from (%(default)s)")
    finetune.add_argument("--out", type=Path, required=True, metavar="FILE", help="the result, ending in .safetensors")
    finetune.add_argument("--recipe", type=Path, metavar="TOML", help="how to train")
    finetune.add_argument("--minutes", type=float, metavar="M", help="train so long, whatever the recipe says")
    finetune.add_argument("--axes", type=str.lower, metavar="TCZYX", help="axes of the images, where they do not say them")
    finetune.add_argument("--along", choices=("z", "t"), help="axis to walk; may be left out where only one of them is there")
    finetune.add_argument("--channel", type=int, metavar="N", help="channel to look at, from 0 (0; the luminance of a colour image)")
    finetune.set_defaults(do=_finetune, after_stop=": the same call goes on from there")


def _add_models(commands: Any) -> None:
    models = commands.add_parser("models", help="list, fetch, verify or import models")
    what = models.add_subparsers(required=True, metavar="list|fetch|verify|import")
    what.add_parser("list", help="every model that is known, and where it is").set_defaults(do=_models_list)
    fetch = what.add_parser("fetch", help="download a published model into the cache (NAPARI_SAM2_CACHE), verified by its SHA-256")
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--sha256", metavar="HASH", help="what the file must hash to, where the list does not know")
    fetch.add_argument("--url", help="fetch it from a mirror; the hash must be the same")
    fetch.set_defaults(do=_models_fetch, after_stop=": the same call goes on from there")
    verify = what.add_parser("verify", help="compare a model's file with its hash")
    verify.add_argument("name", metavar="NAME|FILE")
    verify.set_defaults(do=_models_verify)
    take = what.add_parser("import", help="take a checkpoint of SAM 2, SAM 2.1 or a fine-tune of them into the cache")
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--name", help="what it shall be called (the file's name)")
    take.add_argument("--input-size", type=int, metavar="PX", help="side of the input it was trained with, if not 1024 (MedSAM2: 512)")
    take.set_defaults(do=_models_import)


def _add_batch(commands: Any) -> None:
    batch = commands.add_parser("batch", help="many stacks, on this machine or a cluster; finished ones are skipped")
    batch.add_argument("jobs", type=Path, metavar="JOBS.toml", help="which stacks, which prompts, where the results go")
    batch.add_argument("--scheduler", metavar="ADDRESS", help="a dask scheduler that runs: tcp://… or, with certificates, tls://…")
    batch.add_argument("--workers", type=int, metavar="N", help="processes of this machine (one for each core)")
    batch.set_defaults(do=_batch, after_stop=": the same call goes on from there")


def _add_how(command: argparse.ArgumentParser, *, precision: str | None = "float32") -> None:
    """How a model looks at frames, and what it computes in: `_HOW`. `precision` is None where a project may have its own."""
    command.add_argument(
        "--attention",
        choices=("auto", "whole", "near"),
        default=ATTENTION,
        help="whole: look at carried objects by the whole frame; near: by the part around them, many times faster with SAM 2.1 and small "
        "objects, nearly the same; auto: near for those objects of which both show the same after a prompt (%(default)s)",
    )
    command.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default=precision,
        help="what the model computes in: the others are faster on devices that have them, nearly the same "
        + (f"({precision})" if precision else "(float32, or the project's)"),
    )
    command.add_argument(
        "--windows",
        choices=("whole", "tiles"),
        default="whole",
        help="tiles: look at objects that are small on a large frame by a part of it that shows them larger; SAM 2.1 alone (%(default)s)",
    )


def _add_elsewhere(command: argparse.ArgumentParser) -> None:
    """Options of a model that runs on another machine."""
    command.add_argument("--model-on", metavar="ADDRESS", help="run the model on a worker of this dask scheduler: tls://host:port")
    command.add_argument("--certificates", type=Path, metavar="DIR", help="ca.pem, cert.pem and key.pem for it (dask's own configuration)")
    command.add_argument("--plain-tcp", action="store_true", help="allow it unencrypted beyond this machine, on a network you trust")


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Options that say how an image is read."""
    command.add_argument("--channel", type=int, metavar="N", help="channel to look at, from 0 (0; the luminance of a colour image)")
    command.add_argument("--axes", type=str.lower, metavar="TCZYX", help="axes of the file, where it does not say them or says them wrong")
    command.add_argument("--spacing", type=_spacing, metavar="Z,Y,X", help="µm per pixel, where the file does not say: 'Z,Y,X' or 'Y,X'")
    command.add_argument("--interval", type=float, metavar="S", help="seconds per frame, where the file does not say")
    command.add_argument("--at", type=_at, default={}, metavar="AXIS=N", help="index of the axis that is not walked, e.g. t=3 (0)")


def _add_contrast(command: argparse.ArgumentParser) -> None:
    """What the model sees; measurements are of the raw intensities, always."""
    command.add_argument(
        "--contrast", type=_contrast, metavar="LOW,HIGH", help="intensities the model sees as black and white (0.1 and 99.9 %% of all)"
    )


def _demo(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.samples import demo

    with _bar() as progress:
        scores = demo(arguments.out, progress=progress, stage=_say)
    for name, iou in scores.items():
        print(f"{name}: mean IoU with the ground truth {iou:.2f}, of objects prompted once, over all their frames")
    print(
        f"Done: labels.ome.tif, objects.csv, tracks.csv, counts.csv and overview.png for {len(scores)} samples in {arguments.out.resolve()}"
    )


def _track(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.job import Job, run_job

    if arguments.project is not None:
        _replay(arguments)
        return
    if arguments.input is None:
        raise PlanError("no INPUT: give the image stack, or a --project")
    given = {name: value for name, value in vars(arguments).items() if name in Job.model_fields}
    for name in [name for name in ("model", "precision") if given[name] is None]:
        del given[name]
    job = Job.checked(given)
    arguments.precision = job.precision
    with _elsewhere(arguments, job.model) as model, _bar() as progress:
        outcome = run_job(job, model=model, progress=progress, stage=_say)
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


@contextmanager
def _elsewhere(arguments: argparse.Namespace, name: str) -> Iterator[VideoModel | None]:
    """The model of that name on the machine of ``--model-on``; None where that is not given."""
    if arguments.model_on is None:
        yield None
        return
    from napari_sam2.batch.remote import remote_model

    options = {name: getattr(arguments, name) for name in ("device", "certificates", *_HOW)} | {"plain": arguments.plain_tcp}
    with remote_model(arguments.model_on, name, **options) as model:
        yield model


def _replay(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.project import replay
    from napari_sam2.io.project import ProjectFile

    said = [name for name, unused in zip(_OF_THE_PROJECT, arguments.unused, strict=True) if getattr(arguments, name) != unused]
    if said:
        raise PlanError(f"--{said[0]} does not go with --project: the project says how its image is read and carried")
    options = {name: getattr(arguments, name) for name in ("device", "format", "precision", "resume")}
    own = ProjectFile.read(arguments.project).model
    name, arguments.attention, arguments.windows = arguments.model or own.asked, own.attention, own.windows
    arguments.precision = arguments.precision or own.precision
    with _elsewhere(arguments, name) as elsewhere, _bar() as progress:
        options |= {"model": elsewhere or arguments.model, "another_model": arguments.model is not None}
        outcome = replay(arguments.project, arguments.out, image=arguments.input, **options, progress=progress, stage=_say)
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


def _count(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.count import Counting, count
    from napari_sam2.api.job import Outcome
    from napari_sam2.io.open import open_stack

    given = vars(arguments)
    options = {name: value for name, value in given.items() if name in Counting.model_fields}
    walked = {name: given[name] for name in ("along", "channel", "at", "contrast", "model", "device", "out", "also", *_HOW)}
    options["rules"] = {name.strip(): text for name, _, text in (rule.partition(":") for rule in arguments.rule)}
    Counting.checked(options)
    stack = open_stack(arguments.input, axes=arguments.axes, spacing=arguments.spacing, interval=arguments.interval)
    with _elsewhere(arguments, arguments.model) as model:
        outcome = count(stack, **walked | {"model": model or arguments.model}, **options, stage=_say)
    assert isinstance(outcome, Outcome)
    for note in outcome.notes:
        print(f"note: {note}")
    print(f"Done: {outcome.summary}; results in {outcome.folder.resolve()}")


def _measure(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.tables import measure, open_labels_of
    from napari_sam2.core.video import Video
    from napari_sam2.io.open import open_stack
    from napari_sam2.measurement.scope import Puncta, Scope

    image = open_stack(arguments.image, axes=arguments.axes, spacing=arguments.spacing, interval=arguments.interval)
    walked = {"along": arguments.along, "channel": arguments.channel, "at": arguments.at}
    cells = None if arguments.cells is None else open_labels_of(arguments.cells, Video.of(image, **walked))
    puncta = Puncta() if arguments.spot_sigma is None else Puncta(sigma_px=arguments.spot_sigma)
    scope = Scope(puncta=puncta, cells=cells, saturation=arguments.saturation)
    tables = measure(arguments.labels, image, **walked, scope=scope, out=arguments.out)
    print(f"Done: {len(tables.tracks)} objects, {len(tables.objects)} masks measured; tables in {arguments.out.resolve()}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from napari_sam2.api.evaluation import evaluate_files
    from napari_sam2.io.tables import write_json

    found = evaluate_files(arguments.predicted, arguments.truth, tracks=arguments.tracks)
    figures = found.agreement.to_dict()
    print(found.agreement.table.to_string(index=False, float_format="{:.3f}".format))
    if found.counts is not None:
        print(found.counts.to_string(index=False, float_format="{:.3f}".format))
    print(json.dumps(figures["overall"], indent=2))
    if arguments.out:
        write_json({**figures, "counts": [] if found.counts is None else found.counts.to_dict("records")}, arguments.out)


def _finetune(arguments: argparse.Namespace) -> None:
    from napari_sam2.train.finetune import finetune
    from napari_sam2.train.hooks import Bar, Lines

    card = finetune(arguments.data, model=arguments.model, out=arguments.out, recipe=_recipe(arguments), hooks=[Bar(), Lines(_say)])
    before, after = (card.training[which] for which in ("before", "best"))
    print(
        f"On what was held out, mean IoU: {before['iou_1']:.2f} → {after['iou_1']:.2f} after one click, "
        f"{before['iou_carried']:.2f} → {after['iou_carried']:.2f} carried"
    )
    print(f"Done: {card.name} is in {arguments.out.resolve()}; use it with --model {arguments.out}")


def _recipe(arguments: argparse.Namespace) -> Any:
    """The recipe, changed by the options that were given."""
    from napari_sam2.train.recipe import Recipe

    recipe = Recipe.read(arguments.recipe) if arguments.recipe else Recipe()
    told = {name: getattr(arguments, name) for name in ("axes", "along", "channel") if getattr(arguments, name) is not None}
    changed = recipe.model_dump(exclude_unset=True) | {"reading": asdict(recipe.reading) | told}
    if arguments.minutes is not None:
        changed |= {"minutes": arguments.minutes, "steps": _MANY_STEPS}
    return Recipe.of(changed, where="finetune")


def _models_list(arguments: argparse.Namespace) -> None:
    from napari_sam2.models.cards import list_models

    for model in list_models():
        size = f"{model.size_bytes / 1e6:.0f} MB" if model.size_bytes else "?"
        print(f"{model.card.name:<18} {model.state:<10} {size:>8}  {model.card.licence:<13} {model.card.description}")


def _models_fetch(arguments: argparse.Namespace) -> None:
    from napari_sam2.models.fetch import fetch

    print(f"Done: {arguments.name} is in {fetch(arguments.name, url=arguments.url, sha256=arguments.sha256)}")


def _models_verify(arguments: argparse.Namespace) -> None:
    from napari_sam2.models.checkpoints import verify

    card = verify(arguments.name)
    print(f"Done: {card.name} is what it should be, SHA-256 {card.sha256}")


def _models_import(arguments: argparse.Namespace) -> None:
    from napari_sam2.models.imported import import_file

    model = import_file(arguments.file, name=arguments.name, input_size=arguments.input_size)
    print(f"Done: {model.card.name} is in {model.path}; use it with --model {model.card.name}")


def _batch(arguments: argparse.Namespace) -> None:
    from napari_sam2.batch.command import run_file

    table = run_file(arguments.jobs, scheduler=arguments.scheduler, workers=arguments.workers, say=_say)
    print(f"Done: {len(table)} stacks, {int(table['objects'].sum())} objects; one folder a stack beside {table.attrs['summary']}")


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _bar() -> Iterator[Callable[[Stepped], None]]:
    """A progress bar on stderr that takes what a Run reports."""
    from tqdm import tqdm

    bars: list[Any] = []

    def advance(stepped: Stepped) -> None:
        if stepped.position == 1 or not bars:
            bars.append(tqdm(total=stepped.total, desc="carrying", unit="frame", initial=stepped.position - 1))
        bars[-1].update(stepped.position - bars[-1].n)
        if stepped.position == stepped.total:
            bars[-1].close()

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()


def _frames(text: str) -> tuple[int, int]:
    first, _, after = text.partition(":")
    return int(first), int(after)


def _patience(text: str) -> int | None:
    return None if text == "never" else int(text)


def _spacing(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _contrast(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(","))
    return low, high


def _saturation(text: str) -> dict[int, float]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {int(channel): float(level) for channel, _, level in pairs}


def _at(text: str) -> dict[str, int]:
    axis, _, index = text.partition("=")
    return {axis.lower(): int(index)}


if __name__ == "__main__":
    sys.exit(main())
