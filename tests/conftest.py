"""Every test starts from the same global random state, and none reads or writes the user's own data folder."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start(monkeypatch, tmp_path_factory):
    torch.manual_seed(0)
    monkeypatch.setenv("GENCOURSE_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))
    monkeypatch.delenv("GENCOURSE_PROFILE", raising=False)
