"""Windows of a picture that are described besides the whole, so that a part of a work is found by its own row."""

from __future__ import annotations

from index.images import Picture

SIDE = 0.6
"""Side of a window as a share of the picture's: five of them, in the corners and the middle, cover it."""

_FAR = 1.0 - SIDE
WINDOWS: tuple[tuple[float, float], ...] = ((0, 0), (_FAR, 0), (0, _FAR), (_FAR, _FAR), (_FAR / 2, _FAR / 2))
"""Left and top edges of the windows, as shares of width and height."""


def windows_of(picture: Picture) -> list[Picture]:
    """Return the windows of a picture, in the order of `WINDOWS`."""
    height, width = picture.pixels.shape[:2]
    across, down = max(1, round(width * SIDE)), max(1, round(height * SIDE))
    found = []
    for left, top in WINDOWS:
        x, y = round(left * width), round(top * height)
        found.append(picture.cropped(x, y, x + across, y + down))
    return found
