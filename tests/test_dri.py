"""DRI-IQA: the extractor and its relations, guided blocks, restoration, the predictor, and the leak guard."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from iqa_core import data, dri, metrics, settings
from iqa_core.reiqa_pretrain import Pictures
from iqa_core.distortions import distort
from iqa_core.dri import SMOKE, DRIConfig, Network, align, interact, pristine, ratio
from iqa_core.dri_extractor import GROUPS, contrast, correlation, degrade, grid, relations, sequences
from iqa_core.dri_predictor import Head
from iqa_core.dri_restorer import Guided, Restorer

TINY = dataclasses.replace(SMOKE, weights="random", steps=4, restore_steps=4, epochs=2, batch=8)


def two_by_two_by_two():
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    return relations(labels[:, 0], labels[:, 1])


def offline(count=60):
    return data.splits(data.load("offline").thin(count), 0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own: what other runs have trained does not count."""
    data.load("offline")  # made in the usual cache, whose folder it goes on naming
    monkeypatch.setattr(dri, "cache_dir", lambda: tmp_path)
    return tmp_path


# --- stage 1 ------------------------------------------------------------------------------------------------------

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
    wanted = [-(likeness[a, quality[a]] - likeness[a, torch.arange(8) != a].logsumexp(0)).item() for a in range(8)]
    assert contrast(z, quality, 0.1).item() == pytest.approx(sum(wanted) / 8, rel=1e-5)


def test_correlation_is_one_for_copies_and_near_zero_for_strangers():
    torch.manual_seed(0)
    q = torch.randn(2000, 1)
    assert correlation(q, -3 * q).item() == pytest.approx(1, abs=1e-4)
    assert correlation(q, torch.randn(2000, 1)).item() < 0.01


def test_a_sequence_takes_each_group_once_and_prefers_mild_levels():
    found = sequences(400, torch.Generator().manual_seed(0))
    group = {kind: number for number, kinds in enumerate(GROUPS) for kind in kinds}
    assert sorted(group) == list(range(1, 26))
    for one in found:
        assert 1 <= len(one) <= 4 and len({group[kind] for kind, _ in one}) == len(one)
    levels = np.bincount([level for one in found for _, level in one], minlength=6)[1:]
    assert (np.diff(levels) < 0).all()
    even = sequences(400, torch.Generator().manual_seed(0), spread=np.inf)
    assert min(np.bincount([level for one in even for _, level in one], minlength=6)[1:]) > 150
    assert {len(one) for one in sequences(50, torch.Generator().manual_seed(0), most=1)} == {1}


def test_a_sequence_is_applied_in_order_and_only_to_its_picture():
    x = torch.rand(2, 3, 40, 40)
    y = degrade(x, [[(1, 5), (17, 3)], [(17, 3)]], torch.Generator().manual_seed(0))
    blurred = distort(x[:1], 1, 5)
    assert torch.allclose(y[:1], distort(blurred, 17, 3)) and torch.allclose(y[1:], distort(x[1:], 17, 3))


def test_in_the_grid_equal_labels_are_crops_of_one_distorted_picture():
    photo = torch.arange(120, dtype=torch.uint8).repeat(3, 120, 1)  # a ramp, so that all crops of a picture differ
    x, contents, degradations = grid([photo, 255 - photo], 2, 32, torch.Generator().manual_seed(3))
    again, *_ = grid([photo, 255 - photo], 2, 32, torch.Generator().manual_seed(3))
    assert torch.equal(x, again) and len(x) == 8
    assert not torch.allclose(x[0], x[1])  # two places
    assert not torch.allclose(x[0], x[2])  # two degradations
    assert contents.tolist() == [0] * 4 + [1] * 4 and degradations.tolist() == [0, 0, 1, 1] * 2


def test_a_picture_smaller_than_a_pair_is_mirrored():
    small = torch.randint(256, (3, 40, 33), dtype=torch.uint8)
    assert grid([small], 2, 64, torch.Generator().manual_seed(0))[0].shape == (4, 3, 64, 64)


