"""What a training runs on: devices, processes and precision, through accelerate."""

import os
import warnings

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from accelerate.state import GradientState, is_initialized

_PRECISION = "ACCELERATE_MIXED_PRECISION"
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_accumulation_before = None  # what the environment asked for when the last accelerator was made


def accelerator() -> Accelerator:
    """What a training runs on: as `accelerate launch` says, else one GPU, else the CPU.

    A process has one device and one precision. Where an Accelerator was made before, by the caller
    or by another training, this one takes over its device, its mixed precision and its gradient
    accumulation. It costs less than a millisecond, so it is made wherever it is needed.

    Raises:
        ValueError: the environment asks for what accelerate cannot do here.

    >>> accelerator().num_processes
    1
    """
    global _accumulation_before
    gpu = torch.cuda.is_available()
    # A batch without references leaves some parameters out.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accumulation = os.environ.get(_ACCUMULATION)
    options = {"cpu": not gpu, "mixed_precision": os.environ.get(_PRECISION) or precision()}
    try:
        if is_initialized():
            options = {}
            if accumulation is None and _accumulation_before is None:  # it was the caller's
                options["gradient_accumulation_steps"] = GradientState().num_steps
        _accumulation_before = accumulation
        loading = DataLoaderConfiguration(non_blocking=gpu)
        return Accelerator(kwargs_handlers=[unused], dataloader_config=loading, **options)
    except ValueError as error:
        raise ValueError(f"accelerate cannot train here as it is asked to ({error}). Correct the "
                         "variables ACCELERATE_... of the environment, or restart Python and make "
                         "no other Accelerator first.") from error


def precision() -> str:
    """The mixed precision of a training if nobody asks for one: "bf16", "fp16" or "no".

    Float16 comes with scaled gradients. A GPU older than NVIDIA's Ampere (Colab's T4) only emulates
    bfloat16, which is slower than float32; it has float16.

    >>> precision() in ("bf16", "fp16", "no")
    True
    """
    if not torch.cuda.is_available():
        return "no"
    try:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # a torch that does not tell emulation apart
        native = torch.cuda.get_device_capability()[0] >= 8
    return "bf16" if native else "fp16"


def run_settings() -> dict[str, int | str]:
    """What a training depends on beside its config.

    Returns:
        The number of processes and of batches whose gradients are added up, and the precision.

    >>> sorted(run_settings())
    ['accumulation', 'precision', 'processes']
    """
    running_on = accelerator()
    return {"processes": running_on.num_processes,
            "accumulation": running_on.gradient_accumulation_steps,
            "precision": running_on.mixed_precision}


def warn_of_late_precision(running_on: Accelerator) -> None:
    """Say it where the environment asks for another precision than this process has."""
    wanted = os.environ.get(_PRECISION)
    if wanted and wanted != running_on.mixed_precision:
        warnings.warn(f"{_PRECISION}={wanted!r} comes too late: this process trains at mixed "
                      f"precision {running_on.mixed_precision!r}. Restart Python to change it.",
                      stacklevel=4)
