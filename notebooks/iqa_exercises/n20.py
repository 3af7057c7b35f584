"""Exercises of notebook 20: how many keys a query uses, both roles of attention at once."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def keys_used(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """How many keys each query looks at: exp of the entropy of its attention weights.

    The weights p are softmax(q k' / sqrt(C)), their entropy is -sum p log p (natural logarithm,
    0 log 0 = 0). q: (..., N, C); k: (..., M, C). Returns (..., N) in [1, M]: 1 = one key has it
    all, M = a plain mean.
    """
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return entropy.exp()


def keys_used_nan(q, k):
    """A weight of exactly 0 gives 0 * log 0, which is NaN. Take log_softmax of the logits, not log
    of the weights."""
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (-(weights * weights.log()).sum(-1)).exp()


def keys_used_softmax_over_queries(q, k):
    """The softmax runs over the queries. Each query hands out a weight of 1 to its keys: the last
    axis."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (-(logits.softmax(-2) * logits.log_softmax(-2)).sum(-1)).exp()


def keys_used_without_root(q, k):
    """The division by sqrt(C) is missing: these weights are sharper than those of the attention."""
    logits = q @ k.transpose(-1, -2)
    return (-(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)).exp()


def keys_used_entropy(q, k):
    """This is the entropy itself, between 0 and log M. A number of keys is its exp."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def keys_used_sign(q, k):
    """No result is above 1: the minus of the entropy is missing."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).exp()


def keys_used_mean(q, k):
    """The entropy is a sum over the keys, not a mean: p is the weight of each already."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (-(logits.softmax(-1) * logits.log_softmax(-1)).mean(-1)).exp()


def queries_and_keys() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    q = torch.randn(2, 5, 8, generator=draw)
    k = torch.randn(2, 7, 8, generator=draw)
    far = 50 * torch.randn(10, 3, generator=draw)  # some weights are exactly 0
    return [(q, k), (far[:6], far[6:])]


def mutual(x: torch.Tensor, y: torch.Tensor, g_y: torch.Tensor, g_x: torch.Tensor) -> torch.Tensor:
    """Both roles at once: x, plus g_y times what the queries y get from x, plus g_x times what the
    queries x get from y.

    Tokens are queries, keys and values as they are, without W; the attention is that of section 1.
    x, y: (B, N, C), distorted and reference; g_y, g_x: (B, N, 1), gates. Returns (B, N, C).
    """
    queries_of_y = F.scaled_dot_product_attention(y, x, x)
    queries_of_x = F.scaled_dot_product_attention(x, y, y)
    return x + g_y * queries_of_y + g_x * queries_of_x


def mutual_gates_swapped(x, y, g_y, g_x):
    """The gates are swapped. g_y weighs the answer to the queries y, g_x that to the queries x."""
    queries_of_y = F.scaled_dot_product_attention(y, x, x)
    queries_of_x = F.scaled_dot_product_attention(x, y, y)
    return x + g_x * queries_of_y + g_y * queries_of_x


def mutual_without_x(x, y, g_y, g_x):
    """x itself is missing. With both gates closed the tokens must pass as they are."""
    queries_of_y = F.scaled_dot_product_attention(y, x, x)
    queries_of_x = F.scaled_dot_product_attention(x, y, y)
    return g_y * queries_of_y + g_x * queries_of_x


def mutual_own_values(x, y, g_y, g_x):
    """The values come from where the queries come from. Keys and values both belong to the other
    image."""
    queries_of_y = F.scaled_dot_product_attention(y, x, y)
    queries_of_x = F.scaled_dot_product_attention(x, y, x)
    return x + g_y * queries_of_y + g_x * queries_of_x


def mutual_one_after_the_other(x, y, g_y, g_x):
    """The queries of the second attention are the result of the first. Both stand side by side, on
    the tokens that were given."""
    x = x + g_y * F.scaled_dot_product_attention(y, x, x)
    return x + g_x * F.scaled_dot_product_attention(x, y, y)


def mutual_self(x, y, g_y, g_x):
    """One of the two is self-attention, so no value of the reference is in the sum. The queries x
    need the keys and values of y."""
    queries_of_y = F.scaled_dot_product_attention(y, x, x)
    queries_of_x = F.scaled_dot_product_attention(x, x, x)
    return x + g_y * queries_of_y + g_x * queries_of_x


def mutual_without_root(x, y, g_y, g_x):
    """The logits are not divided by sqrt(C)."""
    queries_of_y = (y @ x.mT).softmax(-1) @ x
    queries_of_x = (x @ y.mT).softmax(-1) @ y
    return x + g_y * queries_of_y + g_x * queries_of_x


def tokens_and_gates() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 6, 8, generator=draw)
    g_y, g_x = torch.randn(2, 2, 6, 1, generator=draw)
    return [(x, y, g_y, g_x)]


EXERCISES = {
    "20.1": Exercise(
        keys_used,
        [keys_used_nan, keys_used_softmax_over_queries, keys_used_without_root, keys_used_entropy,
         keys_used_sign, keys_used_mean],
        queries_and_keys),
    "20.2": Exercise(
        mutual,
        [mutual_gates_swapped, mutual_without_x, mutual_own_values,
         mutual_one_after_the_other, mutual_self, mutual_without_root],
        tokens_and_gates),
    "20.3": Choice("b", {
        "a": "A sum of 1 can be spread evenly or lie on one key. Print the largest weight of some "
             "rows, both ways, for C = 1024.",
        "c": "q k' is a sum of C products, so without the division the logits grow apart with C. "
             "Does a softmax of logits that lie far apart spread its weight?"}),
    "20.4": Choice("b", {
        "a": "A strong distortion is seen in x itself. Methods without a reference live on that.",
        "c": "However many contents there are: as long as the score follows from x alone, a "
             "network that sees x alone may learn it."}),
}
