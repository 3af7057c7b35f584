"""Training by crops: it repeats, survives a kill, judges on its validation part only, and says what is wrong."""

import dataclasses
import math
import os
import warnings

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import nn

import data_download
from data_download.made import offline
from iqa_core import backbones, data, evaluate, hardware, images, metrics, train
from iqa_core.method import Method
from iqa_core.yoto import SMOKE, YOTO

# end to end, as the paper trains
TINY = dataclasses.replace(
    SMOKE, encoder="test_efficientnet", weights="random", frozen=False, side=0, spread=False, width=8,
    crop=32, epochs=3, batch=8, optimizer="adam", weight_decay=1e-5, warmup=0.0, clip=math.inf)
FROZEN = dataclasses.replace(TINY, frozen=True, side=4, spread=True)
BOTH = pytest.mark.parametrize("config", [TINY, FROZEN], ids=["end to end", "frozen maps"])


@pytest.fixture(autouse=True)
def constant_predictions_are_allowed():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is constant")
        yield


@pytest.fixture
def dataset(tmp_path):
    """30 pictures with references, 48 x 56: 10 places at 3 levels of noise, which lowers the score."""
    rows = []
    for i, place in enumerate(images.crops(offline.photograph("coffee"), 56, "grid", n=4)[:10, :, :48]):
        images.save(tmp_path / f"{i}.png", place)
        for level, sigma in enumerate((0.02, 0.06, 0.15)):
            noise = torch.randn(place.shape, generator=torch.Generator().manual_seed(len(rows)))
            images.save(tmp_path / f"{i}-{level}.png", (place + sigma * noise).clamp(0, 1))
            rows.append((f"{i}-{level}.png", f"{i}.png", 1 - 0.3 * level))
    pd.DataFrame(rows, columns=["image", "reference", "score"]).to_csv(tmp_path / "mine.csv", index=False)
    return data.from_csv(tmp_path / "mine.csv", low=0, high=1)


def fitted(dataset, config=TINY, make=YOTO, seed=0, **options):
    torch.manual_seed(seed)
    return make(config).fit(*data.splits(dataset, 0)[:2], **options)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@BOTH
def test_two_fits_are_equal_and_a_third_is_not(config, dataset):
    one, two, other = (fitted(dataset, config, seed=seed) for seed in (0, 0, 1))
    assert same(one.net.state_dict(), two.net.state_dict()) and one.history.equals(two.history)
    assert not same(one.net.state_dict(), other.net.state_dict())
    names = ["epoch", "loss", "squared error", "fidelity", "val NR", "val FR"]
    assert list(one.history) == names and len(one.history) == TINY.epochs


def test_fit_leaves_the_random_numbers_of_others_alone(dataset):
    torch.manual_seed(5)
    torch.rand(7)
    before, seed = torch.get_rng_state(), torch.initial_seed()
    YOTO(TINY).fit(*data.splits(dataset, 0)[:2])
    assert torch.equal(torch.get_rng_state(), before) and torch.initial_seed() == seed


def test_the_learning_rate_falls_by_a_cosine_and_the_encoder_learns_slower(dataset):
    seen = []

    class Watched(YOTO):
        def optimizer(self, net):
            optimizer = super().optimizer(net)
            optimizer.register_step_post_hook(
                lambda optimizer, *_: seen.append([g["lr"] for g in optimizer.param_groups]))
            return optimizer

    method = fitted(dataset, make=Watched)
    slow, fast = np.array(seen).T
    steps = len(seen)
    assert np.allclose(slow, TINY.encoder_rate * fast) and steps == 3 * 3
    assert np.allclose(fast, [TINY.lr * (1 + np.cos(np.pi * i / steps)) / 2 for i in range(steps)])
    groups = method.optimizer(method.net).param_groups
    counted = [sum(p.numel() for p in group["params"]) for group in groups]
    assert counted[0] == sum(p.numel() for p in method.net.encoder.parameters())
    assert sum(counted) == sum(p.numel() for p in method.net.parameters())


