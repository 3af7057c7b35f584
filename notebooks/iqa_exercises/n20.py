"""Exercises of notebook 20: what a reference changes, attention, hierarchical attention, the
discrepancy, a training loop, and two ways to look closer."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from iqa_exercises import Choice, Exercise


def change(z: torch.Tensor, z_ref: torch.Tensor) -> torch.Tensor:
    """How much each channel differs between an image and its reference: the mean of |z - z_ref|
    over all places.

    z, z_ref: maps (B, C, h, w). Returns (B, C).
    """
    return (z - z_ref).abs().mean((2, 3))


def change_of_means(z, z_ref):
    """The mean is taken before the absolute value, so a place that went up hides one that went
    down. First |z - z_ref| at every place, then the mean."""
    return (z.mean((2, 3)) - z_ref.mean((2, 3))).abs()


def change_signed(z, z_ref):
    """The absolute value is missing: a change upwards and one downwards cancel."""
    return (z - z_ref).mean((2, 3))


def change_over_channels(z, z_ref):
    """The mean runs over the channels, too. Each channel keeps a number of its own: (B, C)."""
    return (z - z_ref).abs().mean((1, 2, 3))


def change_over_batch(z, z_ref):
    """The mean runs over the images of the batch. Each image keeps its own numbers: (B, C)."""
    return (z - z_ref).abs().mean((0, 2, 3))


def two_maps() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(2, 3, 5, 4, 6, generator=draw))]


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple:
    """Attention: softmax(q k' / sqrt(C)) v, and its weights.

    q: (..., N, C), queries; k: (..., M, C), keys; v: (..., M, D), values. Returns the answers
    (..., N, D) and the weights (..., N, M), whose rows sum to 1.
    """
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = logits.softmax(-1)
    return weights @ v, weights


def attention_without_root(q, k, v):
    """The division by sqrt(C) is missing, so the weights are too sharp."""
    weights = (q @ k.transpose(-1, -2)).softmax(-1)
    return weights @ v, weights


def attention_without_square_root(q, k, v):
    """The division is by C, where it should be by the square root of C."""
    weights = (q @ k.transpose(-1, -2) / q.shape[-1]).softmax(-1)
    return weights @ v, weights


def attention_over_queries(q, k, v):
    """The softmax runs over the queries. Each query hands out a weight of 1 to its keys, so it must
    run over the last axis."""
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-2)
    return weights @ v, weights


def attention_without_softmax(q, k, v):
    """There is no softmax: the weights are not positive and do not sum to 1."""
    weights = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return weights @ v, weights


def attention_answers_only(q, k, v):
    """Only the answers come back. Return the weights as well, as a second result."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def queries_keys_values() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    shapes = (2, 5, 8), (2, 7, 8), (2, 7, 3)
    return [tuple(torch.randn(shape, generator=draw) for shape in shapes)]


def discrepancy(x: torch.Tensor, y: torch.Tensor, query: Callable, key: Callable, prior: float
                ) -> torch.Tensor:
    """What the image has and its reference has not: x minus what x retrieves from y.

    The logits are query(x) key(y)' / sqrt(C), plus `prior` where a token meets the one of its own
    place. The values are the tokens y as they are. x, y: (B, N, C); query, key: (B, N, C) ->
    (B, N, C). Returns (B, N, C).
    """
    logits = query(x) @ key(y).mT / x.shape[-1] ** 0.5
    logits = logits + prior * torch.eye(x.shape[1])
    return x - logits.softmax(-1) @ y


def discrepancy_prior_everywhere(x, y, query, key, prior):
    """The prior has no effect: it is missing, or it is added to every logit alike, which a softmax
    does not see. It belongs to the diagonal only: torch.eye."""
    logits = query(x) @ key(y).mT / x.shape[-1] ** 0.5 + prior
    return x - logits.softmax(-1) @ y


def discrepancy_retrieved(x, y, query, key, prior):
    """This is what was retrieved. Subtract it from x."""
    logits = query(x) @ key(y).mT / x.shape[-1] ** 0.5 + prior * torch.eye(x.shape[1])
    return logits.softmax(-1) @ y


def discrepancy_reference_asks(x, y, query, key, prior):
    """The reference asks and x answers. Then nothing of the reference is subtracted: ask with x,
    retrieve from y."""
    logits = query(y) @ key(x).mT / x.shape[-1] ** 0.5 + prior * torch.eye(x.shape[1])
    return x - logits.softmax(-1) @ x


def discrepancy_of_keys(x, y, query, key, prior):
    """The values are key(y). Retrieve the tokens y as they are, or x - R compares two kinds of
    things."""
    logits = query(x) @ key(y).mT / x.shape[-1] ** 0.5 + prior * torch.eye(x.shape[1])
    return x - logits.softmax(-1) @ key(y)


def discrepancy_plain(x, y, query, key, prior):
    """This is the plain difference: every token meets its own place only, and nothing asks."""
    return x - y


def tokens_and_maps() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 6, 8, generator=draw)
    a, b = torch.randn(2, 8, 8, generator=draw)
    return [(x, y, lambda t: t @ a, lambda t: t @ b, 2.0)]


