"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real reports, certificates and digests; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("CVM_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not (folder / "snp" / "manifest.json").is_file():
        pytest.skip(f"no vectors in {folder}: set CVM_VECTORS to the folder that holds snp/manifest.json")
    return folder
