"""Colour spaces for batches of images: CIELAB, YCbCr and linear mixtures of the channels."""

import torch
import torch.nn.functional as F
from torch import Tensor

RGB_TO_XYZ = torch.tensor([
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
])
WHITE = torch.tensor([[0.95047], [1.0], [1.08883]])  # D65
F_TO_LAB = torch.tensor([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
RGB_TO_YCBCR = torch.tensor([
    [65.481, 128.553, 24.966],
    [-37.797, -74.203, 112.0],
    [112.0, -93.786, -18.214],
]) / 255
YCBCR_ZERO = torch.tensor([[16.0], [128.0], [128.0]]) / 255
# Orthonormal: grey and two colour differences.
OPPONENT = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]))


def mix(matrix: Tensor, x: Tensor, offset: Tensor = torch.zeros(3, 1)) -> Tensor:
    """Multiply the three channels of every pixel by a 3 x 3 matrix and add the offset (3,1)."""
    matrix = matrix.to(x).expand(len(x), 3, 3)
    return torch.baddbmm(offset.to(x), matrix, x.flatten(2)).view_as(x)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of positive values, in place; logarithms are twice as fast as pow, to 7 digits."""
    return x.log_().mul_(exponent).exp_()


# The curves below are a straight line up to c and a power above it. Adding line(min(v, c)) and
# power(max(v, c)) is six times faster than torch.where, whose branches a CPU cannot predict.
# Results of our own are changed in place: fetching fresh memory takes a CPU longer than the sums.

def rgb_to_lab(x: Tensor) -> Tensor:
    """sRGB (B,3,H,W) in [0,1] to CIELAB (D65): L in 0..100, a and b about -110..110.

    >>> rgb_to_lab(torch.ones(1, 3, 1, 1)).flatten()[0].round().item()
    100.0
    """
    power = _power(x.clamp(min=0.04045).add_(0.055).div_(1.055), 2.4)
    t = mix(RGB_TO_XYZ / WHITE, x.clamp(max=0.04045).sub_(0.04045).div_(12.92).add_(power))
    f = t.clamp(max=0.008856).sub_(0.008856).mul_(7.787).add_(_power(t.clamp(min=0.008856), 1 / 3))
    return mix(F_TO_LAB, f, torch.tensor([[-16.0], [0.0], [0.0]]))


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIELAB (D65) back to sRGB (B,3,H,W), clamped to [0,1].

    >>> x = torch.rand(1, 3, 8, 8)
    >>> torch.allclose(lab_to_rgb(rgb_to_lab(x)), x, atol=1e-4)
    True
    """
    f = mix(torch.linalg.inv(F_TO_LAB), lab, torch.full((3, 1), 16 / 116))
    f = torch.cat([f[:, :2], f[:, 2:].clamp(min=0)], 1)  # no negative Z
    t = f.clamp(max=0.2068966).sub_(0.2068966).div_(7.787).add_(f.clamp(min=0.2068966) ** 3)
    v = mix(torch.linalg.inv(RGB_TO_XYZ) * WHITE.T, t)
    line = v.clamp(max=0.0031308).sub_(0.0031308).mul_(12.92).sub_(0.055)
    return line.add_(_power(v.clamp(min=0.0031308), 1 / 2.4), alpha=1.055).clamp_(0, 1)


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """RGB (B,3,H,W) in [0,1] to YCbCr of BT.601: Y in 16..235, Cb and Cr in 16..240, all / 255."""
    return mix(RGB_TO_YCBCR, x, YCBCR_ZERO)


def ycbcr_to_rgb(x: Tensor) -> Tensor:
    """The way back from `rgb_to_ycbcr`; not clamped."""
    back = torch.linalg.inv(RGB_TO_YCBCR)
    return mix(back, x, -back @ YCBCR_ZERO)
