"""DRI-IQA's trainings before the scores come: the extractor, then the restoration network.

Both learn from pristine images and degradations that are made here, without any score. A finished
training lies in the cache folder, named by all that it depends on. So ablations of the predictor
share one extractor and one restoration network.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor, nn

from iqa_core import backbones, images
from iqa_core.data import Dataset, DatasetError
from iqa_core.dri_config import DRIConfig
from iqa_core.dri_extractor import (
    GROUPS, Extractor, contrast, correlation, degrade, grid, relations, sequences)
from iqa_core.dri_restorer import Restorer
from iqa_core.files import cache_dir, code_hash, half, locked, read_tensors, write_tensors
from iqa_core.hardware import accelerator, run_settings
from iqa_core.inputs import fill
from iqa_core.reiqa_pairs import cut
from iqa_core.reiqa_pretrain import about
from iqa_core.settings import to_save
from iqa_core.train import Stage, batch_numbers, fit, parameter_groups

# What these trainings depend on: where a file changes, they are made anew.
STAGE_CODE = [Path(__file__).with_name(name) for name in (
    "images.py", "image_colours.py", "image_formats.py", "distortions.py", "distortion_types.py",
    "distortion_tools.py", "color.py", "backbones.py", "reiqa_pairs.py",
    "dri_extractor.py", "dri_restorer.py", "dri_stages.py", "train.py")]

# What the restoration network learns to undo: blur, compression, noise. Nobody can see in an image
# how bright or how colourful it was. With these in the bank the network changed all images, and
# noise and blur got worse.
UNDONE = [GROUPS[0], GROUPS[2], GROUPS[3]]

EXTRACTOR_FIELDS = ("trunk", "split", "weights", "contents", "degradations", "patch", "temperature",
                    "decorrelation", "extractor_steps", "extractor_lr", "trunk_rate", "seed")
RESTORER_FIELDS = ("restorer_width", "restorer_blocks", "guidance", "sequence", "restorer_patch",
                   "clean", "restorer_steps", "restorer_lr")


def pristine(train: Dataset, more: Dataset | None) -> Dataset:
    """The images that extractor and restorer learn from, and nothing that is tested.

    The references of the training part, if it has them; else `more`, of which, if it is of the same
    set, only training contents are taken.

    Raises:
        DatasetError: there are none.
    """
    if more is None and train.card.reference:
        table = train.table[~train.table["reference"].duplicated()]
        return replace(train, table=table.assign(image=table["reference"]))
    if more is None:
        raise DatasetError(f"{train.name} has no references: give pristine images, such as "
                           "data_download.load('kodak').")
    if more.name == train.name or more.root.resolve() == train.root.resolve():
        more = more.subset(more.table["content"].isin(train.table["content"]))
    if not len(more):
        raise DatasetError(f"{more.name}: all its images may be in the validation or test part. "
                           "Give others.")
    return more


def build(config: DRIConfig) -> tuple[Extractor, Restorer | None]:
    """Fresh networks, or those in the file that the config names.

    Fresh ones follow from the seed of the config alone, and not from torch's.

    Raises:
        ValueError: a trunk that does not take crop or patch, or a file that does not fit.
    """
    c = config
    with torch.random.fork_rng():
        torch.manual_seed(c.seed)
        extractor = Extractor(c.trunk, c.split, c.weights)
        restorer = None
        if c.assist:
            restorer = Restorer(c.restorer_width, c.restorer_blocks, extractor.length,
                                extractor.widths, c.guidance, extractor.stride)
    for name in ("crop", "patch", "restorer_patch"):
        size = getattr(c, name)
        if size % (8 * extractor.stride):
            raise ValueError(f"{name}={size} must be a multiple of {8 * extractor.stride}, 8 x the "
                             f"finest stride of {c.trunk}.")
        extractor.expect_crop(size)
    if c.parts:
        _fill(extractor, restorer, c)
    return extractor, restorer


SHIPPED = Path(__file__).with_name("weights") / "dri_parts.pt"
_KIND = "extractor and restorer of dri-iqa"
# what the networks are made of
_SHAPE = ("trunk", "split", "restorer_width", "restorer_blocks", "guidance")


def parts_file(config: DRIConfig) -> Path:
    """The file that `parts` names."""
    return SHIPPED if config.parts == "shipped" else Path(config.parts)


def save_parts(path: str | Path, extractor: Extractor, restorer: Restorer, images: Dataset,
               config: DRIConfig) -> None:
    """Write extractor and restorer as one small file, at half precision.

    Args:
        path: the file, which `parts` may name.
        extractor, restorer: as they were trained.
        images: from which they learned. A set of the same name is refused later.
        config: their settings. A pretrained trunk that was frozen, and that a package brings, is
            not written.
    """
    state = half(extractor)
    if _trunk_ships(to_save(config)):
        state = {name: value for name, value in state.items() if not name.startswith("trunk.")}
    values = to_save(config)
    settings = {name: values[name] for name in EXTRACTOR_FIELDS + RESTORER_FIELDS}
    write_tensors(path, {"method": _KIND, "settings": settings, "extractor": state,
                         "restorer": half(restorer), "learned from": images.name})


def learned_from(config: DRIConfig) -> str:
    """Name of the set from which the networks in the file of the config learned."""
    return str(read_tensors(parts_file(config), _KIND).get("learned from", ""))


def _trunk_ships(settings: dict) -> bool:
    """Is the trunk, exactly as it is, that of a package?"""
    return (settings.get("trunk") in backbones.SHIPPED and settings.get("weights") == "auto"
            and not settings.get("trunk_rate"))


def _fill(extractor: Extractor, restorer: Restorer | None, config: DRIConfig) -> None:
    """Load the networks from the file of a config."""
    path = parts_file(config)
    saved = read_tensors(path, _KIND)
    theirs = saved.get("settings", {})
    for name in _SHAPE:
        if theirs.get(name) != getattr(config, name):
            raise ValueError(f"{path}: extractor and restorer have {name}={theirs.get(name)!r}, "
                             f"not {getattr(config, name)!r}. Set parts='' to train others.")
    state = saved.get("extractor")
    if _trunk_ships(theirs) and isinstance(state, dict):
        own = extractor.state_dict()
        state = state | {name: own[name] for name in own if name.startswith("trunk.")}
    fill(extractor, state, path, "the extractor that its config describes")
    if restorer is not None:
        fill(restorer, saved.get("restorer"), path, "the restorer that its config describes")


def extractor_stage(net: Extractor, photographs: Sequence[Tensor], config: DRIConfig) -> Stage:
    """The training of the extractor.

        L = L_quality + L_degradation + decorrelation * mean corr(q, g)^2

    Args:
        net: fresh, that of `dri.Network(config)`.
        photographs: uint8 (3, H, W), pristine.
        config: settings.
    """
    c = config
    device = next(net.parameters()).device
    if net.embed is not None and not c.trunk_rate:
        net.trunk.requires_grad_(False)

    def batches(step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for number in batch_numbers(step):
            chosen, generator = _drawn(photographs, c.contents, c.seed, 1, number)
            yield grid(chosen, c.degradations, c.patch, generator)

    @torch.autocast(device.type, enabled=False)  # cosines close to 1 want full precision
    def loss(batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        x, contents, degradations = batch
        q, g, _ = net(x.to(device))
        same_quality, same_degradation = relations(contents.to(device), degradations.to(device))
        quality = contrast(net.heads[0](q), same_quality, c.temperature)
        degradation = contrast(net.heads[1](g), same_degradation, c.temperature)
        total = quality + degradation
        if c.split:
            total = total + c.decorrelation * correlation(q, g)
        return {"loss": total}

    return _stage("extractor", net, loss, batches, c.extractor_steps, c.extractor_lr, c,
                  photographs, EXTRACTOR_FIELDS)


def restorer_stage(net: Restorer, extractor: Extractor, photographs: Sequence[Tensor],
                   config: DRIConfig) -> Stage:
    """The training of the restoration network; the extractor guides it, and stays as it is.

        L = mean over images of log10(MSE(x_res, x_ref) + 1e-5),    x by `UNDONE`, all levels
                                                                    equally often

    That is PSNR, but for its sign and scale, up to about 50 dB: so mild degradations count as much
    as strong ones, and a share `clean` of the crops is not degraded at all. Who changes these pays
    for it: the network learns to leave alone what is good. Arguments as in `extractor_stage`.
    """
    c = config
    device = next(net.parameters()).device
    extractor.eval()

    def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in batch_numbers(step):
            chosen, generator = _drawn(photographs, 2 * c.contents, c.seed, 2, number)
            size = c.restorer_patch
            crops = [cut(images.fit(photograph, size), [size] * 2, generator)
                     for photograph in chosen]
            x_ref = images.from_uint8(torch.stack(crops))
            which = sequences(len(x_ref), generator, c.sequence, UNDONE, math.inf)
            left_alone = torch.rand(len(x_ref), generator=generator) < c.clean
            x = degrade(x_ref, which, generator)
            yield torch.where(left_alone[:, None, None, None], x_ref, x), x_ref

    @torch.autocast(device.type, enabled=False)  # small errors want full precision
    def loss(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, x_ref = (part.to(device) for part in batch)
        with torch.no_grad():
            _, g, guides = extractor(x)
        restored, _ = net(x, g, guides)
        error = (restored - x_ref).square().mean((1, 2, 3))  # (B,)
        return {"loss": (error + 1e-5).log10().mean()}

    return _stage("restorer", net, loss, batches, c.restorer_steps, c.restorer_lr, c,
                  photographs, EXTRACTOR_FIELDS + RESTORER_FIELDS)


def train_extractor(net: Extractor, photographs: Sequence[Tensor],
                    config: DRIConfig) -> pd.DataFrame:
    """Train the extractor, without scores: see `extractor_stage`.

    A finished training is read from the cache folder, one that was killed goes on.

    Returns:
        A row a step: `loss`.
    """
    return _trained(extractor_stage(net, photographs, config))


def train_restorer(net: Restorer, extractor: Extractor, photographs: Sequence[Tensor],
                   config: DRIConfig) -> pd.DataFrame:
    """Train the restoration network alone: see `restorer_stage`. As `train_extractor`."""
    return _trained(restorer_stage(net, extractor, photographs, config))


def _trained(stage: Stage) -> pd.DataFrame:
    with reserved(stage):
        return fit(stage)


def reserved(stage: Stage) -> AbstractContextManager:
    """A context in which no other training writes the checkpoint of this stage."""
    return locked(stage.checkpoint) if accelerator().is_main_process else nullcontext()


def _stage(name: str, net: nn.Module, loss: Callable, batches: Callable, steps: int, lr: float,
           config: DRIConfig, photographs: Sequence[Tensor], fields: Sequence[str]) -> Stage:
    """A stage with Adam, and gradients of norm 1 at most.

    The rate rises over the first tenth of the steps, and falls from lr to lr / 1000 by half a
    cosine.
    """
    values = to_save(config)
    depends_on = {"stage": name, "images": about(photographs)}
    depends_on |= {field: values[field] for field in fields}
    named = json.dumps({**depends_on, **run_settings(), "code": code_hash(*STAGE_CODE)})
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]

    def schedule(step: int) -> float:
        falling = 0.001 + 0.999 * (1 + math.cos(math.pi * step / steps)) / 2
        return min(1, 10 * (step + 1) / steps) * falling

    # a round ends where gradients that are added up have been used
    every = 100 * accelerator().gradient_accumulation_steps
    pretrained = [net.trunk] if getattr(net, "embed", None) is not None else []
    optimizer = torch.optim.Adam(parameter_groups(net, pretrained, lr, config.trunk_rate))
    return Stage(name, net, loss, batches, steps, every, optimizer, schedule,
                 {"depends on": depends_on}, config.seed, clip=1.0,
                 checkpoint=cache_dir() / "dri-stages" / f"{digest}.pt")


def _drawn(photographs: Sequence[Tensor], count: int, *numbers: int
           ) -> tuple[list[Tensor], Generator]:
    """The images of a step, and a generator of its own; both follow from the numbers."""
    of_order, of_generator = np.random.SeedSequence(numbers).generate_state(2)
    order = np.random.default_rng(of_order).permutation(len(photographs))
    return [photographs[i] for i in order[:count]], Generator().manual_seed(int(of_generator))
