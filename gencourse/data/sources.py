"""The sets that are downloaded: where each comes from, and what must be in it.

Every array has the SHA-256 of its bytes beside it (where decoding is exact), so a file is right or wrong by its content,
whichever mirror it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gencourse.data.formats import (
    Arrays,
    Parts,
    read_amat,
    read_cifar,
    read_frey,
    read_idx,
    read_lfw,
    read_made,
    read_npz,
    split_binarized,
    split_cifar,
    split_mnist,
    split_shuffled,
)
from gencourse.space import Space


class File(NamedTuple):
    """One raw file: its address, and its SHA-256 where it has been published."""

    url: str
    sha256: str | None = None


class Mirror(NamedTuple):
    """The raw files of one place, and the function that makes the arrays from them, in this order."""

    files: tuple[File, ...]
    decode: Callable[[list[Path]], Arrays]


class Content(NamedTuple):
    """What an array must be: uint8, of this shape, and with this SHA-256 of its bytes (None: not known)."""

    shape: tuple[int, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """A set that is downloaded once and kept as `NAME.npz`.

    Attributes:
        space: where the images live.
        content: the arrays of `NAME.npz`; others that are in the file are ignored.
        mirrors: tried in this order.
        split: makes the parts of a `Dataset` (`train`, `valid`, `test` and their labels) from the arrays.
        megabytes: the size of the download.
        licence, citation: what to know before using it, and whom to cite.
    """

    space: Space
    content: dict[str, Content]
    mirrors: tuple[Mirror, ...]
    split: Callable[[Arrays], Parts]
    megabytes: float
    licence: str
    citation: str


def _idx_files(base: str, hashes: tuple[str, str, str, str]) -> Mirror:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return Mirror(tuple(File(f"{base}/{stem}-ubyte.gz", h) for stem, h in zip(stems, hashes, strict=True)), read_idx)


_MNIST_GZ = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_FASHION_GZ = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_CIFAR_TAR = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_LFW_TAR = "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a"
_AMAT = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
_TORONTO = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist"

SOURCES: dict[str, Source] = {
    "mnist": Source(
        Space((1, 28, 28), levels=256),
        {
            "x_train": Content((60000, 28, 28), "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
            "y_train": Content((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
            "x_test": Content((10000, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
            "y_test": Content((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
        },
        (
            Mirror(
                (
                    File(
                        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
                        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                    ),
                ),
                lambda paths: read_npz(paths, "x_train", "y_train", "x_test", "y_test"),
            ),
            _idx_files("https://ossci-datasets.s3.amazonaws.com/mnist", _MNIST_GZ),
            _idx_files("https://storage.googleapis.com/cvdf-datasets/mnist", _MNIST_GZ),
        ),
        split_mnist,
        11.5,
        "CC BY-SA 3.0",
        "Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits",
    ),
    "binarized_mnist": Source(
        Space((1, 28, 28), levels=2),
        {
            "train": Content((50000, 98), "727146c35424b019f3e350e1e69faa05644a0abaf787e3f4e1a9632220a13906"),
            "valid": Content((10000, 98), "a256ac44ae26be720fad8616a05ed6ecfd1619930d9a208379bb2a4405df5b6d"),
            "test": Content((10000, 98), "9fcd8da6f0fdf09b2ba30fe63a0bb784042a0de82563172530229b983e294ff2"),
        },
        (
            Mirror(tuple(File(f"{_TORONTO}_{part}.amat", h) for part, h in _AMAT.items()), read_amat),
            Mirror((File("https://github.com/mgermain/MADE/releases/download/ICML2015/binarized_mnist.npz"),), read_made),
        ),
        split_binarized,
        110,
        "CC BY-SA 3.0, as MNIST",
        "H. Larochelle; R. Salakhutdinov and I. Murray, On the quantitative analysis of deep belief networks, ICML 2008",
    ),
    "fashion_mnist": Source(
        Space((1, 28, 28), levels=256),
        {
            "x_train": Content((60000, 28, 28), "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012"),
            "y_train": Content((60000,), "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"),
            "x_test": Content((10000, 28, 28), "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a"),
            "y_test": Content((10000,), "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"),
        },
        (
            _idx_files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", _FASHION_GZ),
            _idx_files("https://storage.googleapis.com/tensorflow/tf-keras-datasets", _FASHION_GZ),
            _idx_files("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion", _FASHION_GZ),
        ),
        split_mnist,
        30.9,
        "MIT",
        "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
    ),
    "cifar10": Source(
        Space((3, 32, 32), levels=256),
        {
            "data_batch_1": Content((10000, 3073), "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            "data_batch_2": Content((10000, 3073), "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            "data_batch_3": Content((10000, 3073), "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            "data_batch_4": Content((10000, 3073), "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            "data_batch_5": Content((10000, 3073), "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            "test_batch": Content((10000, 3073), "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        },
        (
            Mirror((File("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", _CIFAR_TAR),), read_cifar),
            Mirror(
                (
                    File(
                        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz", _CIFAR_TAR
                    ),
                ),
                read_cifar,
            ),
        ),
        split_cifar,
        170,
        "none stated; cite the report",
        "A. Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    ),
    "lfw": Source(
        Space((1, 64, 64), levels=256),
        {"images": Content((13233, 64, 64))},  # JPEG decoders differ by a grey level: the archive is what is hashed
        (
            Mirror((File("https://ndownloader.figshare.com/files/5976015", _LFW_TAR),), read_lfw),
            Mirror((File("http://vis-www.cs.umass.edu/lfw/lfw-funneled.tgz", _LFW_TAR),), read_lfw),
        ),
        split_shuffled(1323, 1323),
        243,
        "research use",
        "G. Huang, M. Ramesh, T. Berg and E. Learned-Miller, Labeled Faces in the Wild, 2007 (funneled by G. Huang et al.)",
    ),
    "frey_faces": Source(
        Space((1, 28, 20), levels=256),
        {"images": Content((1965, 28, 20), "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78")},
        (
            Mirror((File("https://cs.nyu.edu/~roweis/data/frey_rawface.mat"),), read_frey),
            Mirror((File("http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat"),), read_frey),
        ),
        split_shuffled(200, 200),
        1.0,
        "research use",
        "B. Frey; S. Roweis, L. Saul and G. Hinton, Global coordination of local linear models, NIPS 2001",
    ),
}
