"""Data sets as integer tensors with the `Space` they live in.

`load(name)` is the way in. The embedded sets (`digits`, `binary_digits`, `bars_and_stripes`) need no network; the others
are downloaded once and kept as `NAME.npz` in `$GENCOURSE_DATA`, or in the user's cache folder. `images(folder, size=28)` reads
pictures of one's own. Densities in the plane are in `gencourse.data.toys`.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.data import downloads, embedded
from gencourse.data.dataset import Dataset
from gencourse.data.own import Pictures, images
from gencourse.space import Space

__all__ = ["Dataset", "Pictures", "binarize", "dynamically_binarized", "images", "load", "names"]


def names() -> list[str]:
    """Every name that `load` knows, the embedded sets first."""
    return [*embedded.SETS, *downloads.SOURCES]


def load(name: str) -> Dataset:
    """Load a data set; the first use of a set that is not embedded downloads it.

    Splits: `digits` 1257/180/360, stratified; `mnist` and `fashion_mnist` 50000/10000/10000 and `cifar10` 45000/5000/10000,
    the last training images for validation; `binarized_mnist` 50000/10000/10000 as published, with the test images sorted
    by class (shuffle before showing the first few); `frey_faces` 1565/200/200 and `lfw` 80/10/10 %, shuffled with a fixed seed.

    Raises:
        ValueError: if the name is unknown (the nearest one is suggested), or the file is damaged.
        FileNotFoundError: if the set is neither on this machine nor to be had from the network.

    >>> load("bars_and_stripes").train.shape
    torch.Size([14, 1, 3, 3])
    >>> load("digit")
    Traceback (most recent call last):
    ValueError: unknown data set 'digit'; did you mean 'digits'? There are: digits, binary_digits, bars_and_stripes, ...
    """
    if name in embedded.SETS:
        return embedded.SETS[name]()
    if name in downloads.SOURCES:
        return downloads.load(name)
    near = difflib.get_close_matches(str(name).lower(), names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown data set {name!r}; {hint}{'There' if hint else 'there'} are: {', '.join(names())}.")


def binarize(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw each 8-bit pixel as 0 or 1 with probability `x / 255` of a 1; uint8, the same shape.

    Raises:
        TypeError: if the pixels are not integers; `Space.from_unit` makes them from floats in [0, 1].

    >>> binarize(torch.tensor([[0, 255]]))
    tensor([[0, 1]], dtype=torch.uint8)
    """
    if x.is_floating_point():
        raise TypeError(f"binarize expects grey levels 0..255 as integers, but the tensor is {x.dtype}; see Space.from_unit.")
    uniform = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    return (uniform < x.float() / 255).to(torch.uint8)


def dynamically_binarized(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """The same images on two levels, the training pixels drawn anew each time a batch is taken.

    Validation and test pixels are drawn once, from `seed`. Likelihoods on such data are 1 to 3 nats better than on the
    fixed binarisation, and the two must never be compared.

    Raises:
        ValueError: if the images do not have 256 levels, or seed is no integer.
    """
    if dataset.space.levels != 256:
        raise ValueError(f"dynamically_binarized needs 8-bit images, but {dataset.name!r} has {dataset.space}.")
    generator = torch.Generator().manual_seed(arguments.seed("dynamically_binarized: seed", seed))
    return replace(
        dataset,
        name=f"{dataset.name} (dynamic)",
        space=Space(dataset.space.shape, levels=2),
        valid=binarize(dataset.valid, generator=generator),
        test=binarize(dataset.test, generator=generator),
        augment=binarize,
    )
