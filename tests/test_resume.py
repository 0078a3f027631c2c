"""A run that is killed and resumed ends with the same bits; another run is refused; a folder is one run's alone."""

import functools
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import Duel, Pixels, weights

from gencourse import checkpoint, data
from gencourse.autoregressive.made import MADE
from gencourse.kinds import Tractable
from gencourse.space import Space
from gencourse.train import Move, cosine, fit, folder
from gencourse.variational.vae import VAE

BARS = data.load("bars_and_stripes").train
QUIET = {"device": "cpu", "progress": False}
KILLS = 3


def vae(hidden=(16,), **options):
    torch.manual_seed(0)
    return VAE(Space((1, 3, 3), 2), latent=2, hidden=hidden, **options)


def flip(x):
    return x.flip(-1)


def never(*_):
    pytest.fail("it trained")


@pytest.mark.parametrize(
    ("kind", "move"),
    [
        ("vae", "-elbo"),
        ("vamp", "-elbo"),
        ("duel", "d"),
        ("gan", "d"),
        ("pcd", "pcd"),
        ("growing", "d"),
        ("biggan", "d"),
        ("pix2pix", "d"),
        ("cyclegan", "d_b"),
        ("captions", "d"),
        ("scene_graph", "d_object"),
        ("diffusion", "denoising"),
    ],
)
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, kind, move):
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run([sys.executable, script, tmp_path, kind, str(KILLS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["killed_at"]) == KILLS
    assert report["killed_at"] == sorted(report["killed_at"])
    assert 0 < report["killed_at"][-1] < report["steps"]  # the kills hit a run at work, and something had to be resumed
    assert report["files"] == ["checkpoint.pt", "history.json"]  # what a kill left half-written is cleared away
    peace, fire = (checkpoint.load(tmp_path / f"{name}.pt") for name in ("peace", "fire"))
    for name, value in peace.pop("weights").items():
        assert torch.equal(value, fire["weights"][name]), name
    del fire["weights"]
    assert len(peace["losses"][move]) == report["steps"]
    assert peace == fire  # every loss of every move, every validation, the best step


@pytest.mark.parametrize("stops", [[1], [3, 4], [10, 19], [20]])
def test_a_run_may_be_resumed_from_any_step(tmp_path, stops):
    """An exception ends the run at once, like a kill; checkpoints are every second step."""

    class Stop(Exception):
        pass

    settings = {"steps": 20, "batch_size": 5, "valid": BARS, "validate_every": 3, "ema": 0.9, "checkpoint_every": 2, **QUIET}
    for stop in stops:

        def fail(step, model, stop=stop):
            if step == stop:
                raise Stop

        with pytest.raises(Stop):
            fit(vae(), BARS, out=tmp_path, resume=True, callback=fail, **settings)
    resumed, whole = vae(), vae()
    a = fit(resumed, BARS, out=tmp_path, resume=True, **settings)
    b = fit(whole, BARS, **settings)
    assert torch.equal(weights(resumed), weights(whole))
    assert (a.losses, a.valid, a.best_step) == (b.losses, b.valid, b.best_step)


def test_a_finished_run_resumes_to_itself(tmp_path):
    first, again = vae(), vae()
    fit(first, BARS, steps=10, batch_size=7, out=tmp_path, valid=BARS, **QUIET)
    history = fit(again, BARS, steps=10, batch_size=7, out=tmp_path, valid=BARS, resume=True, **QUIET)
    assert torch.equal(weights(first), weights(again))
    assert history.steps == 10


def test_a_run_at_a_constant_rate_may_go_on_for_longer(tmp_path):
    longer, whole = vae(), vae()
    fit(vae(), BARS, steps=10, batch_size=7, out=tmp_path, **QUIET)
    history = fit(longer, BARS, steps=30, batch_size=7, out=tmp_path, resume=True, **QUIET)
    fit(whole, BARS, steps=30, batch_size=7, **QUIET)
    assert history.steps == 30
    assert torch.equal(weights(longer), weights(whole))


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, **QUIET)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(FileExistsError, match=r"already holds a run; pass resume=True \(on the command line: --resume\)"):
        fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, **QUIET)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_resume_in_an_empty_folder_starts_the_run(tmp_path):
    model, same = vae(), vae()
    fit(model, BARS, steps=4, batch_size=7, out=tmp_path / "new", resume=True, **QUIET)
    fit(same, BARS, steps=4, batch_size=7, **QUIET)
    assert torch.equal(weights(model), weights(same))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "seed=0, and this call has seed=1"),
        ({"batch_size": 2}, "batch_size=7, and this call has batch_size=2"),
        ({"lr": 0.5}, "lr=0.001, and this call has lr=0.5"),
        ({"ema": 0.5}, "ema=None"),
        ({"schedule": cosine}, "schedule=constant"),
        ({"micro_batches": 7}, "micro_batches=1"),
        ({"data": BARS.flip(0)}, "data=(14, 1, 3, 3) crc32="),
        ({"data": BARS[:13]}, "data=(13, 1, 3, 3)"),
        ({"clip": 1.0}, "clip=None, and this call has clip=1.0"),
        ({"keep_best": False}, "keep_best=True, and this call has keep_best=False"),
        ({"precision": "bf16"}, "precision=32, and this call has precision=bf16"),
        ({"valid": BARS[:5]}, "valid=None, and this call has valid=(5, 1, 3, 3)"),
        ({"augment": flip}, "augment=None, and this call has augment=flip"),
        ({"optimizer": torch.optim.SGD}, "optimizer[-elbo]=Adam, and this call has optimizer[-elbo]=SGD"),
        ({"optimizer": torch.optim.RMSprop}, "optimizer[-elbo]=Adam, and this call has optimizer[-elbo]=RMSprop"),
        ({"optimizer": functools.partial(torch.optim.Adam, weight_decay=1.0)}, "[-elbo.weight_decay]=0, and this call has"),
        ({"model": vae(beta=10.0)}, "model[beta]=1.0, and this call has model[beta]=10.0"),
        ({"model": vae((8,))}, "another architecture"),
        ({"model": vae((16, 16))}, "another architecture"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_run_is_refused_in_one_sentence_and_nothing_is_lost(tmp_path, change, says):
    fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, **QUIET)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    call = {"model": vae(), "data": BARS, "steps": 8, "batch_size": 7, "out": tmp_path, "resume": True, **QUIET, **change}
    with pytest.raises(ValueError, match="cannot resume") as caught:
        fit(call.pop("model"), call.pop("data"), **call)
    message = str(caught.value)
    assert says in message
    assert str(tmp_path) in message
    assert "\n" not in message
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Options(Pixels):
    """A model whose options change what it learns and not one of its shapes."""

    def __init__(self, *, p=0.0, act=torch.relu, weighing=None, name="nll", times=1, other=False):
        torch.manual_seed(0)
        super().__init__(Space((1, 3, 3), 2))
        self.drop, self.act, self.weighing = torch.nn.Dropout(p), act, weighing
        self.inner = torch.nn.Sequential(torch.nn.Tanh() if other else torch.nn.ReLU())
        self._name, self._times, self.calls, self.seen = name, times, 0, []

    def moves(self):
        def weighted(x, context=None):
            return self.nll(x, context)

        loss = self.nll if self._name == "nll" else weighted
        return [Move("nll", loss, self.parameters(), times=self._times)]

    def nll(self, x, context=None):
        self.calls += 1
        self.seen.append(len(x))
        return -self.log_prob(x, context)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"p": 0.5}, "model[drop.p]=0.0, and this call has model[drop.p]=0.5"),
        ({"act": torch.tanh}, "model[act]=relu, and this call has model[act]=tanh"),
        ({"weighing": (1, 2.5)}, "model[weighing]=None, and this call has model[weighing]=(1, 2.5)"),
        ({"other": True}, "model[inner.0]=ReLU, and this call has model[inner.0]=Tanh"),
        ({"name": "weighted"}, "weighted"),
        ({"times": 2}, "moves[nll]=1 x Options.nll, and this call has moves[nll]=2 x Options.nll"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_model_with_other_options_is_another_run(tmp_path, change, says):
    settings = {"batch_size": 7, "out": tmp_path, **QUIET}
    model = Options()
    fit(model, BARS, steps=4, **settings)
    with pytest.raises(ValueError, match="cannot resume") as caught:
        fit(Options(**change), BARS, steps=8, resume=True, **settings)
    assert says in str(caught.value)
    assert fit(Options(), BARS, steps=8, resume=True, **settings).steps == 8  # what a model notes is no option
    assert fit(model, BARS, steps=9, resume=True, **settings).steps == 9


def test_a_model_whose_training_changes_it_goes_on_in_the_same_process_too(tmp_path):
    """A MADE of several masks remembers which one it has on: no option."""
    torch.manual_seed(0)
    model = MADE(Space((1, 3, 3), 2), hidden=(8,), masks=4)
    for steps in range(1, 7):
        assert fit(model, BARS, steps=steps, batch_size=7, out=tmp_path, resume=True, **QUIET).steps == steps


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"data": (BARS, torch.arange(14) % 2)}, {"data": (BARS, 1 - torch.arange(14) % 2)}),
        ({"data": (BARS, torch.arange(14) % 2)}, {"data": BARS}),
        ({"valid": BARS[:6]}, {"valid": BARS[6:12]}),
        ({"augment": lambda x: x.flip(-1)}, {"augment": lambda x: x.flip(-2)}),
        ({"schedule": lambda p: 1 - p}, {"schedule": lambda p: 1 - p / 2}),
        ({"schedule": cosine}, {"schedule": lambda p: cosine(p)}),
    ],
    ids=["labels", "no labels", "validation", "augmentation", "schedule", "another function"],
)
def test_other_examples_and_functions_are_another_run(tmp_path, first, then):
    def run(data=BARS, **settings):
        torch.manual_seed(0)
        return fit(Pixels(Space((1, 3, 3), 2), classes=2), data, steps=4, batch_size=7, out=tmp_path, **settings, **QUIET)

    run(**first)
    with pytest.raises(ValueError, match=r"cannot resume .*: it was begun with (data|valid|augment|schedule)="):
        run(**then, resume=True)
    assert run(**first, resume=True).steps == 4


