"""QFM-IQM: a score that does not move when the features of another picture are laid over those of this one.

Li et al., Adaptive Feature Selection for No-Reference Image Quality Assessment by Mitigating Semantic Noise
Sensitivity (ICML 2024, arXiv 2312.06158). It has no public code. The network and its training are those of the
authors' earlier DEIQT (github.com/narthchin/DEIQT). The three parts that are only used in training follow the paper's
description; where that leaves a number open, the config says `ours`.
Features are one tensor (B, 1 + N, C): the summary c of the picture first, then its N tokens.
"""

import dataclasses
import math
import re
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import is_model_in_modules
from torch import Tensor, nn

from iqa_core import backbones, data
from iqa_core.data import Dataset, DatasetError
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)
from iqa_core.train import CropMethod, accelerator


@dataclasses.dataclass(frozen=True)
class QFMConfig:
    """What is built and how it is trained. The defaults are the paper's; `QUICK` and `SMOKE` fit a CPU.

    lambda1 = 0 and no unlabelled pictures: that is the baseline, DEIQT.
    """

    encoder: Annotated[str, "code, or any ViT or pyramid of timm"] = "deit3_small_patch16_224"
    weights: Annotated[str, "code, ImageNet-1k from timm"] = "auto"
    width: Annotated[int, "code, of the tokens of a pyramid; a ViT brings its own"] = 384
    heads: Annotated[int, "code"] = 6
    lambda1: Annotated[
        float, "ours, the paper's weight of the consistency is not known; 1 upset short trainings"
    ] = 0.2
    lambda2: Annotated[
        float, "ours, the paper's weight of the pseudo-labels is not known to us"
    ] = 0.5
    rule: Annotated[
        str, "paper, or 'v1' of the first preprint, or to compare with: 'random', 'gaussian'"
    ] = "v3"
    tau_q: Annotated[
        float, "ours, what counts as similar quality on the scale [0, 1]; not known"
    ] = 0.1
    tau_s: Annotated[float, "ours, what counts as similar meaning, a cosine; not known"] = 0.7
    alpha: Annotated[float, "ours, the plain reading of 'added'"] = 1.0
    rescale: Annotated[bool, "ours, see `perturb`; False = the plain sum"] = True
    memory: Annotated[int, "ours, pictures it holds; not known"] = 256
    calm: Annotated[
        int, "ours, epochs before the consistency begins: early features know no quality"
    ] = 1
    beta: Annotated[
        float, "code, 1 on the scale 0 to 100: below this error the loss is a square"
    ] = 0.01
    crop: Annotated[int, "code"] = 224
    shrink: Annotated[
        int, "code, but KonIQ-10k and SPAQ are made smaller once; here a crop is, by this factor"
    ] = 1
    labels: Annotated[
        float, "ours, share of the training pictures whose scores are used, for learning curves"
    ] = 1.0
    crops: Annotated[int, "code, crops a picture and epoch"] = 10
    epochs: Annotated[int, "code"] = 9
    batch: Annotated[int, "code, for LIVE Challenge; 128 for KonIQ-10k"] = 16
    lr: Annotated[float, "code"] = 2e-4
    encoder_rate: Annotated[float, "code, learning rate of the encoder / that of all else"] = 1.0
    warmup: Annotated[float, "code, epochs"] = 3
    decay: Annotated[float, "code, epochs to the next tenth"] = 3
    schedule: Annotated[
        str, "code, 'new' = what a timm of 0.8 or later makes of the same settings"
    ] = "old"
    weight_decay: Annotated[float, "code"] = 0.05
    clip: Annotated[float, "code"] = 5.0
    test_crops: Annotated[int, "code, seeded positions; 5 = corners and centre"] = 10

    def __post_init__(self):
        expect_words(self, rule=("v3", "v1", "random", "gaussian"), schedule=("old", "new"))
        expect_text(self, "encoder", "weights")
        expect_switch(self, "rescale")
        expect_whole(self, 1, "width", "heads", "memory", "crop", "shrink")
        expect_whole(self, 1, "crops", "epochs", "batch", "test_crops")
        expect_whole(self, 0, "calm")
        expect_positive(self, "lr", "beta", "decay", "clip", "labels")
        expect_number(self, 0, math.inf, "lambda1", "lambda2", "alpha", "tau_q")
        expect_number(self, 0, math.inf, "encoder_rate", "warmup", "weight_decay")
        expect_number(self, -1, 1, "tau_s")
        expect_number(self, 0, 1, "labels")
        if self.lambda1 and self.calm >= self.epochs:
            raise ValueError(f"calm={self.calm} of epochs={self.epochs}: the consistency would "
                             "never begin. Make calm smaller, or set lambda1=0, the baseline.")
        if _is_vit(self.encoder):
            patch = re.search(r"patch(\d+)", self.encoder)
            if patch:
                _expect_patches(self, int(patch[1]))
        elif self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}.")
        _expect_patches(self, 1)


