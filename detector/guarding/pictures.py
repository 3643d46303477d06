"""The pictures of a pipeline's result: found, read, blacked out and replaced, whatever they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.errors import UsageError

FIELDS = ("images", "image")
"""Where diffusers' results have their pictures; a tuple has them first."""

CHANNELS = (1, 3)
"""Of arrays and tensors; latents, which nobody can see, mostly have 4 or 16."""


class Reported(tuple[Any, ...]):
    """A pipeline's result as a tuple, with what a guard says of its pictures.

    Attributes:
        reports: One a picture.
    """

    reports: tuple[Any, ...]


def images_in(result: Any, *, maker: str) -> Any:
    """Return the pictures of a result: a list, an array or a tensor, the very object that the result holds.

    Args:
        result: What a pipeline returned.
        maker: Name of the pipeline, for error messages.

    Raises:
        UsageError: The result holds no pictures, or they are of a kind that cannot be checked.
    """
    if isinstance(result, tuple):
        return known(result[0] if result else None, maker=maker)
    for field in FIELDS:
        if hasattr(result, field):
            return known(getattr(result, field), maker=maker)
    held = ", ".join(map(str, result)) if isinstance(result, Mapping) else type(result).__name__
    raise UsageError(
        f"{maker} returned {held} and no images: a guard checks pictures. "
        "Give the frames of a video to Detector.check_many"
    )


def known(images: Any, *, maker: str) -> Any:
    """Return pictures as they are, where they can be read.

    Args:
        images: A list of PIL images, arrays or tensors; an array (N, H, W, C); a tensor (N, C, H, W).
        maker: What made them, for error messages.

    Raises:
        UsageError: They are something else.
    """
    if isinstance(images, list):
        odd = next((image for image in images if not _is_picture(image)), None)
        if odd is None:
            return images
        found = f"a list with {_described(odd)}"
    elif _is_tensor(images) or isinstance(images, np.ndarray):
        channels = images.shape[1 if _is_tensor(images) else -1] if images.ndim == 4 else 0
        if channels in CHANNELS:
            return images
        found = _described(images)
    else:
        found = _described(images)
    raise UsageError(
        f"{maker} returned {found} for pictures, which a guard cannot read. It reads PIL images, arrays "
        "(N, H, W, C) and tensors (N, C, H, W): ask for output_type 'pil', 'np' or 'pt'"
    )


def readable(images: Any) -> list[Image.Image | NDArray[np.uint8]]:
    """Return pictures as a detector reads them; reading waits for the accelerator that they are made on.

    Args:
        images: From `images_in`: PIL images; arrays (N, H, W, C); tensors (N, C, H, W); values 0–1 or uint8.

    Returns:
        PIL images as they are, others as uint8, (H, W) or (H, W, 3), rounded as diffusers rounds, so that
        the findings do not hang on the output type.
    """
    return [_as_read(image) for image in images]


def as_pil(image: Any) -> Image.Image:
    """Return one picture as a PIL image.

    Args:
        image: A PIL image, an array (H, W, C) or a tensor (C, H, W); values 0–1 or uint8.
    """
    read = _as_read(image)
    return read if isinstance(read, Image.Image) else Image.fromarray(read)


def blacked(image: Any) -> Any:
    """Return a black picture of the same kind, size and mode; opaque where there is transparency.

    Args:
        image: One picture of `images_in`.
    """
    if isinstance(image, Image.Image):
        opaque = {"RGBA": (0, 0, 0, 255), "LA": (0, 255)}.get(image.mode, 0)
        return Image.new(image.mode, image.size, opaque)
    return image.new_zeros(image.shape) if _is_tensor(image) else np.zeros_like(image)


def replaced(images: Any, changes: Mapping[int, Any]) -> Any:
    """Return pictures with some replaced; the others are bit for bit what they were, and `images` is not touched.

    Args:
        images: From `images_in`.
        changes: Pictures of the same kind, by position.

    Raises:
        UsageError: One has another size than the others, which arrays and tensors cannot hold.
    """
    if not changes:
        return images
    if isinstance(images, list):
        return [changes.get(position, image) for position, image in enumerate(images)]
    copy = images.clone() if _is_tensor(images) else images.copy()
    for position, image in changes.items():
        if image.shape != copy[position].shape:
            raise UsageError(
                f"a new picture has the shape {tuple(image.shape)}, the one that it replaces "
                f"{tuple(copy[position].shape)}. Give height and width, or ask for output_type='pil'"
            )
        copy[position] = image
    return copy


def with_images(result: Any, images: Any, *, taken: Mapping[int, Any], reports: tuple[Any, ...]) -> Any:
    """Return a result with these pictures and reports. What it says of each picture beside that follows.

    Args:
        result: What a pipeline returned; an object is changed, a tuple is not.
        images: Its pictures from now on.
        taken: Results of one picture each that were taken in place of a picture, by position: their flags (such
            as `nsfw_content_detected`) are taken too.
        reports: One a picture.
    """
    total = len(reports)
    if isinstance(result, tuple):
        parts = [images]
        for number in range(1, len(result)):
            others = {position: other[number] for position, other in taken.items()}
            parts.append(_with_flags(result[number], others, total))
        reported = Reported(parts)
        reported.reports = reports
        return reported
    for field in list(result) if isinstance(result, Mapping) else list(vars(result)):
        if field not in FIELDS:
            others = {position: getattr(other, field, None) for position, other in taken.items()}
            flags = getattr(result, field)
            if (new := _with_flags(flags, others, total)) is not flags:
                setattr(result, field, new)
    field = next(name for name in FIELDS if hasattr(result, name))
    if images is not getattr(result, field):
        setattr(result, field, images)
    result.reports = reports
    return result


def _with_flags(flags: Any, others: Mapping[int, Any], total: int) -> Any:
    if not others or not isinstance(flags, list) or len(flags) != total:
        return flags
    new = list(flags)
    for position, other in others.items():
        if isinstance(other, list) and len(other) == 1:
            new[position] = other[0]
    return new


def _is_picture(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return True
    if not _is_tensor(image) and not isinstance(image, np.ndarray):
        return False
    return image.ndim == 2 or (image.ndim == 3 and image.shape[0 if _is_tensor(image) else 2] in CHANNELS)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "ndim")


def _is_integer(values: Any) -> bool:
    if _is_tensor(values):
        return not values.is_floating_point()
    return bool(np.issubdtype(values.dtype, np.integer))


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"


def _as_read(image: Any) -> Image.Image | NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return image
    integer = _is_integer(image)
    if _is_tensor(image):
        image = image.detach().cpu()
        image = np.asarray(image if integer else image.float())
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if integer:
        return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
    shown = np.nan_to_num(image.astype(np.float32), nan=0.0).clip(0.0, 1.0)
    return np.ascontiguousarray((shown * 255).round().astype(np.uint8))
