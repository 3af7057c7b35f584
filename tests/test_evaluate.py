"""Evaluation: nothing leaks between splits, every image keeps its prediction and its identity."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from iqa_core import comparisons, data, evaluate, metrics, small_tables


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """20 contents x 6 levels of noise; the score falls with the level."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    rows = []
    for content in range(20):
        reference = rng.integers(40, 216, (16, 16, 3))
        Image.fromarray(reference.astype(np.uint8)).save(folder / f"ref{content}.png")
        for level in range(6):
            noisy = (reference + 4 * (level + 1) * rng.standard_normal(reference.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"p{content}_{level}.png")
            rows.append((f"p{content}_{level}.png", f"ref{content}.png", 6 - level + 0.5 * rng.random(), level))
    pd.DataFrame(rows, columns=["image", "reference", "score", "level"]).to_csv(folder / "noise.csv", index=False)
    return data.from_csv(folder / "noise.csv")


def official(dataset):
    """The same set with an official test part of four contents."""
    table = dataset.table.assign(split=np.where(dataset.table["content"] < "ref12.png", "test", "train"))
    return data.Dataset(dataset.name, table, dataset.root, dataset.card)


def psnr_method(**more):
    return SimpleNamespace(name="PSNR", score=metrics.psnr, **more)


class Memory:
    """Remembers every score it was ever fitted on: the worst case for leaks between splits."""

    name = "memory"
    variant = "greedy"

    def __init__(self):
        self.known = {}
        self.fitted = 0

    def fit(self, train, val):
        self.fitted += 1
        self.known |= dict(zip(train.table["image"], train.scores))
        return self

    def predict(self, dataset):
        return np.array([self.known.get(name, 0.5) + 1e-3 * i for i, name in enumerate(dataset.table["image"])])


# ---- predict -----------------------------------------------------------------------------------------------------


def test_predict_gives_each_image_its_own_reference(dataset):
    some = dataset.subset([7, 3, 100])
    expected = [metrics.psnr(some.image(i)[None], some.reference(i)[None]).item() for i in range(3)]
    assert evaluate.predict(psnr_method(), some).tolist() == expected


def test_predict_gives_none_where_there_is_no_reference(dataset):
    some = dataset.subset([0, 1])
    some.table["reference"] = ""
    seen = []

    def score(x, x_ref):
        seen.append(x_ref)
        assert not torch.is_grad_enabled()
        return x.mean((1, 2, 3))

    found = evaluate.predict(SimpleNamespace(score=score), some)
    assert seen == [None, None] and found.dtype == np.float64 and found.shape == (2,)


def test_predict_names_the_image_whose_score_is_nan(dataset):
    broken = SimpleNamespace(score=lambda x, x_ref: x.mean((1, 2, 3)) * np.nan)
    with pytest.raises(ValueError, match=r"score of p0_3.png is NaN \(2 of 2 are\)"):
        evaluate.predict(broken, dataset.subset([3, 4]))
    some_nan = SimpleNamespace(predict=lambda d: np.where(np.arange(len(d)) == 1, np.nan, 0.0))
    with pytest.raises(ValueError, match=r"score of p0_4.png is NaN \(1 of 2 are\)"):
        evaluate.predict(some_nan, dataset.subset([3, 4]))


def test_predict_refuses_another_number_of_scores(dataset):
    with pytest.raises(ValueError, match=r"predict gave shape \(3,\) for 120 images"):
        evaluate.predict(SimpleNamespace(predict=lambda d: np.zeros(3)), dataset)


# ---- run ---------------------------------------------------------------------------------------------------------


def test_run_has_the_right_numbers(dataset):
    rows = evaluate.run(psnr_method(tasks=("FR",)), dataset, seeds=[0, 3], mode="smoke")
    test = data.splits(dataset, 3)[2]
    pred = evaluate.predict(psnr_method(), test)
    row = rows.iloc[1]
    for metric in evaluate.CORRELATIONS:
        assert row[metric] == getattr(metrics, metric)(pred, test.scores)
    assert row["rmse"] == metrics.rmse(metrics.logistic_fit(pred, test.scores)(pred), test.scores)
    within = comparisons.srcc_by_content(pred, test.scores, test.table["content"])
    assert len(within) == 4 and row["srcc_within"] == within.mean() > 0.8
    columns = ["method", "variant", "task", "epoch", "trained_on", "dataset", "images", "split", "seed", "repeat",
               "mode", "n", "n_train", "n_part"]
    assert row[columns].tolist() == ["PSNR", "", "FR", "last", "", "noise", 120, "random", 3, 0,
                                     "smoke", len(test), 0, 0]
    assert row["minutes"] > 0 and row["srcc"] > 0.8


def test_an_untrained_method_sees_each_test_image_once(dataset):
    seen = []
    method = SimpleNamespace(name="count", predict=lambda d: seen.extend(d.table["image"]) or np.arange(len(d)))
    evaluate.run(method, official(dataset), seeds=range(3))
    assert sorted(seen) == sorted(official(dataset).table.query("split == 'test'")["image"])


def test_nothing_learnt_on_one_split_reaches_the_next(dataset):
    method = Memory()
    rows = evaluate.run(method, dataset, seeds=range(4))
    assert method.fitted == 0 and not method.known
    assert rows["variant"].tolist() == ["greedy"] * 4
    for seed, row in zip(range(4), rows.itertuples()):
        train, _, test = data.splits(dataset, seed)
        assert row.srcc == metrics.srcc(Memory().fit(train, None).predict(test), test.scores)
        assert (row.n, row.n_train, row.n_part) == (len(test), len(train), len(train))
        assert (row.task, row.epoch, row.trained_on) == ("NR", "last", "noise")


def test_what_is_trained_on_one_set_is_tested_on_the_test_part_of_another(dataset):
    other = data.Dataset("other", dataset.table.iloc[:60].reset_index(drop=True), dataset.root, dataset.card)
    seen = []

    class Level:
        name, variant = "level", "plain"

        def fit(self, train, val):
            return self

        def predictions(self, part):
            seen.append((part.name, sorted(part.table["image"])))
            return {("NR", "last"): -part.table["level"].to_numpy(float)}

    rows = evaluate.run(Level(), dataset, [0, 1], "quick", others=[other])
    assert set(rows["variant"]) == {"plain"} and set(rows["trained_on"]) == {"noise"}
    assert rows["dataset"].tolist() == 2 * ["noise", "other"] and rows["images"].tolist() == 2 * [120, 60]
    assert rows["n_train"].nunique() == 1  # that of the set that was trained on
    wanted = [(part.name, sorted(data.splits(part, seed)[2].table["image"])) for seed in (0, 1) for part in (dataset, other)]
    assert seen == wanted


def test_training_is_seeded(dataset):
    class Random:
        name = "random"

        def fit(self, train, val):
            self.bias = torch.rand(1).item()
            return self

        def predict(self, dataset):
            return torch.rand(len(dataset)).numpy() + self.bias

    first, second = (evaluate.run(Random(), dataset, seeds=[1, 0][:n])["srcc"] for n in (2, 1))
    assert first[0] == second[0] and first[0] != first[1]


class Noise:
    """Its scores are noise, drawn when it is trained."""

    name = "noise"

    def fit(self, train, val):
        self.generator = torch.Generator().manual_seed(torch.randint(2**31, ()).item())
        return self

    def predict(self, dataset):
        return torch.rand(len(dataset), generator=self.generator).numpy()


def test_repeats_are_other_trainings_on_the_same_split(dataset):
    rows = evaluate.run(Noise(), dataset, seeds=[0, 1], repeats=3)
    assert rows[["seed", "repeat"]].values.tolist() == [[s, r] for s in (0, 1) for r in (0, 1, 2)]
    assert rows["srcc"].nunique() == 6 and rows["hash"].nunique() == 1
    once = evaluate.run(Noise(), dataset, seeds=[0, 1])
    assert rows.loc[rows["repeat"] == 0, "srcc"].tolist() == once["srcc"].tolist()
    result = comparisons.compare(rows, rows.assign(method="b", srcc=0.0))
    assert (result["pairs"], result["repeats"]) == (2, 3) and result["s_seed"] > 0
    fixed = evaluate.run(psnr_method(), dataset, seeds=[0, 1], repeats=3)
    assert comparisons.compare(fixed, rows)["repeats"] == 3


def test_n_train_is_the_number_of_labels_used(dataset):
    class Few(Memory):
        def fit(self, train, val):
            self.labels_used = 7
            return super().fit(train.subset(np.arange(7)), val)

    row = evaluate.run(Few(), dataset, seeds=[0]).iloc[0]
    assert (row["n_train"], row["n_part"]) == (7, len(data.splits(dataset, 0)[0]))


def test_a_method_with_an_identity_of_its_own_gives_its_columns(dataset):
    identity = {"method": "mine", "variant": "width=32", "hash": "0badcafe"}
    own = SimpleNamespace(identity=identity, predict=lambda d: np.arange(len(d)))
    row = evaluate.run(own, dataset, seeds=[0]).iloc[0]
    assert row[["method", "variant", "hash"]].tolist() == ["mine", "width=32", "0badcafe"]


def test_other_settings_of_a_plain_method_have_another_hash():
    def method(**settings):
        return SimpleNamespace(name="mine", predict=len, **settings)

    one = evaluate.identity(method(width=16, rates=(0.1, 0.2)))
    assert one == evaluate.identity(method(rates=(0.1, 0.2), width=16))
    assert len(one["hash"]) == 8 and int(one["hash"], 16) >= 0
    assert one["hash"] != evaluate.identity(method(width=32, rates=(0.1, 0.2)))["hash"]
    assert one["hash"] != evaluate.identity(method(width=16, rates=(0.1, 0.3)))["hash"]


def test_official_split_is_reported(dataset):
    rows = evaluate.run(Memory(), official(dataset), seeds=[0, 1])
    assert set(rows["split"]) == {"official"} and rows["n"].nunique() == 1


def test_a_constant_method_warns_once_and_does_not_stop(dataset):
    flat = SimpleNamespace(name="flat", predict=lambda d: np.full(len(d), 0.5))
    with pytest.warns(UserWarning, match="flat on noise, seed 0: pred is constant") as caught:
        rows = evaluate.run(flat, dataset, seeds=[0])
    assert [warning.filename for warning in caught] == [__file__]
    assert rows[evaluate.CORRELATIONS].isna().all(axis=None)
    assert rows["rmse"][0] == pytest.approx(data.splits(dataset, 0)[2].scores.std())


def test_run_refuses_a_split_that_shares_content(dataset, monkeypatch):
    whole = dataset.subset(np.arange(len(dataset)))
    monkeypatch.setattr(data, "splits", lambda d, seed: (whole, whole, whole))
    with pytest.raises(ValueError, match="noise, seed 0: content 'ref0.png' is trained and tested on"):
        evaluate.run(psnr_method(), dataset, seeds=[0])


def test_run_refuses_what_it_cannot_judge(dataset):
    with pytest.raises(ValueError, match="Memory has no name"):
        nameless = Memory()
        nameless.name = None
        evaluate.run(nameless, dataset)
    unscored = data.Dataset("bare", dataset.table.assign(score=np.nan), dataset.root, dataset.card)
    with pytest.raises(ValueError, match="bare has images without a score"):
        evaluate.run(psnr_method(), unscored)
    with pytest.raises(ValueError, match="There is no seed"):
        evaluate.run(psnr_method(), dataset, seeds=[])


# ---- tables that are too small for a split -----------------------------------------------------


class Ridge:
    """A ridge on fixed random features of the image's name, that remembers what it was trained on."""

    name, variant = "ridge", ""
    seen = []

    def features(self, dataset):
        found = [np.random.default_rng(sum(map(ord, name))).standard_normal(40) for name in dataset.table["image"]]
        return np.array(found)

    def fit(self, train, val):
        self.seen.append((set(train.table["image"]), val))
        x = self.features(train)
        self.mean = train.scores.mean()
        self.w = x.T @ np.linalg.solve(x @ x.T + 100 * np.eye(len(x)), train.scores - self.mean)
        return self

    def predict(self, dataset):
        return self.features(dataset) @ self.w + self.mean


def small(n, contents=None, split=None, seed=0):
    """n images that nobody has to read."""
    rng = np.random.default_rng(seed)
    content = [f"c{i % (contents or n)}" for i in range(n)]
    table = pd.DataFrame({"image": [f"{seed}-{i}.png" for i in range(n)], "reference": "", "score": rng.random(n),
                          "raw_score": 0.0, "content": content, "split": split or "", "distortion": "", "level": 0})
    return data.Dataset("few", table, data.Path(), data.Card("few", "Few", low=0, high=1))


@pytest.mark.parametrize("n, contents, folds", [(8, 8, 5), (8, 3, 3), (10, 4, 4), (12, 4, 0), (20, 20, 5), (25, 25, 5), (20, 2, None),
                                                (60, 3, 0), (26, 26, 0), (30, 30, 0)])
def test_a_small_table_is_cross_validated_by_content(n, contents, folds):
    dataset, method = small(n, contents), Ridge()
    Ridge.seen = []
    if folds is None:
        with pytest.raises(ValueError, match="few: 20 images of 2 contents are too few to train and test"):
            evaluate.run(method, dataset, seeds=[0])
        return
    if folds == 0:
        assert set(evaluate.run(method, dataset, seeds=[0])["split"]) == {"random"}
        return
    with pytest.warns(UserWarning, match=f"few: {n} images of {contents} contents are too few for a 70/10/20 split") as caught:
        rows = evaluate.run(method, dataset, seeds=[3, 5])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert f"{folds}-fold cross-validation by content" in str(caught[0].message)
    assert set(rows["split"]) == {f"{folds}-fold"}
    assert rows["n"].tolist() == rows["images"].tolist() == [n, n]
    assert len(Ridge.seen) == 2 * folds and all(val is None for _, val in Ridge.seen)
    assert rows["n_train"].tolist() == [round(np.mean([len(train) for train, _ in Ridge.seen]))] * 2
    everything = set(dataset.table["image"])
    for training in (Ridge.seen[:folds], Ridge.seen[folds:]):
        left_out = [everything - train for train, _ in training]
        assert sum(map(len, left_out)) == n and set.union(*left_out) == everything
        for images in left_out:  # a content is never on both sides
            inside = dataset.table["image"].isin(images)
            assert not set(dataset.table["content"][inside]) & set(dataset.table["content"][~inside])
    if contents > 5:
        assert Ridge.seen[0] != Ridge.seen[folds]  # another seed, other folds


def test_the_order_of_rows_and_the_seed_decide_nothing_else():
    dataset = small(20)
    shuffled = dataset.subset(np.random.default_rng(1).permutation(20))
    with pytest.warns(UserWarning, match="too few"):
        first, second, again = (evaluate.run(Ridge(), d, seeds=[2])["srcc"][0] for d in (dataset, shuffled, dataset))
    assert first == again and first == pytest.approx(second)


def test_features_that_say_nothing_get_no_correlation_from_the_folds():
    """Pooled as they are, the folds' predictions would have an SRCC of about -0.2."""
    with pytest.warns(UserWarning, match="too few"):
        found = [evaluate.run(Ridge(), small(20, seed=seed), seeds=[0])["srcc"][0] for seed in range(60)]
    assert abs(np.mean(found)) < 0.09  # its standard error is 0.03


def test_a_small_table_is_tested_whole_by_what_is_not_trained():
    dataset = small(12)
    method = SimpleNamespace(name="fixed", predict=lambda d: d.scores**2)
    with pytest.warns(UserWarning, match="all of its images are tested, for every seed"):
        rows = evaluate.run(method, dataset, seeds=[0, 1])
    assert rows["srcc"].tolist() == [1, 1] and rows["n"].tolist() == [12, 12] and rows["n_train"].tolist() == [0, 0]


def test_every_kind_of_prediction_is_pooled():
    class Two(Ridge):
        def predictions(self, dataset):
            return {("NR", "last"): self.predict(dataset), ("FR", "best"): -self.predict(dataset)}

    with pytest.warns(UserWarning, match="too few"):
        rows = evaluate.run(Two(), small(20), seeds=[0])
    assert rows[["task", "epoch"]].values.tolist() == [["NR", "last"], ["FR", "best"]]
    assert rows["srcc"][0] == pytest.approx(-rows["srcc"][1])


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_too_few_ratings_are_said_with_all_numbers(n):
    sentence = f"few: {n} images of {n} contents are too few to train and test.*needs 8 images of 3 contents at least"
    with pytest.raises(ValueError, match=sentence):
        evaluate.run(Ridge(), small(n), seeds=[0])


def test_an_official_test_part_of_a_small_table_is_kept():
    split = ["Test"] * 5 + ["train"] * 13 + ["val"] * 2
    dataset = small(20, split=split)
    Ridge.seen = []
    with pytest.warns(UserWarning, match="a validation part of 2 images is too small to choose constants by"):
        rows = evaluate.run(Ridge(), dataset, seeds=[0, 1])
    assert set(rows["split"]) == {"official"} and rows["n"].tolist() == [5, 5] and rows["n_train"].tolist() == [15, 15]
    assert Ridge.seen == [(set(dataset.table["image"][5:]), None)] * 2
    with pytest.raises(ValueError, match="few: the official test part has 2 images, and 3 are the least"):
        evaluate.run(Ridge(), small(20, split=["test"] * 2 + [""] * 18), seeds=[0])


def test_a_mark_that_is_not_used_is_said():
    with pytest.warns(UserWarning, match="The val mark of 4 images is not used"):
        rows = evaluate.run(Ridge(), small(12, split=["validation"] * 4 + [""] * 8), seeds=[0])
    assert rows["n"].tolist() == [12] and rows["split"].tolist() == ["5-fold"]


def test_other_sets_beside_a_small_table_are_refused(dataset):
    with pytest.raises(ValueError, match="few is so small that it is cross-validated"):
        evaluate.run(Ridge(), small(20), seeds=[0], others=[dataset])


def test_an_unknown_part_ends_a_run():
    with pytest.raises(data.DatasetError, match="few: the split of 0-0.png is 'holdout', which is no part"):
        evaluate.run(Ridge(), small(40, split=["holdout"] * 40), seeds=[0])


def test_small_tables_are_compared_with_a_warning():
    class Other(Ridge):
        name = "other"

        def features(self, dataset):
            return super().features(dataset)[:, :5]

    with pytest.warns(UserWarning, match="too few"):
        a, b = (evaluate.run(method, small(20), seeds=range(3)) for method in (Ridge(), Other()))
    with pytest.warns(UserWarning, match="every seed tests the same 20 images, so this interval tells how much training"):
        found = comparisons.compare(a, b)
    assert found["difference"] == pytest.approx((a["srcc"] - b["srcc"]).mean()) and found["pairs"] == 3


def test_the_interval_of_an_srcc_is_that_of_bonett_and_wright():
    # the example in the documentation of Bonett's own package statpsych, ci.spear
    expected = pytest.approx((0.5840951, 0.9638297), abs=1e-4)
    assert small_tables.srcc_interval(0.8699639, 15) == expected


# ---- summary -----------------------------------------------------------------------------------------------------


def table(srcc, method="a", n=20, n_train=70, **more):
    return pd.DataFrame({"method": method, "variant": "", "dataset": "d", "split": "random",
                         "seed": range(len(srcc)), "n": n, "n_train": n_train, "srcc": srcc} | more)


def test_summary_is_median_and_quartiles_best_first():
    more = {"mode": "", "minutes": 1.0, "plcc": 0.5, "plcc_logistic": 0.6, "krcc": 0.4}
    srcc = np.array([0.1, 0.2, 0.9, 0.4])
    rows = pd.concat([table(srcc, "weak", **more), table(srcc + 0.05, "strong", **more),
                      table(srcc + 1, "other").assign(dataset="c", **more)])
    found = evaluate.summary(rows)
    assert found["method"].tolist() == ["other", "strong", "weak"]
    weak = found.iloc[2]
    quartiles = np.quantile(srcc, [0.25, 0.5, 0.75])
    assert weak[["srcc_25", "srcc", "srcc_75"]].tolist() == pytest.approx(quartiles.tolist())
    assert (weak["seeds"], weak["n"], weak["plcc_logistic"]) == (4, 20, 0.6)


def test_summary_keeps_tasks_epochs_and_settings_apart():
    more = {"mode": "", "minutes": 1.0, "plcc": 0.5, "plcc_logistic": 0.6, "krcc": 0.4}
    rows = pd.concat([table(np.array([0.1, 0.2]), task=task, epoch=epoch, hash=digest, **more)
                      for task in ("NR", "FR") for epoch in ("last", "best") for digest in "ab"])
    assert len(evaluate.summary(rows)) == 8
