"""The semantic noise of QFM-IQM: a memory bank of images, matching, perturbation, consistency.

Behind them stand measures of what that noise does to a trained network: how far scores move, and
where features alias. Feature aliasing is the name that Li et al. (ICML 2024, arXiv 2312.06158) give
to images whose features lie close while their human scores lie far apart. The measures are ours.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist, squareform
from torch import Tensor, nn

from iqa_core import images, metrics
from iqa_core.data import Dataset

if TYPE_CHECKING:
    from iqa_core.qfm import QFMIQM
    from iqa_core.qfm_network import QFMConfig


class Records(NamedTuple):
    """What the memory bank knows of B images, and what an image is matched by.

    Nothing in it has a gradient.
    """

    features: Tensor  # (B, 1 + N, C), half precision
    keys: Tensor  # (B, K) at length 1: what the image shows
    labels: Tensor  # (B,) quality in [0, 1]: human score or pseudo-label
    ids: Tensor  # (B,) which image it is

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, ids: Tensor, keys: Tensor | None = None) -> Self:
        """Records of features (B, 1 + N, C), labels (B,) and ids (B,).

        keys (B, K) may have any length; by default the summaries are the keys.
        """
        features = features.detach()
        if keys is None:
            keys = features[:, 0]
        keys = F.normalize(keys.detach().float(), dim=1)
        return cls(features.half(), keys, labels, ids)


class MemoryBank(nn.Module):
    """The records of the last `size` images: first in, first out.

    Its records are buffers. So they are part of a state dict, and a training that goes on from a
    checkpoint finds the images that it had.

    Args:
        size: largest number of records.
        tokens, width: 1 + N and C of the features.
        key_width: K of the keys; by default C.

    Attributes:
        count: number of records that it holds.
        steps: number of training steps that it has seen, with records or without.

    >>> bank = MemoryBank(3, tokens=2, width=8)
    >>> for i in range(4):
    ...     bank.add(Records.of(torch.rand(1, 2, 8), torch.tensor([0.5]), torch.tensor([i])))
    >>> bank.records.ids.tolist()
    [1, 2, 3]
    """

    def __init__(self, size: int, tokens: int, width: int, key_width: int | None = None):
        super().__init__()
        self.size = size
        self.count = 0
        self.steps = 0
        # records stand at the end of the buffers, the newest one last
        self.register_buffer("features", torch.zeros(size, tokens, width, dtype=torch.half))
        self.register_buffer("keys", torch.zeros(size, key_width or width))
        self.register_buffer("labels", torch.zeros(size))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.long))

    @property
    def records(self) -> Records:
        """The records, the oldest one first; `count` of them."""
        first = self.size - self.count
        return Records(self.features[first:], self.keys[first:], self.labels[first:],
                       self.ids[first:])

    def add(self, new: Records) -> None:
        """Take up the records of a batch; the oldest ones make room for them."""
        # on a CPU, autocast to bfloat16 cannot join tensors of float16
        with torch.autocast(new.features.device.type, enabled=False):
            for name, part in new._asdict().items():
                buffer = getattr(self, name)
                buffer.copy_(torch.cat([buffer, part.to(buffer.dtype)])[-self.size:])
        self.count = min(self.count + len(new.ids), self.size)

    def get_extra_state(self) -> Tensor:
        """Both counts, for the state dict: as buffers on a GPU they would be slow to read."""
        return torch.tensor([self.count, self.steps])

    def set_extra_state(self, state: Tensor) -> None:
        self.count, self.steps = state.tolist()


def match(own: Records, bank: Records, rule: str = "v3", tau_q: float = 0.1, tau_s: float = 0.7
          ) -> tuple[Tensor, Tensor]:
    """Semantic Noise Matching: for each image another one of similar quality that shows something
    else.

        v3:  draw j from  |label_i - label_j| <= tau_q,  cos(key_i, key_j) <= tau_s,  id_j != id_i
        v1:  draw j from  |label_i - label_j| >= tau_q,  cos(key_i, key_j) >= tau_s,  id_j != id_i

    Where nobody fits in both, v3 takes the smallest cosine (v1: the largest) among those of fitting
    quality; where nobody's quality fits, among the 5 % of nearest quality (v1: farthest). Rule
    "random" draws any other image.

    Args:
        own: records of B images.
        bank: records of those among which partners are sought.
        rule, tau_q, tau_s: as above.

    Returns:
        index (B,) into `bank`, and matched (B,): False where `bank` holds no other image; the index
        then means nothing.

    Source: both rules, the paper and its first preprint; thresholds, the draw, and what follows
    without a match, ours.
    """
    gap = (own.labels[:, None] - bank.labels).abs()  # (B, M)
    other = own.ids[:, None] != bank.ids
    matched = other.any(1)
    draw = torch.rand_like(gap)
    if rule == "random":
        return draw.masked_fill(~other, torch.inf).argmin(1), matched
    with torch.autocast(own.keys.device.type, enabled=False):  # a threshold wants precision
        cosine = own.keys @ bank.keys.T
    if rule == "v1":  # the opposite of everything
        gap, cosine = -gap, -cosine
        tau_q, tau_s = -tau_q, -tau_s
    gap = gap.masked_fill(~other, torch.inf)
    similar = gap <= tau_q
    both = similar & (cosine <= tau_s)
    few = max(1, round(0.05 * len(bank.ids)))
    nearest = other & (gap <= gap.kthvalue(few, 1, keepdim=True).values)
    any_both = both.any(1, keepdim=True)
    any_similar = similar.any(1, keepdim=True)
    candidates = torch.where(any_both, both, torch.where(any_similar, similar, nearest))
    cost = torch.where(any_both, draw, cosine)
    return cost.masked_fill(~candidates, torch.inf).argmin(1), matched


def semantic_noise(features: Tensor, own: Records, bank: Records, config: QFMConfig
                   ) -> tuple[Tensor, Tensor]:
    """The features of matched images, to be added to those of a batch.

    With rule "gaussian" each token is a random direction, as long as the token of `features`.

    Args:
        features: (B, 1 + N, C) of the batch.
        own, bank: records of the batch, and of those among which partners are sought.
        config: `rule`, `tau_q` and `tau_s`.

    Returns:
        noise, shaped as `features`, and matched (B,).
    """
    if config.rule == "gaussian":
        length = features.detach().norm(dim=-1, keepdim=True)
        noise = F.normalize(torch.randn_like(features), dim=-1) * length
        return noise, torch.ones_like(own.ids, dtype=torch.bool)
    index, matched = match(own, bank, config.rule, config.tau_q, config.tau_s)
    return bank.features[index].to(features.dtype), matched


def perturb(features: Tensor, noise: Tensor, alpha: float = 1.0, rescale: bool = True) -> Tensor:
    """Add noise to features, token to token; then each token gets its length back.

        F~ = F + alpha sg(F_m),    F~_t <- F~_t |F_t| / |F~_t|    (sg stops the gradient)

    The paper says "added" and no more, which is rescale=False. But the panel has no bias and no
    norm at its end, so longer features score higher, and then only a score of 0 is steady: training
    collapses. So `rescale` is ours.

    >>> features = torch.randn(2, 5, 8)
    >>> perturbed = perturb(features, torch.randn(2, 5, 8))
    >>> torch.allclose(perturbed.norm(dim=-1), features.norm(dim=-1))
    True
    """
    perturbed = features + alpha * noise.detach()
    if not rescale:
        return perturbed
    factor = features.norm(dim=-1, keepdim=True) / perturbed.norm(dim=-1, keepdim=True)
    return perturbed * factor


def consistency(perturbed: Tensor, y: Tensor, matched: Tensor, beta: float = 0.01) -> Tensor:
    """Quality Consistency Constraint: scores with noise should be those without.

        mean of SmoothL1(y~_i, sg(y_i)) over the images i that have a partner; 0 if none has

    Args:
        perturbed, y: (B,) scores with noise and without; no gradient goes to y.
        matched: (B,) which images have a partner.
        beta: gap below which the loss is a square.
    """
    each = F.smooth_l1_loss(perturbed, y.detach(), beta=beta, reduction="none")
    return (each * matched).sum() / matched.sum().clamp(min=1)


# --- measures ------------------------------------------------------------------------------------

@torch.inference_mode()
def describe(method: QFMIQM, dataset: Dataset) -> Records:
    """Records of the middle crop of every image, with its human score; the features are not
    rounded.

    `method.net.score(records.features)` are the scores of these crops.
    """
    net = method.fitted().eval()
    features, keys = [], []
    for row in range(len(dataset)):
        crop = images.crops(dataset.image(row), method.config.crop, "grid", 1)
        maps = net.encoder(crop.to(method.device))
        features.append(net.features(maps))
        keys.append(net.keys(maps, features[-1]))
    labels = torch.tensor(dataset.scores, dtype=torch.float32, device=method.device)
    ids = torch.arange(len(dataset), device=method.device)
    keys = F.normalize(torch.cat(keys).float(), dim=1)
    return Records(torch.cat(features), keys, labels, ids)


@torch.inference_mode()
def sensitivity(method: QFMIQM, records: Records, seed: int = 0, **changes) -> np.ndarray:
    """How far semantic noise moves each score: |y~_i - y_i| / sd(y). Its mean is S; LOWER is
    steadier.

    The noise comes from the other images, matched by their human scores.

    Args:
        method: fitted; its config says rule, thresholds and alpha.
        records: of `describe(method, dataset)`; other keys may be put in their place.
        seed: of the draws.
        changes: fields of the config that this measure takes otherwise, such as rule="gaussian".

    Returns:
        (N,) shifts, in standard deviations of the method's own scores.
    """
    config = dataclasses.replace(method.config, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        noise, _ = semantic_noise(records.features, records, records, config)
    perturbed = perturb(records.features, noise, config.alpha, config.rescale)
    before = torch.cat([method.net.score(part) for part in records.features.split(64)])
    after = torch.cat([method.net.score(part) for part in perturbed.split(64)])
    return ((after - before).abs() / before.std()).cpu().numpy()


def aliasing(keys, scores) -> tuple[float, pd.DataFrame]:
    """Do images that lie close in feature space have close scores? "Feature aliasing" means: they
    need not.

    Args:
        keys: (N, K) one vector an image, such as `describe(...).keys`.
        scores: (N,) human scores.

    Returns:
        rho: SRCC over all pairs between cosine distance and |score difference|; HIGHER = less
        aliasing. And a table of each image `i` with its nearest neighbour `j`, `distance` and
        `gap`, the largest gap of scores first.

    >>> rho, table = aliasing(np.eye(3) + [[0, 0, 0], [0.9, 0, 0], [0, 0, 0]], [0.1, 0.9, 0.5])
    >>> table.iloc[0][["i", "j", "gap"]].tolist()
    [0.0, 1.0, 0.8]
    """
    keys = np.asarray(keys, dtype=np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    distance = pdist(keys, "cosine")  # a number a pair
    gap = pdist(scores[:, None], "cityblock")
    square = squareform(distance)
    np.fill_diagonal(square, np.inf)
    nearest = square.argmin(1)
    table = pd.DataFrame({"i": np.arange(len(keys)), "j": nearest, "distance": square.min(1),
                          "gap": np.abs(scores - scores[nearest])})
    table = table.sort_values("gap", ascending=False, ignore_index=True)
    return metrics.srcc(distance, gap), table