# --- blocks -------------------------------------------------------------------------------------------------------

def test_a_fresh_guided_block_is_a_plain_one_and_a_trained_one_listens():
    torch.manual_seed(0)
    block, x = Guided(16, 4, vector=6, guide=5), torch.randn(2, 16, 8, 8)
    plain = Guided(16, 4)
    plain.load_state_dict({key: value for key, value in block.state_dict().items() if key in plain.state_dict()})
    inputs = [(torch.randn(2, 6), torch.randn(2, 5, 16, 16)) for _ in range(2)]
    assert torch.equal(block(x, *inputs[0]), plain(x)) and torch.equal(block(x, *inputs[1]), plain(x))
    nn.init.normal_(block.listen[-1].weight)
    assert not torch.allclose(block(x, *inputs[0]), block(x, inputs[1][0], inputs[0][1]), atol=1e-3)
    nn.init.normal_(block.project.weight)
    assert not torch.allclose(block(x, *inputs[0]), block(x, inputs[0][0], inputs[1][1]), atol=1e-3)


def test_the_attention_is_between_channels():
    """Without the depth-wise convolutions nothing knows where a place is: places may change their order."""
    torch.manual_seed(0)
    block, x, order = Guided(8, 2), torch.randn(1, 8, 4, 4), torch.randperm(16)
    for maps in (block.query, block.keys, block.up):
        maps[1] = nn.Identity()
    shuffled = x.flatten(2)[..., order].view_as(x)
    assert torch.allclose(block(shuffled).flatten(2), block(x).flatten(2)[..., order], atol=1e-5)


@pytest.mark.parametrize("guidance", ["tgb", "add", "none"])
def test_guidance_reaches_the_restored_picture_or_not(guidance):
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


