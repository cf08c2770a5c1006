"""Parser: all commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam2.cli import commands
from napari_sam2.core.inference_options import DEFAULT_ATTENTION, rename_attention


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="napari-sam2",
        description="Prompt an object once, carry it through the stack with SAM 2, count and measure it.",
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
        help="the main job on the shipped samples: labels, tables, pictures, in about a minute",
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
        "track", help="carry prompted objects through a stack: labels, tables, picture"
    )
    track.add_argument(
        "input",
        type=Path,
        nargs="?",
        metavar="INPUT",
        help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob",
    )
    track.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    track.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to walk; may be left out where only one of them is there",
    )
    said = track.add_mutually_exclusive_group(required=True)
    said.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="CSV (track,frame,kind,y,x,y2,x2,positive,category) or JSON",
    )
    said.add_argument(
        "--masks",
        type=Path,
        metavar="LABELS",
        help="label image: each label is a mask prompt on --frame",
    )
    said.add_argument(
        "--project",
        type=Path,
        metavar="FOLDER",
        help="replay a project saved by napari; INPUT only where its image was moved",
    )
    track.add_argument(
        "--frame", type=int, default=0, metavar="K", help="frame of --masks, from 0 (%(default)s)"
    )
    _add_reading_options(track)
    _add_contrast_option(track)
    track.add_argument(
        "--model",
        metavar="NAME|FILE",
        help="see `napari-sam2 models list` (nano, or the project's)",
    )
    track.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|mps",
        help="where the model runs (%(default)s)",
    )
    _add_remote_options(track)
    _add_inference_options(track, precision=None)
    track.add_argument(
        "--direction",
        choices=("both", "forward", "backward"),
        default="both",
        help="from the prompted frame (%(default)s)",
    )
    track.add_argument(
        "--frames",
        type=_parse_frames,
        metavar="A:B",
        help="carry from frame A to the one before B, counted from 0",
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
        help="go on where an interrupted run of the same call stopped",
    )
    unused = [track.get_default(name) for name in commands.PROJECT_OPTIONS]
    track.set_defaults(
        do=commands.execute_track,
        unused=unused,
        after_stop=": the same call with --resume goes on from there",
    )


def _add_count(subparsers: Any) -> None:
    count = subparsers.add_parser(
        "count", help="find, join, count and measure every object; nobody clicks"
    )
    count.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="TIFF, OME-TIFF, OME-Zarr, .npy, a folder of images or a quoted glob",
    )
    count.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    count.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to walk; may be left out where only one of them is there",
    )
    count.add_argument(
        "--seeds",
        default="auto",
        metavar="auto|classical|blobs|peaks|grid|everything|LABELS",
        help="who finds objects (%(default)s)",
    )
    count.add_argument(
        "--kind",
        choices=("mask", "box", "point"),
        default="mask",
        help="what a seed is said as (%(default)s)",
    )
    count.add_argument(
        "--trust",
        dest="association",
        choices=("seeds", "model"),
        default="seeds",
        help="who says where objects are on later frames (%(default)s)",
    )
    count.add_argument(
        "--diameter",
        type=float,
        metavar="UM",
        dest="diameter_um",
        help="of a typical object in µm (guessed)",
    )
    count.add_argument("--diameter-px", type=float, metavar="PX", help="the same in pixels")
    count.add_argument(
        "--dark",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="objects are darker than the background (guessed)",
    )
    count.add_argument(
        "--least",
        dest="min_frames",
        type=int,
        metavar="N",
        help="frames an object must be on, unless the stack begins or ends there",
    )
    count.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="NAME:CONDITION",
        help="category, e.g. 'large: area_px > 500'",
    )
    count.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="ctc|geff|parquet|h5ad",
        help="what else is written",
    )
    count.add_argument("--category", default="", metavar="NAME", help="what all objects are called")
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
    count.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted count of the same input and options",
    )
    count.set_defaults(
        do=commands.execute_count,
        after_stop=": the same call with --resume goes on from there",
    )


def _add_measure(subparsers: Any) -> None:
    measure = subparsers.add_parser("measure", help="tables from labels that exist")
    measure.add_argument(
        "labels", type=Path, metavar="LABELS", help="label stack of the image's frames"
    )
    measure.add_argument(
        "--image", type=Path, required=True, metavar="INPUT", help="the image that was labelled"
    )
    measure.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the tables"
    )
    measure.add_argument("--along", choices=("z", "t"), help="axis the labels are stacked along")
    measure.add_argument(
        "--cells",
        type=Path,
        metavar="LABELS",
        help="labels of whole cells: the objects are their nuclei",
    )
    measure.add_argument(
        "--spot-sigma",
        type=float,
        metavar="PX",
        help="spread of the spots that are looked for inside objects (1.5)",
    )
    measure.add_argument(
        "--saturation",
        type=_parse_saturation,
        default={},
        metavar="C=V",
        help="grey value of saturation, e.g. 0=4095,1=4095",
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
        help="identities matter: compare tracks, not only objects per frame",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write all figures there as JSON"
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
        "--model", default="nano", metavar="NAME|FILE", help="what to start from (%(default)s)"
    )
    finetune.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the result, ending in .safetensors"
    )
    finetune.add_argument("--recipe", type=Path, metavar="TOML", help="how to train")
    finetune.add_argument(
        "--minutes", type=float, metavar="M", help="train so long, whatever the recipe says"
    )
    finetune.add_argument(
        "--axes",
        type=str.lower,
        metavar="TCZYX",
        help="axes of the images, where they do not say them",
    )
    finetune.add_argument(
        "--along",
        choices=("z", "t"),
        help="axis to walk; may be left out where only one of them is there",
    )
    finetune.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="channel to look at, from 0 (0; the luminance of a colour image)",
    )
    finetune.set_defaults(
        do=commands.execute_finetune, after_stop=": the same call goes on from there"
    )


def _add_models(subparsers: Any) -> None:
    models = subparsers.add_parser("models", help="list, fetch, verify or import models")
    what = models.add_subparsers(required=True, metavar="list|fetch|verify|import")
    what.add_parser("list", help="every model that is known, and where it is").set_defaults(
        do=commands.execute_models_list
    )
    fetch = what.add_parser(
        "fetch",
        help="download a published model into the cache (NAPARI_SAM2_CACHE), verified by its SHA-256",
    )
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument(
        "--sha256", metavar="HASH", help="what the file must hash to, where the list does not know"
    )
    fetch.add_argument("--url", help="fetch it from a mirror; the hash must be the same")
    fetch.set_defaults(
        do=commands.execute_models_fetch, after_stop=": the same call goes on from there"
    )
    verify = what.add_parser("verify", help="compare a model's file with its hash")
    verify.add_argument("name", metavar="NAME|FILE")
    verify.set_defaults(do=commands.execute_models_verify)
    take = what.add_parser(
        "import", help="take a checkpoint of SAM 2, SAM 2.1 or a fine-tune of them into the cache"
    )
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--name", help="what it shall be called (the file's name)")
    take.add_argument(
        "--input-size",
        type=int,
        metavar="PX",
        help="side of the input it was trained with, if not 1024 (MedSAM2: 512)",
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
        help="which stacks, which prompts, where the results go",
    )
    batch.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a dask scheduler that runs: tcp://… or, with certificates, tls://…",
    )
    batch.add_argument(
        "--workers", type=int, metavar="N", help="processes of this machine (one for each core)"
    )
    batch.set_defaults(do=commands.execute_batch, after_stop=": the same call goes on from there")


def _add_inference_options(
    command: argparse.ArgumentParser, *, precision: str | None = "float32"
) -> None:
    """How a model looks at frames, and what it computes in: `commands.HOW`.

    `precision` is None where a project may have its own.
    """
    command.add_argument(
        "--attention",
        type=_parse_attention,
        choices=("auto", "global", "local"),
        default=DEFAULT_ATTENTION,
        help="global: read the whole frame for each propagated object; local: the part around it, many times faster with SAM 2.1 and small "
        "objects, nearly the same; auto: local if both give the same mask after a prompt (%(default)s)",
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


def _parse_attention(value: str) -> str:
    """An attention; the old names are read with a warning."""
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
        help="ca.pem, cert.pem and key.pem for it (dask's own configuration)",
    )
    command.add_argument(
        "--plain-tcp",
        action="store_true",
        help="allow it unencrypted beyond this machine, on a network you trust",
    )


def _add_reading_options(command: argparse.ArgumentParser) -> None:
    """Options that say how an image is read."""
    command.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="channel to look at, from 0 (0; the luminance of a colour image)",
    )
    command.add_argument(
        "--axes",
        type=str.lower,
        metavar="TCZYX",
        help="axes of the file, where it does not say them or says them wrong",
    )
    command.add_argument(
        "--spacing",
        type=_parse_spacing,
        metavar="Z,Y,X",
        help="µm per pixel, where the file does not say: 'Z,Y,X' or 'Y,X'",
    )
    command.add_argument(
        "--interval", type=float, metavar="S", help="seconds per frame, where the file does not say"
    )
    command.add_argument(
        "--at",
        type=_parse_axis_index,
        default={},
        metavar="AXIS=N",
        help="index of the axis that is not walked, e.g. t=3 (0)",
    )


def _add_contrast_option(command: argparse.ArgumentParser) -> None:
    """What the model sees; measurements are of the raw intensities, always."""
    command.add_argument(
        "--contrast",
        type=_parse_contrast,
        metavar="LOW,HIGH",
        help="intensities the model sees as black and white (0.1 and 99.9 %% of all)",
    )


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