def _is_vit(encoder: str) -> bool:
    return is_model_in_modules(str(encoder).split(".")[0], ["vision_transformer", "deit"])


def _expect_patches(config: QFMConfig, patch: int) -> None:
    """ValueError if the crop, after it was made smaller, is not made of whole patches."""
    step = config.shrink * patch
    if config.crop % step:
        of = f"shrink x the patch of {config.encoder}" if patch > 1 else "shrink"
        raise ValueError(f"crop={config.crop} is no multiple of {step}, {of}.")


QUICK = QFMConfig(encoder="tf_efficientnet_lite0", width=96, heads=4, tau_s=0.95, crop=256, shrink=2, crops=1, epochs=4,
                  lr=1e-3, encoder_rate=0.2, warmup=0.5, schedule="new", memory=128, test_crops=5)
SMOKE = dataclasses.replace(QUICK, width=32, crop=64, shrink=1, epochs=5, decay=8, memory=64)


class ViTTokens(nn.Module):
    """A ViT of timm as a source of features: (B, 3, H, W) in [0, 1] -> (B, 1 + N, C).

    First comes its class token, then those of the N patches.

    In the place of a class token, where a ViT has none, stands the mean of its N tokens.
    """

    def __init__(self, name: str, weights: str | Path):
        super().__init__()
        self.net, self.weights = backbones.transformer(name, weights)
        self.normalise = backbones.Normalise(name)
        self.width, self.patch = self.net.embed_dim, self.net.patch_embed.patch_size[0]

    def forward(self, x: Tensor) -> Tensor:
        found = self.net.forward_features(self.normalise(x))
        tokens = found[:, self.net.num_prefix_tokens:]  # without register tokens
        summary = found[:, :1] if self.net.has_class_token else tokens.mean(1, keepdim=True)
        return torch.cat([summary, tokens], 1)


class PyramidTokens(nn.Module):
    """A convolutional network as a source of features: places of its two deepest maps are the tokens.

        P = LN(W LN(place)), each map with its own W;    c = mean of the tokens of the deepest map

    It stands in where no ViT can be had or trained. Source: ours.

    >>> PyramidTokens("tf_efficientnet_lite0", "random", 96)(torch.rand(2, 3, 128, 128)).shape  # 1 + 8 x 8 + 4 x 4
    torch.Size([2, 81, 96])
    """

    def __init__(self, name: str, weights: str | Path, width: int):
        super().__init__()
        self.net, self.width = backbones.pyramid(name, weights), width
        self.weights, self.patch = self.net.weights, 1
        self.embeds = nn.ModuleList(nn.Sequential(nn.LayerNorm(c), nn.Linear(c, width), nn.LayerNorm(width))
                                    for c in self.net.channels[-2:])

    def try_crop(self, crop: int) -> None:
        """ValueError if the network does not take crops of this size."""
        with torch.inference_mode():
            self.net(torch.zeros(1, 3, crop, crop))

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch norms keep their statistics: 16 crops are too few to have their own."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        parts = [embed(m.flatten(2).transpose(1, 2)) for embed, m in zip(self.embeds, self.net(x)[-2:])]
        return torch.cat([parts[-1].mean(1, keepdim=True), *parts], 1)


class Panel(nn.Module):
    """The decoder: members of a panel look at the picture with questions of their own, and the mean of them scores.

        q_j = e_j + c,    q' = Layer(q, memory = P),    score = mean_j w q'_j

    Layer is one pre-norm layer of a Transformer decoder: the members attend to each other, then to the tokens, then
    an MLP. The tokens come as they are, and nothing tells their places. Source: DEIQT, paper and code.

    >>> Panel(96, 4)(torch.rand(2, 81, 96)).shape
    torch.Size([2])
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.members = nn.Parameter(torch.empty(1, 6, width))
        self.layer = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu",
                                                batch_first=True, norm_first=True)
        self.score = nn.Linear(width, 1, bias=False)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.trunc_normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 1 + N, C) -> (B,)."""
        return self.score(self.layer(self.members + features[:, :1], features[:, 1:])).mean((1, 2))


