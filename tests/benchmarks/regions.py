"""Polygons in fractions of a frame: boxes, and how far two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Polygon = tuple[tuple[float, float], ...]
FULL: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
RASTER = 512


def box_polygon(left: float, top: float, right: float, bottom: float, size: tuple[float, float]) -> Polygon:
    """Return a box given in pixels of a frame of `size` as fractions of it."""
    x0, x1, y0, y1 = left / size[0], right / size[0], top / size[1], bottom / size[1]
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def iou(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return intersection over union inside the frame, on a raster; 0 where a polygon is empty."""
    import cv2

    if len(one) < 3 or len(other) < 3:
        return 0.0
    masks = []
    for polygon in (one, other):
        mask = np.zeros((RASTER, RASTER), np.uint8)
        points = np.rint(np.asarray(polygon, np.float64) * RASTER * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 1, shift=4)
        masks.append(mask.astype(bool))
    union = int((masks[0] | masks[1]).sum())
    return int((masks[0] & masks[1]).sum()) / union if union else 0.0