@pytest.mark.parametrize("trunk, fold, length", [((8, 16, 32, 64), 1, 32), ("tf_efficientnet_lite0", 2, 64)])
def test_shapes_with_a_new_and_a_trained_trunk(trunk, fold, length):
    net = Network(dataclasses.replace(TINY, trunk=trunk)).eval()
    q, g, maps = net.extractor(torch.rand(2, 3, 64, 96))
    assert q.shape == g.shape == (2, length)
    assert [m.shape[-2:] for m in maps] == [(64 // fold // 2**i, 96 // fold // 2**i) for i in range(4)]
    score, restored, _, features = net.look(torch.rand(2, 3, 64, 96))
    assert score.shape == (2,) and restored.shape == (2, 3, 64, 96) and features.shape == (2, TINY.width // 2)


def test_weights_that_vanish_leave_a_finite_score():
    head = Head(8).eval()
    nn.init.constant_(head.weight[-1].bias, -1e4)
    assert head(torch.rand(2, 8, 4, 4)).isfinite().all()


# --- losses -------------------------------------------------------------------------------------------------------

def test_ratio_is_near_over_far():
    zero, one, three = ([torch.full((2, 4), value)] * 2 for value in (0.0, 1.0, 3.0))
    assert ratio(one, zero, three).item() == pytest.approx(0.5, rel=1e-5)  # 1 from the reference, 2 from the degraded
    assert ratio(zero, zero, three).item() == 0


def test_align_is_zero_where_the_features_point_as_the_vectors_do():
    pull, q = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2)), torch.randn(3, 4)
    for w in pull:
        nn.init.eye_(w.weight)
    assert align(q, (2 * q, 5 * q), pull).item() == pytest.approx(0, abs=1e-5)
    assert align(q, (-q, q), pull).item() == pytest.approx(2, abs=1e-5)


def test_interact_punishes_the_wrong_order_alone():
    mos = torch.tensor([0.1, 0.5, 0.55])
    assert interact(torch.tensor([0.0, 1.0, 2.0]), mos).item() == 0
    assert interact(torch.tensor([1.0, 0.0, 0.0]), mos).item() == pytest.approx(1.1)
    assert interact(torch.tensor([0.0, 0.0, 9.0]), torch.full((3,), 0.5)).item() == 0  # nobody is apart


@pytest.mark.parametrize("changes", [{}, {"split": False}, {"quality": False}, {"degradation": False}, {"assist": False},
                                     {"guidance": "add"}, {"guidance": "none"}, {"interaction": "add"}, {"encoder": "", "trunk": (8, 16, 32, 64)},
                                     {"rs": "ratio align interact"},
                                     {"quality": False, "degradation": False, "assist": False, "rs": ""}])
def test_every_parameter_learns_in_one_of_the_stages(changes, cache):
    torch.manual_seed(0)
    method = dri.DRIIQA(dataclasses.replace(TINY, steps=1, restore_steps=1, **changes))
    method.net = Network(method.config)
    method.source = [torch.randint(256, (3, 120, 120), dtype=torch.uint8) for _ in range(4)]
    before = {name: p.clone() for name, p in method.net.named_parameters()}
    learner = method.learner()
    method.net.train()
    x = torch.rand(4, 3, 64, 64)
    for _ in range(3):  # what begins at zero lets others learn only from the second step on
        loss = method.loss({"x": x, "x_ref": x.roll(1, 0), "score": torch.rand(4)})
        learner.zero_grad()
        loss.backward()
        learner.step()
    assert not [name for name, p in method.net.named_parameters() if torch.equal(p, before[name])]


# --- the method ---------------------------------------------------------------------------------------------------

def test_frozen_parts_stay_as_their_stages_left_them(cache):
    train, val, _ = offline()
    torch.manual_seed(0)
    method = dri.DRIIQA(dataclasses.replace(TINY, joint=False)).fit(train, val)
    torch.manual_seed(0)
    net = Network(method.config)
    pictures = [*Pictures(pristine(train, None))]
    dri.train_extractor(net.extractor, pictures, method.config)  # read from the cache
    dri.train_restorer(net.restorer, net.extractor, pictures, method.config)
    for part in ("extractor", "restorer"):
        for mine, theirs in zip(getattr(method.net, part).state_dict().values(), getattr(net, part).state_dict().values()):
            assert torch.equal(mine, theirs)


def test_joint_training_moves_extractor_and_restorer_but_no_running_statistics(cache):
    train, _, _ = offline()
    torch.manual_seed(0)
    method = dri.DRIIQA(TINY).fit(train)
    torch.manual_seed(0)
    net = Network(TINY)
    dri.train_extractor(net.extractor, [*Pictures(pristine(train, None))], TINY)
    mine, theirs = method.net.extractor.state_dict(), net.extractor.state_dict()
    moved = {key.split(".")[-1] for key in mine if not torch.equal(mine[key], theirs[key])}
    assert "weight" in moved and not moved & {"running_mean", "running_var"}


def test_ablations_share_what_was_trained_before_and_the_order_does_not_matter(cache):
    train, _, _ = offline()
    nets = []
    for changes in ({}, {"rs": "", "quality": False}):
        torch.manual_seed(1)
        method = dri.DRIIQA(dataclasses.replace(TINY, epochs=1, joint=False, **changes)).fit(train)
        nets.append(method.net)
    assert len([*(cache / "dri-stages").glob("*.pt")]) == 2  # one extractor, one restorer
    assert torch.equal(nets[0].extractor.embed[1].weight, nets[1].extractor.embed[1].weight)


def test_a_killed_stage_goes_on_as_if_nothing_had_happened(cache, monkeypatch):
    pictures = [torch.randint(256, (3, 120, 120), dtype=torch.uint8) for _ in range(4)]
    c = dataclasses.replace(TINY, steps=3)

    def run(folder, die_at=None):
        monkeypatch.setattr(dri, "cache_dir", lambda: cache / folder)
        monkeypatch.setattr(dri, "fit", lambda *a, **more: fit(*a[:5], 1, *a[6:], **more))  # a checkpoint every step
        torch.manual_seed(0)
        net = Network(c).extractor
        drawn = iter(range(99))
        monkeypatch.setattr(dri, "grid", lambda *a: 1 / 0 if next(drawn) == die_at else grid(*a))
        history = dri.train_extractor(net, pictures, c)
        return history, net.state_dict()

    fit = dri.fit
    whole, wanted = run("a")
    with pytest.raises(ZeroDivisionError):
        run("b", die_at=2)
    rest, found = run("b")
    assert rest["loss"].tolist() == whole["loss"].tolist() and len(whole) == 3
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_pictures_that_differ_in_the_middle_have_a_training_of_their_own(cache):
    """Two splits may well begin and end with the same photographs: the test part of one must not be read for the other."""
    photos = [torch.full((3, 120, 120), value, dtype=torch.uint8) for value in range(4)]
    c = dataclasses.replace(TINY, steps=1)
    for pictures in (photos[:2] + photos[3:], photos[:1] + photos[2:], photos[:2] + photos[3:]):
        dri.train_extractor(Network(c).extractor, pictures, c)
    assert len([*(cache / "dri-stages").glob("*.pt")]) == 2


def test_nothing_that_is_tested_is_learnt_from():
    train, val, test = offline(100)
    known = pristine(train, None)
    assert set(known.table["content"]) == set(train.table["content"]) and not known.table["image"].duplicated().any()
    assert not set(known.table["image"]) & set(test.table["reference"])
    with pytest.raises(data.DatasetError, match="all its pictures may be in the validation or test part"):
        pristine(train, test)
    whole = pristine(train, data.load("offline"))  # an attempt to learn from everything
    assert not set(whole.table["content"]) & (set(test.table["content"]) | set(val.table["content"]))
    renamed = dataclasses.replace(data.load("offline"), name="other")  # under another name, in the same folder
    assert not set(pristine(train, renamed).table["content"]) & set(test.table["content"])
    bare = dataclasses.replace(train, card=dataclasses.replace(train.card, reference=False))
    with pytest.raises(data.DatasetError, match="has no references: give pristine pictures"):
        pristine(bare, None)


def test_an_image_without_its_reference_is_named_before_any_training(cache):
    train, _, _ = offline()
    name = train.table["image"].iloc[3]
    lonely = dataclasses.replace(train, table=train.table.assign(
        reference=train.table["reference"].where(train.table["image"] != name, "")))
    with pytest.raises(data.DatasetError, match=f"{name} has no reference"):
        dri.DRIIQA(TINY).fit(lonely)
    assert not (cache / "dri-stages").exists()


def test_a_set_without_references_trains_with_pictures_from_elsewhere(cache):
    train, val, test = offline()
    bare = [dataclasses.replace(part, card=dataclasses.replace(part.card, reference=False)) for part in (train, val)]
    torch.manual_seed(0)
    method = dri.DRIIQA(dataclasses.replace(TINY, epochs=1), pristine(train, None))
    with pytest.warns(UserWarning, match="has no references, so the reconstruction loss and RS ratio are left out"):
        method.fit(*bare)
    assert np.isfinite(method.predict(test.subset(range(3)))).all()


def test_the_predictor_alone_needs_no_pristine_pictures(cache):
    train, val, _ = offline()
    bare = dataclasses.replace(train, card=dataclasses.replace(train.card, reference=False))
    alone = dataclasses.replace(TINY, quality=False, degradation=False, assist=False, rs="", epochs=1)
    method = dri.DRIIQA(alone).fit(bare)
    assert method.variant == "predictor alone" and method.net.extractor is None and not (cache / "dri-stages").exists()


def test_it_is_saved_and_loaded_and_restores_any_size(cache, tmp_path):
    train, _, _ = offline()
    method = dri.DRIIQA(dataclasses.replace(TINY, epochs=1)).fit(train)
    x = torch.rand(1, 3, 75, 90)
    method.save(tmp_path / "dri.pt")
    again = dri.DRIIQA.load(tmp_path / "dri.pt")
    assert torch.allclose(method.score(x), again.score(x), atol=2e-3)
    assert method.restore(x).shape == x.shape and torch.allclose(method.restore(x), again.restore(x), atol=2e-3)


@pytest.mark.parametrize("changes, message", [({"guidance": "map"}, "guidance='map' is unknown"),
                                              ({"interaction": "none"}, "interaction='none' is unknown"),
                                              ({"rs": "ratio aline"}, "rs='ratio aline' is unknown"),
                                              ({"crop": 100}, "crop=100 must be a multiple of 32"),
                                              ({"patch": 72}, "patch=72 of 16"), ({"crop": 0}, "crop=0"), ({"patch": 0}, "patch=0"),
                                              ({"epochs": 0}, "epochs=0"), ({"batch": 0}, "batch=0"), ({"steps": 0}, "steps=0"),
                                              ({"restore_steps": -1}, "restore_steps=-1"), ({"lr": -1}, "lr=-1"),
                                              ({"lr1": 0}, "lr1=0"), ({"lr2": float("nan")}, "lr2=nan"), ({"width": 100}, "width=100"),
                                              ({"restorer": 7}, "restorer=7 must be an even"), ({"trunk": ""}, "trunk=''"),
                                              ({"trunk": (4, 8, 16)}, r"trunk=\(4, 8, 16\) must be four whole numbers"),
                                              ({"blocks": (1, 1, 1, 0)}, "blocks=.* must be four whole numbers"),
                                              ({"blocks": 2}, "blocks=2 must be"), ({"temperature": 0}, "temperature=0"),
                                              ({"contents": 1, "degradations": 1}, "nothing to tell apart"),
                                              ({"lambda_rs": -0.1}, "lambda_rs=-0.1"), ({"assist": "no"}, "assist='no'"),
                                              ({"rs": None}, "rs=None must be a text"), ({"weights": ""}, "weights=''"),
                                              ({"seed": -1}, "seed=-1"), ({"test_crops": 0}, "test_crops=0")])
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMOKE, **changes)


