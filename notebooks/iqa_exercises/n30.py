"""Exercises of notebook 30: the scatter of differences, a steady ridge, aliasing, the panel, smooth
L1, sensitivity; the score that neighbours tell, and noise by an angle."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from iqa_core import metrics
from iqa_exercises import Choice, Exercise


def scatter(x: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The scatter of the differences between images and their partners.

        G = mean over i of (x_i - x_p(i)) (x_i - x_p(i))'

    x: (N, D), features of N images; partner: (N,), the row of each image's partner. Returns (D, D).
    """
    difference = x - x[partner]
    return difference.T @ difference / len(x)


def scatter_summed(x, partner):
    """This is the sum over the images. Divide by their number: the mean is asked for."""
    difference = x - x[partner]
    return difference.T @ difference


def scatter_of_images(x, partner):
    """This is N x N, a number for each pair of images. A number for each pair of features is asked
    for: put the transpose first."""
    difference = x - x[partner]
    return difference @ difference.T / len(x)


def scatter_of_products(x, partner):
    """These are products of an image and its partner. Take the difference first, then its product
    with itself."""
    return x.T @ x[partner] / len(x)


def scatter_diagonal(x, partner):
    """Only the squares are here. Products of two different features belong to the scatter, too."""
    difference = x - x[partner]
    return np.diag((difference**2).mean(0))


def scatter_centred(x, partner):
    """The mean difference was taken away. Leave it in: a shift that all partners share moves
    scores, too."""
    difference = x - x[partner]
    difference = difference - difference.mean(0)
    return difference.T @ difference / len(x)


def images_and_partners() -> list[tuple]:
    draw = np.random.default_rng(0)
    return [(draw.normal(size=(12, 5)), draw.permutation(12)),
            (draw.normal(size=(7, 4)), np.full(7, 3))]


def steady_ridge(x: np.ndarray, y: np.ndarray, s: np.ndarray, alpha: float, lam: float
                 ) -> np.ndarray:
    """The weights w of a ridge regression that is asked to be steady.

    They make this as small as possible, with x and y freed of their means over the N images:

        mean over i of (w' x_i - y_i)^2 + alpha w' w + lam w' G w

    so that (x' x / N + alpha I + lam G) w = x' y / N. x: (N, D); y: (N,); s: (D, D), the scatter G.
    Returns (D,).
    """
    x = x - x.mean(0)
    y = y - y.mean()
    left = x.T @ x / len(x) + alpha * np.eye(x.shape[1]) + lam * s
    return np.linalg.solve(left, x.T @ y / len(x))


def steady_ridge_not_centred(x, y, s, alpha, lam):
    """The means are still in. Subtract the mean over the images from each feature, and from y."""
    left = x.T @ x / len(x) + alpha * np.eye(x.shape[1]) + lam * s
    return np.linalg.solve(left, x.T @ y / len(x))


def steady_ridge_summed(x, y, s, alpha, lam):
    """x' x and x' y are sums here, so alpha and lam count for N times less than they should. Divide
    both by N."""
    x = x - x.mean(0)
    y = y - y.mean()
    left = x.T @ x + alpha * np.eye(x.shape[1]) + lam * s
    return np.linalg.solve(left, x.T @ y)


def steady_ridge_plain(x, y, s, alpha, lam):
    """The scatter is missing: this is the plain ridge."""
    x = x - x.mean(0)
    y = y - y.mean()
    left = x.T @ x / len(x) + alpha * np.eye(x.shape[1])
    return np.linalg.solve(left, x.T @ y / len(x))


def steady_ridge_alpha_everywhere(x, y, s, alpha, lam):
    """alpha was added to every number of the matrix. It belongs to the diagonal only: np.eye."""
    x = x - x.mean(0)
    y = y - y.mean()
    left = x.T @ x / len(x) + alpha + lam * s
    return np.linalg.solve(left, x.T @ y / len(x))


def steady_ridge_subtracted(x, y, s, alpha, lam):
    """The scatter was subtracted, which rewards what should be punished. Add it."""
    x = x - x.mean(0)
    y = y - y.mean()
    left = x.T @ x / len(x) + alpha * np.eye(x.shape[1]) - lam * s
    return np.linalg.solve(left, x.T @ y / len(x))


