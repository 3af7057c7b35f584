"""Metrics: analytic values, agreement with scipy, scikit-image and piq, and what bad input is told."""

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import structural_similarity

from iqa_core import batches
from iqa_core.metrics import (bootstrap, krcc, logistic_fit, ms_ssim, plcc, plcc_logistic, psnr, rmse, srcc, ssim,
                              ssim_map)

GOOD = torch.full((1, 3, 20, 20), 0.5)
CORRELATIONS = [srcc, krcc, plcc, plcc_logistic]


def scores(n=200, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    mos = rng.random(n)
    return mos + noise * rng.standard_normal(n), mos


def images(*shape, noise=0.1, seed=0):
    """Smooth images and noisy versions of them: SSIM of pure noise would hide errors in the structure term."""
    generator = torch.Generator().manual_seed(seed)
    x_ref = torch.nn.functional.avg_pool2d(torch.rand(*shape, generator=generator), 5, 1, 2)
    x_ref = (x_ref - x_ref.min()) / (x_ref.max() - x_ref.min())
    return (x_ref + noise * torch.randn(*shape, generator=generator)).clamp(0, 1), x_ref


# ---- Correlations ------------------------------------------------------------------------------------------------


def test_correlations_equal_scipy():
    pred, mos = scores()
    pred = pred.round(1)  # with ties
    assert srcc(pred, mos) == pytest.approx(stats.spearmanr(pred, mos).statistic, abs=1e-12)
    assert krcc(pred, mos) == pytest.approx(stats.kendalltau(pred, mos).statistic, abs=1e-12)
    assert plcc(pred, mos) == pytest.approx(stats.pearsonr(pred, mos).statistic, abs=1e-12)
    assert rmse(pred, mos) == pytest.approx(np.sqrt(((pred - mos) ** 2).mean()), abs=1e-12)


def test_ties_share_the_average_rank():
    assert srcc([5, 5, 8, 9], [1, 2, 3, 4]) == pytest.approx(np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3, 4])[0, 1])


@pytest.mark.parametrize("bend", [np.exp, np.tanh, lambda x: x**3])
def test_rank_correlations_ignore_an_increasing_bend(bend):
    pred, mos = scores()
    assert srcc(bend(pred), mos) == pytest.approx(srcc(pred, mos), abs=1e-12)
    assert krcc(bend(pred), mos) == pytest.approx(krcc(pred, mos), abs=1e-12)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_the_wrong_direction_stays_negative(correlation):
    pred, mos = scores()
    assert correlation(-pred, mos) < -0.5
    assert correlation(pred, mos) > 0.5


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_arrays_tensors_and_lists_agree(correlation):
    pred, mos = scores(50)
    tensor = torch.tensor(pred, requires_grad=True)
    assert correlation(tensor, mos.tolist()) == correlation(pred, torch.tensor(mos))
    assert isinstance(correlation(tensor, mos), float)


@pytest.mark.parametrize("statistic", [*CORRELATIONS, rmse])
@pytest.mark.parametrize("pred, mos, sentence", [
    ([1, np.nan, 3, np.inf], [1, 2, 3, 4], "pred holds 2 NaN or infinite values of 4, first at index 1"),
    ([1, 2, 3], [1, 2, np.nan], "mos holds 1 NaN"),
    ([1, 2, 3], [1, 2, 3, 4], "pred has 3 values and mos has 4"),
    ([1, 2], [1, 2], "2 images are too few"),
    ([[1], [2], [3]], [1, 2, 3], "pred must be one-dimensional, but has shape \\(3, 1\\)"),
])
def test_bad_numbers_get_one_sentence(statistic, pred, mos, sentence):
    with pytest.raises(ValueError, match=sentence):
        statistic(pred, mos)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_a_constant_side_warns_and_gives_nan(correlation):
    with pytest.warns(UserWarning, match="pred is constant .all 4 values are 0.5."):
        assert np.isnan(correlation([0.5] * 4, [1, 2, 3, 4]))
    with pytest.warns(UserWarning, match="mos is constant"):
        assert np.isnan(correlation([1, 2, 3, 4], [0.5] * 4))


