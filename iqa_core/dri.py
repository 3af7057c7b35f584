"""DRI-IQA: two vectors of a picture, its quality and its degradation, and a restoration network that helps to judge.

Yue, Lin, Yang, Ren, Dual-Representation Interaction Driven Image Quality Assessment with Restoration Assistance (WACV
2025, arXiv 2411.17390). The official repository holds no code, and of the paper only abstract, introduction and figure
captions were at hand. So this is a RECONSTRUCTION: faithful to the structure that these state (`paper`); everything
else is `ours`, in the style of DASR, Restormer and MANIQA. Its parts: `extractor`, `restorer`, `predictor`.
"""

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from iqa_core import images
from iqa_core.reiqa_pretrain import Pictures, about
from iqa_core.data import Dataset, DatasetError
from iqa_core.dri_extractor import GROUPS, Extractor, contrast, correlation, degrade, grid, relations, sequences
from iqa_core.files import cache_dir, code_hash, locked
from iqa_core.inputs import expect_batch, expect_training
from iqa_core.reiqa_pairs import cut
from iqa_core.dri_predictor import Predictor
from iqa_core.dri_restorer import Restorer
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words, to_save)
from iqa_core.train import CropMethod, accelerator, fit, groups, numbers, run_settings

# What the trainings before the scores depend on: where a file changes, they are made anew.
_STAGE_CODE = [
    Path(__file__).with_name(name)
    for name in ("images.py", "distortions.py", "color.py", "backbones.py", "pairs.py",
                 "extractor.py", "restorer.py", "train.py", "dri.py")]