def ridges() -> list[tuple]:
    draw = np.random.default_rng(1)
    x = 2 + draw.normal(size=(30, 4))
    y = x @ np.array([1.0, -1.0, 0.5, 0.0]) + 3 + 0.1 * draw.normal(size=30)
    d = draw.normal(size=(20, 4))
    return [(x, y, d.T @ d / 20, 0.3, 2.0), (x, y, d.T @ d / 20, 0.0, 0.5)]


def aliasing_rho(keys: torch.Tensor, scores: torch.Tensor) -> float:
    """SRCC, over all pairs of images i < j, of the cosine distance of their features and the
    distance of their scores.

    keys: (N, C), features of any length; scores: (N,). metrics.srcc(a, b) takes two arrays of one
    number a pair. Returns one number.
    """
    unit = F.normalize(keys, dim=1)
    distance = 1 - unit @ unit.T
    gap = (scores[:, None] - scores).abs()
    i, j = torch.triu_indices(len(keys), len(keys), 1)
    return metrics.srcc(distance[i, j].numpy(), gap[i, j].numpy())


def aliasing_rho_of_cosines(keys, scores):
    """The sign is turned: these are cosines, which are large where features are alike. The distance
    is 1 minus the cosine."""
    unit = F.normalize(keys, dim=1)
    gap = (scores[:, None] - scores).abs()
    i, j = torch.triu_indices(len(keys), len(keys), 1)
    return metrics.srcc((unit @ unit.T)[i, j].numpy(), gap[i, j].numpy())


def aliasing_rho_with_itself(keys, scores):
    """Each image is paired with itself, too, at distance 0 and gap 0. Take the pairs i < j only."""
    unit = F.normalize(keys, dim=1)
    distance = 1 - unit @ unit.T
    gap = (scores[:, None] - scores).abs()
    return metrics.srcc(distance.flatten().numpy(), gap.flatten().numpy())


def aliasing_rho_signed(keys, scores):
    """The gap has a sign here. A better image is as far away as a worse one: take the absolute
    value."""
    unit = F.normalize(keys, dim=1)
    distance = 1 - unit @ unit.T
    gap = scores[:, None] - scores
    i, j = torch.triu_indices(len(keys), len(keys), 1)
    return metrics.srcc(distance[i, j].numpy(), gap[i, j].numpy())


def aliasing_rho_not_normalised(keys, scores):
    """These are products of features as they are, so long ones count for more. Give each length 1
    first."""
    distance = 1 - keys @ keys.T
    gap = (scores[:, None] - scores).abs()
    i, j = torch.triu_indices(len(keys), len(keys), 1)
    return metrics.srcc(distance[i, j].numpy(), gap[i, j].numpy())


def features_and_scores() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(25, 4, generator=draw) * (0.2 + 3 * torch.rand(25, 1, generator=draw))
    scores = keys[:, 0] / keys.norm(dim=1) + 0.3 * torch.randn(25, generator=draw)
    return [(keys, scores)]


def panel_score(features: torch.Tensor, members: torch.Tensor, layer: nn.Module, w: torch.Tensor
                ) -> torch.Tensor:
    """The mean score of a panel.

        q = members + c
        q = q + attention(LN1(q), LN1(q), LN1(q))      the members hear each other
        q = q + attention(LN2(q), P, P)                they look at the tokens
        q = q + MLP(LN3(q)),  MLP = linear2(gelu(linear1(...)))

    and the score is the mean over the members of w' q. features: (B, 1 + N, C), the summary c
    first, then the tokens P; members: (1, 6, C); layer has norm1, norm2, norm3, linear1, linear2,
    and the attentions self_attn and multihead_attn, of which attention(q, k, v)[0] is the answer;
    w: (C,). Returns (B,).
    """
    c, tokens = features[:, :1], features[:, 1:]
    q = members + c
    asked = layer.norm1(q)
    q = q + layer.self_attn(asked, asked, asked)[0]
    q = q + layer.multihead_attn(layer.norm2(q), tokens, tokens)[0]
    q = q + layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).mean(1)


