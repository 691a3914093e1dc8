"""Each rule about a TD has a case in which only that rule fails."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from policy.checks import TDX_CHECKS
from policy.decide import decide
from policy.document import PolicyDocument, PolicyInvalid, parse_policy
from policy.initdata import rtmr3_after
from policy.measured import MeasuredEvent, replay
from policy.reference import ReferenceValue
from policy.reference_tdx import TdRecipe
from policy.tdx import TdAttributes, Xfam
from policy.tdx_rules import EXTENDED_FIELDS
from policy.vocab import LaunchDigest, Platform
from tests.fakes.intel_claims import NOW, TD, enclave, td

DOCUMENTS = Path(__file__).resolve().parents[3] / "policy" / "documents"
STRICT = (DOCUMENTS / "strict.toml").read_text()
REFERENCE = ReferenceValue("web", Platform.TDX, TD.mrtd, NOW, rtmrs=(*TD.rtmrs[:3], None))
KEPT = 0x10000000


def policy(*changes: tuple[str, str]) -> PolicyDocument:
    """The strict policy with words of its [tdx] tables replaced."""
    head, tdx, rest = STRICT.partition("\n[tdx]\n")
    for old, new in changes:
        assert old in rest, old
        rest = rest.replace(old, new, 1)
    return parse_policy((head + tdx + rest).encode())


def failed(document: PolicyDocument | None = None, references: Any = (REFERENCE,), **changes: Any) -> list[str]:
    decision = decide(td(**changes), document or policy(), references, now=NOW)
    assert decision.affirming is not bool(decision.failed)
    return [check.id for check in decision.failed]


def test_a_healthy_td_with_registered_values_is_affirmed_by_the_strict_policy() -> None:
    decision = decide(td(), policy(), (REFERENCE,), now=NOW)
    assert decision.affirming, decision.failed
    assert len(decision.checks) == len(TDX_CHECKS) == len({check.id for check in decision.checks})
    assert decision.trust_vector["hardware"] == decision.trust_vector["runtime-opaque"] == 2
    assert decision.trust_vector["executables"] == 3


CASES: list[tuple[str, dict[str, Any]]] = [
    ("trust.root", {"root": "test:" + "0" * 64}),
    ("tdx.revocation", {"revocation": "not-checked"}),
    ("tdx.revocation", {"revocation": "stale"}),
    ("tdx.mrsignerseam", {"mrsignerseam": b"\1" * 48}),
    ("tdx.seamattributes", {"seamattributes": 1}),
    *(("tdx.attributes.untrusted", {"td_attributes": TdAttributes(KEPT | 1 << bit)}) for bit in range(1, 8)),
    ("tdx.attributes.debug", {"td_attributes": TdAttributes(KEPT | 1)}),
    ("tdx.attributes.sept-ve-disable", {"td_attributes": TdAttributes(0)}),
    ("tdx.attributes.servtd-ext", {"td_attributes": TdAttributes(KEPT | 1 << 17)}),
    ("tdx.attributes.tpa", {"td_attributes": TdAttributes(KEPT | 1 << 62)}),
    ("tdx.attributes.perfmon", {"td_attributes": TdAttributes(KEPT | 1 << 63)}),
    *(
        ("tdx.attributes.undefined", {"td_attributes": TdAttributes(KEPT | 1 << bit)})
        for bit in (8, 15, 18, 26, 32, 61)
    ),
    ("tdx.attributes.migratable", {"td_attributes": TdAttributes(KEPT | 1 << 29), "mrservicetd": bytes(48)}),
    ("tdx.xfam", {"xfam": Xfam(0x600E7 | 1 << 10)}),
    ("tdx.xfam-required", {"xfam": Xfam(0x1)}),
    ("tdx.mrservicetd", {"mrservicetd": b"\1" * 48}),
    ("tdx.mrconfigid", {"mrconfigid": b"\1" * 48}),
    ("tdx.mrowner", {"mrowner": b"\1" * 48}),
    ("tdx.mrownerconfig", {"mrownerconfig": b"\1" * 48}),
    ("tdx.rtmr3", {"rtmrs": (*TD.rtmrs[:3], b"\1" * 48)}),
    ("tdx.platform.pceid", {"pck__pceid": b"\0\1"}),
    ("tdx.platform.ca", {"pck__ca": "processor"}),
    ("tdx.platform.sgx-type", {"pck__sgx_type": 0}),
    ("tdx.platform.sgx-type", {"pck__sgx_type": 9}),
    ("tdx.extended.unknown", {"extended": (("new", "00"),)}),
]


@pytest.mark.parametrize(("rule", "changes"), CASES)
def test_the_strict_policy_refuses_a_td_for_one_reason(rule: str, changes: dict[str, Any]) -> None:
    assert failed(**changes) == [rule]


EXTENDED = rtmr3_after(b"\1" * 48)


def by_init_data(mrconfigid: bytes, rtmr3: bytes) -> list[str]:
    document = policy(('rtmr3 = "zero"', 'rtmr3 = "init-data"'), ('mrconfigid = "zero"', 'mrconfigid = "any"'))
    return failed(document, mrconfigid=mrconfigid, rtmrs=(*TD.rtmrs[:3], rtmr3))


def test_rtmr3_may_be_zero_or_what_the_bound_init_data_extend_it_to() -> None:
    assert by_init_data(bytes(48), bytes(48)) == []
    assert by_init_data(b"\1" * 48, bytes(48)) == []
    assert by_init_data(b"\1" * 48, EXTENDED) == []


@pytest.mark.parametrize(
    ("mrconfigid", "rtmr3"),
    [
        (b"\2" * 48, EXTENDED),
        (bytes(48), rtmr3_after(bytes(48))),
        (b"\1" * 48, hashlib.sha384(EXTENDED + bytes(48)).digest()),
        (b"\1" * 48, b"\1" * 48),
    ],
    ids=["other init-data", "no init-data", "and something else", "something else"],
)
def test_rtmr3_holds_nothing_else_where_init_data_may_extend_it(mrconfigid: bytes, rtmr3: bytes) -> None:
    assert by_init_data(mrconfigid, rtmr3) == ["tdx.rtmr3"]


def _bit(key: str, index: int) -> tuple[str, str, str, dict[str, Any], dict[str, Any]]:
    on = {"td_attributes": TdAttributes(KEPT | 1 << index)}
    return f"tdx.attributes.{key}", f'\n{key} = "ignore"', f'\n{key} = "forbid"', on, {}


A, B = "ab" * 48, "ab" * 16
OPTIONS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    _bit("icssd", 16), _bit("pks", 30), _bit("kl", 31), _bit("lass", 27),
    ("tdx.quote-version", "quote_versions = [4, 5]", "quote_versions = [5]", {}, {"version": 5}),
    ("tdx.body", 'bodies = ["1.0", "1.5"]', 'bodies = ["1.5"]', {}, {"body": "1.5"}),
    ("tdx.mrseam", 'mrseam = "any"', f'mrseam = ["{A}"]', {}, {"mrseam": b"\xab" * 48}),
    ("tdx.attributes", '\nattributes = "any"', '\nattributes = "0x10000000/0x50000000"',
     {"td_attributes": TdAttributes(KEPT | 1 << 30)}, {"td_attributes": TdAttributes(KEPT | 1 << 31)}),
    ("tdx.tee-tcb-svn", 'tee_tcb_svn_min = "any"', f'tee_tcb_svn_min = ["0901{"00" * 14}", "0103{"00" * 14}"]', {},
     {"tee_tcb_svn": bytes.fromhex("0203") + bytes(14)}),
    ("tdx.tee-tcb-svn", 'tee_tcb_svn_min = "any"', f'tee_tcb_svn_min = ["0002{"00" * 14}"]', {},
     {"tee_tcb_svn": bytes.fromhex("0902") + bytes(14)}),
    ("tdx.tee-tcb-svn2", 'tee_tcb_svn2_min = "any"', f'tee_tcb_svn2_min = ["0501{"00" * 14}"]', {},
     {"tee_tcb_svn2": bytes.fromhex("0501") + bytes(14)}),
    ("tdx.report-data", 'report_data = "ignore"', f'report_data = "{"0a" * 64}"', {}, {"report_data": b"\x0a" * 64}),
    ("tdx.platform.fmspc", 'fmspcs = "any"', 'fmspcs = ["b0c06f000000"]', {}, {"pck__fmspc": bytes.fromhex("b0c06f000000")}),
    ("tdx.platform.fmspc", "denied_fmspcs = []", 'denied_fmspcs = ["00806f050000"]', {}, {"pck__fmspc": bytes(6)}),
    ("tdx.platform.ppid", 'ppids = "any"', f'ppids = ["{B}"]', {}, {"pck__ppid": b"\xab" * 16}),
    ("tdx.platform.ppid", "denied_ppids = []", f'denied_ppids = ["{"44" * 16}"]', {}, {"pck__ppid": b"\xab" * 16}),
    ("tdx.platform.piid", 'piids = "any"', f'piids = ["{B}"]', {"pck__piid": None}, {"pck__piid": b"\xab" * 16}),
    ("tdx.platform.piid", "denied_piids = []", f'denied_piids = ["{B}"]', {"pck__piid": None}, {}),
    ("tdx.platform.dynamic-platform", 'dynamic_platform = "ignore"', 'dynamic_platform = "forbid"', {},
     {"pck__dynamic_platform": False}),
    ("tdx.platform.cached-keys", 'cached_keys = "ignore"', 'cached_keys = "forbid"', {"pck__cached_keys": None}, {}),
    ("tdx.platform.smt-enabled", 'smt_enabled = "ignore"', 'smt_enabled = "forbid"', {}, {"pck__smt_enabled": False}),
    ("tdx.platform.components", 'components_min = "any"', f'components_min = "09{"00" * 15}"', {},
     {"pck__components": (9,) + (0,) * 15}),
    ("tdx.platform.pcesvn", "pcesvn_min = 0", "pcesvn_min = 12", {}, {"pck__pcesvn": 12}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "old", "new", "bad", "good"), OPTIONS)
def test_an_optional_rule_refuses_what_it_names_and_nothing_else(
    rule: str, old: str, new: str, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    document = policy((old, new))
    assert failed(document, **bad) == [rule]
    assert failed(document, **good) == []


def test_a_service_td_that_body_1_0_does_not_name_is_refused_where_migratable_says_there_may_be_one() -> None:
    migratable = {"td_attributes": TdAttributes(KEPT | 1 << 29)}
    assert failed(**migratable) == ["tdx.attributes.migratable", "tdx.mrservicetd"]


def test_fields_of_the_extended_body_are_compared_where_the_body_is_accepted() -> None:
    fields = "\n".join(f'{name} = "zero"' for name in EXTENDED_FIELDS)
    document = policy(
        ('bodies = ["1.0", "1.5"]', 'bodies = ["1.5-extended"]'), ("\n[tdx.platform]", f"\n[tdx.extended]\n{fields}\n\n[tdx.platform]")
    )  # fmt: skip
    zero = {name: bytes(size).hex() for name, size in EXTENDED_FIELDS.items()}
    assert failed(document, body="1.5-extended", extended=tuple(zero.items())) == []
    for name, size in EXTENDED_FIELDS.items():
        other = tuple({**zero, name: (b"\1" * size).hex()}.items())
        assert failed(document, body="1.5-extended", extended=other) == [f"tdx.extended.{name.replace('_', '-')}"]
    assert len(failed(document, body="1.5-extended")) == len(EXTENDED_FIELDS)


def test_a_platform_without_a_table_is_refused_and_told_so() -> None:
    document = parse_policy((DOCUMENTS / "cloud-aws.toml").read_bytes())
    decision = decide(td(), document, (REFERENCE,), now=NOW)
    assert [(check.id, check.expected, check.actual) for check in decision.checks] == [
        ("trust.table", "a [tdx] table in the policy", "none")
    ]
    assert not decision.affirming
    assert decision.trust_vector["hardware"] == 97
    assert not decide(enclave(), document, (), now=NOW).affirming


class TestReferenceValues:
    def test_no_reference_value_means_no_release(self) -> None:
        assert failed(references=()) == ["tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "measurement"]

    def test_an_expired_value_or_one_of_another_platform_accepts_nothing(self) -> None:
        for reference in (REFERENCE._replace(expires=NOW), REFERENCE._replace(platform=Platform.EMULATED_TDX)):
            assert "measurement" in failed(references=(reference,))

    def test_another_register_fails_its_own_rule_and_the_measurement(self) -> None:
        rtmrs = (TD.rtmrs[0], b"\xff" * 48, *TD.rtmrs[2:])
        assert failed(rtmrs=rtmrs) == ["tdx.rtmr1", "measurement"]

    def test_a_register_left_open_is_refused_where_the_policy_wants_it_registered(self) -> None:
        reference = REFERENCE._replace(rtmrs=(TD.rtmrs[0], None, TD.rtmrs[2], None))
        assert failed(references=(reference,)) == ["tdx.rtmr1"]

    def test_registers_of_two_values_do_not_pass_together(self) -> None:
        """One value has the kernel, the other the command line: neither allows the combination."""
        first = REFERENCE._replace(name="a", rtmrs=(TD.rtmrs[0], TD.rtmrs[1], b"\1" * 48, None))
        second = REFERENCE._replace(name="b", rtmrs=(TD.rtmrs[0], b"\1" * 48, TD.rtmrs[2], None))
        assert failed(references=(first, second)) == ["measurement"]

    def test_a_matching_value_that_leaves_a_register_open_gets_no_help_from_another(self) -> None:
        first = REFERENCE._replace(name="a", rtmrs=(TD.rtmrs[0], TD.rtmrs[1], None, None))
        second = REFERENCE._replace(name="b", rtmrs=(TD.rtmrs[0], b"\1" * 48, TD.rtmrs[2], None))
        assert failed(references=(first, second)) == ["tdx.rtmr2"]

    def test_a_value_without_registers_never_matches_a_td_that_needs_them(self) -> None:
        assert failed(references=(REFERENCE._replace(rtmrs=()),)) == ["tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2"]

    def test_the_first_differing_event_is_named(self) -> None:
        def events(cmdline: bytes) -> tuple[MeasuredEvent, ...]:
            return MeasuredEvent(2, 6, cmdline * 48, "load-options"), MeasuredEvent(2, 6, b"\5" * 48, "initrd")

        recipe = TdRecipe(bytes(32), "single-pass", "tdx", (), 2 << 30, 1, events(b"\1"))
        reference = REFERENCE._replace(rtmrs=(*TD.rtmrs[:2], replay(recipe.events)[2], None), recipe=recipe)
        claims = td(rtmrs=(*TD.rtmrs[:2], replay(events(b"\2"))[2], bytes(48)), events=events(b"\2"))
        decision = decide(claims, policy(), (reference,), now=NOW)
        clause = next(check.clause for check in decision.failed if check.id == "measurement")
        assert "MRTD is that of web; first difference: RTMR2 event 1 load-options: expected 0101" in clause

    def test_listed_digests_and_any_are_possible_without_registered_registers(self) -> None:
        head, _, rest = STRICT.partition("\n[tdx]\n")
        listed = head.replace('accept = "registered"', f'accept = "listed"\nlaunch_digests = ["{"11" * 48}"]')
        text = listed + "\n[tdx]\n" + rest
        with pytest.raises(PolicyInvalid, match=r"tdx\.rtmr1.*needs measurement"):
            parse_policy(text.encode())
        for index in range(3):
            value = f"a{index}" * 48
            text = text.replace(f'rtmr{index} = "registered"', f'rtmr{index} = ["{value}"]')
        assert failed(parse_policy(text.encode()), references=()) == []
        assert failed(parse_policy(text.encode()), references=(), mrtd=LaunchDigest(b"\2" * 48)) == ["measurement"]


def test_emulated_hardware_is_never_affirmed_as_genuine_hardware() -> None:
    root = "test:" + "0" * 64
    document = parse_policy((DOCUMENTS / "demo.toml").read_bytes().replace(b"@EMULATED_ROOT@", b"0" * 64))
    reference = REFERENCE._replace(platform=Platform.EMULATED_TDX)
    decision = decide(td(Platform.EMULATED_TDX, root=root), document, (reference,), now=NOW)
    assert decision.affirming, decision.failed
    assert decision.emulated
    assert decision.trust_vector["hardware"] == decision.trust_vector["runtime-opaque"] == 0
