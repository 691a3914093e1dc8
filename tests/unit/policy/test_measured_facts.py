"""Facts of an event log hold against a guest that labels events as it likes and extends registers after boot."""

from __future__ import annotations

import hashlib

import pytest

from attest.evidence import event_types as ev
from attest.evidence.eventlog import parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import measured_events
from policy.measured_facts import CertificateFact, EventFacts, certificates_in, event_facts, load_options_digest
from tests.fakes.eventlogs import (
    IMAGE_SECURITY,
    direct_boot,
    event,
    image_load,
    named_certificate,
    secure_boot,
    tag,
    variable,
    x509_lists,
)  # fmt: skip

CERT = named_certificate("db key")
FACT = CertificateFact(hashlib.sha256(CERT).hexdigest(), "CN=db key")
DB = event(1, ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", x509_lists(CERT), IMAGE_SECURITY))


def facts(*events: NewEvent) -> EventFacts:
    return event_facts(measured_events(parse_event_log(build_event_log(events))))


def digest(text: bytes) -> bytes:
    return hashlib.sha384(text).digest()


def relabelled(item: NewEvent, kind: int, data: bytes) -> NewEvent:
    """The same extend, said to be something else."""
    return item._replace(type=kind, data=data)


def as_fw_cfg(item: NewEvent) -> NewEvent:
    """The same extend, said to be a file of QEMU's, which nobody can prove."""
    return relabelled(item, ev.EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0x")


def test_a_direct_boot_is_wholly_explained() -> None:
    got = facts(*direct_boot("quiet"))
    assert got.secure_boot == "on"
    assert got.db == ()
    assert got.authorities == ()
    assert [item.digest for item in got.applications] == [digest(b"kernel")]
    assert [item.digest for item in got.load_options] == [load_options_digest("initrd=initrd quiet")]
    assert [item.digest for item in got.initrds] == [digest(b"initrd")]
    assert got.loaded == (*got.load_options, *got.initrds)
    assert got.command_lines == ()
    assert got.unexplained == ()


@pytest.mark.parametrize(("contents", "state"), [(b"\1", "on"), (b"\0", "off"), (b"", "absent")])
def test_secure_boot_is_known_by_its_digest_whatever_the_label(contents: bytes, state: str) -> None:
    first, *rest = secure_boot(contents)
    assert facts(first, *rest).secure_boot == state
    assert facts(as_fw_cfg(first), *rest).secure_boot == state


def test_a_second_secure_boot_event_of_another_state_leaves_nothing_known() -> None:
    off, on = secure_boot(b"\0"), secure_boot(b"\1")
    got = facts(*map(as_fw_cfg, off), *on, event(1, ev.EV_SEPARATOR, bytes(4)))
    assert got.secure_boot is None
    assert got.db is None


def test_secure_boot_extended_into_another_register_is_no_fact() -> None:
    assert facts(*[item._replace(mr=3) for item in secure_boot()]).secure_boot is None


def test_db_is_the_third_event_after_secure_boot_or_unknown() -> None:
    state, pk, kek, db, dbx = secure_boot()
    assert facts(state, pk, kek, DB, dbx).db == (FACT,)
    assert facts(state, pk, kek, as_fw_cfg(db), dbx, pk, kek, DB).db is None
    assert facts(state, pk, kek, dbx, DB).db is None
    assert facts(state, pk, DB).db is None


def test_an_authority_is_a_certificate_or_a_hash() -> None:
    by_key = event(1, ev.EV_EFI_VARIABLE_AUTHORITY, variable("db", bytes(16) + CERT, IMAGE_SECURITY))
    by_hash = event(1, ev.EV_EFI_VARIABLE_AUTHORITY, variable("db", bytes(16) + b"h" * 32, IMAGE_SECURITY))
    got = facts(*secure_boot(), by_key, by_hash)
    assert got.authorities == (FACT,)
    assert got.hash_authorities == ("68" * 32,)
    assert facts(by_key._replace(mr=2)).authorities == ()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ev.EV_EFI_GPT_EVENT, b"EFI PART"),
        (ev.EV_EFI_ACTION, b"evil program"),
        (ev.EV_IPL, b"grub_cmd: evil program\0"),
        (ev.EV_SEPARATOR, bytes(4)),
        (0x77, b"evil program"),
        (ev.EV_EFI_BOOT_SERVICES_DRIVER, image_load(b"")),
    ],
)
def test_a_program_that_was_started_stays_in_the_list_whatever_it_is_called(kind: int, data: bytes) -> None:
    evil = NewEvent(2, kind, ((ev.SHA384, digest(b"evil program")),), data)
    got = facts(*direct_boot(), evil)
    assert [item.digest for item in got.applications] == [digest(b"kernel"), digest(b"evil program")]


