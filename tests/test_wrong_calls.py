"""What people type by mistake: a sentence and a status that is not 0, at once, and nothing on the disk is touched."""

import io
import json
import os
import pickle
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gencourse import catalog, checkpoint, cli, runs


class Code:
    """Unpickling it would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def of(field, **change):
    """A record in which one field is changed in part."""
    return lambda record: {field: record[field] | change}


# Folders with a run.json that is wrong in one field, or lacks it (None), and a part of the answer.
RECORDS = {
    **{
        f"no-{field}": (None, f"it has no '{field}'")
        for field in ("model", "recipe", "space", "options", "data", "band", "samples")
    },
    "a-model-3": ({"model": 3}, "its 'model' cannot be 3"),
    "a-model-vea": ({"model": "vea"}, "did you mean 'vae'"),
    "a-recipe-list": ({"recipe": ["binary_digits"]}, "its 'recipe' cannot be"),
    "a-space-list": ({"space": [1, 8, 8]}, "its 'space' cannot be"),
    "a-space-empty": ({"space": {}}, "'space' has no 'shape'"),
    "a-shape-empty": (of("space", shape=[]), "shape must be a tuple of positive integers"),
    "a-shape-below-0": (of("space", shape=[1, -8, 8]), "shape must be a tuple of positive integers"),
    "a-shape-0": (of("space", shape=[1, 0, 8]), "shape must be a tuple of positive integers"),
    "a-shape-text": (of("space", shape="188"), "its 'shape' cannot be '188'"),
    "a-shape-null": (of("space", shape=None), "its 'shape' cannot be None"),
    "a-shape-huge": (of("space", shape=[1, 10**9, 10**9]), "its 'shape' cannot be"),
    "a-shape-other": (of("space", shape=[1, 9, 9]), "another architecture"),
    "a-levels-1": (of("space", levels=1), "levels must be an integer of 2 or more"),
    "a-levels-text": (of("space", levels="two"), "levels must be an integer of 2 or more"),
    "a-levels-real": (of("space", levels=2.5), "levels must be an integer of 2 or more"),
    "a-levels-17": (of("space", levels=17), "another architecture"),
    "a-options-list": ({"options": []}, "its 'options' cannot be"),
    "a-option-unknown": (of("options", depth=3), "no Variational autoencoder can be built"),
    "a-option-below-0": (of("options", latent=-2), "latent must be a positive integer"),
    "a-option-huge": (of("options", hidden=[10**9, 10**9]), "no Variational autoencoder can be built"),
    "a-option-other": (of("options", latent=7), "another architecture"),
    "a-metric-unknown": ({"metric": "fid"}, "there is no metric 'fid'; there are: nll"),
    "a-metric-3": ({"metric": 3}, "its 'metric' cannot be 3"),
    "a-metric-null": ({"metric": None}, "nothing to measure"),
    "a-metric-of-points": ({"metric": "mode_overlap"}, "for data with known modes"),
    "a-band-text": ({"band": "low"}, "its 'band' cannot be"),
    "a-band-list": ({"band": []}, "its 'band' cannot be"),
    "a-samples-0": ({"samples": 0}, "its 'samples' cannot be 0"),
    "a-samples-real": ({"samples": 1.5}, "its 'samples' cannot be 1.5"),
    "a-samples-huge": ({"samples": 10**15}, "its 'samples' cannot be 1000"),
    "a-data-unknown": ({"data": "nope"}, "unknown data set 'nope'"),
    "a-data-other": ({"data": "digits"}, "expects integers 0..1"),
    "a-data-empty": ({"data": {}}, "its 'data' has no 'function'"),
    "a-data-gone": ({"data": {"function": "mine"}}, "known only to the program that made them"),
    "a-data-3": ({"data": 3}, "its 'data' cannot be 3"),
    "a-pictures-gone": (
        {"data": {"images": "/nowhere", "size": None, "grey": False, "seed": 0, "fingerprint": "x"}},
        "no folder or file /nowhere",
    ),
}

# Folders with a run.json of these bytes.
TEXTS = {
    "t-empty": b"",
    "t-null": b"null",
    "t-number": b"3",
    "t-list": b"[]",
    "t-deep": b"[" * 100_000,
    "t-utf16": '{"model": "vae"}'.encode("utf-16"),
    "t-latin": '{"model": "va\u00e9"}'.encode("latin-1"),
    "t-bytes-0": bytes(100),
    "t-html": b"<html>log in</html>",
}

# Folders with a model.pt of these bytes, or of this content, made from the right one.
WEIGHTS = {
    "w-empty": (lambda right: b"", "model.pt is damaged"),
    "w-text": (lambda right: b"hello", "model.pt is damaged"),
    "w-half": (lambda right: right[: len(right) // 2], "model.pt is damaged"),
    "w-bit": (
        lambda right: right[: len(right) // 2] + bytes([right[len(right) // 2] ^ 64]) + right[len(right) // 2 + 1 :],
        "damaged",
    ),
    "w-pickle": (lambda right: pickle.dumps({"a": 1}), "model.pt is damaged"),
    "w-code": (lambda right: saved(Code()), "might run code"),
    "w-archive": (lambda right: zipped("a.txt"), "model.pt is damaged"),
    "w-list": (lambda right: saved([1, 2, 3]), "holds no weights"),
    "w-numbers": (lambda right: saved({name: 1 for name in state_of(right)}), "holds no weights"),
    "w-nothing": (lambda right: saved({}), "another architecture"),
    "w-one-less": (lambda right: saved(dict(list(state_of(right).items())[1:])), "another architecture"),
    "w-one-more": (lambda right: saved(state_of(right) | {"more": torch.zeros(3)}), "another architecture"),
    "w-shapes": (lambda right: saved({name: value[:1] for name, value in state_of(right).items()}), "another architecture"),
    "w-nan": (lambda right: saved({name: value * float("nan") for name, value in state_of(right).items()}), "not finite"),
    "w-inf": (lambda right: saved({name: value * float("inf") for name, value in state_of(right).items()}), "not finite"),
    "w-complex": (lambda right: saved({name: value + 0j for name, value in state_of(right).items()}), "holds no weights"),
}

# Folders with a checkpoint.pt of this content, or of these bytes, made from the right one.
CHECKPOINTS = {
    "c-list": (lambda state: [1], "it is no dictionary"),
    "c-old": (lambda state: {name: value for name, value in state.items() if name != "best"}, "it has no 'best'"),
    "c-step": (lambda state: state | {"step": -5}, "its step is -5"),
    "c-step-later": (lambda state: state | {"step": 10**9}, "its history does not have"),
    "c-fingerprint": (lambda state: state | {"fingerprint": None}, "its fingerprint is no dictionary"),
    "c-optimizers": (lambda state: state | {"optimizers": []}, "optimisers for other moves"),
    "c-history": (lambda state: state | {"history": None}, "its history is not one"),
    "c-average": (lambda state: state | {"average": None}, "it has no average"),
    "c-model": (lambda state: state | {"model": {}}, "another architecture"),
    "c-empty": (b"", "checkpoint.pt is damaged"),
    "c-html": (b"<html>", "checkpoint.pt is damaged"),
}

# Files with an array that is no set of pictures.
ARRAYS = {
    "bright": (np.full((30, 6, 6), 300), "grey levels lie between 0 and 255"),
    "dark": (np.full((30, 6, 6), -5), "grey levels lie between 0 and 255"),
    "bools": (np.zeros((30, 6, 6), bool), "holds bool"),
    "complex": (np.zeros((30, 6, 6), complex), "holds complex128"),
    "text": (np.array(["a"] * 30), "but grey levels are whole numbers"),
    "dates": (np.zeros(30, "datetime64[s]"), "but grey levels are whole numbers"),
    "table": (np.zeros(30, [("a", np.uint8)]), "but grey levels are whole numbers"),
    "number": (np.uint8(3), "has the shape"),
    "five": (np.zeros((3, 1, 1, 6, 6), np.uint8), "has the shape"),
    "four-colours": (np.zeros((30, 6, 6, 4), np.uint8), "has the shape"),
    "no-rows": (np.zeros((30, 0, 6), np.uint8), "has the shape"),
    "none": (np.zeros((0, 6, 6), np.uint8), "at least 20 are needed"),
    "nineteen": (np.zeros((19, 6, 6), np.uint8), "at least 20 are needed"),
    "floats": (np.zeros((30, 6, 6), np.float32), "real numbers"),
    "flat": (np.zeros((30, 36), np.uint8), "has the shape"),
    "objects": (np.array([{}] * 30, dtype=object), "cannot be read as an array"),
}


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def state_of(file):
    return torch.load(io.BytesIO(file))


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "hello")
    return buffer.getvalue()


def notebook(*sources):
    cells = [{"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None} for s in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs, whole and damaged, pictures, good and bad, hand-ins, and other files."""
    place = tmp_path_factory.mktemp("place")
    for name, model, recipe in (("good", "vae", "binary_digits"), ("points", "gan", "ring")):
        entry = catalog.entry(model)
        runs.train(entry, entry.recipe(recipe), place / name, steps=2, device="cpu", progress=False)
    for name in ("unfinished", "empty", "folder.png", "none", "folders", "j-folder/run.json", "w-folder/model.pt"):
        (place / name).mkdir(parents=True)
    (place / "c-folder" / "checkpoint.pt").mkdir(parents=True)
    shutil.copy(place / "good" / "checkpoint.pt", place / "unfinished")
    record = json.loads((place / "good" / "run.json").read_text())
    right = (place / "good" / "model.pt").read_bytes()
    for name, (change, _) in RECORDS.items():
        changed = {key: value for key, value in record.items() if name != f"no-{key}"}
        changed |= change(record) if callable(change) else change or {}
        checkpoint.write_json(place / name / "run.json", changed)
        write(place / name / "model.pt", right)
    for name, text in TEXTS.items():
        write(place / name / "run.json", text)
    for name, (make, _) in WEIGHTS.items():
        checkpoint.write_json(place / name / "run.json", record)
        write(place / name / "model.pt", make(right))
    checkpoint.write_json(place / "w-folder" / "run.json", record)
    checkpoint.write_json(place / "w-gone" / "run.json", record)
    state = checkpoint.load(place / "good" / "checkpoint.pt")
    for name, (make, _) in CHECKPOINTS.items():
        write(place / name / "checkpoint.pt", saved(make(dict(state))) if callable(make) else make)
    for host in (platform.node(), "elsewhere"):
        marker = {"process": 1, "started": None, "host": host, "seed": 3}
        write(place / ("taken" if host == "elsewhere" else "taken-here") / "running.json", json.dumps(marker))
    for name in ("model.pt", "run.json", "history.json"):
        write(place / f"mine-{name}" / name, "mine")

    for name, n in (("pictures", 24), ("few", 3), ("nineteen", 19), ("mixed", 24), ("broken", 24)):
        (place / name).mkdir()
        for i in range(n):
            Image.fromarray(np.full((6, 6 + (name == "mixed" and i == 5)), 9 * i, np.uint8)).save(place / name / f"{i:02}.png")
    (place / "broken" / "07.png").write_bytes((place / "broken" / "08.png").read_bytes()[:50])
    for i in range(24):
        write(place / "words" / f"{i:02}.png", "no picture")
        write(place / "blank" / f"{i:02}.png", "")
        write(place / "texts" / f"{i:02}.txt", "no picture")
        (place / "folders" / f"{i:02}.png").mkdir()
        (place / "deep").mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 6), 300 * i, np.uint16)).save(place / "deep" / f"{i:02}.png")
    for name, (array, _) in ARRAYS.items():
        np.save(place / f"{name}.npy", array)
    np.savez(place / "two.npz", a=np.zeros((30, 6, 6), np.uint8), b=np.zeros((30, 6, 6), np.uint8))
    np.savez(place / "no-array.npz")
    write(place / "bad.npz", "PK nonsense")
    write(place / "empty.npy", "")
    write(place / "page.npy", "<html>")
    write(place / "cut.npy", (place / "bools.npy").read_bytes()[:200])
    with (place / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 100, 100)})
    for name, content in (("empty", b""), ("html", b"<html>"), ("other", (place / "two.npz").read_bytes()), ("zip", zipped("a"))):
        for known in ("mnist", "binarized_mnist"):
            write(place / f"data-{name}" / f"{known}.npz", content)
    (place / "data-folder" / "mnist.npz").mkdir(parents=True)

    write(place / "file", "in the way")
    write(place / "short", "too short")
    write(place / "blanks", " " * 50)
    write(place / "dots" / ".hidden", "x")
    write(place / "handed" / "ada.ipynb", "{}")
    for name, text in {
        "words.ipynb": "hello",
        "blank.ipynb": "",
        "list.ipynb": "[]",
        "no-cells.ipynb": '{"nbformat": 4}',
        "latin.ipynb": '{"cells": "\u00e9"}'.encode("latin-1"),
        "other.ipynb": notebook('check("3.1")', "def f(n):\n    return n"),
        "tree/solutions/01-words.ipynb": "hello",
        "tree/solutions/02-no-answer.ipynb": notebook("x = 1"),
        "tree/solutions/03-no-end.ipynb": notebook("### BEGIN SOLUTION\nx = 1"),
        "tree/solutions/04-no-begin.ipynb": notebook("x = 1\n### END SOLUTION"),
        "tree/solutions/05-typo.ipynb": notebook("# BEGIN SOLUTION\nx = 1\n### END SOLUTION"),
        "twins/solutions/06-a.ipynb": notebook("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"),
        "twins/solutions/06-b.ipynb": notebook("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"),
    }.items():
        write(place / name, text)
    for link, to in (("loop", "loop"), ("dangling", "nowhere"), ("dangling.png", "nowhere"), ("link.ipynb", "other.ipynb")):
        (place / link).symlink_to(to)
    os.mkfifo(place / "pipe.ipynb")
    return place


