"""The verbs ``cvm image`` and ``cvm disk`` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.image.build import KERNEL_FILE, MANIFEST_FILE


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with an image of two empty files."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest = {
        "schema": "cvm.image/1",
        "suite": "trixie",
        "python": "3.13",
        "kernel": {"path": "vmlinuz", "sha256": empty, "size": 0},
        "initrd": {"path": "initrd.zst", "sha256": empty, "size": 0},
        "inputs": [{"name": "busybox", "version": "1", "architecture": "amd64", "sha256": "ab"}],
    }
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest))
    for name in ("vmlinuz", "initrd.zst"):
        (tmp_path / name).touch()
    return tmp_path


def test_show_lists_the_inputs_of_an_intact_image(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "show", str(image)]) == 0
    said = capsys.readouterr().out
    assert "busybox 1  sha256:ab" in said
    assert "vmlinuz" in said


def test_show_as_json_is_the_manifest(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "show", str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((image / MANIFEST_FILE).read_text())


def test_show_refuses_an_image_whose_kernel_was_changed(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image / KERNEL_FILE).write_text("x")
    assert main(["image", "show", str(image)]) == 10
    assert "differs from its hash" in capsys.readouterr().err


def test_build_does_not_replace_a_folder_of_other_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.odt").touch()
    assert main(["image", "build", "--out", str(tmp_path)]) == 10
    assert "thesis.odt" in capsys.readouterr().err


DISK = ("--service", "https://127.0.0.1:1", "--ca", "ca", "--operator-cert", "c", "--operator-key", "k")


def test_a_disk_size_without_unit_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disk", "create", "x.img", "--size", "20", "--resource", "a/b/c", *DISK]) == 2
    assert "GiB" in capsys.readouterr().err


def test_a_resource_path_that_climbs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disk", "create", "x.img", "--size", "64MiB", "--resource", "../b/c", *DISK]) == 5
    assert "repository/type/tag" in capsys.readouterr().err


def test_tls_files_that_are_missing_are_a_configuration_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disk", "create", "x.img", "--size", "64MiB", "--resource", "a/b/c", *DISK]) == 3
    assert "TLS files" in capsys.readouterr().err
