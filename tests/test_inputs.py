"""What methods are given: tensors of any kind, references of another size, parts that cannot train, old files."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import data_download
from data_download.made import offline
from iqa_core import baselines, data, dri, dri_stages, evaluate, features, files, frozen_mlp, images, inputs, qfm, reiqa, reiqa_experts, reiqa_pairs, reiqa_pretrain, score, settings
from iqa_core import train as training
from iqa_core import yoto

TINY_YOTO = dataclasses.replace(yoto.SMOKE, encoder="test_efficientnet", weights="random", width=8, crop=32, epochs=1, batch=8)
TINY_QFM = dataclasses.replace(qfm.SMOKE, encoder="test_efficientnet", weights="random", width=8, heads=2, crop=32, epochs=1,
                               batch=8, memory=16, consistency_start=0, positions="random", test_crops=2)
TINY_DRI = dataclasses.replace(dri.SMOKE, trunk=(4, 8, 16, 32), encoder="test_efficientnet", weights="random", width=16,
                               crop=32, contents=2, degradations=2, patch=32, restorer_patch=32, restorer_width=4,
                               extractor_steps=1, restorer_steps=1, parts="", epochs=1, batch=8)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    data_download.load("offline")  # made in the usual cache
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))


def make_dataset(folder, count: int = 12, size: tuple[int, int] = (40, 48)) -> data.Dataset:
    """Images with references: places in a photograph at three levels of noise, which lowers the score."""
    folder.mkdir(exist_ok=True)
    photo, rows = offline.photograph("coffee"), []
    for i in range(-(-count // 3)):
        place = photo[:, 30 * i:30 * i + size[0], 40 * i:40 * i + size[1]]
        images.save(folder / f"{i}.png", place)
        for level, sigma in enumerate((0.02, 0.06, 0.15)):
            noise = torch.randn(place.shape, generator=torch.Generator().manual_seed(len(rows)))
            images.save(folder / f"{i}-{level}.png", (place + sigma * noise).clamp(0, 1))
            rows.append((f"{i}-{level}.png", f"{i}.png", 1 - 0.3 * level - 0.01 * i))
    pd.DataFrame(rows[:count], columns=["image", "reference", "score"]).to_csv(folder / "mine.csv", index=False)
    return data.from_csv(folder / "mine.csv", low=0, high=1)


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "pictures")


# --- tensors ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def shipped():
    """Every method as `python -m iqa_core score` loads it, and what it says of one pair of images."""
    torch.manual_seed(0)
    x_ref = offline.photograph("coffee")[None, :, :176, :180]
    x = (x_ref + 0.05 * torch.randn(x_ref.shape)).clamp(0, 1)
    x, x_ref = (images.from_uint8(images.to_uint8(part)) for part in (x, x_ref))
    methods = {name: score.load_method(name) for name in score.METHODS}
    return {name: (method, x, x_ref, method.score(x, x_ref)) for name, method in methods.items()}


@pytest.mark.parametrize("name", score.METHODS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_any_float_type_is_scored_as_float32(name, dtype, tolerance, shipped):
    method, x, x_ref, wanted = shipped[name]
    found = method.score(x.to(dtype), x_ref.to(dtype))
    assert found.dtype == torch.float32 and found.shape == (1,)
    assert found.item() == pytest.approx(wanted.item(), abs=tolerance * (10 if name == "psnr" else 1))
    assert torch.equal(method.score(x.to(dtype).float(), x_ref.to(dtype).float()), found)


BAD = {"integers": (lambda x: (255 * x).byte(), "must be float in"), "longs": (lambda x: x.long(), "must be float in"),
       "true or false": (lambda x: x > 0.5, "must be float in"), "complex": (lambda x: x.to(torch.complex64), "must be float in"),
       "NaN": (lambda x: torch.where(x > 0.5, torch.nan, x), "must hold values in"),
       "infinite": (lambda x: x / 0, "must hold values in"), "0 to 255": (lambda x: 255 * x, "must hold values in"),
       "-1 to 1": (lambda x: 2 * x - 1, "must hold values in"), "grey": (lambda x: x[:, :1], "must have 3 channels"),
       "alpha": (lambda x: torch.cat([x, x[:, :1]], 1), "must have 3 channels"), "two channels": (lambda x: x[:, :2], "3 channels"),
       "channels last": (lambda x: x.permute(0, 2, 3, 1), "must have 3 channels"), "one image": (lambda x: x[0], "tensor of shape"),
       "five dimensions": (lambda x: x[None], "must be a tensor of shape"), "no image": (lambda x: x[:0], "tensor of shape"),
       "an array": (lambda x: x.numpy(), "must be a tensor of shape")}


@pytest.mark.parametrize("name", score.METHODS)
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_batch_of_images_gets_one_sentence(name, kind, shipped):
    method, x, x_ref, _ = shipped[name]
    spoil, words = BAD[kind]
    with pytest.raises(ValueError, match=f"^x {words}|^x .*{words}") as caught:
        method.score(spoil(x), x_ref)
    assert "\n" not in str(caught.value)
    if name in (*score.FULL_REFERENCE, "yoto"):
        with pytest.raises(ValueError, match="^x_ref "):
            method.score(x, spoil(x_ref))


@pytest.mark.parametrize("name", [*score.FULL_REFERENCE, "yoto"])
def test_a_reference_of_another_size_is_refused(name, shipped):
    method, x, x_ref, _ = shipped[name]
    for other in (x_ref[..., :-8], x_ref[..., :-1, :], x_ref.transpose(2, 3), x_ref.expand(2, -1, -1, -1)):
        with pytest.raises(ValueError, match="they must be of one size"):
            method.score(x, other)


@pytest.mark.parametrize("name", [name for name in score.METHODS if name not in score.FULL_REFERENCE])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 200)])
def test_tiny_and_narrow_images_are_scored(name, size, shipped):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert shipped[name][0].score(x).isfinite().all()


def test_gradients_reach_the_image_through_the_full_reference_metrics():
    x, x_ref = torch.rand(2, 1, 3, 176, 176, dtype=torch.float64)
    for name in score.FULL_REFERENCE:
        given = x.clone().requires_grad_()
        baselines.FullReference(name).score(given, x_ref).sum().backward()
        assert given.grad.dtype == torch.float64 and given.grad.abs().sum() > 0


def test_a_network_on_another_device_gets_its_images_there(dataset, monkeypatch):
    """No GPU here: the images must ask the network, not a remembered device."""
    method = yoto.YOTO(TINY_YOTO).fit(dataset)
    method.device = "cuda:7"  # as where the user moved the network afterwards
    assert method.score(dataset.image(0)[None]).isfinite().all()
    ridge = features.FrozenRidge("test_efficientnet", "random").fit(dataset)
    ridge.device = "cuda:7"
    assert ridge.score(dataset.image(0)[None]).isfinite().all()


# --- sizes of references in evaluation --------------------------------------------------------------------------

def widen(dataset: data.Dataset) -> None:
    """Row 4's reference gets eight columns more, and shows the same scene."""
    file = dataset.root / dataset.table["reference"].iloc[4]
    images.save(file, torch.nn.functional.pad(images.load(file), (0, 8)))