def panel_score_without_summary(features, members, layer, w):
    """The members ask the same of every image. Add the summary c to each of them."""
    tokens = features[:, 1:]
    q = members.expand(len(features), -1, -1)
    asked = layer.norm1(q)
    q = q + layer.self_attn(asked, asked, asked)[0]
    q = q + layer.multihead_attn(layer.norm2(q), tokens, tokens)[0]
    q = q + layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).mean(1)


def panel_score_summary_as_token(features, members, layer, w):
    """The members look at the summary as if it were a place. The tokens are features[:, 1:]."""
    q = members + features[:, :1]
    asked = layer.norm1(q)
    q = q + layer.self_attn(asked, asked, asked)[0]
    q = q + layer.multihead_attn(layer.norm2(q), features, features)[0]
    q = q + layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).mean(1)


def panel_score_norm_of_tokens(features, members, layer, w):
    """The tokens went through a layer norm. They come as they are; only the questions are
    normalised."""
    c, tokens = features[:, :1], features[:, 1:]
    q = members + c
    asked = layer.norm1(q)
    q = q + layer.self_attn(asked, asked, asked)[0]
    seen = layer.norm2(tokens)
    q = q + layer.multihead_attn(layer.norm2(q), seen, seen)[0]
    q = q + layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).mean(1)


def panel_score_without_residual(features, members, layer, w):
    """Each step replaces q. It should be added to q."""
    c, tokens = features[:, :1], features[:, 1:]
    asked = layer.norm1(members + c)
    q = layer.self_attn(asked, asked, asked)[0]
    q = layer.multihead_attn(layer.norm2(q), tokens, tokens)[0]
    q = layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).mean(1)


def panel_score_norm_after(features, members, layer, w):
    """The norms stand behind the additions. Here they stand before each step: what is added to is
    not normalised."""
    c, tokens = features[:, :1], features[:, 1:]
    q = members + c
    q = layer.norm1(q + layer.self_attn(q, q, q)[0])
    q = layer.norm2(q + layer.multihead_attn(q, tokens, tokens)[0])
    q = layer.norm3(q + layer.linear2(F.gelu(layer.linear1(q))))
    return (q @ w).mean(1)


def panel_score_summed(features, members, layer, w):
    """This is the sum over the six members; their mean is asked for."""
    c, tokens = features[:, :1], features[:, 1:]
    q = members + c
    asked = layer.norm1(q)
    q = q + layer.self_attn(asked, asked, asked)[0]
    q = q + layer.multihead_attn(layer.norm2(q), tokens, tokens)[0]
    q = q + layer.linear2(F.gelu(layer.linear1(layer.norm3(q))))
    return (q @ w).sum(1)


def panels() -> list[tuple]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerDecoderLayer(16, 4, 32, dropout=0.0, batch_first=True).eval()
        for parameter in layer.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(0.5 * torch.randn(parameter.shape) + (parameter.ndim == 1) * 0.5)
        return [(torch.randn(3, 10, 16), torch.randn(1, 6, 16), layer, torch.randn(16))]


def smooth_l1(pred: torch.Tensor, mos: torch.Tensor, beta: float) -> torch.Tensor:
    """Smooth L1, the mean over the images of l(pred - mos), with

        l(d) = d^2 / (2 beta) where |d| < beta,    |d| - beta / 2 elsewhere

    pred, mos: (B,). Returns one number.
    """
    d = (pred - mos).abs()
    return torch.where(d < beta, d**2 / (2 * beta), d - beta / 2).mean()


def smooth_l1_not_smooth(pred, mos, beta):
    """This is the plain mean of |d|: below beta the loss is a square."""
    return (pred - mos).abs().mean()


def smooth_l1_jump(pred, mos, beta):
    """The two pieces do not meet at |d| = beta: subtract beta / 2 from the line."""
    d = (pred - mos).abs()
    return torch.where(d < beta, d**2 / (2 * beta), d).mean()


