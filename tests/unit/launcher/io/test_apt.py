"""launcher.io.apt with an apt made of shell scripts: damaged caches, lost networks, missing tools."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from launcher.core.debian import Suite
from launcher.io import apt
from launcher.io.apt import AptFolder
from launcher.io.mirrors import FetchFailed

DEB = b"package"
SHA256 = hashlib.sha256(DEB).hexdigest()

APT_GET = """#!/bin/sh
case "$*" in
  *indextargets*) cat "$TARGETS" ;;
  *update*) echo update >>"$LOG"; [ ! -e "$DOWN" ] || { echo 'E: no network' >&2; exit 100; } ;;
  *--simulate*) echo 'Inst tool (1:2 Debian:x [all])' ;;
  *--download-only*) [ -e "$ARCHIVES/tool_1%3a2_all.deb" ] || printf package >"$ARCHIVES/tool_1%3a2_all.deb" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private apt folder; ``apt-get`` and friends are scripts in the folder ``bin`` beside it."""
    tools, home = tmp_path / "bin", tmp_path / "apt folder"
    tools.mkdir()
    scripts = {
        "apt-get": APT_GET,
        "apt-cache": f"#!/bin/sh\nprintf 'Package: tool\\nVersion: 1:2\\nSHA256: {SHA256}\\n'\n",
        "apt-config": "#!/bin/sh\necho 'Acquire::http::Proxy \"http://proxy.example:1\";'\necho 'Dir::State \"/elsewhere\";'\n",
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "_KEYRINGS", (str(keyring),))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("DOWN", str(tmp_path / "down"))
    (tmp_path / "targets").write_text("http://host.example/debian/\nhttp://host.example/debian-security\n")
    monkeypatch.setenv("TARGETS", str(tmp_path / "targets"))
    monkeypatch.setenv("ARCHIVES", str(home / "archives"))
    return home


def fetch(folder: Path, **options: bool) -> list[tuple[str, str, str]]:
    found = AptFolder(folder, Suite("trixie"), lambda text: None).fetch(["tool"], **options)
    return [(p.name, p.version, p.sha256) for p in found]


def test_packages_come_with_the_hash_of_the_signed_index(folder: Path) -> None:
    assert fetch(folder) == [("tool", "1:2", SHA256)]


def test_the_index_is_asked_for_once_a_day_or_on_demand(folder: Path, tmp_path: Path) -> None:
    fetch(folder)
    fetch(folder)
    assert (tmp_path / "log").read_text().count("update") == 1
    fetch(folder, refresh=True)
    assert (tmp_path / "log").read_text().count("update") == 2


def test_another_mirror_makes_the_index_stale(folder: Path, tmp_path: Path) -> None:
    fetch(folder)
    AptFolder(folder, Suite("trixie", "http://other.example"), lambda text: None).fetch(["tool"])
    assert (tmp_path / "log").read_text().count("update") == 2


def test_without_a_named_mirror_the_one_of_the_machines_own_apt_is_used(folder: Path, tmp_path: Path) -> None:
    fetch(folder)
    assert " http://host.example/debian trixie main" in (folder / "sources.list").read_text()
    (tmp_path / "targets").write_text("http://archive.example/ubuntu\n")
    with pytest.raises(FetchFailed, match="names no Debian mirror") as caught:
        fetch(folder)
    assert caught.value.hint is not None
    assert "--mirror" in caught.value.hint


def test_a_damaged_package_in_the_cache_is_refused_once_and_fetched_again(folder: Path) -> None:
    (folder / "archives").mkdir(parents=True)
    (folder / "archives" / "tool_1%3a2_all.deb").write_bytes(b"damaged")
    with pytest.raises(FetchFailed, match=f"must be {SHA256}"):
        fetch(folder)
    assert fetch(folder) == [("tool", "1:2", SHA256)]


def test_no_network_at_first_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    with pytest.raises(FetchFailed, match="no network"):
        fetch(folder)


def test_no_network_later_falls_back_on_the_last_index_and_says_so(folder: Path, tmp_path: Path) -> None:
    fetch(folder)
    (tmp_path / "down").touch()
    stamp = folder / "stamp"
    os.utime(stamp, (0, 0))
    said: list[str] = []
    AptFolder(folder, Suite("trixie"), said.append).fetch(["tool"])
    assert any("index of an earlier run" in text for text in said)


def test_only_transport_settings_of_the_host_are_used(folder: Path) -> None:
    fetch(folder)
    text = (folder / "apt.conf").read_text()
    assert "proxy.example" in text
    assert "/elsewhere" not in text


def test_an_expired_index_is_accepted_only_when_asked_for(folder: Path) -> None:
    fetch(folder)
    assert "Check-Valid-Until" not in (folder / "apt.conf").read_text()
    AptFolder(folder, Suite("trixie", allow_expired=True), lambda text: None).fetch(["tool"])
    assert "Check-Valid-Until" in (folder / "apt.conf").read_text()


def test_a_machine_without_apt_is_told_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchFailed, match="apt-get is not on this machine") as caught:
        fetch(folder)
    assert caught.value.hint


def test_a_missing_keyring_names_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_KEYRINGS", ("/nowhere.gpg",))
    with pytest.raises(FetchFailed) as caught:
        fetch(folder)
    assert "debian-archive-keyring" in str(caught.value.hint)
