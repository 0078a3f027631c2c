import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gencourse import catalog, cli


@pytest.fixture
def gencourse(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gencourse", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_help_mentions_every_command(gencourse):
    status, out, _ = gencourse("--help")
    assert status == 0
    for command in ("models", "train", "sample", "evaluate", "data"):
        assert re.search(rf"^\W*{command}\b\W+\w+", out, re.MULTILINE), command
    for command in (["train"], ["sample"], ["evaluate"], ["data", "list"], ["data", "get"]):
        status, out, _ = gencourse(*command, "--help")
        assert status == 0
        assert "Usage: gencourse " + " ".join(command) in out


@pytest.mark.parametrize("module", ["gencourse", "gencourse.cli"])
def test_the_installed_command_answers(module):
    done = subprocess.run([sys.executable, "-m", module, "models"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("generative models\n  explicit density\n    tractable density\n")


def test_models_are_shown_in_their_place(gencourse):
    _, out, _ = gencourse("models", "--recipes")
    lines = out.splitlines()
    for entry in catalog.MODELS:
        at = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{entry.name}: "))
        indent = len(lines[at]) - len(lines[at].lstrip())
        above = [line.strip() for line in lines[:at] if len(line) - len(line.lstrip()) == indent - 2]
        assert above[-1] == catalog.BRANCHES[entry.branch]
        for recipe in entry.recipes:
            assert f"--recipe {recipe.name}: " in out


def test_train_sample_evaluate(gencourse, tmp_path):
    """The whole of the main job, a few steps long."""
    folder = tmp_path / "run"
    train = ["train", "vae", "--recipe", "binary_digits", "--steps", 30, "--out", folder, "--device", "cpu"]
    status, out, err = gencourse(*train)
    assert status == 0, err
    assert "30/30" in err  # the progress bar
    assert re.search(r"^30 steps in [\d.]+ s on cpu; the run is in ", out)
    found = re.search(r"test nll ([\d.]+) ± ([\d.]+) nats; band 17\.6: MISSED", out)
    assert 18 < float(found[1]) < 45

    status, out, err = gencourse("evaluate", folder, "--samples", 20)
    assert status == 0, err
    assert re.fullmatch(r"test nll [\d.]+ ± [\d.]+ nats; band 17\.6: MISSED\n", out)
    assert (folder / "metrics.json").is_file()

    picture = folder / "samples.png"
    status, out, err = gencourse("sample", folder, "--n", 20, "--out", picture)
    assert status == 0, err
    assert out == f"20 samples in {picture}\n"
    image = np.array(Image.open(io.BytesIO(picture.read_bytes())).convert("L"))
    rows, columns, scale = 3, 8, 4
    assert image.shape == ((rows * 9 + 1) * scale, (columns * 9 + 1) * scale)  # a grey line around each image
    assert {0, 255} <= set(image.flatten().tolist())
    first = picture.read_bytes()
    gencourse("sample", folder, "--n", 20, "--out", picture)
    assert picture.read_bytes() == first  # the same seed, the same picture
    gencourse("sample", folder, "--n", 20, "--out", picture, "--seed", 1)
    assert picture.read_bytes() != first

    status, out, err = gencourse(*train, "--quiet")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"gencourse: [^\n]*already holds a run; --resume continues it[^\n]*\n", err)


def test_data_list_says_what_is_here(gencourse):
    status, out, _ = gencourse("data", "list")
    assert status == 0
    assert re.search(r"^binary_digits +embedded$", out, re.MULTILINE)
    assert re.search(r"^mnist +to download, 11\.5 MB, to .*mnist\.npz$", out, re.MULTILINE)
    assert re.search(r"^ +Y\. LeCun.*; CC BY-SA 3\.0$", out, re.MULTILINE)


def test_data_get_of_an_embedded_set_describes_it(gencourse):
    status, out, _ = gencourse("data", "get", "digits")
    assert status == 0
    assert out == "Dataset('digits', Space((1, 8, 8), levels=17), train=1257, valid=180, test=360)\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "vea", "--recipe", "binary_digits"], "did you mean 'vae'?"),
        (["train", "vae", "--recipe", "binary_digit"], "did you mean 'binary_digits'?"),
        (["train", "vae", "--recipe", "binary_digits", "--device", "tpu", "--out", "{new}"], "'tpu'"),
        (["train", "vae", "--recipe", "binary_digits", "--precision", "8", "--out", "{new}"], "'8'"),
        (["train", "vae", "--recipe", "binary_digits", "--out", "{file}"], "{file}"),
        (["evaluate", "{new}"], "no finished run"),
        (["sample", "{new}", "--out", "a.png"], "no finished run"),
        (["data", "get", "digit"], "did you mean 'digits'?"),
    ],
)
def test_a_mistake_is_one_line_on_standard_error(gencourse, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    names = {"new": tmp_path / "new", "file": tmp_path / "file"}
    names["file"].write_text("in the way")
    status, out, err = gencourse(*[argument.format(**names) for argument in arguments])
    assert status == 1
    assert out == ""
    assert re.fullmatch(r"gencourse: [^\n]+\n", err)
    assert says.format(**names) in err


def test_a_missing_option_is_the_command_line_s_usual_answer(gencourse):
    status, _, err = gencourse("train", "vae")
    assert status == 2
    assert "--recipe" in err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of small pictures, half of them bright."""
    folder = tmp_path_factory.mktemp("own") / "my_images"
    folder.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 60, (9, 7)) + 180 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


def test_own_pictures_are_trained_on_sampled_evaluated_and_resumed(gencourse, own, tmp_path, monkeypatch):
    train = ["train", "pixelcnn", "--data", own, "--size", 6, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    monkeypatch.chdir(tmp_path)
    status, out, err = gencourse(*train, "--steps", 4)
    assert status == 0, err
    assert out.startswith("Dataset('my_images', Space((1, 6, 6), levels=256), train=32, valid=4, test=4)\n4 steps in ")
    found = re.search(r"^test bits_per_dim ([\d.]+) ± [\d.]+ bits/dim$", out, re.MULTILINE)
    record = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert re.fullmatch("[0-9a-f]{16}", record.pop("fingerprint"))
    assert record == {"images": str(own), "size": 6, "grey": False, "seed": 0}

    monkeypatch.chdir("/")  # the record says where the pictures are, wherever one calls from
    status, out, err = gencourse("evaluate", tmp_path / "run")
    assert (status, out) == (0, f"{found[0]}\n"), err
    status, _, err = gencourse("sample", tmp_path / "run", "--n", 5, "--out", tmp_path / "five.npy")
    assert status == 0, err
    x = np.load(tmp_path / "five.npy")
    assert (x.shape, x.dtype) == ((5, 1, 6, 6), np.uint8)
    status, _, err = gencourse(*train, "--steps", 4, "--resume")
    assert status == 0, err

    (own / "00.png").rename(own.parent / "00.png")
    try:
        for call in (["evaluate", tmp_path / "run"], [*train, "--steps", 4, "--resume"]):
            status, _, err = gencourse(*call)
            assert status == 1
            assert re.fullmatch(r"gencourse: [^\n]+\n", err)
            assert "not those that the run was trained on" in err or "cannot resume" in err
    finally:
        (own.parent / "00.png").rename(own / "00.png")


def test_a_model_too_large_for_the_pictures_is_said_to_be(gencourse, own, tmp_path, monkeypatch):
    monkeypatch.setattr("gencourse.runs._MANY", 1000)
    train = ["train", "vae", "--data", own, "--size", 6, "--steps", 1, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = gencourse(*train)
    assert status == 0
    assert re.fullmatch(r"gencourse: Variational autoencoder has \d+ million parameters for images of Space[^\n]*\n", err)


def test_a_model_without_a_likelihood_has_no_metric_on_own_pictures(gencourse, own, tmp_path):
    folder = tmp_path / "run"
    status, out, err = gencourse("train", "gan", "--data", own, "--size", 6, "--steps", 2, "--out", folder, "--quiet")
    assert status == 0, err
    assert "no metric" in out
    assert gencourse("sample", folder, "--n", 3, "--out", tmp_path / "three.png")[0] == 0
    status, _, err = gencourse("evaluate", folder)
    assert status == 1
    assert "no likelihood" in err


def test_samples_in_the_plane_are_a_scatter_or_numbers(gencourse, tmp_path):
    folder = tmp_path / "run"
    assert gencourse("train", "gan", "--recipe", "ring", "--steps", 2, "--out", folder, "--device", "cpu", "--quiet")[0] == 0
    for ending in ("png", "npy", "csv"):
        status, _, err = gencourse("sample", folder, "--n", 7, "--out", tmp_path / f"seven.{ending}")
        assert status == 0, err
    assert Image.open(tmp_path / "seven.png").size > (100, 100)
    table = np.loadtxt(tmp_path / "seven.csv", delimiter=",", skiprows=1)
    assert (tmp_path / "seven.csv").read_text().startswith("x1,x2\n")
    np.testing.assert_allclose(table, np.load(tmp_path / "seven.npy"), rtol=1e-6)
    assert table.shape == (7, 2)


def test_ctrl_c_in_training_is_status_130_and_no_verdict(gencourse, tmp_path, monkeypatch):
    """A real signal, sent in the fifth step."""
    from gencourse.variational.vae import VAE

    def encode(self, x):
        encode.calls += 1
        if encode.calls == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, x)

    whole, encode.calls = VAE.encode, 0
    monkeypatch.setattr(VAE, "encode", encode)
    train = ["train", "vae", "--recipe", "binary_digits", "--out", tmp_path / "run", "--device", "cpu", "--quiet"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, out, err = gencourse(*train)
    assert (status, out) == (130, "")
    assert "MISSED" not in err
    assert all(line.startswith("gencourse: ") for line in err.splitlines())  # a warning too, without file and line
    assert re.search(r"interrupted after step \d+ of 4000", err)
    assert "with --resume goes on" in err
    assert gencourse("sample", tmp_path / "run", "--out", tmp_path / "a.png")[0] == 0


def test_a_second_ctrl_c_is_a_sentence_too(gencourse, monkeypatch):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("gencourse.data.load", stop)
    assert gencourse("data", "get", "digits") == (130, "", "gencourse: stopped.\n")


def test_a_run_whose_metric_cannot_be_kept_is_evaluated_all_the_same(gencourse, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    gencourse("train", "vae", "--recipe", "binary_digits", "--steps", 2, "--out", folder, "--device", "cpu", "--quiet")

    def full(path, content):
        raise OSError(errno.ENOSPC, "no room on the disk", str(path))

    monkeypatch.setattr("gencourse.checkpoint.write_json", full)
    status, out, err = gencourse("evaluate", folder, "--samples", 2)
    assert status == 0
    assert out.startswith("test nll ")
    assert re.fullmatch(r"gencourse: \S+metrics\.json cannot be written \(no room on the disk\)\.\n", err)


def test_a_terminal_without_a_sign_shows_another(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = "from gencourse import cli; cli.typer.echo = print; cli.app = lambda **_: print('\u2713 \u00b1'); cli.main()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "? ?\n", "")


def test_the_page_on_own_pictures_does_what_it_says(gencourse, tmp_path, monkeypatch):
    """Its blocks as they stand, with few steps."""
    page = (Path(__file__).parents[1] / "book" / "own-data.md").read_text(encoding="utf-8")
    draw, train = (block.replace("steps=2000", "steps=2") for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    exec(draw, {})
    for command in commands.replace("--steps 2000", "--steps 2 --device cpu").splitlines():
        program, *arguments = command.split()
        status, out, err = gencourse(*arguments)
        assert (program, status) == ("gencourse", 0), err
        if arguments[0] == "train":
            assert "Space((1, 28, 28), levels=256), train=640, valid=80, test=80" in out
    assert re.fullmatch(r"test bits_per_dim [\d.]+ ± [\d.]+ bits/dim\n", out)
    exec(train, {})
