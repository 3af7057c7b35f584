"""Trainings that are killed or run on several processes, for every method that learns."""

import dataclasses
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from torch import nn

from data_download.made import offline
from iqa_core import baselines, data, dri, dri_stages, images, qfm, reiqa_pairs, reiqa_pretrain, score, train, yoto

END_TO_END = {"encoder": "test_efficientnet", "weights": "random", "frozen": False, "side": 0, "crop": 32, "epochs": 3,
              "batch": 4}
YOTO = dataclasses.replace(yoto.SMOKE, **END_TO_END, spread=False, width=8)
QFM = dataclasses.replace(qfm.SMOKE, **END_TO_END, spread=False, width=8, heads=2, memory=16, key="summary",
                          consistency_start=1, positions="random", test_crops=2)
DRI = dataclasses.replace(dri.SMOKE, **END_TO_END, trunk=(4, 8, 16, 32), width=16, contents=2, degradations=2, patch=32,
                          restorer_patch=32, restorer_width=4, extractor_steps=6, restorer_steps=6, parts="", joint=True,
                          rs="ratio align")
MOCO = dataclasses.replace(reiqa_pairs.SMOKE, backbone="test_efficientnet", weights="random", crop=32, types_per_image=1, dim=8,
                           queue=24, batch=2, epochs=3)


def photos(count: int) -> list[torch.Tensor]:
    return [images.to_uint8(offline.photograph(name))[:, :120, :160] for name in list(offline.PHOTOGRAPHS)[:count]]


def pictures(folder: Path) -> data.Dataset:
    """16 pictures with references, 48 x 56: 8 places at 2 levels of noise, which lowers the score."""
    rows = []
    for i, place in enumerate(images.crops(offline.photograph("coffee"), 56, "grid", n=4)[:8, :, :48]):
        images.save(folder / f"{i}.png", place)
        for level, sigma in enumerate((0.02, 0.15)):
            noise = torch.randn(place.shape, generator=torch.Generator().manual_seed(len(rows)))
            images.save(folder / f"{i}-{level}.png", (place + sigma * noise).clamp(0, 1))
            rows.append((f"{i}-{level}.png", f"{i}.png", 0.9 - 0.5 * level))
    pd.DataFrame(rows, columns=["image", "reference", "score"]).to_csv(folder / "mine.csv", index=False)
    return data.from_csv(folder / "mine.csv", low=0, high=1)


def losses(name: str, dataset: data.Dataset, fold: int = 1, checkpoint: Path | None = None) -> pd.DataFrame:
    """The history of a small training; `fold` batches in one."""
    torch.manual_seed(0)
    if name == "re-iqa":
        return reiqa_pretrain.pretrain(photos(4), MOCO, checkpoint, every=2)[1]
    if name == "dri-iqa, extractor":
        net = dri.Network(DRI).extractor
        return dri_stages.train_extractor(net, photos(4), DRI)
    make, config = {"yoto": (yoto.YOTO, YOTO), "qfm-iqm": (qfm.QFMIQM, QFM), "dri-iqa": (dri.DRIIQA, DRI),
                    # the pairs of the fidelity loss are those of a process's own batch
                    "yoto, squared error": (yoto.YOTO, dataclasses.replace(YOTO, rank=0.0)),
                    "qfm-iqm, no consistency": (qfm.QFMIQM, dataclasses.replace(QFM, lambda1=0.0)),
                    "dri-iqa, predictor alone": (dri.DRIIQA, dataclasses.replace(
                        DRI, quality=False, degradation=False, assist=False, rs="", rank=0.0))}[name]
    with pytest.MonkeyPatch.context() as patch:
        if checkpoint is None:  # two processes draw other numbers than one
            patch.setattr(nn.Dropout, "forward", lambda self, x: x)
        return make(dataclasses.replace(config, batch=fold * config.batch)).fit(dataset, checkpoint=checkpoint).history


# --- several processes ------------------------------------------------------------------------------------------

EQUAL = "yoto, squared error", "qfm-iqm, no consistency", "dri-iqa, predictor alone"


def find(folder: Path) -> None:
    """In each of two processes."""
    AcceleratorState._reset_state(reset_partial_state=True)  # the process that was forked may have been alone before
    torch.set_num_threads(1)  # and its other threads are lost,
    os.environ["OMP_NUM_THREADS"] = "1"  # which accelerate must not ask for again
    dri_stages.cache_dir = lambda: folder
    for what in (*EQUAL, "re-iqa", "dri-iqa, extractor"):
        history = losses(what, data.from_csv(folder / "mine.csv", low=0, high=1))
        if train.accelerator().is_main_process:
            history.to_csv(folder / f"{what}.csv", index=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, data.Dataset]:
    """What two processes find, and on which pictures."""
    folder = tmp_path_factory.mktemp("two")
    dataset = pictures(folder)
    debug_launcher(find, (folder,), num_processes=2)
    return folder, dataset


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one_with_twice_the_batch(name, two):
    folder, dataset = two
    found, wanted = pd.read_csv(folder / f"{name}.csv")["loss"], losses(name, dataset, 2)["loss"]
    assert np.allclose(found, wanted, rtol=1e-4) and wanted.nunique() == len(wanted) == 3
    assert not np.allclose(found, losses(name, dataset)["loss"], rtol=1e-3)  # so the batch matters


