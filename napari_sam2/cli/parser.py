"""The parser of the command line: all commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam2.cli import commands
from napari_sam2.core.inference_options import DEFAULT_ATTENTION, rename_attention


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="napari-sam2",
        description="Prompt an object once, propagate it through a stack with SAM 2, count and "
        "measure it.",
    )
    top.add_argument("--version", action=_PrintVersion, help="print the versions and exit")
    top.set_defaults(after_stop="")
    subparsers = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_track,
        _add_count,
        _add_measure,
        _add_evaluate,
        _add_finetune,
        _add_models,
        _add_batch,
    ):
        add(subparsers)
    return top


class _PrintVersion(argparse.Action):
    """Print the versions of this package and of those that results depend on, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from napari_sam2.core.provenance import collect_versions

        versions = collect_versions()
        print("napari-sam2", versions.pop("napari-sam2", "unknown"))
        print("\n".join(f"  {name} {version}" for name, version in versions.items()))
        parser.exit()


def _add_demo(subparsers: Any) -> None:
    demo = subparsers.add_parser(
        "demo",
        help="run on the shipped samples: labels, tables and pictures in about a minute",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("napari-sam2-demo"),
        metavar="DIR",
        help="folder for the results (%(default)s)",
    )
    demo.set_defaults(do=commands.execute_demo)


def _add_track(subparsers: Any) -> None:
    track = subparsers.add_parser(
        "track", help="propagate prompted objects through a stack: labels, tables, picture"
    )
    track.add_argument(
        "input",
        type=Path,
        nargs="?",
        metavar="INPUT",
        help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob",
    )
    track.add_argument(
        "--out", type=_parse_out, required=True, metavar="DIR", help="folder for the results"
    )
    track.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to propagate along; not needed if the stack has only one of them",
    )
    source = track.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="CSV (track,frame,kind,y,x,y2,x2,positive,category) or JSON",
    )
    source.add_argument(
        "--masks",
        type=Path,
        metavar="LABELS",
        help="label image: each label is a mask prompt on --frame",
    )
    source.add_argument(
        "--project",
        type=Path,
        metavar="FOLDER",
        help="replay a project saved by napari; give INPUT only if its image was moved",
    )
    track.add_argument(
        "--frame", type=int, default=0, metavar="K", help="frame of --masks, from 0 (%(default)s)"
    )
    _add_reading_options(track)
    _add_contrast_option(track)
    track.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="see `napari-sam2 models list` (default: nano, or that of the project)",
    )
    track.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|mps",
        help="where the model runs (%(default)s)",
    )
    _add_remote_options(track)
    _add_inference_options(track, precision=None)
    _add_evidence_option(track, "compare answers with what the learned detector sees")
    track.add_argument(
        "--direction",
        choices=("both", "forward", "backward"),
        default="both",
        help="direction from the prompted frame (%(default)s)",
    )
    track.add_argument(
        "--frames",
        type=_parse_frames,
        metavar="A:B",
        help="propagate from frame A up to, but not including, frame B; counted from 0",
    )
    track.add_argument(
        "--patience",
        type=_parse_patience,
        default=8,
        metavar="N|never",
        help="absent frames after which a track ends (%(default)s)",
    )
    track.add_argument(
        "--format",
        choices=("tiff", "zarr"),
        default="tiff",
        help="labels.ome.tif or labels.ome.zarr (%(default)s)",
    )
    track.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run of the same input and options",
    )
    unused = [track.get_default(name) for name in commands.PROJECT_OPTIONS]
    track.set_defaults(
        do=commands.execute_track,
        unused=unused,
        after_stop="; run the same command with --resume to continue",
    )


def _add_count(subparsers: Any) -> None:
    count = subparsers.add_parser(
        "count", help="detect, link, count and measure every object, without a prompt"
    )
    count.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob",
    )
    count.add_argument(
        "--out", type=_parse_out, required=True, metavar="DIR", help="folder for the results"
    )
    count.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to propagate along; not needed if the stack has only one of them",
    )
    count.add_argument(
        "--seeds",
        default="auto",
        metavar="auto|learned|classical|blobs|peaks|grid|everything|LABELS",
        help="detector, or a label image of another tool (%(default)s)",
    )
    count.add_argument(
        "--kind",
        choices=("mask", "box", "point"),
        default="mask",
        help="kind of prompt that a detected object becomes (%(default)s)",
    )
    count.add_argument(
        "--trust",
        dest="association",
        choices=("seeds", "model"),
        default="seeds",
        help="seeds: detect on every frame and link; model: detect once and propagate "
        "(%(default)s)",
    )
    count.add_argument(
        "--diameter",
        type=float,
        metavar="UM",
        dest="diameter_um",
        help="diameter of a typical object in µm (estimated)",
    )
    count.add_argument("--diameter-px", type=float, metavar="PX", help="the same in pixels")
    count.add_argument(
        "--dark",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="objects are darker than the background (estimated)",
    )
    count.add_argument(
        "--least",
        dest="min_frames",
        type=int,
        metavar="N",
        help="minimum number of frames of a track, unless the stack begins or ends there",
    )
    count.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="NAME:CONDITION",
        help="category by a condition, for example 'large: area_px > 500'",
    )
    count.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="ctc|geff|parquet|h5ad",
        help="additional output formats",
    )
    count.add_argument("--category", default="", metavar="NAME", help="category of all objects")
    _add_reading_options(count)
    _add_contrast_option(count)
    count.add_argument(
        "--model",
        default="nano",
        metavar="NAME|FILE",
        help="see `napari-sam2 models list` (%(default)s)",
    )
    count.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|mps",
        help="where the model runs (%(default)s)",
    )
    _add_remote_options(count)
    _add_inference_options(count)
    _add_evidence_option(
        count,
        "compare what the model propagates, e.g. with --trust model, with what the learned "
        "detector sees",
    )
    count.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted count of the same input and options",
    )
    count.set_defaults(
        do=commands.execute_count,
        after_stop="; run the same command with --resume to continue",
    )


