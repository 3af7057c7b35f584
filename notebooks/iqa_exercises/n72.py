"""Exercises of notebook 72: the loss of a mean and its spread, coverage, one factor, leaving out the
least sure, a spread in parts, an ensemble's two variances, a factor that fits any errors, half a
spread, what a spread says."""

import numpy as np
import torch

from iqa_exercises import Choice, Exercise, Number


def beta_nll(mu: torch.Tensor, log_sigma: torch.Tensor, y: torch.Tensor, beta: float
             ) -> torch.Tensor:
    """The weighted negative log-likelihood of each image:

        w ((y - mu)^2 / (2 sigma^2) + log sigma),    w = sigma^(2 beta), without a gradient

    mu, log_sigma, y: (B,). Returns (B,).
    """
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu) ** 2 / (2 * variance) + log_sigma
    return variance.detach() ** beta * nll


def beta_nll_with_gradient(mu, log_sigma, y, beta):
    """The values are right, the gradients are not: one flows through the weight, so sigma can lower
    the loss by shrinking the weight. Take the weight from variance.detach()."""
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu) ** 2 / (2 * variance) + log_sigma
    return variance**beta * nll


def beta_nll_minus_log(mu, log_sigma, y, beta):
    """log sigma is subtracted, so a larger spread always pays. It must be added: it is the price of
    being unsure."""
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu) ** 2 / (2 * variance) - log_sigma
    return variance.detach() ** beta * nll


def beta_nll_sigma_for_variance(mu, log_sigma, y, beta):
    """The squared error is divided by 2 sigma. Divide it by twice the variance, sigma^2."""
    sigma = torch.exp(log_sigma)
    nll = (y - mu) ** 2 / (2 * sigma) + log_sigma
    return sigma.detach() ** (2 * beta) * nll


def beta_nll_log_of_variance(mu, log_sigma, y, beta):
    """This adds the logarithm of the variance, which is twice log sigma."""
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu) ** 2 / (2 * variance) + variance.log()
    return variance.detach() ** beta * nll


def beta_nll_weight_of_sigma(mu, log_sigma, y, beta):
    """The weight is sigma^beta. It should be sigma^(2 beta), the variance to the power of beta."""
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu) ** 2 / (2 * variance) + log_sigma
    return torch.exp(log_sigma).detach() ** beta * nll


def beta_nll_error_detached(mu, log_sigma, y, beta):
    """No gradient reaches mu, so the score is never learnt. Only the weight is detached."""
    variance = torch.exp(2 * log_sigma)
    nll = (y - mu.detach()) ** 2 / (2 * variance) + log_sigma
    return variance.detach() ** beta * nll + 0 * mu


def scores_and_spreads() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    mu, log_sigma, y = torch.randn(3, 7, generator=draw)
    return [(mu.clone().requires_grad_(), log_sigma.clone().requires_grad_(), y, beta)
            for beta in (0.0, 0.5, 1.0)]


def coverage(mu: np.ndarray, sigma: np.ndarray, y: np.ndarray, z: float) -> float:
    """The share of images whose score y lies between mu - z sigma and mu + z sigma.

    mu, sigma, y: (N,). Returns a number in [0, 1].
    """
    return float((np.abs(y - mu) <= z * sigma).mean())


def coverage_one_side(mu, sigma, y, z):
    """Only the upper end is tested, so every image below mu counts as inside. Take the absolute
    value of y - mu."""
    return float((y - mu <= z * sigma).mean())


def coverage_of_the_variance(mu, sigma, y, z):
    """The interval is z sigma^2 wide to each side. sigma is already in the units of the score."""
    return float((np.abs(y - mu) <= z * sigma**2).mean())


def coverage_of_the_mean_spread(mu, sigma, y, z):
    """All images have the same interval here, z times the mean sigma. Each has its own sigma."""
    return float((np.abs(y - mu) <= z * sigma.mean()).mean())


