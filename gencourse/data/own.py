"""Pictures of one's own: a folder of image files, or an array in a file, as a data set."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gencourse.data.dataset import Dataset
from gencourse.space import Space

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
FEWEST = 20
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes with more than 8 bits a channel


def images(path: str | Path, *, size: int | None = None, grey: bool = False, seed: int = 0) -> Dataset:
    """A folder of pictures, or a `.npy` or `.npz` file of grey levels, as a data set on 256 levels.

    A tenth is for validation and a tenth for the test, chosen by `seed` and the order of the names alone.

    Args:
        path: a folder, searched with its subfolders for .png, .jpg and the like; or a file with an array of integers
            0..255 of shape `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`, C being 1 or 3 (in an `.npz`, the only one).
        size: every picture is scaled until its shorter side has `size` pixels, and its middle cut out: `size` x `size`. None
            leaves pictures as they are; they must then all be of one size.
        grey: make colours grey. Otherwise the set is in colour as soon as one picture is.
        seed: of the split.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if there are fewer than 20 pictures, they differ in size, one is damaged, or the array is of another type or
            shape; the sentence names the file.
    """
    return Pictures(str(path), size, grey, seed)()


@dataclass(frozen=True)
class Pictures:
    """Where pictures are and how they are read: the arguments of `images`; calling it gives the `Dataset`.

    With a `fingerprint`, what is read must be what had it: a run remembers the pictures that it was trained on.
    """

    path: str
    size: int | None = None
    grey: bool = False
    seed: int = 0
    fingerprint: str | None = None

    def __call__(self) -> Dataset:
        """Read the pictures, once."""
        return self._read[0]

    def record(self) -> dict[str, Any]:
        """Plain data from which the same pictures can be found and recognised again."""
        settings = asdict(self) | {"path": str(Path(self.path).expanduser().resolve()), "fingerprint": self._read[1]}
        return {"images": settings.pop("path"), **settings}

    @cached_property
    def _read(self) -> tuple[Dataset, str]:
        if self.size is not None and (type(self.size) is not int or not 1 <= self.size <= 4096):
            raise ValueError(f"images: size must be a whole number of pixels from 1 to 4096, such as 28, not {self.size!r}.")
        path = _place(self.path)
        pixels = _folder(path, self.size, self.grey) if path.is_dir() else _array(path, self.size, self.grey)  # (N, C, H, W)
        n = len(pixels)
        if n < FEWEST:
            raise ValueError(f"{path} has {n} picture{'' if n == 1 else 's'}; at least {FEWEST} are needed.")
        found = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
        if self.fingerprint is not None and found != self.fingerprint:
            raise ValueError(f"the pictures in {path} are not those that the run was trained on; put them back as they were.")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed), device="cpu")
        shuffled = torch.from_numpy(pixels)[order]
        tenth = n // 10
        train, valid, test = shuffled.split([n - 2 * tenth, tenth, tenth])
        return Dataset(path.name, Space(tuple(pixels.shape[1:]), 256), train, valid, test), found


def _place(name: str) -> Path:
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"there is no home folder for {name}.") from None
    if not path.exists():
        raise FileNotFoundError(f"there is no folder or file {path}.")
    if not path.is_dir() and path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"{path} is neither a folder of pictures nor an array in a .npy or .npz file.")
    return path


def _folder(path: Path, size: int | None, grey: bool) -> np.ndarray:
    """All pictures of a folder, `(N, C, H, W)` uint8, in the order of their names."""
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in ENDINGS
        and file.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise ValueError(f"there are no pictures in {path}; looked for {', '.join(ENDINGS)}.")
    pictures = [_picture(file, size) for file in files]
    first = pictures[0]
    for file, picture in zip(files, pictures, strict=True):
        if picture.size != first.size:
            a, b = (f"{one.width}x{one.height}" for one in (first, picture))
            raise ValueError(
                f"the pictures in {path} differ in size ({files[0].name} is {a}, {file.name} is {b}); "
                "say how large all of them shall be: --size 28, or size=28 in Python."
            )
    mode = "L" if grey or all(picture.mode == "L" for picture in pictures) else "RGB"
    pixels = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])  # (N, H, W) or (N, H, W, 3)
    return pixels[:, None] if mode == "L" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _picture(file: Path, size: int | None) -> Image:
    """One picture, grey or in colour, transparent parts on white, upright, and of `size` if one is given."""
    from PIL import Image, ImageOps  # comes with matplotlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(file) as opened:
                opened.load()
                picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # Pillow raises a dozen kinds, from OSError to SyntaxError
        large = isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError)
        why = "it is very large" if large else "it is damaged, or no picture"
        raise ValueError(f"{file} cannot be read as a picture ({why}); repair it or take it out of the folder.") from None
    if picture.mode in _DEEP:
        raise ValueError(f"{file} has more than 8 bits a pixel; save it as an 8-bit picture.")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert(
            "L" if picture.mode == "LA" else "RGB"
        )
    picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    return picture if size is None else ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def _array(path: Path, size: int | None, grey: bool) -> np.ndarray:
    """The pictures of an array in a file, `(N, C, H, W)` uint8."""
    from PIL import Image, ImageOps

    try:
        held = np.load(path, allow_pickle=False)
        names = list(held) if path.suffix.lower() == ".npz" else None
        array = held if names is None else held[names[0]] if len(names) == 1 else None
    except Exception as error:  # a damaged archive raises a dozen kinds
        raise ValueError(f"{path} cannot be read as an array of numbers ({type(error).__name__}).") from None
    if array is None:
        raise ValueError(f"{path} holds {len(names or ())} arrays ({', '.join(names or ())}); it should hold the pictures alone.")
    if array.dtype.kind == "f":
        raise ValueError(
            f"{path} holds real numbers ({array.dtype}), but grey levels are whole numbers from 0 to 255; "
            "if they lie between 0 and 1, save (255 * x).round().astype('uint8')."
        )
    if array.dtype.kind not in "iu":
        raise ValueError(f"{path} holds {array.dtype}, but grey levels are whole numbers from 0 to 255.")
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise ValueError(f"{path} has the shape {array.shape}, not (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3.")
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError(f"{path} holds numbers from {array.min()} to {array.max()}, but grey levels lie between 0 and 255.")
    array = array.astype(np.uint8)  # (N, H, W, C)
    if (size is not None and array.shape[1:3] != (size, size)) or (grey and array.shape[3] == 3):
        pictures = [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in array]
        pictures = [one if size is None else ImageOps.fit(one, (size, size), Image.Resampling.LANCZOS) for one in pictures]
        array = np.stack([np.asarray(one.convert("L") if grey else one) for one in pictures]) if pictures else array
        array = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