def smooth_l1_signed(pred, mos, beta):
    """The sign of d is lost too late: a score that is too low counts as less than nothing. Take |d|
    first."""
    d = pred - mos
    return torch.where(d < beta, d**2 / (2 * beta), d - beta / 2).mean()


def smooth_l1_square(pred, mos, beta):
    """The square is d^2, where it should be d^2 / (2 beta)."""
    d = (pred - mos).abs()
    return torch.where(d < beta, d**2, d - beta / 2).mean()


def smooth_l1_summed(pred, mos, beta):
    """This is the sum over the images; the mean is asked for."""
    d = (pred - mos).abs()
    return torch.where(d < beta, d**2 / (2 * beta), d - beta / 2).sum()


def errors() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    mos = torch.rand(12, generator=draw)
    return [(mos + 0.3 * torch.randn(12, generator=draw), mos, 0.1),
            (mos + 0.3 * torch.randn(12, generator=draw), mos, 0.3)]


def sensitivity(y: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """How far noise moves scores: the mean of |moved - y|, in standard deviations of y.

    y, moved: (N,), scores without noise and with it. y.std() is the standard deviation. Returns one
    number; LOWER is steadier.
    """
    return (moved - y).abs().mean() / y.std()


def sensitivity_signed(y, moved):
    """Without the absolute value a score that rises hides one that falls."""
    return (moved - y).mean() / y.std()


def sensitivity_of_moved(y, moved):
    """The standard deviation is that of the scores with noise. Take that of y."""
    return (moved - y).abs().mean() / moved.std()


def sensitivity_not_divided(y, moved):
    """This is the movement itself. Divide it by the standard deviation of y: a network whose scores
    all lie close together is not steady for that reason."""
    return (moved - y).abs().mean()


def sensitivity_over_variance(y, moved):
    """y.var() is the variance, whose unit is that of squared scores. Divide by y.std()."""
    return (moved - y).abs().mean() / y.var()


def sensitivity_squared(y, moved):
    """This is the standard deviation of the movement. The mean of |moved - y| is asked for."""
    return (moved - y).std() / y.std()


def moved_scores() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    y = torch.rand(20, generator=draw)
    return [(y, 0.7 * y + 0.1 + 0.1 * torch.randn(20, generator=draw))]


def from_neighbours(keys: torch.Tensor, scores: torch.Tensor, k: int) -> torch.Tensor:
    """Guess each image's score: the mean score of its k nearest OTHER images, by cosine.

    keys: (N, C), of any lengths; scores: (N,) in [0, 1]; k: 1 to N - 1. Returns (N,) guesses.
    """
    unit = F.normalize(keys, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return scores[cosine.topk(k).indices].mean(1)


def from_neighbours_and_itself(keys, scores, k):
    """Each image is its own nearest neighbour, so it tells its own score. Put -inf on the diagonal
    of the cosines."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).topk(k).indices].mean(1)


def from_neighbours_zero(keys, scores, k):
    """A cosine of 0 does not put a image last: others are negative. Put -inf on the diagonal."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).fill_diagonal_(0).topk(k).indices].mean(1)


def from_neighbours_farthest(keys, scores, k):
    """These are the farthest images. A large cosine means near: take the largest."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).fill_diagonal_(torch.inf).topk(k, largest=False).indices].mean(1)


def from_neighbours_long(keys, scores, k):
    """A product of two vectors grows with their lengths, so long ones look near. Give each key
    length 1 first."""
    return scores[(keys @ keys.T).fill_diagonal_(-torch.inf).topk(k).indices].mean(1)


def from_neighbours_wrong_axis(keys, scores, k):
    """Each channel was given length 1, over the images. An image's vector is a row: normalise along
    dim=1."""
    unit = F.normalize(keys, dim=0)
    return scores[(unit @ unit.T).fill_diagonal_(-torch.inf).topk(k).indices].mean(1)


def neighbourhoods() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(30, 5, generator=draw) * torch.arange(1, 6)
    keys = keys * (0.2 + torch.rand(30, 1, generator=draw))
    scores = torch.rand(30, generator=draw)
    return [(keys, scores, 3), (keys, scores, 20)]


def turn(features: torch.Tensor, noise: torch.Tensor, angle: float) -> torch.Tensor:
    """Turn each token by an angle towards its partner's token, in the plane of both; it keeps its
    length.

    length * (cos(angle) * u + sin(angle) * v): u has the token's direction, v is at a right angle
    to u, both of length 1. features, noise: (B, 1 + N, C); angle: radians, 0 to pi / 2. Returns
    (B, 1 + N, C).
    """
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * u).sum(-1, keepdim=True) * u, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_askew(features, noise, angle):
    """The partner's token is not at a right angle to u. Take away its part along u before v gets
    length 1."""
    u, v = F.normalize(features, dim=-1), F.normalize(noise, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_and_shorten(features, noise, angle):
    """All tokens have length 1 now. Give each one the length back that it had."""
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * u).sum(-1, keepdim=True) * u, dim=-1)
    return u * np.cos(angle) + v * np.sin(angle)


def turn_too_far(features, noise, angle):
    """v is as long as the partner's token across u, so the angle is another one. Give v length
    1."""
    u = F.normalize(features, dim=-1)
    v = noise - (noise * u).sum(-1, keepdim=True) * u
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_wrong_axis(features, noise, angle):
    """Sums and lengths go over the tokens here. A token is a vector of C channels: use the last
    axis, dim=-1."""
    u = F.normalize(features, dim=1)
    v = F.normalize(noise - (noise * u).sum(1, keepdim=True) * u, dim=1)
    return features.norm(dim=1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_along(features, noise, angle):
    """The noise's part along the token is (noise · u) u, with u of length 1. The token itself is
    longer than u."""
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * features).sum(-1, keepdim=True) * features, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def features_of_two() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    features, noise = torch.randn(2, 3, 5, 8, generator=draw)
    return [(features, noise, 0.3), (features, noise, 1.2)]


EXERCISES = {
    "30.1": Exercise(scatter, [scatter_summed, scatter_of_images, scatter_of_products,
                               scatter_diagonal, scatter_centred], images_and_partners),
    "30.2": Exercise(steady_ridge, [steady_ridge_not_centred, steady_ridge_summed,
                                    steady_ridge_plain, steady_ridge_alpha_everywhere,
                                    steady_ridge_subtracted], ridges),
    "30.3": Exercise(aliasing_rho, [aliasing_rho_of_cosines, aliasing_rho_with_itself,
                                    aliasing_rho_signed, aliasing_rho_not_normalised],
                     features_and_scores),
    "30.4": Exercise(panel_score, [panel_score_without_summary, panel_score_summary_as_token,
                                   panel_score_norm_of_tokens, panel_score_without_residual,
                                   panel_score_norm_after, panel_score_summed], panels, atol=1e-4),
    "30.5": Exercise(smooth_l1, [smooth_l1_not_smooth, smooth_l1_jump, smooth_l1_signed,
                                 smooth_l1_square, smooth_l1_summed], errors),
    "30.6": Exercise(sensitivity, [sensitivity_signed, sensitivity_of_moved,
                                   sensitivity_not_divided, sensitivity_over_variance,
                                   sensitivity_squared], moved_scores),
    "30.7": Exercise(from_neighbours, [from_neighbours_and_itself, from_neighbours_zero,
                                       from_neighbours_farthest, from_neighbours_long,
                                       from_neighbours_wrong_axis], neighbourhoods),
    "30.8": Exercise(turn, [turn_askew, turn_and_shorten, turn_too_far, turn_wrong_axis,
                            turn_along], features_of_two),
    "30.9": Choice("b", {
        "a": "Partners come from the training set. Which differences between contents occur there "
             "if nearly all good images show the same nine contents?",
        "c": "Look at the bars of the control: there the same penalty does not raise the score."}),
    "30.10": Choice("b", {
        "a": "Partners are of like score, not of the same: half of a small gap is a movement, too.",
        "c": "The movement is half the gap between two scores of the network. How wide is it, now "
             "that both are human scores?"}),
}
