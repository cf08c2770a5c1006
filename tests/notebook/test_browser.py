"""The panel in a real JupyterLab, Notebook 7 and Chromium, used as a person uses it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam2.api.samples import SAMPLES
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.io.prompts import read_prompts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

_FRAME = 18
_CELL = 7  # a nucleus in the middle of the sample
_IDLE_IN_LAB = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
_IDLE_IN_NOTEBOOK = ".jp-NotebookKernelLogo"

_CELLS = [
    f"""from napari_sam2.api.samples import SAMPLES
from napari_sam2.notebook import annotate

panel = annotate(SAMPLES[0].image)
panel.frame = {_FRAME}
panel""",
    """import numpy as np
from napari_sam2 import Session

stack = panel.session.video.stack
large = np.tile(np.asarray(stack.data[18:20]), (1, 2, 3))[:, :512, :512]
panel.session = Session(type(stack)(large, "zyx", name="large").as_video(), panel.session.model)""",
]


@pytest.fixture
def page(jupyterlab: Callable[[list[str]], str], chromium: Any) -> Iterator[Any]:
    """A notebook that shows the panel of the sample."""
    context = chromium.new_context(viewport={"width": 1500, "height": 1250})
    page = context.new_page()
    page.goto(jupyterlab(_CELLS))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    _run_until(page, ".sam2-frame canvas")
    yield page
    context.close()


def test_a_click_segments_the_cell_and_propagate_segments_it_on_all_frames(page: Any) -> None:
    sample = SAMPLES[0]
    truth = np.asarray(open_labels(sample.truth).data[_FRAME]) == _CELL
    box = next(
        prompt for prompt in read_prompts(sample.prompts).prompts if prompt.track == _CELL
    ).box
    shape = open_stack(sample.image).data.shape
    rows, columns = np.nonzero(truth)

    _drag(page, shape, box)
    first = _wait_for_mask(page, 1)
    _click(page, shape, rows.mean(), columns.mean())
    second = _wait_for_mask(page, 2)
    found = _read_drawn_labels(page, shape[1:]) == 1
    iou = (found & truth).sum() / (found | truth).sum()
    print(f"box to mask {first:.0f} ms, click to mask {second:.0f} ms, IoU {iou:.2f}")
    assert iou > 0.6

    page.get_by_role("button", name="New object").click()
    page.wait_for_function(
        "document.querySelector('.sam2-status').textContent.startsWith('Object 2')"
    )
    other = next(prompt for prompt in read_prompts(sample.prompts).prompts if prompt.track == 2).box
    _drag(page, shape, other)
    _wait_for_mask(page, 3)
    assert page.locator(".sam2-object").count() == 2

    page.get_by_role("button", name="Propagate").click()
    page.wait_for_selector(".sam2-progress.sam2-active")
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_function(
        "document.querySelector('.sam2-status').textContent.startsWith('Stopped')"
    )
    page.get_by_role("button", name="Propagate").click()
    page.wait_for_function(
        "document.querySelector('.sam2-status').textContent === 'Propagated through the stack.'",
        timeout=120_000,
    )
    assert page.locator(".sam2-table tr").last.inner_text().split()[-1] == "2"
    page.locator(".sam2-object input").nth(1).fill("nucleus")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.sam2-table').innerText.includes('nucleus')")
    _save_screenshot(page)

    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelector('.sam2-status').textContent === 'Undone.'")
    page.wait_for_function(
        "document.querySelector('.sam2-table tr:last-child').innerText.trim().endsWith('1')"
    )

    _run_next_cell(page)
    page.wait_for_function(
        "document.querySelector('.sam2-title').textContent === 'large'", timeout=30_000
    )
    times = []
    for number, (down, across) in enumerate([(0, 0), (256, 0), (0, 192), (256, 192)], start=4):
        _click(page, (2, 512, 512), rows.mean() + down, columns.mean() + across)
        times.append(_wait_for_mask(page, number))
    print(
        f"512 × 512: first click {times[0]:.0f} ms, after it "
        f"{', '.join(f'{each:.0f}' for each in times[1:])} ms"
    )


def test_a_click_segments_the_cell_in_notebook_7(
    notebook7: Callable[[list[str]], str], chromium: Any
) -> None:
    sample = SAMPLES[0]
    truth = np.asarray(open_labels(sample.truth).data[_FRAME]) == _CELL
    shape = open_stack(sample.image).data.shape
    context = chromium.new_context(viewport={"width": 1500, "height": 1250})
    page = context.new_page()
    page.goto(notebook7(_CELLS[:1]))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    _run_until(page, ".sam2-frame canvas")
    _click(page, shape, *(float(each.mean()) for each in np.nonzero(truth)))
    print(f"Notebook 7: click to mask {_wait_for_mask(page, 1):.0f} ms")
    found = _read_drawn_labels(page, shape[1:]) == 1
    _save_screenshot(page, "notebook7.png")
    assert (found & truth).sum() / (found | truth).sum() > 0.5
    assert page.locator(".sam2-object").count() == 1
    context.close()


_LONG_NAMES = """import numpy as np
from napari_sam2.api.samples import SAMPLES
from napari_sam2.notebook import annotate
from napari_sam2 import open_stack