@dataclasses.dataclass(frozen=True)
class DRIConfig:
    """What is built and how it is trained. `QUICK` and `SMOKE` fit a CPU. No size or weight of the paper is known."""

    # stage 1, the Dual-Representation Extractor
    trunk: Annotated[
        tuple[int, ...] | str, "ours, as DASR: widths; or a trained pyramid of timm"
    ] = (64, 128, 256, 512)
    split: Annotated[bool, "paper, False = one vector that is both, the control"] = True
    contents: Annotated[int, "ours, pictures a step before the scores come"] = 8
    degradations: Annotated[int, "ours, versions of each in stage 1"] = 8
    patch: Annotated[int, "ours, side of a crop before the scores come"] = 128
    temperature: Annotated[float, "ours, as CONTRIQUE"] = 0.1
    decorrelation: Annotated[float, "ours, weight of the correlation between the two halves"] = 0.01
    steps: Annotated[int, "ours, of stage 1"] = 100_000
    lr1: Annotated[float, "ours, as DASR"] = 1e-3
    # the restoration network, alone
    restorer: Annotated[int, "ours, its channels at the finest scale"] = 32
    blocks: Annotated[tuple[int, ...], "ours, blocks a scale, a reduced Restormer"] = (2, 3, 3, 4)
    guidance: Annotated[str, "paper, how it is told; or to compare with: 'add', 'none'"] = "tgb"
    sequence: Annotated[
        int, "ours, it learns to undo at most so many degradations one after the other"
    ] = 1
    restore_steps: Annotated[int, "ours"] = 50_000
    lr2: Annotated[float, "ours, as the authors' deraining network"] = 2e-4
    seed: Annotated[int, "ours, of extractor and restorer; the rest follows torch's"] = 0
    # the predictor
    encoder: Annotated[str, "ours, '' = three convolutions, or a pyramid of timm"] = ""
    weights: Annotated[str, "ours, of these pyramids"] = "auto"
    width: Annotated[int, "ours, as MANIQA has in proportion"] = 192
    interaction: Annotated[
        str, "paper, how it is told of vectors and restoration; or to compare with: 'add'"
    ] = "tgb"
    quality: Annotated[
        bool, "paper, the quality vector guides the predictor; False = ablation"
    ] = True
    degradation: Annotated[
        bool, "paper, the degradation vector guides it too; False = ablation"
    ] = True
    assist: Annotated[bool, "paper, the restoration network helps; False = ablation"] = True
    rs: Annotated[
        str, "ours, parts of the RS loss, whose formula is not known; also 'interact'; '' = none"
    ] = "ratio align"
    lambda_rec: Annotated[float, "ours"] = 1.0
    lambda_rs: Annotated[float, "ours"] = 0.1
    joint: Annotated[
        bool,
        "paper, 'the complete network joins in training'; False = extractor and restorer frozen",
    ] = True
    # stage 2
    crop: Annotated[int, "ours, as MANIQA"] = 224
    epochs: Annotated[int, "ours"] = 30
    batch: Annotated[int, "ours, as MANIQA"] = 8
    lr: Annotated[float, "ours"] = 1e-4
    trained_rate: Annotated[
        float, "ours, learning rate of what was trained before / of the rest"
    ] = 0.1
    weight_decay: Annotated[float, "ours, as MANIQA"] = 1e-5
    test_crops: Annotated[int, "ours, seeded positions; 5 = corners and centre"] = 10

    def __post_init__(self):
        expect_words(self, guidance=("tgb", "add", "none"), interaction=("tgb", "add"))
        expect_text(self, "weights")
        expect_text(self, "encoder", "rs", empty=True)
        expect_switch(self, "split", "quality", "degradation", "assist", "joint")
        expect_whole(self, 1, "contents", "degradations", "sequence", "steps", "restore_steps")
        expect_whole(self, 1, "epochs", "batch", "test_crops")
        expect_whole(self, 2, "restorer")
        expect_whole(self, 8, "width")
        expect_whole(self, 16, "crop", "patch")
        expect_whole(self, 0, "seed")
        expect_positive(self, "temperature", "lr", "lr1", "lr2")
        expect_number(self, 0, math.inf, "decorrelation", "lambda_rec", "lambda_rs")
        expect_number(self, 0, math.inf, "trained_rate", "weight_decay")
        if not isinstance(self.trunk, str):
            self._expect_four("trunk")
        elif not self.trunk:
            raise ValueError("trunk='' must be a pyramid of timm by name, or four widths such as "
                             "(64, 128, 256, 512).")
        self._expect_four("blocks")
        if set(self.rs.split()) - {"ratio", "align", "interact"}:
            raise ValueError(f"rs={self.rs!r} is unknown; give some of ratio, align, interact, with spaces, or ''.")
        if self.crop % 32 or self.patch % 16:
            raise ValueError(f"crop={self.crop} must be a multiple of 32, patch={self.patch} of 16.")
        if self.width % 8:
            raise ValueError(f"width={self.width} must be a multiple of 8: four heads share it, "
                             "and half of it.")
        if self.restorer % 2:
            raise ValueError(f"restorer={self.restorer} must be an even number of channels.")
        if self.contents * self.degradations < 2:
            raise ValueError(f"contents={self.contents} and degradations={self.degradations} leave "
                             "nothing to tell apart in stage 1: make one of them 2 or more.")

    def _expect_four(self, name: str) -> None:
        values = getattr(self, name)
        several = isinstance(values, (tuple, list)) and len(values) == 4
        if not several or not all(type(value) is int and value > 0 for value in values):
            raise ValueError(f"{name}={values!r} must be four whole numbers above 0, fine to "
                             "coarse.")

    @property
    def rs_parts(self) -> tuple[str, ...]:
        """The parts of the RS loss that can change anything.

        "ratio" teaches the restorer and "interact" the extractor: neither acts where what it
        teaches is off or frozen. "interact" also needs someone who uses the extractor.
        """
        acts = {"ratio": self.assist and self.joint, "align": True,
                "interact": self.joint and (self.quality or self.degradation or self.assist)}
        named = self.rs.split() if self.lambda_rs else []
        return tuple(part for part in acts if part in named and acts[part])


