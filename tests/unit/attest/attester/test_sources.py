"""Evidence sources: the order, the two kernel interfaces (against fakes of them), and what is refused."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from attest.attester import configfs_tsm, sev_guest
from attest.attester.errors import EvidenceUnavailable
from attest.attester.evidence_json import snp_evidence
from attest.attester.raw_evidence import MAX_CERTIFICATES, RawEvidence, SourceAbsent
from attest.attester.sev_guest import GuestRequest, extended_report
from attest.attester.sources import Source, emulated, first_present, hardware
from attest.evidence.chip_port import ReportRequest
from attest.evidence.snp_json import decode_snp_json
from tests.fakes.guest import chip

DATA = bytes(range(64))


def _report(data: bytes = DATA) -> bytes:
    return chip().report(ReportRequest(data))


def _absent(data: bytes) -> RawEvidence:
    raise SourceAbsent("first: no such device")


def _broken(data: bytes) -> RawEvidence:
    raise EvidenceUnavailable("second: broken")


def _works(data: bytes) -> RawEvidence:
    return RawEvidence(_report(data), b"", "works")


def test_configfs_is_asked_before_the_device() -> None:
    assert hardware("snp") == (configfs_tsm.configfs_report, sev_guest.sev_guest_report)


def test_the_emulated_chip_is_never_among_the_hardware_nor_hardware_beside_it() -> None:
    (only,) = emulated("snp")
    assert only not in (*hardware("snp"), *hardware("tdx"))


def test_an_absent_source_leads_to_the_next_one() -> None:
    assert first_present((_absent, _works), DATA).source == "works"


def test_a_broken_source_ends_the_search() -> None:
    with pytest.raises(EvidenceUnavailable, match="second: broken"):
        first_present((_broken, _works), DATA)


def test_no_source_at_all_names_each() -> None:
    with pytest.raises(EvidenceUnavailable, match="first: no such device"):
        first_present((_absent, _absent), DATA)


def _constant(report: bytes, certificates: bytes = b"") -> Source:
    return lambda data: RawEvidence(report, certificates, "odd")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (_constant(_report(bytes(64))), "is about other report data"),
        (_constant(b""), "is about other report data"),
        (_constant(_report(), bytes(MAX_CERTIFICATES + 1)), "too long"),
    ],
)
def test_an_answer_to_another_question_is_noticed_in_the_guest(source: Source, said: str) -> None:
    with pytest.raises(EvidenceUnavailable, match=said):
        first_present((source,), DATA)


def test_the_json_gives_the_same_bytes_back() -> None:
    made = chip()
    raw = RawEvidence(made.report(ReportRequest(DATA)), made.certificates, "test")
    evidence = decode_snp_json(snp_evidence(raw))
    assert evidence.report.raw == raw.report
    assert [entry.name for entry in evidence.certificates] == ["VCEK", "ASK", "ARK"]


@pytest.mark.parametrize("raw", [RawEvidence(bytes(1184), b"", "x"), RawEvidence(_report(), b"\xff" * 48, "x")])
def test_evidence_that_does_not_parse_is_not_sent(raw: RawEvidence) -> None:
    with pytest.raises(EvidenceUnavailable, match="x: "):
        snp_evidence(raw)


class Configfs:
    """configfs-tsm as the kernel does it: attributes appear with the directory, ``generation`` counts writes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.provider = b"sev_guest\n"
        self.generation = 0
        self.inblob = b""
        self.others = 0
        self.fail: int | None = None
        monkeypatch.setattr(configfs_tsm, "_read", self.read)
        monkeypatch.setattr(configfs_tsm, "_write", self.write)

    def read(self, path: Path, limit: int) -> bytes:
        if self.fail is not None and path.name == "outblob":
            raise OSError(self.fail, "kernel says no", str(path))
        if path.name == "auxblob":
            self.generation += self.others
        return {
            "provider": self.provider,
            "generation": b"%d\n" % self.generation,
            "outblob": _report(self.inblob) if path.name == "outblob" else b"",
            "auxblob": b"",
        }[path.name]

    def write(self, path: Path, data: bytes) -> None:
        assert path.name == "inblob"
        self.inblob = data
        self.generation += 1

    def ask(self) -> RawEvidence:
        return configfs_tsm.configfs_report(DATA, self.root)