def test_an_augmentation_that_no_seed_rules_is_known_by_its_name(tmp_path):
    rng = np.random.default_rng()

    def shaken(x):
        return x.flip(-1) if rng.random() < 0.5 else x

    for steps in (4, 8, 12, 16):
        fit(vae(), BARS, steps=steps, batch_size=7, out=tmp_path, augment=shaken, resume=True, **QUIET)


def test_a_run_with_numpy_s_numbers_can_be_resumed(tmp_path):
    def run(steps, resume):
        model = vae()
        optimizer = functools.partial(torch.optim.AdamW, weight_decay=np.float64(0.1), betas=np.array([0.5, 0.9]))
        settings = {"lr": np.logspace(-4, -2, 3)[1], "seed": np.arange(3)[1], "clip": np.float64(1), "ema": np.float32(0.5)}
        settings |= {"batch_size": np.int64(7), "optimizer": optimizer, "schedule": lambda p: np.cos(0 * p)}
        fit(model, BARS, steps=steps, out=tmp_path, resume=resume, **settings, **QUIET)
        return weights(model)

    run(4, False)
    resumed = run(8, True)
    for path in tmp_path.iterdir():
        path.unlink()
    assert torch.equal(resumed, run(8, False))


def test_the_seconds_of_all_parts_are_counted(tmp_path):
    fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, **QUIET)
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    saved["history"]["seconds"] = 5000.0
    checkpoint.save(tmp_path / "checkpoint.pt", saved)
    history = fit(vae(), BARS, steps=8, batch_size=7, out=tmp_path, resume=True, **QUIET)
    assert 5000 < history.seconds < 5060