def turn(dataset: data.Dataset) -> None:
    """Row 4's reference gets a rotation in its EXIF data: the header's size stays, the image's does not."""
    file = dataset.root / dataset.table["reference"].iloc[4]
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(file) as image:
        image.load()
        image.save(file, exif=exif)


def expert_file(folder) -> str:
    torch.manual_seed(0)
    config = dataclasses.replace(reiqa_pairs.SMOKE, backbone="test_efficientnet", weights="random")
    reiqa_experts.save_expert(folder / "expert.pt", reiqa_experts.network("test_efficientnet"), config)
    return str(folder / "expert.pt")


def full_reference_methods(folder) -> dict:
    return {"yoto": yoto.YOTO(dataclasses.replace(TINY_YOTO, task="fr")), "yoto joint": yoto.YOTO(TINY_YOTO),
            "re-iqa": reiqa.ReIQA(reiqa.ReIQAConfig("quality", quality=expert_file(folder), full_reference=True))}


@pytest.mark.parametrize("spoil", [widen, turn])
@pytest.mark.parametrize("name", ["yoto", "yoto joint", "re-iqa"])
def test_fit_and_predict_refuse_a_reference_of_another_size(name, spoil, dataset, tmp_path):
    good = make_dataset(tmp_path / "good")
    method = full_reference_methods(tmp_path)[name]
    spoil(dataset)
    for parts in ((dataset,), (good, dataset)):
        with pytest.raises(data.DatasetError, match="1-[012].png has 48 x 40 pixels, but its reference 1.png has "):
            method.fit(*parts)
    method.fit(good)
    sizes = "has 48 x 40 pixels, but its reference 1.png has " + ("56 x 40" if spoil is widen else "40 x 48")
    with pytest.raises(data.DatasetError, match=f"1-0.png {sizes}"):
        method.predict(dataset) if name != "yoto joint" else method.predictions(dataset)
    kept = dataset.subset(dataset.table["reference"] != "1.png")
    assert np.isfinite(method.predict(kept)).all()