def test_two_processes_of_pretraining_share_one_queue(two):
    """Each has its own batch norms; keys of both enter the queue; the gradient is the mean."""
    found = pd.read_csv(two[0] / "re-iqa.csv")
    torch.manual_seed(MOCO.seed)
    moco, few = reiqa_pretrain.MoCo(MOCO).train(), photos(4)

    def crops(purpose, step):
        made = reiqa_pairs.make_pairs([few[i] for i in reiqa_pretrain._rows(step, 4, MOCO)], MOCO,
                                reiqa_pairs.seeded_generator(MOCO.seed, purpose, step))
        return made.queries, made.keys

    for step in range(-(-MOCO.queue // (MOCO.batch * MOCO.pairs))):
        moco.enqueue(moco.code(crops(2, step)[1]))
    optimizer = torch.optim.SGD(moco.query.parameters(), lr=MOCO.lr, momentum=0.9, weight_decay=MOCO.weight_decay)
    wanted = []
    for step in range(3):
        optimizer.param_groups[0]["lr"] = reiqa_pretrain.learning_rate(step, MOCO)
        codes = [moco(*crops(1, 2 * step + process)) for process in (0, 1)]
        loss = sum(reiqa_pretrain.info_nce(q, k, moco.queue, MOCO.temperature) for q, k in codes) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moco.follow(MOCO.momentum)
        moco.enqueue(torch.cat([k for _, k in codes]))
        wanted.append(loss.item())
    assert np.allclose(found["loss"], wanted, rtol=1e-4) and len(found) == 3


def test_two_processes_without_scores_take_every_second_batch(two, tmp_path, monkeypatch):
    found = pd.read_csv(two[0] / "dri-iqa, extractor.csv")["loss"]
    torch.manual_seed(0)
    monkeypatch.setattr(dri_stages, "cache_dir", lambda: tmp_path)
    stage = dri_stages.extractor_stage(dri.Network(DRI).extractor, photos(4), DRI)
    one_by_one, loss = stage.batches, stage.loss

    def in_pairs(step):
        batches = one_by_one(2 * step)
        yield from zip(batches, batches)

    stage.batches = in_pairs
    stage.loss = lambda pair: {"loss": (loss(pair[0])["loss"] + loss(pair[1])["loss"]) / 2}
    wanted = train.fit(stage)["loss"]
    assert np.allclose(found, wanted, rtol=1e-4) and len(found) == DRI.extractor_steps


def test_gradients_of_two_batches_add_up_to_those_of_one_that_is_twice_as_large(monkeypatch):
    x, y = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8.0)

    def run(size):
        torch.manual_seed(0)
        net = nn.Linear(5, 1)
        train.fit(train.Stage(
            "line", net, lambda i: {"loss": (net(x[i:i + size])[:, 0] - y[i:i + size]).square().mean()},
            lambda step: iter(range(size * step, 8, size)), 8 // size, 8 // size,
            torch.optim.SGD(net.parameters(), lr=0.01), lambda step: 1.0))
        return net.weight.detach()

    whole = run(4)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    assert torch.allclose(run(2), whole, atol=1e-6)


# --- kill -9 ----------------------------------------------------------------------------------------------------

def in_a_process(function, *inputs) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=function, args=inputs)
    process.start()
    return process


def write(name: str, dataset: data.Dataset, folder: Path) -> None:
    """A training in a folder of its own, whose history is its last file."""
    torch.set_num_threads(1)  # a forked process has lost the other threads
    dri_stages.cache_dir = lambda: folder
    losses(name, dataset, checkpoint=folder / "kept.pt").to_pickle(folder / "history.pkl")


@pytest.mark.parametrize("name", ["re-iqa", "yoto", "qfm-iqm", "dri-iqa"])
def test_killed_at_five_moments_it_goes_on_as_if_nothing_had_happened(name, tmp_path):
    for part in ("pictures", "whole", "killed"):
        (tmp_path / part).mkdir()
    dataset, started = pictures(tmp_path / "pictures"), time.monotonic()
    in_a_process(write, name, dataset, tmp_path / "whole").join()
    seconds, moments, kills = time.monotonic() - started, np.random.default_rng(), 0
    while kills < 5:
        process = in_a_process(write, name, dataset, tmp_path / "killed")
        process.join(moments.uniform(0, seconds))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:  # finished before its kill: start over
            assert process.exitcode == 0
            for file in (tmp_path / "killed").rglob("*.p*"):
                file.unlink()
    last = in_a_process(write, name, dataset, tmp_path / "killed")
    last.join()
    assert last.exitcode == 0
    whole, killed = (pd.read_pickle(tmp_path / part / "history.pkl") for part in ("whole", "killed"))
    pd.testing.assert_frame_equal(whole, killed, check_exact=True)
    nets = [torch.load(tmp_path / part / "kept.pt", weights_only=True)["module"] for part in ("whole", "killed")]
    assert nets[0].keys() == nets[1].keys() and all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