QUICK = DRIConfig(trunk="tf_efficientnet_lite0", contents=4, patch=64, steps=250, restorer=12,
                  blocks=(1, 1, 1, 1), restore_steps=800, lr2=7e-3, encoder="tf_efficientnet_lite0", width=48, crop=96,
                  epochs=5, lr=5e-4, trained_rate=0.2, test_crops=5)
SMOKE = dataclasses.replace(QUICK, degradations=4, steps=15, restorer=8, restore_steps=20, crop=64, epochs=2)


class Network(nn.Module):
    """The network behind `DRIIQA`: (B, 3, H, W) in [0, 1], sides multiples of 32 -> (B,), HIGHER = BETTER.

    Without vectors, restorer and RS loss there is no extractor either: the predictor is alone.

    Raises:
        ValueError: a trunk or an encoder with other strides than are needed, or one that does not
            take crop or patch.

    >>> Network(dataclasses.replace(SMOKE, weights="random"))(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, config: DRIConfig):
        super().__init__()
        self.config = c = config
        told = c.quality or c.degradation or c.assist or c.rs_parts
        with torch.random.fork_rng():
            torch.manual_seed(c.seed)
            self.extractor = e = Extractor(c.trunk, c.split, c.weights) if told else None
            length = e.length if told else 0
            self.restorer = Restorer(c.restorer, c.blocks, length, e.widths, c.guidance, e.fold) if c.assist else None
        for what, size in (("crop", c.crop), ("patch", c.patch)):
            if e is not None and size % (8 * e.fold):
                raise ValueError(f"{what}={size} must be a multiple of {8 * e.fold}, 8 x the "
                                 f"finest stride of {c.trunk}.")
            if e is not None:
                e.try_crop(size)
        vector = (c.quality + c.degradation) * length
        self.predictor = Predictor(c, vector, self.restorer.channels if c.assist else ())
        self.pull = None
        if "align" in c.rs_parts:
            self.pull = nn.ModuleList(nn.Linear(c.width // 2, length) for _ in range(2))
        self.order = nn.Linear(length, 1, bias=False) if "interact" in c.rs_parts else None

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch norms keep their statistics: a batch is too small to have its own."""
        super().train(mode)
        for part in (self.extractor, getattr(self.predictor.stem, "net", None)):
            if part is not None:
                part.eval()
        return self

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor], Tensor]:
        """Scores (B,), the restored pictures, (q, g), and the predictor's pooled features."""
        c, q, g, restored, maps = self.config, None, None, None, []
        if self.extractor is not None:
            q, g, guides = self.extractor(x)
        if self.restorer is not None:
            restored, maps = self.restorer(x, g, guides)
        told = [v for v, on in ((q, c.quality), (g, c.degradation)) if on]
        score, features = self.predictor(x, torch.cat(told, 1) if told else None, restored, maps)
        return score, restored, (q, g), features

    def forward(self, x: Tensor) -> Tensor:
        return self.look(x)[0]


def ratio(restored: Sequence[Tensor], reference: Sequence[Tensor], degraded: Sequence[Tensor]) -> Tensor:
    """RS loss, part "ratio": the restored picture must be represented as its reference, not as the degraded one.

        mean over r in {q, g} of |r(x_res) - r(x_ref)|_1 / (|r(x_res) - r(x)|_1 + 1e-7)

    Source: name and purpose of the RS loss, paper; this formula is that of the authors' deraining network.
    """
    quotients = []
    for of_restored, of_reference, of_degraded in zip(restored, reference, degraded):
        of_restored = of_restored.float()  # at half precision the quotient may be infinite
        near = (of_restored - of_reference.detach().float()).abs().mean(1)
        far = (of_restored - of_degraded.detach().float()).abs().mean(1)
        quotients.append((near / (far + 1e-7)).mean())
    return sum(quotients) / len(quotients)


