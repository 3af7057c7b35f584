"""Loading odd pictures, and crops that repeat."""

import numpy as np
import pytest
import torch
from PIL import Image

from iqa_core import images


@pytest.fixture
def square():
    """A 40 x 30 picture with a red left half and a blue right half."""
    array = np.zeros((30, 40, 3), np.uint8)
    array[:, :20, 0], array[:, 20:, 2] = 255, 255
    return Image.fromarray(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, square, mode):
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    picture = Image.fromarray(np.full((30, 40), 65535, np.uint16)) if mode == "I;16" else square.convert(mode)
    picture.save(tmp_path / f"odd{suffix}")
    x = images.load(tmp_path / f"odd{suffix}")
    assert x.shape == (3, 30, 40) and x.dtype == torch.float32 and x.is_contiguous()
    assert 0 <= x.min() and x.max() <= 1
    if mode in ("RGB", "RGBA", "CMYK", "P"):
        assert torch.equal(x[:, 0, 0].round(), torch.tensor([1.0, 0, 0]))
    if mode == "I;16":
        assert x.min() == 1  # 65535 is white; dividing by 255 or wrapping would not give 1


def test_half_grey_of_16_bits_stays_half(tmp_path):
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert images.load(tmp_path / "deep.png").mean().item() == pytest.approx(0.5, abs=1e-4)


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert images.load(tmp_path / "clear.png").min() == 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    palette.save(tmp_path / "clear.gif", transparency=0)
    assert images.load(tmp_path / "clear.gif").min() == 1


def test_exif_rotation_is_applied(tmp_path, square):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    square.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    x = images.load(tmp_path / "turned.jpg")
    assert x.shape == (3, 40, 30)
    assert x[0, 2, 15] > 0.9 and x[2, -2, 15] > 0.9  # red is now on top, blue below


@pytest.mark.parametrize("content, word", [(b"", "empty"), (b"no picture at all", "cannot be read")])
def test_unreadable_files_are_named(tmp_path, content, word):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(images.ImageError, match=rf"bad\.png.*{word}"):
        images.load(tmp_path / "bad.png")


def test_truncated_and_missing_files_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    images.save(whole, torch.rand(3, 64, 64))
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(images.ImageError, match=r"half\.png.*Replace"):
        images.load(tmp_path / "half.png")
    with pytest.raises(images.ImageError, match=r"absent\.png: no such file"):
        images.load(tmp_path / "absent.png")


def test_save_and_load_round_trip(tmp_path):
    x = images.from_uint8(torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8))
    images.save(tmp_path / "x.png", x)
    assert torch.equal(images.load(tmp_path / "x.png"), x)


def test_fit_mirrors_without_repeating_an_edge_jump():
    x = torch.rand(2, 3, 5, 50)
    y = images.fit(x, 32)
    assert y.shape == (2, 3, 32, 50)
    top = (32 - 5) // 2
    assert torch.equal(y[:, :, top : top + 5], x)
    rows = y[0, 0, :, 0]
    step = (x[0, 0, 1:, 0] - x[0, 0, :-1, 0]).abs().max()
    assert (rows[1:] - rows[:-1]).abs().max() <= step  # a wrap-around would jump from the last row to the first
    assert images.fit(x[..., :1, :1], 8).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("how, n, count", [("five", 1, 5), ("grid", 3, 9), ("random", 7, 7)])
@pytest.mark.parametrize("height, width", [(40, 56), (32, 32), (10, 40)])
def test_crops_repeat_and_stay_aligned(how, n, count, height, width):
    x = torch.rand(3, height, width)
    first = images.crops(x, 32, how, n, seed=3)
    assert first.shape == (count, 3, 32, 32)
    assert torch.equal(first, images.crops(x, 32, how, n, seed=3))
    pair = images.crops(torch.stack([x, 1 - x]), 32, how, n, seed=3)
    assert torch.allclose(pair[:, 0], 1 - pair[:, 1]) and torch.equal(pair[:, 0], first)


def test_random_crops_depend_on_the_seed_and_unknown_ways_are_said():
    x = torch.rand(3, 64, 64)
    assert not torch.equal(images.crops(x, 32, "random", seed=1), images.crops(x, 32, "random", seed=2))
    with pytest.raises(ValueError, match="'five', 'grid' or 'random'"):
        images.crops(x, 32, "tiles")


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    images.save(tmp_path / "x.png", torch.rand(3, 40, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(images.ImageError, match="x.png.*50 x 40 pixels"):
        images.load(tmp_path / "x.png")
