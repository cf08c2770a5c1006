"""Audit all packages installed beside this Python for known vulnerabilities, with pip-audit.

Alone, pip-audit succeeds if its service knows none of the packages or cannot be reached, although
nothing was audited. Here it runs in strict mode, on a list of packages without this project, which
is in no index, and with versions such as ``torch 2.13.0+cpu`` cut at the plus sign, as indexes
list them.

    python .ci/audit.py [options of pip-audit]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

_OURS = "napari-sam2"


def list_installed_packages() -> list[str]:
    """Each package as ``name==version``, without this project."""
    found = {(each.metadata["Name"], each.version.partition("+")[0]) for each in distributions()}
    return sorted(
        f"{name}=={version}" for name, version in found if name.lower().replace("_", "-") != _OURS
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("\n".join(list_installed_packages()) + "\n")
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--strict",
            "--disable-pip",
            "--no-deps",
            "--requirement",
            str(listed),
            *sys.argv[1:],
        ]
        raise SystemExit(subprocess.run(command, check=False).returncode)
