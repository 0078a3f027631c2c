"""A run that is killed and resumed ends with the same bits; one that is not the same run is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_models import weights

from gencourse import checkpoint, data
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.variational.vae import VAE

BARS = data.load("bars_and_stripes").train
QUIET = {"device": "cpu", "progress": False}
KILLS = 3


def vae(hidden=(16,)):
    torch.manual_seed(0)
    return VAE(Space((1, 3, 3), 2), latent=2, hidden=hidden)


@pytest.mark.parametrize("kind", ["vae", "duel", "gan"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, kind):
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
    assert len(peace["losses"]["-elbo" if kind == "vae" else "d"]) == report["steps"]
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
    with pytest.raises(FileExistsError, match="already holds a run; pass resume=True"):
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
