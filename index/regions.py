"""Parts of a picture that are described besides the whole: its middle square, and windows on request.

Training scripts scale the short side and crop to the middle square (diffusers' `train_text_to_image.py` with
`--center_crop`, and most loaders): a memorised picture comes back as that square, which hashes of the whole miss.
"""

from __future__ import annotations

from index.images import Picture

SIDE = 0.6
"""Side of a window as a share of the picture's: five of them, in the corners and the middle, cover it."""

LEAST_ASPECT = 1.08
"""Long side over short side from which the middle square differs enough from the whole to have rows of its own."""

_FAR = 1.0 - SIDE
WINDOWS: tuple[tuple[float, float], ...] = ((0, 0), (_FAR, 0), (0, _FAR), (_FAR, _FAR), (_FAR / 2, _FAR / 2))
"""Left and top edges of the windows, as shares of width and height."""


def middle_square(height: int, width: int) -> tuple[int, int, int] | None:
    """Return left edge, top edge and side, in pixels, of a frame's middle square; None where it is nearly square."""
    side = min(height, width)
    if max(height, width) < LEAST_ASPECT * side:
        return None
    return (width - side) // 2, (height - side) // 2, side


def square_of(picture: Picture) -> Picture | None:
    """Return the middle square of a picture, or None where the picture is nearly square itself."""
    found = middle_square(*picture.pixels.shape[:2])
    if found is None:
        return None
    left, top, side = found
    return picture.cropped(left, top, left + side, top + side)


def windows_of(picture: Picture) -> list[Picture]:
    """Return the windows of a picture, in the order of `WINDOWS`."""
    height, width = picture.pixels.shape[:2]
    across, down = max(1, round(width * SIDE)), max(1, round(height * SIDE))
    found = []
    for left, top in WINDOWS:
        x, y = round(left * width), round(top * height)
        found.append(picture.cropped(x, y, x + across, y + down))
    return found
