"""DRI-IQA's RS loss, whose name and purpose are the paper's. Its formula is not known: these three
parts are candidates.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def ratio(restored: Sequence[Tensor], reference: Sequence[Tensor], degraded: Sequence[Tensor]
          ) -> Tensor:
    """RS loss, part "ratio": the restored image must be represented as its reference is, and not as
    the degraded image.

        mean over r in {q, g} of log(1 + |r(x_res) - r(x_ref)|_1 / (|r(x) - r(x_ref)|_1 + 1e-3))

    1e-3 is in units of a mean over the numbers of r. Only r(x_res) has a gradient; what it is
    divided by is a scale. A network that changes nothing pays log 2, one that finds the reference
    pays nothing.
    Source: name and purpose of the RS loss, paper. The authors' deraining network divides by
    |r(x_res) - r(x)|, without the logarithm. That is not defined for a network that changes nothing
    yet, its gradient is far larger than that of the scores, and it can be made small by moving away
    from the degraded image into any direction.

    Args:
        restored, reference, degraded: (q, g) of these images, (B, length) each.

    Returns:
        A scalar, at least 0, LOWER = BETTER.
    """
    parts = []
    for of_restored, of_reference, of_degraded in zip(restored, reference, degraded):
        of_reference = of_reference.detach().float()
        left = (of_restored.float() - of_reference).abs().mean(1)  # (B,)
        whole = (of_degraded.detach().float() - of_reference).abs().mean(1)
        parts.append((left / (whole + 1e-3)).log1p().mean())
    return sum(parts) / len(parts)


def align(features: Tensor, vectors: Sequence[Tensor], projections: nn.ModuleList) -> Tensor:
    """RS loss, part "align": the predictor's features must tell q and g. Ours.

        1 - cos(W_q y, q) + 1 - cos(W_g y, g),    y = pooled features of the predictor

    q and g get no gradient.

    Args:
        features: y, (B, width / 2).
        vectors: q and g, (B, length) each.
        projections: W_q and W_g.

    Returns:
        A scalar in [0, 4], LOWER = BETTER.
    """
    loss = 0
    for projection, vector in zip(projections, vectors):
        loss = loss + 1 - F.cosine_similarity(projection(features), vector.detach()).mean()
    return loss


def interact(places: Tensor, mos: Tensor) -> Tensor:
    """RS loss, part "interact": a line a through the quality vectors must order the images. Ours.

        mean over pairs with |mos_i - mos_j| > .1 of max(0, .1 - sign(mos_i - mos_j) (s_i - s_j)),
        s_i = a q_i

    Args:
        places: s, (B,): where the quality vectors lie on the line.
        mos: (B,) in [0, 1].

    Returns:
        A scalar, at least 0, LOWER = BETTER.

    >>> import torch
    >>> mos = torch.tensor([0.2, 0.8])
    >>> interact(torch.tensor([0.0, 1.0]), mos), interact(torch.tensor([0.0, 0.0]), mos)
    (tensor(0.), tensor(0.1000))
    """
    difference = mos[:, None] - mos  # (B, B)
    apart = difference.abs() > 0.1
    cost = F.relu(0.1 - difference.sign() * (places[:, None] - places)) * apart
    return cost.sum() / apart.sum().clamp(min=1)
