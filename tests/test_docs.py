"""README and docs: links, names, commands and examples are true; no file names one machine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from napari_sam2.cli.parser import make_parser

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "napari_sam2"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("sample_data/*.md"),
        *ROOT.glob("checkpoints/*.md"),
    ]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
DOTTED_NAME = re.compile(r"\bnapari_sam2((?:\.[A-Za-z_]\w*)+)")
FILE_NAME = re.compile(r"`([\w.]+(?:/[\w.]+)*/[\w.]+\.(?:py|toml|json|yml))`")
ENTRY_POINT_GROUPS = {
    "detectors",
    "exporters",
    "hooks",
    "models",
    "policies",
    "sinks",
    "sources",
}
WORDS_OF_BEFORE = re.compile(r"\b(carr(y|ies|ied)|walk(s|ed|ing)?|take[sn]? along)\b", re.I)
MAX_GLOSSARY_ROWS = 40
MACHINE_PATTERNS = {
    "package index": re.compile(
        r"pypi\.(?:org/simple|python)|files\.pythonhosted|index-url\s*="
        r"|https?://[\w.-]*(?:artifactory|devpi|nexus)",
        re.I,
    ),
    "folder of a person or a machine": re.compile(
        r"(?<![\w.])/(?:home|Users|root|work|opt|mnt)/\w"
    ),
    "drive letter": re.compile(r"(?<![\w])[A-Z]:\\\\?\w"),
}
# These blocks need the reader's files or a second machine, and are tested in
# tests/io/test_export.py and tests/batch/test_remote_model.py.
_TESTED_ELSEWHERE = ("from napari_sam2.io.writers.export", "remote_model")


def _name_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name_page)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert [target for target in LINK.findall(text) if not _link_exists(page, target)] == []


@pytest.mark.parametrize(  # the changelog also has names that are gone
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=_name_page
)
def test_names_and_files_in_the_docs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = [name for name in DOTTED_NAME.findall(text) if not _name_exists(name)]
    files = [
        name
        for name in FILE_NAME.findall(text)
        if not ((ROOT / name).exists() or (PACKAGE / name).exists())
    ]
    assert names + files == []


@pytest.mark.parametrize("page", PAGES, ids=_name_page)
def test_docs_use_the_words_of_the_field(page: Path) -> None:
    assert WORDS_OF_BEFORE.findall(page.read_text(encoding="utf-8")) == []


def test_the_glossary_is_short() -> None:
    words = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    assert 0 < len(re.findall(r"^\| \*\*", words, flags=re.M)) <= MAX_GLOSSARY_ROWS


@pytest.mark.parametrize("pattern", MACHINE_PATTERNS.values(), ids=MACHINE_PATTERNS)
def test_no_tracked_file_names_something_of_one_machine(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in _list_tracked_texts()
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
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
def test_headings_become_the_anchors_of_the_hosting_sites(heading: str, anchor: str) -> None:
    assert _make_anchor(heading) == anchor


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_python_in_the_docs_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cells.tif", "stack.tif"):
        shutil.copy(ROOT / "sample_data" / "nuclei_z.ome.tif", name)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert blocks
    for block in blocks:
        if any(word in block for word in _TESTED_ELSEWHERE):
            continue
        names: dict[str, Any] = {}
        exec(block, names)  # a reader would paste the same
        assert "panel" in names or names["run"].counts.iloc[-1]["n"] == 1


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_commands_in_the_docs_exist(page: str) -> None:
    calls = re.findall(r"^napari-sam2 (.*)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
    assert calls
    for call in calls:
        make_parser().parse_args(shlex.split(call))  # exits with an error if there is none


def _link_exists(page: Path, target: str) -> bool:
    if re.match(r"(https?|mailto|doi):", target):
        return True
    path, _, anchor = target.partition("#")
    file = (page.parent / path) if path else page
    if not file.exists() or not anchor:
        return file.exists()
    return anchor in {
        _make_anchor(line.lstrip("#"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }


def _name_exists(name: str) -> bool:
    """Whether `.module.attribute` is in the package; only the source is read, without imports."""
    parts = name.strip(".").split(".")
    if len(parts) == 1 and parts[0] in ENTRY_POINT_GROUPS:
        return True
    folder = PACKAGE
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    module = folder / "__init__.py"
    if parts and (folder / f"{parts[0]}.py").exists():
        module = folder / f"{parts.pop(0)}.py"
    return not parts or bool(
        re.search(rf"\b{re.escape(parts[0])}\b", module.read_text(encoding="utf-8"))
    )


def _make_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _list_tracked_texts() -> list[Path]:
    """Text files that git tracks or would track, except this one, which contains the patterns."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: the tracked files are not known")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [
        path
        for path in paths
        if path.is_file() and path != Path(__file__) and b"\0" not in path.read_bytes()[:8000]
    ]
