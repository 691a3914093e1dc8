"""What an administrator set up, on made-up hosts; a PCCS is a real HTTPS service that answers as Intel's does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.core.capability import Finding
from launcher.core.doctor_setup import setup_findings
from launcher.io.setup_probe import QCNL, ask_pccs, probe_setup
from tests.fakes.intel_pki import FakeIntelPki
from tests.fakes.kds import Reply
from tests.fakes.pcs import FakePcs

PLENTY = 1 << 40


def _judged(root: Path, log: tuple[str, ...] | None = None, limit: int = PLENTY) -> dict[str, Finding]:
    return {item.id: item for item in setup_findings(probe_setup(log, root, limit))}


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _descriptor(firmware: str, *features: str, flash: bool = False) -> str:
    mapping = {"device": "memory", "filename": firmware}
    if flash:
        mapping = {"device": "flash", "executable": {"filename": firmware, "format": "raw"}}  # type: ignore[dict-item]  # QEMU's own shape
    return json.dumps({"mapping": mapping, "features": list(features)})


def test_a_host_with_nothing_is_judged_all_the_same(tmp_path: Path) -> None:
    found = _judged(tmp_path)
    assert {item.state for item in found.values()} == {"ok", "skip"}
    assert found["firmware.descriptor-tdx"].state == "skip"


def test_descriptors_that_offer_protection_are_listed_and_broken_ones_named(tmp_path: Path) -> None:
    _write(tmp_path, "usr/share/ovmf/a.fd", "x")
    _write(tmp_path, "usr/share/qemu/firmware/60-snp.json", _descriptor("/usr/share/ovmf/a.fd", "amd-sev-snp"))
    _write(tmp_path, "usr/share/qemu/firmware/60-plain.json", _descriptor("/usr/share/ovmf/a.fd", flash=True))
    found = _judged(tmp_path)
    assert found["firmware.descriptor"].seen == "60-snp.json: /usr/share/ovmf/a.fd for amd-sev-snp"
    assert "firmware.descriptor-sev-snp" not in found
    for text, said in (
        ("{", "is no firmware descriptor"),
        ("[]", "is no firmware descriptor"),
        ('{"mapping": 7, "features": []}', "is no firmware descriptor"),
        (_descriptor("/usr/share/ovmf/b.fd", "amd-sev-snp"), "/usr/share/ovmf/b.fd is not there"),
    ):
        _write(tmp_path, "etc/qemu/firmware/60-snp.json", text)
        found = _judged(tmp_path)
        assert (found["firmware.descriptor"].state, said in found["firmware.descriptor"].seen) == ("warn", True)
        assert "firmware.descriptor-sev-snp" in found
    _write(tmp_path, "etc/qemu/firmware/60-snp.json", "")
    assert "firmware.descriptor" not in _judged(tmp_path), "an empty file hides the other one"


@pytest.mark.parametrize(
    ("file", "text", "id_", "state"),
    [
        ("proc/sys/kernel/random/entropy_avail", "256\n", "entropy", "ok"),
        ("proc/sys/kernel/random/entropy_avail", "12\n", "entropy", "warn"),
        ("proc/sys/vm/overcommit_memory", "0\n", "memory.overcommit", "ok"),
        ("proc/sys/vm/overcommit_memory", "2\n", "memory.overcommit", "warn"),
    ],
)
def test_one_setting_of_the_kernel_at_a_time(tmp_path: Path, file: str, text: str, id_: str, state: str) -> None:
    _write(tmp_path, file, text)
    found = _judged(tmp_path)[id_]
    assert (found.state, bool(found.fix)) == (state, state == "warn")


@pytest.mark.parametrize(("limit", "state"), [(-1, "ok"), (PLENTY, "ok"), (8 << 20, "warn")])
def test_memory_this_user_may_lock(tmp_path: Path, limit: int, state: str) -> None:
    found = _judged(tmp_path, limit=limit)["memory.lock"]
    assert (found.state, found.blocks) == (state, () if state == "ok" else ("vfio",))


def test_what_firmware_and_kernel_say_they_have_is_shown(tmp_path: Path) -> None:
    log = (
        "SEV-SNP: RMP table physical range [0x1, 0x2]",
        "virt/tdx: BIOS enabled: private KeyID range [0x40, 0x80)",
        "virt/tdx: 1050644 KB allocated for PAMT \x1b[7m",
    )
    found = _judged(tmp_path, log)
    assert found["slots.keyids"].seen == "63 key IDs for TDs"
    assert "\x1b" not in found["log.tdx.pamt"].seen
    assert found["log.snp.rmp"].state == "ok"
    assert "log.snp.api" not in found
    none = _judged(tmp_path, ("virt/tdx: BIOS enabled: private KeyID range [64, 65)",))["slots.keyids"]
    assert (none.state, bool(none.fix)) == ("warn", True)


def test_a_pccs_is_asked_for_intels_list_as_the_quote_library_would(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    with FakePcs(FakeIntelPki(), tls=folder) as pcs:
        address = f"{pcs.url}/sgx/certification/v4/"
        _write(tmp_path, QCNL, f'// settings\n{{\n  "pccs_url": "{address}",\n  "use_secure_cert": false\n}}\n')
        good = _judged(tmp_path)["quotes.pccs"]
        assert (good.state, good.blocks) == ("ok", ())
        assert pcs.asked[-1].endswith("/sgx/certification/v4/rootcacrl")
        pcs.always = Reply(503, b"later")
        assert ask_pccs(address) == "answers with status 503"
        pcs.always = Reply(200, b"")
        assert ask_pccs(address) == "answers with nothing"
    gone = _judged(tmp_path)["quotes.pccs"]
    assert (gone.state, gone.blocks) == ("warn", ("quotes",))
    assert "does not answer" in gone.seen


@pytest.mark.parametrize("text", ["pccs_url = http://plain/", '{"other": "https://x/"}', "", "pccs_url=https://"])
def test_a_file_that_names_no_https_address_is_none(tmp_path: Path, text: str) -> None:
    _write(tmp_path, QCNL, text)
    assert _judged(tmp_path)["quotes.pccs"].state == "skip"


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999/", "https://[::1", "https://127.0.0.1:1/x"])
def test_an_address_that_leads_nowhere_is_told(url: str) -> None:
    assert ask_pccs(url) in ("no address", "does not answer (Connection refused)")