# ---- The logistic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale, shift", [(1, 0), (1e-4, 0), (1e4, -3e5)])
def test_logistic_recovers_its_own_curve_in_any_units(scale, shift):
    x = np.random.default_rng(0).uniform(-3, 3, 300)
    mos = 0.2 + 0.7 / (1 + np.exp(-(x - 0.4) / 0.5))
    fitted = logistic_fit(scale * x + shift, mos)
    grid = np.linspace(-3, 3, 61)
    assert np.abs(fitted(scale * grid + shift) - (0.2 + 0.7 / (1 + np.exp(-(grid - 0.4) / 0.5)))).max() < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("bend", [lambda x: x, np.exp, np.sqrt, lambda x: x > 0.5])
def test_logistic_is_never_worse_than_the_line_and_never_falls(noise, bend):
    rng = np.random.default_rng(0)
    pred = rng.random(100)
    mos = bend(pred) + noise * rng.standard_normal(100)
    fitted = logistic_fit(pred, mos)
    line = np.poly1d(np.polyfit(pred, mos, 1))
    assert rmse(fitted(pred), mos) <= rmse(line(pred), mos) + 1e-5
    assert (np.diff(fitted(np.linspace(-1, 2, 200))) >= 0).all()
    assert plcc_logistic(pred, mos) >= plcc(pred, mos) - 1e-6


def test_logistic_survives_an_outlier():
    pred, mos = scores(100, noise=0.05)
    pred[0], mos[0] = 1e6, 1.0  # a near-infinite PSNR
    assert plcc(pred, mos) < 0.3
    assert plcc_logistic(np.append(pred[1:], 3.0), np.append(mos[1:], 1.0)) > 0.95


@pytest.mark.parametrize("pred, mos, reason, slope", [
    ([1, 2, 3, 4], [1, 3, 2, 4], "at least 5 images", 0.8),
    ([5, 4, 3, 2, 1, 0], [1, 2, 3, 4, 5, 6], "do not rise with mos", 0),
    ([2] * 6, [1, 2, 3, 4, 5, 6], "one side is constant", 0),
])
def test_logistic_way_out_is_a_line_that_does_not_fall(pred, mos, reason, slope):
    with pytest.warns(UserWarning, match=reason):
        fitted = logistic_fit(pred, mos)
    assert fitted([0, 1]) == pytest.approx(np.mean(mos) + slope * (np.array([0, 1]) - np.mean(pred)))


def test_the_wrong_direction_is_not_flattered():
    pred, mos = scores()
    assert plcc_logistic(-pred, mos) == plcc(-pred, mos)


# ---- The bootstrap -----------------------------------------------------------------------------------------------


def test_bootstrap_is_seeded_and_narrows_with_more_images():
    pred, mos = scores(60)
    low, high = bootstrap(pred, mos, n=200)
    assert low < srcc(pred, mos) < high
    assert bootstrap(pred, mos, n=200) == (low, high) != bootstrap(pred, mos, n=200, seed=1)
    more = bootstrap(*scores(600), n=200)
    assert more[1] - more[0] < 0.6 * (high - low)  # by a factor of about 10^0.5


def test_bootstrap_of_plcc_agrees_with_fishers_interval():
    rng = np.random.default_rng(0)
    x, y = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 400).T
    low, high = bootstrap(x, y, plcc, n=2000)
    z, reach = np.arctanh(plcc(x, y)), 1.96 / np.sqrt(397)
    assert (low, high) == pytest.approx((np.tanh(z - reach), np.tanh(z + reach)), abs=0.015)


