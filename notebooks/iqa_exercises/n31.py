"""Exercises of notebook 31: matching, perturbation, consistency, the loss of a training step,
pseudo-labels, which rule finds the partner, the gaps of scores, a shrunken network, random
partners."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from iqa_core import qfm
from iqa_core.qfm_noise import Records
from iqa_exercises import Choice, Exercise


def match(own: Records, bank: Records, tau_q: float, tau_s: float, draw: torch.Tensor) -> tuple:
    """Rule v3: for each image a partner of similar quality that shows something else.

    Record j fits image i in quality if |label_i - label_j| <= tau_q, and in content if the cosine
    of their keys is <= tau_s. Records with the id of image i are never taken. Of those that fit in
    both, take the one with the smallest draw[i, j]. If there is none, take the smallest cosine
    among those that fit in quality. If there is none either, take the smallest cosine among the
    max(1, round(0.05 M)) records of nearest quality. You may loop over the images.

    own: records of B images; bank: M records; draw: (B, M), random numbers. Keys have length 1.
    Returns index (B,) into the bank, and matched (B,): False, with index 0, where the bank holds no
    other image.
    """
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs().masked_fill(~other, torch.inf)
        similar = gap <= tau_q
        both = similar & (cosine <= tau_s)
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif similar.any():
            cost = cosine.masked_fill(~similar, torch.inf)
        else:
            nearest = other & (gap <= gap.sort().values[few - 1])
            cost = cosine.masked_fill(~nearest, torch.inf)
        index[i] = cost.argmin()
    return index, matched


def match_itself(own, bank, tau_q, tau_s, draw):
    """An image may meet its own record. Leave out the records with bank.ids == own.ids[i]."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs()
        similar = gap <= tau_q
        both = similar & (cosine <= tau_s)
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif similar.any():
            cost = cosine.masked_fill(~similar, torch.inf)
        else:
            cost = cosine.masked_fill(gap > gap.sort().values[few - 1], torch.inf)
        index[i] = cost.argmin()
    return index, torch.ones(len(own.ids), dtype=torch.bool)


def match_same_content(own, bank, tau_q, tau_s, draw):
    """The partner shows the same: a cosine above tau_s means similar content. v3 wants at most
    tau_s."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs().masked_fill(~other, torch.inf)
        similar = gap <= tau_q
        both = similar & (cosine >= tau_s)
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif similar.any():
            cost = cosine.masked_fill(~similar, torch.inf)
        else:
            nearest = other & (gap <= gap.sort().values[few - 1])
            cost = cosine.masked_fill(~nearest, torch.inf)
        index[i] = cost.argmin()
    return index, matched


def match_signed(own, bank, tau_q, tau_s, draw):
    """The gap of quality has a sign: without abs every record of lower quality counts as
    similar."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).masked_fill(~other, torch.inf)
        similar = gap <= tau_q
        both = similar & (cosine <= tau_s)
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif similar.any():
            cost = cosine.masked_fill(~similar, torch.inf)
        else:
            nearest = other & (gap <= gap.sort().values[few - 1])
            cost = cosine.masked_fill(~nearest, torch.inf)
        index[i] = cost.argmin()
    return index, matched


def match_without_draw(own, bank, tau_q, tau_s, draw):
    """Among those that fit in both the smallest cosine wins. There the draw decides, so that an
    image does not meet the same partner again and again."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs().masked_fill(~other, torch.inf)
        fits = gap <= tau_q
        if not fits.any():
            fits = other & (gap <= gap.sort().values[few - 1])
        index[i] = cosine.masked_fill(~fits, torch.inf).argmin()
    return index, matched


def match_content_first(own, bank, tau_q, tau_s, draw):
    """Where none fits in both, quality is given up and content is kept. It is the other way round:
    the partner must be of similar quality, and then the smallest cosine is taken."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    few = max(1, round(0.05 * len(bank.ids)))
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs().masked_fill(~other, torch.inf)
        distinct = other & (cosine <= tau_s)
        both = (gap <= tau_q) & distinct
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif distinct.any():
            cost = gap.masked_fill(~distinct, torch.inf)
        else:
            nearest = other & (gap <= gap.sort().values[few - 1])
            cost = cosine.masked_fill(~nearest, torch.inf)
        index[i] = cost.argmin()
    return index, matched


