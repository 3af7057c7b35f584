"""Loading odd images, what is refused, saving, and crops that repeat."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from iqa_core import image_colours, image_formats, images


@pytest.fixture
def square():
    """A 40 x 30 image with a red left half and a blue right half."""
    array = np.zeros((30, 40, 3), np.uint8)
    array[:, :20, 0] = 255
    array[:, 20:, 2] = 255
    return Image.fromarray(array)


@pytest.fixture(autouse=True)
def every_warning_again(monkeypatch):
    """What is said once per process is said once per test."""
    monkeypatch.setattr(image_colours, "_warned", set())


def load_without_a_word(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return images.load(path)


def levels(x):
    """The values of an image as integers of 8 bits, (H, W, 3)."""
    return images.to_uint8(x).permute(1, 2, 0).numpy().astype(int)


# ---- Modes, transparency, rotation, unreadable files --------------------------------------------

@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, square, mode):
    suffix = ".tif" if mode in ("CMYK", "YCbCr") else ".png"
    if mode == "I;16":
        image = Image.fromarray(np.full((30, 40), 65535, np.uint16))
    else:
        image = square.convert(mode)
    image.save(tmp_path / f"odd{suffix}")
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


@pytest.mark.parametrize("content, word", [
    (b"", "empty"),
    (b"no image at all", "cannot be read"),
])
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "mpo", "avif"])
def test_exif_rotation_is_applied_in_every_format(tmp_path, square, suffix):
    if f".{suffix}" not in images.readable_suffixes():
        pytest.skip(f"this Pillow does not read .{suffix}; it is one of several formats here")
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"save_all": True, "append_images": [square]} if suffix == "mpo" else {}
    square.save(tmp_path / f"turned.{suffix}", exif=exif, quality=95, **options)
    x = load_without_a_word(tmp_path / f"turned.{suffix}")
    assert x.shape == (3, 40, 30)
    assert x[0, 2, 15] > 0.9
    assert x[2, -2, 15] > 0.9


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [2, 5, 6, 7, 8])
def test_a_rotated_tiff_is_the_plain_one_rotated(tmp_path, mode, compression, orientation):
    """Pillow scrambles a rotated TIFF without compression when it opens it by its path."""
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "plain.tif", compression=compression)
    image.save(tmp_path / "turned.tif", compression=compression, exif=exif)
    plain = images.load(tmp_path / "plain.tif")
    expected = {
        2: plain.flip(2),
        5: plain.mT,
        6: plain.mT.flip(2),
        7: plain.mT.flip(1, 2),
        8: plain.mT.flip(1),
    }[orientation]
    assert torch.equal(images.load(tmp_path / "turned.tif"), expected)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_damaged_exif_data_cost_a_warning_and_not_the_image(tmp_path, square, suffix):
    square.save(tmp_path / f"odd.{suffix}", exif=b"no TIFF header at all")
    with pytest.warns(UserWarning, match=rf"odd\.{suffix}.*EXIF"):
        x = images.load(tmp_path / f"odd.{suffix}")
    assert x.shape == (3, 30, 40)
    assert x[0, 0, 0] > 0.9


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "tga", "qoi", "jp2"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_file_of_any_format_is_refused(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(whole)
    content = whole.read_bytes()
    (tmp_path / f"part.{suffix}").write_bytes(content[: int(share * len(content))])
    with pytest.raises(images.ImageError, match=rf"part\.{suffix}: cannot be read.*Replace"):
        images.load(tmp_path / f"part.{suffix}")


def test_the_content_decides_and_not_the_suffix(tmp_path, square):
    square.save(tmp_path / "x.png")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.png").read_bytes())
    (tmp_path / "x").write_bytes((tmp_path / "x.png").read_bytes())
    expected = images.load(tmp_path / "x.png")
    assert torch.equal(images.load(tmp_path / "x.jpg"), expected)
    assert torch.equal(images.load(tmp_path / "x"), expected)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(images.ImageError, match="this is a folder"):
        images.load(tmp_path)
    with pytest.raises(images.ImageError, match="cannot be read|no such file"):
        images.load(tmp_path / ("x" * 400 + ".png"))
    (tmp_path / "text.png").write_text("x")
    with pytest.raises(images.ImageError, match=r"text\.png/x\.png: no such file"):
        images.load(tmp_path / "text.png" / "x.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes exist on POSIX systems alone")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(images.ImageError, match=r"pipe\.png: this is a device or a pipe"):
        images.load(tmp_path / "pipe.png")


@pytest.mark.parametrize("name, shown", [
    (b"caf\xe9.png", r"caf\udce9.png"),
    (b"two\nlines.png", r"two\nlines.png"),
    ("Bild \u00fc \u56fe.png".encode(), "Bild \u00fc \u56fe.png"),
])
def test_messages_can_be_printed_whatever_the_file_is_called(tmp_path, name, shown):
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        with open(path, "wb") as file:
            file.write(b"junk")
    except OSError:
        pytest.skip("this file system takes no such name; it is one of several tested here")
    with pytest.raises(images.ImageError) as caught:
        images.load(os.fsdecode(path))
    message = str(caught.value)
    assert shown in message
    assert "\n" not in message
    assert message.encode("utf-8").decode("utf-8") == message


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heic_without_its_package_is_named(tmp_path, monkeypatch, brand):
    monkeypatch.setattr(image_formats, "readable_suffixes", lambda: frozenset([".png"]))
    content = b"\x00\x00\x00\x18ftyp" + brand + bytes(40)
    (tmp_path / "phone.HEIC").write_bytes(content)
    with pytest.raises(images.ImageError, match=r"phone\.HEIC.*HEIC.*pip install pillow-heif"):
        images.load(tmp_path / "phone.HEIC")


def test_heic_is_read_where_its_package_is_installed(tmp_path, square):
    pytest.importorskip("pillow_heif", reason="pillow-heif is optional; only this test needs it")
    assert ".heic" in images.readable_suffixes()
    square.save(tmp_path / "phone.heic", quality=95)
    x = images.load(tmp_path / "phone.heic")
    assert x.shape == (3, 30, 40)
    assert x[0, 5, 5] > 0.9


def test_readable_suffixes_are_those_of_raster_images():
    suffixes = images.readable_suffixes()
    for suffix in "png jpg jpeg jfif jpe mpo bmp dib tif tiff gif ppm pgm pbm pnm tga ico".split():
        assert f".{suffix}" in suffixes
    for suffix in "pdf eps ps mpg mpeg h5 grib bufr wmf emf fits txt".split():
        assert f".{suffix}" not in suffixes
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


# ---- Colour profiles -----------------------------------------------------------------------------

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([
    [0.8951, 0.2664, -0.1614],
    [-0.7502, 1.7135, 0.0367],
    [0.0389, -0.0685, 1.0296],
])


def light_of_srgb(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def srgb_of_light(v):
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


def fixed_point(values):
    return struct.pack(f">{len(values)}i", *(round(65536 * v) for v in values))


def curve_tag(curve):
    """A tone curve: a gamma, or a function of [0, 1] sampled at 1024 places."""
    if callable(curve):
        samples = np.round(65535 * curve(np.linspace(0, 1, 1024))).astype(">u2")
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + samples.tobytes()
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * curve))


def icc_profile(space, tags, kind=b"mntr", connection=b"XYZ ", intent=0):
    """The bytes of an ICC profile of version 2. Intent 0 is perceptual, 1 relative colorimetric."""
    name = b"made by a test\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0",
            b"wtpt": b"XYZ \0\0\0\0" + fixed_point(D50), **tags}
    table = b""
    data = b""
    for key, content in tags.items():
        table += key + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = 132 + len(table) + len(data)
    kinds = struct.pack(">4s4s4s12x4s", kind, space, connection, b"acsp")
    header = struct.pack(">I4xI", size, 0x02400000) + kinds + struct.pack(">24xI", intent)
    header = (header + fixed_point(D50)).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + data


def to_xyz(primaries):
    """Linear RGB to XYZ of D50, for primaries and white D65."""
    columns = [[x / y, 1, (1 - x - y) / y] for x, y in primaries]
    matrix = np.array(columns).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    matrix = matrix * np.linalg.solve(matrix, white)
    gains = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ gains @ BRADFORD @ matrix


def rgb_profile(primaries, curve):
    tags = {}
    for letter, column in zip((b"r", b"g", b"b"), to_xyz(primaries).T):
        tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + fixed_point(column)
        tags[letter + b"TRC"] = curve_tag(curve)
    return icc_profile(b"RGB ", tags)


def grey_profile(curve):
    return icc_profile(b"GRAY", {b"kTRC": curve_tag(curve)})


def cmyk_profile(lab_of):
    """A profile of 16 corners; `lab_of(c, m, y, k)` gives L, a, b of each."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    grid = b""
    for corner in corners:
        lightness, a, b = lab_of(*corner)
        grid += bytes([round(2.55 * lightness), round(a + 128), round(b + 128)])
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed_point([1, 0, 0, 0, 1, 0, 0, 0, 1])
    table += 4 * straight + grid + 3 * straight
    return icc_profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ", intent=1)


