"""Baselines: BRISQUE against piq, the ridge against scikit-learn, and the feature cache."""

import multiprocessing
import sys
import warnings

import numpy as np
import pandas as pd
import piq  # noqa: F401  (loads piq.brisque, which the function of the same name hides)
import pytest
import skimage.data
import torch
from sklearn.linear_model import Ridge

from iqa_core import baselines, data, images, metrics
from iqa_core.baselines import Brisque, FullReference, brisque_features
from iqa_core.features import FrozenRidge, pooled
from iqa_core.frozen_mlp import FAR, FrozenMLP
from iqa_core.reiqa import ReIQAConfig


def photo(name: str = "coffee", size: int = 256) -> torch.Tensor:
    """(1, 3, size, size) from the middle of a photograph that scikit-image ships."""
    x = images.from_uint8(torch.from_numpy(getattr(skimage.data, name)().copy()).permute(2, 0, 1))
    top, left = (x.shape[1] - size) // 2, (x.shape[2] - size) // 2
    return x[None, :, top : top + size, left : left + size]


def noisy(x: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    return (x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def dataset(tmp_path):
    """36 pictures, 64 x 64: 12 places in 3 photographs at 3 levels of noise, which lowers the score."""
    rows = []
    for name in ("coffee", "astronaut", "chelsea"):
        for i, patch in enumerate(images.crops(photo(name)[0], 64, "grid", n=2)):
            for level, sigma in enumerate((0.0, 0.05, 0.15)):
                file = f"{name}-{i}-{level}.png"
                images.save(tmp_path / file, noisy(patch, sigma, seed=len(rows)))
                rows.append((file, 1 - 0.3 * level - 0.01 * i, f"{name}-{i}"))
    pd.DataFrame(rows, columns=["image", "score", "content"]).to_csv(tmp_path / "mine.csv", index=False)
    return data.from_csv(tmp_path / "mine.csv", low=0, high=1)


METHODS = [Brisque, lambda: FrozenRidge(weights="offline"), lambda: FrozenMLP(ReIQAConfig("content", content_weights="offline", readout="pyramid"))]


@pytest.mark.parametrize("make", METHODS, ids=["brisque", "ridge", "mlp"])
def test_fit_score_predict_agree_and_point_upwards(make, dataset):
    train, val, test = data.splits(dataset, seed=0)
    method = make().fit(train, val)
    pred = method.predict(test)
    one_by_one = [method.score(test.image(i)[None]).item() for i in range(len(test))]
    assert np.allclose(pred, one_by_one, atol=1e-4)
    together = method.score(torch.stack([test.image(i) for i in range(len(test))]))
    assert together.shape == (len(test),) and np.allclose(pred, together, atol=1e-4)
    assert metrics.srcc(pred, test.scores) > 0.7  # higher = better: the noise pulls it down


@pytest.mark.parametrize("make, largest", [*zip(METHODS, (100_000, 100_000, 700_000))], ids=["brisque", "ridge", "mlp"])
def test_a_saved_method_gives_the_same_scores(make, largest, dataset, tmp_path):
    train, val, test = data.splits(dataset, seed=0)
    method = make().fit(train, val)
    method.save(tmp_path / "fitted.pt")
    again = type(method).load(tmp_path / "fitted.pt")
    assert np.array_equal(again.predict(test), method.predict(test))
    assert (tmp_path / "fitted.pt").stat().st_size < largest


def test_files_of_other_methods_or_weights_are_refused(dataset, tmp_path):
    Brisque().fit(dataset).save(tmp_path / "brisque.pt")
    with pytest.raises(ValueError, match="brisque.pt: holds no fitted frozen ridge but .brisque."):
        FrozenRidge.load(tmp_path / "brisque.pt")
    FrozenRidge(weights="random").fit(dataset).save(tmp_path / "random.pt")
    with pytest.raises(ValueError, match="Fit it again, or use the same weights"):
        FrozenRidge.load(tmp_path / "random.pt")  # random weights are other weights every time
    (tmp_path / "cut.pt").write_bytes((tmp_path / "brisque.pt").read_bytes()[:200])
    with pytest.raises(ValueError, match="cut.pt: cannot be read as weights"):
        Brisque.load(tmp_path / "cut.pt")
    for verb, argument in (("predict", dataset), ("save", tmp_path / "empty.pt")):
        with pytest.raises(RuntimeError, match="brisque is not fitted"):
            getattr(Brisque(), verb)(argument)
    assert not (tmp_path / "empty.pt").exists()


def test_the_ridge_is_sklearns_with_the_best_alpha_on_the_validation_part(dataset):
    train, val, test = data.splits(dataset, seed=1)
    method = FrozenRidge(weights="offline").fit(train, val)
    found = [pooled(part, method.extract, method.key).astype(np.float64) for part in (train, val, test)]
    mean, std = found[0].mean(0), np.maximum(found[0].std(0), 1e-6)
    z_train, z_val, z_test = ((f - mean) / std for f in found)
    ridges = [Ridge(alpha=alpha).fit(z_train, train.scores) for alpha in method.grid]
    best = int(np.argmax([metrics.srcc(ridge.predict(z_val), val.scores) for ridge in ridges]))
    assert method.state["alpha"] == method.grid[best]
    assert np.allclose(method.predict(test), ridges[best].predict(z_test), atol=1e-6)


def test_the_ridge_is_sklearns_with_many_pictures_and_few_features():
    rng = np.random.default_rng(0)
    f, y = rng.normal(5, 3, (60, 8)), rng.random(60)
    state = next(FrozenRidge(weights="random")._candidates(f, y, [7.0]))
    theirs = Ridge(alpha=7.0).fit((f - f.mean(0)) / f.std(0), y)
    assert np.allclose(state["w"], theirs.coef_) and np.isclose(state["b"], theirs.intercept_)


def test_the_small_networks_score_as_their_formula_says(dataset):
    train, _, test = data.splits(dataset, seed=1)
    method = METHODS[2]().fit(train)
    s = {name: np.asarray(value, np.float64) for name, value in method.state.items()}
    z = np.clip((method._features(test) - s["mean"]) / s["std"], -FAR, FAR)
    each = []
    for first, first_bias, last, last_bias in zip(s["first"], s["first_bias"], s["last"], s["last_bias"]):
        hidden = torch.nn.functional.gelu(torch.from_numpy(z @ first.T + first_bias)).numpy()
        each.append(hidden @ last + last_bias)
    assert np.allclose(method.predict(test), np.mean(each, 0), atol=1e-5)
    assert min(np.abs(a - b).max() for a, b in zip(each, each[1:])) > 0, "the members must differ"


def test_the_small_networks_have_no_full_reference_form():
    with pytest.raises(ValueError, match="frozen mlp has no full-reference form: leave out full_reference=True"):
        FrozenMLP(ReIQAConfig("content", content_weights="random", full_reference=True))


def test_the_small_networks_are_the_same_every_time_and_leave_the_callers_chance_alone(dataset):
    method = METHODS[2]()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = method.fit(dataset).state
    assert torch.equal(torch.rand(3), expected)
    assert all(np.array_equal(value, first[name]) for name, value in method.fit(dataset).state.items())


def test_the_constants_are_chosen_on_the_validation_part_alone(dataset):
    train, val = dataset.subset(range(0, 36, 2)), dataset.subset(range(1, 36, 2))
    chosen = []
    for scores in (val.scores, 1 - val.scores):  # turned round, another alpha must win; the rest stays
        turned = data.Dataset(val.name, val.table.assign(score=scores), val.root, val.card)
        chosen.append(FrozenRidge(weights="offline").fit(train, turned).state)
    assert chosen[0]["alpha"] != chosen[1]["alpha"]
    assert np.array_equal(chosen[0]["mean"], chosen[1]["mean"])


def test_brisque_agrees_with_piq():
    """Equal to 1e-3 at full size. At half size the borders are resized in another way: 0.03 in the shapes."""
    theirs = sys.modules["piq.brisque"]
    for name in ("coffee", "astronaut", "chelsea"):
        for x in (photo(name), noisy(photo(name), 0.05)):
            luma = torch.round(piq.functional.rgb2yiq(x.double() * 255)[:, :1])
            half = piq.functional.imresize(luma, sizes=(128, 128))
            statistics = theirs._natural_scene_statistics
            ours = brisque_features(x)
            assert torch.allclose(ours[:, :18], statistics(luma).float(), atol=1e-3)
            assert torch.allclose(ours[:, 18:], statistics(half).float(), atol=3e-2)


def test_brisque_sees_noise_and_blur_in_opposite_directions():
    clean = photo()
    spread = [brisque_features(noisy(clean, s))[0, 1].item() for s in (0, 0.01, 0.02, 0.05, 0.1)]
    assert spread == sorted(spread) and spread[-1] > 2 * spread[0]  # noise fills the smooth places
    blurred = torch.nn.functional.avg_pool2d(clean, 5, stride=1, padding=2)
    assert brisque_features(blurred)[0, 1] < spread[0]
    shape = [brisque_features(noisy(clean, s))[0, 0].item() for s in (0, 0.02, 0.05, 0.1)]
    assert shape == sorted(shape)  # lighter tails: the kurtosis falls towards the Gaussian's


def test_the_fits_recover_known_distributions():
    generator = torch.Generator().manual_seed(0)
    gauss = torch.randn(1, 1, 500, 500, generator=generator)
    uniform = torch.rand(1, 1, 500, 500, generator=generator) - 0.5
    laplace = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    assert abs(baselines.ggd(3 * gauss)[0, 0] - 2) < 0.03 and abs(baselines.ggd(3 * gauss)[0, 1] - 9) < 0.1
    assert abs(baselines.ggd(laplace)[0, 0] - 1) < 0.02
    skewed = torch.where(gauss < 0, gauss, 2 * gauss)  # as many on both sides, twice as wide on the right
    a, mean, left, right = baselines.aggd(torch.cat([gauss, skewed], 1)).view(2, 4)[1].tolist()
    assert abs(left - 1) < 0.02 and abs(right - 4) < 0.08 and mean > 0.3
    a, mean, left, right = baselines.aggd(gauss)[0].tolist()
    assert abs(a - 2) < 0.03 and abs(mean) < 0.01


def test_flat_and_tiny_pictures_have_finite_features():
    for x in (torch.zeros(1, 3, 16, 16), torch.full((1, 3, 9, 7), 0.5), torch.rand(1, 3, 2, 3)):
        assert brisque_features(x).isfinite().all()
        assert FrozenRidge(weights="random").extract(x).isfinite().all()


def test_full_reference_metrics_see_what_they_should():
    x_ref = photo(size=200)
    worse = torch.cat([noisy(x_ref, 0.02), noisy(x_ref, 0.1)])
    for name in ("psnr", "ssim", "ms_ssim"):
        mild, strong = FullReference(name).score(worse, x_ref.expand(2, -1, -1, -1)).tolist()
        same = FullReference(name).score(x_ref, x_ref).item()
        assert strong < mild < same < float("inf")
    # luma is blind to this change of colour: R - 0.1 and G + 0.1 * 0.299 / 0.587
    grey = torch.full((1, 3, 180, 180), 0.5)
    tinted = grey + torch.tensor([-0.1, 0.1 * 0.299 / 0.587, 0]).view(3, 1, 1)
    assert FullReference("ssim").score(tinted, grey).item() == pytest.approx(1, abs=1e-5)
    assert FullReference("psnr").score(tinted, grey).item() < 30
    with pytest.raises(ValueError, match="needs the reference"):
        FullReference("ssim").score(grey)
    with pytest.raises(ValueError, match="choose 'psnr', 'ssim' or 'ms_ssim'"):
        FullReference("fsim")


class Counter:
    """An `extract` that counts its calls."""

    calls = 0

    def __call__(self, x):
        self.calls += 1
        return x.mean((2, 3))


def test_the_cache_serves_every_part_and_notices_a_new_picture(dataset):
    extract = Counter()
    first = pooled(dataset.subset(range(10)), extract, "mean")
    assert extract.calls == 10 and first.shape == (10, 3) and first.dtype == np.float32
    everything = pooled(dataset, extract, "mean")
    assert extract.calls == len(dataset) and np.array_equal(everything[:10], first)
    backwards = pooled(dataset.subset(np.arange(len(dataset))[::-1]), extract, "mean")
    assert extract.calls == len(dataset) and np.array_equal(backwards, everything[::-1])
    images.save(dataset.root / dataset.table["image"][3], torch.zeros(3, 20, 20))
    changed = pooled(dataset, extract, "mean")
    assert extract.calls == len(dataset) + 1 and changed[3].max() == 0
    pooled(dataset, extract, "another key")
    assert extract.calls == 2 * len(dataset) + 1


def test_a_damaged_cache_is_named_and_built_again(dataset, tmp_path):
    extract = Counter()
    before = pooled(dataset, extract, "mean")
    (file,) = (tmp_path / "cache" / "features").glob("*.rows")
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(before[5].tobytes())] ^= 255  # a number, which would be read without a word
    for damage in (whole[: len(whole) // 2], b"", b"no numbers", bytes(flipped)):
        file.write_bytes(damage)
        with pytest.warns(UserWarning, match="what was computed before is damaged"):
            assert np.array_equal(pooled(dataset, extract, "mean"), before)
    assert extract.calls == 5 * len(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pooled(dataset, extract, "mean")
    assert extract.calls == 5 * len(dataset)


def test_a_broken_picture_is_named_and_costs_only_itself(dataset):
    file = dataset.root / dataset.table["image"][20]
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    extract = Counter()
    with pytest.raises(images.ImageError, match=file.name):
        pooled(dataset, extract, "mean")
    file.write_bytes(whole)
    pooled(dataset, extract, "mean")
    assert extract.calls == len(dataset)


def _count(dataset, answers):
    extract = Counter()
    pooled(dataset, extract, "mean")
    answers.put(extract.calls)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, which is quick and safe on Linux only")
def test_two_processes_share_the_work(dataset):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    both = [context.Process(target=_count, args=(dataset, answers)) for _ in range(2)]
    for process in both:
        process.start()
    calls = sorted(answers.get(timeout=60) for _ in both)
    for process in both:
        process.join(timeout=60)
    assert calls == [0, len(dataset)]  # the second one waited and read what the first had computed