ALL_OFF = {"quality": False, "degradation": False, "assist": False}


@pytest.mark.parametrize("changes, variant", [
    ({}, "q + g + restoration, tgb, RS ratio align"), ({"assist": False}, "q + g, tgb, RS align"),
    ({"assist": False, "rs": "ratio"}, "q + g, tgb"), ({"joint": False}, "q + g + restoration, tgb, RS align, frozen"),
    ({"joint": False, "rs": "ratio interact"}, "q + g + restoration, tgb, frozen"),
    ({"rs": "interact align ratio"}, "q + g + restoration, tgb, RS ratio align interact"),
    ({"lambda_rs": 0.0}, "q + g + restoration, tgb"), ({"assist": False, "guidance": "add"}, "q + g, tgb, RS align"),
    ({"guidance": "add"}, "q + g + restoration, tgb, restorer add, RS ratio align"),
    ({**ALL_OFF, "rs": "ratio interact"}, "predictor alone"), ({**ALL_OFF, "rs": "ratio", "split": False, "joint": False}, "predictor alone"),
    ({**ALL_OFF, "rs": "align"}, "predictor alone, RS align"),
    ({**ALL_OFF, "assist": True, "interaction": "add", "rs": ""}, "restoration"),
    ({**ALL_OFF, "assist": True, "rs": ""}, "restoration, tgb"), ({**ALL_OFF, "quality": True, "interaction": "add", "rs": ""}, "q, add")])
