"""README and docs: links that lead somewhere, and nothing of one person's machine in any file."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from napari_sam2.cli.parser import make_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("sample_data/*.md"),
        *ROOT.glob("checkpoints/*.md"),
    ]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
OF_A_MACHINE = {
    "package index": re.compile(
        r"pypi\.(?:org/simple|python)|files\.pythonhosted|index-url\s*=|https?://[\w.-]*(?:artifactory|devpi|nexus)",
        re.I,
    ),
    "folder of a person or a machine": re.compile(
        r"(?<![\w.])/(?:home|Users|root|work|opt|mnt)/\w"
    ),
    "drive letter": re.compile(r"(?<![\w])[A-Z]:\\\\?\w"),
}

_RUN_ELSEWHERE = ("from napari_sam2.io.writers.export", "remote_model")
"""Blocks that need a reader's own files, or a second machine: tests/io/test_export.py, tests/batch/test_remote_model.py."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert [target for target in LINK.findall(text) if not _leads_somewhere(page, target)] == []


@pytest.mark.parametrize("pattern", OF_A_MACHINE.values(), ids=OF_A_MACHINE)
def test_no_tracked_file_names_what_only_one_machine_has(pattern: re.Pattern[str]) -> None:
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in _tracked()}
    found = [
        f"{path}: {match.group()}"
        for path, text in texts.items()
        for match in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("One click, eight hops", "one-click-eight-hops"),
        ("`core/` and *io*", "core-and-io"),
        ("1. What it is", "1-what-it-is"),
    ],
)
def test_headings_become_anchors_as_on_the_hosting_sites(heading: str, anchor: str) -> None:
    assert _anchor(heading) == anchor


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_python_in_the_docs_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cells.tif", "stack.tif"):
        shutil.copy(ROOT / "sample_data" / "nuclei_z.ome.tif", name)
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S
    )
    assert blocks
    for block in blocks:
        if any(word in block for word in _RUN_ELSEWHERE):
            continue
        names: dict[str, object] = {}
        exec(block, names)  # what a reader would paste
        assert "panel" in names or names["run"].counts.iloc[-1]["n"] == 1


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_commands_in_the_docs_are_ones_that_exist(page: str) -> None:
    calls = re.findall(r"^napari-sam2 (.*)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
    assert calls
    for call in calls:
        make_parser().parse_args(shlex.split(call))  # exits with an error where it is none


def _leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"(https?|mailto|doi):", target):
        return True
    path, _, anchor = target.partition("#")
    file = (page.parent / path) if path else page
    if not file.exists() or not anchor:
        return file.exists()
    return anchor in {
        _anchor(line.lstrip("#"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _tracked() -> list[Path]:
    """Text files that are or may be tracked, but this one, which names what it looks for."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nobody says which files are ours")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [
        path
        for path in paths
        if path.is_file() and path != Path(__file__) and b"\0" not in path.read_bytes()[:8000]
    ]