@pytest.mark.parametrize("spoil", [widen, turn])
@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_the_protocol_refuses_a_reference_of_another_size(metric, spoil, dataset):
    method = baselines.FullReference(metric)
    before = evaluate.predict(method, dataset)
    assert np.allclose(before, [method.score(dataset.image(i)[None], dataset.reference(i)[None]).item() for i in range(12)])
    spoil(dataset)
    with pytest.raises(data.DatasetError, match="1-0.png has 48 x 40 pixels, but its reference 1.png has"):
        evaluate.predict(method, dataset)


def test_an_image_and_a_reference_that_are_both_turned_fit(dataset, tmp_path):
    method = full_reference_methods(tmp_path)["re-iqa"].fit(make_dataset(tmp_path / "good"))
    turn(dataset)
    for name in ("1-0.png", "1-1.png", "1-2.png"):
        images.save(dataset.root / name, images.load(dataset.root / name).transpose(1, 2))  # as they are shown
    assert np.isfinite(method.predict(dataset)).all()


def test_an_image_that_is_too_small_for_a_metric_is_named(dataset):
    with pytest.raises(ValueError, match="mine: 0-0.png: .*pixels"):
        evaluate.predict(baselines.FullReference("ms_ssim"), dataset)


# --- parts that cannot train ------------------------------------------------------------------------------------

def learning_methods(folder) -> dict:
    return {"brisque": baselines.Brisque(), "frozen ridge": features.FrozenRidge("test_efficientnet", "random"),
            "frozen mlp": frozen_mlp.FrozenMLP(reiqa.ReIQAConfig("quality", quality=expert_file(folder), readout="pyramid")),
            "re-iqa": reiqa.ReIQA(reiqa.ReIQAConfig("quality", quality=expert_file(folder))),
            "re-iqa fr": full_reference_methods(folder)["re-iqa"], "yoto": yoto.YOTO(TINY_YOTO),
            "qfm-iqm": qfm.QFMIQM(TINY_QFM), "dri-iqa": dri.DRIIQA(TINY_DRI)}


LEARNING = ["brisque", "frozen ridge", "frozen mlp", "re-iqa", "re-iqa fr", "yoto", "qfm-iqm", "dri-iqa"]


def with_scores(dataset: data.Dataset, value: float) -> data.Dataset:
    table = dataset.table.copy()
    table.loc[table.index[2], "score"] = value
    return dataclasses.replace(dataset, table=table)


