"""Reading pictures from files into uint8 RGBA, safely: each way a picture can be broken is one clear line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent

# A picture of a few kilobytes can claim any size: nothing above this is decoded.
PIXEL_LIMIT = 100_000_000


def read_image(path: Path, downscale: int = 1) -> UInt8[Tensor, "h w 4"]:
    """One picture, upright as its EXIF orientation says, as RGBA with straight alpha (255 where it has none)."""
    _require_file(path)
    return shrink(_decode(path, str(path)), downscale, str(path))


def decode_image(data: bytes, name: str) -> UInt8[Tensor, "h w 4"]:
    """A picture held in memory, as `read_image` reads one from a file; `name` is for messages."""
    return _decode(BytesIO(data), name)


def _decode(source: Path | BytesIO, name: str) -> UInt8[Tensor, "h w 4"]:
    with _opened(source, name) as image:
        turn = _TURNS.get(_orientation(image))
        image.load()
        return torch.from_numpy(_to_rgba(name, image if turn is None else image.transpose(turn)))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, without decoding it."""
    _require_file(path)
    with _opened(path, str(path)) as image:
        lying = _orientation(image) >= 5
        return (image.height, image.width) if lying else (image.width, image.height)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, as far as it is known before decoding (a PNG may hold it behind the pixels)."""
    found = Image.Image.getexif(image).get(0x0112, 1)
    return found if found in _TURNS else 1


# What makes a picture upright, by its orientation; 5 to 8 lie on their side.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def _opened(source: Path | BytesIO, name: str) -> Iterator[Image.Image]:
    """The picture, checked but not yet decoded; whatever goes wrong with it meanwhile becomes an `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of size at 89 megapixels, and of odd EXIF data
            with Image.open(source) as image:
                _require_size(name, image.width * image.height)
                yield image
    except Image.DecompressionBombError:
        _require_size(name, 2 * PIXEL_LIMIT)
    except UnidentifiedImageError:
        raise InputError(f"{name}: expected an image, found something else; is it a PNG or JPEG file?") from None
    except InputError:
        raise
    except Exception as error:  # damaged files make Pillow raise almost anything: OSError, SyntaxError, struct.error, …
        raise InputError(f"{name}: expected a whole image, found a damaged or cut short one ({error})") from None


def read_images(paths: Sequence[Path], downscale: int = 1, progress: Progress = silent) -> list[UInt8[Tensor, "h w 4"]]:
    """The pictures in order, telling `progress` after each."""
    images = []
    for i, path in enumerate(paths):
        images.append(read_image(path, downscale))
        progress(i + 1, len(paths), "reading images")
    return images


def _require_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path}: expected an image, found a folder")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected an image, found an empty file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: expected an image, found: {reason}") from None


def _require_size(name: str, pixels: int) -> None:
    if pixels > PIXEL_LIMIT:
        limit = f"{PIXEL_LIMIT // 1_000_000} megapixels"
        raise InputError(f"{name}: expected at most {limit}, found a larger image; make it smaller first")


def _to_rgba(name: str, image: Image.Image) -> UInt8[np.ndarray, "h w 4"]:
    """By mode, never by the number of channels: four channels may also be CMYK."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow itself would clip it at 255
        deep = np.asarray(image).astype(np.float64)
        if deep.max(initial=0) > 65535 or deep.min(initial=0) < 0:
            raise InputError(f"{name}: expected 8 or 16 bits a channel, found more")
        grey = np.round(deep * (255 / 65535)).astype(np.uint8)
        return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    if image.mode == "F":
        raise InputError(f"{name}: expected 8 or 16 bits a channel, found floating-point values; tone-map it to PNG")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.array(image.convert("RGBA"))


def shrink(image: UInt8[Tensor, "h w 4"], factor: int, name: str = "image") -> UInt8[Tensor, "h2 w2 4"]:
    """Means over squares of factor x factor pixels, colours weighted by their alpha (premultiplied).

    A rest of fewer than `factor` columns at the right, or rows at the bottom, is cut off, so that the intrinsics are
    exactly those of the large image divided by `factor`.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if height < 1 or width < 1:
        raise InputError(f"{name}: expected more than {factor} pixels a side, found {image.shape[1]}x{image.shape[0]}")
    layers = image[: height * factor, : width * factor].permute(2, 0, 1).float()
    color, alpha = layers[:3], layers[3:]
    means = torch.nn.functional.avg_pool2d(torch.cat([color * alpha, alpha])[None], factor)[0]
    straight = torch.cat([means[:3] / means[3:].clamp_min(1e-6), means[3:]])
    return straight.permute(1, 2, 0).round().to(torch.uint8).contiguous()
