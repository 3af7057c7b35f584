"""Re-IQA's experts: networks that end in pooled features, their files, and what they know.

Saha, Mishra, Bovik, Re-IQA: Unsupervised learning for image quality assessment in the wild (CVPR
2023). The quality expert is trained in `reiqa_pretrain`; the content expert is an ImageNet network.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa_core import backbones, images
from iqa_core.distortions import TYPES, distort
from iqa_core.features import moments
from iqa_core.files import half, progress, read_tensors, write_tensors
from iqa_core.reiqa_pairs import PretrainConfig, seeded_generator
from iqa_core.settings import to_save


def network(name: str, weights: str | Path = "random") -> nn.Module:
    """A timm network that ends in its pooled features, without any normalisation of its input.

    Args:
        name: a timm model name.
        weights: as in `backbones.pyramid`, or a file: of `save_expert`, of `pretrain`, of MoCo, or
            of the authors of Re-IQA.

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
    # timm starts the last batch norm of a residual block at 0, torchvision and the
    # official code at 1
    options = {"zero_init_last": False} if name.startswith("resnet") else {}
    net = backbones.any_size(name, {"num_classes": 0, **options})
    if weights != "random":
        own = net.state_dict()
        given = _tensors(weights)
        lost = [key for key, value in own.items()
                if not isinstance(given.get(key), Tensor) or given[key].shape != value.shape]
        if lost:
            raise ValueError(f"{weights}: does not fit {name}; {len(lost)} tensors are missing or "
                             f"of another shape, first {lost[0]!r}. Give the network that it was "
                             "made with.")
        net.load_state_dict({key: given[key].to(own[key].dtype) for key in own})
    return net.eval()


def _tensors(path: str | Path) -> dict[str, Tensor]:
    """The backbone's tensors of a checkpoint, by their names in the backbone."""
    raw = read_tensors(path)
    # MoCo; PyContrast, Re-IQA and `save_expert`; a checkpoint of `pretrain`
    for name in ("state_dict", "model", "module"):
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
        raise ValueError(f"{path}: there is no quality expert. Train one with "
                         "reiqa_pretrain.pretrain, write it with reiqa_experts.save_expert and "
                         "give its path as quality=, or use experts='content'.")
    config = read_tensors(path).get("config", {"backbone": "resnet50"})
    if not isinstance(config, dict) or not isinstance(config.get("backbone"), str):
        raise ValueError(f"{path}: its config does not name the backbone of the quality expert. "
                         "Write the expert again with reiqa_experts.save_expert.")
    try:
        backbones.expect_model(config["backbone"])
    except ValueError as error:
        raise ValueError(f"{path}: its backbone is unknown, {error}") from error
    return network(config["backbone"], path)


def read(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both readouts of a network of `network`, in one pass.

    Args:
        net: see `network`.
        x: (B, 3, H, W), normalised if the network wants it.

    Returns:
        What the network ends in, (B, D), and mean and standard deviation over the places of the
        maps of all its levels, (B, M). M is 0 for the few networks of timm that do not give maps.

    >>> [tuple(part.shape) for part in read(network("resnet18"), torch.rand(1, 3, 32, 32))]
    [(1, 512), (1, 2048)]
    """
    if not hasattr(net, "forward_intermediates"):
        final = net(x)
        return final, final[:, :0]
    last, maps = net.forward_intermediates(x)
    return net.forward_head(last), moments(maps)


def save_expert(path: str | Path, backbone: nn.Module, config: PretrainConfig) -> None:
    """Write the expert as one small file: tensors at half precision, and how they were made."""
    write_tensors(path, {"model": half(backbone), "config": to_save(config)})


# --- what an expert knows ------------------------------------------------------------------------

def probe(photographs: Sequence[Tensor], extract: Callable[[Tensor], Tensor], seed: int = 0
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of held-out images in all 125 cells of the bank, to ask what they tell of type and
    level.

    Args:
        photographs: uint8 (3, H, W).
        extract: (B, 3, H, W) in [0, 1] -> (B, D).

    Returns:
        Features (N, D), labels (N,) 0..124 by type, then level, and contents (N,); N = 125 an
        image.
    """
    cells = [(kind, level) for kind in TYPES for level in range(1, 6)]
    features = []
    for content, photograph in enumerate(progress(photographs, "probe")):
        x = images.from_uint8(photograph).expand(125, -1, -1, -1)
        distorted = distort(x, *zip(*cells), seeded_generator(seed, 3, content))
        distorted = images.from_uint8(images.to_uint8(distorted))
        features += [extract(one).float().cpu().numpy() for one in distorted.split(1)]
    labels = np.tile(np.arange(125), len(photographs))
    contents = np.repeat(np.arange(len(photographs)), 125)
    return np.concatenate(features), labels, contents


def knn_hits(features: np.ndarray, labels: np.ndarray, contents: np.ndarray, k: int = 5
             ) -> np.ndarray:
    """Whether the k nearest images of OTHER contents tell the label, by a majority (nearer wins a
    tie).

    Features are standardised and compared by their cosine. Chance is one over the number of labels.

    Args:
        features, labels, contents: (N, D), (N,) integers from 0, (N,).

    Returns:
        (N,) true or false for each image.

    >>> labels, contents = np.arange(12) % 2, np.arange(12) // 4
    >>> knn_hits(np.eye(2)[labels], labels, contents, k=3).all()
    np.True_
    """
    z = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    z = F.normalize(torch.as_tensor(z).float(), dim=1)
    labels = torch.as_tensor(labels)
    contents = torch.as_tensor(contents)
    same_content = contents[:, None] == contents
    near = (z @ z.T).masked_fill(same_content, -torch.inf).topk(k)
    weights = 1 + 1e-3 * near.values
    votes = torch.zeros(len(z), int(labels.max()) + 1)
    votes = votes.scatter_add_(1, labels[near.indices], weights)
    return (votes.argmax(1) == labels).numpy()


def knn_accuracy(features: np.ndarray, labels: np.ndarray, contents: np.ndarray, k: int = 5
                 ) -> float:
    """The share of `knn_hits` in [0, 1], HIGHER = BETTER.

    >>> knn_accuracy(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), k=1)
    0.0
    """
    return float(knn_hits(features, labels, contents, k).mean())