@pytest.mark.parametrize("name", LEARNING)
def test_parts_that_cannot_train_get_one_sentence(name, dataset, tmp_path):
    method = learning_methods(tmp_path)[name]
    empty = dataset.subset([])
    for parts, words in (((empty,), "mine: 0 images are too few to train"), ((dataset, empty), "0 images are too few to validate"),
                         ((dataset, dataset.subset([0, 1])), "2 images are too few to validate. Give at least 3, or val=None"),
                         ((with_scores(dataset, np.nan),), "the score of 0-2.png is no number"),
                         ((with_scores(dataset, np.inf),), "the score of 0-2.png is no number"),
                         ((dataset, with_scores(dataset, np.nan)), "the score of 0-2.png is no number")):
        with pytest.raises(data.DatasetError, match=words) as caught:
            method.fit(*parts)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["re-iqa fr", "yoto"])
def test_a_validation_part_without_references_is_named_before_the_training(name, dataset, tmp_path):
    method, fits = learning_methods(tmp_path)[name], []
    lonely = dataclasses.replace(dataset, table=dataset.table.assign(reference=""))
    half = dataclasses.replace(dataset, table=dataset.table.assign(
        reference=dataset.table["reference"].where(dataset.table["image"] != "2-1.png", "")))
    for part, image in ((lonely, "0-0.png"), (half, "2-1.png")):
        with pytest.raises(data.DatasetError, match=f"{image} has no reference"):
            method.fit(dataset, part)
        assert getattr(method, "net", None) is None and fits == []
    bare = dataclasses.replace(dataset, card=dataclasses.replace(dataset.card, reference=False))
    with pytest.raises(data.DatasetError, match="its card says that it has no references"):
        method.fit(bare)


@pytest.mark.parametrize("name", LEARNING)
def test_one_image_and_a_batch_larger_than_the_set_train(name, dataset, tmp_path):
    for count in (1, 5):
        method = learning_methods(tmp_path)[name].fit(dataset.subset(range(count)))
        assert np.isfinite(method.predict(dataset)).all()


def test_an_image_whose_features_are_no_numbers_is_named(dataset):
    with pytest.raises(ValueError, match="mine: a feature of 0-0.png is no number"):
        features.pooled(dataset, lambda x: x.mean((2, 3)) / 0 - torch.inf, "nonsense")


# --- files of other versions ------------------------------------------------------------------------------------

def rewrite(path, change) -> None:
    saved = files.read_tensors(path)
    change(saved)
    files.write_tensors(path, saved)


def replaced(name: str, value):
    return lambda saved: saved.update({name: value})


CROP_CHANGES = {
    "an unknown field": (lambda s: s["config"].update(colour=1), "has the unknown field colour"),
    "a missing field": (lambda s: s["config"].pop("width"), "has the missing field width"),
    "both": (lambda s: s["config"].update(colour=s["config"].pop("width")), "the unknown field colour and the missing field width"),
    "a value of another type": (lambda s: s["config"].update(width="wide"), "is refused .*width='wide'"),
    "a refused value": (lambda s: s["config"].update(epochs=0), "is refused .*epochs=0"),
    "a backbone that timm lost": (lambda s: s["config"].update(encoder="resnet5O"), "network cannot be built .*no model 'resnet5O'"),
    "no config": (lambda s: s.pop("config"), "holds no .*Config"),
    "a config that is a list": (replaced("config", [1, 2]), "holds no .*Config"),
    "no network": (lambda s: s.pop("net"), "tensors are missing, unknown or of another shape, first"),
    "a tensor less": (lambda s: s["net"].pop(next(iter(s["net"]))), "1 tensors are missing"),
    "a tensor more": (lambda s: s["net"].update(more=torch.ones(1)), "1 tensors are missing, unknown .*first 'more'"),
    "another width": (lambda s: s["config"].update(width=s["config"]["width"] * 2), "tensors are missing, unknown or of another shape"),
    "texts for tensors": (lambda s: s["net"].update({next(iter(s["net"])): "text"}), "1 tensors are missing"),
    "no state dict": (replaced("net", torch.ones(2)), "tensors are missing")}


