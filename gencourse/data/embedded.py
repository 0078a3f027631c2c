"""The sets that need no network: they are in scikit-learn, or can be written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from gencourse.data.dataset import Dataset
from gencourse.space import Space


def digits() -> Dataset:
    """Handwritten digits, 8x8 pixels on 17 levels, 1797 of them (UCI, in scikit-learn), split 1257/180/360.

    Stratified by class: 20 % test, an eighth of the rest validation, seed 0.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    rest, test = train_test_split(np.arange(1797), test_size=0.2, stratify=bunch.target, random_state=0)
    train, valid = train_test_split(rest, test_size=0.125, stratify=bunch.target[rest], random_state=0)
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)  # (1797, 1, 8, 8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    x = [images[torch.from_numpy(index)] for index in (train, valid, test)]
    y = [labels[torch.from_numpy(index)] for index in (train, valid, test)]
    return Dataset("digits", Space((1, 8, 8), levels=17), x[0], x[1], x[2], y[0], y[1], y[2])


def binary_digits() -> Dataset:
    """`digits` on two levels: a pixel is 1 where its grey level is 8 or more."""
    grey = digits()
    black_and_white = {part: (getattr(grey, part) >= 8).to(torch.uint8) for part in ("train", "valid", "test")}
    return replace(grey, name="binary_digits", space=Space((1, 8, 8), levels=2), **black_and_white)


def bars_and_stripes() -> Dataset:
    """All 14 images of 3x3 pixels that are made of full columns (bars) or full rows (stripes).

    The space has 512 images, so everything about a model of it can be enumerated. Train, valid and test are the same.
    """
    bits = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=torch.uint8, device="cpu")
    bars = bits.view(8, 1, 1, 3).expand(8, 1, 3, 3)
    stripes = bits.view(8, 1, 3, 1).expand(8, 1, 3, 3)
    images = torch.cat([bars, stripes]).unique(dim=0)  # all-white and all-black are both bars and stripes
    return Dataset("bars_and_stripes", Space((1, 3, 3), levels=2), images, images, images)


SETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "binary_digits": binary_digits,
    "bars_and_stripes": bars_and_stripes,
}
