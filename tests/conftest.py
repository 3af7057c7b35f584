"""Tests import the scripts of figures/ by name, as these import one another."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "figures"))
