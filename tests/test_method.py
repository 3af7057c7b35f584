"""The contract: frozen maps, encoders, identity, arms that start alike."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from iqa_core import data, frozen_maps
from iqa_core.encoders import Encoder, Standardise
from iqa_core.frozen_maps import CropPlan
from iqa_core.identity import block_names
from iqa_core.method import Method
from iqa_core.yoto import QUICK, SMOKE, YOTO, YOTOConfig
from iqa_core.yoto_attention import HierarchicalAttention

TINY = dataclasses.replace(SMOKE, encoder="test_efficientnet", weights="random", width=8, crop=32, epochs=1, side=4)


class Pooling(nn.Module):
    """An encoder of one's own."""

    channels, strides = [3, 3, 3, 3], [4, 8, 16, 32]

    def forward(self, x):
        return [nn.functional.avg_pool2d(x, stride) for stride in self.strides]


class Other(HierarchicalAttention):
    pass


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))


# --- encoders -----------------------------------------------------------------------------------

def test_a_cell_gives_its_mean_and_its_standard_deviation():
    x = torch.rand(2, 3, 64, 64)
    plain, pooled = (Encoder(Pooling(), side=side, spread=side > 0)(x) for side in (0, 4))
    assert [tuple(m.shape) for m in pooled] == [(2, 6, 4, 4)] * 3 + [(2, 6, 2, 2)]
    cell = plain[0][1, 2, 4:8, 8:12]  # second row, third column of 4 x 4 cells of 4 x 4 places
    assert pooled[0][1, 2, 1, 2].item() == pytest.approx(cell.mean().item(), abs=1e-5)
    assert pooled[0][1, 5, 1, 2].item() == pytest.approx(cell.std(correction=0).item(), abs=2e-3)
    assert pooled[3][:, 3:].max() < 2e-3  # a cell of one place has no spread


def test_batch_norms_keep_their_statistics_and_a_frozen_encoder_learns_nothing():
    for frozen in (False, True):
        encoder = Encoder("test_efficientnet", "random", frozen=frozen).train()
        before = {name: value.clone() for name, value in encoder.state_dict().items() if "running" in name}
        maps = encoder(torch.rand(2, 3, 64, 64))
        assert before and all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())
        assert maps[0].requires_grad == (not frozen)


@pytest.mark.parametrize("network, words", [(nn.Identity(), "Identity has no attribute 'channels'. An encoder of your own"),
                                            ("vit_tiny_patch16_224", "has 3 maps, and 4 are needed")])
def test_an_encoder_that_does_not_fit_is_explained(network, words):
    with pytest.raises(ValueError, match=words):
        Encoder(network, "random")


def test_maps_that_are_not_as_promised_are_explained():
    wrong = Pooling()
    wrong.channels = [3, 3, 3, 4]
    with pytest.raises(ValueError, match="Pooling makes maps of shapes .* promise .*Correct `channels` and `strides`"):
        YOTO(TINY, encoder=wrong).build()


def test_standardised_channels_have_mean_0_and_deviation_1_and_a_constant_one_stays():
    maps = [torch.randn(40, 3, 4, 4) * torch.tensor([2.0, 50.0, 0.0])[:, None, None] + 7]
    standardise = Standardise([3])
    assert torch.equal(standardise(maps)[0], maps[0])
    standardise.measure([maps])
    z = standardise(maps)[0]
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(z.std((0, 2, 3)), torch.tensor([1.0, 1.0, 0.0]), atol=1e-2)


# --- frozen maps --------------------------------------------------------------------------------

def test_maps_are_computed_once_for_all_splits_and_again_for_another_encoder_or_plan(monkeypatch):
    dataset, plan = data.example(6, 2), CropPlan(32)
    calls = []
    monkeypatch.setattr(frozen_maps, "_numbers", lambda *a, made=frozen_maps._numbers: calls.append(1) or made(*a))
    encoder = Encoder(Pooling(), frozen=True)
    frozen_maps.compute(dataset.subset(range(8)), encoder, plan)
    assert len(calls) == 8 + 4  # four references, once each
    whole = frozen_maps.compute(dataset, encoder, plan)
    assert len(calls) == 12 + 6
    frozen_maps.compute(dataset, encoder, plan)
    assert len(calls) == 18
    for other in ((Encoder(Pooling(), side=2), plan), (encoder, CropPlan(32, "random", 3)), (encoder, CropPlan(64))):
        frozen_maps.compute(dataset, *other)
    assert len(calls) == 18 * 4
    with torch.no_grad():
        wanted = encoder(plan.cut(dataset.image(5)[None])[:, 0])
        of_reference = encoder(plan.cut(dataset.reference(5)[None])[:, 0])
    assert all(torch.allclose(a.float(), b, atol=1e-3) for a, b in zip(whole.image(5), wanted))
    assert all(torch.allclose(a.float(), b, atol=1e-3) for a, b in zip(whole.reference(5), of_reference))