def match_without_second_fallback(own, bank, tau_q, tau_s, draw):
    """Where no quality fits, the smallest cosine of the whole bank is taken, however different the
    quality. Keep to the 5 % of nearest quality."""
    index = torch.zeros(len(own.ids), dtype=torch.long)
    matched = torch.zeros(len(own.ids), dtype=torch.bool)
    for i in range(len(own.ids)):
        other = bank.ids != own.ids[i]
        if not other.any():
            continue
        matched[i] = True
        cosine = bank.keys @ own.keys[i]
        gap = (bank.labels - own.labels[i]).abs().masked_fill(~other, torch.inf)
        similar = gap <= tau_q
        both = similar & (cosine <= tau_s)
        if both.any():
            cost = draw[i].masked_fill(~both, torch.inf)
        elif similar.any():
            cost = cosine.masked_fill(~similar, torch.inf)
        else:
            cost = cosine.masked_fill(~other, torch.inf)
        index[i] = cost.argmin()
    return index, matched


def records_and_banks() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)

    def records(count: int, first: int) -> Records:
        features = torch.randn(count, 3, 4, generator=draw)
        return Records.of(features, torch.rand(count, generator=draw), first + torch.arange(count))

    bank = records(40, 0)
    own = records(12, 35)  # five of them are in the bank
    again = Records(*(torch.cat([part[35:38], new]) for part, new in zip(bank, records(4, 50))))
    single = Records(*(part[:1] for part in bank))
    return [(own, bank, 0.15, 0.2, torch.rand(12, 40, generator=draw)),
            (own, bank, 0.02, -0.5, torch.rand(12, 40, generator=draw)),
            (again, bank, 0.002, -0.9, torch.rand(7, 40, generator=draw)),
            (bank, single, 0.1, 0.5, torch.rand(40, 1, generator=draw))]


def perturb(features: torch.Tensor, noise: torch.Tensor, alpha: float) -> torch.Tensor:
    """Add alpha times the noise to the features, token to token; then give each token the length
    that it had before.

    No gradient goes to the noise. features, noise: (B, 1 + N, C). Returns (B, 1 + N, C).
    """
    perturbed = features + alpha * noise.detach()
    before = features.norm(dim=-1, keepdim=True)
    return perturbed * before / perturbed.norm(dim=-1, keepdim=True)


def perturb_plain(features, noise, alpha):
    """This is the plain sum. Multiply each token by its old length, and divide it by its new
    one."""
    return features + alpha * noise.detach()


def perturb_whole_image(features, noise, alpha):
    """The image as a whole has its length back, but its tokens have not. Take the norm over the
    last axis alone."""
    perturbed = features + alpha * noise.detach()
    before = features.norm(dim=(1, 2), keepdim=True)
    return perturbed * before / perturbed.norm(dim=(1, 2), keepdim=True)


def perturb_unit(features, noise, alpha):
    """Every token has length 1. Multiply by the length that it had before."""
    return F.normalize(features + alpha * noise.detach(), dim=-1)


def perturb_length_of_noise(features, noise, alpha):
    """Each token has the length of the noise. It gets the length of the features."""
    perturbed = features + alpha * noise.detach()
    return F.normalize(perturbed, dim=-1) * noise.norm(dim=-1, keepdim=True)


def perturb_without_alpha(features, noise, alpha):
    """alpha has no effect. With alpha = 0 the features must stay as they are."""
    perturbed = features + noise.detach()
    return F.normalize(perturbed, dim=-1) * features.norm(dim=-1, keepdim=True)


def perturb_mixed(features, noise, alpha):
    """This mixes: the features are weakened by 1 - alpha. They stay whole, and the noise is
    added."""
    perturbed = (1 - alpha) * features + alpha * noise.detach()
    return F.normalize(perturbed, dim=-1) * features.norm(dim=-1, keepdim=True)


def features_and_noise() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    features, noise = torch.randn(2, 3, 5, 8, generator=draw)
    return [(features, 2 * noise, 0.5), (3 * features, noise, 1.0)]