@pytest.fixture
def configfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configfs:
    return Configfs(tmp_path, monkeypatch)


def test_configfs_gives_the_report_and_leaves_nothing_behind(configfs: Configfs) -> None:
    evidence = configfs.ask()
    assert (evidence.report[0x50:0x90], evidence.source) == (DATA, "configfs-tsm")
    assert list(configfs.root.iterdir()) == []


def test_a_generation_that_moved_on_means_somebody_else_wrote(configfs: Configfs) -> None:
    configfs.others = 1
    with pytest.raises(EvidenceUnavailable, match="generation 2, want 1"):
        configfs.ask()


def test_another_provider_is_refused(configfs: Configfs) -> None:
    configfs.provider = b"tdx_guest\n"
    with pytest.raises(EvidenceUnavailable, match="tdx_guest"):
        configfs.ask()


def test_a_request_of_somebody_else_is_not_shared(configfs: Configfs) -> None:
    (configfs.root / configfs_tsm.NAME).mkdir()
    with pytest.raises(EvidenceUnavailable, match="somebody else"):
        configfs.ask()


def test_a_kernel_error_is_a_failure_and_cleans_up(configfs: Configfs) -> None:
    configfs.fail = errno.EIO
    with pytest.raises(EvidenceUnavailable, match="kernel says no"):
        configfs.ask()
    assert list(configfs.root.iterdir()) == []


def test_a_kernel_without_the_interface_is_an_absent_source(tmp_path: Path) -> None:
    with pytest.raises(SourceAbsent, match="configfs-tsm"):
        configfs_tsm.configfs_report(DATA, tmp_path / "nowhere")


def test_a_machine_without_the_device_is_an_absent_source(tmp_path: Path) -> None:
    with pytest.raises(SourceAbsent, match="sev-guest"):
        sev_guest.sev_guest_report(DATA, str(tmp_path / "sev-guest"))


def _outcome(
    report: bytes, table: bytes = bytes(4096), *, status: int = 0, size: int = 1184, **more: int
) -> GuestRequest:
    fields = {"fw_error": 0, "vmm_error": 0, "wanted_bytes": 0, "errno": 0} | more
    return GuestRequest(struct.pack("<II24x", status, size) + report, table, **fields)


def test_the_device_gives_report_and_table() -> None:
    table = chip().certificates
    evidence = extended_report(DATA, lambda data, room: _outcome(_report(data), table))
    assert evidence.certificates == table
    assert evidence.report[0x50:0x90] == DATA


def test_a_host_without_certificates_gives_an_empty_table() -> None:
    assert extended_report(DATA, lambda data, room: _outcome(_report(data))).certificates == b""


def test_the_host_may_ask_for_more_room_once() -> None:
    rooms: list[int] = []

    def call(data: bytes, room: int) -> GuestRequest:
        rooms.append(room)
        if len(rooms) == 1:
            return _outcome(b"", vmm_error=1, errno=errno.EIO, wanted_bytes=20000)
        return _outcome(_report(data))

    extended_report(DATA, call)
    assert rooms == [16384, 20480]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (_outcome(b"", vmm_error=1, errno=errno.EIO, wanted_bytes=1 << 30), "host wants 1073741824"),
        (_outcome(b"", fw_error=0x16, errno=errno.EIO), "firmware error 0x16"),
        (_outcome(_report(), status=0x16), "firmware status 0x16"),
        (_outcome(_report(), size=1000), "report of 1000 bytes"),
    ],
)
def test_what_the_device_complains_of_is_said(outcome: GuestRequest, said: str) -> None:
    with pytest.raises(EvidenceUnavailable, match=said):
        extended_report(DATA, lambda data, room: outcome)


def test_the_ioctl_number_is_the_kernels() -> None:
    size, kind, number = 32, ord("S"), 2
    assert 3 << 30 | size << 16 | kind << 8 | number == sev_guest.SNP_GET_EXT_REPORT
