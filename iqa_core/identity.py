"""What tells methods, weights and datasets apart: derived from what they are, never typed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from torch import nn

from iqa_core.settings import to_save

if TYPE_CHECKING:
    from iqa_core.data import Dataset


def differences(config, *presets) -> str:
    """The fields in which a config differs from the nearest of some presets, as text; "" if none.

    >>> from iqa_core.reiqa_pairs import PretrainConfig
    >>> differences(PretrainConfig(crop=64, seed=1), PretrainConfig())
    'crop=64, seed=1'
    """
    values = to_save(config)
    texts = []
    for preset in presets:
        usual = to_save(preset)
        changed = [f"{name}={value}" for name, value in values.items() if value != usual[name]]
        texts.append(changed)
    return ", ".join(min(texts, key=len))


def identity(method: str, variant: str = "", *parts) -> dict[str, str]:
    """What the rows of a ledger say about a method.

    Args:
        method: its name.
        variant: what differs from its usual settings and blocks; "" if nothing does.
        parts: whatever else its scores depend on, as values that JSON knows: all settings,
            the names of blocks, fingerprints of weights.

    Returns:
        {"method", "variant", "hash"}; the hash has 8 hex digits.

    >>> identity("psnr")
    {'method': 'psnr', 'variant': '', 'hash': '712ff1ff'}
    """
    text = json.dumps([method, variant, *parts], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return {"method": method, "variant": variant, "hash": digest}


def fingerprint(net: nn.Module) -> str:
    """A network's weights in 12 letters. They name its cache: two networks must never share one."""
    digest = hashlib.sha256()
    for value in net.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def block_names(blocks: dict) -> dict[str, str]:
    """Names of blocks, modules or classes; of a module with weights these, too, in 12 letters.

    >>> block_names({"attention": nn.Linear})
    {'attention': 'Linear'}
    """
    names = {}
    for name, block in blocks.items():
        if isinstance(block, nn.Module):
            names[name] = f"{type(block).__name__} {fingerprint(block)}"
        else:
            names[name] = getattr(block, "__name__", str(block))
    return names


def about(dataset: Dataset | None) -> str:
    """Name, number and 12 hex digits that tell the images and scores of a dataset from others."""
    if dataset is None:
        return ""
    names = "\n".join([*dataset.table["image"], *dataset.table["reference"]])
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape") + dataset.scores.tobytes())
    return f"{dataset.name} {len(dataset)} {digest.hexdigest()[:12]}"
