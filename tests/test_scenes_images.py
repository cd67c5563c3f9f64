"""Reading one picture: every mode becomes RGBA, and every fault is one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fieldcast.errors import InputError
from fieldcast.fields.scenes.images import image_size, read_image, shrink


def pixel(path: Path) -> list[int]:
    value: list[int] = read_image(path)[0, 0].tolist()
    return value


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (10, 20, 30), [10, 20, 30, 255]),
        ("RGBA", (10, 20, 30, 40), [10, 20, 30, 40]),
        ("L", 77, [77, 77, 77, 255]),
        ("LA", (77, 40), [77, 77, 77, 40]),
        ("1", 1, [255, 255, 255, 255]),
        ("I;16", 65535, [255, 255, 255, 255]),
        ("I;16", 32896, [128, 128, 128, 255]),
    ],
)
def test_png_modes(tmp_path: Path, mode: str, color: int, expected: list[int]) -> None:
    Image.new(mode, (3, 2), color).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == expected


def test_cmyk_is_not_taken_for_rgba(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    r, g, b, a = pixel(tmp_path / "a.jpg")
    assert r > 240 and g < 16 and b < 16 and a == 255


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=1)
    assert pixel(tmp_path / "a.png") == [200, 100, 50, 0]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8), "red")
    image.paste("blue", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright: the left half comes on top
    image.save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")
    assert upright.shape == (16, 8, 4) and image_size(tmp_path / "a.png") == (8, 16)
    assert upright[2, 2].tolist() == [0, 0, 255, 255] and upright[12, 2].tolist() == [255, 0, 0, 255]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


TOO_LARGE = "expected at most 100 megapixels, found a larger image; make it smaller first"


@pytest.mark.parametrize("size", [(11000, 11000), (15000, 15000), (60000, 60000)])
def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size))
    for read in (read_image, image_size):
        with pytest.raises(InputError) as error:
            read(tmp_path / "a.png")
        assert str(error.value) == f"{tmp_path}/a.png: {TOO_LARGE}"


def test_90_megapixels_pass_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(9500, 9500))
    assert image_size(tmp_path / "a.png") == (9500, 9500)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an image, found an empty file"),
        (b"this is not an image at all", "expected an image, found something else; is it a PNG or JPEG file?"),
        (None, "expected an image, found: No such file or directory"),
    ],
)
def test_faults(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_image(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an image, found a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_truncated_pictures(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: expected a")
    assert "\n" not in str(error.value)


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="found floating-point values; tone-map it to PNG"):
        read_image(tmp_path / "a.tif")


@given(junk=st.binary(min_size=0, max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_give_a_picture_or_one_line(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + junk)
    with pytest.raises(InputError):
        read_image(path)


def test_shrinking_is_the_mean_of_blocks() -> None:
    image = torch.randint(0, 256, (6, 8, 4), dtype=torch.uint8)
    image[..., 3] = 255
    expected = image.float().reshape(3, 2, 4, 2, 4).mean((1, 3)).round().to(torch.uint8)
    assert (shrink(image, 2).int() - expected.int()).abs().max() <= 1


def test_transparent_pixels_do_not_bleed() -> None:
    """The mean of red and see-through green is half see-through red, not brown."""
    image = torch.tensor([[[255, 0, 0, 255], [0, 255, 0, 0]], [[255, 0, 0, 255], [0, 255, 0, 0]]], dtype=torch.uint8)
    assert shrink(image, 2).tolist() == [[[255, 0, 0, 128]]]


def test_a_rest_is_cut_off() -> None:
    image = torch.arange(5 * 7 * 4, dtype=torch.uint8).reshape(5, 7, 4)
    assert torch.equal(shrink(image, 3), shrink(image[:3, :6], 3))