def align(features: Tensor, vectors: Sequence[Tensor], pull: nn.ModuleList) -> Tensor:
    """RS loss, part "align": 1 - cos(W_q y, sg(q)) + 1 - cos(W_g y, sg(g)), y = pooled features of the predictor. Ours."""
    return sum(1 - F.cosine_similarity(w(features), v.detach()).mean() for w, v in zip(pull, vectors))


def interact(said: Tensor, mos: Tensor) -> Tensor:
    """RS loss, part "interact": a line a through the quality vectors must order the pictures. Ours.

        mean over pairs with |mos_i - mos_j| > .1 of max(0, .1 - sign(mos_i - mos_j) (a q_i - a q_j))

    >>> interact(torch.tensor([0.0, 1.0]), torch.tensor([0.2, 0.8])), interact(torch.zeros(2), torch.tensor([0.2, 0.8]))
    (tensor(0.), tensor(0.1000))
    """
    apart = mos[:, None] - mos
    cost = F.relu(0.1 - apart.sign() * (said[:, None] - said)) * (apart.abs() > 0.1)
    return cost.sum() / (apart.abs() > 0.1).sum().clamp(min=1)


def pristine(train: Dataset, more: Dataset | None) -> Dataset:
    """The pictures that extractor and restorer learn from before the scores come, and nothing that is tested.

    The references of the training part, if it has them; else `more`, of which, if it is of the same set, only training
    contents are taken.

    Raises:
        DatasetError: there are none.
    """
    if more is None and train.card.reference:
        rows = ~train.table["reference"].duplicated()
        return dataclasses.replace(train, table=train.table[rows].assign(image=train.table["reference"][rows]))
    if more is None:
        raise DatasetError(f"{train.name} has no references: give pristine pictures, such as data.load('kodak').")
    if more.name == train.name or more.root.resolve() == train.root.resolve():
        more = more.subset(more.table["content"].isin(train.table["content"]))
    if not len(more):
        raise DatasetError(f"{more.name}: all its pictures may be in the validation or test part. Give others.")
    return more


def _batch(pictures: Sequence[Tensor], count: int, *numbers: int) -> tuple[list[Tensor], Generator]:
    """The pictures of a step, and a generator of its own; both follow from the numbers."""
    seeds = np.random.SeedSequence(numbers).generate_state(2)
    order = np.random.default_rng(seeds[0]).permutation(len(pictures))[:count]
    return [pictures[i] for i in order], Generator().manual_seed(int(seeds[1]))


def _stage(what: str, net: nn.Module, loss: Callable[[int], Tensor], steps: int, lr: float, c: DRIConfig,
           pictures: Sequence[Tensor], fields: Sequence[str]) -> pd.DataFrame:
    """A training before the scores come: Adam, gradients of norm 1 at most, loss(number of the batch).

    The rate rises over the first tenth of the steps, and falls from lr to lr / 1000 by half a cosine. The checkpoint lies
    in the cache folder, named by all that it depends on, the code too. So ablations of stage 2
    share stage 1.
    """
    settings = to_save(c)
    made_of = {"what": what, "pictures": about(pictures)}
    made_of |= {name: settings[name] for name in fields}
    named = json.dumps({**made_of, **run_settings(), "code": code_hash(*_STAGE_CODE)})
    path = cache_dir() / "dri-stages" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.pt"

    def rate(step: int) -> float:
        return min(1, 10 * (step + 1) / steps) * (0.001 + 0.999 * (1 + math.cos(math.pi * step / steps)) / 2)

    with locked(path) if accelerator().is_main_process else nullcontext():
        return fit(net, torch.optim.Adam(net.parameters(), lr=lr), lambda _, number: {"loss": loss(number)}, numbers, steps,
                   100 * accelerator().gradient_accumulation_steps, rate, path, made_of, clip=1.0, what=what)


