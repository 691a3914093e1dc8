"""Reading packages and choosing kernel modules, with packages made here."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.core.debian import Package
from launcher.image.errors import ImageError, PackageMalformed
from launcher.image.kernel import MODULE_LIST, read_kernel
from launcher.image.packages import read_package
from tests.fakes.elf import elf

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")

MODULES = "usr/lib/modules/6.1-test/kernel"


def package(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    """A .deb with ``files``."""
    root = folder / f"{name}-root"
    for path, data in {**files, "DEBIAN/control": control(name)}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    deb = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", root, deb], check=True, capture_output=True)
    return Package(name, "1", "amd64", hashlib.sha256(deb.read_bytes()).hexdigest(), deb)


def control(name: str) -> bytes:
    return f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\nDescription: x\n".encode()


def kernel(folder: Path, **modules: str) -> Package:
    """A kernel package whose modules depend on each other as told; ``crc`` is built in."""
    files = {"boot/vmlinuz-6.1-test": b"kernel", "usr/lib/modules/6.1-test/modules.builtin": b"kernel/lib/crc.ko\n"}
    for name, depends in modules.items():
        compressed = lzma.compress(elf(modinfo=(f"depends={depends}",)))
        files[f"{MODULES}/{name.replace('_', '-')}.ko.xz"] = compressed
    return package(folder, "linux-image-6.1-test-cloud-amd64", files)


def test_only_wanted_files_and_links_are_read(tmp_path: Path) -> None:
    made = package(tmp_path, "some", {"usr/bin/tool": b"#!", "usr/share/doc/some/copyright": b"c"})
    files = read_package(made, lambda path: path.startswith("usr/bin/"))
    assert {path: node.data for path, node in files.items()} == {"usr/bin/tool": b"#!"}


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    made = package(tmp_path, "some", {"usr/bin/tool": b"#!"})
    made.path.write_bytes(made.path.read_bytes()[:200])
    with pytest.raises(PackageMalformed, match=r"some\.deb"):
        read_package(made, lambda path: True)


def test_modules_are_listed_after_everything_they_depend_on(tmp_path: Path) -> None:
    made = kernel(tmp_path, top="mid,low", mid="low,crc", low="", other="")
    listing = next(n for n in read_kernel([made], ["top"]).nodes if n.path == MODULE_LIST).data.decode().split()
    assert [Path(line).name for line in listing] == ["low.ko", "mid.ko", "top.ko"]


def test_hyphen_and_underscore_in_a_modules_name_are_the_same(tmp_path: Path) -> None:
    found = read_kernel([kernel(tmp_path, dm_mod="")], ["dm_mod"])
    assert [Path(n.path).name for n in found.nodes] == ["dm-mod.ko", "modules"]


def test_a_module_that_is_built_in_needs_no_file(tmp_path: Path) -> None:
    assert [n.path for n in read_kernel([kernel(tmp_path)], ["crc"]).nodes] == [MODULE_LIST]


def test_a_module_that_the_kernel_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="module gone is neither"):
        read_kernel([kernel(tmp_path)], ["gone"])


def test_two_kernels_are_refused(tmp_path: Path) -> None:
    made = kernel(tmp_path)
    with pytest.raises(ImageError, match="want one package linux-image"):
        read_kernel([made, made], [])


def test_release_and_kernel_are_taken_from_the_package(tmp_path: Path) -> None:
    found = read_kernel([kernel(tmp_path)], [])
    assert (found.release, found.vmlinuz) == ("6.1-test", b"kernel")