def test_joint_training_tosses_a_fair_coin(dataset):
    method, seen = fitted(dataset, dataclasses.replace(TINY, epochs=1)), []
    method.net.register_forward_pre_hook(lambda net, given: seen.append(len(given) == 2))
    batch = next(iter(data.loader(dataset, 32, 1)))
    for task, wanted in (("joint", (20, 40)), ("fr", (60, 60)), ("nr", (0, 0))):
        other = YOTO(dataclasses.replace(TINY, task=task, rank=0.0))
        other.net = method.net
        seen.clear()
        torch.manual_seed(0)
        losses = [other.loss(batch)["loss"].item() for _ in range(60)]
        assert wanted[0] <= sum(seen) <= wanted[1] and len(seen) == 60
        with torch.no_grad():
            expected = [(method.net(batch["x"], batch["x_ref"] if fr else None) - batch["score"]).square().mean().item()
                        for fr in seen[:3]]
        assert losses[:3] == pytest.approx(expected, rel=1e-4)


# --- a killed run -----------------------------------------------------------------------------------------------

@BOTH
def test_a_killed_run_goes_on_as_if_nothing_had_happened(config, dataset, tmp_path):
    whole = fitted(dataset, config)
    for moment in np.random.default_rng(0).choice(np.arange(1, 10), 3, replace=False).tolist():
        calls = []

        class Dies(YOTO):
            def loss(self, batch):
                calls.append(1)
                if len(calls) == moment:
                    raise KeyboardInterrupt
                return super().loss(batch)

        file = tmp_path / f"{moment}.pt"
        with pytest.raises(KeyboardInterrupt):
            fitted(dataset, config, make=Dies, checkpoint=file)
        assert file.is_file() == (moment > 3)  # 3 steps an epoch
        resumed = fitted(dataset, config, make=Dies, checkpoint=file)
        assert len(calls) == moment + 9 - (moment - 1) // 3 * 3
        pd.testing.assert_frame_equal(whole.history, resumed.history, check_exact=True)
        assert same(whole.net.state_dict(), resumed.net.state_dict())
        assert whole.best["score"] == resumed.best["score"]
        assert same(whole.best["module"], resumed.best["module"])
        again = fitted(dataset, config, make=Dies, checkpoint=file)  # a finished run is only read
        assert len(calls) == moment + 9 - (moment - 1) // 3 * 3 and same(again.net.state_dict(), whole.net.state_dict())


