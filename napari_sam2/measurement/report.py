"""The report: one HTML file that can be mailed, with counts, distributions, lineage and where it all comes from."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from napari_sam2.core.video import Video
from napari_sam2.measurement.charts import draw_areas, draw_counts
from napari_sam2.measurement.columns import channels_of
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.trees import draw_lineage

_DPI = 110
_INK = "#33475b"
_ROWS = 50  # of the table of tracks
_SHOWN = ("track", "category", "parent", "first_frame", "last_frame", "n_frames", "origin", "fate")
_SIZES = ("volume_um3", "volume_px", "mean_area_um2", "mean_area_px")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .25em .7em; border-bottom: 1px solid #dde3e8; text-align: right }
td:first-child, th:first-child { text-align: left } img { max-width: 100% } .note { color: #5b6b79 }
"""


def report(video: Video, objects: pd.DataFrame, tracks: pd.DataFrame, counts: pd.DataFrame, provenance: Mapping[str, Any]) -> str:
    """The HTML of a run, from its tables and its provenance (``Provenance.to_dict``). Pictures are inside; names are escaped."""
    parts = [f"<h1>{_text(video.stack.name)}</h1>", f"<p class=note>{_text(video.description)}</p>", _summary(video, tracks, counts)]
    parts.append(_section("Objects", _picture(lambda axes: draw_counts(axes, counts, video))))
    if len(objects):
        parts.append(_section("Size", _picture(lambda axes: draw_areas(axes, objects, video))))
        parts += [
            _section(
                f"Intensity, {video.stack.channels[channel]}",
                _picture(lambda axes, channel=channel: _draw_intensity(axes, objects, channel)),
            )
            for channel in range(channels_of(objects))
        ]
    if tracks["parent"].notna().any():
        parts.append(_section("Lineage", _picture(lambda axes: draw_lineage(axes, tracks, families_only=True), height=4.5)))
    parts.append(_section(f"Tracks{'' if len(tracks) <= _ROWS else f' (the first {_ROWS} of {len(tracks)})'}", _track_table(tracks)))
    parts.append(_section("Where this comes from", _provenance(provenance)))
    head = f"<head><meta charset=utf-8><title>{_text(video.stack.name)}</title><style>{_STYLE}</style></head>"
    body = "\n".join(parts)
    return f"<!doctype html>\n<html lang=en>{head}\n<body>\n{body}\n</body></html>\n"


def _summary(video: Video, tracks: pd.DataFrame, counts: pd.DataFrame) -> str:
    rows = [("objects", str(len(tracks)))]
    total = counts[(counts["frame"] == ALL) & (counts["category"] != ALL)]
    rows += [(f"of these {name or 'without category'}", str(n)) for name, n in zip(total["category"].astype(str), total["n"], strict=True)]
    rows.append(("frames", str(len(video))))
    if "fate" in tracks.columns:
        rows.append(("divisions", str(tracks["parent"].dropna().nunique())))
        rows += [(f"{name} ({side})", str(int(n))) for side in ("origin", "fate") for name, n in tracks[side].value_counts().items()]
    return _table(["", "number"], rows)


def _draw_intensity(axes: Any, objects: pd.DataFrame, channel: int) -> None:
    means = objects.groupby("track")[f"mean_c{channel}"].mean()
    axes.hist(means, bins=min(40, max(5, len(means) // 3)), color=_INK)
    axes.set_xlabel("mean grey value of an object, all its frames", fontsize=9)
    axes.set_ylabel("objects", fontsize=9)
    full = f"saturated_c{channel}"
    clipped = int(objects.groupby("track")[full].any().sum()) if full in objects.columns else 0
    title = f"{clipped} of {len(means)} objects hold saturated pixels" if clipped else "no saturated pixels"
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _track_table(tracks: pd.DataFrame) -> str:
    shown = tracks[[name for name in (*_SHOWN, *_SIZES) if name in tracks.columns]].dropna(axis=1, how="all").head(_ROWS)
    return _table(list(shown.columns), [[_cell(value) for value in row] for row in shown.to_numpy(dtype=object)])


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _provenance(provenance: Mapping[str, Any]) -> str:
    model, given = provenance.get("model", {}), provenance.get("input", {})
    rows = [("file", given.get("source") or given.get("name", "")), ("made", provenance.get("made", ""))]
    rows += [("model", f"{model.get('name', '')} (SHA-256 {str(model.get('sha256', ''))[:12]})")]
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items()))]
    rows += [("decided", note) for note in provenance.get("notes", ())]
    return _table(["", ""], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{content}"


def _picture(draw: Any, *, height: float = 2.8) -> str:
    figure = Figure(figsize=(8.5, height), dpi=_DPI, facecolor="white", layout="constrained")
    draw(figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _text(value: Any) -> str:
    return html.escape(str(value))
