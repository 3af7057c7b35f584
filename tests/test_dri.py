"""DRI-IQA: the extractor and its relations, guided blocks, restoration, the predictor, and what may
not be learned from."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import data_download
from iqa_core import data, dri, dri_stages, frozen_maps, metrics, settings, train
from iqa_core.distortions import distort
from iqa_core.dri import SMOKE, DRIConfig, Network, align, interact, pristine, ratio
from iqa_core.dri_extractor import (
    GROUPS, contrast, correlation, degrade, grid, relations, sequences)
from iqa_core.dri_predictor import Head, Predictor
from iqa_core.dri_restorer import Guided, Restorer
from iqa_core.reiqa_pretrain import Uint8Images

FROZEN = dataclasses.replace(SMOKE, weights="random", parts="", degradations=4, patch=64,
                             restorer_width=8, extractor_steps=4, restorer_steps=4)
TINY = dataclasses.replace(FROZEN, frozen=False, joint=True, side=0, spread=False, trunk_rate=0.1,
                           rs="ratio align")
SMALL_TRUNK = {"trunk": (4, 8, 16, 32), "encoder": ""}
ALL_OFF = {"quality": False, "degradation": False, "assist": False}


def two_by_two_by_two():
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    return relations(labels[:, 0], labels[:, 1])


def offline(count=60):
    return data.splits(data_download.load("offline").thin(count), 0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own: what other runs have trained does not count."""
    data_download.load("offline")  # made in the usual cache, whose folder it goes on naming
    monkeypatch.setattr(dri_stages, "cache_dir", lambda: tmp_path)
    return tmp_path


# --- stage 1 --------------------------------------------------------------------------------------

def test_the_grid_of_two_by_two_by_two_has_one_and_three_positives():
    quality, degradation = two_by_two_by_two()
    assert quality.sum(1).tolist() == [1] * 8 and degradation.sum(1).tolist() == [3] * 8
    assert not (quality & ~degradation).any() and torch.equal(quality, quality.T)


def test_the_contrast_is_infonce_and_does_not_mind_the_order():
    torch.manual_seed(0)
    z = torch.randn(8, 5)
    for positive in two_by_two_by_two():
        order = torch.randperm(8)
        assert contrast(z, positive, 0.1).item() == pytest.approx(
            contrast(z[order], positive[order][:, order], 0.1).item(), rel=1e-5)
    quality = two_by_two_by_two()[0]
    unit = nn.functional.normalize(z, dim=1)
    likeness = unit @ unit.T / 0.1
    wanted = []
    for a in range(8):
        others = likeness[a, torch.arange(8) != a]
        wanted.append((others.logsumexp(0) - likeness[a, quality[a]]).item())
    assert contrast(z, quality, 0.1).item() == pytest.approx(sum(wanted) / 8, rel=1e-5)


def test_correlation_is_one_for_copies_and_near_zero_for_strangers():
    torch.manual_seed(0)
    q = torch.randn(2000, 1)
    assert correlation(q, -3 * q).item() == pytest.approx(1, abs=1e-4)
    assert correlation(q, torch.randn(2000, 1)).item() < 0.01


def test_a_sequence_takes_each_group_once_and_prefers_mild_levels():
    drawn = sequences(400, torch.Generator().manual_seed(0))
    group = {kind: number for number, kinds in enumerate(GROUPS) for kind in kinds}
    assert sorted(group) == list(range(1, 26))
    for one in drawn:
        assert 1 <= len(one) <= 4 and len({group[kind] for kind, _ in one}) == len(one)
    levels = np.bincount([level for one in drawn for _, level in one], minlength=6)[1:]
    assert (np.diff(levels) < 0).all()
    even = sequences(400, torch.Generator().manual_seed(0), spread=np.inf)
    assert min(np.bincount([level for one in even for _, level in one], minlength=6)[1:]) > 150
    assert {len(one) for one in sequences(50, torch.Generator().manual_seed(0), most=1)} == {1}


def test_a_sequence_is_applied_in_order_and_only_to_its_image():
    x = torch.rand(2, 3, 40, 40)
    y = degrade(x, [[(1, 5), (17, 3)], [(17, 3)]], torch.Generator().manual_seed(0))
    blurred = distort(x[:1], 1, 5)
    assert torch.allclose(y[:1], distort(blurred, 17, 3))
    assert torch.allclose(y[1:], distort(x[1:], 17, 3))


