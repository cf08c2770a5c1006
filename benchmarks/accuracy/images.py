"""Images: IoU of objects on single images by one click, three clicks and a box, by domain.

    python -m benchmarks.accuracy.images DATA PACK --out results.json

The model was not trained on these images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import label as components

from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_iou
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import ObjectEvidence, VideoModel
from napari_sam2.core.result import Segment
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.models.device import describe_device
from napari_sam2.models.load import load_model
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.session import Session
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.simulated_prompts import choose_correction, compute_box, find_middle

MIN_AREA_PX = 40
"""Smaller objects are left out: one row of pixels more would be a third of their area."""

COLUMNS = {
    "domain": "domain",
    "images": "images",
    "objects": "objects",
    "one click": "click",
    "three clicks": "three",
    "box": "box",
    "one click, best of three masks": "offered",
}
"""Columns of the table, and their names in JSON."""

Still = tuple[np.ndarray, np.ndarray]
"""(H, W) pixels and labels."""


@dataclass(frozen=True)
class Domain:
    """Images of one kind; `read` gets the folders of the data and of the pack."""

    name: str
    read: Callable[[Path, Path], Iterator[Still]]


def _make_pack_reader(modality: str) -> Callable[[Path, Path], Iterator[Still]]:
    """Make a reader of the images that the manifest of a pack holds out."""

    def read(_: Path, pack: Path) -> Iterator[Still]:
        for pair in open_pack(
            pack, row_filter=lambda row: row.split == "val" and modality in row.modality
        ):
            yield pair.read(0)

    return read


def _make_plane_reader(
    image: str, labels: str, *, frame: int | None = None, axes: str = "yx"
) -> Callable[[Path, Path], Iterator[Still]]:
    def read(data: Path, _: Path) -> Iterator[Still]:
        stack, truth = open_stack(data / image, axes=axes), open_labels(data / labels, axes=axes)
        position = {} if frame is None else {axes[0]: frame}
        yield stack.read_plane(position), truth.read_plane(position)

    return read


def _read_axons(data: Path, _: Path) -> Iterator[Still]:
    """Read axons with their sheaths: the connected parts of the masks."""
    folder = data / "em_axons_2d"
    for truth in sorted(folder.glob("derivatives/labels/*/*/micr/*_seg-axon-manual.png")):
        image = (
            folder
            / truth.relative_to(folder / "derivatives" / "labels").parent
            / truth.name.replace("_seg-axon-manual", "")
        )
        yield (
            open_stack(image, axes="yx").read_plane({}),
            components(open_labels(truth, axes="yx").read_plane({}) > 127),
        )


DOMAINS = (
    Domain("nuclei, fluorescence (DSB, held out)", _make_pack_reader("fluorescence")),
    Domain("nuclei, H&E and colour (DSB, held out)", _make_pack_reader("H&E")),
    Domain("nuclei, brightfield (DSB, held out)", _make_pack_reader("brightfield")),
    Domain(
        "nuclei, fluorescence (StarDist 2D)",
        _make_plane_reader("zstack_and_2d_stardist/img2d.tif", "zstack_and_2d_stardist/mask2d.tif"),
    ),
    Domain(
        "nuclei, HeLa H2B (CTC)",
        _make_plane_reader(
            "timelapse_hela_nuclei/Fluo_Hela_02_img.tif",
            "timelapse_hela_nuclei/Fluo_Hela_02_ERR_SEG.tif",
            frame=5,
            axes="tyx",
        ),
    ),
    Domain(
        "bacteria, phase contrast (E. coli)",
        _make_plane_reader(
            "timelapse_ecoli/img.tif", "timelapse_ecoli/mask.tif", frame=10, axes="tyx"
        ),
    ),
    Domain(
        "plant cells, membranes (maize)",
        _make_plane_reader("plant_maize_2d/maize_clsm.tif", "plant_maize_2d/maize_clsm_labels.tif"),
    ),
    Domain("axons, electron microscopy", _read_axons),
    Domain(
        "left ventricle, MRI (other patients)", _make_pack_reader("MRI")
    ),  # those of the data folder were in training
)


MakeEvidence = Callable[[Video], ObjectEvidence | None]


def measure_domain(
    model: VideoModel,
    stills: Iterator[Still],
    max_objects: int,
    make_evidence: MakeEvidence = lambda video: None,
) -> dict[str, Any]:
    """Measure the mean IoU over at most `max_objects`, by kind of prompt.

    `offered` is the best of the masks that the model offers for a click; `spread` the standard
    deviation of one click over the objects.
    """
    ious: dict[str, list[float]] = {"click": [], "three": [], "box": [], "offered": []}
    images = 0
    for pixels, labels in _sample_objects(stills, max_objects):
        images += 1
        video = _make_video(pixels)
        evidence = make_evidence(video)
        for truth in labels:
            for name, value in _measure_object(model, video, truth, evidence).items():
                ious[name].append(value)
    return {
        "images": images,
        "objects": len(ious["box"]),
        **{name: float(np.mean(values)) for name, values in ious.items()},
        "spread": float(np.std(ious["click"])),
    }


def _sample_objects(
    stills: Iterator[Still], max_objects: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield each image with the masks of some of its objects, about equally many of each image."""
    images = [(pixels, labels, _list_large_objects(labels)) for pixels, labels in stills]
    images = [each for each in images if len(each[2])]
    count = max(1, round(max_objects / max(1, len(images))))
    for number, (pixels, labels, ids) in enumerate(images):
        chosen = np.random.default_rng(number).permutation(ids)[:count]
        yield pixels, [labels == each for each in chosen]