def test_a_program_inside_the_log_is_not_a_proven_action() -> None:
    evil = event(2, ev.EV_EFI_ACTION, b"evil program")
    got = facts(evil)
    assert got.applications[0].proven
    assert [item.name for item in got.unexplained] == ["action:evil program"]


def test_an_initrd_hidden_under_another_label_stays_in_what_was_loaded() -> None:
    evil, good = digest(b"evil initrd"), event(3, ev.EV_EVENT_TAG, tag(0x8F3B22EC, b"Linux initrd\0"), b"initrd")
    hidden = NewEvent(3, ev.EV_IPL, ((ev.SHA384, evil),), b"/boot/grub.cfg\0")
    got = facts(*direct_boot()[:-3], hidden, good)
    assert [item.digest for item in got.initrds] == [digest(b"initrd")]
    assert evil in {item.digest for item in got.loaded}


def test_a_boot_loaders_command_line_is_a_fact_when_its_digest_proves_it() -> None:
    proven = event(3, ev.EV_IPL, b"kernel_cmdline: /k ro\0", b"/k ro")
    lying = event(3, ev.EV_IPL, b"kernel_cmdline: /k ro\0", b"/k rw")
    assert facts(proven).command_lines == ("/k ro",)
    assert facts(proven._replace(mr=4)).command_lines == ()
    got = facts(lying)
    assert got.command_lines == ()
    assert got.loaded == got.unexplained != ()


@pytest.mark.parametrize(
    "item",
    [
        event(1, 0x12345678, b"x"),
        event(1, ev.EV_EFI_BOOT_SERVICES_APPLICATION, image_load(b""), b"k"),
        event(2, ev.EV_EVENT_TAG, tag(0x8F3B22EC, b"i"), b"k"),
        event(3, ev.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"k"),
        event(4, ev.EV_SEPARATOR, bytes(4)),
        event(1, ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b""), b"k"),
        event(1, ev.EV_EFI_VARIABLE_BOOT, variable("Timeout", b"\1\2"), b"\1\2"),
    ],
)
def test_an_event_that_does_not_belong_in_its_register_is_unexplained(item: NewEvent) -> None:
    assert [found.digest for found in facts(*direct_boot(), item).unexplained] == [item.digests[0][1]]


def test_the_hob_the_volume_and_smbios_are_explained_at_their_place_only() -> None:
    hob, volume, *rest = direct_boot()
    again = facts(hob, volume, *rest, hob, volume)
    assert [item.name for item in again.unexplained] == ["td-hob", "cfv"]
    assert [item.name for item in facts(volume, hob, *rest).unexplained] == ["cfv", "td-hob"]


def test_run_time_events_with_a_proof_are_explained_in_rtmr3() -> None:
    assert facts(event(4, ev.EV_RUNTIME, b"\1\0\0\x08:a:b")).unexplained == ()
    assert len(facts(event(3, ev.EV_RUNTIME, b"\1\0\0\x08:a:b")).unexplained) == 1


def test_certificates_are_read_from_a_detail_and_nothing_else() -> None:
    assert certificates_in(f"x509 {'ab' * 32} CN=a; 3 SHA-256") == (CertificateFact("ab" * 32, "CN=a"),)
    for detail in ("", "empty", "3 SHA-256", "x509 AB CN=a"):
        assert certificates_in(detail) == ()


def test_load_options_have_the_digest_real_firmware_measured() -> None:
    wanted = "f9f8fb4b0e1dce36006d4f4a67381bc02cb5fb2fe7143f3091569254993fb8edfa15f5b55ebdbf24cb189af4c6dbb8ff"
    assert load_options_digest("initrd=initrd console=ttyS0").hex() == wanted
