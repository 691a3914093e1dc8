"""What apt prints, read."""

from __future__ import annotations

from launcher.core.debian import Suite, archive_file_name, debian_mirrors, parse_hashes, parse_simulation

SIMULATED = """NOTE: This is only a simulation!
Inst gcc-14-base (14.2.0-19 Debian:13.1/stable [amd64])
Inst libzstd1 [1.0] (1.5.7+dfsg-1 Debian:13.1/stable, Debian-Security:13/stable-security [amd64])
Inst seabios (1.17.0-1 Debian:testing [all])
Inst qemu-system-x86 (1:11.1.2+ds-3 Debian:testing [amd64])
Conf seabios (1.17.0-1 Debian:testing [all])
"""


def test_a_simulation_names_every_package_once_and_sorted() -> None:
    assert parse_simulation(SIMULATED) == (
        ("gcc-14-base", "14.2.0-19", "amd64"),
        ("libzstd1", "1.5.7+dfsg-1", "amd64"),
        ("qemu-system-x86", "1:11.1.2+ds-3", "amd64"),
        ("seabios", "1.17.0-1", "all"),
    )


def test_the_epochs_colon_is_escaped_in_file_names() -> None:
    assert archive_file_name("a", "1:2.0-1", "all") == "a_1%3a2.0-1_all.deb"


def test_hashes_belong_to_a_name_and_a_version() -> None:
    text = "Package: a\nVersion: 1\nSHA256: aa\nDescription: x\n y\n\nPackage: a\nVersion: 2\nSHA256: bb\n\nPackage: b\nVersion: 1\n"
    assert parse_hashes(text) == {("a", "1"): "aa", ("a", "2"): "bb"}


def test_every_source_is_bound_to_the_keyring() -> None:
    lines = Suite("trixie", "http://m.example/debian", "http://s.example/sec").sources("/k.gpg").splitlines()
    assert len(lines) == 3
    assert all("signed-by=/k.gpg" in line for line in lines)
    assert lines[2].endswith("http://s.example/sec trixie-security main")


def test_a_suite_without_security_mirror_has_one_source() -> None:
    assert len(Suite("forky").sources("/k.gpg").splitlines()) == 1


def test_debian_mirrors_are_told_from_other_archives_by_their_address() -> None:
    targets = (
        "http://a.example/ubuntu\nhttp://m.example/debian/\nhttp://m.example/debian\nhttp://s.example/debian-security\n"
    )
    assert debian_mirrors(targets) == ("http://m.example/debian", "http://s.example/debian-security")
    cloud = "mirror+file:/etc/apt/mirrors/debian.list\nmirror+file:/etc/apt/mirrors/debian-security.list\n"
    assert debian_mirrors(cloud) == (
        "mirror+file:/etc/apt/mirrors/debian.list",
        "mirror+file:/etc/apt/mirrors/debian-security.list",
    )
    assert debian_mirrors("http://a.example/ubuntu\n") == (None, None)
