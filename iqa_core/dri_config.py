"""DRI-IQA's settings, and where each comes from."""

import dataclasses
import math
from typing import Annotated

from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)


@dataclasses.dataclass(frozen=True)
class DRIConfig:
    """What is built and how it is trained. No size or weight of the paper is known. `QUICK` and
    `SMOKE` fit a CPU: there extractor and restorer come with this kit, and what they and the
    predictor's encoder make of an image is computed once. `AUTHENTIC` is `QUICK` for images with
    authentic distortions, which need larger crops."""

    # stage 1, the Dual-Representation Extractor
    trunk: Annotated[
        tuple[int, ...] | str, "ours, as DASR: four widths; or a pretrained pyramid of timm"
    ] = (64, 128, 256, 512)
    split: Annotated[bool, "paper, False = one vector that is both, the control"] = True
    contents: Annotated[int, "ours, images a step before the scores come"] = 8
    degradations: Annotated[int, "ours, versions of each in stage 1"] = 8
    patch: Annotated[int, "ours, side of a crop in stage 1"] = 128
    temperature: Annotated[float, "ours, as CONTRIQUE"] = 0.1
    decorrelation: Annotated[float, "ours, weight of the correlation of the two halves"] = 0.01
    extractor_steps: Annotated[int, "ours"] = 100_000
    extractor_lr: Annotated[float, "ours, as DASR"] = 1e-3
    trunk_rate: Annotated[
        float, "ours, learning rate of a pretrained trunk in stage 1 / of the rest; 0 = frozen"
    ] = 0.01
    # the restoration network, alone
    restorer_width: Annotated[int, "ours, its channels at the finest scale"] = 32
    restorer_blocks: Annotated[
        tuple[int, ...], "ours, blocks at each scale, a reduced Restormer"
    ] = (2, 3, 3, 4)
    guidance: Annotated[
        str, "paper, how g guides it; or to compare with: 'add', 'none'"
    ] = "tgb"
    sequence: Annotated[
        int, "ours, it learns to undo at most so many degradations one after the other"
    ] = 1
    restorer_patch: Annotated[int, "ours, side of a crop from which it learns"] = 128
    clean: Annotated[
        float, "ours, share of undistorted crops among those that it learns from"
    ] = 0.1
    restorer_steps: Annotated[int, "ours"] = 50_000
    restorer_lr: Annotated[float, "ours, as the authors' deraining network"] = 2e-4
    seed: Annotated[int, "ours, of extractor and restorer; the rest follows torch's"] = 0
    parts: Annotated[
        str, "ours, file with both, trained before; 'shipped' = this kit's; '' = train them"
    ] = ""
    # the predictor
    encoder: Annotated[str, "ours, '' = three convolutions, or a pyramid of timm"] = ""
    weights: Annotated[str, "ours, of pretrained pyramids"] = "auto"
    frozen: Annotated[
        bool, "ours, True = train on what encoder, extractor and restorer make, computed once"
    ] = False
    side: Annotated[int, "ours, maps are averaged to at most so many rows; 0 = as they are"] = 0
    spread: Annotated[bool, "ours, standard deviations beside those averages"] = False
    width: Annotated[int, "ours, as MANIQA has in proportion"] = 192
    interaction: Annotated[
        str, "paper, how q, g and the restoration guide it; or to compare with: 'add'"
    ] = "tgb"
    readout: Annotated[
        str, "ours, mean score of the places, as MANIQA; or 'pooled', score of their mean"
    ] = "places"
    quality: Annotated[
        bool, "paper, the quality vector guides the predictor; False = ablation"
    ] = True
    degradation: Annotated[
        bool, "paper, the degradation vector guides it, too; False = ablation"
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
    optimizer: Annotated[str, "ours, decay in the gradient; or 'adamw', beside it"] = "adam"
    lr: Annotated[float, "ours"] = 1e-4
    warmup: Annotated[float, "ours, share of the steps in which the rate rises"] = 0.0
    clip: Annotated[float, "ours, largest norm of a gradient"] = 1.0
    rank: Annotated[float, "ours, share of the fidelity loss in the loss of the scores"] = 0.0
    pretrained_rate: Annotated[
        float, "ours, learning rate of what was trained before / of the rest"
    ] = 0.1
    weight_decay: Annotated[float, "ours, as MANIQA"] = 1e-5
    positions: Annotated[str, "ours, seeded places of test crops; or 'five'"] = "random"
    test_crops: Annotated[int, "ours, number of seeded places"] = 10

    def __post_init__(self):
        expect_words(self, guidance=("tgb", "add", "none"), interaction=("tgb", "add"),
                     positions=("random", "five"), readout=("places", "pooled"),
                     optimizer=("adam", "adamw"))
        expect_text(self, "weights")
        expect_text(self, "encoder", "rs", "parts", empty=True)
        expect_switch(self, "split", "frozen", "spread", "quality", "degradation", "assist",
                      "joint")
        expect_whole(self, 1, "contents", "degradations", "sequence", "extractor_steps",
                     "restorer_steps", "epochs", "batch", "test_crops")
        expect_whole(self, 2, "restorer_width")
        expect_whole(self, 8, "width")
        expect_whole(self, 16, "crop", "patch", "restorer_patch")
        expect_whole(self, 0, "seed", "side")
        expect_positive(self, "temperature", "lr", "extractor_lr", "restorer_lr", "clip")
        expect_number(self, 0, 0.99, "warmup")
        expect_number(self, 0, 1, "rank")
        expect_number(self, 0, math.inf, "decorrelation", "lambda_rec", "lambda_rs",
                      "pretrained_rate", "weight_decay", "trunk_rate")
        expect_number(self, 0, 0.9, "clean")
        if not isinstance(self.trunk, str):
            self._expect_four("trunk")
        elif not self.trunk:
            raise ValueError("trunk='' must be a pyramid of timm by name, or four widths such as "
                             "(64, 128, 256, 512).")
        self._expect_four("restorer_blocks")
        if set(self.rs.split()) - {"ratio", "align", "interact"}:
            raise ValueError(f"rs={self.rs!r} is unknown; give some of ratio, align, interact, "
                             "with spaces, or ''.")
        if self.crop % 32 or self.patch % 16 or self.restorer_patch % 16:
            raise ValueError(f"crop={self.crop} must be a multiple of 32, patch={self.patch} and "
                             f"restorer_patch={self.restorer_patch} of 16.")
        if self.width % 8:
            raise ValueError(f"width={self.width} must be a multiple of 8: four heads share it, "
                             "and half of it.")
        if self.restorer_width % 2:
            raise ValueError(f"restorer_width={self.restorer_width} must be an even number of "
                             "channels.")
        if self.contents * self.degradations < 2:
            raise ValueError(f"contents={self.contents} and degradations={self.degradations} leave "
                             "nothing to tell apart in stage 1: make one of them 2 or more.")
        if self.frozen and not self.encoder:
            raise ValueError("frozen=True needs a pretrained encoder, and encoder='' is three "
                             "convolutions that must learn: set frozen=False, or name a pyramid "
                             "such as encoder='tf_efficientnet_lite0'.")
        if self.frozen and self.joint and self.has_extractor:
            raise ValueError("frozen=True trains on what extractor and restorer made once, so they "
                             "cannot learn, and joint=True has no effect: set joint=False.")
        if not self.encoder and (self.side or self.spread):
            raise ValueError("side and spread are about the maps of an encoder, so with encoder='' "
                             "they have no effect: set side=0 and spread=False.")

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
        used = self.quality or self.degradation or self.assist
        acts = {"ratio": self.assist and self.joint, "align": True,
                "interact": self.joint and used}
        named = self.rs.split() if self.lambda_rs else []
        return tuple(part for part in acts if part in named and acts[part])

    @property
    def has_extractor(self) -> bool:
        """Without vectors, restorer and RS loss there is no extractor: the predictor is alone."""
        return bool(self.quality or self.degradation or self.assist or self.rs_parts)


QUICK = DRIConfig(trunk="tf_efficientnet_lite0", contents=4, patch=96, extractor_steps=300,
                  trunk_rate=0.0, restorer_width=12, restorer_blocks=(1, 1, 1, 1),
                  restorer_patch=64, clean=0.15, restorer_steps=8400, restorer_lr=2.5e-3,
                  parts="shipped", encoder="tf_efficientnet_lite0", frozen=True, side=4,
                  spread=True, width=64, readout="pooled", rs="align", joint=False, crop=128,
                  epochs=12, batch=32, optimizer="adamw", lr=1e-3, warmup=0.05, rank=0.9,
                  weight_decay=0.01, positions="five")
# A camera's distortions lie in all of a photograph, and small crops do not show them.
AUTHENTIC = dataclasses.replace(QUICK, crop=256)
SMOKE = dataclasses.replace(QUICK, width=32, crop=64, epochs=2, batch=8)
