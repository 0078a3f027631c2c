"""Where a run computes: one device or several, in which precision, with which versions."""

import platform
import sys
from typing import TYPE_CHECKING

import torch

from gencourse import __version__

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(device: str, devices: int, precision: str, under_torchrun: bool) -> "Fabric":
    """Fabric on the device asked for, or one sentence why it cannot be had.

    Raises:
        ValueError: if the precision or the device is unknown, or the machine has no such device.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:  # the same class, where the whole of Lightning is installed
        from lightning.fabric import Fabric  # type: ignore[no-redef]

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if precision not in ("32", "bf16"):
        raise ValueError(f"fit: precision must be '32' or 'bf16', not {precision!r}.")
    if device == "auto":
        device = "cuda" if there["cuda"] else "cpu"
    if device not in there:
        raise ValueError(f"fit: device must be 'auto', 'cpu', 'cuda' or 'mps', not {device!r}.")
    if not there[device]:
        raise ValueError(f"fit: there is no {device} device on this machine; device='cpu' always works.")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"fit: devices={devices}, but this machine has {torch.cuda.device_count()} GPU(s).")
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and ipython.get_ipython() is not None  # what is defined in a cell cannot be spawned
    many = "ddp" if under_torchrun else "ddp_notebook" if in_notebook else "ddp_spawn"
    return Fabric(
        accelerator=device,
        devices=devices,
        strategy=many if devices > 1 or under_torchrun else "auto",
        precision={"32": "32-true", "bf16": "bf16-mixed"}[precision],  # type: ignore[arg-type]
    )


def versions() -> dict[str, str]:
    """What computed: gencourse, torch and Python."""
    return {"gencourse": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
