"""YOTO's network: sizes, agreement with a plain transcription, where the reference comes in, where gradients go."""

import dataclasses
import itertools
import math

import numpy as np
import plain_yoto
import pytest
import torch

import data_download
from data_download.made import offline
from iqa_core import data, settings
from iqa_core.yoto import QUICK, SMOKE, YOTO, Network, YOTOConfig, fidelity
from iqa_core.yoto_attention import (ChannelAttention, DiscrepancyAttention, GatedAttention, HierarchicalAttention,
                                     SemanticDistortionAware, from_cells, to_cells)

SMALL = dataclasses.replace(SMOKE, weights="random", frozen=False, side=0, spread=False, width=16,
                            channel="full", reference="asks", dropout=0.1, readout="places", crop=64)


def network(config: YOTOConfig = SMALL, seed: int = 0) -> Network:
    """In eval mode, with weights so far from their start that every gate, norm and embedding counts."""
    torch.manual_seed(seed)
    net = Network(config).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.startswith("encoder."):
                p.add_(torch.randn(p.shape) * (0.3 if p.ndim == 1 else 1 / math.sqrt(p.shape[-1])))
        if net.task_embedding is not None:
            net.task_embedding.normal_()
        net.quality_head[3].bias.fill_(2)
    return net


def pictures(height: int = 64, width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two photographs with noise, and without."""
    clean = torch.stack([offline.photograph(name)[:, :height, :width] for name in ("coffee", "chelsea")])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + 0.2 * noise).clamp(0, 1), clean


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5)


# --- against the plain transcription ----------------------------------------------------------------------------

def test_the_papers_settings_give_the_papers_size_and_modules():
    torch.manual_seed(0)
    net = Network(YOTOConfig(weights="random")).eval()
    outside = sum(p.numel() for name, p in net.named_parameters() if not name.startswith("encoder."))
    assert outside == pytest.approx(56.3e6, abs=0.1e6)
    assert sum(p.numel() for p in net.encoder.parameters()) == pytest.approx(27.5e6, abs=0.1e6)
    x, y = torch.randn(2, 1, 56, 56, 768)
    high = torch.randn(1, 28, 28, 768)
    flat = [m.flatten(1, 2) for m in (x, y, high)]
    with torch.no_grad():
        assert close(net.ha[0](*flat[:2], (56, 56)), plain_yoto.hierarchical_attention(x, y, net.ha[0]).flatten(1, 2))
        found = net.sda["12"](flat[0], flat[2], (56, 56), (28, 28), (7, 7))
        assert close(found, plain_yoto.semantic_distortion_aware(x, high, (7, 7), net.sda["12"]).flatten(1, 2))
        maps = x.permute(0, 3, 1, 2)
        wanted = plain_yoto.channel_attention(maps.flatten(2), net.channel[0], False)
        assert close(net.channel[0](maps).flatten(2), wanted)


@pytest.mark.parametrize("size, changes", [
    ((224, 224), {"crop": 224}), ((64, 64), {}), ((64, 64), {"as_code": True}), ((64, 64), {"task_embedding": False}),
    ((64, 64), {"ha": False}), ((64, 64), {"sda": False}), ((64, 96), {"channel": "pooled"}),
    ((64, 96), {"channel": "off"}), ((64, 64), {"readout": "pooled"}), ((64, 64), {"channel": "pooled", "crop": 96})], ids=str)
def test_network_and_transcription_agree(size, changes):
    config = dataclasses.replace(SMALL, **changes)
    net = network(config)
    x, x_ref = pictures(*size)
    scores = []
    for reference in (None, x_ref):
        gradients = []
        for forward in (net, lambda *given: plain_yoto.forward(net, config, *given)):
            scores.append(forward(x, reference))
            net.zero_grad()
            (scores[-1] * torch.tensor([1.0, -2.0])).sum().backward()
            gradients.append([p.grad for p in net.parameters()])
        assert close(*scores[-2:])
        for ours, plain in zip(*gradients):
            if ours is not None:
                plain = torch.zeros_like(ours) if plain is None else plain  # SDA of one key: no gradient, or zero
                assert (ours - plain).norm() <= 2e-3 * plain.norm() + 1e-5  # rounding grows on the way to the encoder
    assert (scores[0][0] - scores[0][1]).abs() > 1e-3  # so the agreement means something
    assert not config.ha or (scores[0] - scores[2]).abs().min() > 1e-4


@pytest.mark.parametrize("as_code", [False, True])
def test_channel_attention_by_hand(as_code):
    torch.manual_seed(0)
    block, x = ChannelAttention(3, as_code=as_code).eval(), torch.randn(1, 5, 3, 3)
    rows = x[0].flatten(1).detach().numpy()  # a channel each
    q, k, v = (m(x.flatten(2))[0].detach().numpy() for m in (block.query, block.key, block.value))
    y = np.zeros((5, 9))
    for a in range(5):
        weights = np.exp([q[a] @ k[b] / 3 for b in range(5)])
        y[a] = sum(weights[b] / weights.sum() * v[b] for b in range(5))
    if as_code:  # read the answers position by position, and lay them down channel by channel
        y = np.array([y[c, n] for n in range(9) for c in range(5)]).reshape(5, 9)
    wanted = np.zeros((5, 9))
    for c in range(5):
        z = float(rows[c] @ block.gate.weight[0].detach().numpy() + block.gate.bias.item())
        opened = z * 0.5 * (1 + math.erf(z / math.sqrt(2)))
        wanted[c] = opened * y[c] + (2 if as_code else 1) * rows[c]
    assert np.allclose(block(x)[0].flatten(1).detach().numpy(), wanted, atol=1e-5)


def test_attention_weights_are_those_that_are_used():
    torch.manual_seed(0)
    block = GatedAttention(8).eval()
    x, kv = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    weights = block.weights(x, kv)
    assert weights.shape == (2, 5, 3) and torch.allclose(weights.sum(-1), torch.ones(2, 5))
    wanted = x + torch.nn.functional.gelu(block.gate(x)) * (weights @ block.value(kv))
    assert close(block(x, x, kv), wanted)
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.bias.zero_()  # gelu(0) = 0: the gate is shut
    assert torch.equal(block(x, x, kv), x)


# --- where the reference comes in -------------------------------------------------------------------------------

def test_without_a_reference_the_picture_is_its_own():
    net, (x, x_ref) = network(), pictures()
    with torch.no_grad():
        alone, own = net(x), net(x, x)
        assert (alone - own).abs().min() > 1e-4  # a reference carries an embedding of its own
        net.task_embedding[:, 1] = net.task_embedding[:, 0]
        assert torch.allclose(net(x, x), net(x), atol=1e-6) and torch.equal(net(x), alone)
        assert not torch.allclose(net(x, x_ref), net(x), atol=1e-4)


def test_the_reference_acts_through_hierarchical_attention_only():
    x, x_ref = pictures()
    other = torch.rand(x.shape)
    without = network(dataclasses.replace(SMALL, ha=False))
    assert torch.equal(without(x, x_ref), without(x, other)) and without.task_embedding is None
    net, seen = network(), []
    for module in net.sda.values():
        module.register_forward_hook(lambda module, given, out: seen.extend([*given[:2], out]))
    with torch.no_grad():
        scores = [net(x, reference) for reference in (x_ref, other)]
    half = len(seen) // 2
    assert half == 6 * 3 and all(map(torch.equal, seen[:half], seen[half:]))
    assert (scores[0] - scores[1]).abs().min() > 1e-4


def test_the_reference_brings_queries_and_the_distorted_image_keys_and_values():
    torch.manual_seed(0)
    block = HierarchicalAttention(8, local=True).eval()
    x, y = torch.randn(2, 1, 16, 8)
    asked = {}
    for name in ("whole", "local"):
        getattr(block, name).query.register_forward_pre_hook(lambda m, given, name=name: asked.update({name: given[0]}))
    block(x, y, (4, 4))
    assert asked["whole"] is y and asked["local"] is y
    changed = x.clone()
    changed[0, 0] += 1  # the top left token: without the global step only its quadrant may notice
    with torch.no_grad():
        block.whole.gate.weight.zero_()
        block.whole.gate.bias.zero_()
        moved = (block(changed, y, (4, 4)) - block(x, y, (4, 4))).abs().sum(-1).view(4, 4) > 1e-6
    assert moved[:2, :2].all() and moved.sum() == 4


def test_with_the_roles_swapped_values_of_the_reference_enter():
    net, (x, x_ref) = network(dataclasses.replace(SMALL, reference="answers")), pictures()
    block = net.ha[3].whole
    seen = {}
    block.query.register_forward_pre_hook(lambda module, given: seen.update(query=given[0]))
    block.value.register_forward_pre_hook(lambda module, given: seen.update(value=given[0]))
    with torch.no_grad():
        net(x, x_ref)
        d, r = net.stages(net.encoder(torch.cat([x, x_ref])))[3].flatten(2).transpose(1, 2).chunk(2)
        assert close(seen["query"], d + net.task_embedding[3, 0]) and close(seen["value"], r + net.task_embedding[3, 1])
        assert not close(network()(x, x_ref), net(x, x_ref))


def test_discrepancy_is_what_the_reference_has_not():
    """Against the equation, written out; and where image and reference agree nothing is added."""
    torch.manual_seed(0)
    block = DiscrepancyAttention(8).eval()
    x, y = torch.randn(2, 2, 6, 8)
    logits = (x @ block.query.weight.T) @ (y @ block.key.weight.T).mT / 8**0.5
    logits = logits + block.prior * torch.eye(6)
    e = block.gain * (x - logits.softmax(-1) @ y)
    wanted = block.norm(x + block.join(torch.cat([e, e.abs()], -1)))
    assert close(block(x, y, (2, 3)), wanted)
    with torch.no_grad():
        block.join.bias.zero_()
        plain = x[:, :1].expand(2, 6, 8)  # every place alike: whatever is retrieved is the same
        assert close(block(plain, plain, (2, 3)), block.norm(plain))
        assert not close(block(x, y, (2, 3)), block(x, x, (2, 3)))


def test_fidelity_is_its_equation_and_has_a_gradient_where_the_order_is_hopeless():
    torch.manual_seed(0)
    s, mos = torch.randn(5), torch.tensor([0.1, 0.4, 0.4, 0.9, 0.2])
    terms = []
    for i, j in itertools.combinations(range(5), 2):
        p = torch.sigmoid((s[i] - s[j]) / 0.1).double()
        g = 0.5 if mos[i] == mos[j] else float(mos[i] > mos[j])
        terms.append(1 - (p * g).sqrt() - ((1 - p) * (1 - g)).sqrt())
    assert fidelity(s, mos).item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-4)
    assert fidelity(s[order := torch.randperm(5)], mos[order]).item() == pytest.approx(fidelity(s, mos).item(), abs=1e-6)
    wrong = torch.tensor([30.0, -30.0], requires_grad=True)  # sigmoid(-600) is 0
    fidelity(wrong, torch.tensor([0.0, 1.0])).backward()
    assert wrong.grad.isfinite().all()
    assert fidelity(torch.ones(1), torch.ones(1)) == 0


def test_computing_attention_again_changes_nothing_but_what_is_kept():
    x, x_ref = pictures()
    config, found = dataclasses.replace(SMALL, width=32, channel="pooled", dropout=0.2), []
    for recompute in (False, True):
        net = network(dataclasses.replace(config, recompute=recompute)).train()
        torch.manual_seed(1)  # dropout
        net.encoder.requires_grad_(False)  # what it keeps is another matter
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            score = net(x, x_ref)
        score.sum().backward()
        found.append((score, [p.grad for p in net.parameters() if p.requires_grad], sum(kept)))
    (score, gradients, kept), (again, others, fewer) = found
    assert torch.equal(score, again) and all(map(close, gradients, others)) and fewer < 0.5 * kept


# --- cells ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("grid, cells", [((56, 56), (2, 2)), ((56, 56), (7, 7)), ((14, 14), (7, 7)), ((7, 7), (7, 7)),
                                         ((16, 24), (2, 3)), ((6, 4), (3, 1)), ((1, 1), (1, 1))])
def test_cells_hold_the_tokens_of_their_place(grid, cells):
    (h, w), (rows, columns) = grid, cells
    tokens = torch.arange(2 * h * w * 3.0).view(2, h * w, 3)
    cut = to_cells(tokens, grid, cells)
    assert torch.equal(from_cells(cut, grid, cells), tokens)
    maps, down, right = tokens.view(2, h, w, 3), h // rows, w // columns
    for number, cell in enumerate(cut):
        picture, place = divmod(number, rows * columns)
        i, j = divmod(place, columns)
        wanted = maps[picture, i * down:(i + 1) * down, j * right:(j + 1) * right].reshape(-1, 3)
        assert torch.equal(cell, wanted)


def test_a_coarse_token_speaks_to_the_fine_tokens_of_its_place_only():
    torch.manual_seed(0)
    block = SemanticDistortionAware(8).eval()
    low, high = torch.randn(2, 8 * 12, 8), torch.randn(2, 4 * 6, 8)
    changed = high.clone()
    changed[1, 2 * 6 + 5] += 1  # row 2, column 5 of 4 x 6: the cell in the lower right corner of 2 x 3
    with torch.no_grad():
        before, after = (block(low, h, (8, 12), (4, 6), (2, 3)).view(2, 8, 12, 8) for h in (high, changed))
    moved = (before != after).any(-1)
    assert moved[1, 4:, 8:].all() and moved.sum() == 16


# --- training mode ----------------------------------------------------------------------------------------------

def test_every_weight_learns():
    net, (x, x_ref) = network().train(), pictures()
    blind = [p for i in "123" for p in (net.sda[f"{i}4"].attention.query.weight, net.sda[f"{i}4"].attention.key.weight)]
    for reference in (x_ref, None):
        net.zero_grad()
        net(x, reference).sum().backward()
        for name, p in net.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            if not any(p is other for other in blind):
                assert p.grad.any(), name
        # one key in a cell: its weight is 1 whatever the query says, so nothing but rounding is left
        largest = net.sda["14"].attention.value.weight.grad.abs().max()
        assert all(p.grad.abs().max() < 1e-5 * largest for p in blind)
        assert net.task_embedding.grad[:, 1].any() == (reference is not None) and net.task_embedding.grad[:, 0].any()


def test_a_score_is_its_pictures_own():
    net, (x, x_ref) = network(), pictures()
    with torch.no_grad():
        for references in ([], [x_ref]):
            together, swapped = net(x, *references), net(x.flip(0), *(r.flip(0) for r in references))
            assert torch.allclose(together, swapped.flip(0), atol=1e-6)
            alone = torch.cat([net(*(p[i:i + 1] for p in (x, *references))) for i in range(2)])
            assert torch.allclose(together, alone, atol=1e-6) and together[0] != together[1]


def test_training_leaves_the_statistics_of_the_encoder_alone():
    net, (x, _) = network(), pictures()
    before = {name: value.clone() for name, value in net.encoder.state_dict().items() if "running" in name}
    net.train()
    net(x)
    assert before and all(torch.equal(value, net.encoder.state_dict()[name]) for name, value in before.items())
    assert net.training and net.encoder.training and net.quality_head[2].training
    dropped = [net(x) for _ in range(2)]
    assert not torch.equal(*dropped) and torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("seed", range(12))
def test_no_start_is_dead(seed):
    torch.manual_seed(seed)
    net = Network(dataclasses.replace(SMOKE, weights="random")).eval()
    with torch.no_grad():
        good = torch.cat([good.flatten() for good, _ in net.places(pictures()[0])])
    assert (good > 0).float().mean() > 0.5  # a relu that is 0 everywhere would stay there


def test_places_are_what_the_score_is_made_of():
    net, (x, x_ref) = network(), pictures(64, 64)
    places = net.places(x, x_ref)
    assert [good.shape for good, _ in places] == [counts.shape for _, counts in places] == [
        (2, side, side) for side in (16, 8, 4, 2)]
    good, counts = (torch.cat([part.flatten(1) for part in parts], 1) for parts in zip(*places))
    assert torch.allclose((good * counts).sum(1) / counts.sum(1), net(x, x_ref), atol=1e-6)
    assert good.min() >= 0 and 0 < counts.min() and counts.max() < 1


def test_with_pooled_tokens_a_place_stands_for_its_stage():
    net, (x, x_ref) = network(dataclasses.replace(SMALL, readout="pooled")), pictures(64, 64)
    with torch.no_grad():
        tokens, grids = net.tokens(*net._maps(x, x_ref))
        alike = [o[:, :1].expand_as(o) for o in tokens]
        net.tokens = lambda *_: (alike, grids)
        same = net.places(x)
        assert all(torch.allclose(good, net(x)[:, None, None].expand_as(good), atol=1e-6) for good, _ in same)
        one = [*alike[:3], torch.cat([alike[3][:, :1], 3 * alike[3][:, 1:]], 1)]  # the deepest stage has two kinds
        net.tokens = lambda *_: (one, grids)
        good, weight = net.places(x)[3]
        assert not torch.allclose(good[:, 0, 0], good[:, 1, 1]) and torch.allclose(good[:, 0, 1], good[:, 1, 1])
        assert good.shape == weight.shape == (2, 2, 2)


# --- settings ---------------------------------------------------------------------------------------------------

def test_settings_say_where_they_come_from():
    for config in (YOTOConfig(), QUICK, SMOKE):
        table = settings.table(config)
        assert table["source"].str.match("(paper|code|ours)").all() and len(table) == len(dataclasses.fields(config))
        assert type(config)(**dataclasses.asdict(config)) == config
    variants = [YOTO(dataclasses.replace(SMOKE, **changes)).identity["variant"]
                for changes in ({}, {"task": "fr", "sda": False}, {"ha": False}, {"width": 16})]
    assert variants == ["", "task=fr, sda=False", "ha=False", "width=16"]


def test_unknown_words_and_encoders_are_explained():
    with pytest.raises(ValueError, match="channel='half' is unknown; choose one of full, pooled, off"):
        dataclasses.replace(SMALL, channel="half")
    with pytest.raises(ValueError, match="task='both' is unknown; choose one of joint, fr, nr"):
        YOTOConfig(task="both")
    with pytest.raises(ValueError, match="has 3 maps, and 4 are needed. Take another encoder"):
        Network(dataclasses.replace(SMALL, encoder="vit_tiny_patch16_224"))


@pytest.mark.parametrize("encoder, words", [
    ("maxvit_nano_rw_256", "cannot take 64 x 64 pixels.*set crop=256"), ("coatnet_nano_rw_224", "cannot take 64 x 64.*set crop=224"),
    ("beit_base_patch16_224", "has 3 maps, and 4"), ("levit_128s", "has 3 maps, and 4"), ("hiera_tiny_224", "cannot take 64 x 64.*crop=224"),
    ("nasnetalarge", "makes maps of 31, 16, 8, 4, 2 positions from a crop of 64 pixels"),
    ("resnet5O", "timm has no model 'resnet5O'; did you mean resnet50")])
def test_an_encoder_that_does_not_fit_is_refused_before_any_image_is_read(encoder, words, monkeypatch):
    dataset = data_download.load("offline").thin(12)
    monkeypatch.setattr(data.Dataset, "image", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(ValueError, match=words) as caught:
        YOTO(dataclasses.replace(SMALL, encoder=encoder)).fit(dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes, words", [
    ({"crop": 100}, "crop=100 must be a multiple of 32"), ({"crop": 16}, "crop=16 must be a whole number of at least 32"),
    ({"crop": 64.0}, "crop=64.0"), ({"crop": -64}, "crop=-64"), ({"epochs": 0}, "epochs=0"), ({"epochs": 1.5}, "epochs=1.5"),
    ({"batch": 0}, "batch=0"), ({"test_crops": 0}, "test_crops=0"), ({"lr": -1e-4}, "lr=-0.0001 must be a number above 0"),
    ({"lr": 0}, "lr=0"), ({"lr": "fast"}, "lr='fast'"), ({"lr": float("inf")}, "lr=inf"), ({"encoder_rate": -1}, "encoder_rate=-1"),
    ({"weight_decay": -1e-5}, "weight_decay=-1e-05"), ({"drop_path": 1.0}, "drop_path=1.0 must be a number from 0 to 0.99"),
    ({"dropout": -0.1}, "dropout=-0.1"), ({"width": 1}, "width=1"), ({"encoder": ""}, "encoder='' must be a text that is not empty"),
    ({"encoder": " "}, "encoder=' '"), ({"encoder": None}, "encoder=None"), ({"weights": ""}, "weights=''"),
    ({"ha": "no"}, "ha='no' must be True or False"), ({"task": ["nr"]}, r"task=\['nr'\] is unknown"),
    ({"as_code": True, "channel": "off"}, "with channel='off' it has no effect"),
    ({"reference": "answers", "ha": False}, "with ha=False it has no effect"),
    ({"reference": "answers", "task": "nr"}, "with task='nr' it has no effect"),
    ({"rank": 1.1}, "rank=1.1 must be a number from 0 to 1")])
def test_settings_that_cannot_work_or_change_nothing_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **changes)


def test_what_a_variant_names_changes_the_network():
    """Every setting that makes another variant gives another function; the others give the same."""
    def scores(**changes):
        torch.manual_seed(0)
        net = Network(dataclasses.replace(SMALL, **changes)).eval()
        return sum(p.numel() for p in net.parameters()), YOTO(dataclasses.replace(SMALL, **changes)).identity["hash"]

    assert len({scores(**changes) for changes in ({}, {"ha": False}, {"sda": False}, {"channel": "off"},
                                                  {"task_embedding": False})}) == 5