def everything(place):
    """Each file with what changes when it is written or replaced."""
    found = {}
    for path in sorted(place.rglob("*")):
        about = path.lstat()
        stands = stat.S_ISDIR(about.st_mode) or (about.st_ino, about.st_size, about.st_mtime_ns)
        found[str(path.relative_to(place))] = stands
    return found


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
    ("evaluate ''", "the name is empty"),
    ("evaluate unfinished", "with --resume goes on"),
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
    ("sample t-latin --out a.png", "run.json is damaged"),
    ("sample a-options-list --out a.png", "run.json is damaged"),
    ("sample w-nan --out a.png", "not finite"),
    ("sample w-half --out a.png", "model.pt is damaged"),
    ("sample a-metric-null --out a.csv", "are images"),
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
    ("sample good --out ''", "the name is empty"),
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
    ("grade nowhere --exercise 09 --out marks", "nowhere is not there"),
    ("grade file --exercise 09 --out marks", "file is a file, not a folder"),
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
    # names of files that can be none, for every command that takes one
    (f"{TRAIN} --out ''", "the name is empty"),
    (f"{TRAIN} --out ' '", "the name is empty"),
    (f"{TRAIN} --out loop", "leads to itself"),
    (f"{TRAIN} --out loop/run", "leads to itself"),
    (f"{TRAIN} --out dangling", "must be a folder, but dangling is none"),
    (f"{TRAIN} --out ~nobody-here/run", "no such home folder"),
    (f"{TRAIN} --out good/run.json", "must be a folder"),
    ("evaluate loop", "leads to itself"),
    ("evaluate dangling", "no finished run"),
    ("evaluate ~nobody-here", "no such home folder"),
    ("evaluate good/run.json", "no finished run"),
    ("evaluate 'good '", "no finished run"),
    ("evaluate 'go\nod'", "go od holds no finished run"),
    ("evaluate /", "no finished run"),
    ("evaluate j-folder", "no finished run"),
    ("evaluate w-folder", "model.pt does not exist"),
    ("evaluate w-gone", "model.pt does not exist"),
    ("sample loop --out a.png", "leads to itself"),
    ("sample good --out loop", "leads to itself"),
    ("sample good --out loop/a.png", "leads to itself"),
    ("sample good --out ~nobody-here/a.png", "no such home folder"),
    ("sample good --out dangling.png", "a link to a file that is not there"),
    ("sample good --out .png", "must end in"),
    ("sample good --out a.png.", "must end in"),
    ("sample good --out 'a.png '", "must end in"),
    ("grade '' --exercise 09 --out marks", "the name is empty"),
    ("grade loop --exercise 09 --out marks", "leads to itself"),
    ("grade dangling --exercise 09 --out marks", "dangling is not there"),
    ("grade handed --exercise 09 --out ''", "the name is empty"),
    ("grade handed --exercise 09 --out loop", "leads to itself"),
    ("grade handed --exercise 09 --out marks --secret-file ''", "the name is empty"),
    ("submit 09 --notebook ''", "the name is empty"),
    ("submit 09 --notebook loop", "leads to itself"),
    ("submit 09 --notebook other.ipynb --out ~nobody-here", "no such home folder"),
    ("gradescope 09 --out ''", "the name is empty"),
    ("gradescope 09 --out loop", "leads to itself"),
    ("gradescope 09 --out dangling", "a link to a file that is not there"),
    # commands and options that there are not, or not so
    ("help", "No such command"),
    ("check 09", "No such command"),
    ("-v", "No such option"),
    ("data --list", "No such option"),
    ("data get --all", "No such option"),
    ("data remove mnist", "No such command"),
    ("models recipes", "unexpected extra argument"),
    ("sample good a.png", "Missing option"),
    ("sample good -o a.png", "No such option"),
    ("sample good good --out a.png", "unexpected extra argument"),
    ("sample good --out a.png --out", "requires an argument"),
    ("sample good --out a.png --n", "requires an argument"),
    ("sample good --out a.png --n ''", "Invalid value for"),
    ("sample good --out a.png --n 3x", "Invalid value for"),
    ("sample good --out a.png --samples 3", "No such option"),
    ("sample good --out a.png --device cuda", "No such option"),
    ("evaluate good --seed 3", "No such option"),
    ("evaluate good --samples many", "Invalid value for"),
    ("evaluate good --samples -1", "Invalid value for"),
    ("evaluate GOOD", "no finished run"),
    ("train good --recipe binary_digits", "unknown model: 'good'"),
    ("train vae binary_digits", "unexpected extra argument"),
    ("train vae --recipe", "requires an argument"),
    ("train vae --recipe=", "unknown recipe"),
    ("train vae --recipes", "No such option"),
    ("train vae --recipe binary_digits --model vae", "No such option"),
    ("train vae --recipe 'binary digits'", "did you mean 'binary_digits'?"),
    (f"{TRAIN} --steps=", "Invalid value for"),
    (f"{TRAIN} --seed", "requires an argument"),
    (f"{TRAIN} --devices 1.5", "Invalid value for"),
    (f"{TRAIN} --precision 64 --out new", "precision must be"),
    (f"{TRAIN} --size 8 --grey", "for your own pictures"),
    (f"{TRAIN} --data pictures --size 8", "--recipe NAME, or --data"),
    (f"{TRAIN} --out good --out file", "must be a folder"),
    (f"{OWN} pictures few --out new", "unexpected extra argument"),
    (f"{OWN} 'pictures few' --out new", "no folder or file"),
    (f"{OWN} pictures --size -3", "Invalid value for"),
    (f"{OWN} pictures --size 28 28", "unexpected extra argument"),
    (f"{OWN} pictures --grey yes", "unexpected extra argument"),
    # train: folders in use, damaged, and not one's own
    *((f"{TRAIN} --steps 2 --resume --out {name}", says) for name, (_, says) in CHECKPOINTS.items()),
    (f"{TRAIN} --steps 2 --resume --out c-folder", "checkpoint.pt does not exist"),
    (f"{TRAIN} --steps 2 --out c-folder", "already holds a run"),
    (f"{TRAIN} --steps 2 --out c-empty", "already holds a run"),
    (f"{TRAIN} --steps 2 --out taken", "process 1 on elsewhere is training in it"),
    (f"{TRAIN} --steps 2 --out taken-here", "process 1 is training in it"),
    (f"{TRAIN} --steps 2 --resume --out taken", "process 1 on elsewhere is training in it"),
    *((f"{TRAIN} --steps 2 --out mine-{name}", f"There is {name}") for name in ("model.pt", "run.json", "history.json")),
    *((f"{TRAIN} --steps 2 --resume --out mine-{name}", "no checkpoint.pt to go on") for name in ("model.pt", "run.json")),
    # train: what is in the place of pictures
    *((f"{OWN} {name}.npy --out new", says) for name, (_, says) in ARRAYS.items()),
    (f"{OWN} two.npz --out new", "holds 2 arrays"),
    (f"{OWN} no-array.npz --out new", "holds 0 arrays"),
    *(
        (f"{OWN} {name} --out new", "cannot be read as an array")
        for name in ("bad.npz", "empty.npy", "page.npy", "cut.npy", "huge.npy")
    ),
    (f"{OWN} words --out new", "00.png cannot be read as a picture"),
    (f"{OWN} blank --out new", "00.png cannot be read as a picture"),
    (f"{OWN} deep --out new", "more than 8 bits"),
    (f"{OWN} texts --out new", "there are no pictures in texts"),
    (f"{OWN} folders --out new", "there are no pictures in folders"),
    (f"{OWN} nineteen --out new", "nineteen has 19 pictures"),
    (f"{OWN} pictures/00.png --out new", "neither a folder of pictures"),
    (f"{OWN} loop --out new", "no folder or file"),
    (f"{OWN} dangling --out new", "no folder or file"),
    (f"{OWN} pipe.ipynb --out new", "neither a folder of pictures"),
    (f"{OWN} https://example.org/a.zip --out new", "no folder or file"),
    ("train dcgan --data pictures --size 1 --steps 2 --device cpu --quiet --out new", "DCGAN|even|side"),
    # evaluate: runs that are damaged
    *((f"evaluate {name}", says) for name, (_, says) in {**RECORDS, **WEIGHTS}.items()),
    *((f"evaluate {name}", "run.json is damaged") for name in TEXTS),
    # data: folders that hold something else
    *((f"GENCOURSE_DATA=data-{name} data get mnist", "delete it") for name in ("empty", "html", "other", "zip")),
    *((f"GENCOURSE_DATA=data-{name} train vae --recipe binarized_mnist --out new", "delete it") for name in ("empty", "other")),
    ("GENCOURSE_DATA=data-folder data get mnist", "a folder is in the place of the data set"),
    *(
        (f"GENCOURSE_DATA={name} data get mnist", "can be kept in this folder")
        for name in ("file", "dangling", "/dev/full/x", "/proc/x")
    ),
    *((f"GENCOURSE_DATA=~nobody-here data {what}", "no such home folder") for what in ("list", "get mnist")),
    ("GENCOURSE_DATA=file/x train vae --recipe binarized_mnist --out new", "can be kept in this folder"),
    # exercises: notebooks that are none, numbers that are none
    ("submit ''", "there is no exercise"),
    ("submit 9.1", "there is no exercise"),
    ("submit 09-vae", "there is no exercise"),
    ("submit -- -9", "there is no exercise"),
    ("submit 09 --name", "requires an argument"),
    *(
        (f"submit 09 --notebook {name}.ipynb", says)
        for name, says in (
            ("words", "not valid JSON"),
            ("blank", "the file is empty"),
            ("list", "has no cells"),
            ("no-cells", "has no cells"),
            ("latin", "this is not a notebook"),
            ("link", "this is a link"),
            ("pipe", "there is no notebook"),
            ("other", "the notebook of exercise 03, not of 09"),
        )
    ),
    ("grade handed/ada.ipynb --exercise 09 --out marks", "is a file, not a folder"),
    ("grade dots --exercise 09 --out marks", "nothing to grade"),
    ("grade handed handed --exercise 09 --out marks", "unexpected extra argument"),
    ("grade handed --exercise 9.3 --out marks", "there is no exercise"),
    ("grade handed --exercise VAE --out marks", "there is no exercise"),
    ("grade handed --exercise 09,13 --out marks", "there is no exercise"),
    ("grade handed --exercise \u0660\u0669 --out marks", "there is no exercise"),
    ("grade handed --exercise 09 --out marks --jobs all", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --timeout 1m", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --memory 2GB", "Invalid value for"),
    ("grade handed --exercise 09 --out marks --unsafe", "No such option"),
    ("grade handed --exercise 09 --out marks --secret-file blanks", "shorter than 16"),
    ("grade handed --exercise 09 --out marks --secret-file good", "no file good"),
    ("grade handed --exercise 09 --out marks --secret-file /dev/zero", "no file /dev/zero"),
    ("grade handed --exercise 09 --out marks --changes nowhere.csv", "nowhere.csv"),
    ("grade handed --exercise 09 --out marks --changes file", "file"),
    ("grade handed --exercise 09 --out marks --changes empty", "empty"),
    ("grade handed --exercise 09 --out marks --times nowhere.csv", "nowhere.csv"),
    ("grade handed --exercise 09 --out marks --times broken/07.png", "07.png"),
    ("grade handed --exercise 09 --out marks --anonymous yes", "unexpected extra argument"),
    ("gradebook", "Missing argument"),
    ("gradebook ''", "the name is empty"),
    ("gradebook nowhere", "nowhere"),
    ("gradebook file", "file"),
    ("gradebook empty", "empty"),
    ("gradebook good empty --out marks.csv", "good|empty"),
    ("gradebook empty --out marks.pdf", "must end in .csv or .txt"),
    ("gradebook empty --out good", "is a folder"),
    ("gradebook empty --out /dev/full", "no regular file"),
    ("gradebook loop", "leads to itself"),
    ("release 09", "no folder solutions"),
    ("release --all", "no folder solutions"),
    ("release 09 13", "unexpected extra argument"),
    ("cd tree && release 09", "solution"),
    ("cd tree && release all", "solution"),
    ("cd tree && release ''", "solution"),
    ("cd tree && release 01", "is not a notebook"),
    ("cd tree && release 02", "would be released with all its answers"),
    ("cd tree && release 03", "has no '### END SOLUTION'"),
    ("cd tree && release 04", "without '### BEGIN SOLUTION'"),
    ("cd tree && release 05", "is no marker"),
    ("cd tree && release --all", "is not a notebook"),
    ("cd twins && release 06", "has two for exercise 06: 06-a.ipynb and 06-b.ipynb"),
    ("cd twins && release --all", "has two for exercise 06"),
    ("selftest ''", "there is no exercise"),
    ("selftest vae", "there is no exercise"),
    ("selftest 09 --seeds ten", "Invalid value for"),
    ("selftest 9 10", "unexpected extra argument"),
    ("gradescope 9 10", "unexpected extra argument"),
    ("gradescope 09 --secret-file blanks", "shorter than 16"),
    ("gradescope 09 --out folder.png", "is a folder"),
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
    words = shlex.split(typed)
    folder = place / words[1] if words[:1] == ["cd"] else place
    words = words[3:] if words[:1] == ["cd"] else words
    if words and words[0].startswith("GENCOURSE_DATA="):
        name = words.pop(0).partition("=")[2]
        monkeypatch.setenv("GENCOURSE_DATA", name if name[0] in "/~" else str(place / name))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("gencourse.data.downloads._fetch", None)  # nothing may be asked of the network
    before = everything(place)
    status, out, err = call(monkeypatch, capsys, *words)
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
    assert len({typed for typed, _ in CALLS}) == len(CALLS) >= 300


