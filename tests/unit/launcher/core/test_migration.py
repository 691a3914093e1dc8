"""Where a VM may be moved to, and which may be moved at all."""

from __future__ import annotations

import pytest

from launcher.core.migration import parse_target, refuse_protected, refuse_tied
from launcher.errors import PlanRefused
from policy.vocab import Platform


@pytest.mark.parametrize(
    ("text", "path", "host", "port"),
    [
        ("unix:/run/a b.sock", "/run/a b.sock", "", 0),
        ("tcp:127.0.0.1:4444", None, "127.0.0.1", 4444),
        ("tcp:[::1]:1", None, "::1", 1),
        ("tcp:localhost:65535", None, "localhost", 65535),
    ],
)
def test_a_place_on_this_host_is_understood(text: str, path: str | None, host: str, port: int) -> None:
    assert parse_target(text)[1:] == (path, host, port)


@pytest.mark.parametrize(
    "text",
    ["", "unix:relative", "unix:/a\0b", "tcp:1.2.3.4", "tcp::1", "tcp:a:0", "tcp:a:65536", "tcp:a b:1", "exec:x"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(PlanRefused, match="want"):
        parse_target(text, plain=True)


def test_memory_crosses_a_network_unencrypted_only_when_somebody_said_so() -> None:
    with pytest.raises(PlanRefused, match="unencrypted"):
        parse_target("tcp:192.0.2.1:4444")
    assert parse_target("tcp:192.0.2.1:4444", plain=True).host == "192.0.2.1"


@pytest.mark.parametrize("platform", [p for p in Platform if p is not Platform.NONE])
def test_a_protected_vm_is_stopped_and_launched_elsewhere_instead(platform: Platform) -> None:
    with pytest.raises(PlanRefused) as caught:
        refuse_protected(platform)
    assert "attests again" in str(caught.value.hint)


def test_an_ordinary_vm_may_move() -> None:
    refuse_protected(Platform.NONE)


def test_a_vm_with_hardware_of_this_host_or_modules_plugged_in_later_stays() -> None:
    with pytest.raises(PlanRefused, match="2 PCI function"):
        refuse_tied(2, 0)
    with pytest.raises(PlanRefused, match="128 MiB of memory came since"):
        refuse_tied(0, 128 << 20)
    with pytest.raises(PlanRefused, match="TPM remembers stays"):
        refuse_tied(0, 0, tpm=True)
    with pytest.raises(PlanRefused, match=r"2 folder\(s\) of this host"):
        refuse_tied(0, 0, shares=2)
    refuse_tied(0, 0)
