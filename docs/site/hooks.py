"""mkdocs hooks that add pages outside `docs/` to the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "sample_data/README.md")
"""Pages outside `docs/`, by their path in the repository; the site has them in `repository/`."""


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages of the repository."""
    for page in PAGES:
        target = f"repository/{page if page.endswith('.md') else page + '.md'}"
        text = _redirect((ROOT / page).read_text(encoding="utf-8"), Path("repository") / page)
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Redirect links that leave `docs/` to the added pages."""
    return re.sub(
        r"\]\(((?:\.\./)+)(" + "|".join(map(re.escape, PAGES)) + r")(#[^)]*)?\)",
        lambda link: (
            f"]({'../' * (link[1].count('../') - 1)}repository/"
            f"{link[2] if link[2].endswith('.md') else link[2] + '.md'}{link[3] or ''})"
        ),
        markdown,
    )


def _redirect(text: str, page: Path) -> str:
    """Rewrite the links of a page outside `docs/` for the site."""
    up = "../" * (len(page.parts) - 1)
    text = re.sub(r"\]\((?:\.\./)*docs/([^)]+)\)", rf"]({up}\1)", text)
    return re.sub(r"\]\(LICENSE\)", "](LICENSE.md)", text)