def _list_large_objects(labels: np.ndarray) -> np.ndarray:
    ids, areas = np.unique(labels, return_counts=True)
    return np.asarray(ids[(ids > 0) & (areas >= MIN_AREA_PX)])


def _measure_object(
    model: VideoModel, video: Video, truth: np.ndarray, evidence: ObjectEvidence | None
) -> dict[str, float]:
    with Session(video, model, evidence=evidence) as session:
        first = session.prompt(_make_click(1, find_middle(truth), True))
        offered = [
            compute_iou(_paste_mask(first, each.logits, truth), truth)
            for each in first.alternatives
        ]
        click = compute_iou(compute_mask(first, truth.shape), truth)
        last = first
        for _ in range(2):
            last = session.prompt(
                _make_click(1, *choose_correction(compute_mask(last, truth.shape), truth))
            )
        corners = np.clip(compute_box(truth), 0, [*truth.shape, *truth.shape] - np.ones(4))
        boxed = session.prompt(BoxPrompt(0, 2, corners.tolist()))
        three, box = (compute_iou(compute_mask(each, truth.shape), truth) for each in (last, boxed))
    return {"click": click, "three": three, "box": box, "offered": max([*offered, click])}


def _make_video(pixels: np.ndarray) -> Video:
    if pixels.ndim == 3:
        return Stack(np.moveaxis(pixels, -1, 0), "cyx", rgb=True).as_video()
    return Stack(pixels, "yx").as_video()


def _make_click(track: int, yx: tuple[float, float], positive: bool) -> Prompt:
    return PointPrompt(0, track, [yx], [positive])


def _paste_mask(segment: Segment, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    rows, columns = slice(0, truth.shape[0]), slice(0, truth.shape[1])
    return segment.window.paste(logits, rows, columns) > 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if at least one domain was found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.images",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("data", type=Path, help="folder of stacks with truth")
    parser.add_argument(
        "pack", type=Path, help="folder with manifest.csv and .npz files (its split val)"
    )
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument("--device", default="auto", help="device of the model")
    parser.add_argument("--objects", type=int, default=120, help="objects of a domain, at most")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about = describe_machine()
    model = load_model(options.model, device=options.device)
    print(f"{model.card.name} on {describe_device(model.device)}")
    rows = []
    for domain in DOMAINS:
        try:
            stills = domain.read(options.data, options.pack)
            rows.append({"domain": domain.name, **measure_domain(model, stills, options.objects)})
        except (Sam2Error, OSError) as error:
            print(f"not measured: {domain.name}: {error}")
        else:
            print(rows[-1], flush=True)
    print(
        "\n"
        + format_markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows])
    )
    write_results(
        {"machine": about, "model": model.card.name, "sha256": model.card.sha256, "results": rows},
        options.out,
    )
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
