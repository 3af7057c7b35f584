"""Comparisons: intervals cover the truth, claims get the right verdict, plans keep their word."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from iqa_core import comparisons, metrics, verdicts


def table(srcc, method="a", n=20, n_train=70, **more):
    return pd.DataFrame({"method": method, "variant": "", "dataset": "d", "split": "random",
                         "seed": range(len(srcc)), "n": n, "n_train": n_train, "srcc": srcc} | more)


def repeated(d, method="a", n=20, n_train=70):
    """A table of (J, R) values: split j is seed j, its trainings are repeats."""
    d = np.asarray(d)
    splits, repeats = d.shape
    return pd.DataFrame({"method": method, "variant": "", "dataset": "d", "split": "random",
                         "seed": np.repeat(np.arange(splits), repeats),
                         "repeat": np.tile(np.arange(repeats), splits),
                         "n": n, "n_train": n_train, "srcc": d.ravel()})


# ---- one training a split: the corrected resampled t-test ---------------------------------------


def test_corrected_t_test_on_constructed_numbers():
    d = np.array([0.03, 0.01, 0.02, -0.01, 0.05])
    result = comparisons.compare(table(0.8 + d), table(np.full(5, 0.8), "b"))
    error = np.sqrt(d.var(ddof=1) * (1 / 5 + 20 / 70))
    assert result["difference"] == pytest.approx(0.02)
    assert result["p"] == pytest.approx(2 * stats.t.sf(0.02 / error, 4))
    assert result["high"] - result["low"] == pytest.approx(2 * stats.t.ppf(0.975, 4) * error)
    assert (result["wins"], result["pairs"], result["repeats"], result["s_seed"]) == (4, 5, 1, 0)
    plain = stats.ttest_rel(0.8 + d, np.full(5, 0.8)).pvalue
    assert result["p"] > plain  # the plain test is too sure


def test_corrected_t_test_holds_its_level_where_the_plain_one_does_not():
    """Two methods that are equally good, judged on ten overlapping splits of 60 images, often.

    Each image has a fixed advantage for one method. A split's difference is the mean advantage of
    its 12 test images, so splits share evidence exactly as random re-splits of one dataset do.
    """
    rng = np.random.default_rng(0)
    plain = corrected = 0
    for _ in range(150):
        advantage = rng.standard_normal(60)
        d = np.array([rng.permutation(advantage)[:12].mean() for _ in range(10)])
        plain += stats.ttest_1samp(d, 0).pvalue < 0.05
        a, b = (table(srcc, n=12, n_train=48) for srcc in (d, np.zeros(10)))
        corrected += comparisons.compare(a, b)["p"] < 0.05
    assert plain / 150 > 0.15 and corrected / 150 < 0.1


def test_compare_pairs_by_seed_and_is_antisymmetric():
    a, b = table(np.array([0.1, 0.5, 0.9])), table(np.array([0.2, 0.3, 0.4]), "b")
    shuffled = b.iloc[[2, 0, 1]]
    result = comparisons.compare(a, shuffled)
    assert result.equals(comparisons.compare(a, b))
    assert comparisons.compare(b, a)["difference"] == -result["difference"]


def test_compare_without_any_variance():
    a = table(np.array([0.5, 0.75, 0.25]))
    same = comparisons.compare(a, a.assign(method="b"))
    better = comparisons.compare(a.assign(srcc=a["srcc"] + 0.125), a)
    assert (same["p"], same["low"], same["high"], same["wins"]) == (1, 0, 0, 0)
    assert (better["p"], better["low"], better["wins"]) == (0, 0.125, 3)
    assert verdicts.verdict(same) == "makes no difference here" and same["p_equivalent"] == 0
    assert verdicts.verdict(better) == "holds" and better["p_equivalent"] == 1


def test_an_untrained_method_is_compared_by_the_other_ones_training():
    d = np.array([0.03, 0.01, 0.02])
    untrained = comparisons.compare(table(d), table(d * 0, "b", n_train=0))
    assert untrained.equals(comparisons.compare(table(d), table(d * 0, "b")))


def test_few_labels_of_a_training_part_do_not_widen_the_interval():
    d = np.array([0.03, 0.01, 0.02])
    few = comparisons.compare(table(d, n_train=7, n_part=70), table(d * 0, n_train=7, n_part=70))
    assert few.equals(comparisons.compare(table(d), table(d * 0)))


@pytest.mark.parametrize("b, sentence", [
    (table(np.zeros(2)), "seeds .0, 1, 2.; d, random split, seeds .0, 1..*cannot be paired"),
    (table(np.zeros(3)).assign(dataset="e"), "d, random split, seeds .* e, random split"),
    (table(np.zeros(3), n=21), "cannot be paired"),
    (pd.concat([table(np.zeros(3)), table(np.zeros(3), "c")]),
     r"Table b has 6 rows of 2 sorts \(they differ in method\)"),
    (pd.concat([table(np.zeros(3), task="NR"), table(np.zeros(3), task="FR")]), "differ in task"),
    (pd.concat([table(np.zeros(3), hash="1"), table(np.zeros(3), hash="2")]), "differ in hash"),
    (pd.concat([table(np.zeros(3)), table(np.zeros(3))]), "differ in nothing but the numbers"),
    (table(np.array([0, 0, np.nan])), "3 pairs, 1 of them NaN"),
])
def test_compare_refuses_what_cannot_be_paired(b, sentence):
    with pytest.raises(ValueError, match=sentence):
        comparisons.compare(table(np.zeros(3)), b)


def test_compare_refuses_one_pair_untrained_methods_and_errors():
    with pytest.raises(ValueError, match="1 pairs, 0 of them NaN"):
        comparisons.compare(table(np.zeros(1)), table(np.zeros(1)))
    untrained = table(np.zeros(3), n_train=0)
    with pytest.raises(ValueError, match="Neither method was trained.*compare_images"):
        comparisons.compare(untrained, untrained)
    with pytest.raises(ValueError, match="'rmse' cannot be compared"):
        comparisons.compare(table(np.zeros(3)), table(np.zeros(3)), metric="rmse")
    with pytest.raises(ValueError, match="margin=0 leaves no room"):
        comparisons.compare(table(np.arange(3)), table(np.zeros(3)), margin=0)


# ---- several trainings a split ------------------------------------------------------------------


def test_variance_components_on_constructed_numbers():
    """Splits at 0, 3 and 6, seeds at -1, 0 and 1 around each."""
    d = np.array([[-1.0, 0.0, 1.0], [2.0, 3.0, 4.0], [5.0, 6.0, 7.0]])
    result = comparisons.compare(repeated(d), repeated(d * 0, "b"))
    assert result["s_seed"] ** 2 == pytest.approx(1.0)
    assert result["s_split"] ** 2 == pytest.approx(9 - 1 / 3)
    assert result["se"] ** 2 == pytest.approx((9 - 1 / 3) * (1 / 3 + 20 / 70) + 1 / 9)
    assert (result["difference"], result["wins"]) == (3, 2)
    assert (result["pairs"], result["repeats"]) == (3, 3)


def test_one_repeat_is_the_same_as_none():
    d = np.array([0.03, 0.01, 0.02])
    one = comparisons.compare(repeated(d[:, None]), repeated(0 * d[:, None], "b"))
    assert one.equals(comparisons.compare(table(d), table(d * 0, "b")))


def test_compare_refuses_unequal_repeats():
    ragged = repeated(np.zeros((3, 2))).iloc[:-1]
    with pytest.raises(ValueError, match="3 pairs, 1 of them NaN.*same number of trainings"):
        comparisons.compare(ragged, ragged.assign(method="b"))


def simulated_coverage(s_split, s_seed, splits=10, repeats=3, experiments=2000):
    """How often the interval holds the true difference 0, and its median half width.

    Overlapping random splits are correlated by n_test / (n_train + n_test): part of the splits'
    error is shared by all of them, as the one dataset is.
    """
    rng = np.random.default_rng(1)
    overlap = 2 / 7  # 20 % test, 70 % training
    shared = overlap / (1 + overlap)
    hits = 0
    widths = []
    for _ in range(experiments):
        of_dataset = np.sqrt(shared) * rng.standard_normal()
        of_splits = np.sqrt(1 - shared) * rng.standard_normal((splits, 1))
        d = s_split * (of_dataset + of_splits) + s_seed * rng.standard_normal((splits, repeats))
        result = comparisons.of_differences(d, overlap)
        hits += result["low"] <= 0 <= result["high"]
        widths.append(result["high"] - result["low"])
    return hits / experiments, np.median(widths) / 2


@pytest.mark.parametrize("s_split, s_seed, repeats", [(0.0, 1.0, 3), (1.0, 1.0, 3), (1.0, 0.0, 1)],
                         ids=["seed noise only", "mixed", "deterministic"])
def test_the_interval_covers_the_truth(s_split, s_seed, repeats):
    coverage, _ = simulated_coverage(s_split, s_seed, repeats=repeats)
    assert 0.93 <= coverage <= 0.97


def test_seed_noise_is_not_taken_for_the_overlap_of_splits():
    """The corrected test of means multiplies seed noise by n_test / n_train, too."""
    _, half_width = simulated_coverage(0.0, 1.0, experiments=300)
    of_means = stats.t.ppf(0.975, 9) * np.sqrt((1 / 10 + 2 / 7) / 3)
    assert half_width < 0.75 * of_means


# ---- verdicts -----------------------------------------------------------------------------------


def effect(low, high, freedom=9, margin=0.01):
    """A comparison with this 95 % interval."""
    difference = (low + high) / 2
    se = (high - difference) / stats.t.ppf(0.975, freedom)
    return pd.Series({"difference": difference, "low": low, "high": high, "margin": margin,
                      "p": 2 * stats.t.sf(abs(difference) / se, freedom),
                      "p_equivalent": comparisons.equivalence(difference, se, freedom, margin)})


@pytest.mark.parametrize("low, high, expected", [
    (0.02, 0.06, "holds"),
    (-0.06, -0.02, "reversed"),
    (-0.004, 0.004, "makes no difference here"),
    (-0.03, 0.04, "not decided"),
    (0.002, 0.008, "makes no difference here"),  # significant, and the whole interval is inside
    (0.001, 0.011, "holds"),  # significant, and reaches beyond the margin
    (-0.001, 0.0105, "makes no difference here"),  # the 90 % interval lies inside
])
def test_the_four_verdicts(low, high, expected):
    assert verdicts.verdict(effect(low, high)) == expected
    mirrored = {"holds": "reversed", "reversed": "holds"}.get(expected, expected)
    assert verdicts.verdict(effect(low, high), direction=-1) == mirrored
    assert verdicts.verdict(effect(-high, -low)) == mirrored


def test_equivalence_is_the_90_percent_interval_inside_the_margin():
    for difference in (0.0, 0.003, -0.006, 0.012):
        for se in (0.001, 0.003, 0.006):
            reach = stats.t.ppf(0.95, 9) * se
            inside = -0.01 < difference - reach and difference + reach < 0.01
            assert (comparisons.equivalence(difference, se, 9) < 0.05) == inside


def test_a_corrected_p_decides_the_verdict():
    clear = effect(0.001, 0.06)
    assert verdicts.verdict(clear) == "holds"
    clear["p"] = verdicts.holm([clear["p"], 0.5, 0.6, 0.7])[0]
    assert verdicts.verdict(clear) == "not decided"


def test_holm_on_the_textbook_example():
    corrected = verdicts.holm([0.01, 0.04, 0.03, 0.005])
    assert corrected.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert verdicts.holm([0.6, 0.7]).tolist() == [1, 1]
    assert verdicts.holm([0.02]).tolist() == [0.02]


# ---- plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits, detectable", [(5, 0.039), (20, 0.026), (100, 0.023)])
def test_the_detectable_effect_of_a_published_plan(splits, detectable):
    assert round(verdicts.power(0.0152, 0.0, splits, 1, 299, 1050), 3) == detectable


def test_an_effect_of_the_planned_size_is_found_in_four_of_five_experiments():
    rng = np.random.default_rng(0)
    effect = verdicts.power(0.01, 0.01, 20, 3, 20, 70)
    found = 0
    for _ in range(600):
        of_dataset = np.sqrt(20 / 70) * rng.standard_normal()  # the same for all splits
        of_splits = rng.standard_normal((20, 1))
        d = effect + 0.01 * (of_dataset + of_splits) + 0.01 * rng.standard_normal((20, 3))
        found += comparisons.of_differences(d, 20 / 70)["low"] > 0
    assert 0.75 < found / 600 < 0.85


def test_trainings_help_against_seed_noise_and_splits_against_the_rest():
    few, many = (verdicts.power(0.0, 0.02, 10, repeats, 20, 70) for repeats in (2, 8))
    assert few == pytest.approx(2 * many)
    one = verdicts.power(0.0, 0.02, 10, 1, 20, 70)  # all noise counts as the splits'
    assert one == pytest.approx(verdicts.power(0.02, 0.0, 10, 1, 20, 70)) and one > 2 * few


def test_splits_needed_is_the_first_number_that_is_enough():
    needed = verdicts.splits_needed(0.03, 0.0152, 0.005, 3, 299, 1050)
    assert verdicts.power(0.0152, 0.005, needed, 3, 299, 1050) <= 0.03
    assert verdicts.power(0.0152, 0.005, needed - 1, 3, 299, 1050) > 0.03


def test_splits_needed_for_no_difference_and_for_what_cannot_be_decided():
    assert 2 < verdicts.splits_needed(0.0, 0.004, 0.0, 1, 20, 70) < 30
    assert verdicts.splits_needed(0.0, 0.0152, 0.0, 1, 299, 1050) == np.inf
    up, down = (verdicts.splits_needed(d, 0.01, 0.0, 1, 20, 70) for d in (0.03, -0.03))
    assert up == down < 20


# ---- images and contents ------------------------------------------------------------------------


def test_compare_images_sees_a_small_paired_difference():
    """Both metrics err on the same images: paired, their difference is certain."""
    rng = np.random.default_rng(0)
    mos = rng.random(200)
    a = mos + 0.3 * rng.standard_normal(200)
    b = a + 0.2 * rng.standard_normal(200)
    result = comparisons.compare_images(a, torch.tensor(b), mos, n=400)
    assert result["difference"] == pytest.approx(metrics.srcc(a, mos) - metrics.srcc(b, mos))
    assert 0 < result["low"] < result["difference"] < result["high"]
    alone_a, alone_b = (metrics.bootstrap(p, mos, n=400) for p in (a, b))
    assert alone_a[0] < alone_b[1]


def test_compare_images_by_content_is_wider_where_contents_differ():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    mos = rng.random(200)
    a = mos + np.repeat(rng.standard_normal(10), 20)
    b = mos + np.repeat(rng.standard_normal(10), 20)
    alone = comparisons.compare_images(a, b, mos, n=300)
    grouped = comparisons.compare_images(a, b, mos, groups=groups, n=300)
    assert grouped["high"] - grouped["low"] > 1.3 * (alone["high"] - alone["low"])


def test_srcc_within_contents_ignores_differences_between_them():
    """Contents in the wrong order, their versions in the right one: the pooled SRCC suffers."""
    contents = np.repeat(np.arange(6), 5)
    level = np.tile(np.arange(5), 6)
    mos = level + 10.0 * contents
    pred = level - 10.0 * contents
    assert metrics.srcc(pred, mos) < -0.8
    assert comparisons.srcc_by_content(pred, mos, contents).tolist() == pytest.approx([1] * 6)
    assert comparisons.srcc_within(pred, mos, contents)["srcc"] == pytest.approx(1)


def test_srcc_within_draws_contents():
    """Half of the contents are in order, half are reversed: more images of each tell nothing."""
    for images in (5, 50):
        contents = np.repeat(np.arange(8), images)
        mos = np.tile(np.arange(images), 8)
        pred = np.where(contents % 2, mos, -mos)
        result = comparisons.srcc_within(pred, mos, contents)
        assert result["srcc"] == pytest.approx(0) and result["contents"] == 8
        assert result["high"] - result["low"] > 1


def test_contents_with_too_few_images_or_equal_scores_are_left_out():
    contents = ["a"] * 4 + ["b"] * 3 + ["c"] * 4
    mos = [1, 2, 3, 4, 1, 2, 3, 5, 5, 5, 5]
    assert comparisons.srcc_by_content(mos, mos, contents).to_dict() == {"a": 1}
    assert np.isnan(comparisons.srcc_by_content(np.zeros(11), mos, contents)["a"])
    with pytest.raises(ValueError, match="1 contents have 4 images or more"):
        comparisons.srcc_within(mos, mos, contents)