def test_a_replaced_image_gets_new_maps(tmp_path):
    dataset, plan, encoder = data.example(3, 1), CropPlan(32), Encoder(Pooling(), frozen=True)
    before = frozen_maps.compute(dataset, encoder, plan).image(0)[0].clone()
    from iqa_core import images
    images.save(dataset.root / dataset.table["image"].iloc[0], torch.zeros(3, 70, 90))
    after = frozen_maps.compute(dataset, encoder, plan, references=False).image(0)[0]
    assert before.abs().max() > 0 and after.abs().max() == 0


def test_a_batch_holds_one_crop_of_each_image_with_the_same_crop_of_its_reference():
    dataset, plan, encoder = data.example(4, 2), CropPlan(32), Encoder(Pooling(), frozen=True)
    maps = frozen_maps.compute(dataset, encoder, plan)
    batch = next(iter(frozen_maps.loader(maps, 8, seed=1, flip=True)))
    assert sorted(batch["row"].tolist()) == list(range(8)) and len(set(batch["score"].tolist())) > 1

    def which(x, of):  # the crop of an image, and whether it is flipped, that maps belong to
        crops = plan.cut(x[None])[:, 0]
        wanted = encoder(torch.cat([crops, crops.flip(-1)]))  # a mean over cells has no border: a flip is exact
        fits = [all(torch.allclose(a.float(), b[i], atol=2e-3) for a, b in zip(of, wanted)) for i in range(len(wanted[0]))]
        return fits.index(True)

    with torch.no_grad():
        for i, row in enumerate(batch["row"].tolist()):
            mine = which(dataset.image(row), [m[i] for m in batch["maps"]])
            assert mine == which(dataset.reference(row), [m[i] for m in batch["ref_maps"]])


def test_flipped_maps_are_nearer_to_those_of_the_flipped_crop_than_to_another_image():
    encoder = Encoder("tf_efficientnet_lite0", side=8, frozen=True)
    from data_download.made import offline
    crops = CropPlan(128).cut(torch.stack([offline.photograph(name)[:, :300, :300] for name in ("coffee", "chelsea")]))
    crops = crops.flatten(0, 1)
    with torch.no_grad():
        maps, of_flipped = encoder(crops), encoder(crops.flip(-1))
        others = encoder(crops.roll(5, 0))  # the same place of the other photograph
    shares = [((m.flip(-1) - f).square().mean() / (m - other).square().mean()).item()
              for m, f, other in zip(maps, of_flipped, others)]
    assert max(shares) < 0.9 and shares[-1] < 0.25, shares


# --- identity -----------------------------------------------------------------------------------

def test_every_difference_has_an_identity_of_its_own():
    class Child(YOTO):
        pass

    methods = [YOTO(QUICK), YOTO(YOTOConfig()), YOTO(dataclasses.replace(QUICK, width=32)), YOTO(QUICK, attention=Other),
               YOTO(QUICK, encoder=Pooling()), Child(QUICK)]
    found = [method.identity for method in methods]
    assert [row["variant"] for row in found] == ["", "", "width=32", "attention=Other", "encoder=Pooling", "method=Child"]
    assert len({row["hash"] for row in found}) == len(methods) and {row["method"] for row in found} == {"yoto"}
    assert found[0] == YOTO(QUICK).identity


def test_weights_of_an_encoder_are_part_of_the_identity():
    one, other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    assert block_names({"encoder": one}) != block_names({"encoder": other})
    other.load_state_dict(one.state_dict())
    assert block_names({"encoder": one}) == block_names({"encoder": other})


# --- arms that start alike ----------------------------------------------------------------------

def start(method: Method, dataset) -> dict:
    """The weights with which a training begins."""
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    method.stages = lambda *_: (stop() for _ in range(1))
    torch.manual_seed(3)
    with pytest.raises(Stop):
        method.fit(dataset)
    return method.net.state_dict()


def test_arms_share_their_initial_weights_by_name():
    dataset = data.example(4, 1)
    changed = dataclasses.replace(TINY, sda=False)
    base, arm = start(YOTO(TINY), dataset), start(YOTO(changed).start_like(YOTO(TINY)), dataset)
    assert set(arm) < set(base) and all(torch.equal(arm[name], base[name]) for name in arm)
    alone = start(YOTO(changed), dataset)
    assert any(not torch.equal(alone[name], base[name]) for name in alone)


# --- files --------------------------------------------------------------------------------------

def test_a_frozen_encoder_that_ships_is_not_written_again_and_blocks_are_asked_for(tmp_path):
    dataset = data.example(4, 1)
    config = dataclasses.replace(SMOKE, width=8, epochs=1)
    method = YOTO(config, attention=Other).fit(dataset)
    method.save(tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 300_000
    with pytest.raises(ValueError, match="small.pt: was made with the blocks .*Other.*Give the same ones"):
        YOTO.load(tmp_path / "small.pt")
    again = YOTO.load(tmp_path / "small.pt", attention=Other)
    x = dataset.image(0)[None]
    assert again.score(x).item() == pytest.approx(method.score(x).item(), abs=5e-3)
    assert np.allclose(again.predict(dataset), method.predict(dataset), atol=5e-3)
