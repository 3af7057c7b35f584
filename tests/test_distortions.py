"""The distortion bank: against the plain version, by measured statistics, and on every kind of input."""

import numpy as np
import plain_distortions
import pytest
import torch
from skimage import color, data, filters

from iqa_core import distortion_types
from iqa_core.color import RGB_TO_YCBCR, lab_to_rgb, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from iqa_core.distortions import IDENTITY, LEVELS, PARAMETERS, TYPES, distort

CELLS = [(name, level) for name in TYPES for level in range(1, 6)]
RANDOM = {"motion_blur", "color_shift", "white_noise", "white_noise_ycbcr", "impulse_noise",
          "multiplicative_noise", "denoise", "jitter", "non_eccentricity_patch", "color_block"}
FIXED = [name for name in TYPES if name not in RANDOM]
# Lens: the plain version counts points in the disc. Lab: powers in float32. Codecs and tables: exact.
TOLERANCE = {"lens_blur": 2e-4, "color_diffusion": 1e-4, "color_saturation_2": 1e-4, "high_sharpen": 1e-4,
             "jpeg": 0, "jpeg2000": 0, "pixelate": 0, "quantization": 0}


def as_image(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1) / 255


ASTRONAUT = as_image(data.astronaut()[20:180, 150:290])  # 160 x 140: not square, face and dark ground
CHELSEA = as_image(data.chelsea()[60:220, 100:240])
NOISE = torch.rand(3, 70, 50, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(x: torch.Tensor, name: str, level: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(plain_distortions.plain(x.permute(1, 2, 0).numpy(), name, LEVELS[name][level - 1],
                                                    rng)).permute(2, 0, 1)


def test_the_bank_is_kadids():
    assert len(TYPES) == 25 and TYPES[0] == "gaussian_blur" and TYPES[24] == "contrast_change"
    assert all(len(LEVELS[name]) == 5 and PARAMETERS[name] for name in TYPES)
    assert LEVELS["mean_shift"] == (0.15, 0.08, 0, -0.08, -0.15)


@pytest.mark.filterwarnings("ignore:.*negative Z values")
@pytest.mark.parametrize("name", [name for name in FIXED if name != "color_quantization"])
def test_equals_the_plain_version(name):
    for x in (ASTRONAUT, NOISE):
        ours = distort(x.expand(5, -1, -1, -1), name, [1, 2, 3, 4, 5])
        theirs = torch.stack([plain(x, name, level) for level in range(1, 6)])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE.get(name, 2e-6))


def test_color_quantization_is_no_worse_than_pillows_palette():
    for level, most in enumerate(LEVELS["color_quantization"], 1):
        ours, theirs = (f(ASTRONAUT, "color_quantization", level) for f in (distort, plain))
        assert len(torch.unique(ours.flatten(1), dim=1).T) <= most
        assert (ours - ASTRONAUT).square().mean() < 1.1 * (theirs - ASTRONAUT).square().mean()


def test_lab_and_ycbcr_equal_skimage():
    x = torch.rand(2, 3, 40, 40, generator=seeded())
    lab = torch.from_numpy(color.rgb2lab(x.numpy(), channel_axis=1))
    torch.testing.assert_close(rgb_to_lab(x), lab, rtol=0, atol=1e-3)  # of 100
    torch.testing.assert_close(lab_to_rgb(lab), x, rtol=0, atol=1e-5)
    ycbcr = torch.from_numpy(color.rgb2ycbcr(x.numpy(), channel_axis=1)) / 255
    torch.testing.assert_close(rgb_to_ycbcr(x), ycbcr, rtol=0, atol=1e-6)
    torch.testing.assert_close(ycbcr_to_rgb(ycbcr), x, rtol=0, atol=1e-5)


def impulse_response(name: str, p: float) -> torch.Tensor:
    """The kernel of a blur: what it makes of one white pixel in a black image."""
    x = torch.zeros(1, 3, 41, 41)
    x[..., 20, 20] = 1
    return getattr(distortion_types, name)(x, float(p), seeded(3))[0, 0]


def test_lens_kernel_is_matlabs_disk():
    kernel = impulse_response("lens_blur", 1)[19:22, 19:22]
    known = torch.tensor([[0.0251, 0.1453, 0.0251], [0.1453, 0.3183, 0.1453], [0.0251, 0.1453, 0.0251]])
    torch.testing.assert_close(kernel, known, rtol=0, atol=1e-4)


def test_motion_kernel_is_matlabs_at_the_drawn_angle():
    known = torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125])  # fspecial('motion', 4, 0)
    assert np.allclose(plain_distortions.motion_kernel(4, 0)[2], known)
    degrees = int(torch.rand(1, generator=seeded(3)) * 181)
    for p in LEVELS["motion_blur"]:
        kernel = torch.from_numpy(plain_distortions.motion_kernel(p, degrees)).float()
        r = len(kernel) // 2
        ours = impulse_response("motion_blur", p)[20 - r:21 + r, 20 - r:21 + r]
        torch.testing.assert_close(ours.flip(0, 1), kernel, rtol=0, atol=1e-6)
        assert ours.sum().item() == pytest.approx(1, abs=1e-6)


