"""The command line, as a person types it: what comes out, and what bad input gets."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from napari_sam2.cli import main
from napari_sam2.core.inference_options import DEFAULT_ATTENTION
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_ellipsoid_scene
from napari_sam2.train.smoke import write_tiny_model

_FILES = [
    "counts.csv",
    "labels.ome.tif",
    "objects.csv",
    "overview.png",
    "prompts.json",
    "provenance.json",
    "tracks.csv",
]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_drifting_scene(frames=6, shape=(96, 96))


@pytest.fixture
def stack(tmp_path: Path, scene: Scene) -> Path:
    path = tmp_path / "cells.ome.tif"
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 60.0,
    }
    tifffile.imwrite(path, scene.stack.data, metadata=metadata, ome=True)
    return path


@pytest.fixture
def prompts(tmp_path: Path, scene: Scene) -> Path:
    path = tmp_path / "prompts.csv"
    rows = [
        (track, 0, "point", *scene.make_click(track, 0).yx[0], 1, "disc") for track in scene.tracks
    ]
    pd.DataFrame(rows, columns=["track", "frame", "kind", "y", "x", "positive", "category"]).to_csv(
        path, index=False
    )
    return path


def _track(stack: Path, prompts: Path, out: Path, *more: str) -> int:
    return main(["track", str(stack), "--prompts", str(prompts), "--out", str(out), *more])


def test_track_writes_labels_tables_and_a_picture(
    stack: Path, prompts: Path, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _track(stack, prompts, out, "--device", "cpu") == 0
    assert sorted(path.name for path in out.iterdir()) == _FILES
    labels = open_labels(out / "labels.ome.tif")
    assert (labels.axes, labels.data.shape, labels.data.dtype) == (
        "tyx",
        scene.labels.shape,
        np.uint16,
    )
    assert (labels.spacing.x_um, labels.spacing.t_s) == (0.5, 60.0)
    objects, counts = pd.read_csv(out / "objects.csv"), pd.read_csv(out / "counts.csv")
    assert set(objects["category"]) == {"disc"}
    assert counts.iloc[-1]["frame"] == "all"
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["model"]["name"] == "nano"
    assert len(provenance["model"]["sha256"]) == 64
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("Done: ") and str(out.resolve()) in printed[-1]


def test_the_same_call_gives_the_same_bytes(stack: Path, prompts: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert _track(stack, prompts, tmp_path / name) == 0
    for name in ("objects.csv", "tracks.csv", "counts.csv", "prompts.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    first, second = (
        open_labels(tmp_path / name / "labels.ome.tif").data for name in ("one", "two")
    )
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_masks_of_one_frame_are_prompts_too_and_zarr_is_written(
    stack: Path, scene: Scene, tmp_path: Path
) -> None:
    masks, out = tmp_path / "masks.tif", tmp_path / "out"
    tifffile.imwrite(masks, scene.labels[2])
    assert (
        main(
            [
                "track",
                str(stack),
                "--masks",
                str(masks),
                "--frame",
                "2",
                "--format",
                "zarr",
                "--frames",
                "1:5",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    labels = np.asarray(open_labels(out / "labels.ome.zarr").data)
    np.testing.assert_array_equal(labels[2] > 0, scene.labels[2] > 0)
    assert not labels[0].any() and not labels[5].any()
    assert labels[1].any() and labels[4].any()


def test_a_prompt_log_with_its_walks_is_replayed(
    stack: Path, prompts: Path, tmp_path: Path
) -> None:
    assert _track(stack, prompts, tmp_path / "one") == 0
    assert _track(stack, tmp_path / "one" / "prompts.json", tmp_path / "two") == 0
    first, second = (
        np.asarray(open_labels(tmp_path / name / "labels.ome.tif").data) for name in ("one", "two")
    )
    np.testing.assert_array_equal(first, second)


def test_count_finds_everything_without_a_click(
    stack: Path, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call = [
        "count",
        str(stack),
        "--rule",
        "large: area_px > 0",
        "--also",
        "ctc",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    assert main(call) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*_FILES, "01_RES", "report.html"])
    assert pd.read_csv(out / "counts.csv")["n"].iloc[-1] == len(scene.tracks)
    assert set(pd.read_csv(out / "tracks.csv")["category"]) == {"large"}
    printed, bar = capsys.readouterr()
    assert "estimated" in printed and printed.splitlines()[-1].startswith("Done: 3 objects")
    assert "detect: 100%" in bar and "prompt: 100%" in bar
    assert main([*call, "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert main([*call, "--resume", "--least", "3"]) == 2
    assert "leave out --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--seeds", "magic"], ["--rule", "large: size"], ["--also", "xlsx"], ["--diameter", "-3"]],
    ids=lambda wrong: wrong[0],
)
def test_count_refuses_what_cannot_be(
    stack: Path, tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", str(stack), "--out", str(tmp_path / "out"), *wrong]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_measure_makes_the_tables_of_labels_that_exist(tmp_path: Path) -> None:
    scene = make_ellipsoid_scene()
    image, labels = tmp_path / "image.npy", tmp_path / "labels.npy"
    np.save(image, scene.stack.data)
    np.save(labels, scene.labels)
    call = [
        "measure",
        str(labels),
        "--image",
        str(image),
        "--axes",
        "ZYX",
        "--spacing",
        "2,0.5,0.5",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(call) == 0, "labels without axes have those of the image"
    tracks = pd.read_csv(tmp_path / "out" / "tracks.csv").set_index("track")
    for track, volume in scene.volume_um3.items():
        assert tracks.loc[track, "volume_um3"] == pytest.approx(volume, rel=0.05)


def test_evaluate_compares_with_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_drifting_scene()
    truth, shifted = tmp_path / "truth.ome.tif", tmp_path / "shifted.ome.tif"
    tifffile.imwrite(truth, scene.labels, metadata={"axes": "TYX"}, ome=True)
    tifffile.imwrite(shifted, np.roll(scene.labels, 1, axis=2), metadata={"axes": "TYX"}, ome=True)
    assert (
        main(["evaluate", str(truth), str(truth), "--tracks", "--out", str(tmp_path / "same.json")])
        == 0
    )
    assert json.loads((tmp_path / "same.json").read_text())["overall"]["track_iou"] == 1.0
    assert (
        main(["evaluate", str(shifted), str(truth), "--out", str(tmp_path / "shifted.json")]) == 0
    )
    assert 0.5 < json.loads((tmp_path / "shifted.json").read_text())["overall"]["iou"] < 1.0
    assert "count_error" in capsys.readouterr().out


def test_models_are_listed_and_the_embedded_one_is_what_it_should_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert "nano" in listed and "sam2.1-tiny" in listed
    assert main(["models", "verify", "nano"]) == 0
    assert "is verified" in capsys.readouterr().out


class _Bomb:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def _write_bad_files(folder: Path, stack: Path, scene: Scene) -> None:
    (folder / "text.tif").write_text("this is no image")
    (folder / "short.tif").write_bytes(stack.read_bytes()[:2000])
    (folder / "empty").mkdir()
    tifffile.imwrite(folder / "ambiguous.tif", scene.stack.data, metadata=None)
    tifffile.imwrite(
        folder / "constant.ome.tif",
        np.full((3, 64, 64), 5, np.uint16),
        metadata={"axes": "TYX"},
        ome=True,
    )
    tifffile.imwrite(
        folder / "nan.ome.tif",
        np.full((3, 64, 64), np.nan, np.float32),
        metadata={"axes": "TYX"},
        ome=True,
    )
    head = "track,frame,kind,y,x,y2,x2,positive,category\n"
    rows = {
        "none": "",
        "outside": "1,0,point,500,5,,,1,\n",
        "late": "1,99,point,5,5,,,1,\n",
        "zero": "0,0,point,5,5,,,1,\n",
        "twice": "1,0,box,5,5,9,9,,\n1,0,box,5,5,20,20,,\n",
        "kind": "1,0,circle,5,5,,,1,\n",
        "words": "1,0,point,five,5,,,1,\n",
    }
    for name, row in rows.items():
        (folder / f"{name}.csv").write_text(head + row)
    (folder / "columns.csv").write_text("id,when\n1,2\n")
    with (folder / "bomb.pt").open("wb") as file:
        pickle.dump(_Bomb(), file)
    (folder / "noise.safetensors").write_bytes(b"nothing of use")
    (folder / "file").write_text("")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("track missing.tif --prompts {ok} --out out", "missing.tif"),
        ("track text.tif --prompts {ok} --out out", "text.tif"),
        ("track short.tif --prompts {ok} --out out", "short.tif"),
        ("track empty --prompts {ok} --out out", "empty"),
        ("track ambiguous.tif --prompts {ok} --out out", "--axes"),
        ("track {stack} --axes ZTYX --prompts {ok} --out out", "axes"),
        ("track {stack} --along z --prompts {ok} --out out", "no frames along 'z'"),
        ("track {stack} --channel 3 --prompts {ok} --out out", "channel 3"),
        ("track {stack} --spacing 1,-1,1 --prompts {ok} --out out", "-1"),
        ("track constant.ome.tif --prompts {ok} --out out", "the same everywhere"),
        ("track nan.ome.tif --prompts {ok} --out out", "NaN"),
        ("track {stack} --prompts none.csv --out out", "none.csv"),
        ("track {stack} --prompts outside.csv --out out", "outside the frame"),
        ("track {stack} --prompts late.csv --out out", "frames 0 to 5"),
        ("track {stack} --prompts zero.csv --out out", "0 is the background"),
        ("track {stack} --prompts twice.csv --out out", "line 3"),
        ("track {stack} --prompts kind.csv --out out", "circle"),
        ("track {stack} --prompts words.csv --out out", "five"),
        ("track {stack} --prompts columns.csv --out out", "columns.csv"),
        ("track {stack} --prompts gone.csv --out out", "gone.csv"),
        ("track {stack} --masks {stack} --frame 99 --out out", "99"),
        ("track {stack} --prompts {ok} --frames 4:2 --out out", "frames 4:2"),
        ("track {stack} --prompts {ok} --model nan --out out", "nano"),
        ("track {stack} --prompts {ok} --model bomb.pt --out out", "bomb.pt"),
        ("track {stack} --prompts {ok} --model noise.safetensors --out out", "noise.safetensors"),
        ("track {stack} --prompts {ok} --device cuda:7 --out out", "cuda:7"),
        ("track {stack} --prompts {ok} --out file", "file"),
        ("track {stack} --prompts {ok} --out file/below", "file"),
        ("measure {stack} --image text.tif --out out", "text.tif"),
        ("evaluate {stack} text.tif", "text.tif"),
        ("models fetch sam3", "sam2.1-tiny"),
        ("models verify gone.pt", "gone.pt"),
        ("models import bomb.pt", "bomb.pt"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(
    call: str,
    said: str,
    stack: Path,
    prompts: Path,
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path / "cache"))
    _write_bad_files(tmp_path, stack, scene)
    assert main(call.format(stack=stack, ok=prompts).split()) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("napari-sam2: ") and said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "call",
    [
        "track",
        "track x.tif --out o",
        "nonsense",
        "track x.tif --prompts p --out o --frames 3",
        "models",
    ],
)
def test_a_wrong_call_is_exit_code_2(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(call.split())
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_an_interrupted_run_goes_on_to_the_same_result(how: signal.Signals, tmp_path: Path) -> None:
    scene = make_drifting_scene(frames=60, shape=(96, 96))
    stack, prompts, out = tmp_path / "long.ome.tif", tmp_path / "prompts.csv", tmp_path / "out"
    tifffile.imwrite(stack, scene.stack.data, metadata={"axes": "TYX"}, ome=True)
    rows = "".join(
        "{},30,point,{},{},,,1,\n".format(track, *scene.make_click(track, 30).yx[0])
        for track in scene.tracks
    )
    prompts.write_text("track,frame,kind,y,x,y2,x2,positive,category\n" + rows)
    call = [
        sys.executable,
        "-m",
        "napari_sam2.cli",
        "track",
        str(stack),
        "--prompts",
        str(prompts),
        "--out",
        str(out),
    ]
    started = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    trail = out / ".napari-sam2" / "trail.sqlite-wal"
    while not (trail.exists() and trail.stat().st_size > 300_000):  # some frames in, many to go
        assert started.poll() is None, started.stderr.read().decode()
        time.sleep(0.02)
    started.send_signal(how)
    _, error = started.communicate(timeout=60)
    assert started.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert how == signal.SIGKILL or b"--resume" in error
    assert not (out / "labels.ome.tif").exists()
    assert (
        main(["track", str(stack), "--prompts", str(prompts), "--out", str(out), "--resume"]) == 0
    )
    assert _track(stack, prompts, tmp_path / "whole") == 0
    for name in ("objects.csv", "tracks.csv", "counts.csv", "prompts.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    resumed, whole = (
        np.asarray(open_labels(folder / "labels.ome.tif").data)
        for folder in (out, tmp_path / "whole")
    )
    np.testing.assert_array_equal(resumed, whole)
    assert (
        main(["track", str(stack), "--prompts", str(prompts), "--out", str(out), "--resume"]) == 0
    ), "finished already"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX's")
@pytest.mark.parametrize("room", [10_000, 60_000], ids=["none", "some"])
def test_no_space_left_is_one_clear_line_and_the_run_goes_on_later(
    room: int, stack: Path, prompts: Path, tmp_path: Path
) -> None:
    call = ["track", str(stack), "--prompts", str(prompts), "--out", str(tmp_path / "out")]
    limited = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
from napari_sam2.cli import main
sys.exit(main({call!r}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "free some space" in ended.stderr.splitlines()[-1]
    assert not {path.name for path in (tmp_path / "out").iterdir()} & set(_FILES)
    assert main([*call, "--resume"]) == 0
    assert _track(stack, prompts, tmp_path / "whole") == 0
    assert (tmp_path / "out" / "objects.csv").read_bytes() == (
        tmp_path / "whole" / "objects.csv"
    ).read_bytes()


def test_resuming_with_other_prompts_is_refused(
    stack: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_sam2.api.job import Job, run_job
    from napari_sam2.api.resume import RESUME_FOLDER

    class Stop(Exception):
        pass

    def stop(stepped: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        run_job(Job(input=stack, prompts=prompts, out=tmp_path / "out"), progress=stop)
    assert (tmp_path / "out" / RESUME_FOLDER).is_dir()
    other = tmp_path / "other.csv"
    other.write_text("track,frame,kind,y,x,y2,x2,positive,category\n9,0,point,20,20,,,1,\n")
    assert _track(stack, other, tmp_path / "out", "--resume") == 2
    assert "other prompts" in capsys.readouterr().err
    assert _track(stack, prompts, tmp_path / "out", "--frames", "0:3", "--resume") == 2
    assert "another input, model or setting" in capsys.readouterr().err


def test_an_image_of_another_shape_cannot_be_measured(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.ome.tif"
    tifffile.imwrite(labels, np.zeros((3, 96, 96), np.uint16), metadata={"axes": "TYX"}, ome=True)
    assert (
        main(["measure", str(labels), "--image", str(stack), "--out", str(tmp_path / "out")]) == 2
    )
    assert "expected (6, 96, 96)" in capsys.readouterr().err
    assert open_stack(stack).axes == "tyx"


def test_finetune_says_what_was_gained(
    tmp_path: Path, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stack whose file says no axes, trained on for a moment."""
    np.save(tmp_path / "cells.npy", scene.stack.data)
    np.save(tmp_path / "cells_labels.npy", scene.labels.astype(np.uint16))
    recipe = tmp_path / "quick.toml"
    recipe.write_text(
        "steps = 2\n[[shapes]]\nclips = 1\nlength = 2\nobjects = 2\n[validating]\nevery = "
        "2\nclips = 1\nlength = 2\nobjects = 2\n"
    )
    out = tmp_path / "tuned.safetensors"
    told = [str(tmp_path / "cells.npy"), "--out", str(out), "--recipe", str(recipe)]
    assert main(["finetune", *told]) == 2
    assert "axes" in capsys.readouterr().err
    assert main(["finetune", *told, "--axes", "tyx", "--along", "t"]) == 0
    said = capsys.readouterr()
    assert "Mean IoU on held-out data:" in said.out and "training: 100%" in said.err
    assert (
        out.is_file() and json.loads(out.with_suffix(".json").read_text())["training"]["steps"] == 2
    )