stack = open_stack(SAMPLES[1].image)
two = np.stack([np.asarray(stack.data)] * 2, axis=1)
channels = ("DNA (Hoechst 33342)", "actin, phalloidin-Alexa 647, far red, by the second camera")
name = "an_experiment_of_2026_11_24_" * 4
long = type(stack)(two, "tcyx", stack.spacing, channels=channels, name=name)
panel = annotate(long, along="t", channel=0)
panel.describe(
    1,
    name="the cell that divides on frame 12 and once more on frame 40",
    category="mitotic, prometaphase, in the second dish",
)
panel"""

_LIST_OVERFLOWING = """() => {
  const box = (element) => element.getBoundingClientRect();
  const panel = box(document.querySelector('.sam2'));
  const parts = [...document.querySelectorAll('.sam2 *')].filter((part) => box(part).width > 0);
  const isOutside = (part) => box(part).right > panel.right || box(part).left < panel.left;
  const touchesEdge = (part) => {
    const section = part.matches('output, select, input') && part.closest('.sam2-section');
    return section && box(part).right > box(section).right - 4;
  };
  return parts.filter((part) => isOutside(part) || touchesEdge(part))
    .map((part) => `${part.tagName} ${part.className} ${part.textContent.slice(0, 30)}`);
}"""


def test_the_panel_fits_if_names_are_long_and_windows_narrow(
    jupyterlab: Callable[[list[str]], str], chromium: Any
) -> None:
    context = chromium.new_context(viewport={"width": 1200, "height": 1250})
    page = context.new_page()
    page.goto(jupyterlab([_LONG_NAMES]))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    _run_until(page, ".sam2-frame canvas")
    for width in (1200, 700):
        page.set_viewport_size({"width": width, "height": 1250})
        page.wait_for_timeout(1_000)
        _save_screenshot(page, f"narrow{width}.png")
        assert page.evaluate(_LIST_OVERFLOWING) == []
    context.close()


def _run_next_cell(page: Any) -> None:
    page.locator(".jp-Cell .cm-content").nth(1).click()
    page.keyboard.press("Shift+Enter")


def _run_until(page: Any, selector: str) -> None:
    """Run the first cell, and wait for `selector`.

    Jupyter ignores Shift+Enter until the kernel is connected, so it is pressed until the cell runs.
    """
    page.wait_for_selector(f"{_IDLE_IN_LAB}, {_IDLE_IN_NOTEBOOK}", timeout=90_000, state="attached")
    for _ in range(20):
        page.locator(".jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2_000)
        if page.locator(".jp-InputPrompt").first.inner_text() != "[ ]:":
            break
    page.wait_for_selector(selector, timeout=180_000)
    page.wait_for_function(
        "Number(document.querySelector('.sam2-frame canvas').dataset.overlays ?? 0) > 0"
    )


def _locate(page: Any, shape: tuple[int, ...], y: float, x: float) -> tuple[float, float]:
    canvas = page.locator(".sam2-frame canvas")
    canvas.scroll_into_view_if_needed()
    edge = canvas.bounding_box()
    return edge["x"] + (x + 0.5) / shape[2] * edge["width"], edge["y"] + (y + 0.5) / shape[
        1
    ] * edge["height"]


def _click(page: Any, shape: tuple[int, ...], y: float, x: float) -> None:
    page.mouse.click(*_locate(page, shape, y, x))


def _drag(page: Any, shape: tuple[int, ...], box: tuple[float, float, float, float]) -> None:
    page.mouse.move(*_locate(page, shape, box[0], box[1]))
    page.mouse.down()
    page.mouse.move(*_locate(page, shape, box[2], box[3]), steps=6)
    page.mouse.up()


def _wait_for_mask(page: Any, times: int) -> float:
    """Wait for the mask number `times`, and return the milliseconds since its click."""
    page.wait_for_function(
        "([times]) => { const c = document.querySelector('.sam2-frame canvas'); return "
        "c.dataset.answers >= times }",
        arg=[times],
        timeout=30_000,
    )
    return float(page.locator(".sam2-frame canvas").get_attribute("data-answered-ms"))


def _read_drawn_labels(page: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Read the labels that the browser drew."""
    values = page.evaluate("Array.from(document.querySelector('.sam2-frame canvas').labels)")
    return np.array(values).reshape(shape)


def _save_screenshot(page: Any, name: str = "notebook.png") -> None:
    """Save a screenshot if NAPARI_SAM2_SCREENSHOTS names a folder."""
    folder = os.environ.get("NAPARI_SAM2_SCREENSHOTS")
    if folder:
        time.sleep(0.5)
        page.screenshot(path=Path(folder) / name)
