"""What most readers import first is quick: it leaves out what only trained networks need."""

import subprocess
import sys

HEAVY = ["timm", "torchvision", "accelerate", "sklearn", "huggingface_hub"]


def modules_after(code: str) -> set[str]:
    """The names of all modules that a fresh process has loaded after some code."""
    program = f"import sys\n{code}\nprint(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split())


def test_no_network_library_is_loaded():
    names = ["metrics", "images", "data", "distortions", "features", "baselines"]
    loaded = modules_after("\n".join(f"import iqa_core.{name}" for name in names))
    assert {f"iqa_core.{name}" for name in names} <= loaded
    assert not loaded & set(HEAVY)


def test_the_help_of_the_command_loads_no_torch():
    code = """
from iqa_core.__main__ import main
try:
    main(["score", "--help"])
except SystemExit:
    pass
"""
    assert not modules_after(code) & {"torch", "pandas", *HEAVY}