def test_points_in_bfloat16_can_be_kept(tmp_path):
    class Line(Tractable):
        def __init__(self):
            super().__init__(Space((2,)))
            self.mean = torch.nn.Parameter(torch.zeros(2))

        def log_prob(self, x, context=None):
            return -(x - self.mean).square().sum(1)

    for steps in (2, 4):
        history = fit(Line(), torch.ones(20, 2).bfloat16(), steps=steps, batch_size=10, out=tmp_path, resume=True, **QUIET)
    assert history.steps == 4


def test_points_that_want_a_gradient_can_be_trained_on(tmp_path):
    points = torch.randn(20, 2, requires_grad=True)
    assert fit(Duel(), points, steps=2, batch_size=10, out=tmp_path, **QUIET).steps == 2
    assert points.grad is None


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.SGD, momentum=0.9),
        torch.optim.SGD,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        functools.partial(torch.optim.AdamW, amsgrad=True),
        torch.optim.NAdam,
        torch.optim.Rprop,
    ],
    ids=lambda value: getattr(value, "__name__", None) or value.func.__name__,
)
def test_a_run_with_any_optimiser_goes_on(tmp_path, optimizer):
    settings = {"batch_size": 7, "optimizer": optimizer, **QUIET}
    fit(vae(), BARS, steps=4, out=tmp_path, **settings)
    resumed, whole = vae(), vae()
    fit(resumed, BARS, steps=8, out=tmp_path, resume=True, **settings)
    fit(whole, BARS, steps=8, **settings)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_longer_run_under_a_schedule_is_another_run(tmp_path):
    fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, schedule=cosine, **QUIET)
    with pytest.raises(ValueError, match="steps=4, and this call has steps=8"):
        fit(vae(), BARS, steps=8, batch_size=7, out=tmp_path, schedule=cosine, resume=True, **QUIET)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, **QUIET)
    path = tmp_path / "checkpoint.pt"
    if content is None:
        checkpoint.save(path, vae().state_dict())  # a fine file, of another kind
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, resume=True, **QUIET)


