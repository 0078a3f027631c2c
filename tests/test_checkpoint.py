import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gencourse import checkpoint

STATE = {"step": 7, "weights": {"w": torch.arange(6.0).view(2, 3)}, "none": None, "curve": [(1, 0.5)], "name": "vae"}


def test_load_returns_what_save_wrote(tmp_path):
    checkpoint.save(tmp_path / "new folder" / "a.pt", STATE)
    loaded = checkpoint.load(tmp_path / "new folder" / "a.pt")
    assert torch.equal(loaded.pop("weights")["w"], STATE["weights"]["w"])
    assert loaded == {key: value for key, value in STATE.items() if key != "weights"}
    assert os.listdir(tmp_path / "new folder") == ["a.pt"]


@pytest.mark.parametrize("error", [RuntimeError("pulled the plug"), KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path, error, moment):
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(error)):
        checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_reader_never_sees_a_part_of_a_file(monkeypatch, tmp_path):
    path, seen = tmp_path / "a.pt", []
    path.write_bytes(b"old")
    replace = os.replace

    def watched(source, target):
        seen.append((path.read_bytes(), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    checkpoint.write_atomically(path, b"new content")
    assert seen == [(b"old", b"new content")]  # complete before it takes the name
    assert path.read_bytes() == b"new content"


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path):
    """A real limit on the size of files, which the kernel enforces in the middle of the write."""
    script = """
import resource, signal, sys
from pathlib import Path
import torch
from gencourse import checkpoint
path = Path(sys.argv[1])
checkpoint.save(path, torch.zeros(10))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(path, torch.zeros(100_000))
except OSError as error:
    print(f"{error.strerror}|{error.filename}")
"""
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    message, _, name = done.stdout.strip().partition("|")
    assert message.startswith("no room on the disk to write 40")
    assert "the earlier file is untouched" in message
    assert name == str(path)
    assert torch.equal(checkpoint.load(path), torch.zeros(10))
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000  # the limit was the child's alone


@pytest.mark.parametrize(
    "damage", [b"", b"PK\x03\x04 not a zip", b"\x80\x02N.", None], ids=["empty", "torn zip", "pickle", "cut"]
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:-300] if damage is None else damage)
    with pytest.raises(ValueError, match="damaged") as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pt does not exist"):
        checkpoint.load(tmp_path / "gone.pt")


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))], ids=["torch", "pickle"]
)
def test_a_file_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path, write):
    target = tmp_path / "owned"
    write({"model": Bomb(target)}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not target.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False) if write is torch.save else pickle.loads(
        (tmp_path / "evil.pt").read_bytes()
    )
    assert target.exists()  # the bomb was live


def test_json_is_written_whole(tmp_path):
    checkpoint.write_json(tmp_path / "a.json", {"mean": 1.5})
    assert (tmp_path / "a.json").read_text() == '{\n  "mean": 1.5\n}\n'