def test_the_contrast_that_is_given_is_what_the_model_sees(
    stack: Path, prompts: Path, tmp_path: Path
) -> None:
    """Black throughout shows nothing; what was seen is written down."""
    kept = {}
    for name, more in {"given": ["--contrast", "1e6,2e6"], "guessed": []}.items():
        assert _track(stack, prompts, tmp_path / name, *more) == 0
        kept[name] = json.loads((tmp_path / name / "provenance.json").read_text())["input"][
            "contrast"
        ]
    assert kept == {"given": {"low": 1e6, "high": 2e6}, "guessed": {"low": 0, "high": 50_000}}
    given, guessed = (tifffile.imread(tmp_path / name / "labels.ome.tif") for name in kept)
    assert not np.array_equal(given, guessed)


@pytest.mark.parametrize("contrast", ["5,5", "9,1", "0,nan"])
def test_a_contrast_that_shows_nothing_is_refused(
    stack: Path, prompts: Path, tmp_path: Path, contrast: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _track(stack, prompts, tmp_path / "out", "--contrast", contrast) == 2
    assert "expected two different numbers, the lower first" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_attention_near_is_asked_for_and_written_down(
    stack: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of a SAM 2 of random weights is resumed only with the same attention."""
    model = ("--model", str(write_tiny_model(tmp_path)))
    local = ("--attention", "near")  # the old name
    assert _track(stack, prompts, tmp_path / "out", *model, *local) == 0
    assert (
        json.loads((tmp_path / "out" / "provenance.json").read_text())["model"]["attention"]
        == "local"
    )
    assert _track(stack, prompts, tmp_path / "out", *model, *local, "--resume") == 0
    assert _track(stack, prompts, tmp_path / "out", *model, "--resume") == 2  # by the usual one
    assert "holds the results of another job" in capsys.readouterr().err
    for said, expected in ((local, "local"), ((), DEFAULT_ATTENTION)):
        out = tmp_path / f"counted {expected}"
        assert main(["count", str(stack), "--out", str(out), *model, *said]) == 0
        assert json.loads((out / "provenance.json").read_text())["model"]["attention"] == expected


def test_tiles_are_asked_for_and_written_down(
    stack: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a SAM 2 of random weights; a run is resumed by the same windows alone."""
    call = ("--model", str(write_tiny_model(tmp_path)), "--device", "cpu")
    assert _track(stack, prompts, tmp_path / "out", *call, "--windows", "tiles") == 0
    assert (
        json.loads((tmp_path / "out" / "provenance.json").read_text())["model"]["windows"]
        == "tiles"
    )
    assert _track(stack, prompts, tmp_path / "out", *call, "--windows", "tiles", "--resume") == 0
    assert _track(stack, prompts, tmp_path / "out", *call, "--resume") == 2
    assert "holds the results of another job" in capsys.readouterr().err


def test_precision_is_asked_for_and_written_down(
    stack: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run is resumed only in the same precision; the processor is made to have bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    rough = ("--device", "cpu", "--precision", "bfloat16")
    assert _track(stack, prompts, tmp_path / "out", *rough) == 0
    assert (
        json.loads((tmp_path / "out" / "provenance.json").read_text())["model"]["precision"]
        == "bfloat16"
    )
    assert _track(stack, prompts, tmp_path / "out", *rough, "--resume") == 0
    assert _track(stack, prompts, tmp_path / "out", "--device", "cpu", "--resume") == 2
    assert "holds the results of another job" in capsys.readouterr().err
    for command in (("track", str(stack), "--prompts", str(prompts)), ("count", str(stack))):
        assert (
            main(
                [
                    *command,
                    "--out",
                    str(tmp_path / "other"),
                    "--device",
                    "cpu",
                    "--precision",
                    "float16",
                ]
            )
            == 2
        )
        assert (
            "precision 'float16': device 'cpu' computes in float32, bfloat16; choose one of these"
            in capsys.readouterr().err
        )


def test_version_names_what_results_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert printed.startswith("napari-sam2 ") and "numpy" in printed
