"""Checks of batches of images, with one sentence about what is wrong and what helps."""

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def expect(x: Tensor, name: str = "x", channels: int | None = None) -> Tensor:
    """Return x if it is a batch of images (B, C, H, W) in [0, 1], else raise.

    Values may leave [0, 1] by 1e-4, for rounding alone. Any size passes, from 1 x 1 pixel on.

    Args:
        x: a tensor of float32, float64, float16 or bfloat16.
        name: how the message calls it.
        channels: how many channels x must have. If given, x comes back as float32.

    Returns:
        x itself; with `channels`, x as float32.

    Raises:
        ValueError: no tensor, another shape, an empty one, integers, values outside [0, 1] or NaN,
            another number of channels.

    >>> expect(torch.full((1, 3, 4, 4), 255.0))
    Traceback (most recent call last):
    ValueError: x must hold values in [0, 1], but holds 255 to 255: divide 0-255 images by 255 or
    clamp.
    >>> expect(torch.rand(1, 3, 4, 4).double(), channels=3).dtype
    torch.float32
    """
    shape = f"{name} must be a tensor of shape (B, C, H, W), but has"
    if not isinstance(x, Tensor):
        raise ValueError(f"{shape} type {type(x).__name__}: read files with images.load, turn an "
                         "array (H, W, C) of 8 bits into "
                         "torch.from_numpy(array).permute(2, 0, 1)[None] / 255.")
    if x.ndim == 3:
        raise ValueError(f"{shape} shape {tuple(x.shape)}: give one image as x[None].")
    if x.ndim != 4:
        raise ValueError(f"{shape} shape {tuple(x.shape)}: stack images (C, H, W) with "
                         "torch.stack.")
    if 0 in x.shape:
        raise ValueError(f"{shape} shape {tuple(x.shape)}: give at least one image and one pixel.")
    if x.dtype not in _FLOATS:
        raise ValueError(f"{name} must be float in [0, 1], but is {x.dtype}: convert 8-bit "
                         "integers by x.float() / 255, other kinds of floats by x.float().")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, but has shape {tuple(x.shape)}: "
                         f"{_channel_remedy(x, channels)}.")
    low, high = (value.item() for value in x.detach().aminmax())
    if not (low >= -1e-4 and high <= 1 + 1e-4):  # a NaN fails, too
        remedy = "divide 0-255 images by 255 or clamp"
        if low != low:
            remedy = "find where the NaN arises, or replace it by x.nan_to_num()"
        raise ValueError(f"{name} must hold values in [0, 1], but holds {low:.4g} to {high:.4g}: "
                         f"{remedy}.")
    return x if channels is None else x.float()


def _channel_remedy(x: Tensor, channels: int) -> str:
    """What turns a batch of other channels into one of `channels` channels."""
    if channels == 3 and x.shape[1] == 1:
        return "repeat grey by x.expand(-1, 3, -1, -1)"
    if channels == 3 and x.shape[1] == 4:
        return ("lay transparency over white, as images.load does, by "
                "x[:, :3] * x[:, 3:] + 1 - x[:, 3:]")
    if x.shape[-1] == channels:
        return "put the channels before the rows by x.permute(0, 3, 1, 2)"
    return f"give {channels} of them"


def expect_pair(x: Tensor, x_ref: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Two batches of one shape on one device, in float32, or in float64 if one of them is.

    Raises:
        ValueError: as `expect`; other shapes or devices, or sides below `least` pixels.
    """
    expect(x, "x")
    expect(x_ref, "x_ref")
    if x.shape != x_ref.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and x_ref has {tuple(x_ref.shape)}: they "
                         "must agree; crop or resize one of them.")
    if x.device != x_ref.device:
        raise ValueError(f"x is on {x.device} and x_ref is on {x_ref.device}: move one of them, "
                         "as by x.to(x_ref.device).")
    if min(x.shape[-2:]) < least:
        raise ValueError(f"The images have {x.shape[-2]} x {x.shape[-1]} pixels, but this metric "
                         f"needs {least} x {least} or more: use larger images or crops.")
    dtype = torch.promote_types(x.dtype, x_ref.dtype)
    dtype = torch.promote_types(dtype, torch.float32)  # not half
    return x.to(dtype), x_ref.to(dtype)
