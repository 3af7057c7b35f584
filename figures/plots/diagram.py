"""Diagrams of networks: boxes and arrows, and hooks that record what a network computes."""

import io
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from PIL import Image
from torch import Tensor, nn

from iqa_core.files import atomic
from lesson import plot

NEW = "trained on scores"
EARLY = "trained without scores"
FROZEN = "frozen"
TRAINING = "in training only"
DATA = "data"
# fill, edge, line and its width: told apart in grey, too
KINDS = {NEW: ("#D5E8F4", plot.BLUE, "-", 1.3), EARLY: ("#D2EDE3", plot.GREEN, "-", 2.6),
         FROZEN: ("#D2D2D2", "black", "-", 1.0), TRAINING: ("white", plot.RED, "--", 1.3),
         DATA: ("white", "white", "-", 0.0)}
LINE = 0.145  # height of a line of text in inches


class Sheet:
    """A page of boxes and arrows. All lengths are inches, (0, 0) is the lower left corner."""

    def __init__(self, width: float, height: float):
        plot.style()
        self.width = width
        self.height = height
        self.figure = plt.figure(figsize=(width, height), layout="none")
        self.ax = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.ax.axis("off")
        self.sides: dict[str, dict[str, tuple[float, float]]] = {}  # where arrows meet each box
        self.kinds: set[str] = set()

    def text(self, x: float, y: float, text: str, **options) -> None:
        """A text; it is centred on (x, y) unless options say otherwise."""
        self.ax.text(x, y, text, **{"fontsize": 8, "ha": "center", "va": "center", **options})

    def title(self, text: str, y: float | None = None) -> None:
        """A heading at the left; at the top, if no height is named."""
        y = self.height - 0.15 if y is None else y
        self.text(0.15, y, text, ha="left", weight="bold", fontsize=9)

    def _frame(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        fill, edge, line, line_width = KINDS[kind]
        shape = "round,pad=0,rounding_size=0.05"
        self.ax.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=fill,
                                         edgecolor=edge, linestyle=line, linewidth=line_width))

    def box(self, name: str, x: float, y: float, kind: str, text: str, width: float = 1.2) -> None:
        """A box around (x, y); the first line of its text is bold."""
        lines = text.split("\n")
        half_width = width / 2
        half_height = (LINE * len(lines) + 0.1) / 2
        self._frame(x - half_width, y - half_height, width, 2 * half_height, kind)
        top_line = y + LINE * (len(lines) - 1) / 2
        for i, line in enumerate(lines):
            self.text(x, top_line - i * LINE, line, weight="normal" if i else "bold")
        self.sides[name] = {"l": (x - half_width, y), "r": (x + half_width, y),
                            "t": (x, y + half_height), "b": (x, y - half_height)}
        self.kinds.add(kind)

    def arrow(self, start: str, end: str, sides: str = "rl", dashed: bool = False,
              color: str = "#404040") -> None:
        """From a side (l, r, t, b) of one box to a side of another.

        It goes around a corner where one side is horizontal and the other is not.
        """
        first_angle = 0 if sides[0] in "lr" else 90
        second_angle = 0 if sides[1] in "lr" else 90
        way = "arc3"
        if first_angle != second_angle:
            way = f"angle,angleA={first_angle},angleB={second_angle},rad=3"
        style = {"arrowstyle": "->", "lw": 1.1, "ls": "--" if dashed else "-",
                 "color": plot.RED if dashed else color, "connectionstyle": way,
                 "shrinkA": 0, "shrinkB": 1}
        self.ax.annotate("", self.sides[end][sides[1]], self.sides[start][sides[0]],
                         arrowprops=style)

    def arrows(self, text: str) -> None:
        """Several arrows, separated by spaces.

        "a>b>c" goes from a to b and on to c, from right sides to left sides; "a~b" is an arrow that
        is there in training only; "a>b:bt" goes from the bottom of a to the top of b.
        """
        for word in text.split():
            chain, _, sides = word.partition(":")
            dashed = "~" in chain
            boxes = chain.replace("~", ">").split(">")
            for start, end in zip(boxes, boxes[1:]):
                self.arrow(start, end, sides or "rl", dashed)

    def save(self, path: Path) -> None:
        """Write the page, with a legend of the kinds of boxes that are on it."""
        shown = [kind for kind in KINDS if kind in self.kinds and kind != DATA]
        for i, kind in enumerate(shown):
            left = 0.15 + 1.75 * i
            self._frame(left, 0.1, 0.28, 0.15, kind)
            self.text(left + 0.36, 0.175, kind, ha="left")
        self.text(self.width - 0.1, 0.175, "k, M: parameters", ha="right")
        write(self.figure, path)


def write(figure: plt.Figure, path: Path, dpi: int = 130) -> None:
    """A PNG of 128 colours and without metadata.

    It is half as large, and equal drawings give equal bytes.
    """
    drawing = io.BytesIO()
    figure.savefig(drawing, dpi=dpi)
    plt.close(figure)
    image = Image.open(drawing).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE)
    with atomic(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def tensors(values) -> list[Tensor]:
    """All tensors among the arguments of a module, or in its output."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (tuple, list)):
        return [tensor for value in values for tensor in tensors(value)]
    return []


def size(x: Tensor) -> str:
    """Shape without the batch: "384 × 14 × 14"."""
    return " × ".join(f"{n:,}" for n in x.shape[1:])


def number(count: int) -> str:
    """"21.7 M"."""
    if count >= 1e6:
        return f"{count / 1e6:.1f} M"
    if count >= 1e3:
        return f"{count / 1e3:.1f} k"
    return str(count)


class Watched:
    """Hooks on every module of a network: what came in and went out at the last call."""

    def __init__(self, net: nn.Module):
        self.net = net.eval()
        self.calls: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        for name, module in net.named_modules():
            module.register_forward_hook(partial(self._record, name))

    def _record(self, name: str, module: nn.Module, inputs, output) -> None:
        self.calls[name] = (tensors(inputs), tensors(output))

    def input(self, name: str, i: int = 0) -> str:
        """The size of the i-th input of a module."""
        return size(self.calls[name][0][i])

    def output(self, name: str, i: int = 0) -> str:
        """The size of the i-th output of a module."""
        return size(self.calls[name][1][i])

    def parameters(self, *names: str) -> str:
        """The number of parameters of some modules; "" is the whole network."""
        modules = [self.net.get_submodule(name) for name in names]
        return number(sum(p.numel() for module in modules for p in module.parameters()))

    def output_and_parameters(self, name: str) -> str:
        """The output of a module, and in a line below, its number of parameters."""
        return f"{self.output(name)}\n{self.parameters(name)}"
