"""Exercises of notebook 11: codes, the key encoder, the queue, InfoNCE, the collapse meter, the
training loop; how long the key encoder remembers, what the queue lacks."""

import copy
from collections.abc import Iterable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from iqa_exercises import Choice, Exercise, Number


def codes(encoder: nn.Module, head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The codes of crops: the head's answer to the encoder's features, brought to length 1.

    x: (N, 3, P, P); encoder: x -> (N, F); head: (N, F) -> (N, D). Returns (N, D), rows of length 1.
    """
    return F.normalize(head(encoder(x)), dim=1)


def codes_of_any_length(encoder, head, x):
    """The codes are not of length 1. A product of two codes is a cosine only if both have length
    1: F.normalize."""
    return head(encoder(x))


def codes_across_the_batch(encoder, head, x):
    """You normalise across the batch: dim=0. Each code, a row, shall have length 1: dim=1."""
    return F.normalize(head(encoder(x)), dim=0)


def codes_features_normalised(encoder, head, x):
    """You normalise the features, before the head. The codes come after it, and are compared."""
    return head(F.normalize(encoder(x), dim=1))


def follow(key: list[torch.Tensor], query: list[torch.Tensor], m: float) -> list[torch.Tensor]:
    """The parameters of the key encoder after one update: m theta_k + (1 - m) theta_q.

    key, query: the parameters of both encoders in the same order; m: 0 = a copy of the query
    encoder, 1 = no change. Returns a list of new tensors.
    """
    return [m * theta_k + (1 - m) * theta_q for theta_k, theta_q in zip(key, query)]


def follow_wrong_way_round(key, query, m):
    """The momentum is the wrong way round. m is the share that the key encoder KEEPS; with
    m = 0.99 it moves by a hundredth of the way."""
    return [(1 - m) * theta_k + m * theta_q for theta_k, theta_q in zip(key, query)]


def follow_as_copy(key, query, m):
    """The key encoder becomes a copy of the query encoder. It shall move by the share 1 - m
    only."""
    return [theta_q.clone() for theta_q in query]


def follow_added(key, query, m):
    """The shares do not sum to 1, so the parameters grow at every step. The old ones count m, the
    query's 1 - m."""
    return [theta_k + (1 - m) * theta_q for theta_k, theta_q in zip(key, query)]


def enqueue(queue: torch.Tensor, position: int, keys: torch.Tensor) -> tuple:
    """New keys take the places of the oldest ones, beginning at `position`.

    After the last place comes place 0 again. queue: (K, D), of length 1; keys: (N, D), N at most
    K, of any length: they enter with length 1. Returns the new queue, and the place after the
    newest key.
    """
    places = (position + torch.arange(len(keys))) % len(queue)
    queue = queue.clone()
    queue[places] = F.normalize(keys, dim=1)
    return queue, (position + len(keys)) % len(queue)


def enqueue_not_normalised(queue, position, keys):
    """The keys in the queue are not of length 1. A long key would be near to every query:
    F.normalize(keys, dim=1)."""
    places = (position + torch.arange(len(keys))) % len(queue)
    queue = queue.clone()
    queue[places] = keys
    return queue, (position + len(keys)) % len(queue)


def enqueue_position_not_wrapped(queue, position, keys):
    """The position does not begin again at 0: it leaves the queue. Take the remainder,
    % len(queue), of the position that you return as well."""
    places = (position + torch.arange(len(keys))) % len(queue)
    queue = queue.clone()
    queue[places] = F.normalize(keys, dim=1)
    return queue, position + len(keys)


def enqueue_always_first(queue, position, keys):
    """The keys always go to the first places. They begin at `position`, so that the oldest are
    overwritten."""
    queue = queue.clone()
    queue[:len(keys)] = F.normalize(keys, dim=1)
    return queue, (position + len(keys)) % len(queue)


def info_nce(q: torch.Tensor, k: torch.Tensor, queue: torch.Tensor, temperature: float
             ) -> torch.Tensor:
    """How hard it is to tell the own key from all keys in the queue, in nats.

    L = -mean over i of log(p_i),   s_i = q_i.k_i / T,
    p_i = exp(s_i) / (exp(s_i) + sum over j of exp(q_i.n_j / T))

    q, k: (N, D); k_i is the positive of q_i. queue: (K, D), the negatives n_j; all of length 1.
    temperature: T. Returns one number.
    """
    positive = (q * k).sum(1, keepdim=True)  # (N, 1)
    logits = torch.cat([positive, q @ queue.T], 1) / temperature  # (N, 1 + K)
    target = torch.zeros(len(q), dtype=torch.long)  # the right answer stands first
    return F.cross_entropy(logits, target)


def info_nce_positives_in_queue(q, k, queue, temperature):
    """The positive is among the negatives, too. So the right answer has a double, and the loss
    cannot fall below log 2."""
    positive = (q * k).sum(1, keepdim=True)
    logits = torch.cat([positive, positive, q @ queue.T], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def info_nce_without_temperature(q, k, queue, temperature):
    """You do not divide by the temperature. With T = 0.2 all similarities count five times as
    much."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def info_nce_times_temperature(q, k, queue, temperature):
    """You multiply by the temperature. The similarities are divided by it."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) * temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def info_nce_positive_not_below(q, k, queue, temperature):
    """The positive is missing below the fraction line: it is one of the answers among which the
    query chooses."""
    positive = (q * k).sum(1) / temperature
    return (torch.logsumexp(q @ queue.T / temperature, 1) - positive).mean()


def spread(z: torch.Tensor) -> torch.Tensor:
    """The collapse meter: sqrt(D) times the mean over d of the standard deviation over i of z_id.

    z: codes (N, D) of length 1; z.std(0) gives standard deviations. Returns one number: about 1 =
    codes in all directions, 0 = all codes are one point.
    """
    return z.shape[1]**0.5 * z.std(0).mean()


def spread_within_codes(z):
    """This is the standard deviation inside of each code. It is near 1 even if all codes are equal.
    Ask how the codes differ: z.std(0)."""
    return z.shape[1]**0.5 * z.std(1).mean()


def spread_not_scaled(z):
    """The factor sqrt(D) is missing. Without it the meter depends on how many numbers a code
    has."""
    return z.std(0).mean()


def train(moco, optimizer: torch.optim.Optimizer, batches: Iterable) -> list:
    """One step for each batch (a, b) of query crops and key crops. Returns the losses.

    A step: moco.follow(); the codes q = moco.q(a), which learn, and k = moco.k(b), which carry NO
    gradient; loss = moco.loss(q, k); zero the gradients, go backward, step; then moco.enqueue(k).
    """
    losses = []
    for a, b in batches:
        moco.follow()
        q = moco.q(a)
        with torch.no_grad():
            k = moco.k(b)
        loss = moco.loss(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moco.enqueue(k)
        losses.append(loss.item())
    return losses


def train_no_stop_gradient(moco, optimizer, batches):
    """There is no stop-gradient: the key encoder learns by gradient, too. Compute k inside
    `with torch.no_grad():`, or use k.detach()."""
    losses = []
    for a, b in batches:
        moco.follow()
        k = moco.k(b)
        loss = moco.loss(moco.q(a), k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moco.enqueue(k.detach())
        losses.append(loss.item())
    return losses


def train_queued_first(moco, optimizer, batches):
    """The keys enter the queue before the loss, so every query meets its own key among the
    negatives. Queue them at the end of the step."""
    losses = []
    for a, b in batches:
        moco.follow()
        q = moco.q(a)
        with torch.no_grad():
            k = moco.k(b)
        moco.enqueue(k)
        loss = moco.loss(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_gradients_pile_up(moco, optimizer, batches):
    """The gradients of earlier steps pile up: optimizer.zero_grad() is missing before backward."""
    losses = []
    for a, b in batches:
        moco.follow()
        q = moco.q(a)
        with torch.no_grad():
            k = moco.k(b)
        loss = moco.loss(q, k)
        loss.backward()
        optimizer.step()
        moco.enqueue(k)
        losses.append(loss.item())
    return losses


def train_key_does_not_follow(moco, optimizer, batches):
    """The key encoder stays as it was at the start: moco.follow() is missing."""
    losses = []
    for a, b in batches:
        q = moco.q(a)
        with torch.no_grad():
            k = moco.k(b)
        loss = moco.loss(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moco.enqueue(k)
        losses.append(loss.item())
    return losses


def train_queue_stays(moco, optimizer, batches):
    """The queue never changes: moco.enqueue(k) is missing at the end of the step."""
    losses = []
    for a, b in batches:
        moco.follow()
        q = moco.q(a)
        with torch.no_grad():
            k = moco.k(b)
        loss = moco.loss(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- inputs --------------------------------------------------------------------------------------

def small_encoder() -> list[tuple]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [(nn.Flatten(), nn.Linear(48, 5), torch.rand(3, 3, 4, 4)),
                (nn.Flatten(), nn.Linear(12, 4), torch.rand(6, 3, 2, 2))]


def parameters() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    key, query = ([torch.randn(shape, generator=generator) for shape in ((3, 2), (4,))]
                  for _ in range(2))
    return [(key, query, 0.9), (key, query, 0.25)]


def queues() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    queue = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    keys = 3 * torch.randn(4, 4, generator=generator)
    return [(queue, 1, keys[:2]), (queue, 2, keys), (queue, 5, keys)]


def some_codes() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    q, k, queue = (F.normalize(torch.randn(n, 4, generator=generator), dim=1) for n in (5, 5, 7))
    return [(q, k, queue, 0.2), (q, q, queue, 0.5)]


def clouds() -> list[tuple]:
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return [(F.normalize(z, dim=1),), (F.normalize(z + 2, dim=1),)]


def small_moco(seed: int) -> tuple:
    """A MoCo of one linear layer, its optimizer, and three batches."""
    generator = torch.Generator().manual_seed(seed)
    query = nn.Linear(6, 4)
    query.weight.data = torch.randn(4, 6, generator=generator)
    query.bias.data.zero_()
    key = copy.deepcopy(query)
    moco = SimpleNamespace(
        queue=F.normalize(torch.randn(8, 4, generator=generator), dim=1), position=0,
        q=lambda x: F.normalize(query(x), dim=1), k=lambda x: F.normalize(key(x), dim=1))

    @torch.no_grad()
    def follow_query():
        for slow, fast in zip(key.parameters(), query.parameters()):
            slow.lerp_(fast, 0.5)

    @torch.no_grad()
    def take(keys):
        moco.queue, moco.position = enqueue(moco.queue, moco.position, keys)

    moco.follow = follow_query
    moco.enqueue = take
    moco.loss = lambda q, k: info_nce(q, k, moco.queue, 0.2)
    optimizer = torch.optim.SGD([*query.parameters(), *key.parameters()], lr=0.5)
    batches = [torch.randn(2, 3, 6, generator=generator).unbind() for _ in range(4)]
    return moco, optimizer, batches


# --- the experiment ------------------------------------------------------------------------------

def half_way(m: float) -> float:
    """Steps until a key parameter that starts at 0 has gone half way to a query parameter of 1."""
    key = [torch.zeros((), dtype=torch.float64)]
    query = [torch.ones((), dtype=torch.float64)]
    steps = 0
    while key[0] < 0.5:
        key = follow(key, query, m)
        steps += 1
    return float(steps)


def half_way_of_099() -> float:
    """That is m = 0.99. The paper's key encoder keeps 0.999 at each step."""
    return half_way(0.99)


def half_way_wrong_way_round() -> float:
    """The momentum is the wrong way round, so half of the way is done at once."""
    return half_way(0.001)


EXERCISES = {
    "11.1": Exercise(
        codes, [codes_of_any_length, codes_across_the_batch, codes_features_normalised],
        small_encoder),
    "11.2": Exercise(follow, [follow_wrong_way_round, follow_as_copy, follow_added], parameters),
    "11.3": Exercise(
        enqueue,
        [enqueue_not_normalised, enqueue_position_not_wrapped, enqueue_always_first],
        queues),
    "11.4": Exercise(
        info_nce,
        [info_nce_positives_in_queue, info_nce_without_temperature, info_nce_times_temperature,
         info_nce_positive_not_below],
        some_codes),
    "11.5": Exercise(spread, [spread_within_codes, spread_not_scaled], clouds),
    "11.6": Exercise(
        train,
        [train_no_stop_gradient, train_queued_first, train_gradients_pile_up,
         train_key_does_not_follow, train_queue_stays],
        lambda: [small_moco(0), small_moco(1)], atol=1e-4),
    "11.7": Number(lambda: half_way(0.999), 5.0, [half_way_of_099, half_way_wrong_way_round]),
    "11.8": Choice("b", {
        "a": "That is the wanted way: the distortion. But is it the only thing that a query shares "
             "with its key and with no key in the queue?",
        "c": "The code of a photograph changes slowly, but another photograph's code is another "
             "one. What do both crops of a pair show?"}),
}