# --- checkpoints that are whole, and fit nothing ---------------------------------------------------------------------


def altered(*path, to=None, drop=False):
    """A change of one entry of a checkpoint."""

    def change(state):
        place = functools.reduce(lambda part, key: part[key], path[:-1], state)
        if drop:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def older(state):
    for name in ("model", "optimizer", "moves", "precision", "valid", "augment"):
        del state["fingerprint"][name]


MOMENTS = ("optimizers", 0, "state", 0)
GROUP = ("optimizers", 0, "param_groups", 0)
UNFIT = {
    "no best": (altered("best", drop=True), "no 'best'"),
    "no history": (altered("history", drop=True), "no 'history'"),
    "no optimisers": (altered("optimizers", drop=True), "no 'optimizers'"),
    "no fingerprint": (altered("fingerprint", to=None), "fingerprint"),
    "an earlier version": (older, "earlier version of gencourse"),
    "negative step": (altered("step", to=-5), "step is -5"),
    "step of another kind": (altered("step", to="4"), "step is '4'"),
    "step beyond the losses": (altered("step", to=7), "does not have 7 losses"),
    "a list for the model": (altered("model", to=[1, 2]), "another architecture"),
    "a weight of another shape": (altered("model", "NAME", to=torch.zeros(3)), "another architecture"),
    "a weight that is a number": (altered("model", "NAME", to=1.0), "another architecture"),
    "no optimiser": (altered("optimizers", to=[]), "optimisers for other moves"),
    "optimisers of another kind": (altered("optimizers", to=None), "no optimisers"),
    "an optimiser of another kind": (altered("optimizers", 0, to=3), "no state of an optimiser"),
    "no groups": (altered("optimizers", 0, "param_groups", to=[]), "other groups"),
    "other parameters": (altered(*GROUP, "params", to=[0]), "other parameters"),
    "an argument of another kind": (altered(*GROUP, "betas", to=0.9), "betas=0.9"),
    "a moment of another shape": (altered(*MOMENTS, "exp_avg", to=torch.zeros(2)), "exp_avg has another shape"),
    "a moment in half precision": (altered(*MOMENTS, "exp_avg_sq", to=torch.zeros(16, 9).half()), "exp_avg_sq has another"),
    "a moment that is a number": (altered(*MOMENTS, "exp_avg", to=0.0), "exp_avg has another shape"),
    "no moment": (altered(*MOMENTS, "exp_avg", drop=True), "keeps other things"),
    "moments of nothing": (altered("optimizers", 0, "state", 99, to={}), "other parameters"),
    "no average": (altered("average", to=None), "no average"),
    "a short average": (altered("average", "values", to=[]), "other shapes"),
    "an average of another shape": (altered("average", "values", 0, to=torch.zeros(1)), "other shapes"),
    "a negative count": (altered("average", "count", to=-1), "no average"),
    "best of another architecture": (altered("best", "weights", to={"w": torch.zeros(2)}), "best weights are of another"),
    "best loss of another kind": (altered("best", "loss", to="low"), "best loss is 'low'"),
    "losses of other moves": (altered("history", "losses", to={"d": [1.0] * 4}), "other moves"),
    "losses of another kind": (altered("history", "losses", "-elbo", to=["a"] * 4), "4 losses"),
    "validations of another kind": (altered("history", "valid", to=[1, 2]), "no list of validations"),
    "seconds of another kind": (altered("history", "seconds", to=None), "seconds are None"),
    "a history of another kind": (altered("history", "more", to=1), "history is not one"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_checkpoint_that_does_not_fit_is_one_sentence_before_anything_is_used(tmp_path, name):
    """Whole files, by their checksums; a fused optimiser would read and write beside a moment of another shape."""
    change, says = UNFIT[name]
    call = {"batch_size": 7, "out": tmp_path, "valid": BARS, "ema": 0.9, "resume": True, **QUIET}
    fit(vae(), BARS, steps=4, validate_every=2, **call)
    path = tmp_path / "checkpoint.pt"
    saved = checkpoint.load(path)
    first = next(iter(saved["model"]))
    saved["model"]["NAME"] = saved["model"].pop(first)  # the name of a weight is the model's own matter
    change(saved)
    if isinstance(saved.get("model"), dict):
        saved["model"][first] = saved["model"].pop("NAME")
    checkpoint.save(path, saved)
    model = vae()
    before, content = weights(model), path.read_bytes()
    with pytest.raises(ValueError, match=r"^fit: cannot resume .*(checkpoint\.pt|another architecture)") as caught:
        fit(model, BARS, steps=8, callback=never, **call)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(weights(model), before)
    assert path.read_bytes() == content


# --- the folder of a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.pt", "run.json", "history.json"])
def test_a_file_of_a_run_is_never_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"already holds a run.*{name}"):
        fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, callback=never, **QUIET)
    if name != "checkpoint.pt":  # what is left of a run cannot be gone on with
        with pytest.raises(FileExistsError, match=rf"holds {name}, but no checkpoint\.pt"):
            fit(vae(), BARS, steps=4, batch_size=7, out=tmp_path, resume=True, callback=never, **QUIET)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def a_file(folder):
    (folder / "taken").write_text("in the way")
    return folder / "taken"


