"""GRUB's configuration, run: what is measured of it, what decides, and what is only named."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from ovmf.gpt import EFI_SYSTEM, parse_gpt
from ovmf.grub import LoaderUnknown, grub_events
from ovmf.grub_disk import GrubDisk
from policy.measured import MeasuredEvent
from tests.fakes.debian_disk import CONFIG, ENVIRONMENT, FIRST_CONFIG, LINUX, UUID, ext4, installed
from tests.fakes.disks import fat16_of, gpt_of
from tests.unit.ovmf.test_pe import small_pe

KERNEL, PATH = small_pe(), "EFI/debian/grub.cfg"
PLAIN = b"# plain\nset timeout=0\nlinux /VMLINUZ console=ttyS0\ninitrd /INITRD\nboot\n"
ESP = fat16_of({"VMLINUZ": KERNEL, "INITRD": b"init"})


def run(config: bytes, root: bytes = b"") -> list[MeasuredEvent]:
    disk = gpt_of((EFI_SYSTEM, ESP), *([(LINUX, root)] if root else []))
    return grub_events(config, PATH, GrubDisk(disk, parse_gpt(disk)), lambda *_image: None)


def plain(change: bytes = b"", *, before: bytes = b"linux") -> list[MeasuredEvent]:
    """The plain configuration with a line put in."""
    return run(PLAIN.replace(before, change + b"\n" + before, 1))


def commands(found: list[MeasuredEvent]) -> list[str]:
    return [event.detail for event in found if event.name == "ipl:grub_cmd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grub")


def on_root(folder: Path, name: str, config: str = CONFIG, **others: bytes) -> list[MeasuredEvent]:
    (folder / name).mkdir()
    files = installed(KERNEL, b"initrd..", **({"grub.cfg": config.encode("latin-1")} | others))
    return run(FIRST_CONFIG.encode(), ext4(folder / name, files))


def test_an_installed_systems_configuration_is_followed_to_its_default_entry(folder: Path) -> None:
    found = on_root(folder, "whole")
    done = commands(found)
    assert done[:6] == [
        f"search.fs_uuid {UUID} root hd0,gpt2", "set prefix=(hd0,gpt2)/boot/grub",
        "configfile (hd0,gpt2)/boot/grub/grub.cfg", "[ -s (hd0,gpt2)/boot/grub/grubenv ]", "set have_grubenv=true",
        "load_env",
    ]  # fmt: skip
    assert done[6:11] == ["[  ]", "[  ]", "set default=0", "[ xy = xy ]", "menuentry_id_option=--id"]
    assert done[done.index("load_video") :][:3] == ["load_video", "[ xefi = xefi ]", "insmod efi_gop"]
    assert done[done.index("setparams Debian") - 1].startswith("[ -z (hd0,gpt2)/boot/grub -a -f (hd0,gpt2)/boot/grub/")
    assert "[ 0 = 0 ]" in done
    assert not any("xzio" in text and not text.startswith("menuentry") for text in done)
    entry = next(text for text in done if text.startswith("menuentry Debian "))
    assert entry.startswith(
        f"menuentry Debian --class debian --class os --id simple-{UUID} {{\\x0a\\x09load_video\\x0a"
    )
    assert done[-1] == "initrd /boot/initrd.img"
    files = [event.detail for event in found if event.name == "ipl:file"]
    assert files == [
        *[f"(hd0,gpt1)/{PATH}"] * 2, "(hd0,gpt2)/boot/grub/grub.cfg", *["(hd0,gpt2)/boot/grub/grubenv"] * 2,
        "/boot/vmlinuz", "/boot/initrd.img",
    ]  # fmt: skip
    options = f"BOOT_IMAGE=/boot/vmlinuz root=UUID={UUID} ro console=ttyS0 panic=-1\0".encode("utf-16-le")
    assert found[-2].digest == hashlib.sha384(options).digest()
    assert found[-1].digest == hashlib.sha384(b"initrd..").digest()


def test_titles_are_hashed_byte_by_byte(folder: Path) -> None:
    found = on_root(folder, "title", CONFIG.replace("menuentry 'Debian'", "menuentry 'Système'"))
    event = next(event for event in found if event.detail.startswith("setparams"))
    assert event.digest == hashlib.sha384("setparams Système".encode("latin-1")).digest()


@pytest.mark.parametrize(("name", "change", "others", "why"), [
    ("custom", ("", ""), {"custom.cfg": b"x"}, "source (hd0,gpt2)/boot/grub/custom.cfg"),
    ("saved", ("", ""), {"grubenv": ENVIRONMENT.replace(b"\n#", b"\nnext_entry=1\n#", 1)}, "load_env"),
    ("block", ("", ""), {"grubenv": b"something else"}, "load_env"),
    ("words", ("", ""), {"locale/en.mo": b"x"}, "set lang=en_US"),
    ("sub", ('default="0"', 'default="1"'), {}, "the default entry is a submenu"),
    ("none", ('default="0"', 'default="7"'), {}, "no entry is chosen"),
    ("digits", ('default="0"', 'default="' + "0" * 5000 + '"'), {}, "no entry is chosen"),
    ("other", ("--set=root --hint-efi=hd0,gpt2", "--set=root --label"), {}, "--set=root --label"),
    ("title", ('default="0"', 'default="Debian"'), {}, "no entry is chosen"),
    ("waits", ("set timeout=1", "set timeout=-1"), {}, "no entry is chosen"),
    ("menu", ("menuentry 'Debian' --class", "menuentry 'Debian' --users me --class"), {}, "menuentry Debian --users"),
    ("disk", ("search --no-floppy --fs-uuid --set=root --hint-efi=hd0,gpt2 ", "search --label"), {}, "search --label"),
    ("root", ("set root='hd0,gpt2'", "set root='hd1,gpt2'"), {}, "set root=hd1,gpt2"),
    ("theme", ("set gfxmode=auto", "set theme=x"), {}, "set theme=x"),
    ("module", ("insmod part_gpt", "insmod zfs"), {}, "insmod zfs"),
    ("loop", ("load_env", "configfile $prefix/grub.cfg"), {}, "configfile"),
])  # fmt: skip
def test_what_is_not_known_of_an_installed_system_is_named_with_its_line(
    folder: Path, name: str, change: tuple[str, str], others: dict[str, bytes], why: str
) -> None:
    with pytest.raises(LoaderUnknown, match=re.escape(why)):
        on_root(folder, f"unknown-{name}", CONFIG.replace(*change, 1) if change[0] else CONFIG, **others)


@pytest.mark.parametrize("line", [
    b"set root=(hd0,gpt1)", b"set root=hd0,gpt3", b"set superusers=me", b"if true; then", b"linux $kernel",
    b"linux VMLINUZ", b"linux /VMLINUZ\nlinux /VMLINUZ", b"linux (hd0,gpt1)/VMLINUZ", b"insmod zfs", b"boot",
    b"search.fs_uuid 1234 root", b"initrd /INITRD", b"set timeout=0; boot", b"chainloader /X", b"sleep 5",
    b"for x in 1 2; do echo $x; done", b"echo *", b"echo a\\b", b"configfile /NONE", b"load_env", b"echo $unheard",
    b"function f {\nf\n}\nf", b"if [ a -o b ]; then\necho x\nfi", b"export a b",
])  # fmt: skip
def test_a_line_whose_effect_is_not_known_is_named(line: bytes) -> None:
    with pytest.raises(LoaderUnknown, match=r"grub\.cfg"):
        plain(line)


@pytest.mark.parametrize(("line", "text"), [
    (b"echo 'a  b' \"c\"d", "echo a  b cd"), (b"echo $recordfail x", "echo x"), (b'echo "$recordfail" x', "echo  x"),
    (b"set default=3", "set default=3"), (b"if [ a = b ]; then\nfoo\nfi", "[ a = b ]"), (b"echo x;", "echo x"),
    (b"  # nothing\n\techo x", "echo x"), (b"echo ${root}", "echo hd0,gpt1"),
])  # fmt: skip
def test_a_command_is_measured_with_its_words_expanded(line: bytes, text: str) -> None:
    assert text in commands(plain(line))


def test_a_kernel_that_is_not_there_is_named() -> None:
    for old, new in ((b"/VMLINUZ", b"/NONE"), (b"/INITRD", b"/NONE")):
        with pytest.raises(LoaderUnknown, match="/NONE is not on hd0,gpt1"):
            run(PLAIN.replace(old, new))


def test_a_configuration_without_boot_waits_for_somebody() -> None:
    with pytest.raises(LoaderUnknown, match="no entry is chosen"):
        run(PLAIN.replace(b"boot\n", b""))


def test_a_configuration_of_absurd_size_is_not_run() -> None:
    with pytest.raises(LoaderUnknown, match="want at most"):
        run(b"#" * (1 << 19))
    with pytest.raises(LoaderUnknown, match=r"commands|too deep"):
        run(b"function f {\n" + b"echo x\n" * 300 + b"}\n" + b"f\n" * 300)
