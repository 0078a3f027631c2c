"""Mistakes that people make, and the one clear sentence each of them gets."""

import math
import os
import resource
import signal

import numpy as np
import pytest
import torch
from toy_models import Duel, Pixels

from gencourse import catalog, checkpoint, data, profile
from gencourse.metrics.likelihood import nll
from gencourse.recipes import load_run
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

SPACE = Space((1, 3, 3), 2)
BARS = data.load("bars_and_stripes")
X = BARS.train


def vae(space=SPACE):
    return VAE(space, latent=1, hidden=(4,))


def train(model=None, x=X, **settings):
    return fit(model or vae(), x, **{"steps": 2, "batch_size": 7, "device": "cpu", "progress": False, **settings})


def full_disk(folder):
    """Train with a real limit on the size of files; a checkpoint of this model is larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        train(VAE(SPACE, hidden=(256,)), out=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def corrupt_archive(folder):
    os.environ["GENCOURSE_DATA"] = str(folder)  # the fixture of every test puts it back
    (folder / "mnist.npz").write_bytes(b"PK\x03\x04 the first half of a download")
    data.load("mnist")


def corrupt_checkpoint(folder):
    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 the first half")
    train(out=folder, resume=True)


def a_file_for_a_folder(folder):
    (folder / "taken").write_text("in the way")
    train(out=folder / "taken")


def other_run(folder):
    train(out=folder)
    train(out=folder, resume=True, seed=1)


def no_gpu(**settings):
    def call(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            train(**settings)

    return call


def images(*shape, dtype=torch.long):
    return torch.zeros(*shape, dtype=dtype)


WITHOUT_LABELS = {"conditional": True}
BAD = {
    # data
    "shape": (lambda _: train(x=images(14, 3, 3)), ValueError, "(14, 3, 3)"),
    "shape of validation": (lambda _: train(valid=images(14, 1, 4, 4)), ValueError, "(14, 1, 4, 4)"),
    "shape in elbo": (lambda _: vae().elbo(images(14, 3, 3)), ValueError, "(14, 3, 3)"),
    "dtype": (lambda _: train(x=X.float()), TypeError, "float32"),
    "integers for reals": (lambda _: train(Duel(), images(14, 2)), TypeError, "int64"),
    "too many levels": (lambda _: train(x=X * 255), ValueError, "0..255"),
    "negative levels": (lambda _: train(x=X.long() - 1), ValueError, "-1..0"),
    "NaN": (lambda _: train(Duel(), torch.full((14, 2), math.nan)), ValueError, "NaN"),
    "infinite": (lambda _: nll(vae(Space((2,))), torch.full((14, 2), math.inf)), ValueError, "infinite"),
    "NumPy array": (lambda _: train(x=X.numpy()), TypeError, "ndarray"),
    "list": (lambda _: train(x=X.tolist()), TypeError, "list"),
    "no examples": (lambda _: train(x=X[:0]), ValueError, "only 0 training examples"),
    "labels of another length": (lambda _: train(x=(X, torch.zeros(13))), ValueError, "14 examples, but 13 conditions"),
    "labels where there are none": (lambda _: train(x=BARS, conditional=True), ValueError, "'bars_and_stripes' has no labels"),
    "unconditional model": (lambda _: train(x=(X, torch.zeros(14))), ValueError, "VAE is unconditional"),
    "context in sample": (lambda _: vae().sample(2, torch.zeros(2)), ValueError, "VAE is unconditional"),
    # arguments of fit
    "no steps": (lambda _: train(steps=0), ValueError, "steps must be a positive integer, not 0"),
    "negative steps": (lambda _: train(steps=-5), ValueError, "not -5"),
    "steps that are no number": (lambda _: train(steps="5"), ValueError, "steps must be a positive integer, not '5'"),
    "fractional seed": (lambda _: train(seed=1.5), ValueError, "seed must be an integer, not 1.5"),
    "seed of truth": (lambda _: train(seed=True), ValueError, "seed must be an integer, not True"),
    "schedule by name": (
        lambda _: train(schedule="cosine"),
        ValueError,
        "schedule must be a function such as cosine, not 'cosine'",
    ),
    "schedule of nothing": (lambda _: train(schedule=lambda p: None), ValueError, "schedule(0) must be a finite number"),
    "schedule that ends": (lambda _: train(schedule=lambda p: 1 if p < 0.5 else math.nan), ValueError, "schedule(0.5)"),
    "optimiser by name": (lambda _: train(optimizer="Adam"), ValueError, "optimizer must be a function such as torch.optim.Adam"),
    "augmentation by name": (lambda _: train(augment="flip"), ValueError, "augment must be a function or None, not 'flip'"),
    "callback by name": (lambda _: train(callback="print"), ValueError, "callback must be a function or None, not 'print'"),
    "no validation examples": (lambda _: train(valid=X[:0]), ValueError, "0 validation examples"),
    "ema that is no number": (lambda _: train(ema="slow"), ValueError, "ema must be a positive number, not 'slow'"),
    "clip of NaN": (lambda _: train(clip=math.nan), ValueError, "clip must be a positive number, not nan"),
    "folder that is a number": (lambda _: train(out=5), ValueError, "out must be the path of a folder, not 5"),
    "home of nobody": (lambda _: train(out="~nobody-here/run"), ValueError, "'~nobody-here/run'"),
    "fractional batch": (lambda _: train(batch_size=3.5), ValueError, "not 3.5"),
    "batch of the wrong sign": (lambda _: train(batch_size=-7), ValueError, "not -7"),
    "batch larger than the data": (lambda _: train(batch_size=15), ValueError, "batch_size is 15"),
    "pieces that do not divide": (lambda _: train(micro_batches=2), ValueError, "2 micro-batches"),
    "no pieces": (lambda _: train(micro_batches=0), ValueError, "micro_batches"),
    "lr of zero": (lambda _: train(lr=0), ValueError, "lr must be a positive number, not 0"),
    "lr that is no number": (lambda _: train(lr="fast"), ValueError, "'fast'"),
    "lr of NaN": (lambda _: train(lr=math.nan), ValueError, "nan"),
    "lr that explodes": (lambda _: train(lr=1e20, steps=50), FloatingPointError, "lr=1e+20"),
    "ema": (lambda _: train(ema=1.5), ValueError, "1.5"),
    "clip": (lambda _: train(clip=-1.0), ValueError, "-1.0"),
    "no validations": (lambda _: train(validate_every=0), ValueError, "validate_every"),
    "device": (lambda _: train(device="tpu"), ValueError, "'tpu'"),
    "device that is not there": (no_gpu(device="cuda"), ValueError, "no cuda device"),
    "precision": (lambda _: train(precision="fp8"), ValueError, "'fp8'"),
    # files
    "missing run": (load_run, FileNotFoundError, "no finished run"),
    "missing file": (lambda folder: checkpoint.load(folder / "model.pt"), FileNotFoundError, "model.pt"),
    "corrupt archive": (corrupt_archive, ValueError, "mnist.npz"),
    "corrupt checkpoint": (corrupt_checkpoint, ValueError, "checkpoint.pt"),
    "another run": (other_run, ValueError, "seed=0"),
    "full disk": (full_disk, OSError, "no room on the disk"),
    "file for a folder": (a_file_for_a_folder, OSError, "taken"),
    # names and sizes
    "model": (lambda _: catalog.entry("vea"), ValueError, "'vea'; did you mean 'vae'?"),
    "recipe": (lambda _: catalog.entry("vae").recipe("digit"), ValueError, "'digit'; did you mean 'digits'?"),
    "data set": (lambda _: data.load("binary_digit"), ValueError, "'binary_digit'; did you mean 'binary_digits'?"),
    "profile": (lambda _: profile.resolve("turbo"), ValueError, "'turbo'"),
    "space of a number": (lambda _: Space(28), ValueError, "28"),
    "space of nothing": (lambda _: Space((1, 0, 28)), ValueError, "(1, 0, 28)"),
    "one level": (lambda _: Space((1,), levels=1), ValueError, "1"),
    "model without a space": (lambda _: VAE((1, 3, 3)), TypeError, "tuple"),
    "latent": (lambda _: VAE(SPACE, latent=-2), ValueError, "-2"),
    "hidden": (lambda _: VAE(SPACE, hidden=(0,)), ValueError, "(0,)"),
    "samples": (lambda _: vae().log_prob_estimate(X, samples=0), ValueError, "0"),
    "negative sample": (lambda _: vae().sample(-3), ValueError, "-3"),
    "likelihood of a GAN": (lambda _: nll(Duel(), torch.zeros(3, 2)), TypeError, "Duel is implicit"),
    "NaN in a picture": (lambda _: SPACE.from_unit(torch.tensor(np.nan)), ValueError, "NaN"),
    "grey levels of reals": (
        lambda _: Pixels(Space((2,), 2)).space and Space((2,)).to_unit(torch.zeros(2)),
        ValueError,
        "real-valued",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gets_one_clear_sentence(name, tmp_path):
    call, error, says = BAD[name]
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert type(caught.value) is error or issubclass(error, OSError)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert 20 < len(message) < 300


def test_there_are_enough_of_them():
    assert len(BAD) >= 20