def counted(patch: pytest.MonkeyPatch, kill_at: int = 0) -> list[int]:
    """What BRISQUE is asked from now on: the sizes of its batches. With `kill_at` the process ends at that call."""
    calls, extract = [], baselines.brisque_features

    def spy(x):
        calls.append(len(x))
        if len(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return extract(x)

    patch.setattr(baselines.Brisque, "extract", staticmethod(spy))
    return calls


@pytest.mark.parametrize("work", [lambda folder: score.score_paths(folder, method="brisque")["brisque"],
                                  lambda folder: baselines.Brisque()._features(data.from_csv(folder / "mine.csv"))])
def test_what_was_scored_before_a_kill_is_not_scored_again(work, tmp_path, monkeypatch):
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "another cache"))
    pictures(tmp_path)
    for i, file in enumerate(sorted(tmp_path.glob("*.png"))):  # of 24 sizes, so none goes with another
        images.save(file, images.load(file)[:, :, :56 - i])
    whole = work(tmp_path)
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))

    def die() -> None:
        torch.set_num_threads(1)  # a forked process has lost the other threads
        counted(pytest.MonkeyPatch(), kill_at=9)
        work(tmp_path)

    process = in_a_process(die)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    calls = counted(monkeypatch)
    assert np.array_equal(work(tmp_path), whole)
    assert sum(calls) == len(whole) - 8
    assert not [*(tmp_path / "cache" / "scores").glob("*.pt")]


# --- half precision -----------------------------------------------------------------------------------------------

@pytest.fixture
def bfloat16(monkeypatch, tmp_path):
    """A process that trains at bfloat16, on this CPU."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(dri_stages, "cache_dir", lambda: tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", ["re-iqa", "yoto", "qfm-iqm", "dri-iqa"])
def test_every_method_trains_at_bfloat16(name, bfloat16, tmp_path):
    (tmp_path / "pictures").mkdir()
    dataset, dtypes = pictures(tmp_path / "pictures"), set()
    with pytest.MonkeyPatch.context() as patch:  # what a linear layer makes says whether half precision was on
        forward = nn.Linear.forward
        patch.setattr(nn.Linear, "forward", lambda self, x: dtypes.add((y := forward(self, x)).dtype) or y)
        found = losses(name, dataset, checkpoint=tmp_path / "kept.pt")["loss"]
    assert train.run_settings()["precision"] == "bf16" and torch.bfloat16 in dtypes
    assert np.isfinite(found).all()
    wanted = losses(name, dataset, checkpoint=tmp_path / "kept.pt")["loss"]  # a finished training is only read
    assert np.array_equal(found, wanted)


def test_unlabelled_images_train_at_bfloat16(bfloat16, tmp_path):
    (tmp_path / "pictures").mkdir()
    dataset = pictures(tmp_path / "pictures")
    config = dataclasses.replace(QFM, labels=0.5, epochs=2, consistency_start=0, memory=5)
    method = qfm.QFMIQM(config, unlabelled=dataset).fit(dataset)
    assert np.isfinite(method.history["loss"]).all() and np.isfinite(method.predict(dataset)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make, config", [(yoto.YOTO, YOTO), (qfm.QFMIQM, dataclasses.replace(QFM, consistency_start=0)),
                                          (dri.DRIIQA, dataclasses.replace(DRI, rs="ratio align interact"))])
def test_losses_at_half_precision_are_near_those_at_full(make, config, dtype):
    """As on a GPU that has float16 only; the CPU's autocast stands for it."""
    torch.manual_seed(0)
    method = make(config)
    method.net = method.build().train()
    method.labels_used = 4
    x = torch.rand(4, 3, 32, 32)
    batch = {"x": x, "x_ref": (0.9 * x + 0.05).clamp(0, 1), "score": torch.rand(4), "row": torch.arange(4)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Dropout, "forward", lambda self, x: x)
        found = []
        for enabled in (False, True):
            if isinstance(method, qfm.QFMIQM):
                method.net.memory = method.net.memory_bank(config)
            for step in range(2):  # the second one meets the memory of the first
                torch.manual_seed(1)
                with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                    loss = method.loss({**batch, "row": batch["row"] + step})["loss"]
            method.net.zero_grad()
            loss.backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in method.net.parameters())
            found.append(loss.item())
    assert found[1] == pytest.approx(found[0], rel=0.1, abs=0.02)
