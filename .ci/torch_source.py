"""Where uv should take torch from: prints shell assignments for the Python that runs it.

uv does not read pip's configuration. Where pip has a folder of wheels (find-links) with a torch for
this Python, that file is taken: a machine without GPU or internet keeps its CPU build there.
Everywhere else uv looks at the machine and takes the CUDA build that fits its driver, or the CPU
build where there is none. What the user has set stands.

    eval "$(python .ci/torch_source.py FOLDER)"     FOLDER: where a constraints file may be written
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


def source(folder: Path) -> dict[str, str]:
    """Environment variables for uv, and `torch_source`, which says in words what they do."""
    if "UV_TORCH_BACKEND" in os.environ:
        return {"torch_source": f"torch: UV_TORCH_BACKEND={os.environ['UV_TORCH_BACKEND']}"}
    links = os.environ.get("UV_FIND_LINKS") or pip_find_links()
    wheel = torch_wheel(links)
    if wheel is None:
        return {"UV_TORCH_BACKEND": "auto", "torch_source": "torch: the build for this machine"}
    constraints = folder / "torch-constraint.txt"
    constraints.write_text(f"torch=={wheel.name.split('-')[1]}\n")
    return {
        "UV_FIND_LINKS": ",".join(links.split()),
        "UV_CONSTRAINT": str(constraints.resolve()),
        "torch_source": f"torch: {wheel.name.split('-')[1]} from pip's find-links",
    }


def pip_find_links() -> str:
    """What pip is configured with, "" where it is not configured or not there."""
    if os.environ.get("PIP_FIND_LINKS"):
        return os.environ["PIP_FIND_LINKS"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def torch_wheel(links: str) -> Path | None:
    """The newest torch for this Python in the folders of `links`; those that are no folders are passed over."""
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
    for name, value in source(Path(sys.argv[1])).items():
        print(f"export {name}={shlex.quote(value)}")