class Network(nn.Module):
    """The network behind `QFMIQM`, all there is after training: (B, 3, H, W) in [0, 1] -> (B,), HIGHER = BETTER.

    With the default encoder it has 24,043,776 parameters: 21,674,496 of the ViT and 2,369,280 of the panel.

    Raises:
        ValueError: a crop that the patches of a ViT do not divide, or that a pyramid does not take;
            heads that do not divide the width.

    >>> Network(dataclasses.replace(SMOKE, weights="random"))(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, config: QFMConfig):
        super().__init__()
        if _is_vit(config.encoder):
            self.encoder = ViTTokens(config.encoder, config.weights)
        else:
            self.encoder = PyramidTokens(config.encoder, config.weights, config.width)
        self.shrink = config.shrink
        _expect_patches(config, self.encoder.patch)
        if self.encoder.width % config.heads:
            raise ValueError(f"heads={config.heads} must divide {self.encoder.width}, the width of "
                             f"{config.encoder}.")
        if isinstance(self.encoder, PyramidTokens):
            self.encoder.try_crop(config.crop // config.shrink)
        self.panel = Panel(self.encoder.width, config.heads)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + N, C), after the crop was made smaller."""
        return self.encoder(F.avg_pool2d(x, self.shrink))

    def forward(self, x: Tensor) -> Tensor:
        return self.panel(self.features(x))


class Records(NamedTuple):
    """What the memory knows of B pictures, and what a picture is matched by. Nothing in it has a gradient."""

    features: Tensor  # (B, 1 + N, C), half precision
    keys: Tensor  # (B, C): c at length 1, what the picture shows
    labels: Tensor  # (B,) quality in [0, 1]: human score or pseudo-label
    ids: Tensor  # (B,) which picture it is

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, ids: Tensor) -> Self:
        features = features.detach()
        return cls(features.half(), F.normalize(features[:, 0].float(), dim=1), labels, ids)


class Memory:
    """First in, first out: the last `size` records; None while there are none.

    It is emptied where an epoch begins. So an epoch depends on its number and the weights alone, and a checkpoint
    need not hold the memory.

    >>> memory = Memory(3)
    >>> for i in range(4):
    ...     memory.add(Records.of(torch.rand(1, 2, 8), torch.tensor([0.5]), torch.tensor([i])))
    >>> memory.records.ids.tolist()
    [1, 2, 3]
    """

    def __init__(self, size: int):
        self.size, self.records = size, None

    def add(self, new: Records) -> None:
        if self.records is None:
            self.records = Records(*(part[-self.size:] for part in new))
            return
        # on a CPU, autocast to bfloat16 cannot join tensors of float16
        with torch.autocast(new.features.device.type, enabled=False):
            both = [torch.cat(pair) for pair in zip(self.records, new)]
        self.records = Records(*(part[-self.size:] for part in both))


def match(mine: Records, known: Records, rule: str = "v3", tau_q: float = 0.1, tau_s: float = 0.7) -> tuple[Tensor, Tensor]:
    """Semantic Noise Matching: for each of my pictures another one of similar quality that shows something else.

        v3:  draw j from  |label_i - label_j| <= tau_q,  cos(key_i, key_j) <= tau_s,  id_j != id_i
        v1:  draw j from  |label_i - label_j| >= tau_q,  cos(key_i, key_j) >= tau_s,  id_j != id_i

    Where nobody is left, v3 takes the smallest cosine (v1: the largest) among those of fitting quality; where still
    nobody is left, among the 5 % of nearest quality (v1: farthest). Rule "random" draws any other picture.

    Returns:
        index (B,) into `known`, and found (B,): False where `known` holds nobody else; the index then means nothing.

    Source: both rules, the paper and its first preprint; thresholds, draw and what follows without a match, ours.
    """
    with torch.autocast(mine.keys.device.type, enabled=False):  # a threshold wants precision
        cosine = mine.keys @ known.keys.T
    gap = (mine.labels[:, None] - known.labels).abs()
    other = mine.ids[:, None] != known.ids
    wanted, cost = other, torch.rand_like(gap)
    if rule != "random":
        if rule == "v1":  # the opposite of everything
            cosine, gap, tau_q, tau_s = -cosine, -gap, -tau_q, -tau_s
        gap = gap.masked_fill(~other, torch.inf)
        alike = gap <= tau_q
        both = alike & (cosine <= tau_s)
        nearest = other & (gap <= gap.kthvalue(max(1, round(0.05 * len(known.ids))), 1, keepdim=True).values)
        any_both, any_alike = both.any(1, keepdim=True), alike.any(1, keepdim=True)
        wanted = torch.where(any_both, both, torch.where(any_alike, alike, nearest))
        cost = torch.where(any_both, cost, cosine)
    return cost.masked_fill(~wanted, torch.inf).argmin(1), other.any(1)


