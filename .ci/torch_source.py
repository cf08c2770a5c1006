"""Print shell assignments that tell uv where to get torch for the Python that runs this.

uv does not read pip's configuration. If pip has a folder of wheels (find-links) with a torch for
this Python, that file is used: a machine without GPU or internet has its CPU build there. Otherwise
uv selects the CUDA build for the driver of the machine, or the CPU build if there is no driver. The
user's own settings are kept.

    eval "$(python .ci/torch_source.py FOLDER)"     FOLDER gets a file of constraints
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


def find_torch_source(folder: Path) -> dict[str, str]:
    """Environment variables for uv, and their meaning in words as `torch_source`."""
    if "UV_TORCH_BACKEND" in os.environ:
        return {"torch_source": f"torch: UV_TORCH_BACKEND={os.environ['UV_TORCH_BACKEND']}"}
    links = os.environ.get("UV_FIND_LINKS") or read_find_links()
    wheel = find_torch_wheel(links)
    if wheel is None:
        return {"UV_TORCH_BACKEND": "auto", "torch_source": "torch: the build for this machine"}
    constraints = folder / "torch-constraint.txt"
    constraints.write_text(f"torch=={wheel.name.split('-')[1]}\n")
    return {
        "UV_FIND_LINKS": ",".join(links.split()),
        "UV_CONSTRAINT": str(constraints.resolve()),
        "torch_source": f"torch: {wheel.name.split('-')[1]} from pip's find-links",
    }


def read_find_links() -> str:
    """The folders of wheels in pip's configuration; "" if there are none."""
    if os.environ.get("PIP_FIND_LINKS"):
        return os.environ["PIP_FIND_LINKS"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def find_torch_wheel(links: str) -> Path | None:
    """The newest torch for this Python in the folders of `links`; other links are ignored."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    folders = (Path(link.removeprefix("file://")) for link in links.replace(",", " ").split())
    found = [
        wheel
        for folder in folders
        if folder.is_dir()
        for wheel in folder.glob(f"torch-*-{tag}-*.whl")
    ]
    return max(
        found,
        key=lambda wheel: [int(number) for number in re.findall(r"\d+", wheel.name.split("-")[1])],
        default=None,
    )


if __name__ == "__main__":
    for name, value in find_torch_source(Path(sys.argv[1])).items():
        print(f"export {name}={shlex.quote(value)}")
