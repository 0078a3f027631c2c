"""Train once in peace and once under fire: `python tests/killed_run.py FOLDER KIND KILLS`.

The second run is killed with SIGKILL at `KILLS` random moments and resumed each time. Each run is a process of its own,
forked from this one before it computes anything, so that a kill costs no second import. `FOLDER/report.json` says at which
step each kill found the run; `FOLDER/{peace,fire}.pt` hold what each run ended with.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import lightning_fabric  # noqa: F401  before the forks
import torch
from toy_models import Duel

from gencourse import checkpoint
from gencourse.adversarial.biggan import BigGAN
from gencourse.adversarial.cyclegan import CycleGAN
from gencourse.adversarial.dcgan import DCGAN
from gencourse.adversarial.pix2pix import Pix2Pix
from gencourse.adversarial.progressive import Progressive
from gencourse.adversarial.scene_graph import SceneGraph
from gencourse.adversarial.text_to_image import TextToImage
from gencourse.data import Dataset, binarize
from gencourse.diffusion.ddpm import DDPM
from gencourse.markov.rbm import RBM
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.variational.priors import VampPrior
from gencourse.variational.vae import VAE

STEPS = {
    "vae": 600,
    "vamp": 400,
    "duel": 600,
    "gan": 150,
    "pcd": 600,
    "growing": 90,
    "biggan": 60,
    "pix2pix": 90,
    "cyclegan": 60,
    "captions": 60,
    "scene_graph": 60,
    "diffusion": 200,
}


def train(kind: str, out: Path, result: Path) -> None:
    """The whole run, or what is left of it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = {"steps": STEPS[kind], "lr": 1e-3, "seed": 5, "schedule": cosine, "ema": 0.99, "clip": 50.0, "validate_every": 7}
    if kind in ("vae", "vamp"):  # with dynamic binarisation, noise in the model, validation and an average
        space = Space((1, 8, 8), 2)
        grey = torch.randint(256, (150, *space.shape), dtype=torch.uint8)
        data = Dataset("grey", space, grey, binarize(grey[:40]), binarize(grey[:1]), augment=binarize)
        prior = VampPrior(space, data.valid, components=6) if kind == "vamp" else None  # pseudo-inputs that learn
        model = VAE(space, latent=2, hidden=(32,), prior=prior)
    elif kind == "gan":  # two players of convolutions, with batch norm's statistics
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model, data = DCGAN(space, latent=4, width=4, d_steps=2), torch.randint(17, (150, *space.shape))
    elif kind == "growing":  # networks that grow while they are killed: at small images, in a fade, at large ones
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model = Progressive(space, latent=4, width=4, schedule=(25, 50), fade=0.5)
        data = torch.randint(17, (150, *space.shape))
    elif kind == "biggan":  # labels, spectral norm's vectors, statistics of a conditional batch norm
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model = BigGAN(space, latent=4, width=4, d_width=4, classes=3)
        data = (torch.randint(17, (150, *space.shape)), torch.arange(150) % 3)
    elif kind == "pix2pix":  # pictures as conditions
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model, data = Pix2Pix(space, widths=(4, 4), d_width=4), tuple(torch.randint(17, (2, 150, *space.shape)))
    elif kind == "cyclegan":  # two pools of fakes, which are not full at first
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model, data = CycleGAN(space, widths=(4, 4), d_width=4), tuple(torch.randint(17, (2, 150, *space.shape)))
    elif kind == "captions":  # the words of the last batches, on which batch norm is measured at the end
        settings["validate_every"] = None
        space = Space((1, 8, 8), 17)
        model = TextToImage(space, words=6, length=3, latent=4, code=4, width=4, interpolate=0.5)
        data = (torch.randint(17, (150, *space.shape)), model.example_context(150))
    elif kind == "scene_graph":  # graphs as conditions, three players
        settings["validate_every"] = None
        space = Space((3, 8, 8), 17)
        model = SceneGraph(space, width=8, channels=4, cells=4, latent=4, d_width=4, draws=2, image_weight=0.1, object_weight=0.1)
        data = (torch.randint(17, (150, *space.shape)), model.example_context(150))
    elif kind == "diffusion":  # noise, times and hidden labels in the loss, waves that are drawn once
        space = Space((1, 4, 4), 5)
        model = DDPM(space, steps=10, hidden=16, blocks=1, frequencies=4, classes=3)
        data = (torch.randint(5, (150, *space.shape)), torch.randint(3, (150,)))
        settings["valid"] = (data[0][:20], data[1][:20])
    elif kind == "pcd":  # chains that go on from where they were
        space = Space((1, 4, 4), 2)
        model, data = RBM(space, hidden=8, chains=10), torch.randint(2, (150, *space.shape))
        settings["valid"] = torch.randint(2, (20, *space.shape))
    else:  # two moves, two optimisers
        model, data = Duel(), torch.randn(150, 2)
        settings["valid"] = torch.randn(40, 2)
    history = fit(model, data, batch_size=20, checkpoint_every=3, out=out, resume=True, device="cpu", progress=False, **settings)
    content = {"weights": model.state_dict(), "losses": history.losses, "valid": history.valid, "best": history.best_step}
    checkpoint.save(result, content)


def start(*arguments) -> int:
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)
        except BaseException as error:  # whatever happens, the child must not go on as its parent
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def step_of(out: Path) -> int:
    """The last step that a killed run has on disk."""
    path = out / "checkpoint.pt"
    return checkpoint.load(path)["step"] if path.exists() else 0


def main(folder: Path, kind: str, kills: int) -> None:
    _, status = os.waitpid(start(kind, folder / "peace", folder / "peace.pt"), 0)
    assert status == 0
    rng, found, finished = random.Random(kills), [], 0
    out, steps = folder / "fire", STEPS[kind]
    # Moments spread over the run, by the steps it has taken: seconds mean another thing on a busy machine. None is so late
    # that nothing is left to kill.
    for aim in sorted(rng.sample(range(1, int(0.8 * steps)), kills)):
        child = start(kind, out, folder / "fire.pt")
        while step_of(out) < aim and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.005))  # anywhere in a step, or in the writing of a checkpoint
        try:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):  # it had ended by itself
            status = 0
        if os.WIFSIGNALED(status):
            found.append(step_of(out))
        else:  # it was done before the kill
            finished += 1
            break
    _, status = os.waitpid(start(kind, out, folder / "fire.pt"), 0)
    assert status == 0
    left = sorted(path.name for path in out.iterdir())
    report = {"killed_at": found, "finished_early": finished, "files": left, "steps": steps}
    checkpoint.write_json(folder / "report.json", report)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    print(json.loads((Path(sys.argv[1]) / "report.json").read_text()))
