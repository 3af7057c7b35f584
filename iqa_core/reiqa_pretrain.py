"""MoCo-v2 for Re-IQA's quality expert: InfoNCE, queue, momentum encoder, training without scores.

He et al., Momentum contrast (CVPR 2020); Chen et al., MoCo-v2 (2020); the constants are those of
Re-IQA's official code, github.com/avinabsaha/ReIQA. On one GPU its shuffling of the batch norm has
no counterpart; the learning rate follows the schedule step by step, not epoch by epoch; LARS is
timm's, whose trust ratio is that of the LARS paper, 0.001 |w| / (|grad| + decay |w|), where the
code divides by |grad + decay w|.
"""

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from timm.optim import Lars, param_groups_weight_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iqa_core import images
from iqa_core.data import Dataset
from iqa_core.hardware import accelerator
from iqa_core.reiqa_experts import network
from iqa_core.reiqa_pairs import Pairs, PretrainConfig, make_pairs, seeded_generator
from iqa_core.settings import to_save
from iqa_core.train import Stage, batch_numbers, fit


def info_nce(q: Tensor, k: Tensor, negatives: Tensor | None, temperature: float = 0.2) -> Tensor:
    """How hard it is to tell the own key from all others, in nats.

        L = -mean_i log( exp(q_i.k_i / T) / (exp(q_i.k_i / T) + sum_j exp(q_i.n_j / T)) )

    Args:
        q, k: codes (N, D) of length 1; k_i is the positive of q_i.
        negatives: (K, D) of length 1, the queue; None takes the other keys k_j, j != i, of the
            batch.
        temperature: T. With a small one only the nearest negatives count.

    Returns:
        The mean, a scalar: 0 is perfect, log(K + 1) is guessing.

    >>> q = torch.tensor([[1.0, 0.0]])
    >>> negative = torch.tensor([[1.0, 0.0]])  # it equals the positive: a guess
    >>> info_nce(q, q, negative), math.log(2)
    (tensor(0.6931), 0.6931471805599453)
    """
    if negatives is None:
        return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q), device=q.device))
    positive = (q * k).sum(1, keepdim=True)  # (N, 1)
    logits = torch.cat([positive, q @ negatives.T], 1) / temperature  # (N, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class Encoder(nn.Module):
    """Backbone and head: images (B, 3, P, P) in [0, 1] -> codes (B, dim) of length 1."""

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.backbone = network(config.backbone, config.weights)
        width = self.backbone.num_features
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.head(self.backbone(x)), dim=1)


