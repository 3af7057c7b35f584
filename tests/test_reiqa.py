"""Re-IQA: positive pairs, the loss, momentum and queue, pretraining that survives a kill, and the regression."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import nn

from data_download.made import offline
from iqa_core import (
    backbones, data, evaluate, features, hardware, images, metrics, reiqa, reiqa_pairs, reiqa_pretrain, score, settings)
from iqa_core.reiqa_experts import knn_accuracy, network, probe, save_expert
from iqa_core.reiqa_pretrain import MoCo, Uint8Images, info_nce, pretrain
from iqa_core.distortions import TYPES
from iqa_core.reiqa_pairs import QUICK, SMOKE, PretrainConfig, make_pairs, pair_offsets, swap
from iqa_core.reiqa import ReIQA, ReIQAConfig

TINY = dataclasses.replace(SMOKE, backbone="test_efficientnet", weights="random", crop=32, queue=64, batch=2, epochs=3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 4) -> list[torch.Tensor]:
    return [images.to_uint8(offline.photograph(name)) for name in list(offline.PHOTOGRAPHS)[:count]]


def ramp() -> torch.Tensor:
    """(3, 256, 256) uint8: red is the row, green the column, so that a crop tells where it was cut."""
    row = torch.arange(256, dtype=torch.uint8)
    return torch.stack([row[:, None].expand(256, 256), row.expand(256, 256), torch.zeros(256, 256, dtype=torch.uint8)])


# --- pairs ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [48, 96, 160])
def test_offsets_follow_the_rule(size):
    y, x = pair_offsets(10_000, size, (0.1, 0.3), generator()).T
    share = (size - y) * (size - x) / size**2
    assert share.min() >= 0.1 and share.max() <= 0.3
    if size == 160:  # the ranges that follow from the official code
        assert (y.min(), y.max(), x.min()) == (112, 143, 0) and 100 <= x.max() <= 105
        assert share.mean() == pytest.approx(0.153, abs=0.003) and share.median() == pytest.approx(0.140, abs=0.003)


def test_crops_overlap_as_drawn():
    config, seen = dataclasses.replace(QUICK, crop=64, types_per_image=1), []
    for seed in range(40):
        pairs = make_pairs([ramp()], config, generator(seed))
        # version 0 is pristine; its crops are swapped at full scale (pair 0) and not at half scale (pair 2)
        lower, upper = ((255 * crop[0, :2]).round().long() for crop in (pairs.queries, pairs.keys))
        assert all((crop.diff(dim=dim)[axis] == (dim == axis + 1)).all()
                   for crop in (lower, upper) for axis in (0, 1) for dim in (1, 2) if dim == axis + 1)
        places = [set(map(tuple, crop.flatten(1).T.tolist())) for crop in (lower, upper)]
        seen.append(len(places[0] & places[1]) / 64**2)
        assert lower[0, 0, 0] > upper[0, 0, 0]
        first, second = 255 * pairs.queries[2, :2, 0, 0], 255 * pairs.keys[2, :2, 0, 0]
        down, right = ((second - first) / 2.01).tolist()  # pixels lie two apart at half scale
        assert 0.09 < (1 - down / 64) * (1 - right / 64) < 0.32 and down > 0
    assert min(seen) >= 0.1 and max(seen) <= 0.3 and max(seen) - min(seen) > 0.08


def test_both_crops_come_from_one_distorted_picture():
    config = dataclasses.replace(QUICK, crop=64, swap="off", half_scale=False)
    offset_y, offset_x = pair_offsets(1, 64, config.overlap, generator(3))[0].tolist()
    pairs = make_pairs(photos(2), config, generator(3))
    assert pairs.queries.shape == (24, 3, 64, 64)
    # where they overlap they are equal to the last bit, noise included
    assert torch.equal(pairs.queries[..., offset_y:, offset_x:], pairs.keys[..., :64 - offset_y, :64 - offset_x])
    for picture in (0, 1):
        mine = pairs.images == picture
        kinds, levels = pairs.types[mine], pairs.levels[mine]
        assert kinds.unique().numel() == 12 and kinds[0] == levels[0] == 0
        assert levels[1:].min() >= 1 and levels[1:].max() <= 5
    changed = [not torch.equal(query, pairs.queries[0]) for query in pairs.queries[1:12]]
    assert sum(changed) >= 9  # a few cells of the bank change nothing


def test_pairs_are_the_same_on_every_run_for_all_sizes():
    pictures = [photos(1)[0], photos(2)[1][:, :90, :70], photos(3)[2][:, :, :200]]
    config = dataclasses.replace(QUICK, crop=64)
    one, two, other = (make_pairs(pictures, config, generator(seed)) for seed in (0, 0, 1))
    assert one.queries.shape == one.keys.shape == (72, 3, 64, 64) and len(one.types) == 72
    assert all(map(torch.equal, one, two)) and not torch.equal(one.queries, other.queries)
    assert 0 <= min(one.queries.min(), one.keys.min()) and max(one.queries.max(), one.keys.max()) <= 1
    assert pictures[1].shape == (3, 90, 70) and one.images.bincount().tolist() == [24, 24, 24]


def test_a_clean_swap_exchanges_whole_crops_and_nothing_else():
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    once = swap(a, b)
    assert torch.equal(once[0], b) and torch.equal(once[1], a)
    assert all(map(torch.equal, swap(*once), (a, b))) and all(map(torch.equal, swap(a, b, "off"), (a, b)))
    configs = [dataclasses.replace(QUICK, crop=48, swap=how) for how in ("clean", "off")]
    clean, off = (make_pairs(photos(1), config, generator(5)) for config in configs)
    for i in range(24):
        exchanged = i < 6 or i >= 18  # the first half at full scale, the other half at half scale
        first, second = (off.keys, off.queries) if exchanged else (off.queries, off.keys)
        assert torch.equal(clean.queries[i], first[i]) and torch.equal(clean.keys[i], second[i])


def test_the_aliased_swap_spoils_twice_the_overlap():
    for down, right in pair_offsets(20, 160, (0.1, 0.3), generator()).tolist():
        region = torch.rand(160 + down, 160 + right, generator=generator(1), dtype=torch.float64)
        a, b = region[:160, :160], region[down:, right:]
        wanted = b.clone(), a.clone()
        wrong = [(~torch.isclose(x, y)).double().mean().item() for x, y in zip(swap(a, b, "aliased"), wanted)]
        overlap = (160 - down) * (160 - right) / 160**2
        assert wrong == pytest.approx([2 * overlap, overlap], abs=1e-3)
    a, b = torch.rand(4), torch.rand(4)  # without an overlap it is right
    wanted = b.clone(), a.clone()
    assert all(map(torch.allclose, swap(a, b, "aliased"), wanted))
    spoilt = make_pairs(photos(1), dataclasses.replace(QUICK, crop=48, swap="aliased"), generator())
    assert spoilt.queries[:6].min() < 0 and spoilt.queries[6:12].min() >= 0


# --- MoCo -------------------------------------------------------------------------------------------------------

def test_info_nce_has_its_closed_forms():
    axes = torch.eye(20)
    q, k, queue = axes[:3], axes[3:6], axes[6:]
    assert info_nce(q, k, queue).item() == pytest.approx(math.log(len(queue) + 1))  # nothing is like anything
    assert info_nce(q, q, queue, 0.2).item() == pytest.approx(math.log1p(len(queue) * math.exp(-1 / 0.2)))
    assert info_nce(q, q, None, 0.5).item() == pytest.approx(math.log1p(2 * math.exp(-1 / 0.5)))


def test_in_batch_negatives_leave_out_the_own_positive_only():
    q, k = (F.normalize(torch.randn(5, 8, generator=generator(seed)), dim=1) for seed in (0, 1))
    losses = []
    for i in range(5):
        e = [math.exp(float(q[i] @ k[j]) / 0.2) for j in range(5)]
        losses.append(-math.log(e[i] / sum(e)))  # e[i] once; all others, also of the same picture, are negatives
    assert info_nce(q, k, None, 0.2).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_key_encoder_follows_and_keeps_its_own_statistics():
    model = MoCo(TINY).train()
    with torch.no_grad():
        for value in model.query.state_dict().values():  # weights and running statistics
            value.add_(torch.randn(value.shape)) if value.is_floating_point() else None
    before = {name: value.clone() for name, value in model.key.state_dict().items()}
    model.follow(0.9)
    fast, names = model.query.state_dict(), {name for name, _ in model.key.named_parameters()}
    for name, value in model.key.state_dict().items():
        wanted = 0.9 * before[name] + 0.1 * fast[name] if name in names else before[name]
        assert torch.allclose(value, wanted, atol=1e-6), name
    assert names < set(before)  # so there were statistics, and they stayed
    model(torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32))
    mean = next(name for name in before if name.endswith("running_mean"))
    assert not torch.equal(model.key.state_dict()[mean], before[mean])  # it uses its own batch


def test_the_queue_is_first_in_first_out():
    model = MoCo(dataclasses.replace(TINY, queue=60))
    rows = torch.arange(100.0)[:, None].expand(100, TINY.dim)
    for start in (0, 25, 50, 75):
        model.enqueue(rows[start:start + 25])
    assert sorted(model.queue[:, 0].tolist()) == list(range(40, 100))
    assert model.queue[int(model.position), 0] == 40  # the oldest is the next to go


@pytest.mark.parametrize("length, counts", [(60, [25, 61, 7]), (60, [60]), (60, [120]), (7, [120, 3, 120]), (16, [5, 30, 16]),
                                            (1, [1, 5]), (60, [0, 3])])
def test_the_queue_keeps_the_last_keys_where_more_come_than_it_holds(length, counts):
    """Eight GPUs at the paper's settings gather 120,960 keys a step, for a queue of 65,536."""
    model = MoCo(dataclasses.replace(TINY, queue=60))
    model.queue = torch.full((length, TINY.dim), -1.0)
    everything = [-1.0] * length
    for count in counts:
        first = len(everything)
        model.enqueue(torch.arange(float(first), first + count)[:, None].expand(count, TINY.dim))
        everything += range(first, first + count)
        oldest = model.queue[:, 0].roll(-int(model.position)).tolist()  # from the next one to go
        assert oldest == everything[-length:]