def test_a_variant_names_what_acts_and_nothing_else(changes, variant):
    config = dataclasses.replace(TINY, trunk=(4, 8, 16, 32), encoder="", **changes)
    method = dri.DRIIQA(config)
    assert method.variant == variant
    net = Network(config)
    assert (net.extractor is None) == (variant == "predictor alone") and (net.restorer is not None) == ("restoration" in variant)
    assert (net.pull is not None) == ("align" in variant) and (net.order is not None) == ("interact" in variant)


@pytest.mark.parametrize("rs", ["ratio", "align", "interact", "ratio align interact"])
@pytest.mark.parametrize("changes", [{}, {"assist": False}, {"joint": False}, ALL_OFF], ids=str)
def test_parts_of_the_rs_loss_are_named_where_they_have_a_gradient_and_only_there(rs, changes):
    config = dataclasses.replace(TINY, trunk=(4, 8, 16, 32), encoder="", lambda_rec=0.0, rs=rs, **changes)
    method = dri.DRIIQA(config)
    torch.manual_seed(0)
    method.net = Network(config).train()
    for part in (method.net.extractor, method.net.restorer):
        if part is not None:
            part.requires_grad_(config.joint)
    head = ("pull.", "order.")  # serve the loss alone
    gradients = []
    x = torch.rand(4, 3, 64, 64)
    batch = {"x": x, "x_ref": x.roll(1, 0), "score": torch.tensor([0.1, 0.4, 0.6, 0.9])}
    for lambda_rs in (config.lambda_rs, 0.0):
        method.config = dataclasses.replace(config, lambda_rs=lambda_rs)
        method.net.zero_grad()
        torch.manual_seed(1)  # dropout
        method.loss(batch).backward()
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone()
                          for name, p in method.net.named_parameters() if not name.startswith(head)])
    assert all(map(torch.equal, *gradients)) == (config.rs_parts == ())


