import io
import re
import subprocess
import sys

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


def test_the_installed_command_answers():
    done = subprocess.run([sys.executable, "-m", "gencourse.cli", "models"], capture_output=True, text=True)
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
    assert re.fullmatch(r"gencourse: [^\n]*already holds a run; pass resume=True[^\n]*\n", err)


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
