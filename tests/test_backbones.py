"""Backbones: the maps are what they say, the offline weights see, nothing is random unless asked for."""

import time

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
import timm
import torch
from timm.data import ImageNetInfo

from iqa_core import backbones

LITE0 = "tf_efficientnet_lite0"


def photo(array: np.ndarray) -> torch.Tensor:
    """(1, 3, 224, 224): the shorter side becomes 256, then the centre."""
    x = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None] / 255
    scale = 256 / min(x.shape[-2:])
    x = torch.nn.functional.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)
    top, left = (x.shape[-2] - 224) // 2, (x.shape[-1] - 224) // 2
    return x[..., top : top + 224, left : left + 224].clamp(0, 1)


@pytest.fixture
def no_hub(monkeypatch):
    """No network and an empty cache."""
    def fail():
        raise ConnectionError("no network")
    monkeypatch.setattr(backbones, "get_session", fail)
    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda *_: None)


def test_the_offline_weights_recognise_photographs():
    net = backbones.classifier(weights="offline")
    photos = [skimage.data.coffee(), skimage.data.chelsea(), sklearn.datasets.load_sample_image("china.jpg"),
              sklearn.datasets.load_sample_image("flower.jpg")]
    with torch.no_grad():
        found = net(torch.cat([photo(p) for p in photos])).argmax(1).tolist()
    names = [ImageNetInfo().index_to_description(i) for i in found]
    assert names[0] == "espresso"
    assert names[1].split(",")[0] in ("tabby", "tiger cat", "Egyptian cat")
    assert names[2] == "palace"
    assert names[3] == "daisy"


def test_the_pyramid_carries_the_weights_of_the_classifier():
    net, whole = backbones.pyramid(), backbones.classifier()
    assert "579344248a93" in net.weights and net.weights == whole.weights
    assert not net.training and not whole.training
    theirs = whole[1].state_dict()
    for key, value in net.net.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def test_the_card_of_the_model_agrees_with_the_weights():
    # (x - 0.5) / 0.5, not ImageNet's mean and std: a wrong normalisation costs accuracy without any error
    x = torch.rand(1, 3, 64, 64)
    net = backbones.pyramid(weights="random")
    for ours, plain in zip(net(x), net.net((x - 0.5) / 0.5)):
        assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (97, 64), (224, 224)])
def test_pictures_of_any_size_give_maps_at_the_stated_strides(size):
    net = backbones.pyramid(weights="random")
    with torch.no_grad():
        maps = net(torch.rand(2, 3, *size))
    height, width = (max(n, 32) for n in size)
    for m, channels, stride in zip(maps, net.channels, net.strides, strict=True):
        assert m.shape == (2, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "deit3_small_patch16_224", "resnet18"])
