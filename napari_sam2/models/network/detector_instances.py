"""From the detector's maps to objects: instances, the scale of objects, and volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.segmentation import watershed

from napari_sam2.models.network.detector import SIZE_OCTAVES, STRIDE, DetectorNetwork

Plane = NDArray[np.float32]
Maps = NDArray[np.float32]  # (4, …) as in `MAPS`, each in 0..1
Labels = NDArray[np.int32]

WORKING_DIAMETER = 24.0  # pixels; planes are zoomed so that a typical object is so wide
_ZOOMS = (0.25, 0.5, 1.0, 2.0)  # in which a plane is searched for the size of objects
_VOTE_DIAMETER = 26.0  # the size the votes are trusted most at


@torch.inference_mode()
def predict_maps(network: DetectorNetwork, plane: Plane) -> Maps:
    """(4, H, W) maps of a (H, W) plane in 0..1 that shows objects 7 to 80 px wide."""
    height, width = plane.shape
    margins = ((0, -height % STRIDE), (0, -width % STRIDE))
    padded = np.pad(plane, margins, mode="edge").astype(np.float32)
    logits = network(torch.from_numpy(padded[None, None]))
    return np.asarray(logits[0].float().sigmoid().numpy()[:, :height, :width])


def segment_maps(
    maps: Maps,
    *,
    boundary: float = 0.5,
    centre: float = 0.5,
    least: int = 20,
    smoothing: float = 1.2,
) -> Labels:
    """Labels of the (4, …) maps of a plane or a volume.

    Parameters
    ----------
    boundary, centre
        Seeds are where the boundary distance is above, and the centre distance below.
    least
        Objects of fewer pixels are dropped.
    smoothing
        Deviation of the Gaussian in pixels that both distances are smoothed with.
    """
    inside = ndi.gaussian_filter(maps[0], 1.0) > 0.5
    depth = ndi.gaussian_filter(maps[1], smoothing)
    far = ndi.gaussian_filter(maps[2], smoothing)
    seeds = label((depth > boundary) & (far < centre) & inside)
    labels = np.asarray(watershed(-depth, seeds, mask=inside), np.int32)
    too_small = np.flatnonzero(np.bincount(labels.ravel()) < least)
    labels[np.isin(labels, too_small)] = 0
    return labels


def zoom_plane(plane: NDArray[Any], zoom: float) -> Plane:
    """A (H, W) plane resampled to `zoom` times as many pixels a side."""
    smooth = ndi.gaussian_filter(plane, 0.4 / zoom) if zoom < 0.7 else plane
    return np.asarray(ndi.zoom(smooth, zoom, order=1, mode="nearest", grid_mode=True), np.float32)


def estimate_diameter(network: DetectorNetwork, plane: Plane, *, largest: int = 1600) -> float:
    """Diameter in pixels of typical objects of a (H, W) plane in 0..1.

    The plane is looked at in four zooms; every pixel deep inside an object votes for its size.
    """
    votes, weights = [], []
    for zoom in _ZOOMS:
        if not 64 <= zoom * max(plane.shape) <= largest:
            continue
        maps = predict_maps(network, zoom_plane(plane, zoom))
        size = SIZE_OCTAVES * maps[3]
        weight = np.clip(2 * maps[0] - 1, 0, 1) * maps[1]
        weight = weight * np.exp(-((size - np.log2(_VOTE_DIAMETER)) ** 2)) / zoom**2
        votes.append((size - np.log2(zoom)).ravel())
        share = min(1, weight.sum() / (0.002 * plane.size))
        weights.append(weight.ravel() / (weight.sum() + 1e-9) * share)
    if not votes:
        return WORKING_DIAMETER
    bins = np.arange(1.5, 9.6, 0.1)
    heights = np.histogram(np.concatenate(votes), bins, weights=np.concatenate(weights))[0]
    return float(2 ** (bins[ndi.gaussian_filter1d(heights, 3).argmax()] + 0.05))


def segment_plane(
    network: DetectorNetwork, plane: Plane, diameter: float, *, largest: int = 1600
) -> Labels:
    """Labels of a (H, W) plane in 0..1 whose objects are about `diameter` px wide."""
    zoom = min(WORKING_DIAMETER / diameter, largest / max(plane.shape))
    labels = segment_maps(predict_maps(network, zoom_plane(plane, zoom)))
    return resize_labels(labels, plane.shape)


def resize_labels(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Labels at another size, by the nearest pixel."""
    grids = [
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, labels.shape, strict=True)
    ]
    return labels[np.ix_(*grids)]


def predict_volume_maps(
    network: DetectorNetwork, volume: NDArray[np.float32], *, depth_ratio: float, diameter: float
) -> Maps:
    """(4, …) maps of a (Z, Y, X) volume in 0..1: the mean over its xy, xz and yz planes.

    The volume is resampled to cubes that show objects `WORKING_DIAMETER` voxels wide;
    `depth_ratio` is the spacing in z in pixels of y and x, `diameter` the width in those.
    """
    factors = np.array([depth_ratio, 1, 1]) * WORKING_DIAMETER / diameter
    cubes = ndi.zoom(volume, factors, order=1, mode="nearest", grid_mode=True)
    xy = np.stack([predict_maps(network, p) for p in cubes], 1)
    xz = np.stack([predict_maps(network, p) for p in cubes.transpose(1, 0, 2)], 1)
    yz = np.stack([predict_maps(network, p) for p in cubes.transpose(2, 0, 1)], 1)
    fused = xy + xz.transpose(0, 2, 1, 3) + yz.transpose(0, 2, 3, 1)
    return np.asarray(fused / 3, np.float32)
