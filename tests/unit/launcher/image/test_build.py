"""Images from a base made here: what goes in, what the manifest says, and that equal inputs give equal bytes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher import provision
from launcher.image import build
from launcher.image.base import Base, pad
from launcher.image.build import agent_sources, build_image, image_key, read_manifest
from launcher.image.errors import ImageError
from launcher.image.sysroot import Source, Sysroot
from launcher.provision import ImageOrder, ensure_image


class FakeSysroot(Sysroot):
    """Compiles by naming, compresses not at all."""

    def compile(self, sources: Sequence[Source]) -> tuple[bytes, ...]:
        return tuple(b"code of " + source.path.encode() + source.content.read_bytes() for source in sources)

    def compress(self, data: bytes, level: int) -> bytes:
        return data


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"kernel")
    (folder / "base.cpio.zst").write_bytes(pad(b"base archive"))
    monkeypatch.setattr(Base, "sysroot", property(lambda self: FakeSysroot(self.folder)))
    inputs = ({"name": "linux", "version": "1", "architecture": "amd64", "sha256": "00"},)
    return Base(folder, "trixie", "builder", "6.1", "3.13", ("xts",), inputs)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with an agent in it."""
    files = {
        "policy/errors.py": "E = 1\n",
        "attest/__init__.py": "",
        "attest/attester/__init__.py": "",
        "attest/attester/init.py": "print('agent')\n",
        "attest/evidence/snp_report.py": "R = 1\n",
        "attest/web/app.py": "SERVER = 1\n",
        "attest/attester/FILES": "# listed\nattest/evidence/snp_report.py\n\npolicy/errors.py\n",
        "launcher/image/guest_init.py": "def main(): pass\n",
    }
    for path, text in files.items():
        (tmp_path / "project" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / path).write_text(text)
    return tmp_path / "project"


def out(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_the_agent_is_what_it_lists_and_no_server_code(project: Path) -> None:
    assert agent_sources(project) == (
        "attest/__init__.py",
        "attest/attester/__init__.py",
        "attest/attester/init.py",
        "attest/evidence/snp_report.py",
        "policy/errors.py",
    )


@pytest.mark.parametrize("line", ["../secret.py", "/etc/passwd", "attest/gone.py", "attest/attester/FILES"])
def test_a_listed_file_that_is_no_source_of_the_project_is_refused(project: Path, line: str) -> None:
    (project / "attest/attester/FILES").write_text(line + "\n")
    with pytest.raises(ImageError, match="must be a Python file of the project"):
        agent_sources(project)


def test_this_projects_agent_imports_only_what_is_in_the_image(repo: Path) -> None:
    """Every import of ours inside the listed files is listed too."""
    listed = set(agent_sources(repo))
    for path in listed:
        for node in ast.walk(ast.parse((repo / path).read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] in ("policy", "attest", "launcher", "ovmf"):
                    stem = name.replace(".", "/")
                    assert {f"{stem}.py", f"{stem}/__init__.py"} & listed, f"{path} imports {name}"


def test_equal_inputs_give_equal_bytes_wherever_they_lie(base: Base, project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "another place" / "with space"
    shutil.copytree(project, moved)
    os.utime(moved / "policy/errors.py", (1, 1))
    (moved / "policy/errors.py").chmod(0o777)
    first, second = out(tmp_path, "one"), out(tmp_path, "two")
    build_image(base, project, first)
    build_image(base, moved, second)
    for name in ("vmlinuz", "initrd.zst", "manifest.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert str(tmp_path).encode() not in (first / "manifest.json").read_bytes()


def test_the_manifest_names_every_input_with_its_hash(base: Base, project: Path, tmp_path: Path) -> None:
    folder = out(tmp_path, "image")
    manifest = build_image(base, project, folder)
    assert manifest == json.loads((folder / "manifest.json").read_text())
    assert manifest["schema"] == "cvm.image/1"
    assert manifest["inputs"] == list(base.inputs)
    for name in ("kernel", "initrd"):
        entry = manifest[name]
        assert isinstance(entry, dict)
        assert hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    agent = manifest["agent"]
    assert isinstance(agent, list)
    assert [entry["path"] for entry in agent] == [*agent_sources(project), "launcher/image/guest_init.py"]
    for entry in agent:
        assert hashlib.sha256((project / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


def test_the_initrd_begins_with_the_base_and_ends_at_a_multiple_of_four(
    base: Base, project: Path, tmp_path: Path
) -> None:
    folder = out(tmp_path, "image")
    build_image(base, project, folder)
    initrd = (folder / "initrd.zst").read_bytes()
    assert initrd.startswith(base.archive.read_bytes())
    assert len(initrd) % 4 == 0
    assert b"usr/lib/python3/dist-packages/cvm_init.pyc" in initrd


@pytest.mark.parametrize("path", ["attest/attester/init.py", "launcher/image/guest_init.py"])
def test_a_changed_source_changes_the_key(base: Base, project: Path, path: str) -> None:
    before = image_key(base, project)
    (project / path).write_text("changed = 1\n")
    assert image_key(base, project) != before


def test_a_source_that_is_not_in_the_guest_does_not_change_the_key(base: Base, project: Path) -> None:
    before = image_key(base, project)
    (project / "attest/web/app.py").write_text("changed = 1\n")
    assert image_key(base, project) == before


@pytest.mark.parametrize("name", ["vmlinuz", "initrd.zst"])
def test_an_image_with_a_changed_file_is_not_intact(base: Base, project: Path, tmp_path: Path, name: str) -> None:
    folder = out(tmp_path, "image")
    build_image(base, project, folder)
    assert read_manifest(folder) is not None
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
    assert read_manifest(folder) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "cvm.image/1"}'])
def test_a_damaged_manifest_is_no_image(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path) is None


@pytest.fixture
def order(base: Base, project: Path, monkeypatch: pytest.MonkeyPatch) -> ImageOrder:
    monkeypatch.setattr(provision, "ensure_base", lambda *_, **__: base)
    return ImageOrder(project=project)


def test_an_image_that_is_there_is_not_built_again(
    order: ImageOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_image(tmp_path / "image", order, lambda text: None)

    def never(*_: object) -> None:
        raise AssertionError("must not build")

    monkeypatch.setattr(provision, "build_image", never)
    assert ensure_image(tmp_path / "image", order, lambda text: None) == first


def test_a_damaged_image_is_built_again(order: ImageOrder, tmp_path: Path) -> None:
    ensure_image(tmp_path / "image", order, lambda text: None)
    (tmp_path / "image" / "vmlinuz").write_bytes(b"")
    ensure_image(tmp_path / "image", order, lambda text: None)
    assert (tmp_path / "image" / "vmlinuz").read_bytes() == b"kernel"


def test_a_folder_with_other_files_is_not_replaced(order: ImageOrder, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.odt").touch()
    with pytest.raises(ImageError, match=r"holds thesis\.odt"):
        ensure_image(tmp_path / "home", order, lambda text: None)
    assert (tmp_path / "home" / "thesis.odt").exists()


def test_a_failed_build_leaves_the_old_image(
    order: ImageOrder, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_image(tmp_path / "image", order, lambda text: None)
    (project / "policy/errors.py").write_text("E = 2\n")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_described", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_image(tmp_path / "image", order, lambda text: None)
    assert read_manifest(tmp_path / "image") is not None
    assert not list(tmp_path.glob("image.tmp*"))
