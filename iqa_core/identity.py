"""What tells methods and datasets apart: derived from configs, blocks and weights, never typed."""

import hashlib
import json

from torch import nn

from iqa_core import encoders
from iqa_core.data import Dataset
from iqa_core.settings import to_save


def identity(name: str, config, presets: tuple, blocks: dict[str, str]) -> dict[str, str]:
    """What a row of the ledger is about.

    Args:
        name: of the method.
        config: its config.
        presets: configs that have a name; the nearest one counts as the default.
        blocks: names of the blocks that are not the method's own (see `block_names`).

    Returns:
        `method`; `variant`, how the config differs from the nearest preset, and the blocks, "" =
        nothing; `hash`, 8 hex digits of config, blocks and the weights in them.
    """
    own = to_save(config)
    differences = []
    for preset in presets:
        theirs = to_save(preset)
        differences.append({key: value for key, value in own.items() if value != theirs[key]})
    nearest = min(differences, key=len, default={})
    parts = [f"{key}={value}" for key, value in nearest.items()]
    parts += [f"{key}={block.split(' ')[0]}" for key, block in blocks.items()]
    everything = json.dumps({"config": own, "blocks": blocks}, default=str)
    digest = hashlib.sha256(everything.encode()).hexdigest()[:8]
    return {"method": name, "variant": ", ".join(parts), "hash": digest}


def block_names(blocks: dict) -> dict[str, str]:
    """Names of blocks, modules or classes; of a module with weights these, too, in 12 letters.

    >>> block_names({"attention": nn.Linear})
    {'attention': 'Linear'}
    """
    names = {}
    for name, block in blocks.items():
        if isinstance(block, nn.Module):
            names[name] = f"{type(block).__name__} {encoders.fingerprint(block)}"
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
