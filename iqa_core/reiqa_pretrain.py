"""MoCo-v2 for Re-IQA's quality expert: InfoNCE, queue, momentum encoder, pretraining without any score.

He et al., Momentum contrast (CVPR 2020); Chen et al., MoCo-v2 (2020); the constants are those of Re-IQA's
official code, github.com/avinabsaha/ReIQA. On one GPU its shuffling of the batch norm has no counterpart; the learning
rate follows the schedule step by step, not epoch by epoch; LARS is timm's, whose trust ratio is that of the LARS paper,
0.001 |w| / (|grad| + decay |w|), where the code divides by |grad + decay w|.
"""

import copy
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from timm.optim import Lars, param_groups_weight_decay
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from iqa_core import backbones, images
from iqa_core.data import Dataset
from iqa_core.distortions import TYPES, distort
from iqa_core.files import half, progress, read_tensors, write_tensors
from iqa_core.reiqa_pairs import Pairs, PretrainConfig, make_pairs
from iqa_core.settings import to_save
from iqa_core.train import accelerator, fit, numbers


def info_nce(q: Tensor, k: Tensor, negatives: Tensor | None, temperature: float = 0.2) -> Tensor:
    """How hard it is to tell the own key from all others, in nats.

        L = -mean_i log( exp(q_i.k_i / T) / (exp(q_i.k_i / T) + sum_j exp(q_i.n_j / T)) )

    Args:
        q, k: codes (N, D) of length 1; k_i is the positive of q_i.
        negatives: (K, D) of length 1, the queue; None takes the other keys k_j, j != i, of the batch.
        temperature: T. A small one looks at the nearest negatives only.

    Returns:
        The mean, a scalar: 0 is perfect, log(K + 1) is guessing.

    >>> q = torch.tensor([[1.0, 0.0]])
    >>> info_nce(q, q, torch.tensor([[1.0, 0.0]])), math.log(2)  # the negative equals the positive: a guess
    (tensor(0.6931), 0.6931471805599453)
    """
    if negatives is None:
        return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q), device=q.device))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ negatives.T], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def network(name: str, weights: str | Path = "random") -> nn.Module:
    """A timm network that ends in its pooled features, without any normalisation of its input.

    Args:
        name: a timm model name.
        weights: as in `backbones.pyramid`, or a file: of `save_expert`, of `pretrain`, of MoCo,
            or of the authors of Re-IQA.

    Returns:
        Module in eval mode: (B, 3, H, W) -> (B, D).

    Raises:
        ValueError: a file that cannot be read or does not fit.

    >>> network("resnet18")(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 512])
    """
    backbones.expect_model(name)
    if weights != "random" and not Path(weights).is_file():
        net = backbones.classifier(name, weights)[1]
        net.reset_classifier(0)
        return net
    # timm starts the last batch norm of a residual block at 0, torchvision and the official code at 1
    options = {"zero_init_last": False} if name.startswith("resnet") else {}
    net = backbones.any_size(name, {"num_classes": 0, **options})
    if weights != "random":
        own, found = net.state_dict(), _tensors(weights)
        lost = [key for key, value in own.items()
                if not isinstance(found.get(key), Tensor) or found[key].shape != value.shape]
        if lost:
            raise ValueError(f"{weights}: does not fit {name}; {len(lost)} tensors are missing or of another "
                             f"shape, first {lost[0]!r}. Give the network that it was made with.")
        net.load_state_dict({key: found[key].to(own[key].dtype) for key in own})
    return net.eval()


def _tensors(path: str | Path) -> dict[str, Tensor]:
    """The backbone's tensors of a checkpoint, by their names in the backbone."""
    raw = read_tensors(path)
    # MoCo; PyContrast, Re-IQA and `save_expert`; a checkpoint of `pretrain`
    for name in ("state_dict", "model", "net"):
        if isinstance(raw.get(name), dict) and raw[name]:
            raw = raw[name]
            break
    prefix = re.compile(r"^(module\.)?(encoder_q\.|encoder\.|query\.backbone\.)?")
    return {prefix.sub("", str(key)): value for key, value in raw.items()}