def test_a_pretraining_whose_steps_bring_more_keys_than_the_queue_holds(monkeypatch):
    """As on several GPUs: what is gathered is as if eight processes had the same keys."""
    gathered = []

    class Eight(hardware.Accelerator):
        def gather(self, keys):
            gathered.append(len(keys))
            return torch.cat([keys + i for i in range(8)])

    config = dataclasses.replace(TINY, queue=24, epochs=2)
    monkeypatch.setattr(hardware, "Accelerator", Eight)
    model, history = pretrain(photos(2), config)
    assert gathered == [24, 24] and np.isfinite(history["loss"]).all() and model.position == 0
    assert model.queue.mean() > 6.5  # of the last of the eight


@pytest.mark.parametrize("changes, words", [
    ({"backbone": ""}, "backbone='' must be a text that is not empty"), ({"weights": ""}, "weights=''"),
    ({"weights": None}, "weights=None must be a text"), ({"half_scale": "yes"}, "half_scale='yes' must be True or False"),
    ({"crop": 0}, "crop=0 must be a whole number of at least 8"), ({"crop": 64.0}, "crop=64.0 must be a whole number"),
    ({"types_per_image": 26}, "types_per_image=26: the bank has 25 types"), ({"types_per_image": 0}, "types_per_image=0"),
    ({"batch": 0}, "batch=0 must be"), ({"batch": True}, "batch=True must be"), ({"queue": -5}, "queue=-5 must be"),
    ({"dim": 0}, "dim=0 must be"), ({"epochs": 0}, "epochs=0 must be a number above 0"), ({"epochs": -1}, "epochs=-1 must be"),
    ({"epochs": "40"}, "epochs='40' must be"), ({"lr": -0.1}, "lr=-0.1 must be a number above 0"), ({"lr": float("nan")}, "lr=nan"),
    ({"temperature": 0}, "temperature=0 must be"), ({"warmup": -1}, "warmup=-1 must be a number of at least 0"),
    ({"momentum": 1.5}, "momentum=1.5 must be a number from 0 to 1"), ({"weight_decay": -1}, "weight_decay=-1"),
    ({"seed": -1}, "seed=-1 must be"), ({"overlap": (0.1,)}, "give two shares"), ({"overlap": 0.1}, "give two shares"),
    ({"overlap": (0.1, 0.101)}, "leaves no whole number of rows"),
    ({"negatives": "batch", "batch": 1, "types_per_image": 1, "half_scale": False, "queue": 8}, None)])
