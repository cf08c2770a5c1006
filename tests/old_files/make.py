"""How the files in ``data`` were made. Runs with the old code only, of commit 67ac6fb.

``python -m tests.old_files.make`` in a checkout of that commit with this folder in it. Nobody needs
to run it again: the files are what that version wrote, and stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_sam2.api.project import Project
from napari_sam2.core.plan import Leg, Propagation
from napari_sam2.core.prompt import (
    BoxPrompt,
    Lock,
    MaskPrompt,
    PointPrompt,
    PromptLog,
    Removal,
)
from napari_sam2.core.track import Track
from napari_sam2.gui.changed import Carry
from napari_sam2.gui.desk import Desk
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import write_prompts
from napari_sam2.testing.scenes import Scene, drifting
from napari_sam2.train.finetune import finetune
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trial import base, material, recipe
from tests.old_files import current
from tests.old_files.runs import COUNT, TRACK, Killed, stop_at

DATA = Path(__file__).parent / "data"
LEFT_OUT = ("*.lock", ".lock", "overview.png", "report.html")
CSV = {
    "points": "track,frame,kind,y,x\n1,0,point,14,11.5\n2,0,point,14,34\n2,3,point,14.25,31\n",
    "boxes": "Kind,Category,Track,Frame,Y,X,Y2,X2\n"
    "box,cell,1,0,6.5,4,21,18\nBOX,cell,3,2,28.5,3,43,19\n",
    "all": "frame,track,kind,y,x,y2,x2,positive,category\n"
    "0,1,point,14,11,,,1,cell\n0,1,point,2,2,,,no,\n0,2,box,6,26,21,41,true,\n"
    "0,2,point,14,34,,,YES,debris\n\n4,1,point,14,12,,,1.0,cell\n4,1,point,40,40,,,false,\n",
}
RECIPE = """\
trains = "decoder+memory"
learns = [
  "pointer_time", "previous_logits", "single_mask", "presence_head", "carried", "refinement"
]
steps = 700
minutes = 12.5
learning_rate = 3e-4
schedule = "constant"
warmup = 10
weight_decay = 0.02
clip_norm = 0.5
average = 0.9
accumulate = 3
precision = "bfloat16"
recent = 3
pointers = 8
corrected = [0.5, 0.25, 0.25]
loose = 0.25
taught = 100
pool = 12
rehearsal = 0.1
diameters = [12.0, 60.0]
rank = 4
hooks = ["mine"]
device = "cpu"
threads = 2
seed = 7

[reading]
axes = "TYX"
along = "t"
channel = 1
linked = false

[[shapes]]
share = 0.7
size = 128
clips = 3
length = 5
objects = 4

[[shapes]]
share = 0.3

[prompts]
point = 0.5
box = 0.3
mask = 0.2
deep = 0.7
jitter = 0.05
jitter_px = 10.0

[losses]
bce = 0.2
dice = 0.9
iou = 0.4
presence = 0.3
outline = 0.6
positive = 2.0

[validating]
share = 0.3
every = 25
clips = 6
length = 3
objects = 5
size = 256
patience = 4
"""
PROMPTED_JOBS = """\
out = "results"

[defaults]
along = "t"
channel = 0
contrast = [0.0, 50000.0]
axes = "TYX"
spacing = [0.5, 0.25]
interval = 60.0
model = "nano"
device = "cpu"
attention = "whole"
precision = "float32"
windows = "tiles"
direction = "forward"
frames = [0, 5]
patience = 4
format = "zarr"

[cluster]
kind = "slurm"
workers = 2
threads = 3
options = { cores = 4, memory = "16GB", queue = "gpu" }

[[stacks]]
input = "cells*.ome.tif"
prompts = "prompts_{parent}/{stem}.csv"
well = "B0{number}"
out = "{parent}/{number}-{stem}"
attention = "near"

[[stacks]]
input = "cells.ome.tif"
masks = "{name}"
frame = 2
direction = "backward"
attention = "auto"
at = { z = 0 }
resume = true
"""
COUNTED_JOBS = """\
out = "counted"

[defaults]
seeds = "blobs"
attention = "near"

[defaults.counting]
kind = "point"
trust = "model"
diameter_px = 14.0
dark = false
patience = 3
least = 2
category = "cell"
rules = { large = "area_px > 100", small = "area_px <= 100" }

[cluster]
scheduler = "tcp://127.0.0.1:8786"

[[stacks]]
input = "cells.ome.tif"
also = ["ctc", "report"]

[[stacks]]
input = "cells.ome.tif"
out = "{stem}-labels"
seeds = "{stem}_labels.ome.tif"
counting = { trust = "seeds", kind = "mask", least = 4 }

[[stacks]]
input = "cells.ome.tif"
out = "{stem}-um"
counting = { diameter_px = 9.0 }

[[stacks]]
input = "cells.ome.tif"
out = "{stem}-prompted"
prompts = "prompts_all.csv"
"""


def make() -> None:
    """Write everything into ``data``, which is emptied before."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir()
    os.chdir(DATA)  # paths in the files are relative: no machine is named
    scene = drifting(count=3, frames=6, shape=(48, 48))
    _write_images(scene)
    _write_prompt_files(scene)
    _write_training_files()
    Path("jobs_prompted.toml").write_text(PROMPTED_JOBS)
    Path("jobs_counted.toml").write_text(COUNTED_JOBS)
    for name, model in (("toy", current.make_toy()), ("nano", current.load_nano())):
        _write_project(f"project_{name}", scene, model)
    for name, fields in (("track", TRACK), ("count", COUNT)):
        try:
            current.run({**fields, "out": f"{name}_unfinished"}, stop_at(2))
        except Killed:
            pass
        else:
            raise AssertionError("was not killed")
        current.run({**fields, "out": f"{name}_finished"})
    _write_what_it_gave()
    for pattern in LEFT_OUT:
        for path in list(DATA.rglob(pattern)):
            path.unlink()


