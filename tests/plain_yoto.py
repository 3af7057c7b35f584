"""YOTO's equations once more, one after the other, to compare `iqa_core.yoto` with.

Written from the equations of the paper and of the official code (github.com/BarCodeReader/YOTO), not from ours:
two passes of the encoder even without a reference, every attention as a matrix of its own, a loop over patches,
quadrants and stages. It owns no weights; it takes those of a `yoto.Network`. Batches are computed at once, so that it
can be timed fairly. In training mode it drops out as the network does, but draws its own masks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, block) -> Tensor:
    """Dropout(softmax(Q K^T / sqrt(d)) V), d the length of a row of Q."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return F.dropout(torch.softmax(scores, -1) @ v, block.dropout.p, block.training)


def gate(x: Tensor, block) -> Tensor:
    return F.gelu(x @ block.gate.weight.T + block.gate.bias)


def channel_attention(x: Tensor, block, as_code: bool) -> Tensor:
    """X (B, C, N): out = g * Y + X, or as the code has it: Y scrambled, and X twice."""
    q, k, v = (x @ m.weight.T + m.bias for m in (block.query, block.key, block.value))
    scores = q @ k.transpose(-2, -1) / math.sqrt(x.shape[-1])
    y = torch.softmax(scores, -1) @ v
    if as_code:
        y = y.transpose(-2, -1).flatten(1).view(x.shape)
    y = F.dropout(y, block.dropout.p, block.training)
    return gate(x, block) * y + (2 * x if as_code else x)


def pooled_channel_attention(maps: Tensor, block) -> Tensor:
    """Our own variant: channel attention on the means of side x side bins, its change drawn back to the map."""
    side, (h, w) = block.side, maps.shape[-2:]
    if (h, w) == (side, side):
        return channel_attention(maps.flatten(2), block, False).view(maps.shape)
    rows, columns = (bins(n, side, maps) for n in (h, w))
    small = (rows @ maps @ columns.T).flatten(2)
    change = (channel_attention(small, block, False) - small).view(*maps.shape[:2], side, side)
    return maps + stretch(side, h, maps) @ change @ stretch(side, w, maps).T


def bins(n: int, count: int, like: Tensor) -> Tensor:
    """(count, n): row i takes the mean of bin i, from floor(i n / count) to ceil((i + 1) n / count)."""
    matrix = like.new_zeros(count, n)
    for i in range(count):
        first, end = i * n // count, -(-(i + 1) * n // count)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def stretch(n: int, count: int, like: Tensor) -> Tensor:
    """(count, n): linear interpolation between pixel centres, constant beyond the outer ones."""
    matrix = like.new_zeros(count, n)
    for i in range(count):
        place = min(max((i + 0.5) * n / count - 0.5, 0), n - 1)
        left = min(int(place), n - 2) if n > 1 else 0
        matrix[i, left] += 1 - (place - left)
        if n > 1:
            matrix[i, left + 1] += place - left
    return matrix


def features(net, config, x: Tensor) -> list[Tensor]:
    """Four maps (B, C, h, w): encoder, layer norm, 1 x 1 convolution, channel attention."""
    maps = []
    for i, stage in enumerate(net.encoder(x)):
        stage = (stage - getattr(net.standardise, f"mean{i}")) / getattr(net.standardise, f"std{i}")
        normed = F.layer_norm(stage.permute(0, 2, 3, 1), stage.shape[1:2], net.norms[i].weight, net.norms[i].bias)
        kernel = net.embeds[i].weight[:, :, None, None]
        stage = F.conv2d(normed.permute(0, 3, 1, 2), kernel, net.embeds[i].bias)
        if config.channel == "full":
            stage = channel_attention(stage.flatten(2), net.channel[i], config.as_code).view(stage.shape)
        elif config.channel == "pooled":
            stage = pooled_channel_attention(stage, net.channel[i])
        maps.append(stage)
    return maps


def gated_attention(x: Tensor, q: Tensor, kv: Tensor, block) -> Tensor:
    """out = x + gate(x) * attention of q to kv, all (B, N, C)."""
    q, k, v = (t @ m.weight.T + m.bias for t, m in ((q, block.query), (kv, block.key), (kv, block.value)))
    y = attention(q, k, v, block)
    return x + gate(x, block) * y