def semantic_noise(features: Tensor, mine: Records, known: Records, c: QFMConfig) -> tuple[Tensor, Tensor]:
    """What to add, shaped as `features`, and found (B,). Rule "gaussian": each token as long as that of `features`."""
    if c.rule == "gaussian":
        noise = F.normalize(torch.randn_like(features), dim=-1) * features.detach().norm(dim=-1, keepdim=True)
        return noise, torch.ones_like(mine.ids, dtype=torch.bool)
    index, found = match(mine, known, c.rule, c.tau_q, c.tau_s)
    return known.features[index].to(features.dtype), found


def perturb(features: Tensor, noise: Tensor, alpha: float = 1.0, rescale: bool = True) -> Tensor:
    """F~ = F + alpha sg(F_m), place by place and c to c; sg stops the gradient. Then each token gets its length back.

    The paper says "added" and no more, which is rescale=False. But the panel has no bias and no norm at its end, so
    longer features score higher, and then only a score of 0 is steady: training collapses. So `rescale` is ours.
    """
    moved = features + alpha * noise.detach()
    return moved * (features.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)) if rescale else moved


def consistency(moved: Tensor, y: Tensor, found: Tensor, beta: float = 0.01) -> Tensor:
    """Quality Consistency Constraint: mean of SmoothL1(y~_i, sg(y_i)) over the pictures for which noise was found."""
    return (F.smooth_l1_loss(moved, y.detach(), beta=beta, reduction="none") * found).sum() / found.sum().clamp(min=1)


def allowed(unlabelled: Dataset, train: Dataset, labelled: Dataset) -> Dataset:
    """The unlabelled pictures that we may learn from: see `QFMIQM`.

    Args:
        train, labelled: the training part, and those of it whose scores are used.

    Raises:
        DatasetError: none is left.
    """
    if unlabelled.name == train.name or unlabelled.root.resolve() == train.root.resolve():
        table = unlabelled.table
        unlabelled = unlabelled.subset(table["content"].isin(train.table["content"])
                                       & ~table["image"].isin(labelled.table["image"]))
    if not len(unlabelled):
        raise DatasetError(f"{unlabelled.name}: all its pictures are labelled, or may be in the validation or test "
                           "part. Give unlabelled pictures from another set, or set labels below 1.")
    return unlabelled


