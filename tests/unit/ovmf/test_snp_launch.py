"""The launch digest: real numbers first, then what must never be computed."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ovmf.errors import FirmwareMalformed, KernelNotMeasurable, LaunchInvalid, OvmfError
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.snp_launch import Firmware, digest_from_recipe, recipe, snp_launch_digest
from ovmf.vcpu import vcpu_signature
from policy.errors import MalformedInput
from policy.reference import LaunchRecipe
from tests.fakes import firmware as fake

HASHES = KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32)


def load(vectors: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((vectors / "snp" / "measurement" / name).read_text())
    return document


def row_digest(firmware: Firmware, row: dict[str, Any], hashes: KernelHashes | None) -> str:
    signature = vcpu_signature(row["vcpu_type"])
    assert signature == int(row.get("vcpu_sig", f"{signature:x}"), 16)
    parameters = {
        "vcpus": row["vcpus"],
        "vcpu_sig": signature,
        "guest_features": int(row["guest_features"], 16),
        "hashes": hashes,
        "vmm": row["vmm"].lower(),
    }
    direct = snp_launch_digest(firmware, **parameters)
    assert digest_from_recipe(recipe(firmware, **parameters)) == direct
    return direct.hex()


def shared_boot(document: dict[str, Any]) -> dict[str, KernelHashes | None]:
    inputs = document["boot_inputs"]
    kernel, initrd = (bytes.fromhex(inputs[name]["sha256"]) for name in ("kernel", "initrd"))
    return {
        "none": None,
        "kernel only": KernelHashes(kernel, NO_INITRD, cmdline_hash(b"")),
        "kernel+initrd+cmdline": KernelHashes(kernel, initrd, cmdline_hash(inputs["cmdline"].encode())),
    }


def test_the_real_firmware_gives_every_known_digest(amdsev: Firmware, vectors: Path) -> None:
    document = load(vectors, "debian_ovmf_amdsev.json")
    if amdsev.sha256.hex() != document["firmware"]["sha256"]:
        pytest.skip("the OVMF.amdsev.fd found is another build than the vectors'")
    assert amdsev.ld.hex() == document["firmware"]["ovmf_only_hash"]
    boot = shared_boot(document)
    wrong = [row for row in document["rows"] if row_digest(amdsev, row, boot[row["boot"]]) != row["launch_digest"]]
    assert wrong == []


def test_synthetic_firmware_gives_every_known_digest(vectors: Path) -> None:
    document = load(vectors, "synthetic.json")
    boot = shared_boot(document)
    rows = [row for row in document["rows"] if row["expect"] == "digest" and "svsm" not in row]
    assert rows
    for row in rows:
        firmware = Firmware.from_bytes((vectors / "snp" / "measurement" / row["firmware"]).read_bytes())
        assert row_digest(firmware, row, boot[row["boot"]]) == row["launch_digest"], row


def test_synthetic_firmware_that_must_be_refused_is_refused(vectors: Path) -> None:
    document = load(vectors, "synthetic.json")
    boot = shared_boot(document)
    rows = [row for row in document["rows"] if row["expect"] == "error"]
    assert rows
    for row in rows:
        data = (vectors / "snp" / "measurement" / row["firmware"]).read_bytes()
        with pytest.raises(OvmfError):
            row_digest(Firmware.from_bytes(data), row, boot[row["boot"]])


def test_upstreams_own_numbers_are_reproduced(vectors: Path) -> None:
    document = load(vectors, "upstream.json")
    empty = sha256(b"").digest()
    for row in document["rows"]:
        firmware = Firmware.from_bytes((vectors / "snp" / "measurement" / row["firmware"]).read_bytes())
        known = document["ovmf_only_hash"].get(row["firmware"])
        assert known is None or firmware.ld.hex() == known
        boot = row["boot"]
        hashes = None if boot == "none" else KernelHashes(empty, empty, cmdline_hash(boot["cmdline"].encode()))
        if row.get("expect") == "error":
            with pytest.raises(KernelNotMeasurable):
                row_digest(firmware, row, hashes)
        else:
            assert row_digest(firmware, row, hashes) == row["launch_digest"], row


def test_sections_are_measured_in_file_order_not_address_order(small: Firmware) -> None:
    ordered = Firmware.from_bytes(fake.image(block=fake.metadata(sorted(fake.AMDSEV_SECTIONS))))
    ordered.ld = small.ld
    assert digest(small) != digest(ordered)


def test_each_input_enters_the_digest(small: Firmware) -> None:
    base = digest(small)
    others = [
        digest(small, vcpus=3),
        digest(small, vcpu_sig=0xA00F11),
        digest(small, guest_features=0x21),
        digest(small, vmm="qemu-zero-fpu"),
        digest(small, vmm="ec2"),
        digest(small, vmm="gce"),
        digest(small, vmm="gce-52bit"),
        digest(small, hashes=None),
        digest(small, hashes=KernelHashes(b"x" * 32, b"I" * 32, b"C" * 32)),
        digest(small, hashes=KernelHashes(b"K" * 32, b"x" * 32, b"C" * 32)),
        digest(small, hashes=KernelHashes(b"K" * 32, b"I" * 32, b"x" * 32)),
    ]
    assert len({base, *others}) == 12


def digest(firmware: Firmware, **changed: Any) -> bytes:
    return snp_launch_digest(firmware, **({"vcpus": 2, "vcpu_sig": 0x800F12, "hashes": HASHES} | changed))


def image_without(kind: int) -> Firmware:
    return Firmware.from_bytes(
        fake.image(block=fake.metadata([section for section in fake.AMDSEV_SECTIONS if section[2] != kind]))
    )


def test_a_kernel_without_a_section_for_its_hash_is_refused_with_advice() -> None:
    with pytest.raises(KernelNotMeasurable, match="no SNP_KERNEL_HASHES section") as caught:
        digest(image_without(0x10))
    assert "OVMF.amdsev.fd" in (caught.value.hint or "")


def test_a_firmware_without_that_section_is_measured_when_no_kernel_is_given() -> None:
    assert len(digest(image_without(0x10), hashes=None)) == 48


def test_a_kernel_without_a_hash_table_in_the_footer_is_refused() -> None:
    entries = fake.standard_entries()
    with pytest.raises(KernelNotMeasurable, match="footer names no SEV hash table"):
        digest(Firmware.from_bytes(fake.image([entries[0], entries[2]])))


@pytest.mark.parametrize("table", [0x80FC00, 0x811000, 0x810FF0])
def test_a_hash_table_the_measured_page_does_not_hold_is_refused(small: Firmware, table: int) -> None:
    with pytest.raises(KernelNotMeasurable, match="is not inside"):
        digest_from_recipe(a_recipe(small)._replace(hash_table_gpa=table))


@pytest.mark.parametrize("vcpus", [0, -1, 4097])
def test_a_vcpu_count_kvm_cannot_start_is_refused(small: Firmware, vcpus: int) -> None:
    with pytest.raises(LaunchInvalid, match=f"vCPUs: got {vcpus}"):
        digest(small, vcpus=vcpus)


def a_recipe(firmware: Firmware) -> LaunchRecipe:
    return recipe(firmware, vcpus=2, vcpu_sig=0x800F12, hashes=HASHES)


@pytest.mark.parametrize(
    "change",
    [
        {"sections": ((0x800000, 0x1000, 9),)},
        {"sections": ((0x800001, 0x1000, 1),)},
        {"sections": ((0x800000, 0x2000, 1), (0x801000, 0x1000, 1))},
        {"firmware_ld": b"short"},
        {"vcpus": 0},
        {"vcpu_sig": 1 << 32},
        {"guest_features": 1 << 64},
        {"ap_eip": 1 << 32},
        {"vmm": "xen"},
        {"initrd_sha256": None},
        {"kernel_sha256": None},
        {"cmdline_sha256": b"short"},
    ],
)
def test_a_recipe_from_a_file_is_checked_like_an_image(small: Firmware, change: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput):
        digest_from_recipe(a_recipe(small)._replace(**change))


def test_a_refused_image_is_a_malformed_input() -> None:
    assert issubclass(FirmwareMalformed, MalformedInput)
    assert issubclass(FirmwareMalformed, OvmfError)
