"""What a file or a person can cause ends in one line and exit code 2, without a traceback."""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.batch.config import read_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.cli import EXIT_ERROR, EXIT_TERMINATED, main
from napari_sam2.core.errors import (
    CheckpointError,
    FileError,
    MissingPackageError,
    PlanError,
    PromptError,
    StackError,
)
from napari_sam2.core.files.extras import import_extra
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import read_prompts
from napari_sam2.models.weights.checkpoints import read_checkpoint, write_checkpoint
from napari_sam2.testing.toy import ToyModel
from napari_sam2.train.recipe import Recipe, RecipeError

_STACK = '[[stacks]]\ninput = "a.npy"\nprompts = "p.csv"\n'


@pytest.mark.parametrize(
    "text",
    [
        f'out = "out"\n[defaults]\ncounting = 3\n{_STACK}',
        f'out = "out"\n{_STACK}counting = "classical"\n',
        f'out = "out"\n{_STACK}counting = [1, 2]\n',
        'out = "out"\na = ' + "[" * 50_000,
        'out = "out"\na = ' + "9" * 5_000,
        f'out = "out"\n{_STACK}out = "{{number:99999999999}}"\n',
        f'out = "out"\n{_STACK}out = "{{stem:>99999999}}"\n',
        f'out = "out"\n{_STACK}out = "{{stem.__class__}}"\n',
        f'out = "out"\n{_STACK}out = "{{stem[0]}}"\n',
        f'out = "out"\n{_STACK}out = "{{stem!r:{{number}}}}"\n',
        f'out = "out"\n[cluster]\nscheduler = "foo://x"\n{_STACK}',
        f'out = "out"\n[cluster]\nscheduler = "localhost:8786"\n{_STACK}',
        f'out = "out"\n[cluster]\nscheduler = ""\n{_STACK}',
    ],
    ids=range(13),
)
def test_malformed_jobs_files_are_refused(tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8)))
    (tmp_path / "jobs.toml").write_text(text)
    with pytest.raises(PlanError):
        read_jobs(tmp_path / "jobs.toml")


@pytest.mark.parametrize("form", ["{number}", "{number:03}", "{number:3d}", "{stem}-{number:02d}"])
def test_numbers_of_templates_have_a_width(tmp_path: Path, form: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8)))
    (tmp_path / "jobs.toml").write_text(f'out = "out"\n{_STACK}out = "{form}"\n')
    (job,) = read_jobs(tmp_path / "jobs.toml").jobs
    assert job.out.name == form.format(stem="a", number=0)


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "9" * 5_000, "a = \0"])
def test_malformed_recipes_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match="not valid TOML"):
        Recipe.read(tmp_path / "r.toml")


@pytest.mark.parametrize(
    "cell", ["9" * 200_000, '"' + "x" * 200_000, "5" + "\n" * 3 + '"' + "y" * 150_000]
)
def test_huge_cells_are_refused(tmp_path: Path, cell: str) -> None:
    (tmp_path / "p.csv").write_text(f"track,frame,kind,y,x\n1,0,point,5,{cell}\n")
    with pytest.raises(PromptError, match="line"):
        read_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    weights = torch.zeros(4, dtype=dtype)
    weights[2] = value
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, {"good": torch.ones(2), "bad": weights}, ToyModel().card)
    with pytest.raises(CheckpointError, match="bad is not finite"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "words",
    [
        ["track", "n" * 300 + ".tif", "--prompts", "p.csv", "--out", "out"],
        ["track", "a.npy", "--axes", "TYX", "--prompts", "p.csv", "--out", "o" * 300],
        ["track", "a.npy", "--axes", "TYX", "--prompts", "p" * 300 + ".csv", "--out", "out"],
        ["batch", "j" * 300 + ".toml"],
        ["measure", "l" * 300 + ".tif", "--image", "a.npy", "--axes", "TYX", "--out", "out"],
    ],
    ids=["input", "out", "prompts", "jobs", "labels"],
)
def test_names_that_are_too_long_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.random.default_rng(0).random((2, 16, 16)))
    Path("p.csv").write_text("track,frame,kind,y,x\n1,0,point,5,5\n")
    assert main(words) == EXIT_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("napari-sam2: ")


@pytest.mark.parametrize("module", ["distributed", "anywidget", "PIL"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'napari-sam2\[cluster\]'"):
        import_extra(module, "cluster", "batch")


def test_batch_without_its_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["batch", "jobs.toml"]) == EXIT_ERROR
    assert "batch needs the package distributed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (OSError(28, "No space left on device", "/x"), "/x: No space left on device"),
        (PermissionError(13, "Permission denied", "y"), "y: Permission denied"),
        (MemoryError("8 GiB"), "not enough memory (8 GiB)"),
        (RecursionError("deep"), "nested too deeply"),
    ],
    ids=str,
)
def test_errors_of_the_system_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: Exception,
    text: str,
) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr("napari_sam2.cli.commands.execute_models_list", fail)
    assert main(["models", "list"]) == EXIT_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_sigterm_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop: Callable[[object], None] = lambda _: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr("napari_sam2.cli.commands.execute_models_list", stop)
    assert main(["models", "list"]) == EXIT_TERMINATED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("napari-sam2: stopped; finished work is kept")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("address", ["foo://x", "localhost", "http://x"])
def test_other_schemes_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="scheduler"):
        Pool(scheduler=address)


def _write_tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1)]
    tags += [(278, height), (279, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    return head.ljust(200, b"\0") + bytes(64)


def _write_nrrd(sizes: str) -> bytes:
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes}\nencoding: raw\n\n"
    return header.encode() + bytes(64)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tif", _write_tiff(0, 0)),
        ("a.tif", _write_tiff(0, 8)),
        ("a.tif", _write_tiff(8, 0)),
        ("a.nrrd", _write_nrrd("0 0 0")),
        ("a.nrrd", _write_nrrd("-4 4 4")),
        ("a.nrrd", _write_nrrd("4 0 4")),
    ],
    ids=range(6),
)
def test_images_without_pixels_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((FileError, StackError), match=name):
        open_stack(tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [["--seeds", "nowhere"], ["--diameter-px", "1e9"], ["--diameter", "3", "--diameter-px", "4"]],
    ids=["seeds", "huge", "two diameters"],
)
def test_a_count_that_is_refused_leaves_no_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.random.default_rng(0).random((2, 48, 48)))
    assert main(["count", "a.npy", "--axes", "TYX", "--out", "out", *options]) == EXIT_ERROR
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("a.npy", "out")]