def test_pretraining_settings_that_cannot_work_are_refused(changes, words):
    if words is None:
        assert dataclasses.replace(TINY, **changes).pairs == 2  # the other version is the negative
        return
    with pytest.raises(ValueError, match=words) as caught:
        dataclasses.replace(TINY, **changes)
    assert "\n" not in str(caught.value)


def test_a_pretraining_without_a_step_is_refused():
    with pytest.raises(ValueError, match="epochs=0.1 of 4 images, 2 a step in each of 1 processes, are no step at all"):
        pretrain(photos(4), dataclasses.replace(TINY, epochs=0.1))


@pytest.mark.parametrize("changes, words", [({"content": ""}, "content='' must be"), ({"alpha": 0}, "alpha=0 must be a number above 0"),
                                            ({"alpha": -1.0}, "alpha=-1.0"), ({"half_scale": 1}, "half_scale=1 must be True"),
                                            ({"full_reference": "no"}, "full_reference='no'"), ({"quality": None}, "quality=None")])
def test_settings_of_the_method_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ReIQAConfig(**changes)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "levit_128s", "maxvit_nano_rw_256", "coatnet_nano_rw_224"])
def test_a_content_expert_of_one_size_is_refused_when_the_method_is_made(name, weights):
    with pytest.raises(ValueError, match=f"{name} .made for .* pixels. does not take images of any size"):
        ReIQA(ReIQAConfig("content", content=name, content_weights="random"))