def _add_measure(subparsers: Any) -> None:
    measure = subparsers.add_parser("measure", help="tables from existing labels")
    measure.add_argument(
        "labels", type=Path, metavar="LABELS", help="label stack with the frames of the image"
    )
    measure.add_argument(
        "--image", type=Path, required=True, metavar="INPUT", help="the labelled image"
    )
    measure.add_argument(
        "--out", type=_parse_out, required=True, metavar="DIR", help="folder for the tables"
    )
    measure.add_argument("--along", choices=("z", "t"), help="axis the labels are stacked along")
    measure.add_argument(
        "--relabel",
        choices=("components", "linked"),
        help="new numbers: for each connected object of a mask, or by linking labels that were "
        "numbered anew on each frame; writes labels.ome.tif",
    )
    measure.add_argument(
        "--cells",
        type=Path,
        metavar="LABELS",
        help="labels of whole cells, if LABELS are their nuclei",
    )
    measure.add_argument(
        "--spot-sigma",
        type=float,
        metavar="PX",
        help="standard deviation of the spots to detect inside objects (1.5)",
    )
    measure.add_argument(
        "--saturation",
        type=_parse_saturation,
        default={},
        metavar="C=V",
        help="saturated grey value by channel, for example 0=4095,1=4095",
    )
    _add_reading_options(measure)
    measure.set_defaults(do=commands.execute_measure)


def _add_evaluate(subparsers: Any) -> None:
    evaluate = subparsers.add_parser("evaluate", help="agreement with ground truth")
    evaluate.add_argument(
        "predicted",
        type=Path,
        metavar="PREDICTED",
        help="label file, folder of results, or 01_RES of the CTC",
    )
    evaluate.add_argument("truth", type=Path, metavar="TRUTH", help="the same, or 01_GT/TRA")
    evaluate.add_argument(
        "--tracks",
        action="store_true",
        help="compare tracks with their identities, not only objects per frame",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write all figures to this file as JSON"
    )
    evaluate.set_defaults(do=commands.execute_evaluate)


def _add_finetune(subparsers: Any) -> None:
    finetune = subparsers.add_parser("finetune", help="train a model on annotated images or stacks")
    finetune.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="CTC folder, images/ with masks/, or NAME.tif with NAME_labels.tif",
    )
    finetune.add_argument(
        "--model", default="nano", metavar="NAME|FILE", help="model to start from (%(default)s)"
    )
    finetune.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="output file, ending in .safetensors",
    )
    finetune.add_argument("--recipe", type=Path, metavar="TOML", help="training recipe")
    finetune.add_argument(
        "--minutes", type=float, metavar="M", help="training time; overrides the recipe"
    )
    finetune.add_argument(
        "--detector",
        choices=("auto", "always", "never"),
        help="tune the detector too (auto: unless the frames seem to be annotated in part only)",
    )
    finetune.add_argument(
        "--axes",
        type=str.lower,
        metavar="TCZYX",
        help="axes of the images, if the files do not name them",
    )
    finetune.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to propagate along; not needed if the stack has only one of them",
    )
    finetune.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="channel that the model sees, from 0 (0; the luminance of a colour image)",
    )
    finetune.set_defaults(
        do=commands.execute_finetune, after_stop="; run the same command to continue"
    )


def _add_models(subparsers: Any) -> None:
    models = subparsers.add_parser("models", help="list, fetch, verify or import models")
    what = models.add_subparsers(required=True, metavar="list|fetch|verify|import")
    what.add_parser("list", help="all known models, and where they are").set_defaults(
        do=commands.execute_models_list
    )
    fetch = what.add_parser(
        "fetch",
        help="download a published model into the cache (NAPARI_SAM2_CACHE) and verify its SHA-256",
    )
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument("--sha256", metavar="HASH", help="expected SHA-256, if the list has none")
    fetch.add_argument("--url", help="address of a mirror; the hash must be the same")
    fetch.set_defaults(
        do=commands.execute_models_fetch, after_stop="; run the same command to continue"
    )
    verify = what.add_parser("verify", help="compare the file of a model with its hash")
    verify.add_argument("name", metavar="NAME|FILE")
    verify.set_defaults(do=commands.execute_models_verify)
    take = what.add_parser(
        "import", help="import a checkpoint of SAM 2, SAM 2.1 or a fine-tuned model into the cache"
    )
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--name", help="name of the model (default: name of the file)")
    take.add_argument(
        "--input-size",
        type=int,
        metavar="PX",
        help="side of the input in training, if not 1024 (MedSAM2: 512)",
    )
    take.set_defaults(do=commands.execute_models_import)


