"""What people type by mistake: a sentence and a status that is not 0, at once, and nothing on the disk is touched."""

import hashlib
import json
import re
import shlex
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gencourse import catalog, checkpoint, cli, runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs, whole and damaged, pictures, good and bad, hand-ins, and other files."""
    place = tmp_path_factory.mktemp("place")
    for name, model, recipe in (("good", "vae", "binary_digits"), ("points", "gan", "ring")):
        entry = catalog.entry(model)
        runs.train(entry, entry.recipe(recipe), place / name, steps=2, device="cpu", progress=False)
    for name in ("unfinished", "latin", "list", "huge", "nan", "weights", "half", "empty", "folder.png", "handed", "none"):
        (place / name).mkdir()
    shutil.copy(place / "good" / "checkpoint.pt", place / "unfinished")
    record = json.loads((place / "good" / "run.json").read_text())
    state = checkpoint.load(place / "good" / "model.pt")
    for name, change in (
        ("list", {"options": []}),
        ("huge", {"space": {"shape": [1, 10**9, 10**9], "levels": 2}}),
        ("nan", {}),
        ("weights", {}),
        ("half", {}),
    ):
        checkpoint.write_json(place / name / "run.json", record | change)
        checkpoint.save(place / name / "model.pt", {key: value * float("nan") for key, value in state.items()})
    checkpoint.save(place / "weights" / "model.pt", [1, 2, 3])
    (place / "half" / "model.pt").write_bytes((place / "good" / "model.pt").read_bytes()[:5000])
    (place / "latin" / "run.json").write_bytes('{"model": "vaé"}'.encode("latin-1"))
    (place / "file").write_text("in the way")
    (place / "short").write_text("too short")
    (place / "handed" / "ada.ipynb").write_text("{}")
    for name, n in (("pictures", 24), ("few", 3), ("mixed", 24), ("broken", 24)):
        (place / name).mkdir()
        for i in range(n):
            Image.fromarray(np.full((6, 6 + (name == "mixed" and i == 5)), 9 * i, np.uint8)).save(place / name / f"{i:02}.png")
    (place / "broken" / "07.png").write_bytes((place / "broken" / "08.png").read_bytes()[:50])
    np.save(place / "floats.npy", np.zeros((30, 6, 6), np.float32))
    np.save(place / "flat.npy", np.zeros((30, 36), np.uint8))
    np.save(place / "objects.npy", np.array([{}] * 30, dtype=object))
    return place


def everything(place):
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(place.rglob("*"))
    }


TRAIN = "train vae --recipe binary_digits --device cpu --quiet"
OWN = "train pixelcnn --device cpu --quiet --steps 2 --data"
LONG = "n" * 300

# What is typed, and a part of the answer.
CALLS = [
    # commands
    ("", "Usage"),
    ("trian", "No such command 'trian'"),
    ("TRAIN vae", "No such command"),
    ("--version", "No such option"),
    ("data", "Usage"),
    ("data put", "No such command"),
    ("models vae", "unexpected extra argument"),
    ("models --recipe", "No such option"),
    ("evaluate", "Missing argument"),
    ("sample", "Missing"),
    ("train", "Missing argument"),
    ("grade", "Missing"),
    # names
    ("train VAE --recipe binary_digits", "did you mean 'vae'?"),
    ("train Pixel-CNN --recipe binary_digits", "did you mean 'pixelcnn'?"),
    ("train row-lstm --recipe binary_digits", "did you mean 'row_lstm'?"),
    ("train vea --recipe binary_digits", "did you mean 'vae'?"),
    ("train '' --recipe binary_digits", "unknown model"),
    ("train ' ' --recipe binary_digits", "unknown model"),
    ("train ../vae --recipe binary_digits", "unknown model"),
    ("train é --recipe binary_digits", "unknown model"),
    ("train vae --recipe Binary_Digits", "did you mean 'binary_digits'?"),
    ("train vae --recipe binary-digits", "did you mean 'binary_digits'?"),
    ("train vae --recipe digit", "did you mean 'digits'?"),
    ("train vae --recipe ''", "unknown recipe"),
    ("train vae --recipe ring", "unknown recipe"),
    ("train gan --recipe binary_digits", "unknown recipe"),
    ("data get MNIST", "did you mean 'mnist'?"),
    ("data get Digits", "did you mean 'digits'?"),
    ("data get ''", "unknown data set"),
    ("data get ../mnist", "unknown data set"),
    ("data get", "Missing argument"),
    ("data list all", "unexpected extra argument"),
    ("data get digits mnist", "unexpected extra argument"),
    # train: options
    ("train vae", "--recipe NAME, or --data"),
    ("train --recipe binary_digits", "Missing argument"),
    (f"{TRAIN} --data pictures", "--recipe NAME, or --data"),
    (f"{TRAIN} --size 28", "for your own pictures"),
    (f"{TRAIN} --grey", "for your own pictures"),
    (f"{TRAIN} --steps 0", "Invalid value for"),
    (f"{TRAIN} --steps -5", "Invalid value for"),
    (f"{TRAIN} --steps 1e3", "Invalid value for"),
    (f"{TRAIN} --steps 2.5", "Invalid value for"),
    (f"{TRAIN} --steps ten", "Invalid value for"),
    (f"{TRAIN} --steps ''", "Invalid value for"),
    (f"{TRAIN} --steps {10**30}", "Invalid value for"),
    (f"{TRAIN} --steps", "requires an argument"),
    (f"{TRAIN} --seed {10**30}", "Invalid value for"),
    (f"{TRAIN} --seed -1", "Invalid value for"),
    (f"{TRAIN} --seed {2**63}", "Invalid value for"),
    (f"{TRAIN} --seed nan", "Invalid value for"),
    (f"{TRAIN} --seed 0x10", "Invalid value for"),
    (f"{TRAIN} --devices 0", "Invalid value for"),
    (f"{TRAIN} --devices {10**9}", "Invalid value for"),
    (f"{TRAIN} --devices two", "Invalid value for"),
    (f"{TRAIN} --devices 3 --out new", "must divide the batch"),
    (f"{TRAIN} --precision 16 --out new", "precision must be"),
    (f"{TRAIN} --precision '' --out new", "precision must be"),
    (f"{TRAIN} --precision fp32 --out new", "precision must be"),
    ("train vae --recipe binary_digits --quiet --device gpu --out new", "device must be"),
    ("train vae --recipe binary_digits --quiet --device CPU --out new", "device must be"),
    ("train vae --recipe binary_digits --quiet --device '' --out new", "device must be"),
    ("train vae --recipe binary_digits --quiet --device mps --out new", "no mps device"),
    ("train vae --recipe binary_digits --quiet --device cuda:7 --out new", "device must be"),
    (f"{TRAIN} --lr 0.1", "No such option"),
    (f"{TRAIN} --resume yes", "unexpected extra argument"),
    # train: where to
    (f"{TRAIN} --out good", "already holds a run; --resume"),
    (f"{TRAIN} --out unfinished", "already holds a run; --resume"),
    (f"{TRAIN} --out good --resume --seed 5", "cannot resume"),
    (f"{TRAIN} --out good --resume --steps 2000", "cannot resume"),
    (
        "train vae --recipe binary_digits_z2 --device cpu --quiet --out good --resume --steps 2",
        "another architecture|cannot resume",
    ),
    ("train nade --recipe binary_digits --device cpu --quiet --out good --resume --steps 2", "cannot resume"),
    (f"{TRAIN} --out file", "file is none|is a file"),
    (f"{TRAIN} --out file/run", "must be a folder, but file is none"),
    (f"{TRAIN} --out /dev/null", "must be a folder"),
    (f"{TRAIN} --out /dev/null/run", "must be a folder"),
    (f"{TRAIN} --out /proc/run", "nothing can be written"),
    (f"{TRAIN} --out /sys/run", "nothing can be written"),
    (f"{TRAIN} --out {LONG}", "too long"),
    (f"{TRAIN} --out {LONG}/run", "too long"),
    # train: own pictures
    (f"{OWN} nowhere", "no folder or file"),
    (f"{OWN} ''", "--data and a folder"),
    (f"{OWN} '~nobody-here'", "no home folder"),
    (f"{OWN} none --out new", "there are no pictures"),
    (f"{OWN} few --out new", "at least 20"),
    (f"{OWN} mixed --out new", "--size 28"),
    (f"{OWN} broken --out new", "07.png cannot be read"),
    (f"{OWN} broken --size 6 --out new", "07.png cannot be read"),
    (f"{OWN} floats.npy --out new", "real numbers"),
    (f"{OWN} flat.npy --out new", "has the shape"),
    (f"{OWN} objects.npy --out new", "cannot be read as an array"),
    (f"{OWN} file --out new", "neither a folder"),
    (f"{OWN} /dev/null --out new", "neither a folder"),
    (f"{OWN} pictures --size 0", "Invalid value for"),
    (f"{OWN} pictures --size 28x28", "Invalid value for"),
    (f"{OWN} pictures --size {10**9}", "Invalid value for"),
    (f"{OWN} pictures --out good", "already holds a run"),
    (f"{OWN} pictures --out good --resume", "cannot resume"),
    (f"{OWN} pictures --out /proc/run", "nothing can be written"),
    ("train pixel --data pictures", "did you mean"),
    ("train dcgan --data pictures --size 5 --steps 2 --device cpu --quiet --out new", "even|sides|DCGAN"),
    ("train VAE --data pictures", "did you mean 'vae'?"),
    ("train vae --data pictures --out file/run", "must be a folder"),
    # evaluate
    ("evaluate nowhere", "no finished run"),
    ("evaluate file", "no finished run"),
    ("evaluate empty", "no finished run"),
    ("evaluate ''", "no finished run"),
    ("evaluate unfinished", "with --resume goes on"),
    ("evaluate latin", "run.json is damaged"),
    ("evaluate list", "run.json is damaged"),
    ("evaluate huge", "run.json is damaged"),
    ("evaluate nan", "not finite"),
    ("evaluate weights", "holds no weights"),
    ("evaluate half", "model.pt is damaged"),
    ("evaluate good --samples 0", "Invalid value for"),
    ("evaluate good --samples 1e10", "Invalid value for"),
    (f"evaluate good --samples {10**10}", "Invalid value for"),
    ("evaluate good points", "unexpected extra argument"),
    ("evaluate pictures", "no finished run"),
    # sample
    ("sample good", "Missing option"),
    ("sample --out a.png", "Missing argument"),
    ("sample nowhere --out a.png", "no finished run"),
    ("sample unfinished --out a.png", "with --resume goes on"),
    ("sample latin --out a.png", "run.json is damaged"),
    ("sample list --out a.png", "run.json is damaged"),
    ("sample huge --out a.png", "run.json is damaged"),
    ("sample nan --out a.png", "not finite"),
    ("sample weights --out a.png", "holds no weights"),
    ("sample half --out a.png", "model.pt is damaged"),
    ("sample good --out a.png --n 0", "Invalid value for"),
    ("sample good --out a.png --n -1", "Invalid value for"),
    ("sample good --out a.png --n 1e10", "Invalid value for"),
    (f"sample good --out a.png --n {10**10}", "Invalid value for"),
    (f"sample good --out a.png --n {10**30}", "Invalid value for"),
    (f"sample good --out a.png --seed {10**30}", "Invalid value for"),
    ("sample good --out a.png --seed -3", "Invalid value for"),
    ("sample good --out a.png --seed 1.5", "Invalid value for"),
    ("sample good --out a", "must end in .png, .npy or .csv"),
    ("sample good --out a.jpg", "must end in"),
    ("sample good --out a.csv", "are images"),
    ("sample good --out ''", "is a folder"),
    ("sample good --out .", "is a folder"),
    ("sample good --out folder.png", "is a folder"),
    ("sample good --out good", "is a folder"),
    ("sample good --out file/a.png", "must be a folder, but file is none"),
    ("sample good --out /dev/full", "no regular file"),
    ("sample good --out /dev/null", "no regular file"),
    ("sample good --out /proc/a.png", "nothing can be written"),
    ("sample good --out /dev/null/a.png", "must be a folder"),
    (f"sample good --out {LONG}.png", "too long"),
    ("sample points --out a.jpg", "must end in"),
    # exercises
    ("release", "which exercise"),
    ("release 09 --all", "which exercise"),
    ("release 77", "solutions"),
    ("submit", "Missing argument"),
    ("submit 77", "77"),
    ("submit nine", "nine|exercise"),
    ("submit 09", "there is no notebook"),
    ("submit 09 --notebook nowhere.ipynb", "there is no notebook nowhere.ipynb"),
    ("submit 09 --notebook handed", "there is no notebook"),
    ("submit 09 --notebook handed/ada.ipynb --out /proc/x", "nothing can be written"),
    ("submit 09 --notebook handed/ada.ipynb --out file", "must be a folder"),
    ("submit 09 --notebook file", "file"),
    ("grade handed --exercise 09", "Missing option"),
    ("grade handed --out marks", "Missing option"),
    ("grade nowhere --exercise 09 --out marks", "no folder nowhere"),
    ("grade file --exercise 09 --out marks", "no folder file"),
    ("grade empty --exercise 09 --out marks", "nothing to grade"),
    ("grade handed --exercise 77 --out marks", "77"),
    ("grade handed --exercise '' --out marks", "exercise"),
    ("grade handed --exercise 09 --out handed", "name a folder beside it"),
    ("grade handed --exercise 09 --out handed/.", "name a folder beside it"),
    ("grade handed --exercise 09 --out handed/ada/marks", "name a folder beside it"),
    ("grade . --exercise 09 --out good/marks", "name a folder beside it"),
    ("grade handed --exercise 09 --out file", "must be a folder"),
    ("grade handed --exercise 09 --out /proc/x", "nothing can be written"),
    ("grade handed --exercise 09 --out /dev/full", "must be a folder"),
    ("grade handed --exercise 09 --out marks --memory inf", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --memory nan", "must be numbers|Invalid value"),
    ("grade handed --exercise 09 --out marks --memory 0", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --memory 1e12", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --timeout inf", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --timeout nan", "must be numbers|Invalid value"),
    ("grade handed --exercise 09 --out marks --timeout -1", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --jobs 0", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --jobs 1000", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --secret-file nowhere", "no file nowhere"),
    ("grade handed --exercise 09 --out marks --secret-file short", "shorter than 16"),
    ("selftest", "Missing argument"),
    ("selftest 77", "77"),
    ("selftest 09 --seeds 0", "Invalid value for"),
    (f"selftest 09 --seeds {10**30}", "Invalid value for"),
    ("gradescope", "Missing argument"),
    ("gradescope 77", "77"),
    ("gradescope 09 --out good", "is a folder"),
    ("gradescope 09 --out /dev/full", "no regular file"),
    ("gradescope 09 --out file/a.zip", "must be a folder"),
    ("gradescope 09 --out /proc/a.zip", "nothing can be written"),
    (f"gradescope 09 --out {LONG}.zip", "too long"),
    ("gradescope 09 --secret-file nowhere", "no file nowhere"),
    ("gradescope 09 --secret-file short", "shorter than 16"),
]


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gencourse", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.mark.parametrize(("typed", "says"), CALLS, ids=[re.sub(r"n{300}|\d{20,}", "LONG", typed) for typed, _ in CALLS])
def test_a_wrong_call_is_answered_and_touches_nothing(place, monkeypatch, capsys, typed, says):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    before = everything(place)
    status, out, err = call(monkeypatch, capsys, *shlex.split(typed))
    assert status in (1, 2)
    assert "Traceback" not in out + err
    shown = re.sub(r"[│╭╮╰╯─]|\x1b\[[\d;]*m", " ", out + err)
    assert re.search(says, " ".join(shown.split()))
    if status == 1:
        assert re.search(r"(?m)^gencourse: [^\n]+\n\Z", err), err
        assert err.count("\n") == 1
    assert everything(place) == before
    assert all(stat.S_ISCHR(Path(device).stat().st_mode) for device in ("/dev/full", "/dev/null"))


def test_there_are_enough_of_them_and_each_is_another():
    assert len({typed for typed, _ in CALLS}) == len(CALLS) >= 150


@pytest.mark.parametrize("typed", ["data list", "data get mnist", "train vae --recipe binarized_mnist --out new"])
@pytest.mark.parametrize("where", ["~nobody-here/data", "{place}/file", "/dev/null"])
def test_a_data_folder_that_cannot_be_is_one_sentence(place, monkeypatch, capsys, typed, where):
    monkeypatch.chdir(place)
    monkeypatch.setenv("GENCOURSE_DATA", where.format(place=place))
    monkeypatch.setattr("gencourse.data.downloads._fetch", None)  # nothing may be asked of the network
    before = everything(place)
    status, _, err = call(monkeypatch, capsys, *typed.split())
    if typed != "data list" or where.startswith("~"):
        assert status == 1
        assert re.fullmatch(r"gencourse: [^\n]+\n", err)
    assert everything(place) == before


def test_too_little_memory_is_one_sentence(place, monkeypatch, capsys):
    def sample(self, n, context=None, *, generator=None):
        return torch.empty(10**15, dtype=torch.float64)

    monkeypatch.setattr("gencourse.kinds.GenerativeModel.sample", sample)
    status, out, err = call(monkeypatch, capsys, "sample", str(place / "good"), "--out", str(place / "a.png"))
    assert (status, out) == (1, "")
    assert err == "gencourse: there is not enough memory for this; ask for less (fewer samples, smaller images, fewer jobs).\n"