class QFMIQM(CropMethod):
    """QFM-IQM as a method. With lambda1 = 0 and nothing unlabelled it is its own baseline.

        L = L_q + lambda1 * L_qcc + lambda2 * L_dle
        L_q   = SmoothL1(y, mos)                 scored pictures
        L_qcc = SmoothL1(panel(F~), sg(y))       all pictures: the Quality Consistency Constraint
        L_dle = SmoothL1(y, y_teacher)           unlabelled pictures: Distillation Label Extension

    The teacher is the baseline, trained on the same pictures with the same seed and then frozen. After training only
    the plain network is left: its scores are those of a baseline of equal weights.

    Args:
        unlabelled: pictures whose scores are not used. NEVER give a picture that you test on, or another version of
            it. Of a set with the name or folder of the training pictures, only other pictures of the training
            contents are taken. What lies in other folders cannot be checked.

    >>> QFMIQM().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: qfm-iqm is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "qfm-iqm"
    config_class = QFMConfig
    network = Network

    def __init__(self, config: QFMConfig = QUICK, unlabelled: Dataset | None = None):
        super().__init__(config)
        self.unlabelled, self.clip = unlabelled, config.clip
        parts = [f"consistency {config.rule}" if config.lambda1 else "baseline"]
        if config.labels < 1:
            parts.append(f"{config.labels:.0%} of the scores")
        if unlabelled is not None:
            parts.append(f"unlabelled from {unlabelled.name}")
        self.variant = ", ".join(parts)

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint: str | Path | None = None) -> Self:
        """As every `CropMethod`; with unlabelled pictures the teacher comes first, with a checkpoint of its own."""
        c, seed = self.config, torch.initial_seed() % 2**31
        order = np.random.default_rng(seed).permutation(len(train))[:max(1, round(c.labels * len(train)))]
        labelled, self.scored = train.subset(np.sort(order)), len(order)
        if self.unlabelled is not None:
            pool = allowed(self.unlabelled, train, labelled)
            teacher = QFMIQM(dataclasses.replace(c, lambda1=0.0))
            teacher.fit(train, checkpoint=checkpoint and f"{checkpoint}.teacher")
            pool = dataclasses.replace(pool, table=pool.table.assign(
                score=teacher.predict(pool).clip(labelled.scores.min(), labelled.scores.max())))
            self.pool = data.loader(pool, c.crop, c.batch, seed, flip=True)
        super().fit(labelled.subset(np.tile(np.arange(self.scored), c.crops)), val, checkpoint)
        self.memory = self.pool = self.stream = None
        return self

    def learner(self) -> torch.optim.Optimizer:
        """AdamW; biases, norms, the class token and the places of tokens do not decay."""
        c, groups = self.config, {}
        for name, p in self.net.named_parameters():
            lr = c.lr * (c.encoder_rate if name.startswith("encoder.net.") else 1)
            still = p.ndim <= 1 or name.endswith(("pos_embed", "cls_token"))
            groups.setdefault((lr, 0.0 if still else c.weight_decay), []).append(p)
        return torch.optim.AdamW([{"params": p, "lr": lr, "weight_decay": w} for (lr, w), p in groups.items()])

    def rate(self, epoch: float) -> float:
        """A line from 1/1000 to 1 over `warmup` epochs, then a tenth for every `decay` epochs that have passed.

        The old curve counts them from the start of the training, the new one from the end of the warm-up. With the
        paper's 3 + 3 + 3 epochs the old one is at a tenth as soon as it has warmed up. Source: code of timm.
        """
        c = self.config
        if epoch < c.warmup:
            return 1e-3 + (1 - 1e-3) * epoch / c.warmup
        return 0.1 ** ((epoch - (c.warmup if c.schedule == "new" else 0)) // c.decay)

    def begin(self, epoch: int) -> None:
        self.epoch, self.memory = epoch, Memory(self.config.memory)
        if self.unlabelled is not None:
            self.pool.sampler.epoch, self.stream = 1000 * epoch, self._forever()

    def _forever(self):
        """Batches of unlabelled pictures without end; their pseudo-labels stand where the scores do."""
        running_on = accelerator()
        first, step = running_on.process_index, running_on.num_processes
        while True:
            for batch in islice(self.pool, first, None, step):
                yield {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """L of a batch. Unlabelled pictures are drawn here, as many as `batch` says, and go through in one pass."""
        c, n = self.config, len(batch["x"])
        x, labels, ids = batch["x"], batch["score"], batch["row"] % self.scored  # a picture comes `crops` times
        if self.unlabelled is not None:
            more = next(self.stream)
            x, labels = torch.cat([x, more["x"]]), torch.cat([labels, more["score"]])
            ids = torch.cat([ids, more["row"] + self.scored])
        features = self.net.features(x)
        y = self.net.panel(features).float()
        loss = F.smooth_l1_loss(y[:n], labels[:n], beta=c.beta)
        if len(y) > n:
            loss = loss + c.lambda2 * F.smooth_l1_loss(y[n:], labels[n:], beta=c.beta)
        if c.lambda1 and self.epoch >= c.calm:
            mine = Records.of(features, labels, ids)
            if self.memory.records is not None:
                noise, found = semantic_noise(features, mine, self.memory.records, c)
                moved = self.net.panel(perturb(features, noise, c.alpha, c.rescale)).float()
                loss = loss + c.lambda1 * consistency(moved, y, found, c.beta)
            self.memory.add(mine)  # after matching, so that nobody meets itself
        return loss
