"""Ask which of the packages that are installed beside this Python have known vulnerabilities: pip-audit, all of them or none.

pip-audit alone ends well where its service knows none of them, or cannot be asked: then nothing was
audited. It is told to be strict here, and given a list: strict as it is, it would end at this
project itself, which no index holds, and at builds such as ``torch 2.13.0+cpu``, which indexes know
without what comes after the plus.

    python .ci/audit.py [options of pip-audit]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

_OURS = "napari-sam2"


def installed() -> list[str]:
    """Each package as ``name==version``, without ours."""
    found = {(each.metadata["Name"], each.version.partition("+")[0]) for each in distributions()}
    return sorted(
        f"{name}=={version}" for name, version in found if name.lower().replace("_", "-") != _OURS
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "installed.txt"
        listed.write_text("\n".join(installed()) + "\n")
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