# What the restoration network learns to undo: blur, compression, noise. Nobody can tell by a picture alone how bright or
# how colourful it was; with these in the bank the network changed all pictures, and noise and blur got worse.
UNDONE = [GROUPS[0], GROUPS[2], GROUPS[3]]
FIRST = ("trunk", "split", "weights", "contents", "degradations", "patch", "temperature", "decorrelation", "steps", "lr1",
         "seed")
SECOND = ("restorer", "blocks", "guidance", "sequence", "restore_steps", "lr2")


def train_extractor(net: Extractor, pictures: Sequence[Tensor], c: DRIConfig) -> pd.DataFrame:
    """Stage 1, without scores: L = L_quality + L_degradation + decorrelation * mean corr(q, g)^2.

    A finished training is read from the cache folder, one that was killed goes on.

    Args:
        net: fresh, that of `Network(c)`.
        pictures: uint8 (3, H, W), pristine.

    Returns:
        A row a step: `loss`.
    """
    device = next(net.parameters()).device

    @torch.autocast(device.type, enabled=False)  # cosines close to 1 want full precision
    def loss(step: int) -> Tensor:
        chosen, generator = _batch(pictures, c.contents, c.seed, 1, step)
        x, contents, degradations = grid(chosen, c.degradations, c.patch, generator)
        q, g, _ = net(x.to(device))
        parts = [contrast(head(v), positive.to(device), c.temperature)
                 for head, v, positive in zip(net.heads, (q, g), relations(contents, degradations))]
        return sum(parts) + (c.decorrelation * correlation(q, g) if c.split else 0)

    return _stage("extractor", net, loss, c.steps, c.lr1, c, pictures, FIRST)


def train_restorer(net: Restorer, extractor: Extractor, pictures: Sequence[Tensor], c: DRIConfig) -> pd.DataFrame:
    """The restoration network before the scores come; the extractor tells, and stays as it is. As `train_extractor`.

        L = mean over pictures of log10(MSE(x_res, x_ref) + 1e-4),    x by `UNDONE`, all levels equally often

    That is PSNR, but for its sign and scale: so mild degradations count as much as strong ones. With |x_res - x_ref|
    short trainings stayed at the identity.
    """
    device = next(net.parameters()).device
    extractor.eval()

    @torch.autocast(device.type, enabled=False)  # and so do the small errors here
    def loss(step: int) -> Tensor:
        chosen, generator = _batch(pictures, 2 * c.contents, c.seed, 2, step)
        x_ref = images.from_uint8(torch.stack([cut(images.fit(p, c.patch), [c.patch] * 2, generator) for p in chosen]))
        x = degrade(x_ref, sequences(len(x_ref), generator, c.sequence, UNDONE, math.inf), generator).to(device)
        with torch.no_grad():
            _, g, guides = extractor(x)
        error = (net(x, g, guides)[0] - x_ref.to(device)).square().mean((1, 2, 3))
        return (error + 1e-4).log10().mean()

    return _stage("restorer", net, loss, c.restore_steps, c.lr2, c, pictures, FIRST + SECOND)


