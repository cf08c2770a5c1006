"""Where objects of a painted scene lie: label planes of many kinds, with exact truth.

Every layout takes the side of the plane, the size of its objects in pixels (as the targets
measure it) and a random generator, and gives a (side, side) plane of labels; numbers need not be
consecutive.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from napari_sam2.train.detector.augment import draw_cloud

Labels = NDArray[np.int32]
Layout = Callable[[int, float, np.random.Generator], Labels]
Field = NDArray[np.float32]


def lay_blobs(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """Round to elongated blobs, from a few to packed: parts of Voronoi cells near their seeds."""
    spacing = diameter * rng.choice([rng.uniform(0.8, 1.2), rng.uniform(1.1, 3.0)])
    stretch = np.exp(rng.uniform(0, 0.7)) if rng.random() < 0.4 else 1.0
    jitter = rng.uniform(0.2, 0.6)
    y, x = _warp_grid(side, rng, 0.06 * diameter * rng.random(), 0.5 * diameter)
    seeds = _draw_seeds(side, spacing, jitter, rng)
    radius = 0.5 * diameter * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), len(seeds)))
    if rng.random() < 0.15:  # two populations
        radius[rng.random(len(seeds)) < 0.4] *= rng.uniform(0.4, 0.7)
    points, seeds = _squeeze(np.stack([y, x], -1), seeds, stretch, rng)
    distance, nearest = _find_nearest(points, seeds)
    rough = 1 + rng.uniform(0, 0.25) * draw_cloud((side, side), rng, 0.5 * diameter)
    labels = np.where(distance * rough < radius[nearest], nearest + 1, 0).astype(np.int32)
    return _thin_out(labels, rng, clusters=rng.random() < 0.4)


def lay_placed_blobs(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """Irregular, star-shaped blobs put down one by one; those below are covered."""
    labels = np.zeros((side, side), np.int32)
    most = int(np.clip(0.9 * side**2 / diameter**2, 1, 60))
    overlap = rng.choice([0.0, 0.1, 0.35])
    for number in range(1, int(rng.integers(1, most + 1)) + 1):
        wide = diameter * np.exp(rng.normal(0, 0.25))
        middle = rng.uniform(-0.1 * diameter, side + 0.1 * diameter, 2)
        inside, box = _draw_star(side, middle, wide, rng)
        part = labels[box]
        if inside.any() and (part[inside] > 0).mean() <= overlap:
            part[inside & ((part == 0) | (rng.random() < 0.5))] = number
    return labels


def lay_rods(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """Rods side by side in patches of one direction, in a colony or scattered."""
    aspect = np.exp(rng.uniform(np.log(1.5), np.log(7)))
    width = max(3.0, diameter * (np.pi / 4 / aspect) ** 0.25)
    length = aspect * width
    y, x = _warp_grid(side, rng, 0.5 * width * rng.random(), 1.5 * length)
    patches = _draw_seeds(side, length * rng.uniform(1.2, 5), 0.6, rng)
    _, patch = _find_nearest(np.stack([y, x], -1), patches)
    spread = rng.choice([0.15, 0.6, np.pi])
    angles = rng.uniform(0, np.pi) + rng.uniform(-spread, spread, len(patches))
    labels = _cut_into_capsules(y, x, patch, angles[patch], width, length, rng)
    labels = _drop_fragments(labels, 0.45 * width * length)
    if rng.random() < 0.5:
        colony = draw_cloud((side, side), rng, rng.uniform(3, 10) * length)
        labels = _keep_within(labels, colony > rng.uniform(-0.8, 0.8))
    return _drop_some(labels, rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0.3, 0.9)]), rng)


def lay_filaments(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """A few curved rods, put down where there is room."""
    labels = np.zeros((side, side), np.int32)
    width = max(3.0, diameter * rng.uniform(0.4, 0.8))
    most = int(np.clip(0.5 * side**2 / diameter**2, 1, 14))
    for number in range(1, int(rng.integers(1, most + 1)) + 1):
        length = min(side, diameter**4 / width**3 * np.exp(rng.normal(0, 0.3)))
        path = _draw_path(side, length, rng)
        away = np.ones((side, side), bool)
        y, x = path[((path >= 0) & (path < side)).all(1)].astype(int).T
        away[y, x] = False
        distance = ndi.distance_transform_edt(away) if y.size else np.full(away.shape, side)
        inside = distance < width / 2
        if not (labels[distance < width / 2 + 1.5] > 0).any():
            labels[inside] = number
    return labels


def lay_walls(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """Cells wall to wall, in heaps or in files; the wall is theirs or belongs to nobody."""
    jitter = rng.choice([0.15, 0.35, 0.6])
    y, x = _warp_grid(side, rng, 0.12 * diameter * rng.random(), 0.6 * diameter)
    bend_y, bend_x = _warp_grid(side, rng, 0.6 * diameter * rng.random(), 4 * diameter)
    grid = np.indices((side, side), np.float32)
    points = np.stack([y + bend_y - grid[0], x + bend_x - grid[1]], -1)
    seeds = _draw_seeds(side, diameter * 0.95, jitter, rng, hexagonal=rng.random() < 0.5)
    stretch = np.exp(rng.uniform(0, 1.0)) if rng.random() < 0.5 else 1.0
    points, seeds = _squeeze(points, seeds, stretch, rng)
    if rng.random() < 0.4:  # cells of very different size: some seeds are taken away
        seeds = seeds[rng.random(len(seeds)) < rng.uniform(0.5, 0.9)]
    labels = (_find_nearest(points, seeds)[1] + 1).astype(np.int32)
    if rng.random() < 0.4:
        labels = _open_large_cells(labels, diameter, rng)
    gap = rng.choice([0, 0, 1, 2])
    if gap and diameter > 8 * gap:
        labels = labels * ~_mark_walls(labels, gap)
    if rng.random() < 0.45:
        tissue = draw_cloud((side, side), rng, rng.uniform(2, 8) * diameter)
        labels = _keep_within(labels, tissue > rng.uniform(-1.2, 0.5))
    return _drop_some(labels, rng.choice([0.0, 0.0, rng.uniform(0, 0.2)]), rng)


def _open_large_cells(labels: Labels, diameter: float, rng: np.random.Generator) -> Labels:
    """Cells several times larger among the others, as in stems and roots: round, wall to wall."""
    side, first = len(labels), int(labels.max()) + 1
    areas = np.bincount(labels.ravel())
    large = np.zeros_like(labels)
    for number in range(first, first + int(rng.integers(1, 8))):
        wide = min(diameter * np.exp(rng.uniform(np.log(1.8), np.log(7))), 0.9 * side)
        inside, box = _draw_star(side, rng.uniform(0, side, 2), wide, rng)
        part = large[box]
        if not (part[inside] > 0).any():
            part[inside] = number
    left = np.where(large > 0, 0, labels)
    fragments = np.bincount(left.ravel(), minlength=areas.size) < 0.35 * areas
    left[fragments[left]] = 0
    filled = np.where(large > 0, large, left)
    nearest = ndi.distance_transform_edt(filled == 0, return_distances=False, return_indices=True)
    return np.asarray(filled[tuple(nearest)], np.int32)


def lay_organs(side: int, diameter: float, rng: np.random.Generator) -> Labels:
    """A body with large smooth organs of different sizes, touching or apart."""
    y, x = _warp_grid(side, rng, 0.15 * diameter, 1.2 * diameter)
    middle = side / 2 + rng.uniform(-0.15, 0.15, 2) * side
    body = ((y - middle[0]) / (0.42 * side)) ** 2 + ((x - middle[1]) / (0.47 * side)) ** 2 < 1
    seeds = _draw_seeds(side, diameter * rng.uniform(0.9, 1.6), 0.6, rng)
    distance, nearest = _find_nearest(np.stack([y, x], -1), seeds)
    radius = 0.5 * diameter * np.exp(rng.normal(0, 0.4, len(seeds)))
    labels = np.where(distance < radius[nearest], nearest + 1, 0).astype(np.int32)
    labels = _keep_within(labels, body)
    return _drop_some(labels, rng.uniform(0.1, 0.7), rng)


LAYOUTS: dict[Layout, float] = {
    lay_blobs: 0.26,
    lay_placed_blobs: 0.12,
    lay_rods: 0.32,
    lay_filaments: 0.03,
    lay_walls: 0.22,
    lay_organs: 0.05,
}


def draw_layout(side: int, diameter: float, rng: np.random.Generator) -> tuple[Labels, str]:
    """Labels of a layout drawn at random, and its name."""
    layouts = list(LAYOUTS)
    chosen = layouts[rng.choice(len(layouts), p=np.array(list(LAYOUTS.values())))]
    return chosen(side, diameter, rng), chosen.__name__


def _warp_grid(
    side: int, rng: np.random.Generator, strength: float, grain: float
) -> tuple[Field, Field]:
    """Coordinates (y, x) of pixels, bent smoothly by about `strength` px."""
    y, x = np.indices((side, side), np.float32)
    if strength < 0.2:
        return y, x
    bent = (draw_cloud((side, side), rng, max(4.0, grain)) for _ in range(2))
    dy, dx = bent
    return y + np.float32(strength) * dy, x + np.float32(strength) * dx


def _draw_seeds(
    side: int, spacing: float, jitter: float, rng: np.random.Generator, *, hexagonal: bool = True
) -> NDArray[np.float64]:
    """(N, 2) points of a grid that reaches beyond the plane, each moved by `jitter` spacings."""
    spacing = max(spacing, 2.0)
    margin = 1.2 * side  # later squeezed and turned: the plane must stay covered
    height = spacing * (np.sqrt(3) / 2 if hexagonal else 1)
    rows = np.arange(-margin / 2, side + margin / 2, height) + rng.uniform(0, spacing)
    columns = np.arange(-margin / 2, side + margin / 2, spacing) + rng.uniform(0, spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    if hexagonal:
        x = x + 0.5 * spacing * (np.arange(len(rows)) % 2)[:, None]
    points = np.stack([y.ravel(), x.ravel()], -1)
    return points + rng.uniform(-jitter, jitter, points.shape) * spacing


def _squeeze(
    points: Field, seeds: NDArray[np.float64], stretch: float, rng: np.random.Generator
) -> tuple[Field, NDArray[np.float64]]:
    """Points seen in turned coordinates of which one is `stretch` times finer than the other."""
    middle = points.reshape(-1, 2).mean(0)
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([np.sqrt(stretch), 1 / np.sqrt(stretch)])
    turned = (points - middle) @ matrix + middle
    return turned.astype(np.float32), seeds


def _find_nearest(points: Field, seeds: NDArray[np.float64]) -> tuple[Field, NDArray[np.intp]]:
    """Distance to the nearest seed of each of (H, W, 2) points, and its index."""
    low, high = points.reshape(-1, 2).min(0) - 20, points.reshape(-1, 2).max(0) + 20
    near = np.flatnonzero(((seeds > low) & (seeds < high)).all(1))
    if not near.size:
        near = np.arange(len(seeds))
    distance, index = cKDTree(seeds[near]).query(points)
    return np.asarray(distance, np.float32), near[index]


def _draw_star(
    side: int, middle: NDArray[np.float64], wide: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], tuple[slice, slice]]:
    """A star-shaped region around `middle` in the box that holds it."""
    low = np.clip(middle - wide, 0, side - 1).astype(int)
    high = np.clip(middle + wide + 1, 1, side).astype(int)
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    y, x = np.mgrid[box].astype(np.float32)
    y, x = y - middle[0], x - middle[1]
    angle, aspect = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.6))
    along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    along, across = along / np.sqrt(aspect), across * np.sqrt(aspect)
    direction = np.arctan2(across, along)
    radius = np.full(y.shape, 0.5 * wide, np.float32)
    for wave in range(2, 7):
        swing = rng.normal(0, rng.choice([0.05, 0.25])) / wave
        radius *= 1 + swing * np.cos(wave * direction + rng.uniform(0, 2 * np.pi))
    return np.hypot(along, across) < radius, box


def _cut_into_capsules(
    y: Field,
    x: Field,
    patch: NDArray[np.intp],
    angle: NDArray[np.float64],
    width: float,
    length: float,
    rng: np.random.Generator,
) -> Labels:
    """Each patch cut into rows of `width`, each row into capsules of about `length`."""
    along = np.cos(angle) * y + np.sin(angle) * x
    across = (np.cos(angle) * x - np.sin(angle) * y) / width
    row = np.floor(across).astype(np.int64)
    key = (row * 7919 + patch * 104729) % 4096  # a row of a patch has its own lengths and shift
    lengths = length * np.exp(rng.uniform(-0.45, 0.45, 4096))[key]
    place = along / lengths + rng.random(4096)[key]
    column = np.floor(place).astype(np.int64)
    radius = width / 2 * rng.uniform(0.75, 1.0)
    straight = lengths / 2 - radius - rng.uniform(0.0, 0.1) * width
    beyond = np.maximum(np.abs(place - column - 0.5) * lengths - straight, 0)
    inside = np.hypot(beyond, (across - row - 0.5) * width) < radius
    codes = (patch * 2003 + row + 1000) * 2003 + column + 1000
    _, numbers = np.unique(codes, return_inverse=True)
    return np.where(inside, numbers.reshape(codes.shape) + 1, 0).astype(np.int32)


def _draw_path(side: int, length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2) points, a pixel apart, along a curve of that length."""
    steps = max(6, int(length))
    turns = rng.normal(0, rng.choice([0.005, 0.025, 0.05]), steps) + rng.normal(0, 0.005)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turns)
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], -1), 0)
    return np.asarray(path - path[steps // 2] + rng.uniform(0, side, 2))


def _mark_walls(labels: Labels, width: int) -> NDArray[np.bool_]:
    differs = np.zeros(labels.shape, bool)
    differs[1:] |= labels[1:] != labels[:-1]
    differs[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return ndi.binary_dilation(differs, iterations=width - 1) if width > 1 else differs


def _thin_out(labels: Labels, rng: np.random.Generator, *, clusters: bool) -> Labels:
    """Leave out some objects: evenly, or all but clusters."""
    if clusters:
        field = draw_cloud(labels.shape, rng, rng.uniform(20, 80))
        return _keep_within(labels, field > rng.uniform(-0.5, 1.2))
    return _drop_some(labels, rng.choice([0.0, rng.uniform(0, 0.9)]), rng)


def _drop_some(labels: Labels, share: float, rng: np.random.Generator) -> Labels:
    gone = rng.random(int(labels.max(initial=0)) + 1) < share
    return np.where(gone[labels], 0, labels).astype(np.int32)


def _drop_fragments(labels: Labels, least: float) -> Labels:
    gone = np.bincount(labels.ravel()) < least
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    gone[touching] = False
    return np.where(gone[labels], 0, labels).astype(np.int32)


def _keep_within(labels: Labels, region: NDArray[np.bool_]) -> Labels:
    """Only objects that lie mostly in the region."""
    count = int(labels.max(initial=0)) + 1
    inside = np.bincount(labels.ravel(), region.ravel(), count)
    share = inside / np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    return np.where(share[labels] > 0.5, labels, 0).astype(np.int32)
