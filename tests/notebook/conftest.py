"""Panels on exact scenes, and Jupyter servers with a Chromium."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_sam2.notebook import NotebookPanel
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel

_BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_drifting_scene(frames=6)


@pytest.fixture
def panel(scene: Scene) -> Iterator[NotebookPanel]:
    made = NotebookPanel(Session(scene.video, ToyModel()))
    made.frame = 0
    yield made
    made.cancel()
    assert made.wait(10)
    made.session.close()


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], str]]:
    """A function from the code of cells to the address of their notebook in a JupyterLab."""
    yield from _serve(tmp_path_factory.mktemp("lab"), "jupyterlab", "lab/tree")


@pytest.fixture(scope="session")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], str]]:
    """The same in a running Notebook 7."""
    pytest.importorskip(
        "notebook", reason="Notebook 7 is not installed: the panel is not tested in it"
    )
    yield from _serve(tmp_path_factory.mktemp("notebook7"), "notebook", "notebooks")


def _serve(root: Path, program: str, url_path: str) -> Iterator[Callable[[list[str]], str]]:
    (root / "notebooks").mkdir()
    token, port = secrets.token_hex(16), _find_free_port()
    settings = {
        "JUPYTER_CONFIG_DIR": root / "config",
        "JUPYTER_DATA_DIR": root / "data",
        "JUPYTER_RUNTIME_DIR": root / "runtime",
    }
    environment = {
        **os.environ,
        **{name: str(value) for name, value in settings.items()},
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        program,
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        f"--notebook-dir={root / 'notebooks'}",
    ]
    command += [
        f"--IdentityProvider.token={token}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    settings_of_lab = (
        root / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    )
    settings_of_lab.mkdir(parents=True)
    (settings_of_lab / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    with (
        (root / "log.txt").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, root / "log.txt")
            yield (
                lambda cells: (
                    f"http://127.0.0.1:{port}/{url_path}/"
                    f"{_write_notebook(root / 'notebooks', cells)}?token={token}&reset"
                )
            )
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The installed Chromium, driven by playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the browser is not tested"
    )
    path = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        pytest.skip("no chromium on this machine: the panel is not tested in a browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=_BROWSER_FLAGS)
        yield browser
        browser.close()


def _write_notebook(folder: Path, sources: list[str]) -> str:
    empty = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [
        {**empty, "id": f"cell-{number}", "source": source} for number, source in enumerate(sources)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    name = f"{secrets.token_hex(4)}.ipynb"
    (folder / name).write_text(
        json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )
    return name


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"Jupyter did not start:\n{log.read_text()[-2000:]}")
