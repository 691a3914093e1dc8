"""``attest evidence``: outcomes, exit codes and the JSON other people's scripts rely on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from attest.evidence.cert_table import ASK, VCEK, CertEntry
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from policy.reference import ReferenceValue, reference_to_bytes
from policy.vocab import LaunchDigest, Platform
from tests.fakes.amd_pki import Ca, FakeAmdPki, Leaf

AT = "2026-06-01T12:00:00Z"
MEMBERS = {
    "schema", "file", "kind", "outcome", "code", "message", "emulated", "claims", "tcb_status", "advisory_ids",
    "revocation", "checks",
}  # fmt: skip


@dataclass
class Ran:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as JSON."""
        value: dict[str, Any] = json.loads(self.out)
        return value


class Desk:
    """A folder with a world's files, and the program."""

    def __init__(self, folder: Path, world: FakeAmdPki, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.world, self.capsys = folder, world, capsys
        self.collateral = folder / "collateral"
        self.collateral.mkdir()
        self.report = self.put("report.bin", world.raw)
        self.root = self.put("root.der", world.ark_der)
        for name, data in zip(("a", "b", "c"), world.certificates, strict=True):
            self.put(f"collateral/{name}", data)

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *words: object) -> Ran:
        self.capsys.readouterr()
        try:
            code = main(["evidence", *map(str, words)])
        except SystemExit as exc:
            code = int(exc.code or 0)
        done = self.capsys.readouterr()
        return Ran(code, done.out, done.err)

    def verify(self, *words: object, file: Path | None = None, at: str = AT) -> Ran:
        """With the collateral folder and the world's root, as JSON."""
        return self.run(
            "verify",
            file or self.report,
            "--collateral",
            self.collateral,
            "--root",
            self.root,
            "--at",
            at,
            "--json",
            *words,
        )


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, FakeAmdPki(), capsys)


def test_a_genuine_report_ends_with_0_and_all_members_of_the_contract(desk: Desk) -> None:
    done = desk.verify()
    assert done.code == 0
    assert done.json.keys() == MEMBERS
    assert done.json["schema"] == "attest.evidence.verify/1"
    assert (done.json["kind"], done.json["outcome"], done.json["revocation"]) == (
        "snp-report",
        "genuine",
        "not-checked",
    )
    assert done.json["claims"]["measurement"] == "11" * 48
    assert done.json["claims"]["reported_tcb"] == {"bootloader": 10, "tee": 0, "snp": 24, "microcode": 84}
    assert done.json["emulated"] is True
    assert done.json["claims"]["root"].startswith("test:")
    assert {"id", "expected", "actual", "outcome"} == done.json["checks"][0].keys()
    assert done.err == ""


def test_text_says_emulated_when_the_root_is_a_test_root(desk: Desk) -> None:
    done = desk.run("verify", desk.report, "--collateral", desk.collateral, "--root", desk.root, "--at", AT)
    assert done.code == 0
    assert done.out.startswith("genuine")
    assert "EMULATED" in done.out


def test_without_the_root_the_same_report_fails(desk: Desk) -> None:
    done = desk.run("verify", desk.report, "--collateral", desk.collateral, "--at", AT, "--json")
    assert (done.code, done.json["outcome"], done.json["code"]) == (6, "failed", "verification.root")


def test_unwelcome_but_genuine_is_shown_and_changes_nothing_without_a_policy(tmp_path: Path, capsys: Any) -> None:
    desk = Desk(tmp_path, FakeAmdPki(report={"policy": 0xB0000, "vmpl": 2}), capsys)
    done = desk.verify()
    assert done.code == 0
    failed = {check["id"] for check in done.json["checks"] if check["outcome"] == "fail"}
    assert {"snp.policy.debug", "snp.vmpl"} <= failed
    assert "measurement" not in {check["id"] for check in done.json["checks"]}


def policy(desk: Desk, **words: str) -> Path:
    text = (Path(__file__).parents[4] / "policy/documents/demo.toml").read_text()
    text = text.replace("test:@EMULATED_ROOT@", f"test:{desk.verify().json['claims']['root'].removeprefix('test:')}")
    for old, new in words.items():
        text = text.replace(f'{old} = "forbid"', f'{old} = "{new}"')
    return desk.put("policy.toml", text.encode())


