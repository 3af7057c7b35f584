"""The relatives of the four papers: the functions that their notebooks build, pulled out of the exercises."""

import numpy as np
import pytest
import torch

import iqa_exercises as exercises

beta_nll, coverage, calibration_factor, risk_coverage, decoupled, two_variances, conformal_factor = (
    exercises.find(f"72.{number}").solution for number in range(1, 8))


def gradients(mu, log_sigma, y, beta):
    """Gradients of the summed loss by mu and by log sigma."""
    mu, log_sigma = (x.clone().requires_grad_() for x in (mu, log_sigma))
    return torch.autograd.grad(beta_nll(mu, log_sigma, y, beta).sum(), (mu, log_sigma))


@pytest.fixture
def batch():
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(0))


def test_the_cheapest_spread_is_the_size_of_the_error():
    log_sigma = torch.linspace(-4, 2, 6001, dtype=torch.float64)
    for error in (0.05, -0.7, 3.0):
        loss = beta_nll(torch.zeros_like(log_sigma), log_sigma, torch.full_like(log_sigma, error), 0.0)
        assert log_sigma[loss.argmin()].exp().item() == pytest.approx(abs(error), rel=2e-3)
        assert loss.min().item() == pytest.approx(0.5 + np.log(abs(error)), abs=1e-5)


def test_gradients_of_the_loss(batch):
    mu, log_sigma, y = batch
    variance = torch.exp(2 * log_sigma)
    for beta in (0.0, 0.5, 1.0):
        by_mu, by_log_sigma = gradients(mu, log_sigma, y, beta)
        torch.testing.assert_close(by_mu, variance ** (beta - 1) * (mu - y))
        torch.testing.assert_close(by_log_sigma, variance**beta * (1 - (mu - y) ** 2 / variance))
    squared = mu.clone().requires_grad_()
    (of_square,) = torch.autograd.grad((squared - y).square().sum(), squared)
    torch.testing.assert_close(gradients(mu, log_sigma, y, 1.0)[0], of_square / 2)


def test_gradients_reach_both_outputs_of_a_head(batch):
    head = torch.nn.Linear(5, 2)
    loss = beta_nll(*head(torch.randn(16, 5)).T, batch[2], 0.5)
    assert loss.shape == (16,)
    loss.mean().backward()
    assert (head.weight.grad.abs().sum(1) > 0).all() and (head.bias.grad != 0).all()


def test_coverage_and_the_factor_that_mends_it():
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.5, 2, 200_000)
    y = 1.5 * sigma * rng.normal(size=len(sigma))
    mu = np.zeros_like(y)
    assert coverage(mu, np.full_like(y, 1e9), y, 1.0) == 1 and coverage(mu, sigma * 0, y, 1.0) == 0
    assert coverage(mu, 1.5 * sigma, y, 1.0) == pytest.approx(0.683, abs=0.005)
    factor = calibration_factor(mu, sigma, y)
    assert factor == pytest.approx(1.5, abs=0.01)
    assert calibration_factor(mu, factor * sigma, y) == pytest.approx(1)


def test_risk_coverage_has_known_areas():
    order = np.random.default_rng(0).permutation(40)
    risk, area = risk_coverage(np.full(40, 0.2), order)
    assert risk.shape == (40,) and risk == pytest.approx(0.2) and area == pytest.approx(1)
    error = np.arange(1.0, 41)  # in the ideal order the mean of the first k is (k + 1) / 2
    risk, area = risk_coverage(error, error)
    assert risk == pytest.approx((np.arange(1, 41) + 1) / 2) and area == pytest.approx(21.5 / 2 / 20.5)
    assert risk_coverage(error, -error)[1] > 1 > area


def test_two_variances_add_up_to_that_of_the_mixture():
    mu, sigma = np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])
    mean, aleatoric, epistemic = two_variances(mu, sigma)
    assert [a.tolist() for a in (mean, aleatoric, epistemic)] == [[1.0], [5.0], [1.0]]
    second_moment = ((sigma**2 + mu**2) / 2).sum(0)
    assert aleatoric + epistemic == pytest.approx(second_moment - mean**2)


def test_parts_of_a_spread_add_up_as_variances():
    log_sigma = torch.tensor([[3.0, 4.0, 100.0]]).log()
    assert decoupled(log_sigma, torch.tensor([[1.0, 0.0]])).exp().item() == pytest.approx(5)
    assert decoupled(log_sigma, torch.zeros(1, 2)).exp().item() == pytest.approx(3)


def test_conformal_factor_is_an_order_statistic():
    ratio = np.array([-4.0, 1.0, -2.0, 3.0])
    assert [conformal_factor(ratio, share) for share in (0.2, 0.5, 0.8, 0.9)] == [1, 3, 4, np.inf]
    rng = np.random.default_rng(0)  # ten ratios: the new one lies inside in 8 of 11 cases
    inside = [abs(rng.standard_cauchy()) <= conformal_factor(rng.standard_cauchy(10), 8 / 11) for _ in range(4000)]
    assert np.mean(inside) == pytest.approx(8 / 11, abs=0.03)


def test_a_forgotten_detach_is_noticed_by_the_gradients_alone():
    task = exercises.find("72.1")
    forgotten = next(m for m in task.mistakes if m.__name__ == "beta_nll_with_gradient")
    for inputs in task.inputs():
        torch.testing.assert_close(forgotten(*inputs), task.solution(*inputs))
    assert task.slopes
    with pytest.raises(exercises.CheckFailed, match="flows through the weight"):
        exercises.check("72.1", forgotten)
