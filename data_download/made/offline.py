"""The offline set: a full-reference and no-reference training set that needs no download.

Ten photographs that scikit-image and scikit-learn carry in their wheels, and eight drawn scenes,
are put through the distortion bank. Each distorted image is labelled with a PROXY score: the mean
human score of the same (type, level) cell in KADID-10k. No human saw these images; the 125 cell
means are what the label can know.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree

from data_download.made.kadid_cells import kadid_cells
from iqa_core import distortion_tools, distortion_types, distortions, files, images

HEIGHT, WIDTH = 288, 384  # the smallest photograph is 300 x 451

# package, file, and by how much to shrink it: large scans are shrunk so that a crop shows a scene,
# not a detail
PHOTOGRAPHS = {
    "astronaut": ("skimage.data", "astronaut.png", 1),
    "chelsea": ("skimage.data", "chelsea.png", 1),
    "coffee": ("skimage.data", "coffee.png", 1),
    "rocket": ("skimage.data", "rocket.jpg", 1),
    "motorcycle": ("skimage.data", "motorcycle_left.png", 1),
    "retina": ("skimage.data", "retina.jpg", 3),
    "tissue": ("skimage.data", "ihc.png", 1),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg", 2),
    "china": ("sklearn.datasets.images", "china.jpg", 1),
    "flower": ("sklearn.datasets.images", "flower.jpg", 1),
}


def photograph(name: str) -> torch.Tensor:
    """288 x 384 pixels of a shipped photograph, a little above its middle: (3, 288, 384) in [0, 1].

    >>> photograph("coffee").shape
    torch.Size([3, 288, 384])
    """
    package, file, shrink = PHOTOGRAPHS[name]
    # The stored samples as they are: one photograph carries an Adobe RGB profile, and the scores
    # that are measured on this set belong to these pixels.
    with (resources.files(package) / file).open("rb") as stream, Image.open(stream) as image:
        x = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    if shrink > 1:
        x = torch.nn.functional.avg_pool2d(x, shrink)
    top, left = (x.shape[1] - HEIGHT) // 4, (x.shape[2] - WIDTH) // 2
    return x[:, top : top + HEIGHT, left : left + WIDTH]


def _leaves(rng: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
    """Dead leaves: discs that cover one another, radii by a power law as in natural images."""
    for radius in sorted(8 / rng.uniform(0.04, 1, 1500), reverse=True):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=tuple(rng.integers(20, 236, 3))
        )


def _page(rng: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
    """A printed page: fine dark strokes on a light ground."""
    draw.rectangle((0, 0, w, h), fill=(244, 240, 230))
    words = "quality distortion reference observer sharpness contrast colour noise edge texture"
    words = [*words.split(), "score"]
    for row, top in enumerate(range(20, h, 44)):
        ink = (30, 30, 40) if row % 4 else (150, 30, 30)
        draw.text(
            (24, top), " ".join(rng.choice(words, 9)), fill=ink, font=ImageFont.load_default(28)
        )


def _city(rng: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
    """A skyline at dusk: straight edges, repeated windows, a smooth sky."""
    for y in range(h):
        draw.line((0, y, w, y), fill=(40 + 150 * y // h, 60 + 90 * y // h, 130 - 20 * y // h))
    for left in range(-20, w, 70):
        width, top, shade = (
            int(rng.integers(50, 110)),
            int(rng.integers(h // 5, h * 3 // 4)),
            int(rng.integers(25, 70)),
        )
        draw.rectangle((left, top, left + width, h), fill=(shade, shade, shade + 12))
        for y in range(top + 12, h - 10, 24):
            for x in range(left + 8, left + width - 12, 20):
                if rng.random() < 0.6:
                    draw.rectangle(
                        (x, y, x + 9, y + 12), fill=(250, 215, int(rng.integers(80, 180)))
                    )


def _hills(rng: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
    """Hills one behind the other under a bright sky: large smooth areas."""
    for y in range(h):
        draw.line((0, y, w, y), fill=(120 + 100 * y // h, 170 + 60 * y // h, 235))
    draw.ellipse((w * 0.7, h * 0.1, w * 0.7 + 90, h * 0.1 + 90), fill=(255, 244, 200))
    x = np.arange(w)
    for layer in range(6):
        phase, waves = rng.uniform(0, 6.3, 3), rng.uniform(1, 9, 3)
        y = h * (0.3 + 0.12 * layer) + sum(
            h * 0.05 / (i + 1) * np.sin(waves[i] * x / w * 6.3 + phase[i]) for i in range(3)
        )
        ground = (90 - 10 * layer, 140 - 15 * layer, 110 - 16 * layer)
        draw.polygon([(0, h), *zip(x.tolist(), y.tolist()), (w, h)], fill=ground)


def _plaid(rng: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
    """Woven cloth: crossing stripes in a regular pattern."""
    draw.rectangle((0, 0, w, h), fill=(150, 30, 45))
    for step, width, colour in (
        (96, 30, (20, 60, 50)),
        (96, 6, (235, 220, 170)),
        (48, 3, (15, 20, 40)),
    ):
        offset = int(rng.integers(0, step))
        for x in range(offset, w, step):
            draw.rectangle((x, 0, x + width, h), fill=colour)
        for y in range(offset, h, step):
            for x in range(y // 2 % 4, w, 4):  # every other thread, so that stripes cross
                draw.rectangle((x, y, x + 1, y + width), fill=colour)


def _glass(rng: np.random.Generator) -> np.ndarray:
    """Stained glass: Voronoi cells of saturated colour with dark lead lines."""
    points, colours = (
        rng.uniform(0, 1, (90, 2)) * [2 * HEIGHT, 2 * WIDTH],
        rng.uniform(0.1, 0.95, (90, 3)),
    )
    pixels = np.indices((2 * HEIGHT, 2 * WIDTH)).transpose(1, 2, 0)
    distance, nearest = cKDTree(points).query(pixels, k=2)
    return (
        colours[nearest[..., 0]]
        * np.clip((distance[..., 1] - distance[..., 0]) / 6, 0.08, 1)[..., None]
    )


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Clouds: noise whose amplitude falls as 1 / frequency, the spectrum of natural images."""
    f = np.hypot(np.fft.fftfreq(2 * HEIGHT)[:, None], np.fft.rfftfreq(2 * WIDTH))
    noise = rng.normal(size=(*f.shape, 2)) @ [1, 1j] / np.maximum(f, 1e-3) ** 1.3
    field = np.fft.irfft2(noise, (2 * HEIGHT, 2 * WIDTH))
    field = np.clip((field - field.mean()) / field.std() / 4 + 0.5, 0, 1)[..., None]
    return field * [0.98, 0.98, 1.0] + (1 - field) * [0.25, 0.45, 0.8]