def coverage_outside(mu, sigma, y, z):
    """This is the share of images outside. Turn the comparison round."""
    return float((np.abs(y - mu) > z * sigma).mean())


def predictions_and_scores() -> list[tuple]:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.2, 2, 400)
    mu = rng.normal(size=400)
    y = mu + 1.5 * sigma * rng.normal(size=400)
    return [(mu, sigma, y, 1.0), (mu, sigma, y, 1.96)]


def calibration_factor(mu: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> float:
    """The number c > 0 for which the spreads c sigma make the scores y likeliest.

    c^2 is the mean over the images of (y - mu)^2 / sigma^2. mu, sigma, y: (N,). Returns c.
    """
    return float(np.sqrt(np.mean(((y - mu) / sigma) ** 2)))


def calibration_factor_squared(mu, sigma, y):
    """This is c^2, by which a variance is multiplied. A spread is multiplied by its root."""
    return float(np.mean(((y - mu) / sigma) ** 2))


def calibration_factor_of_means(mu, sigma, y):
    """The mean squared error is divided by the mean variance, so images with a large sigma decide.
    Divide image by image, then take the mean."""
    return float(np.sqrt(np.mean((y - mu) ** 2) / np.mean(sigma**2)))


def calibration_factor_of_sizes(mu, sigma, y):
    """This is the mean of |y - mu| / sigma. The likelihood asks for the root of the mean SQUARE."""
    return float(np.mean(np.abs(y - mu) / sigma))


def calibration_factor_upside_down(mu, sigma, y):
    """This is 1 / c: it would narrow what is too narrow. Errors stand over spreads."""
    return float(1 / np.sqrt(np.mean(((y - mu) / sigma) ** 2)))


def predictions_to_calibrate() -> list[tuple]:
    return [inputs[:3] for inputs in predictions_and_scores()[:1]]


def risk_coverage(error: np.ndarray, sigma: np.ndarray) -> tuple:
    """The mean error of the images that remain when the least sure are left out.

    risk[k - 1] is the mean error of the k images with the smallest sigma, for k = 1 ... N. error,
    sigma: (N,), errors are 0 or more. Returns risk (N,), and the area: the mean of risk, divided
    by the mean error of all images.
    """
    sorted_error = error[np.argsort(sigma)]
    risk = np.cumsum(sorted_error) / np.arange(1, len(error) + 1)
    return risk, float(risk.mean() / error.mean())


def risk_coverage_least_sure_first(error, sigma):
    """The largest sigma comes first, so the surest images are left out. Sort upwards."""
    sorted_error = error[np.argsort(-sigma)]
    risk = np.cumsum(sorted_error) / np.arange(1, len(error) + 1)
    return risk, float(risk.mean() / error.mean())


def risk_coverage_by_error(error, sigma):
    """The images are sorted by their true error, which nobody knows beforehand. That is the ideal;
    sort by sigma."""
    sorted_error = np.sort(error)
    risk = np.cumsum(sorted_error) / np.arange(1, len(error) + 1)
    return risk, float(risk.mean() / error.mean())


def risk_coverage_single_errors(error, sigma):
    """These are the errors of single images in the order of sigma. The mean of all that remain is
    asked for: a cumulative sum, divided by its number of images."""
    risk = error[np.argsort(sigma)]
    return risk, float(risk.mean() / error.mean())


def risk_coverage_sum(error, sigma):
    """The sums are divided by N throughout. Divide the sum of k errors by k."""
    risk = np.cumsum(error[np.argsort(sigma)]) / len(error)
    return risk, float(risk.mean() / error.mean())


def risk_coverage_area_in_units(error, sigma):
    """The area is in the units of the error. Divide it by the mean error, so that a constant error
    gives 1."""
    risk = np.cumsum(error[np.argsort(sigma)]) / np.arange(1, len(error) + 1)
    return risk, float(risk.mean())


def errors_and_spreads() -> list[tuple]:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.1, 1, 50)
    return [(np.abs(sigma * rng.normal(size=50)), sigma)]


