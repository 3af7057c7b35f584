"""What the benchmarks share: photographs, seconds, memory, and the machine in one line."""

from __future__ import annotations

import importlib
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from skimage import data

import figures.machine
from figures import FOLDER

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """The GPU, or CPU and threads, and versions in one line."""
    if DEVICE == "cuda":
        hardware = torch.cuda.get_device_name()
    else:
        hardware = f"{figures.machine.hardware()}, no GPU"
    return f"{hardware}, torch {torch.__version__}, {platform.system()}"


def photographs(size: int, count: int) -> torch.Tensor:
    """(count, 3, size, size): scikit-image's photographs, resized and rolled: no two are equal."""
    photos = []
    for read in (data.astronaut, data.chelsea, data.coffee):
        photo = torch.from_numpy(read()).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)
        photo = F.interpolate(photo, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        photos.append(photo[0])
    return torch.stack([photos[i % 3].roll((37 * i, 23 * i), (1, 2)) for i in range(count)])


def training_batch(method, first: int = 0) -> dict:
    """A batch of photographs for `method.loss`, with their maps where the encoder is frozen.

    Args:
        method: with its network built.
        first: number of the first image.
    """
    config = method.config
    device = next(method.net.parameters()).device
    x = photographs(config.crop, config.batch).to(device)  # (B, 3, crop, crop)
    batch = {"x": x, "x_ref": x, "score": torch.rand(config.batch, device=device),
             "row": torch.arange(first, first + config.batch, device=device)}
    if config.frozen:
        maps = getattr(method.net, "views", method.net.encoder)(x)
        batch |= {"maps": maps, "ref_maps": maps}
    return batch


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes, on a GPU until its work has ended."""
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_gb(kind: str) -> float:
    """Memory of this process in GB, from Linux: VmRSS is what it has now, VmHWM its peak.

    `resource.getrusage` would not do: its peak begins with what the parent process had.
    """
    kilobytes = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) / 2**20


def plain(name: str) -> ModuleType:
    """A plain implementation of the same equations, `plain_distortions` or `plain_yoto`.

    They live with the tests.
    """
    tests = str(FOLDER.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return importlib.import_module(name)
