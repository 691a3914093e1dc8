"""Rules about the machine under the guest: platform information, TCB versions, firmware, mitigations."""

from __future__ import annotations

from policy.check import FAIL, Check, SnpAppraisal, SnpRule, bit, compared, left_out
from policy.snp import PlatformInfo, TcbVersion
from policy.snp_rules import PLATFORM_BITS, TCBS, MinimumTcb

_LABELS = {"platform_rapl_dis": "rapl-dis", "platform_ciphertext_hiding": "ciphertext-hiding"}


def platform_smt(of: SnpAppraisal) -> Check:
    """Where SMT is forbidden the platform must not run it either."""
    got = of.claims.platform_info.smt_en
    if of.rules.permissions["smt"]:
        return left_out("snp.platform.smt", bit(got), "snp.smt: the policy allows sibling threads")
    return compared("snp.platform.smt", bit(False), bit(got), not got, "snp.smt: sibling threads may run other code")


def platform_bit(key: str) -> SnpRule:
    """One PLATFORM_INFO bit that the policy requires, forbids or ignores."""

    def check(of: SnpAppraisal) -> Check:
        wanted = of.rules.platform[key]
        got = bool(getattr(of.claims.platform_info, PLATFORM_BITS[key].attribute))
        label = f"snp.platform.{_LABELS.get(key, key.replace('_', '-'))}"
        clause = f"snp.{key}: {PLATFORM_BITS[key].why}"
        if wanted is None:
            return left_out(label, bit(got), clause)
        return compared(label, bit(wanted), bit(got), got is wanted, clause)

    return check


def platform_reserved(of: SnpAppraisal) -> Check:
    """PLATFORM_INFO bits newer than this release."""
    unknown = of.claims.platform_info & ~PlatformInfo.KNOWN
    clause = "snp.unknown_platform_bits: newer firmware defines more bits"
    if of.rules.unknown_platform_bits:
        return left_out("snp.platform.reserved", hex(unknown), clause)
    return compared("snp.platform.reserved", "0x0", hex(unknown), not unknown, clause)


def _floors(of: SnpAppraisal, entries: list[MinimumTcb]) -> list[MinimumTcb]:
    """Those of this silicon. Microcode is numbered per model and stepping, so one product may need several."""
    model, step = of.claims.cpuid_mod_id, of.claims.cpuid_step
    return [
        entry for entry in entries
        if (not entry.models or model in entry.models) and (not entry.steppings or step in entry.steppings)
    ]  # fmt: skip


def tcb(which: str) -> SnpRule:
    """One of the four TCB versions against the floors that apply to it, part by part."""

    def check(of: SnpAppraisal) -> Check:
        got: TcbVersion = getattr(of.claims, f"{which}_tcb")
        name, what = f"snp.tcb.{which}", f"{which.upper()}_TCB"
        entries = [entry for entry in of.rules.minimum_tcb if entry.product is of.claims.product]
        named = [entry for entry in entries if which in entry.applies_to]
        if entries and not named:
            return left_out(name, got, f"snp.minimum_tcb: no entry for {of.claims.product.value} applies to {what}")
        floors = _floors(of, named)
        if not floors:
            text = (
                f"an entry for {of.claims.product.value} model {of.claims.cpuid_mod_id} stepping {of.claims.cpuid_step}"
            )
            clause = "snp.minimum_tcb: no floor was written for this chip"
            return Check(name, text, "none in the policy", FAIL, clause)
        low = sorted({part for entry in floors for part in got.parts_below(entry.floor)})
        wanted = "; ".join(f">= {entry.floor}" for entry in floors)
        reasons = "; ".join(entry.reason for entry in floors if entry.reason)
        suffix = f" ({', '.join(low)} too low)" if low else ""
        return compared(name, wanted, f"{got}{suffix}", not low, f"snp.minimum_tcb on {what}: {reasons}")

    return check