def test_checkpoints_that_do_not_fit_are_explained(dataset, tmp_path):
    file, config = tmp_path / "kept.pt", dataclasses.replace(TINY, epochs=1)
    fitted(dataset, config, checkpoint=file)
    for changes, seed in (({"lr": 0.01}, 0), ({}, 1)):
        with pytest.raises(ValueError, match="kept.pt: was made with other settings, seed or images. Remove it"):
            fitted(dataset, dataclasses.replace(config, **changes), seed=seed, checkpoint=file)
    with pytest.raises(ValueError, match="kept.pt: was made with other settings, seed or images. Remove it"):
        fitted(dataset.subset(range(24)), config, checkpoint=file)
    whole = file.read_bytes()
    for torn in (whole[:len(whole) // 2], whole[:10], b""):
        file.write_bytes(torn)
        with pytest.raises(ValueError, match="kept.pt: cannot be read as weights"):
            fitted(dataset, config, checkpoint=file)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(dataset, tmp_path, monkeypatch):
    file, save, writes = tmp_path / "kept" / "run.pt", torch.save, []

    def dies(content, handle):
        save(content, handle)
        writes.append(1)
        if len(writes) == 2:
            handle.truncate(1000)
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        fitted(dataset, checkpoint=file)
    assert [p.name for p in file.parent.iterdir()] == ["run.pt"]
    assert len(torch.load(file, weights_only=True)["history"]) == 3  # the steps of an epoch
    resumed = fitted(dataset, checkpoint=file)
    assert same(resumed.net.state_dict(), fitted(dataset).net.state_dict())


# --- scores -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("config", [TINY, dataclasses.replace(FROZEN, readout="places"), FROZEN],
                         ids=["end to end", "frozen maps, places", "frozen maps, pooled"])
@pytest.mark.parametrize("positions, crops", [("five", 5), ("random", 3)])
def test_score_predict_and_predictions_agree(positions, crops, config, dataset):
    method = fitted(dataset, dataclasses.replace(config, positions=positions, test_crops=crops))
    test = data.splits(dataset, 0)[2]
    found = method.predictions(test)
    assert list(found) == [("NR", "last"), ("FR", "last"), ("NR", "best"), ("FR", "best")]
    x, x_ref = (torch.stack([read(i) for i in range(len(test))]) for read in (test.image, test.reference))
    for task, references in (("NR", []), ("FR", [x_ref])):
        one_by_one = [method.score(x[i:i + 1], *(r[i:i + 1] for r in references)).item() for i in range(len(test))]
        assert np.allclose(method.score(x, *references), one_by_one, atol=1e-4) and len(set(one_by_one)) > 1
        if config is not FROZEN:  # the pooled readout makes more of the rounding of maps on disk
            assert np.allclose(found[task, "last"], one_by_one, atol=1e-4)
        if config.frozen:  # those have half precision, and nothing else differs
            with torch.inference_mode():
                for i, score in enumerate(found[task, "last"]):
                    crops = [method.plan.cut(part[i:i + 1])[:, 0] for part in (x, *references)]
                    maps = [[m.half() for m in method.net.encoder(part)] for part in crops]
                    assert method.net.head(*maps).mean().item() == pytest.approx(score, abs=1e-5)
    assert np.array_equal(method.predict(test), found["NR", "last"])
    last = {key: value.clone() for key, value in method.net.state_dict().items()}
    method.net.load_state_dict(method.best["module"])
    assert np.array_equal(method.predict(test), found["NR", "best"])
    method.net.load_state_dict(last)
    assert all(np.array_equal(found[key], again) for key, again in method.predictions(test).items())


def test_a_score_is_the_mean_over_aligned_crops(dataset):
    method, test = fitted(dataset), data.splits(dataset, 0)[2]
    x, x_ref = test.image(0), test.reference(0)
    places = [(0, 0), (0, 24), (16, 0), (16, 24), (8, 12)]
    parts = [[p[None, :, top:top + 32, left:left + 32] for p in (x, x_ref)] for top, left in places]
    with torch.no_grad():
        wanted = torch.stack([method.net(*part) for part in parts]).mean()
    assert method.score(x[None], x_ref[None]).item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("size", [(20, 20), (31, 45), (33, 100), (1, 1)])
def test_pictures_of_any_size_get_a_score(size, dataset):
    method, (x, x_ref) = fitted(dataset, dataclasses.replace(TINY, epochs=1)), torch.rand(2, 2, 3, *size)
    assert all(method.score(*given).shape == (2,) and method.score(*given).isfinite().all()
               for given in ([x], [x, x_ref]))
    assert torch.equal(method.score(x, x_ref), method.score(x, x_ref))


def test_a_saved_method_scores_as_before_and_needs_no_download(dataset, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, encoder="tf_efficientnet_lite0", weights="auto", epochs=1)
    method, x = fitted(dataset, config), dataset.image(0)[None]
    method.save(tmp_path / "fitted.pt")
    half = sum(2 * value.numel() for value in method.net.state_dict().values())
    assert 0.95 * half < (tmp_path / "fitted.pt").stat().st_size < 1.2 * half
    for source in ("_from_timm", "_from_file"):
        monkeypatch.setattr(backbones, source, lambda *_, **__: pytest.fail("a look for pretrained weights"))
    again = YOTO.load(tmp_path / "fitted.pt")
    assert again.config == config and again.tasks == method.tasks
    for given in ([x], [x, dataset.reference(0)[None]]):
        assert again.score(*given).item() == pytest.approx(method.score(*given).item(), abs=5e-3)
    again.save(tmp_path / "twice.pt")
    assert same(YOTO.load(tmp_path / "twice.pt").net.state_dict(), again.net.state_dict())
    (tmp_path / "fitted.pt").write_bytes((tmp_path / "fitted.pt").read_bytes()[:5000])
    with pytest.raises(ValueError, match="fitted.pt: cannot be read as weights"):
        YOTO.load(tmp_path / "fitted.pt")
    torch.save({"method": "brisque"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt: holds no fitted yoto but 'brisque'"):
        YOTO.load(tmp_path / "other.pt")


def test_the_best_epoch_is_chosen_on_the_validation_part_only(dataset, monkeypatch):
    kept, asked = [], []

    def judge(self, part, task):
        asked.append((part, task))
        if task == "NR":
            kept.append({key: value.clone() for key, value in self.net.state_dict().items()})
        return part.scores * {0: 0, 1: 1, 2: -1}[len(kept) - 1]  # constant, right, upside down

    monkeypatch.setattr(Method, "_scores", judge)
    parts = data.splits(dataset, 0)
    method = YOTO(TINY).fit(*parts[:2])
    assert {id(part) for part, _ in asked} == {id(parts[1])} and [task for _, task in asked] == ["NR", "FR"] * 3
    assert same(method.best["module"], kept[1]) and same(method.net.state_dict(), kept[2])
    assert not same(kept[1], kept[2]) and method.best["score"] == pytest.approx(1)
    assert method.history["val NR"].tolist()[1:] == pytest.approx([1, -1])


def test_without_a_validation_part_there_is_no_best_epoch(dataset):
    method = YOTO(TINY).fit(dataset)
    assert method.best is None and [*method.predictions(dataset)] == [("NR", "last"), ("FR", "last")]
    assert list(method.history) == ["epoch", "loss", "squared error", "fidelity"]


def test_the_protocol_makes_a_row_of_each(dataset):
    rows = evaluate.run(YOTO(dataclasses.replace(TINY, epochs=1)), dataset, seeds=[0, 1])
    assert rows["task"].tolist() == ["NR", "FR"] * 4
    assert rows["epoch"].tolist() == ["last", "last", "best", "best"] * 2
    assert rows["variant"].nunique() == rows["hash"].nunique() == 1
    assert rows["seed"].tolist() == [0] * 4 + [1] * 4 and rows["n_train"].eq(21).all() and rows["n"].eq(6).all()
    rows = evaluate.run(YOTO(dataclasses.replace(TINY, epochs=1, task="nr")), dataset, seeds=[0])
    assert rows["task"].tolist() == ["NR", "NR"] and rows["epoch"].tolist() == ["last", "best"]


# --- what can go wrong ------------------------------------------------------------------------------------------

def test_a_picture_without_its_reference_is_named(dataset, tmp_path):
    lonely = dataset.table[["image", "score"]]
    lonely.to_csv(tmp_path / "lonely.csv", index=False)
    lonely = data.from_csv(tmp_path / "lonely.csv", low=0, high=1)
    for task in ("joint", "fr"):
        with pytest.raises(data.DatasetError, match="0-0.png has no reference"):
            YOTO(dataclasses.replace(TINY, task=task)).fit(lonely)
    method = YOTO(dataclasses.replace(TINY, task="nr", epochs=1)).fit(lonely)
    assert np.isfinite(method.predict(lonely)).all()
    one = dataclasses.replace(dataset, table=dataset.table.assign(
        reference=dataset.table["reference"].where(dataset.table["image"] != "4-1.png", "")))
    with pytest.raises(data.DatasetError, match="4-1.png has no reference"):
        YOTO(TINY).fit(one)


def test_what_does_not_fit_a_method_is_explained(dataset):
    x, small = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 36)
    with pytest.raises(RuntimeError, match="yoto is not fitted"):
        YOTO(TINY).predict(dataset)
    config = dataclasses.replace(TINY, epochs=1)
    method = fitted(dataset, config)
    with pytest.raises(ValueError, match=r"x is \(1, 3, 40, 40\) and x_ref \(1, 3, 40, 36\); they must be of one size"):
        method.score(x, small)
    for given, words in ([(255 * x,), "x must hold values"], [(x[0],), "x must be a tensor of shape"],
                         [(x, 255 * x), "x_ref must hold values"]):
        with pytest.raises(ValueError, match=words):
            method.score(*given)
    fr = fitted(dataset, dataclasses.replace(config, task="fr"))
    with pytest.raises(ValueError, match=r"trained for full-reference input only: call score\(x, x_ref\)"):
        fr.score(x)
    nr = fitted(dataset, dataclasses.replace(config, task="nr"))
    assert torch.equal(nr.score(x, x.flip(-1)), nr.score(x))  # it has no use for a reference


def test_a_loss_that_is_no_number_stops_the_training(dataset):
    class Diverges(YOTO):
        def loss(self, batch):
            return {"loss": super().loss(batch)["loss"] * float("nan")}

    with pytest.raises(RuntimeError, match="yoto: the loss of step 0 is nan; start with lr below 0.001"):
        fitted(dataset, make=Diverges)


# --- on pictures ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("task", ["joint", "fr", "nr"])
def test_a_short_training_learns_what_carries_over_to_new_contents(task):
    common = ["gaussian_blur", "lens_blur", "motion_blur", "jpeg", "jpeg2000", "white_noise", "impulse_noise"]
    offline = data_download.load("offline")
    learnt, _, test = data.splits(offline.subset(offline.table["distortion"].isin(common).to_numpy()).thin(150), 0)
    torch.manual_seed(0)
    in_order = YOTO(dataclasses.replace(SMOKE, task=task, epochs=8)).fit(learnt)
    for kind, pred in in_order.predictions(test).items():  # most of that loss is about the order
        assert metrics.srcc(pred, test.scores) > 0.4, kind
    torch.manual_seed(0)
    method = YOTO(dataclasses.replace(SMOKE, task=task, rank=0.0, epochs=8)).fit(learnt)
    constant = np.sqrt(np.mean((learnt.scores.mean() - test.scores) ** 2))
    for kind, pred in method.predictions(test).items():
        assert np.sqrt(np.mean((pred - test.scores) ** 2)) < 0.9 * constant, kind
        assert metrics.srcc(pred, test.scores) > 0.4, kind


# --- accelerators -----------------------------------------------------------------------------------------------

def forget_accelerators() -> None:
    """As in a new process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    hardware._accumulation_before = None


@pytest.fixture
def new_process(monkeypatch):
    """Nobody has made an accelerator before, and nobody sees those of this test afterwards."""
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    forget_accelerators()
    yield
    forget_accelerators()


def line(checkpoint=None, every: int = 4, steps: int = 8, make=None, clip: float = math.inf) -> pd.DataFrame:
    """A training of y = 2 x, a step a number."""
    torch.manual_seed(0)
    net, x = nn.Linear(1, 1), torch.arange(4.0)[:, None]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05) if make is None else make(net.parameters())
    return train.fit(train.Stage(
        "line", net, lambda batch: {"loss": (net(batch) - 2 * batch).square().mean()},
        lambda step: iter([x] * (steps - step)), steps, every, optimizer, lambda step: 1.0, clip=clip,
        checkpoint=checkpoint))


@pytest.mark.parametrize("options, precision, accumulation", [
    ({"mixed_precision": "fp16"}, "fp16", 1), ({"mixed_precision": "bf16"}, "bf16", 1), ({"mixed_precision": "no"}, "no", 1),
    ({"cpu": True}, "no", 1), ({"mixed_precision": "bf16", "cpu": True}, "bf16", 1), ({"gradient_accumulation_steps": 2}, "no", 2),
    ({}, "no", 1)], ids=str)
def test_an_accelerator_that_the_caller_made_is_taken_over(options, precision, accumulation, new_process, dataset):
    theirs = accelerate.Accelerator(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = YOTO(dataclasses.replace(TINY, epochs=1)).fit(dataset)
    assert np.isfinite(method.predict(dataset)).all()
    assert train.run_settings() == {"processes": 1, "accumulation": accumulation, "precision": precision}
    assert theirs.gradient_accumulation_steps == accumulation  # and the caller's goes on as it was
    accelerate.Accelerator()


@pytest.mark.parametrize("first, then", [(None, "bf16"), ("bf16", "no"), ("no", "fp16"), ("bf16", None)])
def test_another_precision_in_the_environment_comes_too_late_and_is_said(first, then, new_process, monkeypatch):
    for value in (first, then):
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        if value is not None:
            monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", value)
        if value is then and then is not None:
            with pytest.warns(UserWarning, match=f"='{then}' comes too late: this process trains at mixed precision "
                                                 f"'{first or 'no'}'. Restart Python"):
                assert np.isfinite(line()["loss"]).all()
        else:
            assert np.isfinite(line()["loss"]).all()
    assert train.run_settings()["precision"] == (first or "no")


def test_accumulation_follows_the_environment_from_training_to_training(new_process, monkeypatch):
    found = []
    for steps in ("2", None, "4", None):
        monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", raising=False)
        if steps:
            monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", steps)
        line()
        found.append(train.run_settings()["accumulation"])
    assert found == [2, 1, 4, 1]


@pytest.mark.parametrize("name, value", [("ACCELERATE_MIXED_PRECISION", "float16"),
                                         ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "two")])
def test_nonsense_in_the_environment_is_one_sentence(name, value, new_process, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="^accelerate cannot train here as it is asked to .*Correct the variables") as caught:
        line()
    assert value in str(caught.value)


@pytest.mark.parametrize("gpu, native, wanted", [(False, False, "no"), (True, True, "bf16"), (True, False, "fp16")])
def test_bfloat16_only_where_the_gpu_does_not_emulate_it(gpu, native, wanted, monkeypatch):
    """A T4 says that it supports bfloat16, if emulation counts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert hardware.precision() == wanted
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # an older torch cannot tell
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0) if native else (7, 5))
    assert hardware.precision() == wanted


