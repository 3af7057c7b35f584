"""Diagrams of networks: boxes and arrows, hooks that see what a network really computes; small PNG files."""

import io
import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from PIL import Image
from torch import Tensor, nn

from lesson import plot
from iqa_core.files import atomic

NEW, EARLY, FROZEN, TRAINING, DATA = "trained on scores", "trained without scores", "frozen", "in training only", "data"
KINDS = {NEW: ("#D5E8F4", plot.BLUE, "-", 1.3), EARLY: ("#D2EDE3", plot.GREEN, "-", 2.6),
         FROZEN: ("#D2D2D2", "black", "-", 1.0), TRAINING: ("white", plot.RED, "--", 1.3),
         DATA: ("white", "white", "-", 0.0)}  # fill, edge, line and its width: told apart in grey, too
LINE = 0.145  # height of a line of text in inches


class Sheet:
    """A page of boxes and arrows. All lengths are inches, (0, 0) is the lower left corner."""

    def __init__(self, width: float, height: float):
        plot.style()
        self.figure, self.boxes, self.kinds = plt.figure(figsize=(width, height), layout="none"), {}, set()
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.ax.axis("off")

    def text(self, x: float, y: float, text: str, **options) -> None:
        self.ax.text(x, y, text, **{"fontsize": 8, "ha": "center", "va": "center", **options})

    def title(self, text: str, y: float | None = None) -> None:
        self.text(0.15, self.ax.get_ylim()[1] - 0.15 if y is None else y, text, ha="left", weight="bold", fontsize=9)

    def _frame(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        fill, edge, line, thick = KINDS[kind]
        self.ax.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.05", facecolor=fill,
                                         edgecolor=edge, linestyle=line, linewidth=thick))

    def box(self, name: str, x: float, y: float, kind: str, text: str, width: float = 1.2) -> None:
        """A box around (x, y); the first line of its text is bold."""
        lines = text.split("\n")
        up = (LINE * len(lines) + 0.1) / 2
        self._frame(x - width / 2, y - up, width, 2 * up, kind)
        for i, part in enumerate(lines):
            self.text(x, y + LINE * ((len(lines) - 1) / 2 - i), part, weight="normal" if i else "bold")
        self.boxes[name] = {"l": (x - width / 2, y), "r": (x + width / 2, y), "t": (x, y + up), "b": (x, y - up)}
        self.kinds.add(kind)

    def arrow(self, start: str, end: str, sides: str = "rl", dashed: bool = False, color: str = "#404040") -> None:
        """From a side (l, r, t, b) of one box to a side of another; around a corner where the two sides ask for it."""
        flat = [side in "lr" for side in sides]
        way = "arc3" if flat[0] == flat[1] else f"angle,angleA={90 - 90 * flat[0]},angleB={90 - 90 * flat[1]},rad=3"
        self.ax.annotate("", self.boxes[end][sides[1]], self.boxes[start][sides[0]], arrowprops={
            "arrowstyle": "->", "lw": 1.1, "ls": "--" if dashed else "-", "color": plot.RED if dashed else color,
            "connectionstyle": way, "shrinkA": 0, "shrinkB": 1})

    def arrows(self, text: str) -> None:
        """Many arrows: "a>b>c" to the right, "a~b" for training only, "a>b:bt" from the bottom of a to the top of b."""
        for names, _, sides in (word.partition(":") for word in text.split()):
            for start, end in pairwise(re.split("[>~]", names)):
                self.arrow(start, end, sides or "rl", "~" in names)

    def save(self, path: Path) -> None:
        """Write the page, with a legend of the kinds of boxes that are on it."""
        for i, kind in enumerate(kind for kind in KINDS if kind in self.kinds - {DATA}):
            self._frame(0.15 + 1.75 * i, 0.1, 0.28, 0.15, kind)
            self.text(0.51 + 1.75 * i, 0.175, kind, ha="left")
        self.text(self.ax.get_xlim()[1] - 0.1, 0.175, "k, M: parameters", ha="right")
        write(self.figure, path)


def write(figure: plt.Figure, path: Path, dpi: int = 130) -> None:
    """A PNG of 128 colours and without metadata: half as large, and equal drawings give equal bytes."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=dpi)
    plt.close(figure)
    with atomic(path) as temporary:
        Image.open(whole).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(temporary, "PNG", optimize=True)


def tensors(found) -> list[Tensor]:
    """All tensors of what a module was given, or gave."""
    parts = found if isinstance(found, (tuple, list)) else ()
    return [found] if isinstance(found, Tensor) else [tensor for part in parts for tensor in tensors(part)]


def size(x: Tensor) -> str:
    """Shape without the batch: "384 × 14 × 14"."""
    return " × ".join(f"{n:,}" for n in x.shape[1:])


def number(count: int) -> str:
    """"21.7 M"."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1e3 else str(count)


class Watched:
    """Hooks on every module of a network: what came in and what went out at the last call."""

    def __init__(self, net: nn.Module):
        self.net, self.calls = net.eval(), {}
        for name, module in net.named_modules():
            module.register_forward_hook(partial(self._note, name))

    def _note(self, name: str, module: nn.Module, given, gave) -> None:
        self.calls[name] = tensors(given), tensors(gave)

    def given(self, name: str, i: int = 0) -> str:
        return size(self.calls[name][0][i])

    def gave(self, name: str, i: int = 0) -> str:
        return size(self.calls[name][1][i])

    def both(self, name: str) -> str:
        """What a module gives, and a line below, its parameters."""
        return f"{self.gave(name)}\n{self.weights(name)}"

    def weights(self, *names: str) -> str:
        """Number of parameters of some modules."""
        return number(sum(p.numel() for name in names for p in self.net.get_submodule(name).parameters()))
