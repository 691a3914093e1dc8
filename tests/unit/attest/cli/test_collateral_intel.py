"""``attest collateral`` for Intel's things, against a service on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from attest.emulator.td_pki import Validity, pem_chain
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.intel_pki import FMSPC, LIFE, FakeIntelPki, stamp
from tests.fakes.kds import Reply
from tests.fakes.pcs import FakePcs

# The program reads the real clock: what it is given must be current whenever this runs.
TODAY = datetime.now(UTC).replace(microsecond=0)
MONTH = Validity(TODAY - timedelta(days=2), TODAY + timedelta(days=28))
DATES = {"issueDate": stamp(MONTH.start), "nextUpdate": stamp(MONTH.end)}
LISTS = {name: {"validity": MONTH} for name in ("ROOT", "PLATFORM_CA", "PROCESSOR_CA")}
LONG = {
    name: {"validity": Validity(LIFE.start, TODAY + timedelta(days=3650))}
    for name in ("ROOT", "PLATFORM_CA", "PROCESSOR_CA", "PCK", "TCB_SIGNING")
}
WORLD = FakeIntelPki(tcb_info=DATES, qe_identity=DATES, crls=LISTS, certificates=LONG)
PLATFORM = ("--fmspc", FMSPC.hex(), "--ca", "platform")
NAMES = [f"tcb-tdx-{FMSPC.hex()}-standard", "qe-tdx-standard", "pckcrl-platform", "rootcrl-intel"]


class Desk:
    """A folder with a quote, the root and a cache, and a service."""

    def __init__(self, folder: Path, pcs: FakePcs, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.pcs, self.capsys = folder, pcs, capsys
        self.quote, self.root, self.cache = folder / "quote.bin", folder / "root.der", folder / "cache"
        self.quote.write_bytes(WORLD.raw)
        self.root.write_bytes(WORLD.root_der)
        self.err = ""

    def say(self, *words: object, cache: Path | None = None) -> tuple[int, str]:
        """Exit code and output."""
        url = ["--intel-url", self.pcs.url] if words[0] == "fetch" else []
        more = ["--root", self.root, "--cache", cache or self.cache, *url]
        code = main([str(word) for word in ("collateral", *words, *more)])
        done = self.capsys.readouterr()
        self.err = done.err
        return code, done.out

    def run(self, *words: object, cache: Path | None = None) -> tuple[int, Any]:
        """Exit code and JSON."""
        code, out = self.say(*words, "--json", cache=cache)
        return code, json.loads(out) if out else None


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    with FakePcs(WORLD) as pcs:
        yield Desk(tmp_path, pcs, capsys)


@pytest.mark.parametrize("by_quote", [True, False])
def test_fetch_then_status_bundle_and_import_elsewhere(desk: Desk, by_quote: bool) -> None:
    what = (desk.quote,) if by_quote else PLATFORM
    code, done = desk.run("fetch", *what)
    assert code == 0, desk.err
    assert [(item["name"], item["outcome"], item["state"]) for item in done["items"]] == [
        (name, "fetched", "good") for name in NAMES
    ]
    assert {item["outcome"] for item in desk.run("fetch", *what)[1]["items"]} == {"cached"}
    code, status = desk.run("status")
    assert (code, status["schema"], len(status["items"])) == (0, "attest.collateral.status/1", 4)
    info = next(item for item in status["items"] if item["kind"] == "tcb")
    assert (info["tee"], info["fmspc"], info["channel"], info["number"]) == ("tdx", FMSPC.hex(), "standard", 20)
    assert (info["expires"], info["warning_days"], info["ca"]) == (stamp(MONTH.end), None, None)
    assert info["root"].startswith("test:")
    bundle = desk.folder / "b.json"
    assert len(desk.run("bundle", "-o", bundle)[1]["items"]) == 4
    other = desk.folder / "other"
    assert {item["outcome"] for item in desk.run("import", bundle, cache=other)[1]["items"]} == {"stored"}
    assert {item["outcome"] for item in desk.run("import", bundle, cache=other)[1]["items"]} == {"kept"}
    assert len(desk.run("status", cache=other)[1]["items"]) == 4
    assert desk.run("bundle", "-o", desk.folder / "again.json", cache=other)[0] == 0
    assert (desk.folder / "again.json").read_bytes() == bundle.read_bytes()


def test_a_bundle_verifies_a_quote_without_a_network(desk: Desk) -> None:
    desk.run("fetch", *PLATFORM)
    desk.run("bundle", "-o", desk.folder / "b.json")
    code = main(
        [
            "evidence",
            "verify",
            str(desk.quote),
            "--collateral",
            str(desk.folder / "b.json"),
            "--root",
            str(desk.root),
            "--json",
        ]
    )
    result = json.loads(desk.capsys.readouterr().out)
    assert (code, result["outcome"], result["revocation"]) == (0, "genuine", "good")


def test_a_forged_item_of_a_bundle_stores_nothing(desk: Desk) -> None:
    desk.run("fetch", *PLATFORM)
    desk.run("bundle", "-o", desk.folder / "b.json")
    strange = FakeIntelPki(certificates={"ROOT": {"key": "stranger"}})
    (desk.folder / "root.der").write_bytes(strange.root_der)
    code, _ = desk.run("import", desk.folder / "b.json", cache=desk.folder / "other")
    assert code != 0
    assert not (desk.folder / "other" / "items").exists()


def test_collateral_as_libraries_keep_it_can_be_imported(desk: Desk) -> None:
    chain = pem_chain(*WORLD.issuer_chain).rstrip(b"\0").decode()
    pck = pem_chain(WORLD.issued("PLATFORM_CA").der, WORLD.root_der).rstrip(b"\0").decode()
    info, identity = WORLD.collateral.tcb_infos[0], WORLD.collateral.qe_identities[0]
    file = desk.folder / "collateral.json"
    file.write_text(json.dumps({
        "tcb_info_issuer_chain": chain, "tcb_info": info.signed.decode(), "tcb_info_signature": info.signature.hex(),
        "qe_identity": identity.signed.decode(), "qe_identity_signature": identity.signature.hex(),
        "pck_crl_issuer_chain": pck, "root_ca_crl": WORLD.crl("ROOT").hex(), "pck_crl": WORLD.crl("PLATFORM_CA").hex(),
    }))  # fmt: skip
    code, done = desk.run("import", file)
    assert code == 0, desk.err
    assert sorted(item["name"] for item in done["items"]) == sorted(NAMES)


def test_an_older_bundle_does_not_replace_what_is_there(desk: Desk) -> None:
    desk.run("fetch", *PLATFORM)
    desk.run("bundle", "-o", desk.folder / "old.json")
    desk.pcs.world = WORLD.with_(tcb_info={**DATES, "tcbEvaluationDataNumber": 21})
    assert desk.run("fetch", *PLATFORM, "--refresh")[1]["items"][0]["number"] == 21
    (desk.cache / "items" / NAMES[0]).unlink()
    outcomes = {item["name"]: item["outcome"] for item in desk.run("import", desk.folder / "old.json")[1]["items"]}
    assert outcomes[NAMES[0]] == "kept"
    assert all(item["name"] != NAMES[0] for item in desk.run("status")[1]["items"])


@pytest.mark.parametrize(
    ("days", "state", "warning"), [(0.5, "expires-soon", 1), (6, "expires-soon", 7), (20, "good", None)]
)
def test_status_warns_before_things_end(desk: Desk, days: float, state: str, warning: int | None) -> None:
    end = {"issueDate": stamp(MONTH.start), "nextUpdate": stamp(TODAY + timedelta(days=days))}
    desk.pcs.world = WORLD.with_(qe_identity=end)
    desk.run("fetch", *PLATFORM)
    item = next(item for item in desk.run("status")[1]["items"] if item["kind"] == "qe")
    assert (item["state"], item["warning_days"]) == (state, warning)
    code, text = desk.say("status")
    assert code == 0
    assert ("warning: TDX QE identity" in text) is (warning is not None)
    assert "TDX QE identity, number 20" in text


def test_a_year_long_list_is_warned_about_a_month_before(desk: Desk) -> None:
    year = Validity(TODAY - timedelta(days=340), TODAY + timedelta(days=25))
    desk.pcs.world = WORLD.with_(crls={**LISTS, "ROOT": {"validity": year}})
    desk.run("fetch", *PLATFORM)
    item = next(item for item in desk.run("status")[1]["items"] if item["kind"] == "rootcrl")
    assert (item["state"], item["warning_days"]) == ("expires-soon", 30)


def test_a_channel_is_asked_for_and_kept_beside_the_standard_one(desk: Desk) -> None:
    desk.run("fetch", *PLATFORM)
    code, done = desk.run("fetch", *PLATFORM, "--update", "early")
    assert (code, done["items"][0]["name"]) == (0, f"tcb-tdx-{FMSPC.hex()}-early")
    assert any("update=early" in path for path in desk.pcs.asked)


def test_a_failure_is_said_with_its_code_and_exit_code(desk: Desk) -> None:
    desk.pcs.always = Reply(status=410)
    code, done = desk.run("fetch", *PLATFORM, "--update", "3")
    assert code != 0
    assert (done["items"][0]["outcome"], done["items"][0]["code"]) == ("failed", "collateral.gone")
    status = desk.run("status")[1]
    assert status["items"] == []
    assert {failure["code"] for failure in status["failures"]} == {"collateral.gone"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fmspc", FMSPC.hex()), "--ca platform"), (("--ca", "platform"), "belong to --fmspc"),
        ((*PLATFORM, "--product", "Genoa"), "are AMD's"), (("--fmspc", "00", "--ca", "platform"), "want 6"),
        ((*PLATFORM, "--update", "late"), "evaluation data number"),
    ],
)  # fmt: skip
def test_a_wrong_combination_is_explained(desk: Desk, words: tuple[str, ...], message: str) -> None:
    code, _ = desk.say("fetch", *words)
    assert code != 0
    assert message in desk.err
    assert desk.pcs.asked == []


def test_a_quote_of_a_stranger_is_not_fetched_for(desk: Desk) -> None:
    desk.quote.write_bytes(FakeIntelPki(certificates={"ROOT": {"key": "stranger"}}).raw)
    code, _ = desk.say("fetch", desk.quote)
    assert code != 0
    assert "do not lead to a trusted root" in desk.err
    assert desk.pcs.asked == []


def test_a_quote_with_the_options_of_a_platform_is_refused(desk: Desk) -> None:
    assert desk.say("fetch", desk.quote, *PLATFORM)[0] != 0
    assert "not both" in desk.err


def test_amds_and_intels_things_share_a_cache(desk: Desk) -> None:
    desk.run("fetch", *PLATFORM)
    amd = FakeAmdPki()
    ark, chip = desk.folder / "ark.der", desk.folder / "chip.bin"
    ark.write_bytes(amd.ark_der)
    chip.write_bytes(amd.leaf_der + amd.ask_der + amd.ark_der)
    assert desk.run("import", chip, "--root", ark)[0] == 0, desk.err
    items = desk.run("status", "--root", ark)[1]["items"]
    assert {item["kind"] for item in items} == {"chain", "vcek", "tcb", "qe", "pckcrl", "rootcrl"}
    desk.run("bundle", "-o", desk.folder / "b.json", "--root", ark)
    done = desk.run("import", desk.folder / "b.json", "--root", ark, cache=desk.folder / "other")[1]
    assert {item["outcome"] for item in done["items"]} == {"stored"}
    assert len(done["items"]) == 6


def verify(desk: Desk, *words: object, online: bool = True) -> tuple[int, Any]:
    more = ["--online", "--cache", desk.cache, "--intel-url", desk.pcs.url] if online else []
    code = main(
        [str(word) for word in ("evidence", "verify", desk.quote, "--root", desk.root, "--json", *more, *words)]
    )
    done = desk.capsys.readouterr()
    desk.err = done.err
    return code, json.loads(done.out)


def test_verify_online_fetches_what_a_quote_needs(desk: Desk) -> None:
    code, result = verify(desk)
    assert (code, result["outcome"], result["revocation"]) == (0, "genuine", "good"), desk.err
    assert len(desk.pcs.asked) == 4
    assert verify(desk)[0] == 0
    assert len(desk.pcs.asked) == 4
    assert verify(desk, online=False)[0] == 8


def test_a_quote_with_its_leaf_alone_is_verified_with_a_chain_at_hand(desk: Desk) -> None:
    leaf = {"certification_type": 4, "certification": pem_chain(WORLD.chain[0])}
    desk.quote.write_bytes(WORLD.with_(quote=leaf).raw)
    code, result = verify(desk)
    assert (code, result["code"]) == (8, "endorsement.missing")
    assert desk.pcs.asked == []
    (desk.folder / "chain.pem").write_bytes(pem_chain(*WORLD.chain))
    code, result = verify(desk, "--collateral", desk.folder / "chain.pem")
    assert (code, result["outcome"], result["revocation"]) == (0, "genuine", "good"), desk.err
    assert len(desk.pcs.asked) == 4


def test_verify_online_says_why_nothing_could_be_had(desk: Desk) -> None:
    desk.pcs.always = Reply(status=404)
    code, result = verify(desk)
    assert (code, result["code"]) == (8, "collateral.not-found")


def test_verify_online_does_without_a_list_where_only_that_is_missing(desk: Desk) -> None:
    assert verify(desk)[0] == 0
    (desk.cache / "items" / "rootcrl-intel").unlink()
    desk.pcs.always = Reply(status=404)
    code, result = verify(desk)
    assert (code, result["revocation"]) == (0, "not-checked")
    assert "Intel root CRL" in desk.err