def test_every_weight_learns_but_the_key_encoders():
    model = MoCo(TINY).train()
    pairs = make_pairs(photos(2), TINY, generator())
    q, k = model(pairs.queries, pairs.keys)
    assert torch.allclose(q.norm(dim=1), torch.ones(len(q))) and not k.requires_grad
    info_nce(q, k, model.queue).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.query.parameters())
    assert all(weight.grad is None and not weight.requires_grad for weight in model.key.parameters())


def test_lars_leaves_biases_and_norms_without_decay(monkeypatch):
    seen = []
    monkeypatch.setattr(reiqa_pretrain, "Lars", lambda groups, **more: seen.extend(groups) or torch.optim.SGD(groups, **more))
    pretrain(photos(2), dataclasses.replace(TINY, optimizer="lars", weight_decay=0.1, epochs=1))
    decays = {(p.ndim > 1, group["weight_decay"]) for group in seen for p in group["params"]}
    assert decays == {(True, 0.1), (False, 0.0)}


def test_a_step_compares_with_the_queue_before_its_own_keys_enter():
    config = dataclasses.replace(TINY, queue=TINY.pairs * TINY.batch, epochs=1)
    model, history = pretrain(photos(2), config)
    torch.manual_seed(config.seed)
    fresh = MoCo(config).train()
    order = reiqa_pretrain._rows(0, 2, config)
    batch = [photos(2)[i] for i in order]
    fresh.enqueue(fresh.code(make_pairs(batch, config, reiqa_pairs.seeded_generator(config.seed, 2, 0)).keys))  # a full queue
    pairs = make_pairs(batch, config, reiqa_pairs.seeded_generator(config.seed, 1, 0))
    q, k = fresh(pairs.queries, pairs.keys)
    assert history["loss"].tolist() == pytest.approx([info_nce(q, k, fresh.queue, config.temperature).item()])
    assert torch.allclose(model.queue, k, atol=1e-6) and not torch.allclose(fresh.queue, k, atol=0.1)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    whole, table = pretrain(photos(), TINY, tmp_path / "whole.pt", every=2)
    make, calls = reiqa_pretrain.make_pairs, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(reiqa_pretrain, "make_pairs", dies)
    with pytest.raises(KeyboardInterrupt):
        pretrain(photos(), TINY, tmp_path / "killed.pt", every=2)
    resumed, again = pretrain(photos(), TINY, tmp_path / "killed.pt", every=2)
    assert len(calls) == 10  # 3 to fill the queue, 2 steps that were kept, 1 that died, 4 from there on
    pd.testing.assert_frame_equal(table, again)
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
    pretrain(photos(), TINY, tmp_path / "killed.pt")
    assert len(calls) == 10  # a finished run is only read
    with pytest.raises(ValueError, match="killed.pt: was made with other settings"):
        pretrain(photos(), dataclasses.replace(TINY, lr=0.01), tmp_path / "killed.pt")
    with pytest.raises(ValueError, match="killed.pt: was made with other settings, seed or images"):
        pretrain(photos()[::-1], TINY, tmp_path / "killed.pt")
    (tmp_path / "killed.pt").write_bytes(b"no file of tensors")
    with pytest.raises(ValueError, match="killed.pt: cannot be read"):
        pretrain(photos(), TINY, tmp_path / "killed.pt")