class DRIIQA(CropMethod):
    """DRI-IQA as a method: extractor, then restorer, then the score, all on the training part.

        L = MSE(y, mos) + lambda_rec mean |x_res - x_ref| + lambda_rs RS      the middle term where there are references

    Args:
        pictures: pristine pictures for extractor and restorer; default: the references of the training part. NEVER
            give pictures that you test on: of a set with the name or folder of the training pictures only training
            contents are taken, but what lies in other folders cannot be checked.

    >>> DRIIQA().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: dri-iqa is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "dri-iqa"
    config_class = DRIConfig
    network = Network
    paired = True

    def __init__(self, config: DRIConfig = QUICK, pictures: Dataset | None = None):
        super().__init__(config)
        self.pictures = pictures
        self.variant = self._variant()

    def _variant(self) -> str:
        """What is special about the config, without what has no effect in it."""
        c = self.config
        uses = {"q": c.quality, "g": c.degradation, "restoration": c.assist}
        helpers = [word for word, on in uses.items() if on]
        parts = [" + ".join(helpers) or "predictor alone"]
        if c.quality or c.degradation or (c.assist and c.interaction == "tgb"):
            parts.append(c.interaction)
        if c.assist and c.guidance != "tgb":
            parts.append(f"restorer {c.guidance}")
        if c.rs_parts:
            parts.append(f"RS {' '.join(c.rs_parts)}")
        if self._has_extractor():
            if not c.split:
                parts.append("one vector")
            if not c.joint:
                parts.append("frozen")
        return ", ".join(parts)

    def _has_extractor(self) -> bool:
        c = self.config
        return bool(c.quality or c.degradation or c.assist or c.rs_parts)

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint: str | Path | None = None) -> Self:
        """As every `CropMethod`, after extractor and restorer, which are kept in the cache folder.

        Without references the restored images cannot be compared with them: then the reconstruction
        loss and the RS loss's "ratio" are left out, with a warning.
        """
        if not train.card.reference and "ratio" in self.config.rs_parts:
            warnings.warn(f"{train.name} has no references, so the reconstruction loss and RS "
                          "ratio are left out.",
                          stacklevel=2)
        expect_training(train, val, references=False)
        if train.card.reference:
            expect_training(train, None, references=True)
        pictures = Pictures(pristine(train, self.pictures)) if self._has_extractor() else []
        self.source = [*pictures] if len(pictures) <= 500 else pictures  # few are decoded once
        super().fit(train, val, checkpoint)
        self.source = None
        return self

    def learner(self) -> torch.optim.Optimizer:
        """Trains extractor and restorer on the fresh network; then Adam, slower for all that was trained before."""
        c, net = self.config, self.net
        before = [part for part in (net.extractor, net.restorer) if part is not None]
        if net.extractor is not None:
            self.stage1 = train_extractor(net.extractor, self.source, c)
        if net.restorer is not None:
            self.stage2 = train_restorer(net.restorer, net.extractor, self.source, c)
        for part in before:
            part.requires_grad_(c.joint)
        slow = [*before, getattr(net.predictor.stem, "net", nn.Module())]
        return torch.optim.Adam(groups(net, slow, c.lr, c.trained_rate), weight_decay=c.weight_decay)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """L of a batch."""
        c, net, x_ref = self.config, self.net, batch.get("x_ref")
        y, restored, vectors, features = net.look(batch["x"])
        loss, rs = F.mse_loss(y.float(), batch["score"]), y.new_zeros(())
        if restored is not None and x_ref is not None:
            loss = loss + c.lambda_rec * (restored - x_ref).abs().mean()
            if "ratio" in c.rs_parts:  # the extractor as it is: it must not learn to overlook it
                still = {name: p.detach() for name, p in net.extractor.state_dict(keep_vars=True).items()}
                of = [torch.func.functional_call(net.extractor, still, (z,))[:2] for z in (restored, x_ref)]
                rs = rs + ratio(*of, vectors)
        if "align" in c.rs_parts:
            rs = rs + align(features, vectors, net.pull)
        if "interact" in c.rs_parts:
            rs = rs + interact(net.order(vectors[0])[:, 0], batch["score"])
        return loss + c.lambda_rs * rs

    @torch.inference_mode()
    def restore(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of any size, as the restoration network would have them.

        Raises:
            ValueError: no such batch, or a method without a restoration network.
        """
        net = self._fitted().eval()
        if net.restorer is None:
            raise ValueError(f"{self.name} with assist=False has no restoration network: set "
                             "assist=True and fit it again.")
        x, _ = expect_batch(x)
        h, w = x.shape[-2:]
        step = 8 * net.extractor.fold
        x = x.to(next(net.parameters()).device)
        wide = F.pad(x, (0, -w % step, 0, -h % step), mode="replicate")
        _, g, guides = net.extractor(wide)
        return net.restorer(wide, g, guides)[0][..., :h, :w].clamp(0, 1).cpu()