def gated(x: torch.Tensor, q: torch.Tensor, kv: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """x plus what attention brings, as far as each token's gate lets it in.

    out = x + gelu(layer.gate(x)) * attention(layer.query(q), layer.key(kv), layer.value(kv))

    x and q: (B, N, C), kv: (B, M, C); layer has four linear maps: gate (to one number), query, key
    and value. Use F.scaled_dot_product_attention, which is the attention of section 2. Returns
    (B, N, C).
    """
    answers = F.scaled_dot_product_attention(layer.query(q), layer.key(kv), layer.value(kv))
    return x + F.gelu(layer.gate(x)) * answers


def gated_without_x(x, q, kv, layer):
    """x itself is missing: with a closed gate the tokens must pass as they are."""
    answers = F.scaled_dot_product_attention(layer.query(q), layer.key(kv), layer.value(kv))
    return F.gelu(layer.gate(x)) * answers


def gated_by_q(x, q, kv, layer):
    """The gate is opened by q. Each token of x opens its own gate."""
    answers = F.scaled_dot_product_attention(layer.query(q), layer.key(kv), layer.value(kv))
    return x + F.gelu(layer.gate(q)) * answers


def gated_values_of_q(x, q, kv, layer):
    """The values come from q. Keys and values both belong to kv."""
    answers = F.scaled_dot_product_attention(layer.query(q), layer.key(kv), layer.value(q))
    return x + F.gelu(layer.gate(x)) * answers


def gated_roles_swapped(x, q, kv, layer):
    """kv asks and q answers. The queries are made from q, keys and values from kv."""
    answers = F.scaled_dot_product_attention(layer.query(kv), layer.key(q), layer.value(q))
    return x + F.gelu(layer.gate(x)) * answers


def gated_without_gelu(x, q, kv, layer):
    """The gelu of the gate is missing."""
    answers = F.scaled_dot_product_attention(layer.query(q), layer.key(kv), layer.value(kv))
    return x + layer.gate(x) * answers


def tokens_and_layer() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x, q, kv = torch.randn(3, 2, 6, 8, generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.ModuleDict({name: nn.Linear(8, 1 if name == "gate" else 8)
                               for name in ("query", "key", "value", "gate")})
    return [(x, q, kv, SimpleNamespace(**layer))]


def hierarchical(x: torch.Tensor, y: torch.Tensor, whole: Callable, local: Callable, cut: Callable,
                 join: Callable) -> torch.Tensor:
    """Hierarchical Attention: first all places of the image answer the reference, then those of the
    same quarter.

    x: (B, N, C), tokens of the image; y: (B, N, C), tokens of the reference, which asks both times.
    whole(x, q, kv) and local(x, q, kv): two gated attentions; cut: (B, N, C) -> (4 B, N / 4, C);
    join: the way back. What the global step made is what answers in the local one. Returns
    (B, N, C).
    """
    x = whole(x, y, x)
    x, y = cut(x), cut(y)
    return join(local(x, y, x))


def hierarchical_only_global(x, y, whole, local, cut, join):
    """The local step is missing."""
    return whole(x, y, x)


def hierarchical_only_local(x, y, whole, local, cut, join):
    """The global step is missing, or its result is not used."""
    x, y = cut(x), cut(y)
    return join(local(x, y, x))


def hierarchical_self(x, y, whole, local, cut, join):
    """The image asks itself, so the reference has no part in it. The queries are y."""
    x = whole(x, x, x)
    return join(local(cut(x), cut(x), cut(x)))


def hierarchical_swapped(x, y, whole, local, cut, join):
    """The image asks and the reference answers. In the paper it is the other way round: y is the
    query, x is keys and values."""
    x = whole(x, x, y)
    x, y = cut(x), cut(y)
    return join(local(x, x, y))


def hierarchical_old_keys(x, y, whole, local, cut, join):
    """In the local step the tokens from before the global step answer. Its result must answer."""
    first = whole(x, y, x)
    return join(local(cut(first), cut(y), cut(x)))


def hierarchical_not_cut(x, y, whole, local, cut, join):
    """The local step sees all places at once: nothing was cut into quarters."""
    x = whole(x, y, x)
    return local(x, y, x)


def tokens_and_steps() -> list[tuple]:
    def step(number: int):
        def toy(x, q, kv):
            return x + number * torch.softmax(q @ kv.mT, -1) @ kv
        return toy

    def cut(tokens):
        return tokens.unflatten(1, (4, -1)).flatten(0, 1)

    def join(cells):
        return cells.unflatten(0, (-1, 4)).flatten(1, 2)

    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 8, 4, generator=draw)
    return [(x, y, step(1), step(2), cut, join)]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable) -> list:
    """The training loop: one step a batch, by the squared error.

    net(x, y) gives scores (B,); batches yields (x, y, mos): tokens of the images, tokens of their
    references, and the scores (B,) that the network shall learn. Returns the loss of every step as
    a list of numbers.
    """
    losses = []
    for x, y, mos in batches:
        loss = (net(x, y) - mos).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_adding_up(net, optimizer, batches):
    """The gradients of all steps add up. Before loss.backward() comes optimizer.zero_grad()."""
    losses = []
    for x, y, mos in batches:
        loss = (net(x, y) - mos).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_without_step(net, optimizer, batches):
    """Nothing is learned: optimizer.step() is missing."""
    losses = []
    for x, y, mos in batches:
        loss = (net(x, y) - mos).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
    return losses


