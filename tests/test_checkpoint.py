import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_every_byte_that_is_flipped_is_noticed_or_does_not_matter(tmp_path):
    """Where a flip passes, such as in the padding between two members, the content is the same."""
    path, state = tmp_path / "a.pt", {"w": torch.arange(6.0).view(2, 3), "step": 7, "curve": [(1, 0.5)]}
    checkpoint.save(path, state)
    content = bytearray(path.read_bytes())
    assert len(content) < 3000
    refused, sentences = 0, set()
    for i in range(len(content)):
        for flip in (0xFF, 1 << i % 8):
            content[i] ^= flip
            path.write_bytes(content)
            content[i] ^= flip
            try:
                loaded = checkpoint.load(path)
            except ValueError as error:
                sentences.add(str(error).replace(str(path), "PATH"))
                refused += 1
                continue
            assert torch.equal(loaded["w"], state["w"]), i
            assert loaded["w"].dtype == torch.float32
            assert (loaded["step"], loaded["curve"]) == (7, [(1, 0.5)]), i
    assert refused > len(content) // 2  # the rest is padding between members, and what headers say twice
    assert all(sentence.startswith("PATH ") and "\n" not in sentence for sentence in sentences)


def test_one_flipped_byte_of_a_weight_is_damage(tmp_path):
    path = tmp_path / "model.pt"
    weight = torch.full((1000,), 0.5)
    checkpoint.save(path, {"weight": weight})
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2003] ^= 0x40  # 0.5 becomes 1.7e38
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        checkpoint.load(path)


def test_numpy_s_numbers_are_saved_as_python_s(tmp_path):
    state = {
        "lr": np.float64(0.1),
        "n": [np.int64(3), {"clip": (np.float32(0.5), np.bool_(True))}],
        "betas": np.array([0.5, 0.9]),
    }
    checkpoint.save(tmp_path / "a.pt", {**state, "w": torch.ones(2)})
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert torch.equal(loaded.pop("w"), torch.ones(2))
    assert loaded == {"lr": 0.1, "n": [3, {"clip": (0.5, True)}], "betas": [0.5, 0.9]}
    assert type(loaded["lr"]) is float
    assert type(loaded["n"][1]["clip"][1]) is bool


def test_a_whole_file_with_other_things_is_not_to_be_deleted(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"lr": np.float64(0.1)}, path)
    with pytest.raises(ValueError, match=r"a\.pt holds more than tensors and plain data") as caught:
        checkpoint.load(path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("name", ["file/a.pt", "link/a.pt", "file/sub/a.pt"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="cannot write") as caught:
        checkpoint.save(tmp_path / name, STATE)
    assert caught.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    """As root, a device would be gone."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match="no regular file"):
            checkpoint.write_atomically(tmp_path / name, b"new")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


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