def test_resampling_contents_covers_the_truth_and_resampling_images_does_not():
    """Twenty images of a content share its offset: 30 contents are 30 pieces of evidence, not 600."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)

    def draw(contents):
        offset = rng.standard_normal((2, contents)) + rng.standard_normal(contents)
        return (np.repeat(offset, 20, 1) + 0.3 * rng.standard_normal((2, 20 * contents)))

    def mean_product(a, b):  # a statistic whose true value is known: E[a b] = 1
        return np.mean(a * b)

    hits = {"contents": 0, "images": 0}
    for trial in range(40):
        a, b = draw(30)
        for name, by in (("contents", groups), ("images", None)):
            low, high = bootstrap(a, b, mean_product, n=200, seed=trial, groups=by)
            hits[name] += low <= 1 <= high
    assert hits["contents"] >= 31  # 40 trials of a 95 % interval, somewhat narrow with 30 contents
    assert hits["images"] <= 20


@pytest.mark.parametrize("arguments, sentence", [
    ({"groups": [0, 1]}, "groups has shape \\(2,\\)"),
    ({"groups": [0] * 30 + [1] * 30}, "have 2 contents"),
])
def test_bootstrap_refuses(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        bootstrap(*scores(60), **arguments)


# ---- Pictures ----------------------------------------------------------------------------------------------------


def test_psnr_of_a_known_error():
    x_ref = torch.full((2, 3, 8, 8), 0.5)
    x = x_ref + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(x, x_ref).tolist() == pytest.approx([20, 40], abs=1e-3)
    assert psnr(x_ref, x_ref).isinf().all()


def test_identical_images_score_one():
    x = images(2, 3, 176, 180)[0]
    for score in (ssim(x, x), ms_ssim(x, x), ssim_map(x, x).flatten()):
        assert torch.equal(score, torch.ones_like(score))


def test_ssim_of_flat_images_is_its_luminance_term():
    a, b = 0.2, 0.7
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    found = ssim(torch.full((1, 1, 20, 20), a), torch.full((1, 1, 20, 20), b))
    assert found.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("score", [psnr, ssim, ms_ssim])
def test_more_noise_scores_lower(score):
    x_ref = images(1, 3, 176, 176)[1]
    found = [score(images(1, 3, 176, 176, noise=noise)[0], x_ref).item() for noise in (0.02, 0.05, 0.1, 0.3)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("shape", [(2, 3, 48, 65), (1, 1, 33, 40)])
def test_ssim_equals_scikit_image(shape):
    x, x_ref = images(*shape)
    ours, map_ = ssim(x, x_ref), ssim_map(x, x_ref)
    for i in range(shape[0]):
        theirs, full = structural_similarity(
            x[i].double().numpy(), x_ref[i].double().numpy(), channel_axis=0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1, full=True)
        assert ours[i].item() == pytest.approx(theirs, abs=1e-4)
        assert np.abs(map_[i].numpy() - full[:, 5:-5, 5:-5]).max() < 1e-3


@pytest.mark.parametrize("shape", [(2, 3, 176, 200), (1, 3, 161, 187), (1, 1, 395, 520)])
def test_ssim_and_ms_ssim_equal_piq(shape):
    piq = pytest.importorskip("piq", reason="piq is not installed; it is needed for this comparison alone")
    x, x_ref = images(*shape)
    for downsample in (False, True):
        theirs = piq.ssim(x, x_ref, downsample=downsample, reduction="none")
        assert torch.allclose(ssim(x, x_ref, downsample=downsample), theirs, atol=1e-4)
    assert torch.allclose(ms_ssim(x, x_ref), piq.multi_scale_ssim(x, x_ref, reduction="none"), atol=1e-4)
    assert torch.allclose(psnr(x, x_ref), piq.psnr(x, x_ref, reduction="none"), atol=1e-3)


def test_downsampling_factor_is_the_authors():
    """640 pixels / 256 = 2.5, which the authors' code rounds to 3."""
    x, x_ref = images(1, 1, 640, 641)
    pooled = [torch.nn.functional.avg_pool2d(v, 3) for v in (x, x_ref)]
    assert torch.equal(ssim(x, x_ref, downsample=True), ssim(*pooled))


def test_gradients_are_right_and_finite():
    x, x_ref = (v.double() for v in images(1, 2, 11, 12))
    assert torch.autograd.gradcheck(lambda v: ssim(v, x_ref), x.clamp(0.01, 0.99).requires_grad_())
    x, x_ref = images(1, 1, 170, 170)
    x = (1 - x_ref).requires_grad_()  # negative structure at every scale: its power has no finite slope at 0
    ms_ssim(x, x_ref).sum().backward()
    assert x.grad.isfinite().all()


