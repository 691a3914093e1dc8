"""``attest collateral`` and ``attest evidence verify --online`` against a service on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from tests.fakes.amd_pki import CHIP, Ca, FakeAmdPki, Leaf
from tests.fakes.kds import FakeKds, Reply

# The program reads the real clock; its lists must be current whenever this runs.
ALWAYS = {"this_update": datetime(2026, 5, 1, tzinfo=UTC), "next_update": datetime(2090, 1, 1, tzinfo=UTC)}
LONG = datetime(2090, 1, 1, tzinfo=UTC)
PKI = FakeAmdPki(ark=Ca(not_after=LONG), ask=Ca(not_after=LONG), leaf=Leaf(not_after=LONG))
EMPTY_REPORT = PKI.raw


class Desk:
    """A folder with a report, the root and a cache, and a service."""

    def __init__(self, folder: Path, kds: FakeKds, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.kds, self.capsys = folder, kds, capsys
        self.report, self.root, self.cache = folder / "report.bin", folder / "root.der", folder / "cache"
        self.report.write_bytes(kds.pki.raw)
        self.root.write_bytes(kds.pki.ark_der)
        self.err = ""

    def run(self, *words: object, cache: Path | None = None, online: bool = False) -> tuple[int, Any]:
        """Exit code and JSON."""
        more = ["--root", self.root, "--cache", cache or self.cache, "--json"]
        url = ["--kds-url", self.kds.url] if online or words[1] == "fetch" else []
        code = main([str(word) for word in (*words, *more, *url)])
        done = self.capsys.readouterr()
        self.err = done.err
        return code, json.loads(done.out) if done.out else None

    def verify(self, *words: object) -> tuple[int, Any]:
        """``evidence verify --online``."""
        return self.run("evidence", "verify", self.report, "--online", *words, online=True)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    with FakeKds(PKI) as kds:
        kds.crl = lambda: PKI.crl(**ALWAYS)
        yield Desk(tmp_path, kds, capsys)


def test_fetch_for_a_report_then_status_bundle_and_import_elsewhere(desk: Desk) -> None:
    code, done = desk.run("collateral", "fetch", desk.report)
    assert code == 0
    assert [(item["kind"], item["outcome"], item["state"]) for item in done["items"]] == [
        ("chain", "fetched", "good"),
        ("vcek", "fetched", "good"),
        ("crl", "fetched", "good"),
    ]
    code, again = desk.run("collateral", "fetch", desk.report)
    assert (code, {item["outcome"] for item in again["items"]}) == (0, {"cached"})
    code, status = desk.run("collateral", "status")
    assert (code, status["schema"], len(status["items"]), status["failures"]) == (
        0,
        "attest.collateral.status/1",
        3,
        [],
    )
    leaf = next(item for item in status["items"] if item["kind"] == "vcek")
    assert leaf["chip_id"] == CHIP.hex()
    assert leaf["tcb"] == {"bootloader": 10, "tee": 0, "snp": 24, "microcode": 84}
    assert leaf["expires"].startswith("2090")
    code, bundled = desk.run("collateral", "bundle", "-o", desk.folder / "b.json")
    assert (code, len(bundled["items"])) == (0, 3)
    code, stored = desk.run("collateral", "import", desk.folder / "b.json", cache=desk.folder / "other")
    assert (code, {item["outcome"] for item in stored["items"]}) == (0, {"stored"})
    desk.kds.asked.clear()
    code, elsewhere = desk.run("collateral", "status", cache=desk.folder / "other")
    assert [item["sha256"] for item in elsewhere["items"]] == [item["sha256"] for item in status["items"]]
    assert desk.kds.asked == []


def test_text_forms_say_the_same(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--root", str(desk.root), "--cache", str(desk.cache)]
    assert main(["collateral", "fetch", str(desk.report), "--kds-url", desk.kds.url, *common]) == 0
    assert main(["collateral", "status", *common]) == 0
    assert main(["collateral", "bundle", "-o", str(desk.folder / "b"), *common]) == 0
    assert main(["collateral", "import", str(desk.folder / "b"), *common]) == 0
    out = capsys.readouterr().out
    for words in ("fetched  vcek-Genoa", "Genoa VCEK CRL", "2090-01-01", "3 items", "kept"):
        assert words in out


@pytest.mark.parametrize("tcb", ["0a00000000001854", "10.0.24.84"])
def test_fetch_for_a_chip_by_id_and_tcb(desk: Desk, tcb: str) -> None:
    code, done = desk.run("collateral", "fetch", "--product", "Genoa", "--chip", CHIP.hex(), "--tcb", tcb)
    assert (code, len(done["items"])) == (0, 3)
    assert desk.kds.leaf.path in desk.kds.asked


def test_a_product_alone_means_its_chains_and_lists(desk: Desk) -> None:
    code, done = desk.run("collateral", "fetch", "--product", "Genoa", "--wait", "3")
    assert {item["name"] for item in done["items"] if item["outcome"] == "fetched"} == {
        "chain-vcek-Genoa", "crl-vcek-Genoa",
    }  # fmt: skip
    assert code == 8  # this service has nothing about clouds' keys


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--chip", "00"],
        ["--product", "Genoa", "--chip", "00"],
        ["--product", "Genoa", "--chip", CHIP.hex(), "--tcb", "1.2.3"],
        ["--product", "Genoa", "--chip", CHIP.hex(), "--tcb", "zz"],
        ["--product", "Genoa", "--chip", CHIP.hex(), "--tcb", "1.2.3.999"],
        ["--product", "Turin", "--chip", CHIP.hex()[:16], "--tcb", "1.2.3.4"],
        ["--product", "Genoa", "--kds-url", "ftp://x"],
    ],
)
def test_options_that_do_not_fit_together_are_a_mistake_of_the_caller(
    desk: Desk, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collateral", "fetch", *words, "--cache", str(desk.cache)]) == 3
    assert "want" in capsys.readouterr().err
    assert desk.kds.asked == []


def test_a_masked_chip_id_is_not_asked_for(desk: Desk) -> None:
    code, _ = desk.run("collateral", "fetch", "--product", "Genoa", "--chip", "00" * 64, "--tcb", "10.0.24.84")
    assert code == 5
    assert "masked" in desk.err


def test_an_outage_is_8_and_remembered_in_status(desk: Desk) -> None:
    desk.kds.always = Reply(status=404, body=b"")
    code, done = desk.run("collateral", "fetch", desk.report, "--wait", "3")
    assert (code, done["items"][0]["outcome"], done["items"][0]["code"]) == (8, "failed", "collateral.not-found")
    assert done["items"][0]["state"] == "missing"
    _, status = desk.run("collateral", "status")
    assert status["failures"][0]["name"] == "chain-vcek-Genoa"


def test_a_bundle_of_another_chip_maker_is_refused_with_6(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.run("collateral", "fetch", desk.report)
    desk.run("collateral", "bundle", "-o", desk.folder / "b.json")
    code = main(["collateral", "import", str(desk.folder / "b.json"), "--cache", str(desk.folder / "other")])
    assert code == 6
    assert "no test root names it" in capsys.readouterr().err


def test_a_file_that_is_no_bundle_is_5(desk: Desk) -> None:
    assert desk.run("collateral", "import", desk.report)[0] == 5


def test_the_settings_name_cache_and_service(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    policy = Path(__file__).parents[4] / "policy/documents/strict.toml"
    assert main(["init", str(desk.folder / "svc"), "--policy", str(policy)]) == 0
    settings = desk.folder / "svc" / "attest.toml"
    text = settings.read_text().replace('# kds_url = "https://kds-mirror.example"', f'kds_url = "{desk.kds.url}"')
    settings.write_text(text)
    assert "online = true" in text
    words = ["--config", str(settings), "--root", str(desk.root)]
    assert main(["collateral", "fetch", str(desk.report), *words]) == 0
    assert (desk.folder / "svc" / "collateral-cache" / "items" / "crl-vcek-Genoa").is_file()


def test_online_fetches_certificate_chain_and_list(desk: Desk) -> None:
    code, result = desk.verify("--require-crl")
    assert (code, result["outcome"], result["revocation"]) == (0, "genuine", "good"), result
    assert len(desk.kds.asked) == 3
    assert desk.verify()[0] == 0
    assert len(desk.kds.asked) == 3  # everything is cached now


def test_without_online_nothing_is_asked_and_the_certificate_is_missing(desk: Desk) -> None:
    code, result = desk.run("evidence", "verify", desk.report)
    assert (code, result["code"]) == (8, "endorsement.missing")
    assert desk.kds.asked == []


def test_online_explains_a_404(desk: Desk) -> None:
    desk.report.write_bytes(PKI.with_(report={"reported_tcb": bytes(8)}).raw)
    code, result = desk.verify()
    assert (code, result["outcome"], result["code"]) == (8, "unavailable", "collateral.not-found")
    assert "bootloader=0 tee=0 snp=0 microcode=0" in result["message"]


def test_online_without_a_list_is_genuine_unless_the_list_is_required(desk: Desk) -> None:
    desk.kds.crl = lambda: PKI.crl(signer="mallory")
    code, result = desk.verify()
    assert (code, result["revocation"]) == (0, "not-checked")
    assert "not signed" in desk.err
    assert desk.verify("--require-crl")[0] == 8


def test_online_a_revoked_chain_fails_with_6(desk: Desk) -> None:
    from attest.evidence.amd_certificate import AmdCertificate

    serial = AmdCertificate.parse(PKI.ask_der).parsed.serial_number
    desk.kds.crl = lambda: PKI.crl(revoked=[serial], **ALWAYS)
    code, result = desk.verify()
    assert (code, result["outcome"], result["revocation"]) == (6, "failed", "revoked")


def test_online_rescues_a_report_sent_with_the_certificate_of_another_tcb(desk: Desk) -> None:
    from policy.snp import TcbVersion

    old = FakeAmdPki(leaf=Leaf(tcb=TcbVersion(9, 0, 23, 72), not_after=LONG), ark=PKI.ark, ask=PKI.ask)
    desk.report.write_bytes(PKI.raw + old.extended[len(old.raw) :])
    assert desk.run("evidence", "verify", desk.report)[0] == 6
    assert desk.verify()[0] == 0


def test_a_report_that_does_not_name_its_product_is_tried_as_milan_and_then_as_genoa(desk: Desk) -> None:
    desk.report.write_bytes(PKI.with_(report={"version": 2, "cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}).raw)
    # Milan's chain is asked for first, and is not there; its VCEK would take a turn of ten seconds.
    code, done = desk.run("collateral", "fetch", desk.report)
    assert code == 0
    assert {item["product"] for item in done["items"]} == {"Genoa"}
    assert desk.kds.asked[0].startswith("/vcek/v1/Milan/")
    code, result = desk.verify()
    assert (code, result["claims"]["product"]) == (0, "Genoa")
