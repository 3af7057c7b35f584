"""The machine and the version of the kit that a number was measured with."""

import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch

import iqa_core


def hardware() -> str:
    """The GPU if this process has used one, else the CPU and the number of threads."""
    if _used_gpu():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", info.read_text("utf-8")) if info.is_file() else None
    cpu = model[1] if model else platform.processor()
    return f"{cpu}, {torch.get_num_threads()} threads"


def peak_memory_mb() -> float:
    """Peak memory of this process: of the GPU if it has used one; NaN where the system hides it."""
    if _used_gpu():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource  # Windows has no such module
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _used_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0


@cache
def version() -> str:
    """Version of `iqa_core` and, in a git checkout, the last commit that touched it."""
    folder = Path(iqa_core.__file__).parent
    try:
        command = ["git", "log", "-1", "--format=%h", "--", "."]
        log = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        commit = log.stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return f"{iqa_core.__version__}+{commit}" if commit else iqa_core.__version__