def test_half_precision_and_autocast_do_not_cost_precision():
    x, x_ref = images(1, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ssim(x, x_ref)
    assert torch.equal(inside, ssim(x, x_ref))
    assert ssim(x.half(), x_ref.half()).dtype == torch.float32


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("score", [psnr, ssim, ms_ssim])
@pytest.mark.parametrize("kind", FLOATS)
def test_every_float_is_measured_and_half_counts_as_single(score, kind):
    x, x_ref = images(1, 3, 176, 176)
    found = score(x.to(kind), x_ref.to(kind))
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert found.item() == pytest.approx(score(x, x_ref).item(), rel=0.01)
    mixed = score(x.to(kind), x_ref)
    assert mixed.item() == pytest.approx(score(x, x_ref).item(), rel=0.01)


@pytest.mark.parametrize("score", [psnr, ssim, ssim_map, ms_ssim])
@pytest.mark.parametrize("x, x_ref, sentence", [
    (torch.rand(3, 20, 20), GOOD, "x must be a tensor of shape .B, C, H, W., but has shape .3, 20, 20."),
    (GOOD, GOOD.numpy(), "x_ref must be a tensor of shape .B, C, H, W., but has type ndarray"),
    (GOOD, torch.rand(1, 3, 20, 21), "x has shape .1, 3, 20, 20. and x_ref has .1, 3, 20, 21."),
    (GOOD, torch.full_like(GOOD, 255), "x_ref must hold values in .0, 1., but holds 255 to 255"),
    (torch.full_like(GOOD, torch.nan), GOOD, "x must hold values in .0, 1., but holds nan"),
    (GOOD.byte(), GOOD, "x must be float in .0, 1., but is torch.uint8"),
    (GOOD, GOOD.long(), "x_ref must be float in .0, 1., but is torch.int64"),
    (GOOD > 0, GOOD, "x must be float in .0, 1., but is torch.bool"),
    (GOOD.to(torch.complex64), GOOD, "x must be float in .0, 1., but is torch.complex64"),
    (GOOD[:0], GOOD, "but has shape .0, 3, 20, 20."),
    (GOOD[0, 0], GOOD, "but has shape .20, 20.: stack images"),
    (GOOD, GOOD[:, :1], "x has shape .1, 3, 20, 20. and x_ref has .1, 1, 20, 20."),
    (GOOD - 0.501, GOOD, "x must hold values in .0, 1., but holds -0.001"),
])
def test_bad_images_get_one_sentence(score, x, x_ref, sentence):
    with pytest.raises(ValueError, match=sentence):
        score(x, x_ref)


def test_too_small_images_get_one_sentence():
    small = torch.rand(1, 3, 160, 10)
    with pytest.raises(ValueError, match="160 x 10 pixels, but this metric needs 11 x 11"):
        ssim(small, small)
    with pytest.raises(ValueError, match="needs 161 x 161"):
        ms_ssim(torch.rand(1, 3, 160, 300), torch.rand(1, 3, 160, 300))


def test_one_pixel_is_enough_for_psnr_alone():
    x = torch.full((2, 3, 1, 1), 0.6)
    assert psnr(x, x - 0.1).tolist() == pytest.approx([20, 20], abs=1e-3)
    with pytest.raises(ValueError, match="1 x 1 pixels, but this metric needs 11 x 11"):
        ssim(x, x)


def test_expect_returns_its_tensor():
    x = torch.rand(1, 3, 4, 4)
    assert batches.expect(x) is x
    assert batches.expect(x, channels=3) is x  # no copy
    assert batches.expect(x.double()).dtype == torch.float64


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (5, 3, 1, 1), (2, 3, 7, 1)])
def test_expect_with_channels_returns_single_precision(kind, shape):
    x = torch.full(shape, 0.25, dtype=kind)
    found = batches.expect(x, channels=3)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.full(shape, 0.25))


@pytest.mark.parametrize("shape, remedy", [
    ((1, 1, 8, 9), "repeat grey by x.expand(-1, 3, -1, -1)"),
    ((1, 4, 8, 9), "lay transparency over white"),
    ((1, 8, 9, 3), "put the channels before the rows by x.permute(0, 3, 1, 2)"),
    ((1, 2, 8, 9), "give 3 of them"),
    ((3, 8, 9), "give one image as x[None]"),
])
def test_expect_names_the_remedy_for_other_channels(shape, remedy):
    with pytest.raises(ValueError) as caught:
        batches.expect(torch.rand(shape), "the image", channels=3)
    message = str(caught.value)
    assert message.startswith("the image must ")
    assert str(shape) in message
    assert remedy in message


def test_the_remedies_for_channels_work():
    grey = torch.rand(2, 1, 8, 9)
    assert batches.expect(grey.expand(-1, 3, -1, -1), channels=3).shape == (2, 3, 8, 9)
    x = torch.rand(2, 4, 8, 9)
    x[0, 3] = 0
    flat = batches.expect(x[:, :3] * x[:, 3:] + 1 - x[:, 3:], channels=3)
    assert torch.equal(flat[0], torch.ones(3, 8, 9))
    assert batches.expect(torch.rand(2, 8, 9, 3).permute(0, 3, 1, 2), channels=3).shape == (2, 3, 8, 9)
