"""Exercises of notebook 41: attention between channels, guidance by a vector, a loss that does no
harm, the gain of a restoration, how much of it helps, what a change tells, zeros."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def channel_attention(q: torch.Tensor, k: torch.Tensor, u: torch.Tensor, tau: float
                      ) -> torch.Tensor:
    """Attention between channels: softmax(tau q k') u, where each channel of q and k has length 1
    over the places.

    q, k, u: (..., C, N), C channels at N places. The weights are (..., C, C), and each row of them
    sums to 1. Returns (..., C, N).
    """
    q = F.normalize(q, dim=-1)
    k = F.normalize(k, dim=-1)
    return (tau * q @ k.transpose(-1, -2)).softmax(-1) @ u


def channel_attention_between_places(q, k, u, tau):
    """This is attention between places: its weights are (N, N). Compare channels, q k' of (C, N)
    with (N, C)."""
    q = F.normalize(q, dim=-2)
    k = F.normalize(k, dim=-2)
    return u @ (tau * q.transpose(-1, -2) @ k).softmax(-1).transpose(-1, -2)


def channel_attention_any_length(q, k, u, tau):
    """The channels are not brought to length 1, so the largest ones decide alone. Use F.normalize
    over the places, the last axis."""
    return (tau * q @ k.transpose(-1, -2)).softmax(-1) @ u


def channel_attention_length_over_channels(q, k, u, tau):
    """The length 1 is taken over the channels of a place. It belongs to a channel, over its places:
    dim=-1."""
    q = F.normalize(q, dim=-2)
    k = F.normalize(k, dim=-2)
    return (tau * q @ k.transpose(-1, -2)).softmax(-1) @ u


def channel_attention_over_queries(q, k, u, tau):
    """The softmax runs over the queries, so that the rows do not sum to 1. It runs over the last
    axis."""
    q = F.normalize(q, dim=-1)
    k = F.normalize(k, dim=-1)
    return (tau * q @ k.transpose(-1, -2)).softmax(-2) @ u


def three_maps() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(*torch.randn(3, 2, 4, 9, generator=draw), 3.0)]


def modulate(f: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """FiLM: a normalised map, which a vector stretches and shifts, channel by channel.

        LN(f) (1 + gamma) + beta,    LN(f) = (f - mean) / sqrt(variance + 1e-6)

    Mean and variance are those of the channels of a place (the variance divides by C).
    f: (B, C, H, W); gamma, beta: (B, C). Returns (B, C, H, W).
    """
    mean = f.mean(1, keepdim=True)
    variance = (f - mean).square().mean(1, keepdim=True)
    normed = (f - mean) / (variance + 1e-6).sqrt()
    return normed * (1 + gamma[..., None, None]) + beta[..., None, None]


def modulate_without_one(f, gamma, beta):
    """The 1 is missing: with gamma = beta = 0 nothing is left of the map, so a block that starts
    with zeros would lose it."""
    mean = f.mean(1, keepdim=True)
    variance = (f - mean).square().mean(1, keepdim=True)
    normed = (f - mean) / (variance + 1e-6).sqrt()
    return normed * gamma[..., None, None] + beta[..., None, None]


def modulate_over_places(f, gamma, beta):
    """Mean and variance run over the places of a channel. LayerNorm takes them over the channels
    of a place, axis 1."""
    mean = f.mean((2, 3), keepdim=True)
    variance = (f - mean).square().mean((2, 3), keepdim=True)
    normed = (f - mean) / (variance + 1e-6).sqrt()
    return normed * (1 + gamma[..., None, None]) + beta[..., None, None]


def modulate_before(f, gamma, beta):
    """The map is modulated before it is normalised, and LN takes most of it away again. First
    LN, then gamma and beta."""
    f = f * (1 + gamma[..., None, None]) + beta[..., None, None]
    mean = f.mean(1, keepdim=True)
    variance = (f - mean).square().mean(1, keepdim=True)
    return (f - mean) / (variance + 1e-6).sqrt()


def modulate_not_normed(f, gamma, beta):
    """The map is not normalised: LN(f) stands in the formula, not f."""
    return f * (1 + gamma[..., None, None]) + beta[..., None, None]


def maps_and_vectors() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    f = 3 * torch.randn(2, 4, 5, 6, generator=draw) + 1
    return [(f, *torch.randn(2, 2, 4, generator=draw))]


def restoration_loss(restored: torch.Tensor, x_ref: torch.Tensor, floor: float) -> torch.Tensor:
    """PSNR as a loss: the mean over the images of log10(MSE + floor).

    MSE is the mean squared difference of an image, over its channels and places.
    restored, x_ref: (B, 3, H, W). Returns a number, lower is better.
    """
    mse = (restored - x_ref).square().mean((1, 2, 3))
    return (mse + floor).log10().mean()


def restoration_loss_of_the_batch(restored, x_ref, floor):
    """The logarithm is taken of the mean over all images, so the worst image decides alone.
    First the logarithm of each image, then the mean."""
    return ((restored - x_ref).square().mean() + floor).log10()


def restoration_loss_of_pixels(restored, x_ref, floor):
    """The logarithm is taken of each pixel. First the mean over the pixels of an image, then the
    logarithm."""
    return ((restored - x_ref).square() + floor).log10().mean()


def restoration_loss_psnr(restored, x_ref, floor):
    """This is a PSNR, which is HIGHER where the image is better. A loss must be lower: leave the
    minus out."""
    mse = (restored - x_ref).square().mean((1, 2, 3))
    return -(mse + floor).log10().mean()


def restoration_loss_clamped(restored, x_ref, floor):
    """The floor is a limit here, below which there is no gradient. Add it to the MSE."""
    mse = (restored - x_ref).square().mean((1, 2, 3))
    return mse.clamp(min=floor).log10().mean()


def restoration_loss_natural(restored, x_ref, floor):
    """This is the natural logarithm. PSNR is made with log10."""
    mse = (restored - x_ref).square().mean((1, 2, 3))
    return (mse + floor).log().mean()


def pairs_of_images() -> list[tuple]:
    x, noise = torch.rand(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.0, 0.003, 0.05, 0.5]).view(4, 1, 1, 1)
    return [(x + strength * (noise - 0.5), x, 1e-5)]


def psnr_gain(restored: torch.Tensor, x: torch.Tensor, x_ref: torch.Tensor) -> torch.Tensor:
    """By how much a restoration raises the PSNR of each image, in dB; negative = it did harm.

    PSNR = -10 log10(MSE), and at most 50: beyond, nobody sees a difference. Before = of x, after =
    of restored, both against x_ref. restored, x, x_ref: (B, 3, H, W) in [0, 1]. Returns (B,).
    """
    after = -10 * (restored - x_ref).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    before = -10 * (x - x_ref).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    return after - before


def psnr_gain_reversed(restored, x, x_ref):
    """This is what the restoration lost: before minus after. A gain is after minus before."""
    after = -10 * (restored - x_ref).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    before = -10 * (x - x_ref).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    return before - after


def psnr_gain_of_the_change(restored, x, x_ref):
    """After the restoration the image is compared with x. Both are compared with the reference."""
    after = -10 * (restored - x).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    before = -10 * (x - x_ref).square().mean((1, 2, 3)).clamp(min=1e-5).log10()
    return after - before


def psnr_gain_limited_after(restored, x, x_ref):
    """The limit acts on the gain. It is each PSNR that is 50 at most: else an undistorted image,
    whose PSNR has no bound, could lose any number of dB."""
    after = -10 * (restored - x_ref).square().mean((1, 2, 3)).clamp(min=1e-12).log10()
    before = -10 * (x - x_ref).square().mean((1, 2, 3)).clamp(min=1e-12).log10()
    return (after - before).clamp(max=50)


def psnr_gain_of_the_batch(restored, x, x_ref):
    """The mean runs over the images, too. Each image has a gain of its own: (B,)."""
    after = -10 * (restored - x_ref).square().mean().clamp(min=1e-5).log10()
    before = -10 * (x - x_ref).square().mean().clamp(min=1e-5).log10()
    return (after - before).expand(len(x))


def three_images() -> list[tuple]:
    x_ref, noise, other = torch.rand(3, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.0, 0.01, 0.1, 0.5]).view(4, 1, 1, 1)
    x = x_ref + strength * (noise - 0.5)
    return [(x_ref + 0.4 * strength * (noise - 0.5) + 0.01 * (other - 0.5), x, x_ref)]


def best_share(x: torch.Tensor, restored: torch.Tensor, x_ref: torch.Tensor) -> torch.Tensor:
    """How much of a restoration helps: the share a in [0, 1] of least squared error of x + a
    (restored - x).

    x, restored, x_ref: (B, 3, H, W). Unbounded, a = sum (restored - x)(x_ref - x) / sum
    (restored - x)^2. Returns (B,); 0 where nothing was changed.
    """
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (change * change).sum(1).clamp(min=1e-12)).clamp(0, 1)


def best_share_unbounded(x, restored, x_ref):
    """A share lies in [0, 1]: a harmful change gets 0, and nobody goes further than the restored
    image."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return (change * wanted).sum(1) / (change * change).sum(1).clamp(min=1e-12)


def best_share_of_the_batch(x, restored, x_ref):
    """The sums run over all images, so all get one share. Sum over the pixels of each image."""
    change, wanted = restored - x, x_ref - x
    return ((change * wanted).sum() / (change * change).sum()).clamp(0, 1).expand(len(x))


def best_share_of_what_is_wanted(x, restored, x_ref):
    """Below stands the length of x_ref - x. Divide by that of the change: it is the change that
    is to be shortened."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (wanted * wanted).sum(1).clamp(min=1e-12)).clamp(0, 1)


def best_share_undefined(x, restored, x_ref):
    """Where nothing was changed this is 0 / 0, not a number. Asked for is 0."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (change * change).sum(1)).clamp(0, 1)


def restorations() -> list[tuple]:
    x, x_ref, away = torch.rand(3, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    # too short, too far, the wrong way, nothing, right
    shares = torch.tensor([0.5, 2.0, -1.0, 0.0, 1.0]).view(5, 1, 1, 1)
    return [(x, x + shares * (x_ref - x) + 0.1 * (shares != 0) * (away - 0.5), x_ref)]


EXERCISES = {
    "41.1": Exercise(channel_attention, [channel_attention_between_places,
                                         channel_attention_any_length,
                                         channel_attention_length_over_channels,
                                         channel_attention_over_queries], three_maps),
    "41.2": Exercise(modulate, [modulate_without_one, modulate_over_places, modulate_before,
                                modulate_not_normed], maps_and_vectors),
    "41.3": Exercise(restoration_loss, [restoration_loss_of_the_batch, restoration_loss_of_pixels,
                                        restoration_loss_psnr, restoration_loss_clamped,
                                        restoration_loss_natural], pairs_of_images),
    "41.4": Exercise(psnr_gain, [psnr_gain_reversed, psnr_gain_of_the_change,
                                 psnr_gain_limited_after, psnr_gain_of_the_batch], three_images,
                     atol=1e-3),
    "41.5": Exercise(best_share, [best_share_unbounded, best_share_of_the_batch,
                                  best_share_of_what_is_wanted, best_share_undefined],
                     restorations),
    "41.6": Choice("a", {
        "b": "So it is with noise, which a filter takes away. What is left to take away where an "
             "image is smooth? Compare the means of the halves.",
        "c": "The filter knows nothing of your blur, but it sees edges and texture. Compare the "
             "means of the halves."}),
    "41.7": Choice("b", {
        "a": "It starts without guidance, too. But the gradient of a layer's weights is a product "
             "with what comes in, and behind a layer of zeros, zeros come in.",
        "c": "gamma = beta = 0 leaves LN(F), and F itself is added. Nothing is lost."}),
}