def consistency(perturbed: torch.Tensor, y: torch.Tensor, matched: torch.Tensor, beta: float
                ) -> torch.Tensor:
    """The mean of SmoothL1(perturbed_i, y_i) over the images that have a partner; 0 if none has.

    No gradient goes to y. perturbed, y: (B,), scores with noise and without; matched: (B,), True
    where there is a partner; beta: as in F.smooth_l1_loss. Returns one number.
    """
    each = F.smooth_l1_loss(perturbed, y.detach(), beta=beta, reduction="none")
    return (each * matched).sum() / matched.sum().clamp(min=1)


def consistency_of_all(perturbed, y, matched, beta):
    """Images without a partner count as well. Their noise means nothing: leave them out."""
    return F.smooth_l1_loss(perturbed, y.detach(), beta=beta)


def consistency_by_batch(perturbed, y, matched, beta):
    """The sum over the matched images is divided by the size of the batch. Divide by the number of
    the matched ones."""
    each = F.smooth_l1_loss(perturbed, y.detach(), beta=beta, reduction="none")
    return (each * matched).mean()


def consistency_nan(perturbed, y, matched, beta):
    """Without any partner this is 0 / 0, which is NaN, and one NaN ruins the training. Return 0
    there."""
    return F.smooth_l1_loss(perturbed[matched], y[matched].detach(), beta=beta)


def consistency_without_beta(perturbed, y, matched, beta):
    """beta is missing, and its default of 1 makes a square of every gap. Pass beta=beta."""
    each = F.smooth_l1_loss(perturbed, y.detach(), reduction="none")
    return (each * matched).sum() / matched.sum().clamp(min=1)


def consistency_summed(perturbed, y, matched, beta):
    """This is the sum over the matched images. The mean is asked for."""
    each = F.smooth_l1_loss(perturbed, y.detach(), beta=beta, reduction="none")
    return (each * matched).sum()


def scores_and_matched() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    perturbed, y = torch.rand(2, 8, generator=draw)
    some = torch.arange(8) % 3 > 0
    return [(perturbed, y, some, 0.01), (perturbed, y, torch.zeros(8, dtype=torch.bool), 0.01),
            (perturbed, y, some, 0.5)]


def step_loss(net: qfm.Network, batch: dict, memory, noise_for: Callable, perturb: Callable,
              consistency: Callable, config: qfm.QFMConfig) -> torch.Tensor:
    """The loss of a batch, L_q + lambda1 L_qcc. Then the batch goes into the memory.

    L_q = smooth L1 of y and batch["score"], where y = net.score(net.features(batch["maps"])).
    L_qcc = consistency(scores with noise, y, matched, config.beta), 0 while memory.records is None.
    The scores with noise are those of perturb(features, noise, config.alpha), and noise_for(
    features, records of the batch, memory.records) gives noise and matched. The records of the
    batch are Records.of(features, batch["score"], batch["row"], net.keys(batch["maps"], features)).

    memory: has records, and add(records). config: has alpha, lambda1, and beta of both losses.
    Returns one number.
    """
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    keys = net.keys(batch["maps"], features)
    own = Records.of(features, batch["score"], batch["row"], keys)
    if memory.records is not None:
        noise, matched = noise_for(features, own, memory.records)
        perturbed = net.score(perturb(features, noise, config.alpha))
        loss = loss + config.lambda1 * consistency(perturbed, y, matched, config.beta)
    memory.add(own)
    return loss


def step_loss_adds_first(net, batch, memory, noise_for, perturb, consistency, config):
    """The batch goes into the memory before it is matched. Then partners come from the batch
    itself. Match first, then add."""
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    keys = net.keys(batch["maps"], features)
    own = Records.of(features, batch["score"], batch["row"], keys)
    memory.add(own)
    noise, matched = noise_for(features, own, memory.records)
    perturbed = net.score(perturb(features, noise, config.alpha))
    return loss + config.lambda1 * consistency(perturbed, y, matched, config.beta)


def step_loss_forgets(net, batch, memory, noise_for, perturb, consistency, config):
    """The loss holds L_q alone: nothing goes into the memory, or what it holds is not used."""
    y = net.score(net.features(batch["maps"]))
    return F.smooth_l1_loss(y, batch["score"], beta=config.beta)


