"""QFM-IQM: a score that does not move when the features of another image are added to its own.

Li et al., Adaptive Feature Selection for No-Reference Image Quality Assessment by Mitigating
Semantic Noise Sensitivity (ICML 2024, arXiv 2312.06158). It has no public code. The network, in
`qfm_network`, and its training are those of the authors' earlier DEIQT
(github.com/narthchin/DEIQT). The parts that are only used in training, in `qfm_noise`, follow the
paper's description; where that leaves a number open, the config says `ours`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iqa_core import data, frozen_maps
from iqa_core.data import Dataset, DatasetError
from iqa_core.hardware import accelerator
from iqa_core.identity import about, identity
from iqa_core.method import Method
from iqa_core.qfm_network import QUICK, SMOKE, Network, QFMConfig
from iqa_core.qfm_noise import Records, consistency, perturb, semantic_noise
from iqa_core.train import Stage, derived_seed, parameter_groups, warmup_cosine


def allowed(unlabelled: Dataset, train: Dataset, labelled: Dataset) -> Dataset:
    """The unlabelled images that we may learn from: see `QFMIQM`.

    Args:
        unlabelled: what was given.
        train, labelled: the training part, and those of it whose scores are used.

    Raises:
        DatasetError: none is left.
    """
    same_folder = unlabelled.root.resolve() == train.root.resolve()
    if unlabelled.name == train.name or same_folder:
        of_training = unlabelled.table["content"].isin(train.table["content"])
        used = unlabelled.table["image"].isin(labelled.table["image"])
        unlabelled = unlabelled.subset(of_training & ~used)
    if not len(unlabelled):
        raise DatasetError(f"{unlabelled.name}: all its images are labelled, or may be in the "
                           "validation or test part. Give unlabelled images from another set, or "
                           "set labels below 1.")
    return unlabelled


class QFMIQM(Method):
    """QFM-IQM as a method. With lambda1 = 0 and nothing unlabelled it is its own baseline.

        L = L_q + lambda1 * L_qcc + lambda2 * L_dle
        L_q   = SmoothL1(y, mos)                 scored images
        L_qcc = SmoothL1(panel(F~), sg(y))       all images: the Quality Consistency Constraint
        L_dle = SmoothL1(y, y_teacher)           unlabelled images: Distillation Label Extension

    The teacher is the baseline, trained on the same images with the same seed and then frozen.
    After training only the plain network is left: its scores are those of a baseline of equal
    weights.

    Args:
        config: sizes, parts and training.
        unlabelled: images whose scores are not used. NEVER give an image that you test on, or
            another version of it. Of a set with the name or folder of the training images, only
            other images of the training contents are taken. What lies in other folders cannot be
            checked.
        encoder, panel: see `Network`.

    >>> QFMIQM().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: qfm-iqm is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "qfm-iqm"
    config_class = QFMConfig
    presets = (SMOKE, QUICK, QFMConfig())
    network = Network

    def __init__(self, config: QFMConfig = QUICK, unlabelled: Dataset | None = None,
                 encoder: nn.Module | None = None,
                 panel: Callable[..., nn.Module] | None = None):
        super().__init__(config, encoder=encoder, panel=panel)
        self.unlabelled = unlabelled
        self.passes = config.crops_per_epoch
        self.clip = config.clip
        self.steps_before = 0  # steps before the consistency begins
        self.labels_used = 0

    @property
    def identity(self) -> dict[str, str]:
        """As of every method; it names the set of unlabelled images, too."""
        own = super().identity
        if self.unlabelled is None:
            return own
        parts = [own["variant"], f"unlabelled={self.unlabelled.name}"]
        return identity(own["method"], ", ".join(filter(None, parts)), own["hash"])

    def stages(self, train: Dataset, val: Dataset | None, seed: int,
               checkpoint: str | Path | None) -> Iterator[Stage]:
        """With unlabelled images the teacher comes first, a method of its own."""
        c = self.config
        count = max(1, round(c.labels * len(train)))
        order = np.random.default_rng(seed).permutation(len(train))
        labelled = train.subset(np.sort(order[:count]))
        self.labels_used = count
        pool = None
        if self.unlabelled is not None:
            pool = allowed(self.unlabelled, train, labelled)
            pseudo_labelled = self._pseudo_labelled(pool, train, labelled, checkpoint)
        stage = self.score_stage(labelled, val, seed, checkpoint)
        if pool is not None:
            stage.settings["unlabelled"] = about(pool)
            stage.batches = self._with_unlabelled(stage, pseudo_labelled)
        if c.lambda1:
            self.steps_before = c.consistency_start * stage.round
            self.net.memory = self.net.memory_bank(c).to(self.device)
        yield stage
        self.net.memory = None

    def _pseudo_labelled(self, pool: Dataset, train: Dataset, labelled: Dataset,
                         checkpoint: str | Path | None) -> Dataset:
        """The unlabelled images with the scores of a teacher, in the range of the human ones."""
        teacher = QFMIQM(dataclasses.replace(self.config, lambda1=0.0), **self.blocks)
        teacher.base = self.base
        teacher.fit(train, checkpoint=f"{checkpoint}.teacher" if checkpoint else None)
        scores = teacher.predict(pool).clip(labelled.scores.min(), labelled.scores.max())
        return dataclasses.replace(pool, table=pool.table.assign(score=scores))

    def _with_unlabelled(self, stage: Stage, pool: Dataset) -> Callable[[int], Iterator[dict]]:
        """The batches of a stage, each with a batch of unlabelled images.

        These begin anew in every epoch, in an order and at places of their own, and again where
        they run out before it ends.
        """
        scored = stage.batches
        loader = self._unlabelled_loader(pool, derived_seed(stage.seed, 1))
        running_on = accelerator()
        first, processes = running_on.process_index, running_on.num_processes
        needed = math.ceil(stage.round * processes / len(loader))  # passes in an epoch

        def unlabelled(epoch: int) -> Iterator[dict]:
            for number in range(epoch * needed, (epoch + 1) * needed):
                loader.sampler.epoch = number
                yield from loader

        def batches(step: int) -> Iterator[dict]:
            for number, batch in enumerate(scored(step), step):
                if number % stage.round == 0:
                    every = unlabelled(number // stage.round)
                    mine = islice(every, first, None, processes)
                yield {**batch, "unlabelled": send_to_device(next(mine), self.device)}

        return batches

    def _unlabelled_loader(self, pool: Dataset, seed: int) -> DataLoader:
        c = self.config
        if not c.frozen:
            return data.loader(pool, c.crop, c.batch, seed, flip=True, references=False)
        maps = self.maps(pool, references=False)
        return frozen_maps.loader(maps, c.batch, seed, flip=True, references=False)

    def optimizer(self, net: Network) -> torch.optim.Optimizer:
        """AdamW; biases, norms, the class token and the places of tokens do not decay."""
        c = self.config
        return torch.optim.AdamW(parameter_groups(
            net, [net.encoder], c.lr, c.encoder_rate, c.weight_decay, ("pos_embed", "cls_token")))

    def schedule(self, steps: int) -> Callable[[int], float]:
        """A line from 1/1000 to 1 over `warmup` epochs, then a tenth for every `decay` epochs that
        have passed; or half a cosine.

        The old curve counts them from the start of the training, the new one from the end of the
        warm-up. With the paper's 3 + 3 + 3 epochs the old one is at a tenth as soon as it has
        warmed up. Source: code of timm.

        >>> schedule = QFMIQM(QFMConfig()).schedule(90)
        >>> [round(schedule(step), 4) for step in (0, 15, 30, 60)]
        [0.001, 0.5005, 0.1, 0.01]
        """
        c = self.config
        if c.schedule == "cosine":
            return warmup_cosine(steps, c.warmup / c.epochs)
        start = c.warmup if c.schedule == "new" else 0

        def factor(step: int) -> float:
            epoch = step * c.epochs / steps
            if epoch < c.warmup:
                return 1e-3 + (1 - 1e-3) * epoch / c.warmup
            return 0.1 ** ((epoch - start) // c.decay)

        return factor

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """L of a batch, and its three parts: `quality`, `consistency` and `distillation`.

        A part that is switched off, or has not begun, is 0. Scored and unlabelled images go through
        the network in one pass.

        Args:
            batch: see `Method.loss`; with unlabelled images a batch of them as `unlabelled`, with
                pseudo-labels as its `score`.
        """
        c = self.config
        parts = [batch]
        if "unlabelled" in batch:
            parts.append(batch["unlabelled"])
        labels = torch.cat([part["score"] for part in parts])
        # rows of the unlabelled images are counted on from those of the scored ones
        ids = torch.cat([part["row"] + i * self.labels_used for i, part in enumerate(parts)])
        if "maps" in batch:
            maps = [torch.cat(same) for same in zip(*(part["maps"] for part in parts))]
        else:
            maps = self.net.encoder(torch.cat([part["x"] for part in parts]))
        features = self.net.features(maps)
        y = self.net.score(features)
        scored = len(batch["score"])
        values = {"quality": F.smooth_l1_loss(y[:scored], labels[:scored], beta=c.beta),
                  "consistency": y.new_zeros(()), "distillation": y.new_zeros(())}
        if len(y) > scored:
            values["distillation"] = F.smooth_l1_loss(y[scored:], labels[scored:], beta=c.beta)
        if self.net.memory is not None:
            own = Records.of(features, labels, ids, self.net.keys(maps, features))
            values["consistency"] = self._consistency(features, y, own)
        loss = (values["quality"] + c.lambda1 * values["consistency"]
                + c.lambda2 * values["distillation"])
        return {"loss": loss, **values}

    def _consistency(self, features: Tensor, y: Tensor, own: Records) -> Tensor:
        """L_qcc of a batch, which then goes into the memory bank: so no image meets itself."""
        c = self.config
        bank = self.net.memory
        bank.steps += 1
        value = y.new_zeros(())
        if bank.steps <= self.steps_before:
            return value
        if bank.count:
            noise, matched = semantic_noise(features, own, bank.records, c)
            perturbed = perturb(features, noise, c.alpha, c.rescale)
            value = consistency(self.net.score(perturbed), y, matched, c.beta)
        bank.add(own)
        return value