STREAMS = {
    "nobody reads": ("data list", "| true", ""),
    "the disk is full": ("models >/dev/full", "", "gencourse: No space left on device.\n"),
    "the disk is full for the help": ("--help >/dev/full", "", "gencourse: No space left on device.\n"),
    "a mistake, and errors are closed": ("data get nope", "2>&-", ""),
    "a mistake, and errors find no room": ("data get nope", "2>/dev/full", ""),
    "a sign that the terminal lacks": (
        "train \u2713 --recipe x",
        "",
        "gencourse: unknown model: '?'; there are: " + ", ".join(entry.name for entry in catalog.MODELS) + ".\n",
    ),
}


@pytest.mark.parametrize(("typed", "streams", "says"), STREAMS.values(), ids=STREAMS)
def test_what_cannot_be_printed_is_a_status_and_no_traceback(typed, streams, says):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m gencourse {typed} {streams}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == says


def test_too_little_memory_is_one_sentence(place, monkeypatch, capsys):
    def sample(self, n, context=None, *, generator=None):
        return torch.empty(10**15, dtype=torch.float64)

    monkeypatch.setattr("gencourse.kinds.GenerativeModel.sample", sample)
    status, out, err = call(monkeypatch, capsys, "sample", str(place / "good"), "--out", str(place / "a.png"))
    assert (status, out) == (1, "")
    assert err == "gencourse: there is not enough memory for this; ask for less (fewer samples, smaller images, fewer jobs).\n"