def train_on_sums(net, optimizer, batches):
    """The loss is the sum over the batch. Take the mean, or a larger batch makes larger steps."""
    losses = []
    for x, y, mos in batches:
        loss = (net(x, y) - mos).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_without_reference(net, optimizer, batches):
    """The network gets x in place of its reference: net(x, x). Hand y over."""
    losses = []
    for x, y, mos in batches:
        loss = (net(x, x) - mos).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def a_small_training() -> list[tuple]:
    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x, y):
            return ((x - 0.3 * y) * self.weight).sum((1, 2))

    draw = torch.Generator().manual_seed(0)
    batches = [(*torch.randn(2, 3, 5, 4, generator=draw), torch.rand(3, generator=draw))
               for _ in range(4)]
    net = Toy()
    return [(net, torch.optim.SGD(net.parameters(), lr=0.01), batches)]


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

    Tokens are queries, keys and values as they are, without W; the attention is that of section 2.
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
        change, [change_of_means, change_signed, change_over_channels, change_over_batch], two_maps),
    "20.2": Exercise(
        attention,
        [attention_without_root, attention_without_square_root, attention_over_queries,
         attention_without_softmax, attention_answers_only],
        queries_keys_values),
    "20.3": Exercise(
        discrepancy,
        [discrepancy_prior_everywhere, discrepancy_retrieved, discrepancy_reference_asks,
         discrepancy_of_keys, discrepancy_plain],
        tokens_and_maps),
    "20.4": Exercise(
        gated,
        [gated_without_x, gated_by_q, gated_values_of_q, gated_roles_swapped, gated_without_gelu],
        tokens_and_layer),
    "20.5": Exercise(
        hierarchical,
        [hierarchical_only_global, hierarchical_only_local, hierarchical_self, hierarchical_swapped,
         hierarchical_old_keys, hierarchical_not_cut],
        tokens_and_steps),
    "20.6": Exercise(
        train,
        [train_adding_up, train_without_step, train_on_sums, train_without_reference],
        a_small_training),
    "20.7": Exercise(
        keys_used,
        [keys_used_nan, keys_used_softmax_over_queries, keys_used_without_root, keys_used_entropy,
         keys_used_sign, keys_used_mean],
        queries_and_keys),
    "20.8": Exercise(
        mutual,
        [mutual_gates_swapped, mutual_without_x, mutual_own_values,
         mutual_one_after_the_other, mutual_self, mutual_without_root],
        tokens_and_gates),
    "20.9": Choice("b", {
        "a": "A sum of 1 can be spread evenly or lie on one key. Print the largest weight of some "
             "rows, both ways, for C = 1024.",
        "c": "q k' is a sum of C products, so without the division the logits grow apart with C. "
             "Does a softmax of logits that lie far apart spread its weight?"}),
    "20.10": Choice("b", {
        "a": "A strong distortion is seen in x itself. Methods without a reference live on that.",
        "c": "However many contents there are: as long as the score follows from x alone, a "
             "network that sees x alone may learn it."}),
}
