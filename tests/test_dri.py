"""DRI-IQA: the extractor and its relations, guided blocks, restoration, the predictor, and the leak guard. (Draft.)"""

import dataclasses

import pytest
import torch
from torch import nn

from iqa_core import data, dri
from iqa_core.dri import DRIConfig, Guided, Head, Network, Restorer, contrast, relations, semantic_loss

TINY = DRIConfig(trunk=(8, 16, 32, 64), restorer=8, blocks=(1, 1, 1, 1), width=48, crop=64, contents=4, degradations=4,
                 patch=48, steps=4, restore_steps=4, epochs=1, test_crops=5)


def test_the_grid_of_two_by_two_by_two_has_one_and_three_positives():
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    quality, degradation = relations(labels[:, 0], labels[:, 1])
    assert quality.sum(1).tolist() == [1] * 8 and degradation.sum(1).tolist() == [3] * 8
    assert not (quality & ~degradation).any() and torch.equal(quality, quality.T)


def test_the_contrast_is_infonce_and_does_not_mind_the_order():
    torch.manual_seed(0)
    z, labels = torch.randn(8, 5), torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    for positive in relations(labels[:, 0], labels[:, 1]):
        order = torch.randperm(8)
        assert contrast(z, positive, 0.1).item() == pytest.approx(
            contrast(z[order], positive[order][:, order], 0.1).item(), rel=1e-5)
    quality = relations(labels[:, 0], labels[:, 1])[0]
    unit = nn.functional.normalize(z, dim=1)
    likeness = unit @ unit.T / 0.1
    wanted = [-(likeness[a, quality[a]] - likeness[a, torch.arange(8) != a].logsumexp(0)).item() for a in range(8)]
    assert contrast(z, quality, 0.1).item() == pytest.approx(sum(wanted) / 8, rel=1e-5)


def test_a_fresh_guided_block_does_not_listen_and_a_trained_one_does():
    torch.manual_seed(0)
    block, x = Guided(16, 4, vector=6), torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x, torch.randn(2, 6)), block(x, torch.randn(2, 6)))
    nn.init.normal_(block.mlp[-1].weight)
    assert not torch.allclose(block(x, torch.randn(2, 6)), block(x, torch.randn(2, 6)), atol=1e-3)


@pytest.mark.parametrize("guidance", ["tgb", "add", "none"])
def test_guidance_reaches_the_restored_picture_or_not(guidance):
    torch.manual_seed(0)
    net, x = Restorer(8, (1, 1, 1, 1), 6, guidance), torch.rand(1, 3, 32, 32)
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    with torch.no_grad():
        same = torch.allclose(net(x, torch.zeros(1, 6))[0], net(x, torch.ones(1, 6))[0], atol=1e-5)
    assert same == (guidance == "none")


def test_weights_that_vanish_leave_a_finite_score():
    head = Head(8).eval()
    nn.init.constant_(head.weight[-1].bias, -1e4)
    assert head(torch.rand(2, 8, 4, 4)).isfinite().all()


@pytest.mark.parametrize("changes", [{}, {"split": False}, {"quality": False}, {"degradation": False}, {"assist": False},
                                     {"rs": ""}])
def test_every_parameter_learns_in_one_of_the_stages(changes):
    torch.manual_seed(0)
    c = dataclasses.replace(TINY, **changes)
    method = dri.DRIIQA(c)
    method.net = Network(c).train()
    method.seed, method.source = 0, [torch.randint(256, (3, 120, 120), dtype=torch.uint8) for _ in range(4)]
    method.device = "cpu"
    x = torch.rand(4, 3, 64, 64)
    loss = method.represent(0) + method.loss({"x": x, "x_ref": x.roll(1, 0), "score": torch.rand(4)})
    if method.net.restorer is not None:
        loss = loss + method.restore(0)
    loss.backward()
    assert not [name for name, p in method.net.named_parameters() if p.grad is None]


def test_nothing_that_is_tested_is_learnt_from():
    offline = data.load("offline").thin(100)
    train, val, test = data.splits(offline, 0)
    known = dri.pristine(train, None)
    assert set(known.table["content"]) == set(train.table["content"]) and not known.table["image"].duplicated().any()
    assert not set(known.table["image"]) & set(test.table["reference"])
    with pytest.raises(data.DatasetError, match="all its pictures may be in the validation or test part"):
        dri.pristine(train, test)
