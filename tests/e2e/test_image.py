"""The guest image from Debian's real packages: small, complete, and the same bytes twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from launcher.core.debian import HOST_MIRROR, Package, Suite
from launcher.image.base import build_base, load_base
from launcher.image.build import build_image
from launcher.image.kernel import KERNEL_PACKAGE
from launcher.image.userland import PACKAGES, TOOL_PACKAGES
from launcher.io.apt import AptFolder
from launcher.io.cachedir import cache_folder

pytestmark = pytest.mark.e2e

LIMIT = 25_000_000


@pytest.fixture(scope="module")
def packages() -> tuple[Package, ...]:
    """Today's packages of the default release, from the cache that the set-up filled."""
    suite = Suite("trixie", security_mirror=HOST_MIRROR)
    return AptFolder(cache_folder() / "apt-trixie", suite, lambda text: None).fetch(
        (KERNEL_PACKAGE, *PACKAGES, *TOOL_PACKAGES)
    )


def build(packages: tuple[Package, ...], folder: Path, project: Path) -> dict[str, str]:
    """SHA-256 of each file of an image built in ``folder``; compressed little, to save time."""
    (folder / "base").mkdir(parents=True)
    (folder / "image").mkdir()
    build_base(packages, folder / "base", "trixie", lambda text: None, level=1)
    base = load_base(folder / "base")
    assert base is not None
    build_image(base, project, folder / "image")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "image").iterdir()}


def test_two_builds_from_the_same_packages_are_byte_identical(
    packages: tuple[Package, ...], tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(packages, tmp_path / "one", repo)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    before = os.umask(0o077)
    try:
        second = build(tuple(reversed(packages)), tmp_path / "another place with spaces", repo)
    finally:
        os.umask(before)
    assert sorted(first) == ["initrd.zst", "manifest.json", "vmlinuz"]
    assert first == second


def test_kernel_and_initrd_together_stay_under_the_limit(repo: Path) -> None:
    image = cache_folder() / "image"
    if not (image / "manifest.json").is_file():
        pytest.skip("no image in the cache: `cvm image prepare` makes one")
    assert sum((image / name).stat().st_size for name in ("vmlinuz", "initrd.zst")) < LIMIT