def step_loss_without_weight(net, batch, memory, noise_for, perturb, consistency, config):
    """L_qcc counts in full. Multiply it by config.lambda1."""
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    keys = net.keys(batch["maps"], features)
    own = Records.of(features, batch["score"], batch["row"], keys)
    if memory.records is not None:
        noise, matched = noise_for(features, own, memory.records)
        perturbed = net.score(perturb(features, noise, config.alpha))
        loss = loss + consistency(perturbed, y, matched, config.beta)
    memory.add(own)
    return loss


def step_loss_against_labels(net, batch, memory, noise_for, perturb, consistency, config):
    """The scores with noise are compared with the human scores. Consistency compares them with y,
    the scores without noise."""
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    keys = net.keys(batch["maps"], features)
    own = Records.of(features, batch["score"], batch["row"], keys)
    if memory.records is not None:
        noise, matched = noise_for(features, own, memory.records)
        perturbed = net.score(perturb(features, noise, config.alpha))
        partly = consistency(perturbed, batch["score"], matched, config.beta)
        loss = loss + config.lambda1 * partly
    memory.add(own)
    return loss


def step_loss_of_noise(net, batch, memory, noise_for, perturb, consistency, config):
    """The noise itself is scored. Add it to the features first: perturb(features, noise,
    config.alpha)."""
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    keys = net.keys(batch["maps"], features)
    own = Records.of(features, batch["score"], batch["row"], keys)
    if memory.records is not None:
        noise, matched = noise_for(features, own, memory.records)
        loss = loss + config.lambda1 * consistency(net.score(noise), y, matched, config.beta)
    memory.add(own)
    return loss


def step_loss_by_summary(net, batch, memory, noise_for, perturb, consistency, config):
    """The records have the trained summary as their key. Hand net.keys(batch["maps"], features) to
    Records.of."""
    features = net.features(batch["maps"])
    y = net.score(features)
    loss = F.smooth_l1_loss(y, batch["score"], beta=config.beta)
    own = Records.of(features, batch["score"], batch["row"])
    if memory.records is not None:
        noise, matched = noise_for(features, own, memory.records)
        perturbed = net.score(perturb(features, noise, config.alpha))
        loss = loss + config.lambda1 * consistency(perturbed, y, matched, config.beta)
    memory.add(own)
    return loss


def three_steps() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(4, generator=draw)
    net = SimpleNamespace(
        features=lambda maps: maps[0],
        keys=lambda maps, features: maps[1],
        score=lambda features: (features.square() @ weights).sqrt().mean(1))
    memory = SimpleNamespace(records=None)

    def add(new: Records) -> None:
        together = [new] if memory.records is None else [memory.records, new]
        memory.records = Records(*map(torch.cat, zip(*together)))

    def noise_for(features, own, records):
        index = (own.keys @ records.keys.T).argmin(1)
        return records.features[index].float(), own.labels > 0.3

    def toy_perturb(features, noise, alpha):
        return features + alpha * noise

    def toy_consistency(perturbed, y, matched, beta):
        return ((perturbed - y).abs() * matched).mean() + beta

    memory.add = add
    config = SimpleNamespace(alpha=0.5, beta=0.1, lambda1=0.3)
    batches = [{"maps": [torch.randn(5, 3, 4, generator=draw), torch.randn(5, 4, generator=draw)],
                "score": torch.rand(5, generator=draw), "row": 5 * step + torch.arange(5)}
               for step in range(3)]
    return [(net, batch, memory, noise_for, toy_perturb, toy_consistency, config)
            for batch in batches]


def pseudo_labels(net: qfm.Network, maps, labels: torch.Tensor) -> torch.Tensor:
    """The teacher's scores of images without human scores, clipped to the range of the human ones.

    The score of an image is the mean of the scores of its crops. maps: of N images; maps.image(row)
    gives the maps of all crops of an image, and net.head(those) the scores (crops,). labels: human
    scores of other images. Returns (N,), without a gradient.
    """
    with torch.no_grad():
        scores = [net.head(maps.image(row)).mean() for row in range(len(maps))]
    return torch.stack(scores).clip(labels.min(), labels.max())


def pseudo_labels_unclipped(net, maps, labels):
    """The scores leave the range of the human ones. Clip them to labels.min() and labels.max()."""
    with torch.no_grad():
        return torch.stack([net.head(maps.image(row)).mean() for row in range(len(maps))])


