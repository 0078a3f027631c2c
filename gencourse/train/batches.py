"""What a run is fed: batch number i, and the random numbers that belong to it."""

import hashlib
from collections.abc import Iterator

import torch

from gencourse.train.plan import Pair, Plan


class Batches:
    """Batch number i of a run: which examples, in which pieces, with which random numbers."""

    def __init__(self, plan: Plan, device: torch.device, rank: int, world: int) -> None:
        self.plan, self.device = plan, device
        x, context = plan.train
        home = device if plan.resident else torch.device("cpu")
        self.x, self.context = x.to(home), None if context is None else context.to(home)
        self.per_epoch = len(x) // plan.batch_size
        mine = plan.micro_batches // world
        self.my_pieces = range(rank * mine, (rank + 1) * mine)
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.long, device="cpu")

    def pieces(self, i: int) -> Iterator[Pair]:
        """This process's pieces of batch `i`. The global random state is set anew for each."""
        epoch, position = divmod(i, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.plan.seed, "epoch", epoch))
            self.epoch = epoch
            self.order = torch.randperm(len(self.x), generator=generator, device="cpu").to(self.x.device)
        size = self.plan.batch_size // self.plan.micro_batches
        for piece in self.my_pieces:
            first = position * self.plan.batch_size + piece * size
            index = self.order[first : first + size]
            x = self.x[index].to(self.device)
            context = None if self.context is None else self.context[index].to(self.device)
            seed_device(self.device, seed_of(self.plan.seed, "batch", i, piece))
            yield (x if self.plan.augment is None else self.plan.augment(x)), context


def seed_device(device: torch.device, seed: int) -> None:
    """Seed what draws on the CPU and on `device`; `torch.manual_seed` looks for every other device too, ten times as slow."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_of(*parts: int | str) -> int:
    """A seed of 63 bits from integers and words, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