@pytest.mark.parametrize("change", CROP_CHANGES)
@pytest.mark.parametrize("make, config", [(yoto.YOTO, TINY_YOTO), (qfm.QFMIQM, TINY_QFM), (dri.DRIIQA, TINY_DRI)])
def test_networks_saved_by_other_versions_are_refused_in_a_sentence(make, config, change, tmp_path):
    method = make(config)
    method.net = method.network(config)
    path = tmp_path / "fitted.pt"
    method.save(path)
    assert make.load(path).config == config
    rewrite(path, CROP_CHANGES[change][0])
    with pytest.raises(ValueError, match=f"fitted.pt: .*{CROP_CHANGES[change][1]}") as caught:
        make.load(path)
    assert "\n" not in str(caught.value)


FEATURE_CHANGES = {
    "no settings": lambda s: s.pop("settings"), "settings of another kind": replaced("settings", "none"),
    "an unknown setting": lambda s: s["settings"].update(colour=1), "another key": replaced("key", "features 2"),
    "no key": lambda s: s.pop("key"), "no numbers": lambda s: s.pop("state"), "numbers of another kind": replaced("state", torch.ones(2)),
    "a number less": lambda s: s["state"].pop("b"), "a number more": lambda s: s["state"].update(more=torch.ones(1)),
    "a text for a number": lambda s: s["state"].update(b="text"), "NaN": lambda s: s["state"].update(b=torch.tensor(torch.nan)),
    "another length": lambda s: s["state"].update({next(iter(s["state"])): torch.ones(3)}),
    "a scalar for a vector": lambda s: s["state"].update({next(iter(s["state"])): torch.tensor(1.0)})}


@pytest.mark.parametrize("change", FEATURE_CHANGES)
@pytest.mark.parametrize("name", ["brisque", "re-iqa"])
def test_regressions_saved_by_other_versions_are_refused_in_a_sentence(name, change, dataset, tmp_path):
    method = learning_methods(tmp_path)[name].fit(dataset)
    path = tmp_path / "fitted.pt"
    method.save(path)
    assert np.array_equal(type(method).load(path).predict(dataset), method.predict(dataset))
    rewrite(path, FEATURE_CHANGES[change])
    with pytest.raises(ValueError, match="^[^\n]*fitted.pt: [^\n]*$"):
        type(method).load(path)


@pytest.mark.parametrize("change, words", [
    (replaced("config", {}), "does not name the backbone"), (replaced("config", "resnet18"), "does not name the backbone"),
    (replaced("config", {"backbone": 18}), "does not name the backbone"),
    (replaced("config", {"backbone": "resnet5O"}), "its backbone is unknown, timm has no model 'resnet5O'"),
    (replaced("config", {"backbone": "resnet18"}), "does not fit resnet18; .*tensors are missing"),
    (lambda s: s["model"].pop("conv_stem.weight"), "1 tensors are missing or of another shape, first 'conv_stem.weight'"),
    (lambda s: s["model"].update({"conv_stem.weight": "text"}), "1 tensors are missing"),
    (replaced("model", torch.ones(2)), "tensors are missing")])
def test_experts_saved_by_other_versions_are_refused_in_a_sentence(change, words, tmp_path):
    path = expert_file(tmp_path)
    assert reiqa_experts.expert(path).num_features == 256
    rewrite(path, change)
    with pytest.raises(ValueError, match=f"expert.pt: .*{words}"):
        reiqa_experts.expert(path)