@pytest.mark.parametrize("negatives", ["queue", "batch"])
def test_the_loss_falls(negatives):
    config = dataclasses.replace(TINY, batch=5, queue=240, momentum=0.99, epochs=15, negatives=negatives)
    _, history = pretrain(photos(10), config)
    assert len(history) == 30
    assert history["loss"].tail(8).mean() < history["loss"].head(8).mean() - 0.2
    assert history["spread"].iloc[-1] > 0.1 and history["lr"].max() <= config.lr  # no collapse


def test_settings_say_where_they_come_from():
    for config in (PretrainConfig(), QUICK, SMOKE, ReIQAConfig()):
        table = settings.table(config)
        assert table["source"].str.match("(paper|code|ours)").all() and len(table) == len(dataclasses.fields(config))
        assert type(config)(**dataclasses.asdict(config)) == config
    assert settings.table(PretrainConfig()).loc["queue"].tolist() == [65_536, "code"]
    assert PretrainConfig().batch * PretrainConfig().pairs == 15_120  # the official keys a step
    for wrong, word in [({"swap": "half"}, "clean, off, aliased"), ({"overlap": (0.3, 0.1)}, "smaller first"),
                        ({"queue": 100}, "cannot hold the 630 x 24 keys"), ({"optimizer": "adam"}, "lars, sgd")]:
        with pytest.raises(ValueError, match=word):
            PretrainConfig(**wrong)
    with pytest.raises(ValueError, match="set batch=3 or less"):
        pretrain(photos(3), dataclasses.replace(TINY, batch=4))


def test_neighbours_of_the_same_content_do_not_vote():
    labels, contents = np.tile(np.arange(4), 6), np.repeat(np.arange(6), 4)
    rng = np.random.default_rng(0)
    by_label = np.eye(4)[labels] + 0.1 * rng.normal(size=(24, 4))
    by_content = 5 * np.eye(6)[contents]
    assert knn_accuracy(by_label, labels, contents, k=3) == 1
    assert knn_accuracy(np.hstack([by_label, by_content]), labels, contents, k=3) == 1
    lucky = knn_accuracy(np.hstack([by_label, by_content]), contents, contents, k=3)
    assert lucky == 0  # the content itself can never be told: its own pictures are left out


# --- the method -------------------------------------------------------------------------------------------------

