"""YOTO: one attention network that scores an image with its reference and without it.

Yun and Lin, You Only Train Once: a unified framework for both full-reference and no-reference image
quality assessment (arXiv 2310.09560). The modules, in `yoto_attention`, follow the official code,
github.com/BarCodeReader/YOTO; where that code seems to be in error this kit does what the paper
says, and `as_code` brings two of the errors back to be tried.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from iqa_core.encoders import Encoder, Standardise
from iqa_core.method import Method
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)
from iqa_core.train import parameter_groups, warmup_cosine
from iqa_core.yoto_attention import (
    ChannelAttention, DiscrepancyAttention, Grid, HierarchicalAttention, SemanticDistortionAware)

@dataclasses.dataclass(frozen=True)
class YOTOConfig:
    """What is built and how it is trained. The defaults are the paper's; `QUICK` and `SMOKE` fit a
    CPU: there the encoder is frozen, and only what stands on its maps is trained."""

    task: Annotated[str, "paper, or 'fr' or 'nr' alone"] = "joint"
    # the encoder
    encoder: Annotated[str, "code, any timm pyramid with strides 4, 8, 16, 32"] = (
        "swin_tiny_patch4_window7_224.ms_in22k")
    weights: Annotated[str, "code, of ImageNet-22k by the name of the encoder"] = "auto"
    drop_path: Annotated[float, "code"] = 0.2
    frozen: Annotated[bool, "paper; True = train on the encoder's maps, computed once"] = False
    side: Annotated[int, "ours, maps are averaged to at most so many rows; 0 = as they are"] = 0
    spread: Annotated[bool, "ours, standard deviations beside those averages"] = False
    # the attention
    width: Annotated[int, "code"] = 768
    channel: Annotated[str, "code, or 'pooled' or 'off'"] = "full"
    task_embedding: Annotated[bool, "code, a part of ha: without ha there is none"] = True
    ha: Annotated[bool, "paper"] = True
    reference: Annotated[str, "code, it asks; ours: it 'answers', or is 'subtracted'"] = "asks"
    sda: Annotated[bool, "paper"] = True
    as_code: Annotated[bool, "ours, True = the code's scrambled values, second residual"] = False
    dropout: Annotated[float, "code"] = 0.1
    readout: Annotated[str, "paper, mean score of the places; ours: 'pooled', score of their mean"
                       ] = "places"
    recompute: Annotated[bool, "ours, attention again in the backward pass: less memory"] = True
    # training
    crop: Annotated[int, "code"] = 224
    epochs: Annotated[int, "ours, the code's 600 go six times through one cosine of 100"] = 100
    batch: Annotated[int, "code"] = 16
    optimizer: Annotated[str, "code, decay in the gradient; or 'adamw', ours, beside it"] = "adam"
    lr: Annotated[float, "code"] = 1e-4
    encoder_rate: Annotated[float, "code, learning rate of the encoder / of all else"] = 0.1
    weight_decay: Annotated[float, "code"] = 1e-5
    warmup: Annotated[float, "code, share of the steps in which the rate rises"] = 0.0
    clip: Annotated[float, "code, largest norm of a gradient"] = math.inf
    rank: Annotated[float, "ours, share of the fidelity loss in the loss; the code has none"] = 0.0
    positions: Annotated[str, "code, seeded places of test crops; or 'five'"] = "random"
    test_crops: Annotated[int, "code, number of seeded places"] = 20

    def __post_init__(self):
        expect_words(self, task=("joint", "fr", "nr"), channel=("full", "pooled", "off"),
                     reference=("asks", "answers", "subtracted"), readout=("places", "pooled"),
                     optimizer=("adam", "adamw"), positions=("random", "five"))
        expect_text(self, "encoder", "weights")
        expect_switch(self, "frozen", "spread", "task_embedding", "ha", "sda", "as_code",
                      "recompute")
        expect_whole(self, 2, "width")
        expect_whole(self, 1, "epochs", "batch", "test_crops")
        expect_whole(self, 0, "side")
        expect_positive(self, "lr")
        expect_number(self, 0, math.inf, "encoder_rate", "weight_decay")
        expect_number(self, 0, 0.99, "drop_path", "dropout", "warmup")
        expect_number(self, 0, 1, "rank")
        expect_whole(self, 32, "crop")
        if self.crop % 32:
            raise ValueError(f"crop={self.crop} must be a multiple of 32, the deepest stride: its "
                             "maps are cut into cells.")
        if self.as_code and self.channel == "off":
            raise ValueError("as_code=True changes the channel attention, so with channel='off' "
                             "it has no effect: set as_code=False, or channel='full'.")
        if self.reference == "answers" and not self.ha:
            raise ValueError("reference='answers' is about ha, so with ha=False it has no effect: "
                             "set reference='asks'.")
        if self.reference == "answers" and self.task == "nr":
            raise ValueError("reference='answers' needs references, so with task='nr' it has no "
                             "effect: set reference='asks'.")


QUICK = YOTOConfig(encoder="tf_efficientnet_lite0", drop_path=0.0, frozen=True, side=8, spread=True,
                   width=64, channel="pooled", reference="subtracted", dropout=0.0,
                   readout="pooled", recompute=False, crop=128, epochs=12, batch=32,
                   optimizer="adamw", lr=1e-3, weight_decay=0.01, warmup=0.05, clip=1.0, rank=0.9,
                   positions="five")
# A camera's distortions lie in all of a photograph, and small crops do not show them.
AUTHENTIC = dataclasses.replace(QUICK, task="nr", crop=256)
SMOKE = dataclasses.replace(QUICK, width=32, crop=64, epochs=4, batch=8)


def fidelity(scores: Tensor, mos: Tensor, temperature: float = 0.1) -> Tensor:
    """How far a batch is from the order of its MOS; 0 = every pair is in order, without a doubt.

        L = mean over the pairs i < j of 1 - sqrt(p_ij g_ij) - sqrt((1 - p_ij) (1 - g_ij))
        p_ij = sigmoid((s_i - s_j) / temperature)
        g_ij = 1 where mos_i > mos_j, 1/2 where they are equal, else 0

    Only differences of scores count, so it goes with a loss on the scores themselves. Source: the
    fidelity loss of FRank (Tsai et al., SIGIR 2007), which UNIQUE brought to image quality.

    Args:
        scores, mos: (B,), HIGHER = BETTER.
        temperature: the difference of scores at which the order is taken to be 73 % sure.

    Returns:
        (), in [0, 1]; 0 for a batch of one image, which has no pair.

    >>> mos = torch.tensor([0.1, 0.5, 0.9])
    >>> fidelity(mos, mos).item() < fidelity(-mos, mos).item()
    True
    """
    if len(scores) < 2:
        return 0 * scores.sum()
    i, j = torch.triu_indices(len(scores), len(scores), 1, device=scores.device)
    g = (1 + torch.sign(mos[i] - mos[j])) / 2
    logits = (scores[i] - scores[j]) / temperature
    sqrt_p = (F.logsigmoid(logits) / 2).exp()  # its gradient is finite where p is nearly 0
    sqrt_not_p = (F.logsigmoid(-logits) / 2).exp()
    return (1 - g.sqrt() * sqrt_p - (1 - g).sqrt() * sqrt_not_p).mean()


ATTENTION = {"asks": HierarchicalAttention,
             "answers": partial(HierarchicalAttention, reference="answers"),
             "subtracted": DiscrepancyAttention}


class Network(nn.Module):
    """The network behind `YOTO`: (B, 3, H, W) in [0, 1] -> scores (B,), HIGHER = BETTER.

        O_i = mean of H_i and all S_ij, j > i
        score = sum_t s_t w_t / sum_t w_t    over the tokens t of all O_i

    s = relu(MLP(token)) is the quality of a place, w = sigmoid(MLP(token)) its weight. With
    readout="pooled" not the scores are averaged but the tokens of each stage, and one MLP makes a
    score of the four means:

        m_i = sum_t w_t O_it / sum_t w_t,    score = relu(MLP([m_1, m_2, m_3, m_4]))

    Args:
        config: sizes and parts.
        encoder: a module of your own with `channels` and `strides`; default: `config.encoder`.
        attention: class of the blocks that bring the reference in, called once a stage as
            attention(width, local, dropout); default: what `config.reference` names.

    Raises:
        ValueError: an encoder whose strides do not double four times, or that does not take the
            crop.

    >>> net = Network(dataclasses.replace(SMOKE, weights="random"))
    >>> net(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, config: YOTOConfig, encoder: nn.Module | None = None,
                 attention: Callable[..., nn.Module] | None = None):
        super().__init__()
        c = config
        attention = attention or ATTENTION[c.reference]
        self.encoder = Encoder(encoder or c.encoder, c.weights, c.drop_path, 4, c.side, c.spread,
                               c.frozen)
        strides = self.encoder.strides
        if any(coarse != 2 * fine for fine, coarse in zip(strides, strides[1:])):
            raise ValueError(f"{self.encoder.name} has maps of strides {strides}; YOTO needs four "
                             "that double, such as 4, 8, 16 and 32. Take resnet50, "
                             "swin_tiny_patch4_window7_224.ms_in22k or tf_efficientnet_lite0.")
        self.encoder.expect_crop(c.crop)
        sides = self.encoder.grids(c.crop)
        if any(side % sides[-1] for side in sides) or c.ha and any(side % 2 for side in sides[:3]):
            raise ValueError(f"The maps of a crop of {c.crop} pixels have {sides} rows, which must "
                             f"be even and multiples of the last. Choose another crop than "
                             f"{c.crop}, or another side than {c.side}.")
        channels = self.encoder.channels
        self.recompute = c.recompute
        self.standardise = Standardise(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.embeds = nn.ModuleList(nn.Linear(count, c.width) for count in channels)  # 1 x 1 conv
        channel_sides = sides if c.channel == "full" else [sides[-1]] * 4
        self.channel = nn.ModuleList()
        if c.channel != "off":
            self.channel.extend(ChannelAttention(side, c.dropout, c.as_code)
                                for side in channel_sides)
        # small, where the code has N(0, 1): that would be as large as the features themselves
        embedding = 0.02 * torch.randn(4, 2, c.width)  # stages x (distorted, reference) x width
        self.task_embedding = nn.Parameter(embedding) if c.task_embedding and c.ha else None
        self.ha = nn.ModuleList()
        self.plain = nn.ModuleList()  # what is left of HA where it is switched off
        for stage in range(4):
            if c.ha:
                self.ha.append(attention(c.width, stage < 3, c.dropout))
            else:
                self.plain.append(nn.LayerNorm(c.width))
        self.sda = nn.ModuleDict()
        if c.sda:
            for i, j in combinations(range(1, 5), 2):
                self.sda[f"{i}{j}"] = SemanticDistortionAware(c.width, c.dropout)
        self.pooled = c.readout == "pooled"
        self.quality_head = self._mlp(c, 4 * c.width if self.pooled else c.width, nn.ReLU())
        self.weight_head = self._mlp(c, c.width, nn.Sigmoid())
        # mid-scale: a relu that starts at 0 everywhere never learns
        nn.init.constant_(self.quality_head[3].bias, 0.5)

    @staticmethod
    def _mlp(c: YOTOConfig, width: int, last: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Dropout(c.dropout),
                             nn.Linear(width // 2, 1), last)

    def stages(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of the encoder -> (B, width, h_i, w_i), after embedding and channel attention."""
        embedded = []
        for m, norm, embed in zip(self.standardise(maps), self.norms, self.embeds):
            tokens = embed(norm(m.movedim(1, -1)))  # (B, h, w, width)
            embedded.append(tokens.movedim(-1, 1))
        if self.channel:
            embedded = [self._run(attend, m) for attend, m in zip(self.channel, embedded)]
        return embedded

    def _run(self, module: nn.Module, *inputs):
        """module(*inputs); in training with `recompute` nothing inside it is kept for the backward
        pass."""
        if self.training and self.recompute:
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)

    def tokens(self, maps: list[Tensor], ref_maps: list[Tensor] | None = None
               ) -> tuple[list[Tensor], list[Grid]]:
        """The four O_i (B, N_i, width) and their grids, from maps of the encoder."""
        count = len(maps[0])
        if ref_maps is not None:
            maps = [torch.cat(both) for both in zip(maps, ref_maps)]
        embedded = self.stages(maps)
        grids = [tuple(m.shape[-2:]) for m in embedded]
        # contiguous, or each linear map makes a copy of its own
        flat = [m.flatten(2).transpose(1, 2).contiguous() for m in embedded]  # (B, h w, width)
        distorted = [tokens[:count] for tokens in flat]
        if self.ha:
            outputs = [[self._attended(i, tokens, count, grids[i])]
                       for i, tokens in enumerate(flat)]
        else:
            outputs = [[norm(tokens)] for norm, tokens in zip(self.plain, distorted)]
        for pair, attend in self.sda.items():
            i, j = int(pair[0]) - 1, int(pair[1]) - 1
            outputs[i].append(self._run(attend, distorted[i], distorted[j], grids[i], grids[j],
                                        grids[3]))
        return [sum(parts) / len(parts) for parts in outputs], grids

    def _attended(self, stage: int, tokens: Tensor, count: int, grid: Grid) -> Tensor:
        """H_i: the tokens of distorted images, and behind them those of references, if any."""
        x, y = tokens[:count], tokens[count:]
        if self.task_embedding is not None:
            x = x + self.task_embedding[stage, 0]
            y = y + self.task_embedding[stage, 1]
        return self._run(self.ha[stage], x, y if len(y) else x, grid)

    def places(self, x: Tensor, x_ref: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Quality map and weight map of each stage, (B, h_i, w_i) each: what the heads make of each
        place.

        With readout="pooled" the quality of a place is the score that the image would have if all
        places of that stage were like this one.
        """
        tokens, grids = self.tokens(*self._maps(x, x_ref))
        maps = []
        for stage, (o, grid) in enumerate(zip(tokens, grids)):
            seen = o
            if self.pooled:
                parts = [mean[:, None].expand(-1, o.shape[1], -1) for mean in self._means(tokens)]
                parts[stage] = o
                seen = torch.cat(parts, -1)  # (B, h w, 4 width)
            maps.append((self.quality_head(seen).view(-1, *grid),
                         self.weight_head(o).view(-1, *grid)))
        return maps

    def _means(self, tokens: list[Tensor]) -> list[Tensor]:
        """The weighted mean token (B, width) of each stage."""
        weights = [self._run(self.weight_head, o) for o in tokens]  # (B, N_i, 1) each
        return [(o * w).sum(1) / w.sum(1) for o, w in zip(tokens, weights)]

    def head(self, maps: list[Tensor], ref_maps: list[Tensor] | None = None) -> Tensor:
        """Maps of the encoder, and those of the references for the full-reference score -> (B,)."""
        tokens = self.tokens(maps, ref_maps)[0]
        if self.pooled:
            return self.quality_head(torch.cat(self._means(tokens), 1))[..., 0]
        every = torch.cat(tokens, 1)  # (B, all places, width)
        quality = self._run(self.quality_head, every)[..., 0]
        weight = self._run(self.weight_head, every)[..., 0]
        return (quality * weight).sum(1) / weight.sum(1)

    def _maps(self, x: Tensor, x_ref: Tensor | None) -> tuple[list[Tensor], list[Tensor] | None]:
        if x_ref is None:
            return self.encoder(x), None
        both = [m.split(len(x)) for m in self.encoder(torch.cat([x, x_ref]))]
        return [m[0] for m in both], [m[1] for m in both]

    def forward(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """x, and x_ref for the full-reference score, (B, 3, H, W) in [0, 1]; H, W multiples of the
        deepest stride -> (B,)."""
        return self.head(*self._maps(x, x_ref))


class YOTO(Method):
    """YOTO as a method: `score(x)` without a reference, `score(x, x_ref)` with it, one network for
    both.

    Trained by the squared error to the scores. With task "joint" a fair coin decides for each batch
    whether it comes with its references or without. The score of an image is the mean over its
    crops.

    Args:
        config: sizes, parts and training.
        encoder, attention: see `Network`.

    >>> YOTO().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: yoto is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "yoto"
    config_class = YOTOConfig
    presets = (SMOKE, QUICK, YOTOConfig())
    network = Network

    def __init__(self, config: YOTOConfig = QUICK, encoder: nn.Module | None = None,
                 attention: Callable[..., nn.Module] | None = None):
        super().__init__(config, encoder=encoder, attention=attention)
        self.tasks = {"fr": ("FR",), "nr": ("NR",), "joint": ("NR", "FR")}[config.task]
        self.clip = config.clip

    def optimizer(self, net: Network) -> torch.optim.Optimizer:
        """Adam as in the code, or AdamW, in which queries and keys do not decay: a pull towards
        zero is stronger than the small gradient that they get at the start."""
        c = self.config
        if c.optimizer == "adam":
            groups = parameter_groups(net, [net.encoder], c.lr, c.encoder_rate)
            for group in groups:
                group["weight_decay"] = c.weight_decay  # of all parameters, as in the code
            return torch.optim.Adam(groups)
        return torch.optim.AdamW(parameter_groups(
            net, [net.encoder], c.lr, c.encoder_rate, c.weight_decay,
            (".query.", ".key.", "task_embedding")))

    def schedule(self, steps: int) -> Callable[[int], float]:
        return warmup_cosine(steps, self.config.warmup)

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """(1 - rank) mean (score - mos)^2 + rank fidelity, of a batch with references or without.

        With several processes each knows the pairs of its own batch only.
        """
        c = self.config
        reference = c.task == "fr"
        if c.task == "joint":
            reference = torch.rand(()).item() < 0.5
        scores = self.forward(batch, reference).float()
        squared = F.mse_loss(scores, batch["score"])
        if not c.rank:
            return {"loss": squared}
        order = fidelity(scores, batch["score"])
        return {"loss": (1 - c.rank) * squared + c.rank * order, "squared error": squared,
                "fidelity": order}