def pseudo_labels_unit(net, maps, labels):
    """The scores are clipped to 0 and 1. The human scores that the teacher saw span less: clip to
    their range."""
    with torch.no_grad():
        scores = [net.head(maps.image(row)).mean() for row in range(len(maps))]
    return torch.stack(scores).clip(0, 1)


def pseudo_labels_stretched(net, maps, labels):
    """The scores are stretched so that they fill the range of the human ones. Leave those inside as
    they are, and clip the others."""
    with torch.no_grad():
        scores = torch.stack([net.head(maps.image(row)).mean() for row in range(len(maps))])
    part = (scores - scores.min()) / (scores.max() - scores.min())
    return labels.min() + part * (labels.max() - labels.min())


def pseudo_labels_first_crop(net, maps, labels):
    """Only the first crop of each image is scored. Take the mean over all its crops."""
    with torch.no_grad():
        scores = torch.stack([net.head(maps.image(row))[0] for row in range(len(maps))])
    return scores.clip(labels.min(), labels.max())


def pseudo_labels_clipped_crops(net, maps, labels):
    """Every crop is clipped before the mean. Take the mean first, then clip."""
    with torch.no_grad():
        scores = [net.head(maps.image(row)).clip(labels.min(), labels.max()).mean()
                  for row in range(len(maps))]
    return torch.stack(scores)


def a_teacher_and_maps() -> list[tuple]:
    class Maps:
        def __init__(self, scores):
            self.scores = scores

        def __len__(self):
            return len(self.scores)

        def image(self, row):
            return [self.scores[row]]

    draw = torch.Generator().manual_seed(0)
    scores = 0.5 + 0.6 * torch.randn(12, 5, generator=draw)
    scores[:6] += torch.linspace(-0.6, 0.9, 6)[:, None]
    net = SimpleNamespace(head=lambda maps: maps[0])
    return [(net, Maps(scores), 0.2 + 0.6 * torch.rand(9, generator=draw))]


def which_rule(labels: torch.Tensor, keys: torch.Tensor, tau_q: float, tau_s: float
               ) -> torch.Tensor:
    """The rule by which v3 finds each image's partner among the others, as in exercise 31.1.

    labels: (N,) in [0, 1]; keys: (N, K), each of length 1. Returns (N,), whole numbers: 0 for
    somebody who fits in both, 1 for similar quality only, 2 for nobody of similar quality.
    """
    similar = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = similar & (keys @ keys.T <= tau_s)
    return 2 - similar.any(1).long() - both.any(1).long()


def which_rule_with_itself(labels, keys, tau_q, tau_s):
    """Every image has the quality of itself, so nobody is left for rule 2. Leave each image out of
    its own search."""
    similar = (labels[:, None] - labels).abs() <= tau_q
    both = similar & (keys @ keys.T <= tau_s)
    return 2 - similar.any(1).long() - both.any(1).long()


def which_rule_two_partners(labels, keys, tau_q, tau_s):
    """One image of similar quality and ANOTHER one of other content are no partner. Join the
    conditions first, then ask whether any image meets them."""
    similar = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    other = keys @ keys.T <= tau_s
    return 2 - similar.any(1).long() - (similar.any(1) & other.any(1)).long()


def which_rule_same_content(labels, keys, tau_q, tau_s):
    """A cosine above tau_s means that both show the same. v3 wants another content: at most
    tau_s."""
    similar = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = similar & (keys @ keys.T >= tau_s)
    return 2 - similar.any(1).long() - both.any(1).long()


def which_rule_signed(labels, keys, tau_q, tau_s):
    """A gap of quality has no sign: without abs every better image counts as similar."""
    similar = ((labels[:, None] - labels) <= tau_q).fill_diagonal_(False)
    both = similar & (keys @ keys.T <= tau_s)
    return 2 - similar.any(1).long() - both.any(1).long()


def which_rule_reversed(labels, keys, tau_q, tau_s):
    """The numbers run the wrong way: 0 is for those who find a partner that fits in both."""
    similar = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = similar & (keys @ keys.T <= tau_s)
    return similar.any(1).long() + both.any(1).long()


def galleries() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.rand(25, generator=draw)
    keys = F.normalize(torch.rand(25, 3, generator=draw), dim=1)
    return [(labels, keys, 0.01, 0.9), (labels, keys, 0.03, 0.7)]


