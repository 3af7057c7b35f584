"""The papers' settings rehearsed: no GPU, no dataset, and every code path of full mode.

    python -m figures.rehearse [--small] [METHOD ...]       METHOD: re-iqa, yoto, qfm-iqm, dri-iqa

For each method a folder is made that looks like the set of its paper: a few images under the file
names of the release, with invented scores. On it the paper's network is trained as in full mode,
but only for two steps a stage, with a checkpoint after each. Every run is a process of its own:

    whole      train, validate, save, load, score with the paper's test crops
    killed     killed in the second step of each stage in turn; started again, the losses must be
               those of `whole`, to the last digit
    half       mixed precision, and the gradients of two batches added up
    two        two processes

A table tells what was measured here, and what follows for a whole training. Hours on a GPU are
calculated from FLOPs: nobody has measured them. --small takes tiny networks: that is what the tests
run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

import data_download
from data_download.made import offline
from figures import machine
from iqa_core import (
    data, dri, images, qfm, reiqa, reiqa_experts, reiqa_pairs, reiqa_pretrain, train, yoto)
from iqa_core.hardware import accelerator
from iqa_core.method import Method

STEPS = 2
VALIDATION = 3  # images
# Where a training step is taken to run at this share of a GPU's peak (dense, half precision).
SHARE_OF_PEAK = 0.3
PEAKS = {"T4": 65e12, "A100": 312e12}  # FLOP/s, as their data sheets have them
TRAIN_SHARE = 0.7  # of the images of a set
# The set that each paper trains on, and a batch that fits into the memory of a laptop.
SETS = {"re-iqa": "kadis700k", "yoto": "kadid10k", "qfm-iqm": "biq2021", "dri-iqa": "kadid10k"}
CARRIED = {"re-iqa": 4}  # of 630 images a step, which would need hundreds of gigabytes


# --- folders like those of the releases ----------------------------------------------------------

def imitate(name: str, folder: Path, count: int) -> None:
    """A folder in the layout of a set, with `count` images of so many contents."""
    scenes = [offline.reference(scene) for scene in list(offline.CONTENTS)[:4]]

    def write(file: str, i: int) -> None:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        images.save(path, scenes[i % len(scenes)])

    numbers = range(count)
    invented = [i % 7 / 7 for i in numbers]
    if name == "kadis700k":
        for i in numbers:
            write(f"ref_imgs/{i:06}.png", i)
    elif name == "kadid10k":
        names = [f"I{i + 1:02}_01_03.png" for i in numbers]
        references = [f"I{i + 1:02}.png" for i in numbers]
        for i in numbers:
            write(f"images/{names[i]}", i)
            write(f"images/{references[i]}", i)
        table = pd.DataFrame({"dist_img": names, "ref_img": references,
                              "dmos": [1 + 4 * score for score in invented]})
        table.to_csv(folder / "dmos.csv", index=False)
    else:
        names = [f"ss01 ({i + 1}).jpg" for i in numbers]
        for i in numbers:
            write(f"Images/{names[i]}", i)
        table = pd.DataFrame({"Image Name": names, "MOS": invented})
        table.to_csv(folder / "Train (Images and MOS).csv", index=False)


def settings(name: str, small: bool):
    """The config of full mode; with `small` one of the same code paths, but of tiny networks."""
    if name == "re-iqa":
        config = reiqa_pairs.PretrainConfig()
        tiny = {"backbone": "test_resnet", "crop": 32, "types_per_image": 2, "queue": 64,
                "batch": CARRIED[name]}
    elif name == "yoto":
        config = yoto.YOTOConfig()
        tiny = {"encoder": "test_convnext", "width": 16, "crop": 64, "batch": 4, "test_crops": 2}
    elif name == "qfm-iqm":
        config = qfm.QFMConfig()
        tiny = {"encoder": "test_vit", "heads": 4, "crop": 160, "batch": 4, "test_crops": 2,
                "memory": 8}
    else:
        config = dri.DRIConfig()
        tiny = {"trunk": (8, 8, 16, 16), "patch": 32, "crop": 32, "restorer_patch": 32,
                "contents": 2, "batch": 4, "degradations": 2, "restorer_width": 8,
                "restorer_blocks": (1, 1, 1, 1), "width": 16, "test_crops": 2}
    # the weights of the papers' encoders lie on a hub, and do not change what a step costs
    without = {"weights": "random"}
    return dataclasses.replace(config, **without, **(tiny if small else {}))


# --- one run -------------------------------------------------------------------------------------

class Watch:
    """What is seen of the stages of a training: losses, seconds and FLOPs; and who kills it."""

    def __init__(self, kill: int | None):
        self.kill = kill  # number of the stage
        self.stages: list[dict] = []

    def over(self, stage: train.Stage) -> train.Stage:
        """The same stage, two steps long, with a checkpoint after each, and watched."""
        added = accelerator().gradient_accumulation_steps
        seen = {"name": stage.name, "steps": stage.steps, "losses": [], "flops": 0,
                "parameters": sum(p.numel() for p in stage.module.parameters())}
        number = len(self.stages)
        self.stages.append(seen)
        batches, loss = stage.batches, stage.loss

        def watched_batches(step: int) -> Iterator:
            made = batches(step)
            counter = FlopCounterMode(display=False)
            for number_of_batch in range(step, stage.steps):
                if number_of_batch == 1:
                    seen["flops"] = counter.get_total_flops()
                if number_of_batch == added and number == self.kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                start = time.perf_counter()
                batch = next(made)
                seen["loading"] = time.perf_counter() - start
                seen["began"] = time.perf_counter()
                if number_of_batch == 0:
                    with counter:
                        yield batch
                else:
                    yield batch

        def watched_loss(batch) -> dict:
            values = loss(batch)
            seen["losses"].append(values["loss"].item())
            return values

        def after_step(*_) -> None:
            seen["seconds"] = time.perf_counter() - seen["began"]

        stage.optimizer.register_step_post_hook(after_step)
        stage.batches, stage.loss = watched_batches, watched_loss
        stage.steps = STEPS * added
        stage.round = added
        return stage


def shortened(kind: type[Method], watch: Watch) -> type[Method]:
    """The method, with every stage under the eyes of a watch."""

    class Short(kind):
        name = kind.name

        def stages(self, *arguments) -> Iterator[train.Stage]:
            for stage in super().stages(*arguments):
                short = watch.over(stage)
                if hasattr(self, "steps_before"):
                    self.steps_before = 0  # the consistency acts in the second step
                yield short

    return Short


def fit_method(name: str, config, root: Path, watch: Watch) -> dict:
    """YOTO, QFM-IQM or DRI-IQA, on as many images as two steps need."""
    kinds = {"yoto": yoto.YOTO, "qfm-iqm": qfm.QFMIQM, "dri-iqa": dri.DRIIQA}
    dataset = data_download.load(SETS[name])
    validating = dataset.table["content"].isin(dataset.table["content"].unique()[-VALIDATION:])
    parts = [dataset.subset((~validating).to_numpy()), dataset.subset(validating.to_numpy())]
    method = shortened(kinds[name], watch)(config)
    method.fit(*parts, checkpoint=root / f"{name}.ckpt")
    if not accelerator().is_main_process:
        return {}
    method.save(root / f"{name}.weights")
    again = kinds[name].load(root / f"{name}.weights")
    start = time.perf_counter()
    before, after = method.predict(parts[1]), again.predict(parts[1])
    seconds = (time.perf_counter() - start) / 2 / len(parts[1])
    # weights are written at half precision
    return {"an image, s": seconds, "reloaded": float(abs(before - after).max())}


def fit_expert(config, root: Path, watch: Watch) -> dict:
    """Re-IQA's pretraining, and a score from the expert."""
    photographs = reiqa_pretrain.Uint8Images(data_download.load(SETS["re-iqa"]))
    running_on = accelerator()
    steps = STEPS * running_on.gradient_accumulation_steps
    batch = CARRIED["re-iqa"]
    epochs = steps * running_on.num_processes / (len(photographs) // batch)
    paper = config
    config = dataclasses.replace(config, batch=batch, epochs=epochs,
                                 queue=min(config.queue, 4 * batch * config.pairs))
    reiqa_pretrain.fit = lambda stage: train.fit(watch.over(stage))
    moco, _ = reiqa_pretrain.pretrain(photographs, config, root / "re-iqa.ckpt", workers=2)
    watch.stages[0]["steps"] = None  # see `cost`
    if not running_on.is_main_process:
        return {}
    reiqa_experts.save_expert(root / "expert.pt", moco.query.backbone, paper)
    method = reiqa.ReIQA(reiqa.ReIQAConfig(quality=str(root / "expert.pt")))
    x = photographs.dataset.image(0)[None]
    start = time.perf_counter()
    width = method.extract(x).shape[1]
    return {"an image, s": time.perf_counter() - start, "features": width}


def run(job: dict) -> None:
    """One process: what `job` says; the main process writes what it saw."""
    torch.manual_seed(0)
    watch = Watch(job["kill"])
    config = settings(job["method"], job["small"])
    root = Path(job["root"])
    if job["method"] == "re-iqa":
        result = fit_expert(config, root, watch)
    else:
        result = fit_method(job["method"], config, root, watch)
    if accelerator().is_main_process:
        result |= {"stages": watch.stages, "memory": machine.peak_memory_mb() / 1024}
        Path(job["out"]).write_text(json.dumps(result))


# --- all runs of a method ------------------------------------------------------------------------

def started(job: dict, folder: Path, launch: tuple[str, ...] = (), **environment: str) -> dict:
    """What a run in a process of its own saw; {} where it was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {**job, "root": str(folder), "out": str(folder / "seen.json")}
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, *launch, "-m", "figures.rehearse", "--job",
               str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, env={
        **os.environ, "IQA_CACHE": str(folder / "cache"), **environment})
    if done.returncode == -signal.SIGKILL and job["kill"] is not None:
        return {}
    if done.returncode:
        raise RuntimeError(f"{job['method']}: the rehearsal failed.\n{done.stderr[-3000:]}")
    return json.loads(Path(job["out"]).read_text())


def rehearse(name: str, small: bool, root: Path, say: Callable[[str], None]) -> dict:
    """Every run of a method; its line of the table.

    Raises:
        RuntimeError: a run failed, or one that was killed came back with other losses.
    """
    config = settings(name, small)
    count = CARRIED.get(name, getattr(config, "batch", 0))
    imitate(SETS[name], root / SETS[name], count + VALIDATION)  # a step is an epoch
    environment = {"IQA_DATA": str(root)}
    job = {"method": name, "small": small, "kill": None}
    whole = started(job, root / "whole", **environment)
    say(f"{name}: whole, {len(whole['stages'])} stages")
    for number, stage in enumerate(whole["stages"]):
        folder = root / f"killed-{number}"
        killed = started({**job, "kill": number}, folder, **environment)
        again = started(job, folder, **environment)
        for before, after in zip(whole["stages"], again["stages"]):
            if killed or before["losses"][len(before["losses"]) - len(after["losses"]):] != (
                    after["losses"]):
                raise RuntimeError(f"{name}: killed in {stage['name']}, it came back with other "
                                   f"losses: {after['losses']}, not {before['losses']}.")
        say(f"{name}: killed in {stage['name']}, came back with the same losses")
    started(job, root / "half", ACCELERATE_MIXED_PRECISION="bf16",
            ACCELERATE_GRADIENT_ACCUMULATION_STEPS="2", **environment)
    say(f"{name}: half precision, gradients of two batches")
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no")
    started(job, root / "two", launch, **environment)
    say(f"{name}: two processes")
    return cost(name, config, whole)


def cost(name: str, config, whole: dict) -> dict:
    """A line of the table: what was measured here, and what follows for the whole training."""
    images_there = data_download.cards()[SETS[name]].images
    flops = 0.0
    seconds = 0.0
    for stage in whole["stages"]:
        steps = stage["steps"]
        scale = 1.0
        if name == "re-iqa":
            scale = config.batch / CARRIED[name]
            steps = config.epochs * (images_there // config.batch)
        elif stage is whole["stages"][-1]:
            passes = getattr(config, "crops_per_epoch", 1)
            steps = config.epochs * passes * -(-int(TRAIN_SHARE * images_there) // config.batch)
        flops += steps * scale * stage["flops"]
        seconds += steps * scale * (stage["seconds"] + stage["loading"])
    line = {"method": name, "set": f"{SETS[name]}, {images_there:,} images",
            "parameters, M": max(stage["parameters"] for stage in whole["stages"]) / 1e6,
            "memory here, GB": whole["memory"], "an image here, s": whole["an image, s"],
            "whole training, PFLOP": flops / 1e15, "here, days": seconds / 86400}
    for gpu, peak in PEAKS.items():
        line[f"{gpu}, hours (calculated)"] = flops / peak / SHARE_OF_PEAK / 3600
    return line


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 if a rehearsal failed."""
    parser = argparse.ArgumentParser(prog="figures.rehearse", description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", choices=[[], *SETS], metavar="METHOD")
    parser.add_argument("--small", action="store_true", help="tiny networks, as in the tests")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.job:
        run(json.loads(Path(chosen.job).read_text()))
        return 0
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - start:4.0f} s] {text}", flush=True)

    lines = []
    for name in chosen.methods or SETS:
        with tempfile.TemporaryDirectory() as root:
            try:
                lines.append(rehearse(name, chosen.small, Path(root), say))
            except RuntimeError as error:
                say(f"stopped: {error}")
                return 1
    print(pd.DataFrame(lines).set_index("method").T.to_string(float_format="{:.3g}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