def test_other_architectures_come_as_nchw_at_any_size(name):
    net = backbones.pyramid(name, weights="random")
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 70, 100))
    assert [m.shape[1] for m in maps] == net.channels
    step = max(net.strides)
    height, width = (-(-n // step) * step if net.name != "resnet18" else n for n in (70, 100))
    assert [m.shape[2:] for m in maps] == [(-(-height // s), -(-width // s)) for s in net.strides]


def test_any_size_does_not_change_what_a_transformer_computes():
    torch.manual_seed(0)
    name = "swin_tiny_patch4_window7_224"
    net = backbones.pyramid(name, weights="random")
    plain = timm.create_model(name, features_only=True).eval()
    plain.load_state_dict(net.net.state_dict())
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(net(x), plain(net.normalise(x))):
            assert torch.allclose(ours, theirs.permute(0, 3, 1, 2), atol=1e-4)


def test_a_transformer_of_one_size_says_so():
    with pytest.raises(ValueError, match=r"cannot take 40 x 40 pixels.*images.crops\(x, 224\)"):
        backbones.pyramid("maxvit_tiny_tf_224", weights="random")(torch.rand(1, 3, 40, 40))


ONE_SIZE = ["maxvit_nano_rw_256", "coatnet_nano_rw_224", "levit_128s", "pit_ti_224", "coat_lite_tiny", "volo_d1_224", "visformer_tiny",
            "efficientformer_l1", "efficientformerv2_s0", "gcvit_xxtiny", "hiera_tiny_224", "convit_tiny", "halonet26t"]


@pytest.mark.parametrize("name", ONE_SIZE)
def test_families_of_one_size_say_so_in_one_sentence_and_take_their_own(name):
    net = backbones.pyramid(name, weights="random")
    own = timm.get_pretrained_cfg(name).input_size[-1]
    with torch.no_grad(), pytest.raises(ValueError, match=f"^{name} cannot take 64 x 64 pixels.*its own size is {own} x {own}: cut "
                                                          rf"crops with images.crops\(x, {own}\), set crop={own}") as caught:
        net(torch.rand(1, 3, 64, 64))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"{name} .* does not take images of any size"):
        backbones.expect_any_size(net, name)
    with torch.no_grad():
        assert [m.shape[1] for m in net(torch.rand(1, 3, own, own))] == net.channels


def test_a_lack_of_memory_is_not_taken_for_a_wrong_size(monkeypatch):
    net = backbones.pyramid("resnet18", weights="random")

    def short(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(net.net, "forward", short)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        net(torch.rand(1, 3, 64, 64))
    assert not isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_crops_that_fit_pass(name):
    net = backbones.pyramid(name, weights="random")
    backbones.expect_crop(net, 96)
    backbones.expect_any_size(net, name)
    assert not net.training and all(p.grad is None for p in net.parameters())


def test_every_parameter_gets_a_gradient_and_a_frozen_one_none():
    x = torch.rand(2, 3, 64, 64, requires_grad=True)
    net = backbones.pyramid(weights="random").train()
    sum(m.square().mean() for m in net(x)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    frozen = backbones.pyramid(weights="random").requires_grad_(False)
    x.grad = None
    sum(m.square().mean() for m in frozen(x)).backward()
    assert all(p.grad is None for p in frozen.parameters()) and x.grad.abs().sum() > 0


def test_random_weights_only_by_name(no_hub):
    assert "random" in backbones.pyramid("resnet18", weights="random").weights
    start = time.perf_counter()
    for weights in ("auto", "timm", "offline"):
        with pytest.raises(RuntimeError, match="weights='random'"):
            backbones.pyramid("resnet18", weights=weights)
    with pytest.raises(RuntimeError, match="has none and https?://.* cannot be reached"):
        backbones.pyramid(weights="timm")
    assert time.perf_counter() - start < 5  # no chain of retries


def test_what_the_cache_holds_needs_no_network(no_hub, monkeypatch, tmp_path):
    state = timm.create_model("resnet18").state_dict()
    torch.save(state, tmp_path / "model.pth")
    monkeypatch.setattr(backbones, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.pth"))
    net = backbones.pyramid("resnet18")
    assert net.weights.startswith("timm resnet18.")
    assert torch.equal(net.net.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_a_path_is_read_strictly_apart_from_the_head(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    body = {k: v for k, v in state.items() if not k.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    net = backbones.pyramid("resnet18", weights=tmp_path / "body.pth")
    assert net.weights == "state dict body.pth"
    assert torch.equal(net.net.state_dict()["conv1.weight"], state["conv1.weight"])
    with pytest.raises(ValueError, match="does not fit resnet18; 2 tensors .* first 'fc.weight'"):
        backbones.classifier("resnet18", weights=tmp_path / "body.pth")
    with pytest.raises(ValueError, match="body.pth: does not fit tf_efficientnet_lite0"):
        backbones.pyramid(weights=tmp_path / "body.pth")
    body.pop("layer1.0.conv1.weight")
    torch.save(body, tmp_path / "hole.pth")
    with pytest.raises(ValueError, match="1 tensors .* first 'layer1.0.conv1.weight'"):
        backbones.pyramid("resnet18", weights=tmp_path / "hole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "body.pth").read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.pth: cannot be read as a state dict"):
        backbones.pyramid("resnet18", weights=tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="is not 'auto'"):
        backbones.pyramid("resnet18", weights=tmp_path / "absent.pth")


def test_a_changed_file_is_refused(monkeypatch):
    package, file, sha = backbones.SHIPPED[LITE0]
    monkeypatch.setitem(backbones.SHIPPED, LITE0, (package, file, "0" * 12))
    with pytest.raises(ValueError, match=f"begins with {sha}, expected 0+; .*--force-reinstall {package}"):
        backbones.pyramid()


def test_an_absent_package_is_named(monkeypatch):
    monkeypatch.setitem(backbones.SHIPPED, LITE0, ("no-such-package", "x.pth", "0" * 12))
    with pytest.raises(RuntimeError, match="pip install no-such-package"):
        backbones.pyramid()


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean .*resnet50"):
        backbones.pyramid("resnet5O")