def shown(array, primaries, light_of):
    """What (H, W, 3) of a profile's RGB looks like in sRGB, by the definition: 0 to 255."""
    light = light_of(array / 255) @ to_xyz(primaries).T @ np.linalg.inv(to_xyz(SRGB)).T
    return 255 * srgb_of_light(light.clip(0, 1))


def colours(seed=0):
    """Colours that all these profiles and sRGB can show: between grey and half saturated."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(60, 220, (40, 50, 3))
    grey = colour.mean(2, keepdims=True)
    return (grey + 0.5 * (colour - grey)).round().astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("primaries, gamma", [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.2), (SRGB, 1.8)])
def test_a_colour_profile_is_converted_to_srgb(tmp_path, suffix, primaries, gamma):
    array = colours()
    expected = shown(array, primaries, lambda v: v**gamma)
    options = {"icc_profile": rgb_profile(primaries, gamma)}
    if suffix == "jpg":
        options |= {"quality": 100, "subsampling": 0}
    if suffix == "webp":
        options["lossless"] = True
    Image.fromarray(array).save(tmp_path / f"x.{suffix}", **options)
    error = np.abs(levels(load_without_a_word(tmp_path / f"x.{suffix}")) - expected)
    assert error.mean() <= 1
    if suffix != "jpg":  # which loses colour by itself
        assert error.max() <= 1.5
    assert np.abs(array - expected).mean() > 2  # so the profile mattered


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "L", "I;16"])
def test_profiles_of_other_modes(tmp_path, mode):
    """Gamma 1.8 turns level 100 into 255 srgb((100 / 255)^1.8), in colour and in grey."""
    expected = (255 * srgb_of_light((100 / 255) ** 1.8)).round()
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    else:
        image = Image.new("RGB", (8, 8), (100, 100, 100))
        image = image.convert(mode, palette=Image.Palette.ADAPTIVE)
    if mode in ("RGBA", "LA"):
        alpha = Image.new("L", (8, 8), 255)
        alpha.putpixel((0, 0), 0)
        image.putalpha(alpha)
    profile = rgb_profile(SRGB, 1.8) if mode in ("RGBA", "P") else grey_profile(1.8)
    image.save(tmp_path / "x.png", icc_profile=profile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 16-bit grey, whose profile is converted with 8 bits
        found = levels(images.load(tmp_path / "x.png"))
    assert np.abs(found[1:] - expected).max() <= 1
    if mode in ("RGBA", "LA"):
        assert found[0, 0].tolist() == [255] * 3  # white is laid under after the conversion


@pytest.mark.parametrize("depth", ["8 bits", "16 bits"])
def test_a_grey_image_may_carry_a_profile_of_rgb(tmp_path, depth):
    grey = np.full((8, 8), 100, np.uint8)
    image = Image.fromarray(grey if depth == "8 bits" else grey.astype(np.uint16) * 257)
    image.save(tmp_path / "x.png", icc_profile=rgb_profile(SRGB, 1.8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = levels(images.load(tmp_path / "x.png"))
    assert np.abs(found - 255 * srgb_of_light((100 / 255) ** 1.8)).max() <= 1


@pytest.mark.parametrize("profile", [
    ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    rgb_profile(SRGB, light_of_srgb),
    grey_profile(light_of_srgb),
], ids=["sRGB of lcms", "sRGB with a table", "grey with the curve of sRGB"])
def test_a_profile_of_srgb_leaves_every_bit_as_it_is(tmp_path, profile):
    is_grey = profile[16:20] == b"GRAY"
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (64, 64) if is_grey else (64, 64, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "tagged.png", icc_profile=profile)
    Image.fromarray(array).save(tmp_path / "plain.png")
    tagged = load_without_a_word(tmp_path / "tagged.png")
    assert torch.equal(tagged, images.load(tmp_path / "plain.png"))
    deep = rng.integers(0, 65536, (64, 64), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png", icc_profile=profile)
    found = load_without_a_word(tmp_path / "deep.png")[0].numpy()
    assert np.abs(found - deep / 65535).max() < 1e-6  # all 16 bits


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_goes_through_its_profile(tmp_path, suffix):
    """The profile's black is L = 20, where Pillow's own formula gives 0."""
    profile = cmyk_profile(lambda c, m, y, k: (100 - 80 * k if c + m + y == 0 else 20, 0, 0))
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 16, 8))
    image.save(tmp_path / f"tagged.{suffix}", icc_profile=profile)
    found = levels(load_without_a_word(tmp_path / f"tagged.{suffix}"))
    assert np.abs(found[0] - 255).max() <= 2  # no ink is white, so nothing is inverted
    assert np.abs(found[-1] - 48).max() <= 3  # L = 20 is 48 in sRGB
    image.save(tmp_path / f"plain.{suffix}")
    plain = levels(load_without_a_word(tmp_path / f"plain.{suffix}"))
    assert plain[0].min() >= 253
    assert plain[-1].max() <= 2


def test_lab_becomes_rgb(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 100, 50)).convert("LAB")
    image.save(tmp_path / "x.tif")
    found = levels(load_without_a_word(tmp_path / "x.tif"))
    assert np.abs(found - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize("profile", [
    b"no profile" * 20,
    rgb_profile(DISPLAY_P3, 2.2)[:200],
    rgb_profile(DISPLAY_P3, 2.2)[:128] + bytes(400),
    grey_profile(1.8),
    cmyk_profile(lambda c, m, y, k: (50, 0, 0)),
], ids=["junk", "cut off", "empty table", "for grey", "for CMYK"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_unusable_profile_is_ignored_with_a_warning(tmp_path, profile, suffix):
    image = Image.fromarray(colours())
    image.save(tmp_path / f"tagged.{suffix}", icc_profile=profile)
    image.save(tmp_path / f"plain.{suffix}")
    with pytest.warns(UserWarning, match=rf"tagged\.{suffix}: its colour profile cannot be used"):
        found = images.load(tmp_path / f"tagged.{suffix}")
    assert torch.equal(found, images.load(tmp_path / f"plain.{suffix}"))


# ---- Samples: bits, signs, white, transparency ---------------------------------------------------


def png(rows, width, depth, colour, chunks=()):
    """The bytes of a PNG from its raw rows."""
    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    everything = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in everything)


@pytest.mark.parametrize("gamma, mark, expected", [
    (100000, (), [0, 188, 255]),  # samples are linear light
    (55556, (), [0, 145, 255]),  # an old Macintosh: gamma 1.8
    (45455, (), [0, 128, 255]),  # 1 / 2.2: what nearly all files say, and what their makers ignore
    (100000, ((b"sRGB", b"\0"),), [0, 128, 255]),  # sRGB comes first
])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_gamma_counts_where_it_is_not_that_of_srgb(tmp_path, gamma, mark, expected, depth):
    row = bytes([0, 128, 255]) if depth == 8 else struct.pack(">3H", 0, 128 * 257, 65535)
    chunks = (*mark, (b"gAMA", struct.pack(">I", gamma)))
    (tmp_path / "x.png").write_bytes(png([row], 3, depth, 0, chunks))
    found = levels(load_without_a_word(tmp_path / "x.png"))[0, :, 0]
    assert found.tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("depth, row, width, transparent, expected", [
    (1, b"\x0f", 8, 0, [255] * 8),
    (1, b"\x0f", 8, 1, [0] * 4 + [255] * 4),
    (2, b"\x1b", 4, 1, [0, 255, 170, 255]),
    (2, b"\x1b", 4, 0, [255, 85, 170, 255]),
    (4, b"\x03\x8f", 4, 3, [0, 255, 136, 255]),
    (4, b"\x03\x8f", 4, 8, [0, 51, 255, 255]),
    (8, bytes([0, 10, 85, 255]), 4, 10, [0, 255, 85, 255]),
    (16, struct.pack(">4H", 0, 2570, 21845, 65535), 4, 2570, [0, 255, 85, 255]),
    (16, struct.pack(">4H", 0, 2570, 21845, 65535), 4, 0, [255, 10, 85, 255]),
])
def test_the_transparent_grey_of_a_png_is_white(tmp_path, depth, row, width, transparent, expected):
    chunks = [(b"tRNS", struct.pack(">H", transparent))]
    (tmp_path / "x.png").write_bytes(png([row], width, depth, 0, chunks))
    assert levels(load_without_a_word(tmp_path / "x.png"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_white(tmp_path, depth):
    first, second = [18, 86, 154], [40, 50, 60]
    scale = 257 if depth == 16 else 1
    row = b"".join(struct.pack(">H" if depth == 16 else ">B", scale * v) for v in first + second)
    chunks = [(b"tRNS", struct.pack(">3H", *(scale * v for v in first)))]
    (tmp_path / "x.png").write_bytes(png([row], 2, depth, 2, chunks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 16-bit colour
        assert levels(images.load(tmp_path / "x.png"))[0].tolist() == [[255] * 3, second]


def test_16_bit_colour_is_read_with_8_bits_and_said_once(tmp_path):
    row = struct.pack(">6H", 0, 1000, 20000, 40000, 50000, 65535)
    rgb = np.frombuffer(row, ">u2").astype(np.uint16).reshape(1, 2, 3)
    (tmp_path / "x.png").write_bytes(png([row], 2, 16, 2))
    (tmp_path / "x.ppm").write_bytes(b"P6\n2 1\n65535\n" + row)
    tifffile.imwrite(tmp_path / "x.tif", rgb, photometric="rgb")
    for name in ("x.png", "x.ppm", "x.tif"):
        image_colours._warned.clear()
        with pytest.warns(UserWarning, match=rf"{name}: stores more than 8 bits"):
            x = images.load(tmp_path / name)
        assert np.abs(x.permute(1, 2, 0).numpy() - rgb / 65535).max() <= 1 / 255
        load_without_a_word(tmp_path / name)  # the second time


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_jpeg_2000_of_more_than_8_bits_is_said(tmp_path, suffix):
    Image.fromarray(colours()).save(tmp_path / f"x.{suffix}")
    load_without_a_word(tmp_path / f"x.{suffix}")
    content = bytearray((tmp_path / f"x.{suffix}").read_bytes())
    start = content.index(b"\xff\x4f\xff\x51") + 42
    assert content[start : start + 9 : 3] == bytes([7, 7, 7])  # bits - 1 of three channels
    content[start : start + 9 : 3] = bytes([11, 11, 11])
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.warns(UserWarning, match="stores more than 8 bits per colour"):
        images.load(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("largest", [1, 100, 255, 1023, 4095, 65535])
def test_grey_netpbm_of_any_depth_keeps_its_levels(tmp_path, largest):
    values = np.array([0, largest // 3, largest // 2, largest])
    kind = ">u2" if largest > 255 else np.uint8
    header = f"P5\n4 1\n{largest}\n".encode()
    (tmp_path / "x.pgm").write_bytes(header + values.astype(kind).tobytes())
    step = 1 / 255 if largest <= 255 else 1 / 65535
    found = load_without_a_word(tmp_path / "x.pgm")[0, 0].numpy()
    assert np.abs(found - values / largest).max() <= step / 2 + 1e-6


def test_grey_jpeg_2000_keeps_16_bits(tmp_path):
    grey = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "x.jp2")
    assert np.abs(load_without_a_word(tmp_path / "x.jp2")[0].numpy() - grey / 65535).max() < 1e-6


def test_white_of_a_12_bit_tiff_is_4095(tmp_path):
    values = [0, 1024, 4095, 2048]
    bits = "".join(f"{value:012b}" for value in values)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 1, 279: len(data)}
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in tags.items():
        content += struct.pack("<HHII", tag, 4, 1, value)
    content += bytes(4)
    assert len(content) == 122
    (tmp_path / "x.tif").write_bytes(content + data)
    found = load_without_a_word(tmp_path / "x.tif")[0, 0]
    assert found.tolist() == pytest.approx([value / 4095 for value in values])


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_whose_zero_is_white_is_the_negative(tmp_path, kind, compression):
    count = 2 if kind is np.bool_ else np.iinfo(kind).max + 1
    array = np.random.default_rng(0).integers(0, count, (16, 24)).astype(kind)
    for name in ("miniswhite", "minisblack"):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric=name, compression=compression)
    zero_is_white = load_without_a_word(tmp_path / "miniswhite.tif")
    zero_is_black = load_without_a_word(tmp_path / "minisblack.tif")
    assert zero_is_black.max() > 0.9
    assert torch.allclose(zero_is_white, 1 - zero_is_black, atol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiff_of_either_byte_order(tmp_path, order, compression):
    grey = np.random.default_rng(0).integers(0, 65536, (16, 24), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", grey, byteorder=order, compression=compression)
    assert np.abs(load_without_a_word(tmp_path / "x.tif")[0].numpy() - grey / 65535).max() < 1e-6


@pytest.mark.parametrize("kind, reason", [
    ("int8", "signed integers"),
    ("int16", "signed 16-bit integers"),
    ("int32", "signed 32-bit integers"),
    ("uint32", "32-bit integers|Pillow knows"),
    ("uint64", "Pillow knows"),
    ("float16", "Pillow knows|float"),
    ("float32", "float samples"),
    ("float64", "Pillow knows|float"),
])
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_without_a_fixed_white_are_refused(tmp_path, kind, reason, order):
    array = np.arange(48).reshape(6, 8).astype(kind)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", byteorder=order)
    with pytest.raises(images.ImageError, match=rf"x\.tif: cannot be read.*({reason})"):
        images.load(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix, mode", [("pfm", "F"), ("tif", "F"), ("tif", "I")])
def test_floats_and_32_bit_integers_of_other_formats_are_refused(tmp_path, suffix, mode):
    Image.new(mode, (8, 8), 1).save(tmp_path / f"x.{suffix}")
    with pytest.raises(images.ImageError, match="no fixed range"):
        images.load(tmp_path / f"x.{suffix}")


def test_16_bit_colour_in_planes_is_right_or_refused(tmp_path):
    """Pillow mixes up the planes of a file without compression alone."""
    planes = np.random.default_rng(0).integers(0, 65536, (3, 16, 24), dtype=np.uint16)
    settings = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "raw.tif", planes, **settings)
    with pytest.raises(images.ImageError, match=r"raw\.tif.*planes"):
        images.load(tmp_path / "raw.tif")
    tifffile.imwrite(tmp_path / "zlib.tif", planes, compression="zlib", **settings)
    with pytest.warns(UserWarning, match="8 are read"):
        x = images.load(tmp_path / "zlib.tif")
    assert np.abs(x.numpy() - planes / 65535).max() <= 1 / 255


def bmp_with_alpha(colour, alpha):
    """The bytes of a BMP of 32 bits whose header names the fourth byte as alpha."""
    pixels = np.dstack([colour[..., ::-1], alpha])[::-1].tobytes()
    height, width = alpha.shape
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += masks + b"BGRs" + bytes(48)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


@pytest.mark.parametrize("suffix", ["bmp", "tga"])
@pytest.mark.parametrize("alpha, expected", [
    ([[0, 0]], [[200, 100, 50], [200, 100, 50]]),  # empty everywhere: nobody meant it
    ([[255, 255]], [[200, 100, 50], [200, 100, 50]]),
    ([[0, 255]], [[255, 255, 255], [200, 100, 50]]),
    ([[0, 1]], [[255, 255, 255], [255, 254, 254]]),
])
def test_an_alpha_of_0_everywhere_is_no_alpha_in_bmp_and_tga(tmp_path, suffix, alpha, expected):
    colour = np.full((1, 2, 3), (200, 100, 50), np.uint8)
    alpha = np.array(alpha, np.uint8)
    if suffix == "bmp":
        (tmp_path / "x.bmp").write_bytes(bmp_with_alpha(colour, alpha))
    else:
        Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "x.tga")
    assert np.abs(levels(images.load(tmp_path / f"x.{suffix}"))[0] - expected).max() <= 1


# ---- The limit of pixels -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1500, 700])  # Pillow warns above it, and stops at twice of it
def test_an_image_of_too_many_pixels_is_refused_in_one_sentence(tmp_path, monkeypatch, limit):
    images.save(tmp_path / "x.png", torch.rand(3, 40, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
        with pytest.raises(images.ImageError) as caught:
            images.load(tmp_path / "x.png")
    assert not said
    message = str(caught.value)
    assert f"limit of {limit:,} pixels" in message
    for part in ("x.png", "PIL.Image.MAX_IMAGE_PIXELS = None", "IQA_MAX_PIXELS=none"):
        assert part in message


def test_no_limit_and_a_higher_limit_read_the_image(tmp_path, monkeypatch):
    images.save(tmp_path / "x.png", torch.rand(3, 40, 50))
    for limit in (None, 2000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert images.load(tmp_path / "x.png").shape == (3, 40, 50)


@pytest.mark.parametrize("value", ["none", "NONE", "0", "2000", "2_000", "2,000", "2e3"])
def test_the_command_line_has_a_way_out(tmp_path, monkeypatch, value):
    images.save(tmp_path / "x.png", torch.rand(3, 40, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    monkeypatch.setenv("IQA_MAX_PIXELS", value)
    assert images.size(tmp_path / "x.png") == (50, 40)
    assert images.load(tmp_path / "x.png").shape == (3, 40, 50)


@pytest.mark.parametrize("value, sentence", [
    ("1999", "limit of 1,999 pixels"),
    ("many", "IQA_MAX_PIXELS=many is no number"),
    ("-5", "IQA_MAX_PIXELS=-5 is no number"),
    ("nan", "IQA_MAX_PIXELS=nan is no number"),
])
def test_a_limit_that_is_too_low_or_no_number(tmp_path, monkeypatch, value, sentence):
    images.save(tmp_path / "x.png", torch.rand(3, 40, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setenv("IQA_MAX_PIXELS", value)
    with pytest.raises(images.ImageError, match=sentence):
        images.load(tmp_path / "x.png")


# ---- Saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tga", ".ppm"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_level_survives_saving_in_any_float(tmp_path, suffix, kind):
    x = images.from_uint8(torch.arange(256, dtype=torch.uint8)).expand(3, 2, 256)
    images.save(tmp_path / f"x{suffix}", x.to(kind).requires_grad_())
    assert torch.equal(images.load(tmp_path / f"x{suffix}"), x)


def test_saving_takes_the_rounding_that_metrics_take(tmp_path):
    x = torch.rand(3, 8, 8)
    x[0, 0, 0] = -5e-5
    x[0, 0, 1] = 1 + 5e-5
    images.save(tmp_path / "x.png", x)
    assert images.load(tmp_path / "x.png")[0, 0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("x, sentence", [
    (255 * torch.ones(3, 8, 8), "but holds 255 to 255: divide 0-255 images by 255"),
    (torch.full((3, 8, 8), -0.1), "but holds -0.1"),
    (torch.full((3, 8, 8), torch.nan), "but holds nan to nan: find where the NaN arises"),
    (torch.full((3, 8, 8), torch.inf), "but holds inf"),
    (torch.zeros(3, 8, 8, dtype=torch.uint8), r"torch\.uint8: convert"),
    (torch.rand(1, 8, 8), r"repeat grey by x\.expand"),
    (torch.rand(8, 8), r"shape \(3, H, W\)"),
    (torch.rand(4, 8, 8), r"leave transparency out by x\[:3\]"),
    (torch.rand(8, 8, 3), r"shape \(3, H, W\)"),
    (torch.rand(2, 3, 8, 8), r"one image of a batch as x\[i\]"),
    (torch.rand(3, 0, 8), "at least one image and one pixel"),
    (np.zeros((8, 8, 3)), "type ndarray"),
])
def test_what_is_no_image_is_not_saved(tmp_path, x, sentence):
    with pytest.raises(ValueError, match=rf"x\.png: .*{sentence}"):
        images.save(tmp_path / "x.png", x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x", "x.", "x.xyz", "x.pdf", "x.psd", "x.xbm", "x.eps", ".png"])
def test_a_name_that_is_no_image_format_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"Choose \.png"):
        images.save(tmp_path / name, torch.rand(3, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_rounding_to_8_bits_of_any_float(kind):
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_uint8(images.from_uint8(every).to(kind)), every)


# ---- Sizes and crops ----------------------------------------------------------------------------


def test_fit_mirrors_without_repeating_an_edge_jump():
    x = torch.rand(2, 3, 5, 50)
    y = images.fit(x, 32)
    assert y.shape == (2, 3, 32, 50)
    top = (32 - 5) // 2
    assert torch.equal(y[:, :, top : top + 5], x)
    rows = y[0, 0, :, 0]
    step = (x[0, 0, 1:, 0] - x[0, 0, :-1, 0]).abs().max()
    assert (rows[1:] - rows[:-1]).abs().max() <= step  # wrapping round would jump at the edge
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
    first = images.crops(x, 32, "random", seed=1)
    assert not torch.equal(first, images.crops(x, 32, "random", seed=2))
    with pytest.raises(ValueError, match="'five', 'grid' or 'random'"):
        images.crops(x, 32, "tiles")