def a_dangling_link(folder):
    (folder / "link").symlink_to(folder / "nowhere" / "at" / "all")
    return folder / "link"


@pytest.mark.parametrize(
    "place",
    [a_file, lambda folder: a_file(folder) / "run", a_dangling_link, lambda _: Path("/proc/run"), lambda _: Path("/proc/self")],
    ids=["file", "in a file", "dangling link", "cannot be made", "cannot be written"],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_used_is_noticed_before_the_first_step(tmp_path, place, resume):
    out = place(tmp_path)
    with pytest.raises(OSError, match=r"fit: .*folder for the run") as caught:
        fit(vae(), BARS, steps=4, batch_size=7, out=out, resume=resume, callback=never, **QUIET)
    assert caught.value.filename == str(out)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_noticed_before_the_first_step(tmp_path):
    """A limit on the size of files that the system enforces: enough for the marker, too little for the weights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="fit: no room on the disk for a checkpoint of") as caught:
            fit(vae((256,)), BARS, steps=4, batch_size=7, out=tmp_path / "run", callback=never, **QUIET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    asked = int(re.search(r"of ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    fit(vae((256,)), BARS, steps=1, batch_size=7, out=tmp_path / "run", **QUIET)
    written = (tmp_path / "run" / "checkpoint.pt").stat().st_size
    assert 0.6 * written < asked < written  # no more than is needed, or a run with room enough would be refused


def test_a_run_that_kept_nothing_leaves_nothing(tmp_path):
    with pytest.raises(FloatingPointError):
        fit(vae(), BARS, steps=50, batch_size=7, lr=1e20, out=tmp_path / "run", **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fit(vae(), BARS, steps=2, batch_size=7, out="~/runs/a", **QUIET)
    assert sorted(path.name for path in (tmp_path / "runs" / "a").iterdir()) == ["checkpoint.pt", "history.json"]
    assert not (tmp_path / "~").exists()


def test_a_folder_in_which_a_run_is_at_work_is_refused_at_once(tmp_path):
    refused = []

    def another(step, model):
        with pytest.raises(FileExistsError, match=rf"is taken: process {os.getpid()} is training in it \(seed 3, st") as caught:
            fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, resume=step == 2, callback=never, **QUIET)
        refused.append(str(caught.value))

    fit(vae(), BARS, steps=2, batch_size=7, seed=3, out=tmp_path, callback=another, **QUIET)
    assert len(refused) == 2
    assert not any("\n" in text for text in refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "history.json"]  # the marker is gone


def stat(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def marker(pid="self", **changes):
    """What a process leaves in a folder while it trains."""
    number = os.getpid() if pid == "self" else pid
    started = int(stat(pid)[19]) if Path(f"/proc/{pid}").exists() else 1
    return json.dumps({"process": number, "started": started, "host": platform.node(), "seed": 0, **changes})


def dead():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "content",
    [lambda: marker(dead()), lambda: marker(started=1), lambda: "", lambda: '{"proc', lambda: "[]"],
    ids=["dead", "its number is another's now", "killed before it wrote", "killed while it wrote", "no marker"],
)
def test_a_run_that_was_killed_holds_nothing(tmp_path, content):
    (tmp_path / "running.json").write_text(content())
    fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, resume=True, **QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "history.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_run_whose_parent_has_not_looked_holds_nothing(tmp_path):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    (tmp_path / "running.json").write_text(marker(child))
    with pytest.raises(FileExistsError, match=f"process {child} is training"):
        fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, callback=never, **QUIET)
    os.kill(child, 9)
    while stat(child)[0] != "Z":
        time.sleep(0.01)
    fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, **QUIET)
    os.waitpid(child, 0)


def test_a_run_on_another_machine_holds_its_folder_and_the_sentence_says_how_to_free_it(tmp_path):
    content = json.dumps({"process": 1, "started": None, "host": "elsewhere", "seed": 0})
    (tmp_path / "running.json").write_text(content)
    with pytest.raises(FileExistsError, match=r"process 1 on elsewhere is training.*delete running\.json there"):
        fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, resume=True, callback=never, **QUIET)
    assert (tmp_path / "running.json").read_text() == content


@pytest.mark.parametrize("left", [False, True], ids=["empty folder", "after a kill"])
def test_of_many_that_begin_at_once_one_gets_the_folder(tmp_path, left):
    for attempt in range(10):
        out = tmp_path / str(attempt)
        if left:
            out.mkdir()
            (out / "running.json").write_text(marker(dead()))
        ready, go, done = os.pipe(), os.pipe(), os.pipe()
        children = []
        for _ in range(6):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(go[1])
                os.close(done[1])
                code = 4
                try:
                    os.write(ready[1], b"x")
                    os.read(go[0], 1)
                    with folder.taken(out, resume=True, room=1, settings={}):
                        os.write(ready[1], b"x")
                        os.read(done[0], 1)  # until the others have been refused
                        code = 0
                except FileExistsError:
                    os.write(ready[1], b"x")
                    code = 3
                finally:
                    os._exit(code)
        for end in (go, done):  # all at once; and when each has tried, the end
            for _ in children:
                os.read(ready[0], 1)
            os.close(end[1])
        ended = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        for end in (*ready, go[0], done[0]):
            os.close(end)
        assert ended == [0, 3, 3, 3, 3, 3]


def test_a_marker_that_another_run_made_meanwhile_is_given_back(tmp_path, monkeypatch):
    """Between the look at a dead process's marker and its removal, another run takes the folder."""
    path, living = tmp_path / "running.json", json.dumps({"process": 1, "started": None, "host": "elsewhere", "seed": 7})
    path.write_text(json.dumps({"process": 4, "started": None, "host": platform.node(), "seed": 0}))

    def replaced_while_looked_at(pid, started):
        path.unlink()
        path.write_text(living)
        return False

    monkeypatch.setattr(folder, "_lives", replaced_while_looked_at)
    with pytest.raises(FileExistsError, match="process 1 on elsewhere is training in it"):
        fit(vae(), BARS, steps=2, batch_size=7, out=tmp_path, resume=True, callback=never, **QUIET)
    assert path.read_text() == living
    assert list(tmp_path.iterdir()) == [path]
