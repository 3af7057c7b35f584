"""What semantic noise does to a QFM-IQM network: how far scores move, and where features alias.

Feature aliasing is the name that Li et al. (ICML 2024, arXiv 2312.06158) give to pictures whose features lie close
while their human scores lie far apart. The measures are ours.
"""

import dataclasses

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from iqa_core import images, metrics
from iqa_core.data import Dataset
from iqa_core.qfm import QFMIQM, Records, perturb, semantic_noise


@torch.inference_mode()
def describe(method: QFMIQM, dataset: Dataset) -> Tensor:
    """Features (N, 1 + T, C) of the middle crop of every picture; `method.net.panel` turns them into scores."""
    method.net.eval()
    crops = (images.crops(dataset.image(i), method.config.crop, "grid", 1) for i in range(len(dataset)))
    return torch.cat([method.net.features(crop.to(method.device)) for crop in crops])


@torch.inference_mode()
def sensitivity(method: QFMIQM, features: Tensor, scores, seed: int = 0, **changes) -> np.ndarray:
    """How far semantic noise moves each score: |y~_i - y_i| / sd(y). Its mean is S; LOWER is steadier.

    The noise comes from the other pictures, matched by their human scores.

    Args:
        method: fitted; its config says rule, thresholds and alpha.
        features: (N, 1 + T, C) of `describe(method, dataset)`.
        scores: (N,) human scores in [0, 1], `dataset.scores`.
        seed: of the draws.
        changes: fields of the config that this measure takes otherwise, such as rule="gaussian".

    Returns:
        (N,) shifts, in standard deviations of the method's own scores.
    """
    c, panel = dataclasses.replace(method.config, **changes), method.net.panel
    labels = torch.tensor(scores, dtype=torch.float32, device=features.device)
    mine = Records.of(features, labels, torch.arange(len(labels), device=features.device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        noise, _ = semantic_noise(features, mine, mine, c)
    pair = features, perturb(features, noise, c.alpha, c.rescale)
    before, after = (torch.cat([panel(part) for part in f.split(64)]) for f in pair)
    return ((after - before).abs() / before.std()).cpu().numpy()


def aliasing(keys, scores) -> tuple[float, pd.DataFrame]:
    """Do pictures that lie close in feature space have close scores? "Feature aliasing" means: they need not.

    Args:
        keys: (N, C) one vector a picture, such as `describe(...)[:, 0]`.
        scores: (N,) human scores.

    Returns:
        rho: SRCC over all pairs between cosine distance and |score difference|; HIGHER = less aliasing. And a table
        of each picture `i` with its nearest neighbour `j`, `distance` and `gap`, the largest gap of scores first.

    >>> rho, table = aliasing(np.eye(3) + [[0, 0, 0], [0.9, 0, 0], [0, 0, 0]], [0.1, 0.9, 0.5])
    >>> table.iloc[0][["i", "j", "gap"]].tolist()
    [0.0, 1.0, 0.8]
    """
    keys, scores = np.asarray(keys, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    distance, gap = pdist(keys, "cosine"), pdist(scores[:, None], "cityblock")
    square = squareform(distance)
    np.fill_diagonal(square, np.inf)
    nearest = square.argmin(1)
    table = pd.DataFrame({"i": np.arange(len(keys)), "j": nearest, "distance": square.min(1),
                          "gap": np.abs(scores - scores[nearest])})
    return metrics.srcc(distance, gap), table.sort_values("gap", ascending=False, ignore_index=True)