def decoupled(log_sigma: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The logarithm of a spread whose variance is a sum of parts:

        sigma^2 = sigma_0^2 + m_1 sigma_1^2 + ... + m_K sigma_K^2

    log_sigma: (B, 1 + K), log sigma_0 to log sigma_K; present: (B, K), m_k = 1 if distortion k is
    in the image, else 0. Returns log sigma (B,).
    """
    variances = torch.exp(2 * log_sigma)
    total = variances[:, 0] + (present * variances[:, 1:]).sum(1)
    return total.log() / 2


def decoupled_spreads(log_sigma, present):
    """The spreads are added. Independent noises add their VARIANCES: square before the sum."""
    sigmas = torch.exp(log_sigma)
    return (sigmas[:, 0] + (present * sigmas[:, 1:]).sum(1)).log()


def decoupled_everything(log_sigma, present):
    """Every part counts, whether its distortion is there or not. Multiply by m."""
    return torch.exp(2 * log_sigma).sum(1).log() / 2


def decoupled_without_task(log_sigma, present):
    """sigma_0 is missing: an undistorted image would have no spread at all."""
    variances = torch.exp(2 * log_sigma[:, 1:])
    return (present * variances).sum(1).log() / 2


def decoupled_log_variance(log_sigma, present):
    """This is the logarithm of the variance. Halve it for log sigma."""
    variances = torch.exp(2 * log_sigma)
    return (variances[:, 0] + (present * variances[:, 1:]).sum(1)).log()


def parts_of_a_spread() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 4, generator=draw), torch.eye(3).repeat(2, 1))]


def two_variances(mu: np.ndarray, sigma: np.ndarray) -> tuple:
    """Score and variances of an ensemble.

    mu, sigma: (M, N), one row a member. Returns three arrays (N,): the mean score, the aleatoric
    variance (the mean of the members' variances), and the epistemic variance (the variance of
    the members' scores, dividing by M).
    """
    return mu.mean(0), (sigma**2).mean(0), mu.var(0)


def two_variances_of_mean_spread(mu, sigma):
    """The spreads are averaged before they are squared. The total variance of a mixture needs the
    mean of the squares."""
    return mu.mean(0), sigma.mean(0) ** 2, mu.var(0)


def two_variances_unsquared(mu, sigma):
    """These are spreads. Variances are asked for, because variances add up and spreads do not."""
    return mu.mean(0), sigma.mean(0), mu.std(0)


def two_variances_sample(mu, sigma):
    """The variance of the scores divides by M - 1. The mixture is made of these M members and no
    others: divide by M."""
    return mu.mean(0), (sigma**2).mean(0), mu.var(0, ddof=1)


def two_variances_exchanged(mu, sigma):
    """The two variances are exchanged. Aleatoric is what the members predict; epistemic is what
    they disagree about."""
    return mu.mean(0), mu.var(0), (sigma**2).mean(0)


def two_variances_over_images(mu, sigma):
    """The variance is taken over the images. The members lie along the first axis."""
    return mu.mean(0), (sigma**2).mean(0), np.full(mu.shape[1], mu.var(1).mean())


def members() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(5, 8)), rng.uniform(0.2, 2, (5, 8)))]


def conformal_factor(ratio: np.ndarray, share: float) -> float:
    """The factor c with which mu - c sigma ... mu + c sigma covers a new image with at least the
    probability `share`, whatever the distribution of the errors.

    ratio: (n,), (y - mu) / sigma of the validation images. c is the k-th smallest |ratio|, where k
    is (n + 1) share, rounded up; infinity if k > n. Returns c.
    """
    k = int(np.ceil((len(ratio) + 1) * share))
    return float(np.sort(np.abs(ratio))[k - 1]) if k <= len(ratio) else float("inf")


def conformal_factor_signed(ratio, share):
    """The ratios are sorted with their signs. An interval has two sides: take absolute values."""
    k = int(np.ceil((len(ratio) + 1) * share))
    return float(np.sort(ratio)[k - 1]) if k <= len(ratio) else float("inf")


def conformal_factor_of_n(ratio, share):
    """k is n times the share. The new image counts as well: (n + 1) times the share, rounded up."""
    k = int(np.ceil(len(ratio) * share))
    return float(np.sort(np.abs(ratio))[k - 1])


def conformal_factor_from_zero(ratio, share):
    """This is one place too far: the k-th smallest stands at place k - 1 when counting from 0."""
    k = int(np.ceil((len(ratio) + 1) * share))
    return float(np.sort(np.abs(ratio))[k]) if k < len(ratio) else float("inf")


def conformal_factor_never_infinite(ratio, share):
    """With few images and a large share k exceeds n, and no interval is wide enough. Return
    infinity, and not the largest ratio."""
    k = int(np.ceil((len(ratio) + 1) * share))
    return float(np.sort(np.abs(ratio))[min(k, len(ratio)) - 1])


def ratios_and_shares() -> list[tuple]:
    ratio = np.random.default_rng(0).normal(size=19)
    return [(ratio, 0.5), (ratio, 0.68), (ratio, 0.99)]


def covered_by(factor: float) -> float:
    """Share of 100,000 normal errors of spread 1 that lie within `factor` of 0."""
    error = np.random.default_rng(0).normal(size=100_000)
    return coverage(np.zeros(100_000), np.full(100_000, factor), error, 1.0)


def half_the_spread() -> float:
    return covered_by(0.5)


def twice_the_spread():
    """This is the coverage of a spread that is twice too LARGE. Halve sigma."""
    return covered_by(2.0)


def the_right_spread():
    """This is the coverage of the right spread. Halve sigma, and leave z at 1."""
    return covered_by(1.0)


def half_of_the_share():
    """This is half of the coverage of the right spread. Shares do not follow in proportion:
    measure it."""
    return covered_by(1.0) / 2


EXERCISES = {
    "72.1": Exercise(
        beta_nll,
        [beta_nll_with_gradient, beta_nll_minus_log, beta_nll_sigma_for_variance,
         beta_nll_log_of_variance, beta_nll_weight_of_sigma, beta_nll_error_detached],
        scores_and_spreads, slopes=True),
    "72.2": Exercise(
        coverage,
        [coverage_one_side, coverage_of_the_variance, coverage_of_the_mean_spread,
         coverage_outside],
        predictions_and_scores),
    "72.3": Exercise(
        calibration_factor,
        [calibration_factor_squared, calibration_factor_of_means, calibration_factor_of_sizes,
         calibration_factor_upside_down],
        predictions_to_calibrate),
    "72.4": Exercise(
        risk_coverage,
        [risk_coverage_least_sure_first, risk_coverage_by_error, risk_coverage_single_errors,
         risk_coverage_sum, risk_coverage_area_in_units],
        errors_and_spreads),
    "72.5": Exercise(
        decoupled,
        [decoupled_spreads, decoupled_everything, decoupled_without_task, decoupled_log_variance],
        parts_of_a_spread),
    "72.6": Exercise(
        two_variances,
        [two_variances_of_mean_spread, two_variances_unsquared, two_variances_sample,
         two_variances_exchanged, two_variances_over_images],
        members),
    "72.7": Exercise(
        conformal_factor,
        [conformal_factor_signed, conformal_factor_of_n, conformal_factor_from_zero,
         conformal_factor_never_infinite],
        ratios_and_shares),
    "72.8": Number(half_the_spread, 0.02, [twice_the_spread, the_right_spread, half_of_the_share]),
    "72.9": Choice("c", {
        "a": "Both images have the same score. A spread is no second score: it says nothing about "
             "which of them is the better one.",
        "b": "The head saw one score of each image, the mean of its observers, and never how far "
             "they lay apart. Its spread may follow that, but nothing here says so."}),
}
