"""The contract of all methods that train a network: fit, predict, score, loss, save, load.

A method is a config and its blocks. `fit` builds the network, then trains one `Stage` after the
other through the one loop of `train`. Where the config says `frozen`, the encoder's maps are
computed once and kept, and only what stands on them is trained.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from iqa_core import backbones, data, frozen_maps, metrics
from iqa_core.data import Dataset
from iqa_core.files import half, progress, read_tensors, write_tensors
from iqa_core.frozen_maps import CropPlan, FrozenMaps
from iqa_core.hardware import accelerator
from iqa_core.identity import about, block_names, differences, identity
from iqa_core.inputs import expect_batch, expect_training, fill, load_pair
from iqa_core.settings import from_saved, to_save
from iqa_core.train import Stage, fit, share_initial_weights, warmup_cosine

Predictions = dict[tuple[str, str], np.ndarray]


class Method:
    """What YOTO, QFM-IQM and DRI-IQA share, and what a method of your own needs.

    A child brings:

    - `name`, `config_class` and `presets`, its configs for tests, a CPU and a GPU;
    - `network`, a class: network(config, **blocks) is a module with `encode(x)`, images to maps,
      and `forward(x)` or `forward(x, x_ref)`, images (B, 3, H, W) to scores (B,), and for frozen
      maps `head(maps, ref_maps)`, maps to scores;
    - `optimizer(net)` and `loss(batch)`, and maybe other `stages`.

    Its config has `crop`, `positions`, `test_crops`, `epochs`, `batch` and `frozen`.

    Args:
        config: an object of `config_class`.
        blocks: modules or classes in place of the network's own, by the names of the network's
            arguments. A module, such as an encoder of your own, is copied before each training.

    Attributes:
        tasks: what the method is judged on: "NR", "FR" or both.
        net: the network, after `fit` or `load`.
        history: after `fit`, a row an epoch of the last stage.
        labels_used: after `fit`, the number of training images whose scores were used.
    """

    name = ""
    config_class: type
    presets: tuple = ()
    network: type[nn.Module]
    tasks: tuple[str, ...] = ("NR",)
    paired = False  # does a no-reference training use references where there are any?
    passes = 1  # through the training images in an epoch
    clip = float("inf")  # largest norm of a gradient

    def __init__(self, config, **blocks):
        self.config = config
        self.blocks = {name: block for name, block in blocks.items() if block is not None}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.net: nn.Module | None = None
        self.best: dict | None = None  # weights of the best epoch on the validation part
        self.base: Method | None = None  # see `start_like`

    # --- training --------------------------------------------------------------------------------

    def fit(self, train: Dataset, val: Dataset | None = None,
            checkpoint: str | Path | None = None) -> Self:
        """Train from the start, or go on from a checkpoint.

        The weights after the last epoch are what `score` uses. Those of the best epoch on `val` are
        remembered beside them, and only reported: see `predictions`. The seed is torch's: call
        `torch.manual_seed` before.

        Args:
            train, val: datasets with scores (and references, if a task needs them).
            checkpoint: file to go on from, and to write after every epoch; None = none.

        Raises:
            DatasetError: an empty part, a score that is no number, an image without the reference
                that a task needs or with one of another size.
            ValueError: a checkpoint of other settings or images, or one that is damaged.
            RuntimeError: the loss is not finite.
        """
        expect_training(train, val, references="FR" in self.tasks)
        if self.paired and train.card.reference:
            expect_training(train, None, references=True)
        seed = torch.initial_seed() % 2**31
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.device = accelerator().device.type
            self.net = self.build()
            if self.base is not None:
                torch.manual_seed(seed)
                share_initial_weights(self.net, self.base.build())
            self.net.to(self.device, memory_format=torch.channels_last)  # faster on a CPU
            self.labels_used = len(train)
            # closing: a stage that holds a lock lets go of it when its training fails
            with closing(self.stages(train, val, seed, checkpoint)) as stages:
                for stage in stages:
                    rows = fit(stage)
                    self.best = stage.best
                    epochs = rows.groupby(rows.index // stage.round).mean()
                    self.history = epochs.rename_axis("epoch").reset_index()
        if self.best is not None:  # without what was only there to train, such as a memory bank
            own = self.net.state_dict()
            weights = {name: self.best["module"][name] for name in own}
            self.best = {"score": self.best["score"], "module": weights}
        return self

    def build(self) -> nn.Module:
        """The network, with fresh weights from torch's seed."""
        blocks = {name: copy.deepcopy(block) if isinstance(block, nn.Module) else block
                  for name, block in self.blocks.items()}
        return self.network(self.config, **blocks)

    def start_like(self, base: "Method") -> Self:
        """Start every training with the initial weights that `base` has under the same seed.

        They are shared by the names of the modules: so two arms of an experiment differ by what was
        changed, and not by the luck of their start.
        """
        self.base = base
        return self

    def stages(self, train: Dataset, val: Dataset | None, seed: int,
               checkpoint: str | Path | None) -> Iterator[Stage]:
        """The trainings, one after the other; what follows a `yield` runs when that one is done."""
        yield self.score_stage(train, val, seed, checkpoint)

    def score_stage(self, train: Dataset, val: Dataset | None, seed: int,
                    checkpoint: str | Path | None) -> Stage:
        """The training of the score, on crops of the training images or on their frozen maps."""
        c = self.config
        loader = self.loader(train, seed)
        sampler = loader.sampler
        loader = accelerator().prepare(loader)
        per_epoch = self.passes * len(loader)
        steps = per_epoch * c.epochs

        def batches(step: int) -> Iterator[dict]:
            for number in range(step // len(loader), self.passes * c.epochs):
                sampler.epoch = number
                yield from loader

        settings = {"config": to_save(c), "identity": self.identity, "images": about(train),
                    "validation": about(val)}
        if self.base is not None:
            settings["starts like"] = self.base.identity
        return Stage(self.name, self.net, self.loss, batches, steps, per_epoch,
                     self.optimizer(self.net), self.schedule(steps), settings, seed, self.clip,
                     None if val is None else lambda: self._validate(val), checkpoint)

    def loader(self, train: Dataset, seed: int) -> torch.utils.data.DataLoader:
        """Batches of training crops, or of their maps where the encoder is frozen.

        Frozen maps are standardised here, by those of the training images.
        """
        c = self.config
        references = "FR" in self.tasks or (self.paired and train.card.reference)
        if not c.frozen:
            return data.loader(train, c.crop, c.batch, seed, flip=True, references=references)
        maps = self.maps(train, references)
        self.net.standardise.measure(maps.image(row) for row in range(len(maps)))
        return frozen_maps.loader(maps, c.batch, seed, flip=True, references=references)

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        raise NotImplementedError

    def schedule(self, steps: int) -> Callable[[int], float]:
        """Factor on the learning rates at each step: half a cosine, from 1 to 0."""
        return warmup_cosine(steps, warmup=0)

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """The loss of a batch, a mean over its images, and other scalars that are logged.

        Args:
            batch: `x` (B, 3, crop, crop) in [0, 1], or `maps` of frozen crops; with references also
                `x_ref` or `ref_maps`; `score` (B,) in [0, 1], HIGHER = BETTER; `row` (B,).
        """
        raise NotImplementedError

    def forward(self, batch: dict, reference: bool) -> Tensor:
        """Scores (B,) of a batch, with its references or without."""
        if "maps" in batch:
            return self.net.head(batch["maps"], batch["ref_maps"] if reference else None)
        return self.net(batch["x"], batch["x_ref"]) if reference else self.net(batch["x"])

    def _validate(self, val: Dataset) -> dict[str, float]:
        """SRCC on the validation part, one a task."""
        return {f"val {task}": metrics.srcc(self._scores(val, task), val.scores)
                for task in self.tasks}

    # --- scores ----------------------------------------------------------------------------------

    @property
    def plan(self) -> CropPlan:
        """The crops of an image that are looked at."""
        c = self.config
        count = 5 if c.positions == "five" else c.test_crops
        return CropPlan(c.crop, c.positions, count)

    def maps(self, dataset: Dataset, references: bool) -> FrozenMaps:
        """The frozen maps of a dataset."""
        return frozen_maps.compute(dataset, self.net.encoder, self.plan, references)

    def predict(self, dataset: Dataset) -> np.ndarray:
        """Scores (N,) for the first of `tasks`, HIGHER = BETTER."""
        return self._scores(dataset, self.tasks[0])

    def predictions(self, dataset: Dataset) -> Predictions:
        """Scores (N,) by (task, epoch): "NR" or "FR"; "last", and "best" where there was a
        validation part. "FR" only where there are references."""
        net = self.fitted()
        tasks = [task for task in self.tasks if task == "NR" or dataset.card.reference]
        results = {(task, "last"): self._scores(dataset, task) for task in tasks}
        if self.best is not None:
            last = {name: value.clone() for name, value in net.state_dict().items()}
            net.load_state_dict(self.best["module"])
            results |= {(task, "best"): self._scores(dataset, task) for task in tasks}
            net.load_state_dict(last)
        return results

    @torch.inference_mode()
    def _scores(self, dataset: Dataset, task: str) -> np.ndarray:
        net = self.fitted().eval()
        if self.config.frozen:
            maps = self.maps(dataset, references=task == "FR")
            rows = torch.arange(len(dataset)).split(4)  # faster than one at a time
            return np.concatenate([self._of_maps(net, maps, few.tolist(), task) for few in rows])
        scores = []
        for row in progress(range(len(dataset)), f"scores of {dataset.name}"):
            if task == "FR":
                x, x_ref = load_pair(dataset, row)
                scores.append(self._of_crops(x[None], x_ref[None]).item())
            else:
                scores.append(self._of_crops(dataset.image(row)[None], None).item())
        return np.array(scores)

    def _of_maps(self, net: nn.Module, maps: FrozenMaps, rows: list[int], task: str) -> np.ndarray:
        """Mean score over the crops of each image, (rows,)."""

        def joined(of_row: Callable[[int], list[Tensor]]) -> list[Tensor]:
            return [torch.cat(same).to(self.device) for same in zip(*map(of_row, rows))]

        reference = joined(maps.reference) if task == "FR" else None
        scores = net.head(joined(maps.image), reference)  # (rows crops,)
        return scores.double().view(len(rows), -1).mean(1).cpu().numpy()

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """Images, and maybe references, (B, 3, H, W) in [0, 1] -> (B,), HIGHER = BETTER.

        They may have any float type, and need not lie on the network's device. An image smaller
        than a crop is mirrored (see `images.fit`).

        Raises:
            ValueError: x is no such batch, x and x_ref differ in shape, or the task needs a
                reference and has none.
        """
        self.fitted().eval()
        if x_ref is not None and "FR" not in self.tasks:
            x_ref = None
        if x_ref is None and "NR" not in self.tasks:
            raise ValueError(f"{self.name} was trained for full-reference input only: call "
                             "score(x, x_ref).")
        return self._of_crops(*expect_batch(x, x_ref))

    @torch.inference_mode()
    def _of_crops(self, x: Tensor, x_ref: Tensor | None) -> Tensor:
        """Mean over aligned crops: (B, 3, H, W) -> (B,)."""
        device = next(self.net.parameters()).device
        parts = [self.plan.cut(part.to(device)).flatten(0, 1)  # (crops B, 3, crop, crop)
                 for part in (x, x_ref) if part is not None]
        scores = self.net(*(part.contiguous(memory_format=torch.channels_last) for part in parts))
        return scores.view(-1, len(x)).float().mean(0).cpu()

    def fitted(self) -> nn.Module:
        """The network.

        Raises:
            RuntimeError: there is none yet.
        """
        if self.net is None:
            raise RuntimeError(f"{self.name} is not fitted: call fit(train, val), or load a fitted "
                               "one.")
        return self.net

    # --- identity and files ----------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        """What a row of the ledger is about: `method`, `variant` and `hash`.

        `variant` lists how the config differs from the nearest preset, and the blocks that are not
        the method's own; "" = nothing. `hash` has 8 hex digits of config, blocks and given weights.
        """
        blocks = self._block_names()
        parts = [f"{name}={block.split(' ')[0]}" for name, block in blocks.items()]
        if self.presets:
            parts.insert(0, differences(self.config, *self.presets))
        variant = ", ".join(filter(None, parts))
        return identity(self.name, variant, to_save(self.config), blocks)

    def _block_names(self) -> dict[str, str]:
        names = block_names(self.blocks)
        if "name" not in vars(type(self)):  # a child of a method, with another loss, say
            names["method"] = type(self).__name__
        return names

    def save(self, path: str | Path) -> None:
        """Write config, names of blocks and weights as one file of tensors, at half precision, all
        of it or nothing. What ships in a package, such as a frozen encoder, is not written."""
        net = half(self.fitted())
        net = {name: value for name, value in net.items() if not name.startswith(self._shipped())}
        write_tensors(path, {"method": self.name, "config": to_save(self.config),
                             "blocks": self._block_names(), "net": net})

    @classmethod
    def load(cls, path: str | Path, **blocks) -> Self:
        """Read what `save` wrote; a look for pretrained weights is never needed.

        Args:
            path: the file.
            blocks: the blocks that the method was made with.

        Raises:
            ValueError: the file is damaged, of another method, of other blocks, or of another
                version of this kit: a field of the config is missing or unknown, or tensors do not
                fit.
        """
        saved = read_tensors(path, cls.name)
        method = cls(from_saved(cls.config_class, saved.get("config"), path), **blocks)
        wanted = {name: block.split(" ")[0] for name, block in saved.get("blocks", {}).items()}
        given = {name: block.split(" ")[0] for name, block in method._block_names().items()}
        if wanted != given:
            raise ValueError(f"{path}: was made with the blocks {wanted or 'of the method'}, not "
                             f"{given or 'those of the method'}. Give the same ones to load().")
        ships = method._shipped()
        config = method.config if ships else dataclasses.replace(method.config, weights="random")
        try:
            method.net = cls(config, **blocks).build()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: its network cannot be built ({error})") from error
        state = saved.get("net")
        if ships and isinstance(state, dict):
            own = method.net.state_dict()
            state |= {name: own[name] for name in own if name.startswith(ships)}
        fill(method.net, state, path, f"the {cls.name} that its config describes")
        method.net.eval().to(method.device, memory_format=torch.channels_last)
        return method

    def _shipped(self) -> tuple[str, ...]:
        """How the names of those tensors begin that a package brings, exactly as they are in the
        network."""
        c = self.config
        ships = (c.frozen and c.weights == "auto" and c.encoder in backbones.SHIPPED
                 and "encoder" not in self.blocks)
        return ("encoder.",) if ships else ()
