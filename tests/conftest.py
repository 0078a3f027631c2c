"""Every test starts from the same global random state, and none reads or writes the user's own data folder."""

import signal

import pytest
import torch

# What is started in the background has Ctrl-C ignored, and so would be whatever a test starts or sends it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_start(monkeypatch, tmp_path_factory):
    torch.manual_seed(0)
    monkeypatch.setenv("GENCOURSE_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))
    monkeypatch.delenv("GENCOURSE_PROFILE", raising=False)