# --- what a checkpoint was made with ------------------------------------------------------------------------------

def test_a_training_is_not_resumed_with_other_settings(tmp_path, monkeypatch):
    def stopped(file, **how):
        def dies(path, content, write=train.write_tensors):
            write(path, content)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(train, "write_tensors", dies)
            line(file, **how)
        return file

    file = stopped(tmp_path / "line.pt")
    others = {"round": {"every": 2}, "steps": {"steps": 12}, "clip": {"clip": 1.0},
              "optimizer settings": {"make": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)}}
    for name, change in others.items():
        with pytest.raises(ValueError, match=f"line.pt: was made with other settings, .*It differs in: {name}.\\)"):
            line(file, **change)
    for make in (lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.Adam(p, lr=0.05),
                 lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=1e-4)):
        with pytest.raises(ValueError, match="It differs in: optimizer settings"):
            line(file, make=make)
    for name in ("accumulation", "processes", "precision"):
        with monkeypatch.context() as patch:
            patch.setattr(train, "run_settings", lambda known=train.run_settings: known() | {name: "other"})
            with pytest.raises(ValueError, match=f"It differs in: {name}"):
                line(file)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    with pytest.raises(ValueError, match="It differs in: accumulation"):
        line(file)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    pd.testing.assert_frame_equal(line(file), line(), check_exact=True)