def _fractal(rng: np.random.Generator) -> np.ndarray:
    """A piece of the Mandelbrot set: detail at every scale."""
    y, x = np.mgrid[-0.16 : 0.16 : 2j * HEIGHT, -0.9133 : -0.4867 : 2j * WIDTH]
    c = x + 1j * (y + 0.6)
    z, count = np.zeros_like(c), np.zeros(c.shape)
    for _ in range(80):
        inside = np.abs(z) < 4
        z[inside] = z[inside] ** 2 + c[inside]
        count += inside
    return 0.5 + 0.45 * np.cos(count[..., None] * 0.25 + np.array([0.0, 2.1, 4.2]))


DRAWN = {"leaves": _leaves, "page": _page, "city": _city, "hills": _hills, "plaid": _plaid}
COMPUTED = {"glass": _glass, "clouds": _clouds, "fractal": _fractal}
CONTENTS = (*PHOTOGRAPHS, *DRAWN, *COMPUTED)


def scene(name: str) -> torch.Tensor:
    """A drawn scene, (3, 288, 384) in [0, 1]; made at twice the size and averaged down, so edges
    are smooth.

    >>> scene("hills").shape
    torch.Size([3, 288, 384])
    """
    rng = np.random.default_rng(CONTENTS.index(name))
    if name in DRAWN:
        image = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT))
        DRAWN[name](rng, ImageDraw.Draw(image), *image.size)
        array = np.asarray(image) / 255
    else:
        array = COMPUTED[name](rng)
    return torch.nn.functional.avg_pool2d(torch.from_numpy(array).permute(2, 0, 1).float(), 2)


def reference(name: str) -> torch.Tensor:
    """One of the 18 undistorted images by its name in `CONTENTS`, rounded to 8 bits: (3, 288, 384)
    in [0, 1]."""
    return images.from_uint8(
        images.to_uint8(photograph(name) if name in PHOTOGRAPHS else scene(name))
    )


def make(folder: Path) -> None:
    """Write references, distorted images and `table.csv` into `folder`.

    Every content meets every type at two of its five levels. Which two rotates with content and
    type, so each of the 125 cells is met by about seven contents.
    """
    cells = kadid_cells().set_index(["type", "level"])["mean"]
    (folder / "references").mkdir()
    (folder / "distorted").mkdir()
    x = torch.stack([reference(name) for name in CONTENTS])
    for name, image in zip(CONTENTS, x):
        images.save(folder / "references" / f"{name}.png", image)
    rows = []
    with ThreadPoolExecutor() as pool:  # PNG compression runs outside Python's lock
        for number, kind in enumerate(files.progress(distortions.TYPES, "offline set"), start=1):
            for step in (0, 2):
                levels = [(c + number + step) % 5 + 1 for c in range(len(CONTENTS))]
                generator = torch.Generator().manual_seed(100 * number + step)
                names = [
                    f"distorted/{name}_{number:02d}_{level}.png"
                    for name, level in zip(CONTENTS, levels)
                ]
                batch = distortions.distort(x, kind, levels, generator)
                list(pool.map(images.save, [folder / file for file in names], batch))
                rows += [
                    (file, f"references/{name}.png", cells[number, level], name, kind, level)
                    for file, name, level in zip(names, CONTENTS, levels)
                ]
    columns = ["image", "reference", "raw_score", "content", "distortion", "level"]
    table = pd.DataFrame(rows, columns=columns).sort_values("image")
    table.to_csv(folder / "table.csv", index=False, float_format="%.4f")


def prepare() -> Path:
    """The folder of the offline set; made in about half a minute when it is not there.

    The folder's name carries a hash of the code that makes it, so a changed bank makes a new set.
    """
    code = files.code_hash(__file__, distortions, distortion_types, distortion_tools)
    name = f"offline-{code[:8]}"
    return files.prepare(files.cache_dir() / name, make)