def _add_batch(subparsers: Any) -> None:
    batch = subparsers.add_parser(
        "batch", help="many stacks, on this machine or a cluster; finished ones are skipped"
    )
    batch.add_argument(
        "jobs",
        type=Path,
        metavar="JOBS.toml",
        help="jobs file: stacks, prompts, output folder",
    )
    batch.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a running dask scheduler: tcp://…, or tls://… with certificates",
    )
    batch.add_argument(
        "--workers", type=int, metavar="N", help="number of local processes (default: one per core)"
    )
    batch.set_defaults(do=commands.execute_batch, after_stop="; run the same command to continue")


def _add_inference_options(
    command: argparse.ArgumentParser, *, precision: str | None = "float32"
) -> None:
    """Options in `commands.INFERENCE_OPTIONS`.

    `precision` is None if a project may have its own.
    """
    command.add_argument(
        "--attention",
        type=_parse_attention,
        choices=("auto", "global", "local"),
        default=DEFAULT_ATTENTION,
        help="memory attention over the whole frame (global) or over the part around each object "
        "(local: many times faster with SAM 2.1 and small objects, nearly the same masks); auto: "
        "local if both give the same mask after a prompt (%(default)s)",
    )
    command.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default=precision,
        help="number format of the model; the others are faster on devices that support them, with "
        "nearly the same masks "
        + (f"({precision})" if precision else "(float32, or that of the project)"),
    )
    command.add_argument(
        "--windows",
        choices=("whole", "tiles"),
        default="whole",
        help="tiles: enlarge objects that are small on a large frame; for SAM 2.1 (%(default)s)",
    )


def _add_evidence_option(command: argparse.ArgumentParser, purpose: str) -> None:
    command.add_argument(
        "--evidence",
        default="none",
        metavar="all|none|PARTS",
        help=f"{purpose}: some of click, presence, mask and review, with commas (%(default)s)",
    )


def _parse_attention(value: str) -> str:
    """Parse an attention; old names are accepted with a warning."""
    return str(rename_attention(value, warn=True))


def _add_remote_options(command: argparse.ArgumentParser) -> None:
    """Options of a model that runs on another machine."""
    command.add_argument(
        "--model-on",
        metavar="ADDRESS",
        help="run the model on a worker of this dask scheduler: tls://host:port",
    )
    command.add_argument(
        "--certificates",
        type=Path,
        metavar="DIR",
        help="folder with ca.pem, cert.pem and key.pem (default: configuration of dask)",
    )
    command.add_argument(
        "--plain-tcp",
        action="store_true",
        help="allow an unencrypted connection to another machine, on a network you trust",
    )


def _add_reading_options(command: argparse.ArgumentParser) -> None:
    """Options for reading an image."""
    command.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="channel that the model sees, from 0 (0; the luminance of a colour image)",
    )
    command.add_argument(
        "--axes",
        type=str.lower,
        metavar="TCZYX",
        help="axes of the file, if it names none or wrong ones",
    )
    command.add_argument(
        "--spacing",
        type=_parse_spacing,
        metavar="Z,Y,X",
        help="µm per pixel, if the file has none: 'Z,Y,X' or 'Y,X'",
    )
    command.add_argument(
        "--interval", type=float, metavar="S", help="seconds per frame, if the file has none"
    )
    command.add_argument(
        "--series",
        type=_parse_number,
        metavar="N",
        help="number of the image in a file of several (positions, scenes), from 0",
    )
    command.add_argument(
        "--level",
        type=_parse_number,
        metavar="N",
        help="level of a pyramid, 0 is the full resolution (0)",
    )
    command.add_argument(
        "--at",
        type=_parse_axis_index,
        default={},
        metavar="AXIS=N",
        help="index on the remaining axis, for example t=3 (0)",
    )


def _add_contrast_option(command: argparse.ArgumentParser) -> None:
    """What the model sees; measurements always use the raw intensities."""
    command.add_argument(
        "--contrast",
        type=_parse_contrast,
        metavar="LOW,HIGH",
        help="intensities that the model sees as black and white (0.1 and 99.9 percentile)",
    )


def _parse_number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected a number from 0")
    return number


def _parse_out(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: expected a folder for the results")
    return Path(text)


def _parse_frames(text: str) -> tuple[int, int]:
    first, _, after = text.partition(":")
    return int(first), int(after)


def _parse_patience(text: str) -> int | None:
    return None if text == "never" else int(text)


def _parse_spacing(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _parse_contrast(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(","))
    return low, high


def _parse_saturation(text: str) -> dict[int, float]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {int(channel): float(level) for channel, _, level in pairs}


def _parse_axis_index(text: str) -> dict[str, int]:
    axis, _, index = text.partition("=")
    return {axis.lower(): int(index)}