def _write_images(scene: Scene) -> None:
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 60.0,
    }
    how: dict[str, Any] = {"metadata": metadata, "ome": True, "compression": "zlib"}
    tifffile.imwrite("cells.ome.tif", np.asarray(scene.stack.data), **how)
    labels = scene.labels.copy()
    labels[1:5][labels[1:5] == 2] = 0  # missed on four frames: to be carried over
    tifffile.imwrite("cells_labels.ome.tif", labels, **how)


def _write_prompt_files(scene: Scene) -> None:
    for name, text in CSV.items():
        Path(f"prompts_{name}.csv").write_text(text)
    legs = (Leg(1, 0, 5), Leg(2, 3, 0, True), Leg(3, 2, 4))
    log = PromptLog(
        (
            PointPrompt(0, 1, [(14, 11), (2.5, 2)], [True, False]),
            BoxPrompt(0, 2, (6.5, 26, 21, 41)),
            MaskPrompt(2, 3, scene.mask(3, 2)),
            Propagation(legs),
            PointPrompt(3, 2, [(14, 34)], [True], anew=True),
            Lock(2, 3),
            Lock(2, 3, False),
            Removal(1),
        ),
        (Track(1, "Anna", "cell"), Track(2, category="cell"), Track(3, parent=2)),
    )
    write_prompts(log, Path("prompts_all.json"))


def _write_training_files() -> None:
    Path("recipe.toml").write_text(RECIPE)
    assert Recipe.read("recipe.toml").model_fields_set == set(Recipe.model_fields)
    shutil.copy(DATA.parents[2] / "checkpoints" / "nano.json", "card_follows.json")
    folder = Path("training")
    folder.mkdir()
    tiny = base(folder)
    finetune(material(), model=tiny, out=folder / "tuned.safetensors", recipe=recipe())
    shutil.copy(folder / "tuned.json", "card_tuned.json")
    shutil.rmtree(folder)


def _write_project(name: str, scene: Scene, model: Any) -> None:
    """What a person does in the window, and cancels at the end."""
    folder = Path(name)
    project = Project.create(folder, open_stack("cells.ome.tif").as_video(), model.card)
    desk = Desk(project.open_session(model), project=project)
    rows, columns = np.nonzero(scene.mask(2, 0))
    box = [float(side) for side in (rows.min(), columns.min(), rows.max(), columns.max())]
    desk.prompt([scene.click(1, 0)], [Track(1, "Anna", "nucleus")])
    desk.prompt([BoxPrompt(0, 2, box)])
    desk.prompt([MaskPrompt(1, 3, scene.mask(3, 1))], [Track(3, category="nucleus", parent=2)])
    desk.prompt([replace_track(scene.click(1, 3), 4)])
    _propagate(desk, Carry(frames=(0, 4)))
    desk.lock([2], [2])
    desk.remove([4])
    desk.prompt([PointPrompt(2, 1, scene.click(3, 2).yx, [True])])
    desk.undo()
    desk.prompt([scene.click(3, 3)])
    desk.start(Carry(tracks=(1, 3)))
    desk.step()
    desk.stop()
    assert desk.session.unfinished
    project.view = {"frame": 3, "limits": [0, 50000]}
    desk.close()
    file = folder / "project.json"
    said = json.loads(file.read_text())
    said["image"]["path"] = "/elsewhere/cells.ome.tif"  # no path of the machine that it was made on
    file.write_text(json.dumps(said, indent=1) + "\n")


def replace_track(prompt: PointPrompt, track: int) -> PointPrompt:
    """The same click on another object."""
    return PointPrompt(prompt.frame, track, prompt.yx, prompt.positive)


def _propagate(desk: Desk, carry: Carry) -> None:
    desk.start(carry)
    while desk.step() is not None:
        pass


def _write_what_it_gave() -> None:
    """What the old code read in these files: compared with what the current code reads."""
    arrays: dict[str, np.ndarray] = {}
    gave: dict[str, Any] = {
        "batches": {
            name: current.read_batch(Path(f"jobs_{name}.toml")) for name in ("prompted", "counted")
        },
        "recipe": current.read_recipe(Path("recipe.toml")),
        "cards": {
            name: current.read_card(Path(f"card_{name}.safetensors"))[0]
            for name in ("follows", "tuned")
        },
        "csv": {name: json.loads(current.read_log(Path(f"prompts_{name}.csv"))) for name in CSV},
    }
    for name, model in (("toy", current.make_toy()), ("nano", current.load_nano())):
        copy = Path(f"copy_{name}") / f"project_{name}"
        shutil.copytree(f"project_{name}", copy)
        shutil.copy("cells.ome.tif", copy.parent)
        with current.open_project(copy, model) as opened:
            arrays[f"{name}_saved"] = opened.saved.astype(np.uint8)
            arrays[f"{name}_left"] = opened.labels.astype(np.uint8)
            gave[f"presence_{name}"] = opened.presence
            opened.finish()
            arrays[f"{name}_finished"] = opened.labels.astype(np.uint8)
            if name == "toy":
                for table, rows in opened.tables.items():
                    rows.to_csv(f"project_toy_{table}.csv", index=False)
        shutil.rmtree(copy.parent)
    Path("gave.json").write_text(json.dumps(gave, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed("gave.npz", **arrays)


if __name__ == "__main__":
    make()
