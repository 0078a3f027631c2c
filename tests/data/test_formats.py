import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from gencourse.data import formats
from gencourse.data.sources import SOURCES

RNG = np.random.default_rng(0)


def tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return [path]


def test_idx_files_are_read_by_their_headers(tmp_path):
    arrays = {
        "x_train": RNG.integers(0, 256, (5, 3, 2), dtype=np.uint8),
        "y_train": RNG.integers(0, 10, 5, dtype=np.uint8),
        "x_test": RNG.integers(0, 256, (4, 3, 2), dtype=np.uint8),
        "y_test": RNG.integers(0, 10, 4, dtype=np.uint8),
    }
    paths = []
    for name, a in arrays.items():
        header = struct.pack(">HBB", 0, 8, a.ndim) + struct.pack(f">{a.ndim}I", *a.shape)
        paths.append(tmp_path / name)
        paths[-1].write_bytes(gzip.compress(header + a.tobytes()))
    read = formats.read_idx(paths)
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    paths[0].write_bytes(gzip.compress(b"\0\0\x0d\1" + bytes(20)))  # floats
    with pytest.raises(ValueError, match="not an IDX file of bytes"):
        formats.read_idx(paths)


def test_both_publications_of_the_binarised_digits_give_the_same_arrays(tmp_path):
    bits = {part: RNG.integers(0, 2, (n, 784)) for part, n in [("train", 3), ("valid", 2), ("test", 2)]}
    for part, x in bits.items():
        np.savetxt(tmp_path / part, x, fmt="%d")  # "0 1 0 ...", a line an image
    np.savez(tmp_path / "made.npz", **{f"{part}_data": x.astype(np.float32) for part, x in bits.items()})
    text = formats.read_amat([tmp_path / part for part in bits])
    made = formats.read_made([tmp_path / "made.npz"])
    for part, x in bits.items():
        assert np.array_equal(text[part], made[part])
        assert torch.equal(formats.split_binarized(text)[part], torch.from_numpy(x).view(-1, 1, 28, 28).to(torch.uint8))


def test_frey_faces_are_the_columns_of_the_matlab_matrix(tmp_path):
    faces = RNG.integers(0, 256, (6, 28, 20), dtype=np.uint8)
    savemat(tmp_path / "frey.mat", {"ff": faces.reshape(6, 560).T})
    assert np.array_equal(formats.read_frey([tmp_path / "frey.mat"])["images"], faces)


def test_cifar_records_are_a_label_and_three_planes(tmp_path):
    images = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(6, -1)], axis=1)
    names = [f"cifar-10-batches-bin/{name}.bin" for name in formats.CIFAR_BATCHES]
    members = {"cifar-10-batches-bin/readme.html": b"hello"} | {n: r.tobytes() for n, r in zip(names, records, strict=True)}
    arrays = formats.read_cifar(tar(tmp_path / "cifar.tar.gz", members))
    assert list(arrays) == list(formats.CIFAR_BATCHES)

    full = {name: np.broadcast_to(a, (10000, 3073)) for name, a in arrays.items()}  # each record 10000 times
    parts = formats.split_cifar(full)
    assert {name: len(part) for name, part in parts.items() if "labels" not in name} == {
        "train": 45000,
        "valid": 5000,
        "test": 10000,
    }
    assert np.array_equal(parts["train"][::10000].numpy(), images[:5])
    assert np.array_equal(parts["valid"][0].numpy(), images[4])
    assert np.array_equal(parts["test"][-1].numpy(), images[5])
    assert parts["train_labels"][::10000].tolist() == [3, 1, 4, 1, 5]
    assert parts["test_labels"].unique().tolist() == [9]


def test_lfw_is_the_halved_middle_of_each_picture_in_order_of_the_names(tmp_path):
    row, column = np.mgrid[:250, :250]
    members = {}
    for name, picture in [("lfw_funneled/B/B_0001.jpg", row), ("lfw_funneled/A/A_0001.jpg", column)]:
        buffer = io.BytesIO()
        Image.fromarray(picture.astype(np.uint8)).convert("RGB").save(buffer, "JPEG", quality=100)
        members[name] = buffer.getvalue()
    members["lfw_funneled/pairs_01.txt"] = b"not a picture"
    images = formats.read_lfw(tar(tmp_path / "lfw.tgz", members))["images"]
    assert images.shape == (2, 64, 64)
    assert images.dtype == np.uint8
    across, down = images.astype(float)
    ramp = 2 * np.arange(64) + 0.5  # the mean of two neighbours
    assert np.abs(across - (61 + ramp)).max() <= 1.5  # half a level of rounding, and one of JPEG's
    assert np.abs(down - (68 + ramp)[:, None]).max() <= 1.5


def test_mnist_keeps_its_order_and_its_labels():
    x = np.arange(60000, dtype=np.uint32)[:, None, None] % 251  # each image shows its number
    y = (np.arange(60000) % 10).astype(np.uint8)
    test = np.full((10000, 1, 1), 7, dtype=np.uint8)
    parts = formats.split_mnist({"x_train": x.astype(np.uint8), "y_train": y, "x_test": test, "y_test": y[:10000]})
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [50000, 10000, 10000]
    assert parts["valid"][0].item() == 50000 % 251
    assert torch.equal(torch.cat([parts["train_labels"], parts["valid_labels"]]), torch.from_numpy(y).long())
    assert parts["train_labels"].dtype == torch.int64


SHUFFLED = [("frey_faces", (1565, 200, 200), [18, 781, 342, 1274]), ("lfw", (10587, 1323, 1323), [1961, 4022, 12583, 11963])]


@pytest.mark.parametrize(("name", "sizes", "first"), SHUFFLED)
def test_shuffled_splits_share_nothing_lose_nothing_and_never_change(name, sizes, first):
    number = np.arange(sum(sizes))
    images = np.stack([number % 256, number // 256], axis=1).astype(np.uint8)[:, None]  # (N, 1, 2), each its own number
    parts = SOURCES[name].split({"images": images})
    numbers = [(part[:, 0, 0, 0].int() + 256 * part[:, 0, 0, 1].int()).tolist() for part in parts.values()]
    assert tuple(len(part) for part in numbers) == sizes
    assert sorted(numbers[0] + numbers[1] + numbers[2]) == number.tolist()
    assert numbers[0][:4] == first