def test_a_finished_training_is_read_with_another_rhythm_and_at_another_precision(tmp_path, monkeypatch):
    whole = line(tmp_path / "line.pt")
    monkeypatch.setattr(train, "run_settings", lambda known=train.run_settings: known() | {"precision": "bf16"})
    pd.testing.assert_frame_equal(line(tmp_path / "line.pt", every=3), whole)
    with pytest.raises(ValueError, match="It differs in: clip"):
        line(tmp_path / "line.pt", clip=1.0)


@pytest.mark.parametrize("change, words", [
    (lambda s: s["module"].pop("bias"), "does not fit this training; 1 tensors are missing"),
    (lambda s: s["module"].update(weight=torch.ones(2, 2)), "1 tensors are missing, unknown or of another shape, first 'weight'"),
    (lambda s: s.pop("module"), "2 tensors are missing"), (lambda s: s.pop("optimizer"), "its optimizer does not fit"),
    (lambda s: s.update(optimizer={"state": 1}), "its optimizer does not fit")])
def test_a_checkpoint_whose_parts_do_not_fit_is_explained(change, words, tmp_path):
    line(tmp_path / "line.pt")
    saved = torch.load(tmp_path / "line.pt", weights_only=True)
    change(saved)
    torch.save(saved, tmp_path / "line.pt")
    with pytest.raises(ValueError, match=f"line.pt: .*{words}"):
        line(tmp_path / "line.pt")


