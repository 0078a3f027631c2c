"""A reader of drawn faces: a small network, trained here and scored here, that tells the factors of a face from its image.

It is what turns "the smile changed and the rest did not" into numbers. So it says itself how well it reads: the share of test
faces whose glasses and hair it gets right, and the typical error of what it reads on a scale.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencourse import arguments
from gencourse.data.faces import BINARY, FACTORS, FaceDataset
from gencourse.space import Space, on_cpu
from gencourse.train import cosine

_CACHE: dict[tuple, "FactorReader"] = {}
_BINARY = torch.tensor([name in BINARY for name in FACTORS], device="cpu")


class FactorReader:
    """Reads factors off images of drawn faces, or of what a model makes of them.

    Attributes:
        scores: on the test faces; of a binary factor the share read rightly, of one on a scale the root mean square error.
    """

    def __init__(self, space: Space, network: nn.Sequential) -> None:
        self.space, self.network = space, network
        self.scores: dict[str, float] = {}

    @torch.no_grad()
    def read(self, x: Tensor) -> dict[str, Tensor]:
        """The factors of the images `(N, C, H, W)`, `(N,)` each: a binary one as the probability of 1, the others as drawn."""
        self.space.validate(x)
        device = next(self.network.parameters()).device
        out = torch.cat(
            [self.network(2 * self.space.to_unit(part.to(device), torch.float32) - 1) for part in x.split(1000)]
        ).cpu()
        return dict(zip(FACTORS, torch.where(_BINARY, out.sigmoid(), out).unbind(dim=1), strict=True))

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{name} {score:.1%}" if name in BINARY else f"{name} ±{score:.2f}" for name, score in self.scores.items()
        )
        return f"FactorReader({self.space}: {scores})"


@on_cpu
def factor_reader(dataset: FaceDataset, *, steps: int = 800, seed: int = 0, width: int = 24) -> FactorReader:
    """Train a reader on the training faces of a data set and score it on its test faces.

    Training images are shifted, blurred and made noisy a little, so that the reader does not depend on edges as clean as only
    drawings have. A second call with the same arguments returns the same object; the caller's random state is left as it was.

    Args:
        steps: Adam's, with a cosine schedule, 128 faces each.
        width: channels of the first layer; they double twice.

    Raises:
        TypeError: if the data set does not know the factors of its images.
        ValueError: if seed is no integer.
    """
    if not isinstance(dataset, FaceDataset):
        raise TypeError(f"factor_reader needs the faces of gencourse.data.faces, not {type(dataset).__name__}.")
    seed = arguments.seed("factor_reader: seed", seed)
    key = (dataset.name, len(dataset.train), int(dataset.train[:100].long().sum()), steps, seed, width)
    if key in _CACHE:
        return _CACHE[key]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network(dataset.space, width)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    table = dataset.train_factors.table()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * cosine(step / steps)
        index = torch.randint(len(table), (128,), generator=generator, device="cpu")
        out = network(_worn(2 * dataset.space.to_unit(dataset.train[index], torch.float32) - 1, generator))  # (128, 8)
        logits, answers = out[:, _BINARY], table[index]
        loss = functional.binary_cross_entropy_with_logits(logits, answers[:, _BINARY])
        loss = loss + 4 * functional.mse_loss(out[:, ~_BINARY], answers[:, ~_BINARY])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    reader = FactorReader(dataset.space, network)
    read, truth = reader.read(dataset.test), dict(dataset.test_factors.items())
    for name in FACTORS:
        error = (read[name] > 0.5).float() != truth[name] if name in BINARY else (read[name] - truth[name]) ** 2
        mean = float(error.double().mean())
        reader.scores[name] = 1 - mean if name in BINARY else mean**0.5
    _CACHE[key] = reader
    return reader


def _network(space: Space, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = space.shape[0]
    for after in (width, 2 * width, 4 * width):
        convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False, dtype=torch.float32)
        layers += [convolution, nn.BatchNorm2d(after, dtype=torch.float32), nn.ReLU()]
        before = after
    height, side = (-(-s // 8) for s in space.shape[1:])
    hidden, last = nn.Linear(before * height * side, 128, dtype=torch.float32), nn.Linear(128, len(FACTORS), dtype=torch.float32)
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), last)


def _worn(y: Tensor, generator: torch.Generator) -> Tensor:
    """Images moved by up to a pixel, each blurred and made noisy to a degree of its own."""
    down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
    y = torch.roll(y, (down, right), dims=(2, 3))
    blurred = functional.avg_pool2d(y, 3, stride=1, padding=1, count_include_pad=False)
    degree = torch.rand(2, len(y), 1, 1, 1, generator=generator, dtype=y.dtype)
    noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return y + 0.6 * degree[0] * (blurred - y) + 0.1 * degree[1] * noise