def expert(path: str | Path) -> nn.Module:
    """The quality expert in a file of `save_expert`, or in the authors' checkpoint (a ResNet-50).

    Raises:
        ValueError: no such file, damaged, not an expert's, or of a network that timm does not know.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no quality expert. Train one with contrast.pretrain, write it with "
                         "contrast.save_expert and give its path as quality=, or use experts='content'.")
    config = read_tensors(path).get("config", {"backbone": "resnet50"})
    if not isinstance(config, dict) or not isinstance(config.get("backbone"), str):
        raise ValueError(f"{path}: its config does not name the backbone of the quality expert. "
                         "Write the expert again with contrast.save_expert.")
    try:
        backbones.expect_model(config["backbone"])
    except ValueError as error:
        raise ValueError(f"{path}: its backbone is unknown, {error}") from error
    return network(config["backbone"], path)


class Encoder(nn.Module):
    """Backbone and head: pictures (B, 3, P, P) in [0, 1] -> codes (B, dim) of length 1."""

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.backbone = network(config.backbone, config.weights)
        width = self.backbone.num_features
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.head(self.backbone(x)), dim=1)


class MoCo(nn.Module):
    """A query encoder that learns, a key encoder that follows it slowly, and a queue of the last K keys.

    >>> from iqa_core.reiqa_pairs import SMOKE
    >>> moco = MoCo(SMOKE)
    >>> q, k = moco(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    >>> q.requires_grad, k.requires_grad
    (True, False)
    """

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.query = Encoder(config).to(memory_format=torch.channels_last)  # faster on a CPU
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        length = config.queue if config.negatives == "queue" else 0
        self.register_buffer("queue", F.normalize(torch.randn(length, config.dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of both crops, (N, dim) each. In training both encoders use the batch norm of their own batch."""
        return self.query(queries.contiguous(memory_format=torch.channels_last)), self.code(keys)

    @torch.no_grad()
    def code(self, keys: Tensor) -> Tensor:
        """The key encoder's codes (N, dim), without a gradient."""
        return self.key(keys.contiguous(memory_format=torch.channels_last))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """key <- m key + (1 - m) query, for the parameters. The batch norm's running statistics stay its own."""
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
    return config.lr / 1000 + (cosine(config.warmup) - config.lr / 1000) * epoch / config.warmup


class Pictures:
    """The pictures of a dataset as uint8 tensors, read when asked for; `[*Pictures(dataset)]` keeps them in memory."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Tensor:
        return images.to_uint8(self.dataset.image(i))


def pretrain(pictures: Sequence[Tensor], config: PretrainConfig, checkpoint: str | Path | None = None, workers: int = 0,
             every: int = 100) -> tuple[MoCo, pd.DataFrame]:
    """Train the quality expert on pictures without scores.

    Everything random follows from the seed and the number of the step. So a run that was killed goes on from its
    checkpoint as if nothing had happened, and a finished one is only read again. With several processes each has batch
    norms of its own, and its negatives are the common queue, or the keys of its own batch.

    Args:
        pictures: uint8 tensors (3, H, W) in a list, or `Pictures`.
        config: see `settings.table(config)`.
        checkpoint: file to go on from, and to write every `every` steps; None keeps nothing.
        workers: processes that read `Pictures` ahead.

    Returns:
        The model in eval mode; `model.query.backbone` is the expert. And a row a step: `step`, `loss`, `lr`, the mean
        similarity of `positive` pairs and of `negative` ones, and the `spread` of the queries' codes (1 = in all
        directions, 0 = collapsed to one point; of codes in training, with the batch norm of their own batch).

    Raises:
        ValueError: fewer pictures than a step takes, or than all steps of an epoch take; or a
            checkpoint of other settings.
        RuntimeError: the loss is not finite.
    """
    if len(pictures) < config.batch:
        raise ValueError(f"{len(pictures)} pictures are fewer than one step takes; set batch={len(pictures)} or less.")
    running_on = accelerator()
    per_epoch = len(pictures) // config.batch / running_on.num_processes  # steps
    steps = round(config.epochs * per_epoch)
    if steps < 1:
        raise ValueError(f"epochs={config.epochs:g} of {len(pictures)} pictures, {config.batch} a "
                         f"step in each of {running_on.num_processes} processes, are no step at "
                         "all: give more epochs or pictures.")
    torch.manual_seed(config.seed)
    model = MoCo(config).to(running_on.device)
    if config.optimiser == "lars":  # biases and scales of norms get plain SGD without decay
        learner = Lars(param_groups_weight_decay(model.query, config.weight_decay), lr=config.lr, momentum=0.9)
    else:
        learner = torch.optim.SGD(model.query.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    queued = config.negatives == "queue"
    latest: list[Tensor] = []  # keys of the batches since the last step of the optimizer

    def begin(saved: dict) -> None:
        if queued and not saved:
            # Random codes are easy to avoid, and would teach a short run to collapse: so it starts with real keys.
            model.train()
            for step in range(math.ceil(config.queue / (config.batch * config.pairs))):
                batch = [pictures[i] for i in _rows(step, len(pictures), config)]
                generator = _generator(config.seed, 2, step)
                made = make_pairs(batch, config, generator, running_on.device)
                model.enqueue(model.code(made.keys))

    def batches(step: int) -> Iterator[Pairs]:  # made here, at full precision: a loss may be computed at half
        rows = (_rows(i, len(pictures), config) for i in islice(numbers(step), steps - step))
        for i, batch in zip(numbers(step), DataLoader(pictures, batch_sampler=rows, collate_fn=list, num_workers=workers)):
            yield make_pairs(batch, config, _generator(config.seed, 1, i), running_on.device)

    def loss(step: int, pairs: Pairs) -> dict[str, Tensor]:
        q, k = (codes.float() for codes in model(pairs.queries, pairs.keys))
        with torch.autocast(running_on.device.type, enabled=False):
            value = info_nce(q, k, model.queue if queued else None, config.temperature)
        with torch.no_grad():
            others = (model.queue if queued else k).mean(0)
            latest.append(k)
            return {"loss": value, "positive": (q * k).sum(1).mean(), "negative": q.mean(0) @ others,
                    "spread": q.std(0).mean() * config.dim**0.5}

    def follow(*_) -> None:
        model.follow(config.momentum)
        if queued:
            # after the loss: a key is never the negative of its own query
            model.enqueue(running_on.gather(torch.cat(latest)))
        latest.clear()

    learner.register_step_post_hook(follow)
    made_of = {"config": to_save(config), "pictures": about(pictures)}
    rates = [learning_rate(step / per_epoch, config) for step in range(steps)]
    every = every * running_on.gradient_accumulation_steps
    table = fit(model, learner, loss, batches, steps, every,
                lambda step: rates[step] / config.lr, checkpoint, made_of, begin, what="pretraining")
    return model, table.assign(step=range(steps), lr=rates)


def _generator(*numbers: int) -> Generator:
    """A generator for each (seed, purpose, number): well apart even where the numbers are small."""
    return Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def _rows(step: int, count: int, config: PretrainConfig) -> list[int]:
    """The pictures of a step: every epoch takes each picture once, in an order of its own."""
    epoch, place = divmod(step, count // config.batch)
    return _order(count, config.seed, epoch)[place * config.batch:(place + 1) * config.batch].tolist()


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=_generator(seed, 0, epoch))


def about(pictures: Sequence[Tensor]) -> str:
    """16 letters that tell pictures from others: by their names, or by all that is in them."""
    digest = hashlib.sha256()
    for part in pictures.dataset.table["image"] if isinstance(pictures, Pictures) else pictures:
        digest.update(part.encode() if isinstance(part, str) else part.contiguous().numpy())
    return digest.hexdigest()[:16]


def save_expert(path: str | Path, backbone: nn.Module, config: PretrainConfig) -> None:
    """Write the expert as one small file: tensors at half precision, and how they were made."""
    write_tensors(path, {"model": half(backbone), "config": to_save(config)})


# --- what an expert knows ---------------------------------------------------------------------------------------

def probe(pictures: Sequence[Tensor], extract: Callable[[Tensor], Tensor], seed: int = 0
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of held-out pictures in all 125 cells of the bank, to ask what they tell of type and level.

    Args:
        pictures: uint8 (3, H, W).
        extract: (B, 3, H, W) in [0, 1] -> (B, D).

    Returns:
        Features (N, D), labels (N,) 0..124 by type, then level, and contents (N,); N = 125 a picture.
    """
    cells = [(kind, level) for kind in TYPES for level in range(1, 6)]
    found = []
    for i, picture in enumerate(progress(pictures, "probe")):
        x = images.from_uint8(picture).expand(125, -1, -1, -1)
        worse = images.from_uint8(images.to_uint8(distort(x, *zip(*cells), _generator(seed, 3, i))))
        found += [extract(one).float().cpu().numpy() for one in worse.split(1)]
    return np.concatenate(found), np.tile(np.arange(125), len(pictures)), np.repeat(np.arange(len(pictures)), 125)


