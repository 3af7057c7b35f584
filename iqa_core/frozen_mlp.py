"""Small networks on the features of two frozen experts: the scorer that this kit takes by default.

It is no method of a paper. The features are those of Re-IQA's two experts, read at all levels; in
place of the ridge stand a few small networks whose inputs are dropped at random in training.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from iqa_core.data import Dataset
from iqa_core.features import FeatureMethod
from iqa_core.reiqa import ReIQA, ReIQAConfig
from iqa_core.settings import from_saved

WIDTH = 32  # of the hidden layer
MEMBERS = 5
DROP = 0.5  # share of the inputs, and of the hidden numbers
BATCH = 64
EPOCHS = 40
LR = 3e-4
DECAY = 0.05
FAR = 6.0  # standardised features are cut off there: an odd image must not throw a score far out


class FrozenMLP(FeatureMethod):
    """Two frozen experts under the mean of a few small networks.

        phi(x) = the features of `ReIQA` with readout="pyramid": mean and standard deviation of the
                 maps of all levels, of both experts, at full and at half size
        score(x) = mean_m (w_m . gelu(W_m z(phi) + b_m) + c_m)

    where z is phi standardised on the training part. In training half of all features are set to 0
    at random, anew in each step, and so is half of the hidden numbers: what is learnt must not hang
    on a few features. The loss is the squared error of standardised scores. Nothing is chosen on a
    validation part: the constants of this module were chosen on splits 20 to 23 of BIQ2021.

    Args:
        config: which experts look, and how they are read; see `ReIQAConfig`. What it says of the
            regression does not count here.

    Raises:
        ValueError: a config with full_reference=True: this method looks at the image alone.

    >>> method = FrozenMLP(ReIQAConfig("content", content_weights="random", readout="pyramid"))
    >>> method.extract(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 2048])
    """

    name = "frozen mlp"
    _STATE = ("mean", "std", "first", "first_bias", "last", "last_bias")
    grid = [DROP]
    default = DROP
    CONFIG = ReIQAConfig(readout="pyramid")

    def __init__(self, config: ReIQAConfig | dict = CONFIG):
        self.experts = ReIQA(config)
        if self.experts.config.full_reference:
            raise ValueError("frozen mlp has no full-reference form: leave out "
                             "full_reference=True, or use ReIQA.")
        self.nets = self.experts.nets
        self.settings = self.experts.settings
        self.variant = "" if self.experts.config == self.CONFIG else self.experts.variant
        self.key = self.experts.key

    def extract(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> features (B, D) of all experts."""
        return self.experts.extract(x)

    def _features(self, dataset: Dataset) -> np.ndarray:
        return self.experts._features(dataset)

    @classmethod
    def _from_settings(cls, settings, path: str | Path):
        settings = settings if isinstance(settings, dict) else {}
        config = from_saved(ReIQAConfig, settings.get("config"), path)
        return super()._from_settings({**settings, "config": config}, path)

    def _candidates(
        self, features: np.ndarray, scores: np.ndarray, grid: list[float]
    ) -> Iterator[dict]:
        mean = features.mean(0)
        std = np.maximum(features.std(0), 1e-6)
        z = torch.from_numpy(np.clip((features - mean) / std, -FAR, FAR)).float()
        centre = scores.mean()
        spread = max(scores.std(), 1e-6)
        y = torch.from_numpy((scores - centre) / spread).float()
        for drop in grid:
            members = [train_member(z, y, drop, seed=seed) for seed in range(MEMBERS)]
            first, first_bias, last, last_bias = map(torch.stack, zip(*members))
            yield {
                "mean": mean.astype(np.float32),
                "std": std.astype(np.float32),
                "first": first.half().numpy(),  # (members, WIDTH, D): half precision, for the file
                "first_bias": first_bias.numpy(),
                "last": (spread * last).numpy(),
                "last_bias": (centre + spread * last_bias).numpy(),
            }

    @staticmethod
    def _regress(features: np.ndarray, state: dict) -> np.ndarray:
        z = torch.from_numpy((features - state["mean"]) / state["std"]).float().clamp(-FAR, FAR)
        first, first_bias, last, last_bias = (
            torch.from_numpy(np.asarray(state[name], np.float32)) for name in FrozenMLP._STATE[2:])
        hidden = nn.functional.gelu(z @ first.mT + first_bias[:, None])  # (members, N, WIDTH)
        each = (hidden @ last[..., None])[..., 0] + last_bias  # (members, N)
        return each.mean(0).double().numpy()


def train_member(z: Tensor, y: Tensor, drop: float = DROP, lr: float = LR, seed: int = 0
                 ) -> tuple[Tensor, ...]:
    """One small network, trained by AdamW with one cycle of the learning rate.

    Args:
        z, y: standardised features (N, D) and scores (N,).
        drop: share of the inputs, and of the hidden numbers, that are set to 0 in each step.
        lr: the largest learning rate.
        seed: of the first weights, of the order of the images and of what is dropped. The state of
            torch's own generator is left as it was.

    Returns:
        Its weights (WIDTH, D), (WIDTH,), (WIDTH,), (1,): W, b, w and c of
        w . gelu(W z + b) + c.

    >>> z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> first, first_bias, last, last_bias = train_member(z, z[:, 0], lr=0.01)
    >>> scores = nn.functional.gelu(z @ first.T + first_bias) @ last + last_bias
    >>> torch.corrcoef(torch.stack([scores, z[:, 0]]))[0, 1] > 0.9
    tensor(True)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = nn.Linear(z.shape[1], WIDTH)
        last = nn.Linear(WIDTH, 1)
        net = nn.Sequential(nn.Dropout(drop), first, nn.GELU(), nn.Dropout(drop), last)
        optimizer = torch.optim.AdamW(net.parameters(), lr, weight_decay=DECAY)
        batch = min(BATCH, len(z))
        steps = EPOCHS * (len(z) // batch)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
        for _ in range(EPOCHS):
            order = torch.randperm(len(z))[: len(z) // batch * batch]
            for rows in order.split(batch):
                loss = (net(z[rows])[:, 0] - y[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    weights = (first.weight, first.bias, last.weight[0], last.bias)
    return tuple(weight.detach() for weight in weights)