def test_a_folder_as_a_checkpoint_and_batches_that_run_out_are_explained(tmp_path):
    with pytest.raises(ValueError, match="is a folder. Name a file for the checkpoint"):
        line(tmp_path)
    net = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="training: there were batches for 3 of 5 steps only"):
        train.fit(train.Stage("training", net, lambda x: {"loss": net(x).sum()},
                              lambda step: iter([torch.ones(1, 1)] * 3), 5, 5,
                              torch.optim.SGD(net.parameters(), lr=0.1), lambda step: 1.0))


def test_other_images_or_another_validation_part_are_other_trainings(dataset, tmp_path):
    config, (first, val, rest) = dataclasses.replace(TINY, epochs=1), data.splits(dataset, 0)
    torch.manual_seed(0)
    YOTO(config).fit(first, val, checkpoint=tmp_path / "kept.pt")
    shuffled = dataclasses.replace(first, table=first.table.assign(score=first.scores[::-1]))
    other = dataclasses.replace(first, table=pd.concat([first.table[:-1], rest.table[:1]], ignore_index=True))
    for parts, name in (((other, val), "images"), ((shuffled, val), "images"), ((first, None), "validation"),
                        ((first, rest), "validation")):
        torch.manual_seed(0)
        with pytest.raises(ValueError, match=f"kept.pt: was made with other settings.*It differs in: {name}"):
            YOTO(config).fit(*parts, checkpoint=tmp_path / "kept.pt")