def test_otsu_finds_the_best_cuts():
    histograms = torch.randint(0, 50, (3, 256), generator=seeded()) * (torch.arange(256) % 7 == 0)
    for n in (1, 2, 3):
        for histogram, cuts in zip(histograms, distortion_types.otsu(histograms, n)):
            best = filters.threshold_multiotsu(hist=(histogram.numpy(), np.arange(256)), classes=n + 1)
            assert variance(histogram, cuts) == pytest.approx(variance(histogram, torch.tensor(best) + 1))


def variance(histogram: torch.Tensor, cuts: torch.Tensor) -> float:
    """Between-class variance up to a constant: sum over classes of (sum of values)^2 / count."""
    counts, values = histogram.double(), torch.arange(256.0, dtype=torch.float64)
    parts = torch.tensor_split(torch.arange(256), cuts.long().cpu())
    return sum(((counts[i] * values[i]).sum() ** 2 / counts[i].sum().clamp(min=1)).item() for i in parts)


@pytest.mark.parametrize("level", [1, 5])
@pytest.mark.parametrize("name", ["white_noise", "multiplicative_noise", "white_noise_ycbcr"])
def test_noise_has_the_variance_of_its_level(name, level):
    x = torch.full((1, 3, 256, 256), 0.5)
    error = distort(x, name, level, seeded()) - x
    expected = torch.full((3,), LEVELS[name][level - 1])
    if name == "multiplicative_noise":
        expected = expected * 0.25
        assert error.abs().max() <= (12 * expected[0]).sqrt() / 2 + 1e-6  # uniform, not Gaussian
    if name == "white_noise_ycbcr":  # the variances of Y, Cb and Cr add up through the matrix back to RGB
        expected = expected * torch.linalg.inv(RGB_TO_YCBCR).square().sum(1)
    torch.testing.assert_close(error.var((0, 2, 3)), expected, rtol=0.03, atol=0)
    assert error.mean().abs() < 0.002


def test_impulse_noise_has_its_density():
    for level, density in enumerate(LEVELS["impulse_noise"], 1):
        y = distort(torch.full((1, 3, 512, 512), 0.5), "impulse_noise", level, seeded())
        spread = (density / 2 / y.numel()) ** 0.5
        for value in (0, 1):
            assert (y == value).float().mean().item() == pytest.approx(density / 2, abs=4 * spread)


def test_denoise_removes_most_of_the_noise_and_then_some():
    noisy, smooth = distort(CHELSEA, "white_noise", 5, seeded()), distort(CHELSEA, "denoise", 1, seeded())
    assert (smooth - CHELSEA).square().mean() < 0.3 * (noisy - CHELSEA).square().mean()  # same variance, 0.01
    assert distort(NOISE, "denoise", 1, seeded()).std() < 0.9 * NOISE.std()  # it smooths texture, too
    shrunk = plain_distortions.shrink(NOISE.permute(1, 2, 0).numpy(), 0.5)
    ours = distortion_types.shrink(NOISE[None], 0.5)[0]
    torch.testing.assert_close(ours, torch.from_numpy(shrunk).permute(2, 0, 1), rtol=0, atol=1e-5)


