import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_set import IMAGES, LABELS, Server, fake_source, npz

from gencourse import data
from gencourse.data import downloads
from gencourse.data.sources import SOURCES, File


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$GENCOURSE_DATA`, which does not exist yet."""
    monkeypatch.setenv("GENCOURSE_DATA", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def good() -> bytes:
    return npz(images=IMAGES, labels=LABELS)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`register(url or File, ...)` makes the set `fake`, with one mirror for each."""

    def register(*mirrors: str | File) -> None:
        files = [File(mirror) if isinstance(mirror, str) else mirror for mirror in mirrors]
        monkeypatch.setitem(downloads.SOURCES, "fake", fake_source(*files))

    return register


def assert_is_the_fake_set(dataset):
    assert torch.equal(torch.cat([dataset.train, dataset.valid, dataset.test]), torch.from_numpy(IMAGES)[:, None])
    assert torch.equal(dataset.train_labels, torch.from_numpy(LABELS[:20]).long())


@pytest.fixture
def refused():
    """The address of a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused, and nobody else gets the port
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/fake.npz"


def test_a_set_is_downloaded_once_and_then_used_offline(server, folder, good, register):
    server.files["/fake.npz"] = good
    register(File(f"{server.url}/fake.npz", hashlib.sha256(good).hexdigest()))
    assert_is_the_fake_set(data.load("fake"))
    assert [path.name for path in folder.iterdir()] == ["fake.npz"]  # and no scraps
    server.files.clear()
    assert_is_the_fake_set(data.load("fake"))
    assert server.asked == ["/fake.npz"]


def test_a_file_that_is_there_needs_neither_network_nor_pooch(folder, good, register, refused, monkeypatch):
    register(refused)
    folder.mkdir()
    (folder / "fake.npz").write_bytes(good)
    monkeypatch.setitem(sys.modules, "pooch", None)  # importing it now raises ImportError
    assert_is_the_fake_set(data.load("fake"))


def test_without_pooch_a_missing_file_says_what_to_install(folder, register, refused, monkeypatch):
    register(refused)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="pip install pooch"):
        data.load("fake")
    monkeypatch.delenv("GENCOURSE_DATA")
    assert downloads.folder() == Path.home() / ".cache" / "gencourse"


def truncated(good):
    return good[: len(good) // 2]


def one_pixel_changed(good):
    other = IMAGES.copy()
    other[3, 2, 1] ^= 1
    return npz(images=other, labels=LABELS)


def other_shape(good):
    return npz(images=IMAGES.reshape(40, 16), labels=LABELS)


def other_dtype(good):
    return npz(images=IMAGES.astype(np.float32), labels=LABELS)


def array_missing(good):
    return npz(images=IMAGES)


def one_bit_flipped(good):
    middle = len(good) // 3
    return good[:middle] + bytes([good[middle] ^ 4]) + good[middle + 1 :]


def empty(good):
    return b""


def web_page(good):
    return b"<html>log in to this wireless network</html>"


BAD = [truncated, one_pixel_changed, other_shape, other_dtype, array_missing, one_bit_flipped, empty, web_page]


@pytest.mark.parametrize("spoil", BAD)
def test_a_wrong_mirror_is_passed_over_for_the_next(spoil, server, folder, good, register):
    server.files = {"/bad/fake.npz": spoil(good), "/good/fake.npz": good}
    register(f"{server.url}/bad/fake.npz", f"{server.url}/good/fake.npz")
    with pytest.warns(UserWarning, match=r"fake: 127.0.0.1:\d+: .*; trying the next mirror") as caught:
        assert_is_the_fake_set(data.load("fake"))
    (warning,) = [one for one in caught if one.category is UserWarning]
    assert "\n" not in str(warning.message)
    assert warning.filename == __file__  # it points at the line that asked for the data


@pytest.mark.parametrize("spoil", BAD)
def test_a_damaged_file_in_the_folder_is_named_and_never_used(spoil, folder, good, register, refused):
    register(refused)
    folder.mkdir()
    (folder / "fake.npz").write_bytes(spoil(good))
    with pytest.raises(ValueError, match="delete it") as caught:
        data.load("fake")
    assert str(folder / "fake.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_hash_is_checked_before_anything_is_decoded(server, folder, good, register):
    server.files = {"/fake.npz": good}
    register(File(f"{server.url}/fake.npz", "0" * 64))
    with pytest.warns(UserWarning, match="not the published one"), pytest.raises(FileNotFoundError):
        data.load("fake")


def test_what_went_wrong_is_said_plainly(server, folder, good, register, refused):
    server.files = {"/short": (truncated(good), len(good)), "/busy": 503}
    register(refused, f"{server.url}/gone", f"{server.url}/busy", f"{server.url}/short")
    with pytest.warns(UserWarning, match="fake: ") as caught, pytest.raises(FileNotFoundError) as error:
        data.load("fake")
    said = [str(one.message) for one in caught if one.category is UserWarning]
    assert "cannot be reached; trying the next" in said[0]
    assert "404" in said[1]
    assert "503" in said[2]
    assert "broke off in the middle of the file; there is no other mirror" in said[3]
    for what in ("fake.npz", str(folder), "GENCOURSE_DATA", "binary_digits"):
        assert what in str(error.value)
    assert list(folder.iterdir()) == []


def test_a_mirror_that_does_not_end_is_passed_over_and_one_that_stalls_is_named(server, folder, good, register, monkeypatch):
    monkeypatch.setattr(downloads, "_MARGIN", 5e4)
    monkeypatch.setattr(downloads, "_TIMEOUT", 1)
    server.files = {"/long": (bytes(200_000), 10**9), "/stall": (truncated(good), len(good)), "/fake.npz": good}
    register(f"{server.url}/long", f"{server.url}/stall", f"{server.url}/fake.npz")
    with pytest.warns(UserWarning, match="fake: ") as caught:
        assert_is_the_fake_set(data.load("fake"))
    said = [str(one.message) for one in caught if one.category is UserWarning]
    assert "the file does not end after 0.06 MB" in said[0]
    assert "no answer within 1 seconds" in said[1]


def test_a_download_killed_half_way_leaves_nothing_that_is_used(server, folder, good, register):
    server.files = {"/stall": (bytes(100_000), 1_000_000), "/fake.npz": good}
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_set import File, fake_source
from gencourse.data import downloads
downloads.SOURCES["fake"] = fake_source(File({server.url + "/stall"!r}))
downloads.get("fake")
"""
    log = folder.parent / "stderr"
    child = subprocess.Popen([sys.executable, "-c", script], stderr=log.open("w"))
    deadline = time.monotonic() + 1200
    while not any(part.stat().st_size for part in folder.glob(".fake.*/*")):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (leftover,) = folder.iterdir()
    assert leftover.name.startswith(".fake.")

    register(f"{server.url}/fake.npz")
    assert_is_the_fake_set(data.load("fake"))
    assert leftover.exists()  # it is young: it could belong to a download under way

    (folder / "fake.npz").unlink()
    two_days_ago = time.time() - 2 * 86400
    os.utime(leftover, (two_days_ago, two_days_ago))
    assert_is_the_fake_set(data.load("fake"))
    assert [path.name for path in folder.iterdir()] == ["fake.npz"]


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_an_array_of_objects_is_refused_and_not_unpickled(server, folder, register, tmp_path):
    trap = tmp_path / "sprung"
    bait = npz(images=np.array([Trap(trap)], dtype=object), labels=LABELS)
    server.files = {"/fake.npz": bait}
    register(f"{server.url}/fake.npz")
    with pytest.warns(UserWarning, match="allow_pickle=False"), pytest.raises(FileNotFoundError):
        data.load("fake")
    (folder / "fake.npz").write_bytes(bait)
    with pytest.raises(ValueError, match="delete it"):
        data.load("fake")
    assert not trap.exists()


def test_the_environment_variable_is_honoured(server, tmp_path, good, register, monkeypatch):
    server.files = {"/fake.npz": good}
    register(f"{server.url}/fake.npz")
    for name in ("one", "two"):
        monkeypatch.setenv("GENCOURSE_DATA", str(tmp_path / name))
        assert downloads.get("fake") == tmp_path / name / "fake.npz"
    assert len(server.asked) == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENCOURSE_DATA", "~/two")
    assert downloads.get("fake") == tmp_path / "two" / "fake.npz"
    monkeypatch.setenv("GENCOURSE_DATA", "")
    assert "gencourse" in downloads.folder().parts[-2:]


def test_a_folder_that_cannot_be_written_is_one_sentence(server, tmp_path, good, register, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GENCOURSE_DATA", str(tmp_path / "file" / "sets"))
    server.files = {"/fake.npz": good}
    register(f"{server.url}/fake.npz")
    with pytest.raises(OSError, match="GENCOURSE_DATA can name another"):
        data.load("fake")


def test_status_lists_every_set_and_finds_what_is_there(folder, good, register):
    register("http://127.0.0.1/fake.npz")
    rows = {row.name: row for row in downloads.status()}
    assert set(rows) == set(SOURCES)
    assert not any(row.present for row in rows.values())
    assert rows["cifar10"].bytes == 170e6
    folder.mkdir()
    (folder / "fake.npz").write_bytes(good)
    (row,) = [row for row in downloads.status() if row.present]
    assert row == ("fake", True, folder / "fake.npz", len(good), "none", "nobody")


def test_unknown_names_suggest_the_nearest(folder):
    with pytest.raises(ValueError, match=r"unknown data set 'minst'; did you mean 'mnist'\?"):
        data.load("minst")
    with pytest.raises(ValueError, match="'digits' is not a set that is downloaded"):
        downloads.get("digits")


def test_the_library_imports_without_what_only_downloads_need():
    script = """
import sys, torch
before = set(sys.modules)
import gencourse.data, gencourse.data.toys
print(sorted({"pooch", "requests", "sklearn", "PIL", "scipy", "matplotlib", "tqdm"} & (set(sys.modules) - before)))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", SOURCES)
def test_every_real_set_is_verified_whichever_mirror_serves_it(name):
    source = SOURCES[name]
    assert source.licence
    assert source.citation
    by_content = all(content.sha256 for content in source.content.values())
    by_file = all(file.sha256 for mirror in source.mirrors for file in mirror.files)
    assert by_content or by_file
    assert len(source.mirrors) >= 2
    urls = [file.url for mirror in source.mirrors for file in mirror.files]
    assert len(set(urls)) == len(urls)
