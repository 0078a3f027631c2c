"""How the raw files of the downloadable sets are read, and how the sets are split.

Nothing is ever unpickled, and no archive is unpacked to disk.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arrays = dict[str, np.ndarray]
Parts = dict[str, Any]  # the tensors of a Dataset, by its attributes' names


def read_npz(paths: list[Path], *names: str) -> Arrays:
    """Read the arrays `names` of one .npz; an array of Python objects is refused, not unpickled.

    Raises:
        ValueError: if it is no .npz archive.
    """
    with paths[0].open("rb") as file:
        if file.read(2) != b"PK":
            raise ValueError("it is not an .npz archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}


def read_idx(paths: list[Path]) -> Arrays:
    """Read four gzipped IDX files, the format of MNIST: training images and labels, test images and labels.

    Raises:
        ValueError: if one is no IDX file of bytes.
    """
    arrays = {}
    for name, path in zip(("x_train", "y_train", "x_test", "y_test"), paths, strict=True):
        raw = gzip.decompress(path.read_bytes())
        if raw[:3] != b"\0\0\x08":  # two zeros, then the code of unsigned bytes
            raise ValueError(f"{name}: not an IDX file of bytes")
        rank = raw[3]
        shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
        arrays[name] = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape.astype(int))
    return arrays


def read_amat(paths: list[Path]) -> Arrays:
    """Read three text files of 0s and 1s, an image a line; packed, eight pixels a byte."""
    arrays = {}
    for name, path in zip(("train", "valid", "test"), paths, strict=True):
        characters = np.frombuffer(path.read_bytes(), np.uint8)
        bits = characters[(characters == ord("0")) | (characters == ord("1"))] - ord("0")
        arrays[name] = np.packbits(bits.reshape(-1, 784), axis=1)  # (N, 98)
    return arrays


def read_made(paths: list[Path]) -> Arrays:
    """Read the binarised digits as the authors of MADE published them: float images in one .npz."""
    arrays = read_npz(paths, "train_data", "valid_data", "test_data")
    return {name.removesuffix("_data"): np.packbits(pixels > 0.5, axis=1) for name, pixels in arrays.items()}


def read_frey(paths: list[Path]) -> Arrays:
    """Read the Frey faces from their MATLAB file."""
    from scipy.io import loadmat

    faces = loadmat(str(paths[0]))["ff"]  # (560, 1965), an image a column
    return {"images": faces.T.reshape(-1, 28, 20).astype(np.uint8)}


CIFAR_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def read_cifar(paths: list[Path]) -> Arrays:
    """Read the binary version of CIFAR-10 (the other one is pickled): records of 3073 bytes, a label and then 3x32x32 pixels."""
    with tarfile.open(paths[0]) as archive:
        members = {Path(member.name).stem: member for member in archive if member.isfile()}
        raw = {name: archive.extractfile(members[name]).read() for name in CIFAR_BATCHES}  # type: ignore[union-attr]
    return {name: np.frombuffer(data, np.uint8).reshape(-1, 3073) for name, data in raw.items()}


def read_lfw(paths: list[Path]) -> Arrays:
    """Read the funneled faces in grey, `(N, 64, 64)`, in the order of their file names.

    The face fills about the middle 128x128 of the 250x250 pixels. Halving that by 2x2 means is exact, whatever the version
    of the image library, and 64 is a power of two, as stacks of convolutions need. Grey keeps the set at 54 MB.
    """
    from PIL import Image

    faces = {}
    with tarfile.open(paths[0], "r|gz") as archive:  # a stream: one pass over the archive
        for member in archive:
            if member.isfile() and member.name.endswith(".jpg"):
                picture = io.BytesIO(archive.extractfile(member).read())  # type: ignore[union-attr]
                with Image.open(picture, formats=["JPEG"]) as image:
                    grey = np.asarray(image.convert("L"), dtype=np.uint16)
                top, left = 68, 61  # the middle of an aligned face is a little below that of its picture
                sums = grey[top : top + 128, left : left + 128].reshape(64, 2, 64, 2).sum((1, 3))
                faces[member.name] = ((sums + 2) // 4).astype(np.uint8)
    return {"images": np.stack([faces[name] for name in sorted(faces)])}


def _images(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).unsqueeze(1)  # (N, 1, H, W)


def _labels(y: np.ndarray) -> Tensor:
    return torch.from_numpy(y.astype(np.int64))


def split_mnist(arrays: Arrays) -> Parts:
    """50000/10000/10000: the last 10000 training images are for validation."""
    x, y = _images(arrays["x_train"]), _labels(arrays["y_train"])
    parts = {"train": x[:50000], "valid": x[50000:], "test": _images(arrays["x_test"])}
    return {**parts, "train_labels": y[:50000], "valid_labels": y[50000:], "test_labels": _labels(arrays["y_test"])}


def split_binarized(arrays: Arrays) -> Parts:
    """50000/10000/10000 as published, in the published order: the test images are sorted by class."""
    return {part: _images(np.unpackbits(bits, axis=1).reshape(-1, 28, 28)) for part, bits in arrays.items()}


def split_cifar(arrays: Arrays) -> Parts:
    """45000/5000/10000: the last 5000 training images are for validation."""
    records = np.concatenate([arrays[name] for name in CIFAR_BATCHES])  # (60000, 3073)
    x = torch.from_numpy(np.ascontiguousarray(records[:, 1:])).view(-1, 3, 32, 32)
    y = _labels(records[:, 0])
    slices = {"train": slice(45000), "valid": slice(45000, 50000), "test": slice(50000, 60000)}
    return {part: x[i] for part, i in slices.items()} | {f"{part}_labels": y[i] for part, i in slices.items()}


def split_shuffled(valid: int, test: int) -> Callable[[Arrays], Parts]:
    """`valid` and `test` images drawn at random, always the same; the others are for training.

    A face of the test set may have a neighbour in the same film (Frey), or another photograph of the same person (LFW), in
    the training set: such test likelihoods compare models, and say little about faces that are new.
    """

    def split(arrays: Arrays) -> Parts:
        images = _images(arrays["images"])
        # RandomState is the one generator of NumPy whose numbers are promised to stay the same in every version.
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(images)))
        train = len(images) - valid - test
        return dict(zip(("train", "valid", "test"), images[order].split([train, valid, test]), strict=True))

    return split