def test_color_shift_moves_green_at_edges_by_the_drawn_step():
    way = torch.rand(1, 2, generator=seeded(5))
    step = (way / way.norm() * 8).round().int().tolist()[0]
    theirs = plain_distortions.shift_green(CHELSEA.permute(1, 2, 0).numpy(), step)
    ours = distortion_types.color_shift(CHELSEA[None], 8.0, seeded(5))[0]
    torch.testing.assert_close(ours, torch.from_numpy(theirs).permute(2, 0, 1), rtol=0, atol=1e-5)


def test_jitter_moves_a_ramp_by_the_variance_of_five_steps():
    ramp = torch.linspace(0.2, 0.8, 200).expand(1, 3, 200, 200)
    moved = (distort(ramp, "jitter", 3, seeded()) - ramp)[..., 20:-20] / (0.6 / 199)  # in px
    # Bicubic interpolation averages the earlier steps of the neighbours a little, so it is below sqrt(5) 0.2.
    assert 0.75 * 5 ** 0.5 * 0.2 < moved.std().item() < 1.02 * 5 ** 0.5 * 0.2


def test_patches_hold_only_pixels_of_nearby_places():
    h, w = 80, 96
    y, x = torch.meshgrid(torch.arange(h) / 255, torch.arange(w) / 255, indexing="ij")
    place = torch.stack([y, x, torch.zeros(h, w)])
    move = (distort(place, "non_eccentricity_patch", 1, seeded()) - place) * 255
    changed = (move.round() != 0).any(0)
    assert 0 < changed.float().mean() <= 20 * 256 / (h * w)
    assert changed[8:-8, 8:-8].sum() == changed.sum()  # a margin of 16 px less an offset of 8


def test_color_blocks_are_squares_of_one_color():
    x = torch.full((1, 3, 300, 300), 0.5)
    for level, count in enumerate(LEVELS["color_block"], 1):
        y = distort(x, "color_block", level, seeded(level))[0]
        changed = (y != 0.5).any(0)
        assert 32 * 32 < changed.sum() <= count * 32 * 32
        assert len(torch.unique(y.flatten(1), dim=1).T) <= count + 1


@pytest.mark.parametrize("name", TYPES)
def test_only_the_identity_cells_leave_the_image_as_it_is(name):
    y = distort(CHELSEA.expand(5, -1, -1, -1), name, [1, 2, 3, 4, 5], seeded())
    same = {(name, level) for level in range(1, 6) if (y[level - 1] - CHELSEA).abs().max() < 1e-3}
    assert same == {cell for cell in IDENTITY if cell[0] == name}


