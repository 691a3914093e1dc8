"""Appraisal of quotes: for every rule a genuine quote and a policy in which only that rule refuses it.

Not here: ``tdx.extended.unknown`` (the parser of this release knows every field of the extended body) and the lines
``tcb.platform``, ``tcb.module`` and ``tcb.qe``, which inform and never refuse; ``sgx.tcb.running``, because an enclave has
no module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from attest.evidence import event_types as ev
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import replay_rtmrs
from policy.initdata import rtmr3_after
from policy.tdx_rules import EXTENDED_FIELDS
from tests.fakes.eventlogs import IMAGE_SECURITY, direct_boot, event, named_certificate, variable
from tests.fakes.intel_pki import SGX, TEE_TCB_SVN, FakeIntelPki, QuoteInputs, level, module

Lines = tuple[tuple[str, str], ...]
_STRICT = (Path(__file__).resolve().parents[3] / "policy" / "documents" / "strict.toml").read_text()
_HEAD = _STRICT.partition("\n[snp]\n")[0]
_TD, _SGX = _STRICT.partition("\n[tdx]\n")[2].split("\n[sgx]\n")
CD = "cd" * 48
KEPT = 1 << 28
NOT_EXPORTED = {"tdx.extended.unknown", "sgx.tcb.running"} | {
    f"{kind}.tcb.{part}" for kind in ("tdx", "sgx") for part in ("platform", "module", "qe")
}
_SIGNER = b"\x01" * 48


@dataclass(frozen=True)
class QuoteRuleCase:
    """``lines`` of the policy are replaced, ``world`` differs from the good one; ``rules`` must be all that fail."""

    rules: tuple[str, ...]
    lines: Lines = ()
    world: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "denied"
    events: tuple[NewEvent, ...] | None = None

    @property
    def is_td(self) -> bool:
        """About [tdx], not [sgx]."""
        return self.world.get("layout") != "sgx"

    def inputs(self) -> QuoteInputs:
        """A genuine quote, its collateral and its event log."""
        if self.events is None:
            return FakeIntelPki(**self.world).inputs()
        log = parse_event_log(build_event_log(self.events), CCEL)
        values = replay_rtmrs(log)
        registers = {f"rtmr{index}": values[index] for index in range(3)}
        return FakeIntelPki(**{**self.world, "td": registers}).inputs(event_log=log)

    def policy(self, root: str) -> str:
        """The strict policy's tables for this kind of quote, with its root and measurements, and the case's lines."""
        if self.is_td:
            text = f"{_HEAD}\n[tdx]\n{_TD}\n"
            base: Lines = (('accept = "registered" ', f'accept = "listed"\nlaunch_digests = ["{"11" * 48}"] '),)
            base += tuple((f'rtmr{n} = "registered"', f'rtmr{n} = ["a{n}{f"a{n}" * 47}"]') for n in range(3))
        else:
            text = f"{_HEAD.partition('[measurement]')[0]}\n[sgx]\n{_SGX}\n"
            base = (("mrenclaves = []", f'mrenclaves = ["{"33" * 32}"]'),)
        for old, new in (('roots = ["amd", "intel"] ', f'roots = ["{root}"] '), *base, *self.lines):
            if old not in text:
                raise ValueError(f"{self.rules}: the policy has no {old!r}")
            text = text.replace(old, new, 1)
        return text


def _td(**fields: int | bytes) -> dict[str, Any]:
    return {"td": fields}


def _newer(**fields: int | bytes) -> dict[str, Any]:
    return {"version": 5, "layout": "1.5", "td": fields}


def _machine(**fields: Any) -> dict[str, Any]:
    return {"sgx": fields}


def _td_rule(name: str, lines: Lines = (), world: Mapping[str, Any] | None = None) -> QuoteRuleCase:
    return QuoteRuleCase((f"tdx.{name}",), lines, world or {})


def _key(key: str, old: str, new: str) -> Lines:
    return ((f"\n{key} = {old}", f"\n{key} = {new}"),)


def _attribute(key: str, bit: int, old: str = "forbid") -> QuoteRuleCase:
    lines = () if old == "forbid" else _key(key, f'"{old}"', '"forbid"')
    return _td_rule(f"attributes.{key.replace('_', '-')}", lines, _td(td_attributes=KEPT | 1 << bit))


def _td_cases() -> list[QuoteRuleCase]:
    return [
        QuoteRuleCase(("trust.root",), (('roots = ["test:', 'roots = ["intel"] # ["test:'),)),
        _td_rule("quote-version", _key("quote_versions", "[4, 5]", "[5]")),
        _td_rule("body", _key("bodies", '["1.0", "1.5"]', '["1.5"]')),
        _td_rule("mrseam", _key("mrseam", '"any"', f'["{CD}"]')),
        _td_rule("mrsignerseam", world={"td": {"mrsignerseam": _SIGNER}, "modules": (module(mrsigner=_SIGNER.hex()),)}),
        _td_rule("seamattributes", _key("seamattributes", '"0x0/0xffffffffffffffff"', '"0x1/0x1"')),
        _td_rule("tee-tcb-svn", _key("tee_tcb_svn_min", '"any"', f'["0601{"00" * 14}"]')),
        _td_rule("tee-tcb-svn2", _key("tee_tcb_svn2_min", '"any"', f'["0601{"00" * 14}"]'), _newer()),
        _td_rule("attributes", _key("attributes", '"any"', '"0x50000000/0x50000000"')),
        _attribute("debug", 0), _attribute("servtd_ext", 17), _attribute("tpa", 62), _attribute("perfmon", 63),
        *(_attribute(key, bit, "ignore") for key, bit in (("icssd", 16), ("lass", 27), ("pks", 30), ("kl", 31))),
        _td_rule("attributes.sept-ve-disable", world=_td(td_attributes=0)),
        _td_rule("attributes.migratable", world=_newer(td_attributes=KEPT | 1 << 29)),
        _td_rule("attributes.untrusted", world=_td(td_attributes=KEPT | 2)),
        _td_rule("attributes.undefined", world=_td(td_attributes=KEPT | 1 << 40)),
        _td_rule("xfam", world=_td(xfam=0x600E7 | 1 << 10)),
        _td_rule("xfam-required", world=_td(xfam=1)),
        _td_rule("mrservicetd", world=_newer(mrservicetd=b"\1" * 48)),
        *(_td_rule(name, world=_td(**{name: b"\1" * 48})) for name in ("mrconfigid", "mrowner", "mrownerconfig")),
        *(_td_rule(f"rtmr{n}", world=_td(**{f"rtmr{n}": b"\1" * 48})) for n in range(4)),
        # Extended by other init-data than MRCONFIGID is bound to.
        _td_rule("rtmr3", _key("rtmr3", '"zero"', '"init-data"'), _td(rtmr3=rtmr3_after(b"\2" * 48))),
        _td_rule("report-data", _key("report_data", '"ignore"', f'"{"cd" * 64}"')),
        QuoteRuleCase(("measurement",), world=_td(mrtd=b"\2" * 48)),
        _td_rule("tcb.running", world=_newer(tee_tcb_svn2=bytes([2, *TEE_TCB_SVN[1:]]))),
        *(_extended(name, size) for name, size in EXTENDED_FIELDS.items()),
    ]  # fmt: skip


def _extended(name: str, size: int) -> QuoteRuleCase:
    """All fields of the quote are zero; one is wanted otherwise."""
    wanted = "\n".join(
        f'{other} = ["{"cd" * size}"]' if other == name else f'{other} = "zero"' for other in EXTENDED_FIELDS
    )
    lines = (
        ('bodies = ["1.0", "1.5"]', 'bodies = ["1.5-extended"]'),
        ("\n[tdx.platform]", f"\n[tdx.extended]\n{wanted}\n\n[tdx.platform]"),
    )
    return _td_rule(f"extended.{name.replace('_', '-')}", lines, {"version": 5, "layout": "1.5-extended"})


def _common_cases(kind: str, base: Mapping[str, Any], accepted_ca: Lines) -> list[QuoteRuleCase]:
    """The rules that [tdx] and [sgx] have in common."""
    td = kind == "tdx"

    def on(name: str, lines: Lines = (), **world: Any) -> QuoteRuleCase:
        return QuoteRuleCase((f"{kind}.{name}",), lines, {**base, **world})

    late = {"levels": (level("SWHardeningNeeded", ("INTEL-SA-00001",), td=td),)}
    return [
        on("tcb.status", levels=(level("OutOfDate", td=td),)),
        on("tcb.advisories", _key("SWHardeningNeeded", '"refuse"', '"accept"'), **late),
        on("tcb.evaluation-number", tcb_info={"tcbEvaluationDataNumber": 18}, qe_identity={"tcbEvaluationDataNumber": 18}),
        on("tcb.equal-evaluation-numbers", qe_identity={"tcbEvaluationDataNumber": 21}),
        on("tcb.tcb-date", _key("tcb_date_min", '"any"', '"2025-05-15"')),
        on("tcb.qe-isvsvn", _key("qe_isvsvn_min", "0", "9")),
        on("tcb.collateral-expiry", _key("collateral_margin_hours", "0", "1000")),
        on("tcb.collateral-age", _key("collateral_max_age_days", '"any"', "1")),
        replace(on("revocation", crls={"ROOT": {"absent": True}}), outcome="unavailable"),
        on("platform.fmspc", _key("fmspcs", '"any"', '["b0c06f000000"]')),
        on("platform.fmspc", _key("denied_fmspcs", "[]", f'["{SGX.fmspc.hex()}"]')),
        on("platform.ppid", _key("ppids", '"any"', f'["{"cd" * 16}"]')),
        on("platform.ppid", _key("denied_ppids", "[]", f'["{SGX.ppid.hex()}"]')),
        on("platform.piid", _key("piids", '"any"', f'["{"cd" * 16}"]')),
        on("platform.piid", _key("denied_piids", "[]", f'["{bytes(range(16, 32)).hex()}"]')),
        on("platform.pceid", sgx={"pceid": b"\0\1"}, tcb_info={"pceId": "0001"}),
        on("platform.ca", accepted_ca, ca="PROCESSOR_CA"),
        on("platform.sgx-type", _key("sgx_types", _SGX_TYPES[kind], '["scalable-with-integrity"]')),
        on("platform.dynamic-platform", _key("dynamic_platform", '"ignore"', '"forbid"')),
        on("platform.cached-keys", _key("cached_keys", '"ignore"', '"forbid"'), sgx={"cached_keys": True}),
        on("platform.smt-enabled", _key("smt_enabled", '"ignore"', '"forbid"')),
        on("platform.components", _key("components_min", '"any"', f'"08{"00" * 15}"')),
        on("platform.pcesvn", _key("pcesvn_min", "0", "14")),
    ]  # fmt: skip


_SGX_TYPES = {
    "tdx": '["scalable", "scalable-with-integrity"]',
    "sgx": '["standard", "scalable", "scalable-with-integrity"]',
}


def _sgx_cases() -> list[QuoteRuleCase]:
    base: dict[str, Any] = {"version": 3, "layout": "sgx"}

    def on(name: str, lines: Lines = (), **fields: int | bytes) -> QuoteRuleCase:
        return QuoteRuleCase((f"sgx.{name}",), lines, {**base, "enclave": fields})

    return [
        QuoteRuleCase(("trust.root",), (('roots = ["test:', 'roots = ["intel"] # ["test:'),), base),
        on("quote-version", _key("quote_versions", "[3, 4, 5]", "[4, 5]")),
        on("identity", mrenclave=bytes(32)),
        on("attributes.debug", attributes=7),
        on("attributes.provision-key", attributes=0x15),
        on("attributes", _key("attributes", '"any"', '"0x44/0x44"')),
        on("xfrm", xfrm=0xE7 | 1 << 16),
        on("xfrm-required", xfrm=1),
        on("miscselect", _key("miscselect", '"any"', '"0x1/0xffffffff"')),
        on("configid", configid=b"\1" * 64),
        on("configsvn", _key("configsvn_min", "0", "2")),
        on("isvextprodid", _key("isvextprodid", '"any"', f'["{"cd" * 16}"]')),
        on("isvfamilyid", _key("isvfamilyid", '"any"', f'["{"cd" * 16}"]')),
        on("report-data", _key("report_data", '"ignore"', f'"{"cd" * 64}"')),
        *_common_cases("sgx", base, _key("cas", '["platform", "processor"]', '["platform"]')),
    ]


_OPEN = {
    "log": '"require"', "unexplained_events": '"ignore"', "unlisted_events": '"ignore"', "known_digests": "[]",
    "boot_applications": '"any"', "kernel_digests": '"any"', "cmdlines": '"any"', "cmdline_required": "[]",
    "cmdline_forbidden": "[]", "initrd_digests": '"any"', "secure_boot": '"ignore"', "authorities": '"any"',
    "pk_digests": '"any"', "kek_digests": '"any"', "db_digests": '"any"', "dbx_digests": '"any"',
}  # fmt: skip
_LOG_RULES = (
    "log", "unexplained-events", "unlisted-events", "kernel", "cmdline", "initrd", "secure-boot", "authorities", "pk",
    "kek", "db", "dbx",
)  # fmt: skip


def _log_case(
    rules: tuple[str, ...], keys: Mapping[str, str], more: tuple[NewEvent, ...] = (), *, sent: bool = True
) -> QuoteRuleCase:
    """A log of a direct boot, and a table that asks for nothing but ``keys``."""
    table = "\n".join(f"{key} = {value}" for key, value in {**_OPEN, **keys}.items())
    lines: Lines = tuple((f"rtmr{n} = [", f'rtmr{n} = "any" # [') for n in range(3))
    lines += (
        ('rtmr3 = "zero"', 'rtmr3 = "zero"\nrtmr_reason = "the event log is judged"'),
        ('eventlog = "ignore"', ""),
    )
    lines += (("\n[tdx.platform]", f"\n[tdx.eventlog]\n{table}\n\n[tdx.platform]"),)
    events = (*direct_boot(), *more) if sent else None
    return QuoteRuleCase(tuple(f"tdx.eventlog.{name}" for name in rules), lines, {}, events=events)


def _eventlog_cases() -> list[QuoteRuleCase]:
    boot = direct_boot()
    initrd = next(item for item in boot if b"Linux initrd" in item.data).digests[0][1].hex()
    admitted = variable("db", bytes(16) + named_certificate("somebody"), IMAGE_SECURITY)
    variables = [_log_case((key,), {f"{key}_digests": f'["{CD}"]'}) for key in ("pk", "kek", "db", "dbx")]
    unknown = event(3, 0x99, b"what is this")
    authority = event(1, ev.EV_EFI_VARIABLE_AUTHORITY, admitted)
    return [
        _log_case(_LOG_RULES, {}, sent=False),
        _log_case(("unexplained-events",), {"unexplained_events": '"forbid"'}, (unknown,)),
        _log_case(("unlisted-events",), {"initrd_digests": f'["{initrd}"]', "unlisted_events": '"forbid"'}),
        _log_case(("kernel",), {"boot_applications": "[]", "kernel_digests": f'["{CD}"]'}),
        _log_case(("cmdline",), {"cmdlines": '["quiet"]'}),
        _log_case(("initrd",), {"initrd_digests": f'["{CD}"]'}),
        _log_case(("secure-boot",), {"secure_boot": '"forbid"'}),
        _log_case(("authorities",), {"authorities": f'["{"cd" * 32}"]'}, (authority,)),
        *variables,
    ]


@cache
def quote_rule_cases() -> tuple[QuoteRuleCase, ...]:
    """One case or more for every rule about quotes; made on first use."""
    return (*_td_cases(), *_common_cases("tdx", {}, ()), *_eventlog_cases(), *_sgx_cases())
