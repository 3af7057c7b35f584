"""What methods are given (batches, references, training parts), and a sentence where it is
wrong."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from iqa_core import batches
from iqa_core.data import Dataset, DatasetError, expect_same_size


def expect_batch(x: Tensor, x_ref: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """A batch of images and maybe their references, as float32.

    Args:
        x: (B, 3, H, W) in [0, 1], of any float type.
        x_ref: the same shape, or None.

    Returns:
        Both in float32, each on the device that it came on; None stays None.

    Raises:
        ValueError: no such batch (see `batches.expect`), or a reference of another shape.

    >>> import torch
    >>> expect_batch(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 36))
    Traceback (most recent call last):
    ValueError: x is (1, 3, 40, 40) and x_ref (1, 3, 40, 36); they must be of one size.
    """
    x = batches.expect(x, channels=3)
    if x_ref is None:
        return x, None
    x_ref = batches.expect(x_ref, "x_ref", channels=3)
    if x_ref.shape != x.shape:
        raise ValueError(f"x is {tuple(x.shape)} and x_ref {tuple(x_ref.shape)}; they must be of "
                         "one size.")
    return x, x_ref


def load_pair(dataset: Dataset, row: int) -> tuple[Tensor, Tensor]:
    """An image and its reference, (3, H, W) each.

    Raises:
        DatasetError: there is no reference, or it has another size.
    """
    image, reference = dataset.image(row), dataset.reference(row)
    expect_same_size(dataset, row, image.shape[-2:], reference.shape[-2:])
    return image, reference


def expect_training(train: Dataset, val: Dataset | None, references: bool) -> None:
    """One sentence where a method cannot be trained on one part and validated on another.

    Args:
        train: must hold images with finite scores.
        val: likewise, at least three (fewer have no rank correlation); None = no validation.
        references: does the method need a reference for every image?

    Raises:
        DatasetError: an empty part, a score that is no number, a missing reference. It names the
            image.
    """
    for part, what, least in ((train, "train", 1), (val, "validate", 3)):
        if part is None:
            continue
        if len(part) < least:
            remedy = "Give more images" if what == "train" else "Give at least 3, or val=None"
            raise DatasetError(f"{part.name}: {len(part)} images are too few to {what}. {remedy}.")
        bad = np.flatnonzero(~np.isfinite(part.scores))
        if len(bad):
            name = part.table["image"].iloc[bad[0]]
            raise DatasetError(f"{part.name}: the score of {name} is no number ({len(bad)} of "
                               f"{len(part)} are not). Correct or remove these rows.")
        if not references:
            continue
        for row in range(len(part)):
            if not part.has_reference(row):
                part.reference(row)  # raises, naming the image
        if not part.card.reference:
            raise DatasetError(f"{part.name}: its card says that it has no references. Set "
                               "reference=True in the card.")


def fill(module: nn.Module, state, path: str | Path, what: str) -> None:
    """Load a state dict from a file into a module, all of it.

    Args:
        module: what is filled.
        state: what the file holds for it.
        path, what: the file, and what it should fit, for the message.

    Raises:
        ValueError: no state dict, or tensors that are missing, unknown or of another shape; the
            first is named.
    """
    own = module.state_dict()
    given = state if isinstance(state, dict) else {}
    wrong = [key for key in {**own, **given} if not _fits(own.get(key), given.get(key))]
    if wrong:
        raise ValueError(f"{path}: does not fit {what}; {len(wrong)} tensors are missing, unknown "
                         f"or of another shape, first {wrong[0]!r}. Another version of this kit "
                         "wrote it: train it again.")
    module.load_state_dict(given)


def _fits(own: Tensor | None, given) -> bool:
    return isinstance(own, Tensor) and isinstance(given, Tensor) and own.shape == given.shape