def test_in_the_grid_equal_labels_are_crops_of_one_distorted_image():
    # a ramp, so that all crops of an image differ
    photo = torch.arange(120, dtype=torch.uint8).repeat(3, 120, 1)
    x, contents, degradations = grid([photo, 255 - photo], 2, 32, torch.Generator().manual_seed(3))
    again, *_ = grid([photo, 255 - photo], 2, 32, torch.Generator().manual_seed(3))
    assert torch.equal(x, again) and len(x) == 8
    assert not torch.allclose(x[0], x[1])  # two places
    assert not torch.allclose(x[0], x[2])  # two degradations
    assert contents.tolist() == [0] * 4 + [1] * 4 and degradations.tolist() == [0, 0, 1, 1] * 2


def test_an_image_smaller_than_a_pair_is_mirrored():
    small = torch.randint(256, (3, 40, 33), dtype=torch.uint8)
    assert grid([small], 2, 64, torch.Generator().manual_seed(0))[0].shape == (4, 3, 64, 64)


# --- blocks ---------------------------------------------------------------------------------------

def test_a_fresh_guided_block_is_a_plain_one_and_a_trained_one_is_guided():
    torch.manual_seed(0)
    block, x = Guided(16, 4, vector=6, guide=5), torch.randn(2, 16, 8, 8)
    plain = Guided(16, 4)
    state = block.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    inputs = [(torch.randn(2, 6), torch.randn(2, 5, 16, 16)) for _ in range(2)]
    assert all(torch.equal(block(x, *both), plain(x)) for both in inputs)
    nn.init.normal_(block.film[-1].weight)
    assert not torch.allclose(block(x, *inputs[0]), block(x, inputs[1][0], inputs[0][1]), atol=1e-3)
    nn.init.normal_(block.project.weight)
    assert not torch.allclose(block(x, *inputs[0]), block(x, inputs[0][0], inputs[1][1]), atol=1e-3)


def test_the_attention_is_between_channels():
    """Without the depth-wise convolutions positions may change their order."""
    torch.manual_seed(0)
    block, x, order = Guided(8, 2), torch.randn(1, 8, 4, 4), torch.randperm(16)
    for maps in (block.query, block.key_value, block.up):
        maps[1] = nn.Identity()
    shuffled = x.flatten(2)[..., order].view_as(x)
    assert torch.allclose(block(shuffled).flatten(2), block(x).flatten(2)[..., order], atol=1e-5)


def test_a_still_block_changes_nothing_until_it_learns():
    torch.manual_seed(0)
    block, x = Guided(16, 4, vector=6, guide=5, still=True), torch.randn(2, 16, 8, 8)
    inputs = torch.randn(2, 6), torch.randn(2, 5, 8, 8)
    assert torch.equal(block(x, *inputs), x)
    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    for _ in range(3):  # outputs first, then what is before them
        optimizer.zero_grad()
        (block(x, *inputs) - x.roll(1, 0)).square().mean().backward()
        optimizer.step()
    assert not torch.allclose(block(x, inputs[0].flip(0), inputs[1]), block(x, *inputs))