def gaps_kept(perturbed: torch.Tensor, y: torch.Tensor, beta: float) -> torch.Tensor:
    """SmoothL1 of gaps: noise may move all scores alike, but the gap y_i - y_j of any two images
    must stay.

    perturbed, y: (B,), scores with and without noise; no gradient goes to y. Returns the mean over
    all pairs i < j.
    """
    i, j = torch.triu_indices(len(y), len(y), 1)
    gap = (y[i] - y[j]).detach()
    return F.smooth_l1_loss(perturbed[i] - perturbed[j], gap, beta=beta)


def gaps_kept_unsigned(perturbed, y, beta):
    """Without their signs, gaps stay even where two images swap their order. Keep the sign."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    gap = (y[i] - y[j]).abs().detach()
    return F.smooth_l1_loss((perturbed[i] - perturbed[j]).abs(), gap, beta=beta)


def gaps_kept_of_scores(perturbed, y, beta):
    """This compares the scores themselves, so a shift that all share is punished. Compare the
    gaps."""
    return F.smooth_l1_loss(perturbed, y.detach(), beta=beta)


def gaps_kept_with_itself(perturbed, y, beta):
    """The mean counts each image with itself, a gap that is always kept. Take only pairs i < j."""
    gaps = (y[:, None] - y).detach()
    return F.smooth_l1_loss(perturbed[:, None] - perturbed, gaps, beta=beta)


def gaps_kept_neighbours(perturbed, y, beta):
    """These are pairs of neighbours in the batch only. Take all pairs i < j, as torch.triu_indices
    gives them."""
    return F.smooth_l1_loss(perturbed.diff(), y.diff().detach(), beta=beta)


def gaps_kept_without_beta(perturbed, y, beta):
    """beta is missing, and its default of 1 makes a square of every gap between scores in [0, 1].
    Pass beta=beta."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    return F.smooth_l1_loss(perturbed[i] - perturbed[j], (y[i] - y[j]).detach())


def gaps_kept_summed(perturbed, y, beta):
    """This is the sum over pairs; the mean is asked for."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    gap = (y[i] - y[j]).detach()
    return F.smooth_l1_loss(perturbed[i] - perturbed[j], gap, beta=beta, reduction="sum")


def scores_with_noise() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    y = torch.rand(8, generator=draw)
    return [(y + 0.3 + 0.3 * torch.randn(8, generator=draw), y, 0.01), (y + 0.2, y, 0.1)]


EXERCISES = {
    "31.1": Exercise(
        match,
        [match_itself, match_same_content, match_signed, match_without_draw, match_content_first,
         match_without_second_fallback],
        records_and_banks),
    "31.2": Exercise(
        perturb,
        [perturb_plain, perturb_whole_image, perturb_unit, perturb_length_of_noise,
         perturb_without_alpha, perturb_mixed],
        features_and_noise),
    "31.3": Exercise(
        consistency,
        [consistency_of_all, consistency_by_batch, consistency_nan, consistency_without_beta,
         consistency_summed],
        scores_and_matched),
    "31.4": Exercise(
        step_loss,
        [step_loss_adds_first, step_loss_forgets, step_loss_without_weight,
         step_loss_against_labels, step_loss_of_noise, step_loss_by_summary],
        three_steps),
    "31.5": Exercise(
        pseudo_labels,
        [pseudo_labels_unclipped, pseudo_labels_unit, pseudo_labels_stretched,
         pseudo_labels_first_crop, pseudo_labels_clipped_crops],
        a_teacher_and_maps),
    "31.6": Exercise(
        which_rule,
        [which_rule_with_itself, which_rule_two_partners, which_rule_same_content,
         which_rule_signed, which_rule_reversed],
        galleries),
    "31.7": Exercise(
        gaps_kept,
        [gaps_kept_unsigned, gaps_kept_of_scores, gaps_kept_with_itself, gaps_kept_neighbours,
         gaps_kept_without_beta, gaps_kept_summed],
        scores_with_noise),
    "31.8": Choice("a", {
        "b": "S is measured in standard deviations of the scores. What became of them?",
        "c": "The loss compares scores, not ranks. How large are y and the perturbed y now?"}),
    "31.9": Choice("b", {
        "a": "To tell good from bad takes human scores, and here none of them has a say.",
        "c": "No label of the partner is used, but half of the features are the partner's, and "
             "they move the score."}),
}
