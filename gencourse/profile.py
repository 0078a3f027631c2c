"""How large a notebook runs: `smoke` (seconds, for continuous integration), `cpu` (a laptop), `gpu` (full size)."""

import os
from typing import TypeVar

T = TypeVar("T")
PROFILES = ("smoke", "cpu", "gpu")


def resolve(profile: str = "auto") -> str:
    """The profile to run: the one named, else `$GENCOURSE_PROFILE`, else `gpu` if there is one, else `cpu`.

    The environment variable wins over `"auto"` only, so a notebook's own parameter is always obeyed.

    Raises:
        ValueError: if the name is not one of `auto`, `smoke`, `cpu`, `gpu`.
    """
    if profile == "auto":
        profile = os.environ.get("GENCOURSE_PROFILE", "auto")
    if profile == "auto":
        import torch

        profile = "gpu" if torch.cuda.is_available() else "cpu"
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; choose one of auto, {', '.join(PROFILES)}.")
    return profile


def choose(profile: str, *, smoke: T, cpu: T, gpu: T) -> T:
    """The value for this profile: `choose(profile, smoke=20, cpu=2000, gpu=20000)`."""
    return {"smoke": smoke, "cpu": cpu, "gpu": gpu}[resolve(profile)]