def test_a_fresh_restorer_changes_nothing():
    net, x = Restorer(8, (1, 1, 1, 1), 6, (4, 4, 4, 4)), torch.rand(1, 3, 32, 32)
    maps = [torch.rand(1, 4, 32 // 2**i, 32 // 2**i) for i in range(4)]
    assert torch.equal(net(x, torch.rand(1, 6), maps)[0], x)


@pytest.mark.parametrize("interaction", ["tgb", "add"])
def test_a_fresh_predictor_scores_as_it_would_without_vectors_and_restoration(interaction):
    torch.manual_seed(0)
    maps = [torch.randn(2, c, s, s) for c, s in ((4, 8), (5, 8), (6, 8), (7, 4))]
    change = [torch.randn_like(m) for m in maps]
    restorer_maps = [torch.randn(2, c, 8, 8) for c in (3, 4, 5, 6)]
    vectors = [torch.randn(2, 9) for _ in range(2)]
    channels = [m.shape[1] for m in maps]
    whole = Predictor(16, 8, (9, 9), channels, (3, 4, 5, 6), interaction, "pooled").eval()
    alone = Predictor(16, 8, (), channels, (), interaction, "pooled").eval()
    train.share_initial_weights(alone, whole)
    assert torch.equal(whole(maps, vectors, change, restorer_maps)[0], alone(maps)[0])


@pytest.mark.parametrize("guidance", ["tgb", "add", "none"])
def test_guidance_reaches_the_restored_image_or_not(guidance):
    torch.manual_seed(0)
    net, x = Restorer(8, (1, 1, 1, 1), 6, (4, 4, 4, 4), guidance), torch.rand(1, 3, 32, 32)
    maps = [torch.rand(1, 4, 32 // 2**i, 32 // 2**i) for i in range(4)]
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    with torch.no_grad():
        first, other = net(x, torch.zeros(1, 6), maps)[0], net(x, torch.ones(1, 6), maps)[0]
        moved = net(x, torch.zeros(1, 6), [2 * m for m in maps])[0]
    assert torch.allclose(first, other, atol=1e-5) == (guidance == "none")
    assert torch.allclose(first, moved, atol=1e-5) == (guidance != "tgb")


@pytest.mark.parametrize("trunk, stride, length", [
    ((8, 16, 32, 64), 1, 32), ("tf_efficientnet_lite0", 2, 64)])
def test_shapes_with_a_new_and_a_pretrained_trunk(trunk, stride, length):
    net = Network(dataclasses.replace(TINY, trunk=trunk)).eval()
    q, g, maps = net.extractor(torch.rand(2, 3, 64, 96))
    assert q.shape == g.shape == (2, length)
    sides = [stride * 2**i for i in range(4)]
    assert [m.shape[-2:] for m in maps] == [(64 // side, 96 // side) for side in sides]
    score, restored, _, features = net.everything(torch.rand(2, 3, 64, 96))
    assert score.shape == (2,) and restored.shape == (2, 3, 64, 96)
    assert features.shape == (2, TINY.width // 2)


@pytest.mark.parametrize("pooled", [False, True])
def test_weights_that_vanish_leave_a_finite_score(pooled):
    head = Head(8, pooled).eval()
    nn.init.constant_(head.weight[-1].bias, -1e4)
    assert head(torch.rand(2, 8, 4, 4)).isfinite().all()


# --- losses ---------------------------------------------------------------------------------------

def test_ratio_is_log_two_for_doing_nothing_and_its_scale_has_no_gradient():
    reference, degraded = [torch.zeros(2, 4)] * 2, [torch.full((2, 4), 3.0)] * 2
    whole = 3 / 3.001
    for share, wanted in ((0, 0), (1 / 3, whole / 3), (1, whole)):
        restored = [share * part for part in degraded]
        assert ratio(restored, reference, degraded).item() == pytest.approx(np.log1p(wanted))
    leaves = [torch.rand(2, 4, requires_grad=True) for _ in range(3)]
    ratio(*([leaf] * 2 for leaf in leaves)).backward()
    assert leaves[0].grad is not None and leaves[1].grad is None and leaves[2].grad is None
    clean = ratio([reference[0] + 0.1] * 2, reference, reference)  # nothing was degraded
    assert clean.isfinite()


def test_align_is_zero_where_the_features_point_as_the_vectors_do():
    projections = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2))
    q = torch.randn(3, 4)
    for w in projections:
        nn.init.eye_(w.weight)
    assert align(q, (2 * q, 5 * q), projections).item() == pytest.approx(0, abs=1e-5)
    assert align(q, (-q, q), projections).item() == pytest.approx(2, abs=1e-5)


def test_interact_punishes_the_wrong_order_alone():
    mos = torch.tensor([0.1, 0.5, 0.55])
    assert interact(torch.tensor([0.0, 1.0, 2.0]), mos).item() == 0
    assert interact(torch.tensor([1.0, 0.0, 0.0]), mos).item() == pytest.approx(1.1)
    equal = torch.full((3,), 0.5)
    assert interact(torch.tensor([0.0, 0.0, 9.0]), equal).item() == 0


@pytest.mark.parametrize("changes", [
    {}, {"split": False}, {"quality": False}, {"degradation": False}, {"assist": False},
    {"guidance": "add"}, {"guidance": "none"}, {"interaction": "add"}, SMALL_TRUNK,
    {"rs": "ratio align interact"}, {"side": 4, "spread": True}, {**ALL_OFF, "rs": ""}], ids=str)
def test_every_parameter_learns_in_one_of_the_stages(changes, cache):
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, extractor_steps=1, restorer_steps=1, **changes)
    method = dri.DRIIQA(config)
    method.net = net = Network(config)
    photographs = [torch.randint(256, (3, 120, 120), dtype=torch.uint8) for _ in range(4)]
    before = {name: p.clone() for name, p in net.named_parameters()}
    if net.extractor is not None:
        dri.train_extractor(net.extractor, photographs, config)
    if net.restorer is not None:
        dri.train_restorer(net.restorer, net.extractor, photographs, config)
    optimizer = method.optimizer(net)
    net.train()
    x = torch.rand(4, 3, 64, 64)
    for _ in range(3):  # what begins at zero lets others learn only from the second step on
        values = method.loss({"x": x, "x_ref": x.roll(1, 0), "score": torch.rand(4)})
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
    assert not [name for name, p in net.named_parameters() if torch.equal(p, before[name])]


# --- the method -----------------------------------------------------------------------------------

def test_frozen_parts_stay_as_their_stages_left_them(cache):
    train, val, _ = offline()
    torch.manual_seed(0)
    method = dri.DRIIQA(FROZEN).fit(train, val)
    torch.manual_seed(0)
    net = Network(method.config)
    photographs = [*Uint8Images(pristine(train, None))]
    dri.train_extractor(net.extractor, photographs, method.config)  # read from the cache
    dri.train_restorer(net.restorer, net.extractor, photographs, method.config)
    for part in ("extractor", "restorer"):
        mine = getattr(method.net, part).state_dict()
        theirs = getattr(net, part).state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_joint_training_moves_extractor_and_restorer_but_no_running_statistics(cache):
    train, _, _ = offline()
    torch.manual_seed(0)
    method = dri.DRIIQA(TINY).fit(train)
    torch.manual_seed(0)
    net = Network(TINY)
    dri.train_extractor(net.extractor, [*Uint8Images(pristine(train, None))], TINY)
    mine, theirs = method.net.extractor.state_dict(), net.extractor.state_dict()
    moved = {key.split(".")[-1] for key in mine if not torch.equal(mine[key], theirs[key])}
    assert "weight" in moved and not moved & {"running_mean", "running_var"}


def test_ablations_share_what_was_trained_before_and_the_order_does_not_matter(cache):
    train, _, _ = offline()
    nets = []
    for changes in ({}, {"rs": "", "quality": False}):
        torch.manual_seed(1)
        method = dri.DRIIQA(dataclasses.replace(FROZEN, epochs=1, **changes)).fit(train)
        nets.append(method.net)
    assert len([*(cache / "dri-stages").glob("*.pt")]) == 2  # one extractor, one restorer
    assert torch.equal(nets[0].extractor.embed[1].weight, nets[1].extractor.embed[1].weight)


def test_a_killed_stage_goes_on_as_if_nothing_had_happened(cache, monkeypatch):
    photographs = [torch.randint(256, (3, 120, 120), dtype=torch.uint8) for _ in range(4)]
    c = dataclasses.replace(TINY, extractor_steps=3)

    def run(folder, die_at=None):
        monkeypatch.setattr(dri_stages, "cache_dir", lambda: cache / folder)
        # a checkpoint every step
        monkeypatch.setattr(dri_stages, "fit",
                            lambda stage: fit(dataclasses.replace(stage, round=1)))
        torch.manual_seed(0)
        net = Network(c).extractor
        drawn = iter(range(99))
        monkeypatch.setattr(dri_stages, "grid",
                            lambda *a: 1 / 0 if next(drawn) == die_at else grid(*a))
        history = dri.train_extractor(net, photographs, c)
        return history, net.state_dict()

    fit = dri_stages.fit
    whole, wanted = run("a")
    with pytest.raises(ZeroDivisionError):
        run("b", die_at=2)
    rest, state = run("b")
    assert rest["loss"].tolist() == whole["loss"].tolist() and len(whole) == 3
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_images_that_differ_in_the_middle_have_a_training_of_their_own(cache):
    """Two splits may begin and end with the same photographs: what was trained on the test part of
    one must not be read for the other."""
    photos = [torch.full((3, 120, 120), value, dtype=torch.uint8) for value in range(4)]
    c = dataclasses.replace(TINY, extractor_steps=1)
    for some in (photos[:2] + photos[3:], photos[:1] + photos[2:], photos[:2] + photos[3:]):
        dri.train_extractor(Network(c).extractor, some, c)
    assert len([*(cache / "dri-stages").glob("*.pt")]) == 2


def test_nothing_that_is_tested_is_learnt_from():
    train, val, test = offline(100)
    known = pristine(train, None)
    assert set(known.table["content"]) == set(train.table["content"])
    assert not known.table["image"].duplicated().any()
    assert not set(known.table["image"]) & set(test.table["reference"])
    with pytest.raises(data.DatasetError, match="its images may be in the validation or test part"):
        pristine(train, test)
    whole = pristine(train, data_download.load("offline"))  # an attempt to learn from everything
    assert not set(whole.table["content"]) & {*test.table["content"], *val.table["content"]}
    # under another name, in the same folder
    renamed = dataclasses.replace(data_download.load("offline"), name="other")
    assert not set(pristine(train, renamed).table["content"]) & set(test.table["content"])
    bare = dataclasses.replace(train, card=dataclasses.replace(train.card, reference=False))
    with pytest.raises(data.DatasetError, match="has no references: give pristine images"):
        pristine(bare, None)


def test_an_image_without_its_reference_is_named_before_any_training(cache):
    train, _, _ = offline()
    name = train.table["image"].iloc[3]
    lonely = dataclasses.replace(train, table=train.table.assign(
        reference=train.table["reference"].where(train.table["image"] != name, "")))
    with pytest.raises(data.DatasetError, match=f"{name} has no reference"):
        dri.DRIIQA(TINY).fit(lonely)
    assert not (cache / "dri-stages").exists()


def test_a_set_without_references_trains_with_images_from_elsewhere(cache):
    train, val, test = offline()
    bare = [dataclasses.replace(part, card=dataclasses.replace(part.card, reference=False))
            for part in (train, val)]
    torch.manual_seed(0)
    method = dri.DRIIQA(dataclasses.replace(TINY, epochs=1), pristine(train, None))
    with pytest.warns(UserWarning, match="so the reconstruction loss and RS ratio are left out"):
        method.fit(*bare)
    assert np.isfinite(method.predict(test.subset(range(3)))).all()


def test_the_predictor_alone_needs_no_pristine_images(cache):
    train, val, _ = offline()
    bare = dataclasses.replace(train, card=dataclasses.replace(train.card, reference=False))
    alone = dataclasses.replace(FROZEN, **ALL_OFF, rs="", epochs=1)
    method = dri.DRIIQA(alone).fit(bare)
    assert method.net.extractor is None and not (cache / "dri-stages").exists()
    assert np.allclose(method.predict(val), [method.score(val.image(row)[None]).item()
                                             for row in range(len(val))], atol=1e-3)


def test_views_computed_once_give_the_score_that_the_images_give(cache):
    train, _, _ = offline(12)
    torch.manual_seed(0)
    method = dri.DRIIQA(dataclasses.replace(FROZEN, side=4))
    method.net = net = Network(method.config)
    maps = method.maps(train, references=False)
    net.standardise.measure(maps.image(row) for row in range(len(maps)))
    for name, p in net.predictor.named_parameters():
        if not p.any():  # what is zero at the start
            nn.init.normal_(p, std=0.1)
    net.eval()
    images_ = torch.stack([method.plan.cut(train.image(row)[None])[0, 0] for row in range(len(train))])
    with torch.no_grad():
        of_views = net.head([torch.stack([maps.image(row)[i][0] for row in range(len(train))])
                             for i in range(14)])
        of_images = net(images_)
    assert torch.allclose(of_views, of_images, atol=5e-3) and of_images.std() > 1e-2
    batch = next(iter(frozen_maps.loader(maps, len(train), references=False)))
    values = method.loss(batch)
    assert set(values) == {"loss", "quality", "reconstruction", "rs"}
    assert values["reconstruction"] == 0 and values["rs"] > 0
    assert values["loss"].item() == pytest.approx((values["quality"] + 0.1 * values["rs"]).item())


def test_the_joint_loss_has_its_terms():
    torch.manual_seed(0)
    method = dri.DRIIQA(TINY)
    method.net = net = Network(TINY)
    nn.init.normal_(net.restorer.last.weight, std=0.05)
    x = torch.rand(4, 3, 64, 64)
    values = method.loss({"x": x, "x_ref": x.roll(1, 0), "score": torch.rand(4)})
    assert values["reconstruction"] > 0 and values["rs"] > 0
    assert values["loss"].item() == pytest.approx(
        (values["quality"] + values["reconstruction"] + 0.1 * values["rs"]).item())


class Blur(nn.Module):
    """An encoder of one's own: averages, and a linear map that learns."""

    def __init__(self):
        super().__init__()
        self.channels, self.strides = [4, 5, 6, 7], [4, 8, 16, 32]
        self.maps = nn.ModuleList(nn.Conv2d(3, count, 1) for count in self.channels)

    def forward(self, x):
        means = [nn.functional.avg_pool2d(x, stride) for stride in self.strides]
        return [layer(mean) for layer, mean in zip(self.maps, means)]


@pytest.mark.parametrize("frozen", [True, False])
def test_an_encoder_of_ones_own_is_an_argument(frozen, cache, tmp_path):
    train, _, test = offline(12)
    encoder = Blur()
    config = dataclasses.replace(FROZEN, frozen=frozen, epochs=1, extractor_steps=1,
                                 restorer_steps=1, lr=1e-2)
    method = dri.DRIIQA(config, encoder=encoder).fit(train)
    own = method.net.encoder.net.maps[0].weight
    assert torch.equal(own.cpu(), encoder.maps[0].weight) == frozen
    assert "encoder=Blur" in method.identity["variant"]
    method.save(tmp_path / "own.pt")
    again = dri.DRIIQA.load(tmp_path / "own.pt", encoder=encoder)
    assert np.allclose(again.predict(test), method.predict(test), atol=5e-3)
    with pytest.raises(ValueError, match="blocks"):
        dri.DRIIQA.load(tmp_path / "own.pt")


def test_it_is_saved_and_loaded_and_restores_any_size(cache, tmp_path):
    train, _, _ = offline()
    method = dri.DRIIQA(dataclasses.replace(TINY, epochs=1)).fit(train)
    x = torch.rand(1, 3, 75, 90)
    method.save(tmp_path / "dri.pt")
    again = dri.DRIIQA.load(tmp_path / "dri.pt")
    assert torch.allclose(method.score(x), again.score(x), atol=2e-3)
    restored = method.restore(x)
    assert restored.shape == x.shape and torch.allclose(restored, again.restore(x), atol=2e-3)


@pytest.mark.parametrize("changes, message", [
    ({"guidance": "map"}, "guidance='map' is unknown"),
    ({"interaction": "none"}, "interaction='none' is unknown"),
    ({"rs": "ratio aline"}, "rs='ratio aline' is unknown"),
    ({"crop": 100}, "crop=100 must be a multiple of 32"),
    ({"patch": 72}, "patch=72 and restorer_patch=.* of 16"),
    ({"crop": 0}, "crop=0"),
    ({"patch": 0}, "patch=0"),
    ({"epochs": 0}, "epochs=0"),
    ({"batch": 0}, "batch=0"),
    ({"extractor_steps": 0}, "extractor_steps=0"),
    ({"restorer_steps": -1}, "restorer_steps=-1"),
    ({"lr": -1}, "lr=-1"),
    ({"extractor_lr": 0}, "extractor_lr=0"),
    ({"restorer_lr": float("nan")}, "restorer_lr=nan"),
    ({"width": 100}, "width=100"),
    ({"restorer_width": 7}, "restorer_width=7 must be an even"),
    ({"trunk": ""}, "trunk=''"),
    ({"trunk": (4, 8, 16)}, r"trunk=\(4, 8, 16\) must be four whole numbers"),
    ({"restorer_blocks": (1, 1, 1, 0)}, "restorer_blocks=.* must be four whole numbers"),
    ({"restorer_blocks": 2}, "restorer_blocks=2 must be"),
    ({"temperature": 0}, "temperature=0"),
    ({"contents": 1, "degradations": 1}, "nothing to tell apart"),
    ({"lambda_rs": -0.1}, "lambda_rs=-0.1"),
    ({"assist": "no"}, "assist='no'"),
    ({"rs": None}, "rs=None must be a text"),
    ({"weights": ""}, "weights=''"),
    ({"seed": -1}, "seed=-1"),
    ({"test_crops": 0}, "test_crops=0"),
    ({"encoder": ""}, "frozen=True needs a pretrained encoder"),
    ({"encoder": "", "frozen": False}, "side and spread are about"),
    ({"positions": "all"}, "positions='all' is unknown"),
    ({"readout": "mean"}, "readout='mean' is unknown"),
    ({"optimizer": "sgd"}, "optimizer='sgd' is unknown"),
    ({"clean": 1}, "clean=1 must be"),
    ({"rank": 2}, "rank=2 must be"),
    ({"trunk_rate": -1}, "trunk_rate=-1"),
    ({"joint": True}, "frozen=True trains on what extractor and restorer made once")])
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMOKE, **changes)


@pytest.mark.parametrize("changes, parts, has_extractor, has_restorer", [
    ({}, "ratio align", True, True), ({"assist": False}, "align", True, False),
    ({"assist": False, "rs": "ratio"}, "", True, False), ({"joint": False}, "align", True, True),
    ({"joint": False, "rs": "ratio interact"}, "", True, True),
    ({"rs": "interact align ratio"}, "ratio align interact", True, True),
    ({"lambda_rs": 0.0}, "", True, True), ({**ALL_OFF, "rs": "ratio interact"}, "", False, False),
    ({**ALL_OFF, "rs": "align"}, "align", True, False),
    ({**ALL_OFF, "assist": True, "rs": ""}, "", True, True)], ids=str)
def test_only_what_acts_is_built(changes, parts, has_extractor, has_restorer):
    config = dataclasses.replace(TINY, **SMALL_TRUNK, **changes)
    net = Network(config)
    assert config.rs_parts == tuple(parts.split())
    assert (net.extractor is not None) == config.has_extractor == has_extractor
    assert (net.restorer is not None) == has_restorer
    assert (net.align_projections is not None) == ("align" in parts)
    assert (net.interact_line is not None) == ("interact" in parts)


def test_the_identity_names_what_differs_from_a_preset():
    assert dri.DRIIQA().identity["variant"] == "" == dri.DRIIQA(DRIConfig()).identity["variant"]
    changed = dri.DRIIQA(dataclasses.replace(dri.QUICK, assist=False, width=32)).identity
    assert changed["variant"] == "width=32, assist=False"
    assert changed["hash"] != dri.DRIIQA().identity["hash"]


@pytest.mark.parametrize("rs", ["ratio", "align", "interact", "ratio align interact"])
@pytest.mark.parametrize("changes", [{}, {"assist": False}, {"joint": False}, ALL_OFF], ids=str)
def test_parts_of_the_rs_loss_are_named_where_they_have_a_gradient_and_only_there(rs, changes):
    config = dataclasses.replace(TINY, **SMALL_TRUNK, lambda_rec=0.0, rs=rs, **changes)
    method = dri.DRIIQA(config)
    torch.manual_seed(0)
    method.net = Network(config).train()
    for part in (method.net.extractor, method.net.restorer):
        if part is not None:
            part.requires_grad_(config.joint)
    loss_alone = ("align_projections.", "interact_line.")
    gradients = []
    x = torch.rand(4, 3, 64, 64)
    batch = {"x": x, "x_ref": x.roll(1, 0), "score": torch.tensor([0.1, 0.4, 0.6, 0.9])}
    for lambda_rs in (config.lambda_rs, 0.0):
        method.config = dataclasses.replace(config, lambda_rs=lambda_rs)
        method.net.zero_grad()
        torch.manual_seed(1)  # dropout
        method.loss(batch)["loss"].backward()
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone()
                          for name, p in method.net.named_parameters()
                          if not name.startswith(loss_alone)])
    assert all(map(torch.equal, *gradients)) == (config.rs_parts == ())


@pytest.mark.parametrize("changes, words", [
    ({"trunk": "test_vit"}, r"strides \[16, 16, 16\]; the extractor needs four that double"),
    ({"trunk": "maxvit_nano_rw_256"}, "cannot take 64 x 64 pixels.*crop=256"),
    ({"trunk": "test_convnext", "patch": 48},
     "patch=48 must be a multiple of 32, 8 x the finest stride of test_convnext"),
    ({"encoder": "test_vit"}, "test_vit has 3 maps, and 4 are needed"),
    ({"encoder": "coatnet_nano_rw_224"}, "coatnet_nano_rw_224 cannot take 64 x 64.*crop=224"),
    ({"encoder": "nasnetalarge"}, "nasnetalarge makes maps of"),
    ({"encoder": "resnet5O"}, "no model 'resnet5O'")])
def test_a_backbone_that_does_not_fit_is_refused_before_any_training(changes, words, cache):
    train, _, _ = offline()
    with pytest.raises(ValueError, match=words):
        dri.DRIIQA(dataclasses.replace(TINY, **changes)).fit(train)
    assert not (cache / "dri-stages").exists()


def test_without_a_restoration_network_nothing_is_restored():
    method = dri.DRIIQA(dataclasses.replace(TINY, **SMALL_TRUNK, assist=False))
    method.net = Network(method.config)
    with pytest.raises(ValueError, match="assist=False has no restoration network"):
        method.restore(torch.rand(1, 3, 40, 40))


def test_every_setting_says_where_it_comes_from():
    for source in settings.table(DRIConfig())["source"]:
        assert source.split(",")[0] in ("paper", "ours")


def test_restoration_learns_to_take_noise_away(cache):
    """On an image that it has not seen, after 80 steps with noise alone."""
    photos = [*Uint8Images(pristine(data_download.load("offline"), None))][:7]
    c = dataclasses.replace(SMOKE, restorer_steps=80, restorer_lr=3e-3, extractor_steps=10)
    torch.manual_seed(0)
    net = Network(c)
    only = pytest.MonkeyPatch()
    only.setattr(dri_stages, "sequences", lambda count, *how: [[(11, 4)]] * count)
    dri.train_extractor(net.extractor, photos[:6], c)
    dri.train_restorer(net.restorer, net.extractor, photos[:6], c)
    only.undo()
    x_ref = photos[6][None, :, :128, :128].float() / 255
    x = distort(x_ref, 11, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, g, guides = net.extractor(x)
        restored = net.restorer(x, g, guides)[0].clamp(0, 1)
    assert metrics.psnr(restored, x_ref) > metrics.psnr(x, x_ref) + 1


# --- networks that come with the kit ------------------------------------------------------------

def test_the_parts_of_this_kit_are_small_and_shared_by_all_trainings():
    assert dri_stages.SHIPPED.stat().st_size < 3e6
    torch.manual_seed(0)
    first = Network(dri.QUICK)
    torch.manual_seed(1)
    other = Network(dataclasses.replace(dri.QUICK, interaction="add", rs=""))
    for part in ("extractor", "restorer"):
        states = [getattr(net, part).state_dict() for net in (first, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_set_from_which_the_parts_learned_is_refused():
    train, _, _ = offline(12)
    with pytest.raises(data.DatasetError, match="learned from cid22, so they may have seen"):
        dri.DRIIQA(SMOKE).fit(dataclasses.replace(train, name="cid22"))


@pytest.mark.parametrize("changes, message", [
    ({"split": False}, "have split=True, not False. Set parts='' to train others"),
    ({"restorer_width": 8}, "have restorer_width=12, not 8"),
    ({"parts": "none.pt"}, "none.pt: cannot be read as weights")])
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Network(dataclasses.replace(SMOKE, **changes))


def test_images_have_no_effect_where_the_parts_are_there():
    with pytest.raises(ValueError, match="images have no effect"):
        dri.DRIIQA(dri.QUICK, images=data_download.load("offline"))


def test_saved_parts_are_read_again(tmp_path):
    config = dataclasses.replace(FROZEN, trunk=(4, 8, 16, 32))
    net = Network(config)
    path = tmp_path / "parts.pt"
    dri.save_parts(path, net.extractor, net.restorer, data_download.load("offline"), config)
    again = Network(dataclasses.replace(config, seed=1, parts=str(path)))
    for part in ("extractor", "restorer"):
        mine, theirs = (getattr(one, part).state_dict() for one in (net, again))
        assert all(torch.allclose(mine[name].float(), theirs[name].float(), atol=1e-3)
                   for name in mine)