def test_a_policy_denies_with_7_and_accepts_with_a_reference_value(desk: Desk) -> None:
    document = policy(desk)
    done = desk.verify("--policy", document)
    assert (done.code, done.json["outcome"], done.json["code"]) == (7, "denied", "policy.denied")
    assert "measurement" in done.json["message"]
    value = ReferenceValue(
        "web", Platform.EMULATED_SNP, LaunchDigest(b"\x11" * 48), datetime(2026, 1, 1, tzinfo=UTC), recipe=None
    )
    reference = desk.put("web.ref.json", reference_to_bytes(value))
    done = desk.verify("--policy", document, "--reference", reference)
    assert done.code == 0, done.json["message"]


def test_a_wrong_policy_ends_with_3_and_a_missing_file_with_10(desk: Desk) -> None:
    assert desk.verify("--policy", desk.put("bad.toml", b"schema = 9")).code == 3
    assert desk.verify("--policy", desk.folder / "none.toml").code == 10
    assert desk.verify(file=desk.folder / "none.bin").code == 10
    assert desk.run("verify", desk.report, "--collateral", desk.folder / "none").code == 10


@pytest.mark.parametrize(
    "words",
    [["--at", "yesterday"], ["--at", "2026-06-01T12:00:00"], ["--nonce", "xyz"], ["--report-data", "00"], ["--nonce", ""],
     ["--nonce", "00", "--report-data", "00" * 64], ["--colla", "x"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(desk: Desk, words: list[str]) -> None:
    assert desk.run("verify", desk.report, *words).code == 2


def test_binding_is_compared_when_asked(desk: Desk) -> None:
    assert desk.verify("--report-data", "5a" * 64).code == 0
    done = desk.verify("--report-data", "5b" * 64)
    assert (done.code, done.json["code"]) == (6, "verification.binding")
    assert desk.verify("--nonce", "5a" * 64).code == 0
    assert desk.verify("--nonce", "5a" * 32).code == 6


def test_a_short_nonce_is_padded_with_zeros(tmp_path: Path, capsys: Any) -> None:
    desk = Desk(tmp_path, FakeAmdPki(report={"report_data": b"challenge".ljust(64, b"\0")}), capsys)
    assert desk.verify("--nonce", b"challenge".hex()).code == 0
    assert desk.verify("--nonce", b"challeng".hex()).code == 6


def test_missing_endorsements_end_with_8(desk: Desk) -> None:
    done = desk.run("verify", desk.report, "--json")
    assert (done.code, done.json["outcome"], done.json["code"]) == (8, "unavailable", "endorsement.missing")


def test_lists_are_good_stale_or_not_checked_and_demanded_only_when_asked(desk: Desk) -> None:
    assert desk.verify("--require-crl").code == 8
    desk.put("collateral/list.crl", desk.world.crl())
    assert desk.verify("--require-crl").json["revocation"] == "good"
    done = desk.verify("--require-crl", at="2026-08-01T00:00:00Z")
    assert (done.code, done.json["revocation"], done.json["code"]) == (8, "stale", "endorsement.crl")
    assert desk.verify(at="2026-08-01T00:00:00+00:00").json["outcome"] == "genuine"
    assert desk.verify(at="2026-04-01T00:00:00Z").json["revocation"] == "not-checked"


def test_a_revoked_intermediate_ends_with_6(tmp_path: Path, capsys: Any) -> None:
    desk = Desk(tmp_path, FakeAmdPki(ask=Ca(serial=0x20001)), capsys)
    desk.put("collateral/crl", desk.world.crl(revoked=[0x20001]))
    done = desk.verify()
    assert (done.code, done.json["revocation"], done.json["code"]) == (6, "revoked", "verification.revocation")


@pytest.mark.parametrize("data", [b"", b"nonsense", FakeAmdPki().raw[:-1], FakeAmdPki().raw + b"\0", b"{}"])
def test_what_does_not_parse_ends_with_5(desk: Desk, data: bytes) -> None:
    done = desk.verify(file=desk.put("odd", data))
    assert (done.code, done.json["outcome"]) == (5, "malformed")


def test_version_1_is_shown_but_not_verified(tmp_path: Path, capsys: Any) -> None:
    old = {"version": 1, "cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}
    desk = Desk(tmp_path, FakeAmdPki(report=old), capsys)
    done = desk.verify()
    assert (done.code, done.json["code"]) == (5, "evidence.unsupported")
    assert desk.run("show", desk.report).code == 0


def test_evidence_in_every_container_is_verified(desk: Desk) -> None:
    world = desk.world
    spelled = encode_snp_json(
        SnpReport.parse(world.raw), [CertEntry(VCEK, world.leaf_der), CertEntry(ASK, world.ask_der)]
    )
    for name, data in (("extended", world.extended), ("kbs.json", json.dumps(spelled).encode())):
        done = desk.run("verify", desk.put(name, data), "--root", desk.root, "--at", AT, "--json")
        assert done.code == 0, done.json


def test_a_damaged_certificate_in_the_folder_is_told_and_named(tmp_path: Path, capsys: Any) -> None:
    desk = Desk(tmp_path, FakeAmdPki(), capsys)
    desk.put("collateral/a", desk.world.leaf_der[:-7])
    done = desk.verify()
    assert done.code == 5
    assert "a:" in done.json["message"]
    assert "collateral" in done.err


def test_a_host_requested_report_fails_although_it_is_signed(tmp_path: Path, capsys: Any) -> None:
    done = Desk(tmp_path, FakeAmdPki(report={"vmpl": 0xFFFFFFFF}), capsys).verify()
    assert (done.code, done.json["code"]) == (6, "verification.vmpl")


def test_an_expired_leaf_is_good_at_its_time(tmp_path: Path, capsys: Any) -> None:
    desk = Desk(tmp_path, FakeAmdPki(leaf=Leaf(not_after=datetime(2026, 5, 1, tzinfo=UTC))), capsys)
    assert desk.verify().json["code"] == "verification.validity"
    assert desk.verify(at="2026-04-30T00:00:00Z").code == 0


def test_folders_are_searched_below_and_files_may_be_named(desk: Desk) -> None:
    deep = desk.folder / "deep" / "er"
    deep.mkdir(parents=True)
    for index, der in enumerate(desk.world.certificates):
        (deep / f"{index}.txt").write_bytes(der)
    os.mkfifo(deep / "pipe")
    words = ["--root", desk.root, "--at", AT, "--json"]
    assert desk.run("verify", desk.report, "--collateral", desk.folder / "deep", *words).code == 0
    files = [word for index in range(3) for word in ("--collateral", deep / f"{index}.txt")]
    assert desk.run("verify", desk.report, *files, *words).code == 0


def test_show_says_first_that_nothing_was_verified(desk: Desk) -> None:
    done = desk.run("show", desk.put("extended", desk.world.extended))
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("NOT VERIFIED")
    assert "11" * 48 in done.out
    assert "SEV-VCEK" in done.out


def test_show_as_json_says_verified_false(desk: Desk) -> None:
    done = desk.run("show", desk.report, "--json")
    assert (done.json["schema"], done.json["verified"], done.json["kind"]) == (
        "attest.evidence.show/1",
        False,
        "snp-report",
    )
    assert done.json["report"]["reported_tcb"]["microcode"] == 84


def test_show_of_nonsense_ends_with_5(desk: Desk) -> None:
    assert desk.run("show", desk.put("odd", b"\x1b[31mred")).code == 5
    assert desk.run("show", desk.put("odd", b"nonsense"), "--json").code == 5


def test_real_files_end_as_the_contract_says(vectors: Path, desk: Desk) -> None:
    snp, words = vectors / "snp", ["--json", "--at", "2026-09-01T00:00:00Z"]
    library = ["--collateral", snp / "anchors", "--collateral", snp / "certs", "--collateral", snp / "crls", *words]
    for name, code, outcome in (
        ("reports/milan_v3_vcek_05b7438a.bin", 0, "genuine"), ("reports/turin_v5_vcek_3f44a09b.bin", 0, "genuine"),
        ("reports/genoa_v3_vcek_8d8bfb3e_nocert.bin", 8, "unavailable"), ("forged/milan_report.bin", 6, "failed"),
        ("reports/unknown_v1_vcek_13038f22_nocert.bin", 5, "malformed"), ("extended/aws_milan_v5_13211b50.bin", 0, "genuine"),
        ("extended/gcp_milan_v5_1789dec7.bin", 0, "genuine"), ("hcl/azure_milan_v3_05b7438a.bin", 0, "genuine"),
        ("evidence/azure_vtpm_evidence-v1.json", 0, "genuine"),
    ):  # fmt: skip
        more = ["--collateral", snp / "forged"] if "forged" in name else []
        done = desk.run("verify", snp / name, *more, *library)
        assert (done.code, done.json["outcome"]) == (code, outcome), (name, done.json["message"])
    alone = desk.run("verify", snp / "extended/gcp_milan_v5_1789dec7.bin", *words)
    assert alone.code == 0