def tcb_order(of: SnpAppraisal) -> Check:
    """REPORTED_TCB <= COMMITTED_TCB <= CURRENT_TCB: firmware that says otherwise contradicts its specification."""
    claims = of.claims
    wrong = [f"reported {part}" for part in claims.committed_tcb.parts_below(claims.reported_tcb)]
    wrong += [f"committed {part}" for part in claims.current_tcb.parts_below(claims.committed_tcb)]
    return compared(
        "snp.tcb.order", "reported <= committed <= current", f"{', '.join(wrong)} too high" if wrong else "in order",
        not wrong, "AMD 56860, SNP_CONFIG, SNP_COMMIT: only what is committed is reported, only what runs is committed",
    )  # fmt: skip


def provisional_firmware(of: SnpAppraisal) -> Check:
    """Firmware that is running but not committed can be rolled back by the host."""
    claims = of.claims
    current = f"{_text(_current(of))} {claims.current_tcb}"
    committed = f"{_text(_committed(of))} {claims.committed_tcb}"
    clause = "snp.provisional_firmware: until the host commits (SNP_COMMIT), it can go back to the older firmware"
    if of.rules.provisional_firmware:
        return left_out("snp.firmware.committed", f"current {current}, committed {committed}", clause)
    return compared("snp.firmware.committed", current, committed, current == committed, clause)


def current_version(of: SnpAppraisal) -> Check:
    """The firmware that runs, as (major, minor, build)."""
    rule = of.rules.firmware_of(of.claims.product)
    return _version(of, "current", rule.current if rule else None, _current(of))


def committed_version(of: SnpAppraisal) -> Check:
    """The firmware below which the host cannot go back, as (major, minor, build)."""
    rule = of.rules.firmware_of(of.claims.product)
    return _version(of, "committed", rule.committed if rule else None, _committed(of))


def _version(of: SnpAppraisal, which: str, least: tuple[int, int, int] | None, got: tuple[int, int, int]) -> Check:
    name, clause = f"snp.firmware.{which}-version", f"snp.firmware.{which}"
    rule = of.rules.firmware_of(of.claims.product)
    if rule is None:
        return Check(name, f"an entry for {of.claims.product.value}", "none in the policy", FAIL, clause)
    if least is None:
        return left_out(name, _text(got), f"{clause}: any version of {of.claims.product.value}")
    return compared(name, f">= {_text(least)}", _text(got), got >= least, f"{clause}: {rule.reason}")


def launch_mitigations(of: SnpAppraisal) -> Check:
    """Mitigations that were active when the guest was launched."""
    rule = of.rules.firmware_of(of.claims.product)
    return _vector(of, "launch", rule.launch_mitigations if rule else None, of.claims.launch_mit_vector)


def current_mitigations(of: SnpAppraisal) -> Check:
    """Mitigations that are active now; the host can add some to a running system."""
    rule = of.rules.firmware_of(of.claims.product)
    return _vector(of, "current", rule.current_mitigations if rule else None, of.claims.current_mit_vector)


def _vector(of: SnpAppraisal, which: str, wanted: int | None, got: int | None) -> Check:
    name, clause = f"snp.mitigations.{which}", f"snp.firmware.{which}_mitigations"
    actual = "none before report version 5" if got is None else hex(got)
    rule = of.rules.firmware_of(of.claims.product)
    if rule is None:
        return Check(name, f"an entry for {of.claims.product.value}", "none in the policy", FAIL, clause)
    if wanted is None:
        return left_out(name, actual, f"{clause}: AMD names the bits in its bulletins; the policy demands none")
    missing = wanted & ~(got or 0)
    suffix = f" ({hex(missing)} missing)" if missing and got is not None else ""
    return compared(name, f"all of {hex(wanted)}", f"{actual}{suffix}", not missing, f"{clause}: {rule.reason}")


def _current(of: SnpAppraisal) -> tuple[int, int, int]:
    return of.claims.current_major, of.claims.current_minor, of.claims.current_build


def _committed(of: SnpAppraisal) -> tuple[int, int, int]:
    return of.claims.committed_major, of.claims.committed_minor, of.claims.committed_build


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


PLATFORM_RULES: tuple[SnpRule, ...] = tuple(platform_bit(key) for key in PLATFORM_BITS)
TCB_RULES: tuple[SnpRule, ...] = tuple(tcb(which) for which in TCBS)