class MoCo(nn.Module):
    """A query encoder that learns, a key encoder that follows it slowly, and a queue of the last K
    keys, which is a buffer.

    >>> from iqa_core.reiqa_pairs import SMOKE
    >>> moco = MoCo(SMOKE)
    >>> q, k = moco(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    >>> q.requires_grad, k.requires_grad
    (True, False)
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.momentum = config.momentum
        self.temperature = config.temperature
        self.query = Encoder(config).to(memory_format=torch.channels_last)  # faster on a CPU
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        length = config.queue if config.negatives == "queue" else 0
        self.register_buffer("queue", F.normalize(torch.randn(length, config.dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of both crops, (N, dim) each. In training both encoders use the batch norm of their
        own batch."""
        return self.query(queries.contiguous(memory_format=torch.channels_last)), self.code(keys)

    @torch.no_grad()
    def code(self, keys: Tensor) -> Tensor:
        """The key encoder's codes (N, dim), without a gradient."""
        return self.key(keys.contiguous(memory_format=torch.channels_last))

    def loss(self, pairs: Pairs) -> dict[str, Tensor]:
        """A training step's loss: the key encoder follows, both encode, then the new keys enter the
        queue. So a key is never the negative of its own query.

        Returns:
            `loss`; the mean similarity of `positive` pairs and of `negative` ones; the `spread` of
            the queries' codes (1 = in all directions, 0 = collapsed to one point).
        """
        running_on = accelerator()
        if self.batches % running_on.gradient_accumulation_steps == 0:  # the query has just learnt
            self.follow(self.momentum)
        q, k = (codes.float() for codes in self(pairs.queries, pairs.keys))
        queue = self.queue.clone() if len(self.queue) else None
        with torch.autocast(q.device.type, enabled=False):
            value = info_nce(q, k, queue, self.temperature)
        with torch.no_grad():
            others = (k if queue is None else queue).mean(0)
            if queue is not None:
                self.enqueue(running_on.gather(k))
            self.batches += 1
            return {"loss": value, "positive": (q * k).sum(1).mean(),
                    "negative": q.mean(0) @ others, "spread": q.std(0).mean() * q.shape[1]**0.5}

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """key <- m key + (1 - m) query, for the parameters. The batch norm's running statistics
        stay its own."""
        for slow, fast in zip(self.key.parameters(), self.query.parameters()):
            slow.lerp_(fast, 1 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """New keys (N, dim) take the place of the oldest; of too many, only the last ones stay.

        Many come where processes gather theirs: 8 GPUs with 15,120 keys each, a queue of 65,536.
        """
        length = len(self.queue)
        end = self.position + len(keys)
        last = keys[-length:]
        offsets = torch.arange(len(last), device=keys.device)
        places = (end - len(last) + offsets) % length  # each place once
        self.queue[places] = last
        self.position.copy_(end % length)


def learning_rate(epoch: float, config: PretrainConfig) -> float:
    """Linear warm-up from lr / 1000, then half a cosine down to lr / 1000.

    >>> [round(learning_rate(epoch, PretrainConfig()), 2) for epoch in (0, 5, 20, 40)]
    [0.01, 11.54, 6.01, 0.01]
    """
    def cosine(e: float) -> float:
        return config.lr * (0.001 + 0.999 * (1 + math.cos(math.pi * e / config.epochs)) / 2)

    if epoch >= config.warmup:
        return cosine(epoch)
    first = config.lr / 1000
    return first + (cosine(config.warmup) - first) * epoch / config.warmup


class Uint8Images:
    """The images of a dataset as uint8 tensors (3, H, W), read when they are needed.

    `[*Uint8Images(dataset)]` keeps them in memory.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Tensor:
        return images.to_uint8(self.dataset.image(i))


def pretrain(photographs: Sequence[Tensor], config: PretrainConfig,
             checkpoint: str | Path | None = None, workers: int = 0, every: int = 100
             ) -> tuple[MoCo, pd.DataFrame]:
    """Train the quality expert on images without scores.

    Everything random follows from the seed and the number of the step. So a run that was killed
    goes on from its checkpoint as if nothing had happened, and a finished one is only read again.
    With several processes each has batch norms of its own, and its negatives are the common queue,
    or the keys of its own batch.

    Args:
        photographs: uint8 tensors (3, H, W) in a list, or `Uint8Images`.
        config: see `settings.table(config)`.
        checkpoint: file to go on from, and to write every `every` steps; None = none.
        workers: processes that read `Uint8Images` ahead.

    Returns:
        The model in eval mode; `model.query.backbone` is the expert. And a row a step: `step`,
        `loss`, `lr`, and what else `MoCo.loss` logs.

    Raises:
        ValueError: fewer images than a step takes, or than all steps of an epoch take; or a
            checkpoint of other settings.
        RuntimeError: the loss is not finite.
    """
    stage = pretraining(photographs, config, checkpoint, workers, every)
    table = fit(stage)
    rates = [config.lr * stage.schedule(step) for step in range(stage.steps)]
    return stage.module, table.assign(step=range(stage.steps), lr=rates)


def pretraining(photographs: Sequence[Tensor], config: PretrainConfig,
                checkpoint: str | Path | None = None, workers: int = 0, every: int = 100
                ) -> Stage:
    """The training that `pretrain` goes through; its `module` is the model.

    Raises:
        ValueError: as `pretrain`.
    """
    per_epoch = _steps_per_epoch(len(photographs), config)
    steps = round(config.epochs * per_epoch)
    device = accelerator().device
    torch.manual_seed(config.seed)
    model = MoCo(config).to(device)

    def batches(step: int) -> Iterator[Pairs]:
        """Made here, at full precision: a loss may be computed at half."""
        rows = (_rows(i, len(photographs), config) for i in islice(batch_numbers(step),
                                                                   steps - step))
        loader = DataLoader(photographs, batch_sampler=rows, collate_fn=list, num_workers=workers)
        for number, batch in zip(batch_numbers(step), loader):
            yield make_pairs(batch, config, seeded_generator(config.seed, 1, number), device)

    if len(model.queue) and not (checkpoint and Path(checkpoint).is_file()):
        _fill_queue(model, photographs, config)
    return Stage("pretraining", model, model.loss, batches, steps,
                 every * accelerator().gradient_accumulation_steps, _optimizer(model, config),
                 lambda step: learning_rate(step / per_epoch, config) / config.lr,
                 {"config": to_save(config), "images": about(photographs)}, config.seed,
                 checkpoint=checkpoint)


def _steps_per_epoch(count: int, config: PretrainConfig) -> float:
    if count < config.batch:
        raise ValueError(f"{count} images are fewer than one step takes; set batch={count} or "
                         "less.")
    processes = accelerator().num_processes
    per_epoch = count // config.batch / processes
    if round(config.epochs * per_epoch) < 1:
        raise ValueError(f"epochs={config.epochs:g} of {count} images, {config.batch} a step in "
                         f"each of {processes} processes, are no step at all: give more epochs or "
                         "images.")
    return per_epoch


def _optimizer(model: MoCo, config: PretrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "lars":  # biases and scales of norms get plain SGD without decay
        groups = param_groups_weight_decay(model.query, config.weight_decay)
        return Lars(groups, lr=config.lr, momentum=0.9)
    return torch.optim.SGD(model.query.parameters(), config.lr, momentum=0.9,
                           weight_decay=config.weight_decay)


def _fill_queue(model: MoCo, photographs: Sequence[Tensor], config: PretrainConfig) -> None:
    """Real keys from the start: random codes are easy to tell apart, and would teach a short run to
    collapse."""
    model.train()
    for step in range(math.ceil(config.queue / (config.batch * config.pairs))):
        batch = [photographs[i] for i in _rows(step, len(photographs), config)]
        pairs = make_pairs(batch, config, seeded_generator(config.seed, 2, step),
                           model.queue.device)
        model.enqueue(model.code(pairs.keys))


def _rows(step: int, count: int, config: PretrainConfig) -> list[int]:
    """The images of a step: every epoch takes each image once, in an order of its own."""
    epoch, place = divmod(step, count // config.batch)
    start = place * config.batch
    return _order(count, config.seed, epoch)[start:start + config.batch].tolist()


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=seeded_generator(seed, 0, epoch))


def about(photographs: Sequence[Tensor]) -> str:
    """16 hex digits that tell images from others: by their names, or by all that is in them."""
    digest = hashlib.sha256()
    if isinstance(photographs, Uint8Images):
        for name in photographs.dataset.table["image"]:
            digest.update(name.encode("utf-8", "surrogateescape"))
    else:
        for image in photographs:
            digest.update(image.contiguous().numpy())
    return digest.hexdigest()[:16]
