"""Fixtures of the commands' tests."""

import pytest
from searches import OLD


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: empty but for an output file of before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genotype.json").write_text(OLD, encoding="utf-8")
    return tmp_path