def hierarchical_attention(x: Tensor, y: Tensor, block) -> Tensor:
    """HA of maps (B, h, w, C): the reference y brings queries to the distorted x, as a whole and then in 2 x 2 quadrants."""
    b, h, w, c = x.shape
    x = gated_attention(x.reshape(b, -1, c), y.reshape(b, -1, c), x.reshape(b, -1, c), block.whole).view(x.shape)
    if block.local is not None:
        halves = []
        for top in (0, h // 2):
            half = []
            for left in (0, w // 2):
                place = slice(top, top + h // 2), slice(left, left + w // 2)
                own, other = (m[:, place[0], place[1]].reshape(b, -1, c) for m in (x, y))
                half.append(gated_attention(own, other, own, block.local).view(b, h // 2, w // 2, c))
            halves.append(torch.cat(half, 2))
        x = torch.cat(halves, 1)
    return F.layer_norm(x, (c,), block.norm.weight, block.norm.bias)


def semantic_distortion_aware(low: Tensor, high: Tensor, cells: tuple[int, int], block) -> Tensor:
    """SDA of maps (B, h, w, C): within each patch the shallow tokens attend to the deep tokens of the same patch."""
    attend, c = block.attention, low.shape[-1]
    q, k, v = (m @ part.weight.T + part.bias
               for m, part in ((low, attend.query), (high, attend.key), (high, attend.value)))
    rows = []
    for i in range(cells[0]):
        row = []
        for j in range(cells[1]):
            def patch(m):
                down, right = m.shape[1] // cells[0], m.shape[2] // cells[1]
                return m[:, i * down:(i + 1) * down, j * right:(j + 1) * right]
            z = attention(*(patch(m).reshape(len(m), -1, c) for m in (q, k, v)), attend)
            row.append(z.view(patch(low).shape))
        rows.append(torch.cat(row, 2))
    out = low + gate(low, attend) * torch.cat(rows, 1)
    return F.layer_norm(out, (c,), block.norm.weight, block.norm.bias)


def head(x: Tensor, layers) -> Tensor:
    first, last = layers[0], layers[3]
    hidden = F.dropout(F.relu(x @ first.weight.T + first.bias), layers[2].p, layers.training)
    return (hidden @ last.weight.T + last.bias)[..., 0]


def forward(net, config, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
    """Scores (B,) of pictures (B, 3, H, W), with the weights of `net`, a `yoto.Network` built from `config`."""
    distorted = [m.permute(0, 2, 3, 1).contiguous() for m in features(net, config, x)]
    reference = [m.permute(0, 2, 3, 1).contiguous() for m in features(net, config, x if x_ref is None else x_ref)]
    outputs = [[] for _ in range(4)]
    for i in range(4):
        if config.ha:
            own = other = 0
            if net.task_embedding is not None:
                own = net.task_embedding[i, 0]
                other = net.task_embedding[i, 0 if x_ref is None else 1]
            outputs[i].append(hierarchical_attention(distorted[i] + own, reference[i] + other, net.ha[i]))
        else:
            outputs[i].append(F.layer_norm(distorted[i], (config.width,), net.plain[i].weight, net.plain[i].bias))
    if config.sda:
        cells = tuple(distorted[3].shape[1:3])
        for i in range(4):
            for j in range(i + 1, 4):
                block = net.sda[f"{i + 1}{j + 1}"]
                outputs[i].append(semantic_distortion_aware(distorted[i], distorted[j], cells, block))
    means = [sum(parts) / len(parts) for parts in outputs]
    if config.readout == "pooled":
        pooled = []
        for m in means:
            o = m.flatten(1, 2)  # (B, N, C)
            w = torch.sigmoid(head(o, net.weight_head))
            pooled.append(torch.einsum("bnc,bn->bc", o, w / w.sum(1, keepdim=True)))
        return F.relu(head(torch.cat(pooled, 1), net.quality_head))
    tokens = torch.cat([m.flatten(1, 2) for m in means], 1)
    s, w = F.relu(head(tokens, net.quality_head)), torch.sigmoid(head(tokens, net.weight_head))
    return (s * w).sum(1) / w.sum(1)