@pytest.mark.parametrize("changes, words", [
    ({"trunk": "test_vit"}, r"strides \[16, 16, 16\]; the extractor needs four that double"),
    ({"trunk": "maxvit_nano_rw_256"}, "cannot take 64 x 64 pixels.*crop=256"),
    ({"trunk": "test_convnext", "patch": 48}, "patch=48 must be a multiple of 32, 8 x the finest stride of test_convnext"),
    ({"encoder": "test_vit"}, r"strides \[16, 16, 16\]; the predictor needs 8, 16 and 32"),
    ({"encoder": "coatnet_nano_rw_224"}, "coatnet_nano_rw_224 cannot take 64 x 64.*crop=224"),
    ({"encoder": "nasnetalarge"}, "nasnetalarge makes maps of"), ({"encoder": "resnet5O"}, "no model 'resnet5O'")])
def test_a_backbone_that_does_not_fit_is_refused_before_any_training(changes, words, cache):
    train, _, _ = offline()
    with pytest.raises(ValueError, match=words):
        dri.DRIIQA(dataclasses.replace(TINY, **changes)).fit(train)
    assert not (cache / "dri-stages").exists()


def test_without_a_restoration_network_nothing_is_restored():
    method = dri.DRIIQA(dataclasses.replace(TINY, trunk=(4, 8, 16, 32), encoder="", assist=False))
    method.net = Network(method.config)
    with pytest.raises(ValueError, match="assist=False has no restoration network"):
        method.restore(torch.rand(1, 3, 40, 40))


def test_every_setting_says_where_it_comes_from():
    for source in settings.table(DRIConfig())["source"]:
        assert source.split(",")[0] in ("paper", "ours")


def test_restoration_learns_to_take_noise_away(cache):
    """On a picture that it has not seen, after 150 steps with noise alone."""
    photos = [*Pictures(pristine(data.load("offline"), None))][:7]
    c = dataclasses.replace(SMOKE, restore_steps=150, lr2=7e-3, steps=20)
    torch.manual_seed(0)
    net = Network(c)
    only = pytest.MonkeyPatch()
    only.setattr(dri, "sequences", lambda count, *how: [[(11, 4)]] * count)
    dri.train_extractor(net.extractor, photos[:6], c)
    dri.train_restorer(net.restorer, net.extractor, photos[:6], c)
    only.undo()
    x_ref = photos[6][None, :, :128, :128].float() / 255
    x = distort(x_ref, 11, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, g, guides = net.extractor(x)
        restored = net.restorer(x, g, guides)[0].clamp(0, 1)
    assert metrics.psnr(restored, x_ref) > metrics.psnr(x, x_ref) + 1