def knn_hits(features: np.ndarray, labels: np.ndarray, contents: np.ndarray, k: int = 5) -> np.ndarray:
    """Whether the k nearest pictures of OTHER contents tell the label, by a majority (nearer wins a tie).

    Features are standardised and compared by their cosine. Chance is one over the number of labels.

    Args:
        features, labels, contents: (N, D), (N,) integers from 0, (N,).

    Returns:
        (N,) true or false for each picture.

    >>> labels, contents = np.arange(12) % 2, np.arange(12) // 4
    >>> knn_hits(np.eye(2)[labels], labels, contents, k=3).all()
    np.True_
    """
    z = F.normalize(torch.as_tensor((features - features.mean(0)) / np.maximum(features.std(0), 1e-6)).float(), dim=1)
    labels, contents = torch.as_tensor(labels), torch.as_tensor(contents)
    near = (z @ z.T).masked_fill(contents[:, None] == contents, -torch.inf).topk(k)
    weights = 1 + 1e-3 * near.values
    votes = torch.zeros(len(z), int(labels.max()) + 1).scatter_add_(1, labels[near.indices], weights)
    return (votes.argmax(1) == labels).numpy()


def knn_accuracy(features: np.ndarray, labels: np.ndarray, contents: np.ndarray, k: int = 5) -> float:
    """The share of `knn_hits` in [0, 1], HIGHER = BETTER.

    >>> knn_accuracy(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), k=1)
    0.0
    """
    return float(knn_hits(features, labels, contents, k).mean())