@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Two experts, untrained, in files of their own."""
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))
    for seed, name in enumerate(("quality", "content")):
        torch.manual_seed(seed)
        save_expert(tmp_path / f"{name}.pt", network(TINY.backbone), TINY)
    return {"content": TINY.backbone, "content_weights": str(tmp_path / "content.pt"),
            "quality": str(tmp_path / "quality.pt")}


@pytest.fixture
def dataset(tmp_path):
    """36 pictures with references, 64 x 72: 12 places at 3 levels of noise, which lowers the score."""
    rows = []
    for i, place in enumerate(images.crops(offline.photograph("coffee"), 72, "grid", n=4)[:12, :, :64]):
        images.save(tmp_path / f"{i}.png", place)
        for level, sigma in enumerate((0.02, 0.06, 0.15)):
            worse = place + sigma * torch.randn(place.shape, generator=generator(len(rows)))
            images.save(tmp_path / f"{i}-{level}.png", worse.clamp(0, 1))
            rows.append((f"{i}-{level}.png", f"{i}.png", 1 - 0.3 * level))
    pd.DataFrame(rows, columns=["image", "reference", "score"]).to_csv(tmp_path / "mine.csv", index=False)
    return data.from_csv(tmp_path / "mine.csv", low=0, high=1)


def test_pictures_are_read_when_needed_or_kept(dataset):
    lazy = Uint8Images(dataset)
    kept = [*lazy]
    assert len(kept) == len(lazy) == 36 and torch.equal(kept[3], images.to_uint8(dataset.image(3)))
    config = dataclasses.replace(TINY, crop=16, batch=18, queue=216, epochs=1)
    tables = [pretrain(pictures, config, workers=workers)[1] for pictures, workers in ((kept, 0), (lazy, 0), (lazy, 1))]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2]) and len(tables[0]) == 2


def test_the_probe_shows_every_cell_once():
    pictures = [photo[:, :40, :40] for photo in photos(2)]
    found, labels, contents = probe(pictures, lambda x: x.mean((2, 3)))
    assert found.shape == (250, 3) and labels.tolist() == [*range(125)] * 2 and contents.sum() == 125
    darker = found[:125][[5 * TYPES.index("darken") + level for level in range(5)]].mean(1)
    assert (np.diff(darker) < 0).all()  # label = type, then level
    same = images.from_uint8(pictures[0]).mean((1, 2)).numpy()
    assert np.allclose(found[5 * TYPES.index("mean_shift") + 2], same, atol=1e-6)


@pytest.mark.parametrize("full_reference", [False, True])
def test_fit_score_predict_save_and_load_agree(full_reference, weights, dataset, tmp_path):
    train, val, test = data.splits(dataset, seed=0)
    method = ReIQA(ReIQAConfig(**weights, full_reference=full_reference)).fit(train, val)
    pred = method.predict(test)
    references = [test.reference(i)[None] if full_reference else None for i in range(len(test))]
    one_by_one = [method.score(test.image(i)[None], references[i]).item() for i in range(len(test))]
    assert np.allclose(pred, one_by_one, atol=1e-4)
    assert pred[test.scores == 1].mean() > pred[test.scores < 0.5].mean()
    method.save(tmp_path / "fitted.pt")
    again = ReIQA.load(tmp_path / "fitted.pt")
    assert again.config == method.config and np.array_equal(again.predict(test), pred)
    assert again.score(test.image(0)[None], references[0]).item() == one_by_one[0]
    assert (tmp_path / "fitted.pt").stat().st_size < 50_000
    rows = evaluate.run(ReIQA(method.config), dataset, seeds=[0, 1])
    assert rows["srcc"].mean() > 0.4 and rows["method"].eq("re-iqa").all()


def test_the_difference_of_equal_pictures_is_zero(weights, dataset):
    method = ReIQA(ReIQAConfig(**weights, full_reference=True)).fit(dataset)
    x = dataset.reference(0)[None]
    perfect = method._regress(np.zeros((1, len(method.state["w"]))), method.state)
    assert method.score(x, x).item() == pytest.approx(perfect.item(), abs=1e-6)
    assert method.score(dataset.image(2)[None], x) < method.score(x, x)
    with pytest.raises(ValueError, match="needs the reference"):
        method.score(x)
    lonely = dataclasses.replace(dataset, table=dataset.table.assign(reference=""))
    with pytest.raises(data.DatasetError, match="0-0.png has no reference"):
        method.predict(lonely)


def test_features_are_both_experts_at_both_scales(weights):
    x = torch.rand(2, 3, 64, 80).round()  # such edges overshoot when halved
    f = {experts: ReIQA(ReIQAConfig(experts, **weights)).extract(x) for experts in ("both", "content", "quality")}
    assert torch.equal(f["both"], torch.cat([f["quality"], f["content"]], 1)) and f["both"].shape == (2, 4 * 256)
    full = ReIQA(ReIQAConfig("quality", half_scale=False, **weights)).extract(x)
    assert torch.equal(full, f["quality"][:, :256])
    net = network(TINY.backbone, weights["quality"])
    assert torch.allclose(full, net(x), atol=1e-5)  # the quality expert sees the picture as it is
    net = network(TINY.backbone, weights["content_weights"])
    half = F.interpolate(x, (32, 40), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.allclose(f["content"][:, 256:], net(backbones.Normalise(TINY.backbone)(half)), atol=1e-5)


def test_each_expert_looks_once_at_a_picture_and_never_for_the_other(weights, dataset, monkeypatch):
    same = weights | {"content_weights": weights["quality"]}  # equal weights, but the content expert normalises
    alone = [ReIQA(ReIQAConfig(name, **same))._features(dataset) for name in ("quality", "content")]
    assert not np.allclose(*alone)
    pyramid = [ReIQA(ReIQAConfig(name, readout="pyramid", **same)) for name in ("quality", "content", "both")]
    monkeypatch.setattr(ReIQA, "_look", lambda self, name, x: pytest.fail("a look at a picture that was seen before"))
    assert np.array_equal(ReIQA(ReIQAConfig(**same))._features(dataset), np.hstack(alone))
    assert np.array_equal(pyramid[2]._features(dataset), np.hstack([method._features(dataset) for method in pyramid[:2]]))


def test_the_pyramid_is_mean_and_deviation_of_every_map(weights):
    x = torch.rand(2, 3, 64, 80)
    both = ReIQA(ReIQAConfig(readout="pyramid", **weights))
    quality = ReIQA(ReIQAConfig("quality", readout="pyramid", **weights)).extract(x)
    content = ReIQA(ReIQAConfig("content", readout="pyramid", **weights)).extract(x)
    assert torch.equal(both.extract(x), torch.cat([quality, content], 1))
    for found, normalise, name in ((quality, nn.Identity(), "quality"),
                                   (content, backbones.Normalise(TINY.backbone), "content_weights")):
        net = network(TINY.backbone, weights[name])
        parts = []
        for scale in (x, features.halve(x).clamp(0, 1)):
            for m in net.forward_intermediates(normalise(scale), intermediates_only=True):
                parts += [m.mean((2, 3)), m.std((2, 3), correction=0)]
        assert found.shape == (2, sum(part.shape[1] for part in parts))
        assert torch.allclose(found, torch.cat(parts, 1), atol=1e-4)
    one = ReIQA(ReIQAConfig("quality", readout="pyramid", half_scale=False, **weights)).extract(x)
    assert torch.equal(one, quality[:, : one.shape[1]])


def test_the_content_expert_at_all_levels_is_the_frozen_ridge():
    x = torch.rand(1, 3, 96, 96) * 0.5 + 0.25  # halved it stays in [0, 1]
    mine = ReIQA(ReIQAConfig("content", readout="pyramid", standardise=True))
    theirs = features.FrozenRidge()
    assert torch.allclose(mine.extract(x), theirs.extract(x), atol=1e-3)
    assert mine.grid == theirs.grid and mine.default == theirs.default


@pytest.mark.parametrize("standardise", [False, True])
def test_one_learner_for_all_features(standardise, weights, dataset):
    train, val, _ = data.splits(dataset, seed=0)
    method = ReIQA(ReIQAConfig(readout="pyramid", standardise=standardise, **weights)).fit(train, val)
    grid = features.FrozenRidge.grid if standardise else reiqa.ALPHAS
    states = list(features.ridges(method._features(train), train.scores, grid, standardise))
    found = [metrics.srcc(features.ridge_score(method._features(val), state), val.scores) for state in states]
    best = states[int(np.argmax(found))]
    assert method.state["alpha"] == best["alpha"] and np.array_equal(method.state["w"], best["w"])
    assert reiqa.best_alpha(method, dataset, seeds=[0, 1]) in grid
    assert (method.state["std"] == 1).all() != standardise


def test_the_shipped_file_has_the_final_readout_and_other_networks_are_refused(monkeypatch):
    shipped = score.load_method("re-iqa")
    assert shipped.config == ReIQAConfig() and shipped.score(torch.rand(1, 3, 48, 48)).isfinite().all()
    with pytest.raises(ValueError, match="readout='all' is unknown; choose one of final, pyramid"):
        ReIQAConfig(readout="all")
    monkeypatch.delattr(type(network("resnet18")), "forward_intermediates")
    final = ReIQA(ReIQAConfig("content", content="resnet18", content_weights="random"))
    assert final.extract(torch.rand(1, 3, 48, 48)).shape == (1, 1024)
    with pytest.raises(ValueError, match="readout='final', or take another network"):
        ReIQA(dataclasses.replace(final.config, readout="pyramid"))


def test_the_ridge_is_sklearns_and_alpha_can_be_one_for_all_splits(weights, dataset):
    train, val, test = data.splits(dataset, seed=0)
    free = ReIQA(ReIQAConfig(**weights))
    alpha = reiqa.best_alpha(free, dataset, seeds=range(3))
    method = ReIQA(ReIQAConfig(**weights, alpha=alpha)).fit(train, val)
    assert alpha in reiqa.ALPHAS and method.state["alpha"] == alpha and free.state is None
    found = {name: method._features(part).astype(float) for name, part in (("train", train), ("test", test))}
    theirs = Ridge(alpha=alpha).fit(found["train"], train.scores)
    assert np.allclose(theirs.predict(found["test"]), method.predict(test), atol=1e-6)
    medians = []
    for candidate in reiqa.ALPHAS[::11]:
        one = ReIQA(ReIQAConfig(**weights, alpha=float(candidate)))
        parts = [data.splits(dataset, seed) for seed in range(3)]
        medians.append(np.median([metrics.srcc(one.fit(a, b).predict(b), b.scores) for a, b, _ in parts]))
    chosen = np.median([metrics.srcc(method.fit(a, b).predict(b), b.scores)
                        for a, b, _ in (data.splits(dataset, seed) for seed in range(3))])
    assert chosen >= max(medians)


def test_checkpoints_of_others_are_read(tmp_path):
    net = network("resnet18")
    state, x = net.state_dict(), torch.rand(1, 3, 48, 48)
    extra = {"module.queue": torch.rand(3), "module.head.0.weight": torch.rand(2, 2)}
    files = {"moco": {"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()} | extra
                      | {f"module.encoder_k.{k}": v + 1 for k, v in state.items()}, "epoch": 200},
             "official": {"model": {f"module.encoder.{k}": v for k, v in state.items()} | extra},
             "ours": {"model": {f"query.backbone.{k}": v for k, v in state.items()}, "history": []},
             "plain": dict(state)}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        assert torch.equal(network("resnet18", tmp_path / name)(x), net(x)), name
    with pytest.raises(ValueError, match="plain: does not fit resnet34"):
        network("resnet34", tmp_path / "plain")
    (tmp_path / "cut").write_bytes((tmp_path / "plain").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut: cannot be read as weights"):
        network("resnet18", tmp_path / "cut")


def test_a_missing_or_unknown_expert_is_explained(tmp_path, weights):
    with pytest.raises(ValueError, match="nothing.pt: there is no quality expert. Train one"):
        ReIQA(ReIQAConfig(**{**weights, "quality": str(tmp_path / "nothing.pt")}))
    with pytest.raises(ValueError, match="experts='all' is unknown; choose one of both, content, quality"):
        ReIQA(ReIQAConfig("all"))
    with pytest.raises(RuntimeError, match="re-iqa is not fitted"):
        ReIQA(ReIQAConfig("quality", **weights)).score(torch.rand(1, 3, 40, 40))
