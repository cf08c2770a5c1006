"""The wheel is complete: it runs the demo in an empty environment, outside the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
OUTPUTS = [
    "labels.ome.tif",
    "objects.csv",
    "tracks.csv",
    "counts.csv",
    "prompts.json",
    "provenance.json",
    "overview.png",
]
SAMPLES = ["nuclei_z", "migration_t"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    _run(find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", out, ROOT)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_contains_model_samples_and_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [
        path
        for folder in ("checkpoints", "sample_data")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "make" not in path.parts  # scripts that make the checkpoints
    ]
    assert {"checkpoints", "sample_data"} == {path.relative_to(ROOT).parts[0] for path in shipped}
    assert {f"napari_sam2/{path.relative_to(ROOT).as_posix()}" for path in shipped} <= names
    assert not any("checkpoints/make/" in name for name in names)
    assert "napari_sam2/__init__.py" in names


def test_wheel_contains_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"napari_sam2", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}


@pytest.mark.timeout(900)
def test_wheel_runs_the_demo_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    variables = {**os.environ, **_choose_torch_source(tmp_path)}
    _run(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, environment, env=variables)
    _run(find_uv_bin(), "pip", "install", "--quiet", "--python", environment, wheel, env=variables)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    output = _run(
        scripts / "napari-sam2",
        "demo",
        "--out",
        tmp_path / "out",
        cwd=tmp_path,
        env=_drop_python_path(),
    )
    missing = [
        f"{sample}/{name}"
        for sample in SAMPLES
        for name in OUTPUTS
        if not (tmp_path / "out" / sample / name).stat().st_size
    ]
    assert missing == []
    assert str(tmp_path / "out") in output.splitlines()[-1]


def _choose_torch_source(folder: Path) -> dict[str, str]:
    """Choose the source of torch as `make` does."""
    lines = _run(sys.executable, ROOT / ".ci" / "torch_source.py", folder).splitlines()
    return dict(shlex.split(line)[1].split("=", 1) for line in lines)


def _drop_python_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(*command: object, **options: object) -> str:
    process = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
    return str(process.stdout)