@pytest.mark.parametrize("name", TYPES)
def test_the_generator_decides_everything(name):
    a, b, c = (distort(CHELSEA, name, 4, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert torch.equal(a, c) == (name not in RANDOM)


def test_a_mixed_batch_equals_one_by_one():
    cells = [(name, level) for name, level in CELLS if name in FIXED][::-1]
    x = torch.stack([ASTRONAUT[:, :96, :80], CHELSEA[:, :96, :80]])[torch.arange(len(cells)) % 2]
    names, levels = zip(*cells)
    numbers = torch.tensor([TYPES.index(name) + 1 for name in names])
    mixed = distort(x, names, levels)
    single = torch.stack([distort(*cell) for cell in zip(x, names, levels)])
    torch.testing.assert_close(mixed, single, rtol=0, atol=1e-5)
    assert torch.equal(mixed, distort(x, numbers, torch.tensor(levels)))


def test_a_mixed_batch_of_random_types_keeps_its_order():
    names = ["color_block", "white_noise", "color_block", "white_noise"]
    y = distort(torch.full((4, 3, 64, 64), 0.5), names, [1, 1, 5, 5], seeded())
    colors = [len(torch.unique(p.flatten(1), dim=1).T) for p in y]
    assert colors[0] <= 3 and 3 < colors[2] <= 11
    assert y[1].std() < y[3].std() and min(colors[1], colors[3]) > 1000


@pytest.mark.parametrize("shape", [(32, 32), (33, 71), (100, 47)])
def test_every_type_on_small_and_oblong_images(shape):
    x = torch.rand(5, 3, *shape, generator=seeded())
    for name in TYPES:
        y = distort(x, name, [1, 2, 3, 4, 5], seeded())
        assert y.shape == x.shape and y.dtype == x.dtype and 0 <= y.min() and y.max() <= 1, name


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_flat_grey_images_stay_finite(value):
    x = torch.full((5, 3, 40, 40), value)
    for name in TYPES:
        assert distort(x, name, [1, 2, 3, 4, 5], seeded()).isfinite().all(), name


def test_grey_images_stay_grey_under_brightness_and_blur():
    grey = CHELSEA.mean(0, keepdim=True).expand(3, -1, -1)
    for name in ("lens_blur", "darken", "brighten", "contrast_change", "color_saturation_1", "jpeg"):
        y = distort(grey, name, 4)
        assert (y - y.mean(0)).abs().max() < 2e-3, name


def test_dtype_gradient_and_single_image():
    for dtype in (torch.float64, torch.float16):
        y = distort(CHELSEA.to(dtype), "brighten", 3)
        assert y.dtype == dtype and y.shape == CHELSEA.shape
    x = CHELSEA.clone().requires_grad_()
    distort(torch.stack([x, x]), ["color_saturation_2", "jitter"], 2, seeded()).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0
    before = CHELSEA.clone()
    for name in TYPES:
        distort(CHELSEA, name, 5, seeded())
    assert torch.equal(before, CHELSEA)  # the input is never written to


@pytest.mark.parametrize("args, error, words", [
    ((torch.zeros(3, 40, 40, dtype=torch.uint8), "jpeg", 1), ValueError, "uint8.*/ 255"),
    ((np.zeros((3, 40, 40)), "jpeg", 1), ValueError, "a tensor of shape"),
    ((torch.zeros(1, 40, 40), "jpeg", 1), ValueError, "repeat a grey image"),
    ((torch.zeros(40, 40), "jpeg", 1), ValueError, "shape"),
    ((torch.zeros(0, 3, 40, 40), "jpeg", 1), ValueError, "shape"),
    ((torch.zeros(3, 31, 40), "jpeg", 1), ValueError, "at least 32 px"),
    ((torch.full((3, 40, 40), 255.0), "jpeg", 1), ValueError, "holds 255 to 255"),
    ((torch.full((3, 40, 40), torch.nan), "jpeg", 1), ValueError, "holds nan to nan"),
    ((torch.zeros(3, 40, 40), "gauss", 1), ValueError, "'gauss'.*gaussian_blur"),
    ((torch.zeros(3, 40, 40), 26, 1), ValueError, "26"),
    ((torch.zeros(3, 40, 40), 0, 1), ValueError, "type is 0"),
    ((torch.zeros(3, 40, 40), "jpeg", 0), ValueError, "level is 0"),
    ((torch.zeros(3, 40, 40), "jpeg", 2.5), ValueError, "level is 2.5"),
    ((torch.zeros(2, 3, 40, 40), ["jpeg"] * 3, 1), ValueError, "3 types, 2 levels, 2 images"),
])
def test_a_wrong_input_gets_one_sentence(args, error, words):
    with pytest.raises(error, match=words) as caught:
        distort(*args)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TYPES)
def test_cuda_equals_cpu(name):
    x = torch.stack([ASTRONAUT] * 5)
    y = distort(x.cuda(), name, [1, 2, 3, 4, 5], torch.Generator("cuda").manual_seed(0))
    assert y.is_cuda and y.isfinite().all()
    if name not in RANDOM:
        torch.testing.assert_close(y.cpu(), distort(x, name, [1, 2, 3, 4, 5]), rtol=0, atol=2e-3)