def test_the_checkpoint_of_a_pretraining_is_an_expert(tmp_path):
    config = dataclasses.replace(reiqa_pairs.SMOKE, backbone="test_efficientnet", weights="random", crop=32, types_per_image=1, dim=8,
                                 queue=24, batch=2, epochs=1)
    pictures = [images.to_uint8(offline.photograph(name))[:, :120, :160] for name in list(offline.PHOTOGRAPHS)[:2]]
    model, _ = reiqa_pretrain.pretrain(pictures, config, tmp_path / "run.pt")
    x = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.allclose(reiqa_experts.expert(tmp_path / "run.pt")(x), model.query.backbone(x), atol=1e-6)
    rewrite(tmp_path / "run.pt", lambda s: s["module"].pop("query.head.0.weight"))
    with pytest.raises(ValueError, match="run.pt: does not fit this training; 1 tensors are missing"):
        reiqa_pretrain.pretrain(pictures, config, tmp_path / "run.pt")


def test_a_config_with_a_path_is_saved_and_read(tmp_path):
    config = dataclasses.replace(TINY_YOTO, weights=tmp_path / "encoder.pth")
    method = yoto.YOTO(config)
    method.net = method.network(TINY_YOTO)
    method.save(tmp_path / "fitted.pt")
    assert yoto.YOTO.load(tmp_path / "fitted.pt").config.weights == str(tmp_path / "encoder.pth")


# --- caches -----------------------------------------------------------------------------------------------------

def test_features_are_computed_anew_when_their_code_changes_and_fitted_files_stay_valid(dataset, tmp_path, monkeypatch):
    calls, extract = [], baselines.brisque_features
    monkeypatch.setattr(baselines.Brisque, "extract", staticmethod(lambda x: calls.append(1) or extract(x)))
    method = baselines.Brisque().fit(dataset)
    method.predict(dataset)
    assert len(calls) == len(dataset)
    method.save(tmp_path / "fitted.pt")
    monkeypatch.setattr(features, "code_hash", lambda *places: "another code")
    again = baselines.Brisque.load(tmp_path / "fitted.pt")
    assert np.array_equal(again.predict(dataset), method.predict(dataset)) and len(calls) == 2 * len(dataset)
    names = {path.name for path in features._FEATURE_CODE}
    assert {"baselines.py", "images.py", "backbones.py"} <= names and all(path.is_file() for path in features._FEATURE_CODE)


def test_what_is_trained_before_the_scores_is_trained_anew_when_its_code_changes(tmp_path, monkeypatch):
    pictures = [torch.randint(256, (3, 80, 80), dtype=torch.uint8) for _ in range(2)]
    folder = files.cache_dir() / "dri-stages"

    def trained() -> int:
        dri.train_extractor(dri.Network(TINY_DRI).extractor, pictures, TINY_DRI)
        return len([*folder.glob("*.pt")])

    assert [trained(), trained()] == [1, 1]
    monkeypatch.setattr(dri_stages, "code_hash", lambda *places: "another code")
    assert trained() == 2
    monkeypatch.setattr(dri_stages, "run_settings", lambda: training.run_settings() | {"accumulation": 2})
    assert trained() == 3
    assert {"dri_extractor.py", "distortions.py", "dri_stages.py"} <= {path.name for path in dri_stages.STAGE_CODE}
    assert all(path.is_file() for path in dri_stages.STAGE_CODE)


def test_sizes_come_from_the_image_as_it_is_shown(dataset):
    turn(dataset)
    references = dataclasses.replace(dataset, table=dataset.table.assign(image=dataset.table["reference"]))
    found, sizes = features.features_and_sizes(references, lambda x: x.mean((2, 3)), "mean")
    assert found.shape == (12, 3) and sizes[4].tolist() == [48, 40] and sizes[0].tolist() == [40, 48]
    assert np.array_equal(features.pooled(references, lambda x: pytest.fail("not from the cache"), "mean"), found)


def test_configs_are_read_back_as_they_were():
    for config in (TINY_YOTO, TINY_QFM, TINY_DRI, yoto.YOTOConfig(), qfm.QFMConfig(), dri.DRIConfig(), reiqa_pairs.PretrainConfig()):
        assert settings.from_saved(type(config), settings.to_save(config), "file") == config
    assert inputs.expect_batch(torch.rand(1, 3, 4, 4))[1] is None
