"""The fields of an SNP report in words: names of bits, TCB versions side by side, byte strings that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from attest.cli.field_words import LABEL, bit_lines, byte_lines, named_bits, set_bits, word_line
from attest.evidence.product import likely_product, tcb_for_display
from attest.evidence.snp_report import SnpReport
from policy.snp import GuestPolicy, PlatformInfo
from policy.vocab import SnpProduct

_HOST = 0xFFFFFFFF
_NONE = b"\xff" * 32

POLICY_BITS: tuple[tuple[int, str, str], ...] = (
    (16, "smt", "permission: sibling threads may run other code"),
    (17, "reserved_one", "always 1"),
    (18, "migrate_ma", "permission: a migration agent may move the guest"),
    (19, "debug", "permission: the host may decrypt guest memory"),
    (20, "single_socket", "demand: the guest stays on one socket"),
    (21, "cxl_allow", "permission: memory may lie behind CXL"),
    (22, "mem_aes_256_xts", "demand: memory encryption is AES-256-XTS"),
    (23, "rapl_dis", "demand: the power meter is off"),
    (24, "ciphertext_hiding", "demand: the host cannot read ciphertext"),
    (25, "page_swap_disable", "demand: the host cannot move or swap guest pages"),
)
"""Guest policy: bit, name, meaning when set. Source: AMD 56860, table "Guest Policy"."""

PLATFORM_BITS: tuple[tuple[int, str, str], ...] = (
    (0, "smt_en", "simultaneous multi-threading is on"),
    (1, "tsme_en", "transparent memory encryption is on"),
    (2, "ecc_en", "memory has error correction"),
    (3, "rapl_dis", "the power meter is off"),
    (4, "ciphertext_hiding", "ciphertext hiding for DRAM is on"),
    (5, "alias_check_complete", "no aliased memory since the last reset (the answer to BadRAM)"),
    (6, "iommu_write_safe", "set by recent firmware; the name is from one source"),
    (7, "tio_en", "SEV-TIO (trusted devices) is on"),
)
"""PLATFORM_INFO: bit, name, meaning when set. Source: AMD 56860, table "PLATFORM_INFO Field"."""

TCBS = (
    ("current", "runs now"),
    ("committed", "no way back below it"),
    ("reported", "the key is derived from it"),
    ("launch", "when the guest was launched"),
)


def details(report: SnpReport) -> dict[str, object]:
    """What the numbers mean, as JSON values; ``undefined_bits`` are set bits this release has no name for."""
    product = likely_product(report)
    policy, platform, key = report.policy, report.platform_info, report.key_info
    return {
        "tcb_layout": "turin" if product is SnpProduct.TURIN else "milan-genoa",
        "policy": {
            "abi_min": f"{policy.abi_major}.{policy.abi_minor}",
            **named_bits(policy, POLICY_BITS),
            "undefined_bits": set_bits(policy & ~GuestPolicy.KNOWN),
        },
        "platform_info": {
            **named_bits(platform, PLATFORM_BITS),
            "undefined_bits": set_bits(platform & ~PlatformInfo.KNOWN),
        },
        "key_info": {
            "author_key_en": key.author_key_en,
            "mask_chip_key": key.mask_chip_key,
            "signing_key": report.signing_key.name,
        },
        "firmware": {"current": _version(report, "current"), "committed": _version(report, "committed")},
        "requested_by": "host" if report.vmpl == _HOST else f"VMPL {report.vmpl}",
        "migration_agent": report.report_id_ma != _NONE,
        "id_block": any(report.id_key_digest),
    }


def report_lines(report: SnpReport) -> Iterator[str]:
    """The report for people, at most 100 columns wide."""
    yield from _summary(report)
    yield from ("", "guest")
    yield from byte_lines("measurement", report.measurement, "launch digest: firmware, kernel hashes, vCPUs")
    yield from byte_lines("report_data", report.report_data, "chosen by the guest: what the report is bound to")
    yield from byte_lines("host_data", report.host_data, "chosen by the host at launch; not in the launch digest")
    yield from byte_lines("report_id", report.report_id, "random for each guest instance")
    agent = "none" if report.report_id_ma == _NONE else report.report_id_ma.hex()
    yield word_line("report_id_ma", f"{agent}   report id of the migration agent")
    yield from _id_block(report)
    yield from ("", f"guest policy {report.policy:#x}, chosen at launch")
    policy = report.policy
    yield f"  {'abi':<{LABEL}} {policy.abi_major}.{policy.abi_minor}   firmware ABI must be this or later"
    yield from bit_lines(report.policy, POLICY_BITS, GuestPolicy.KNOWN)
    yield from ("", f"platform {report.platform_info:#x}, as the firmware sees the machine")
    yield from bit_lines(report.platform_info, PLATFORM_BITS, PlatformInfo.KNOWN)
    layout = "Turin" if likely_product(report) is SnpProduct.TURIN else "Milan and Genoa"
    yield from ("", f"firmware: TCB versions, in the layout of {layout}")
    yield from _tcb_table(report)
    yield from _firmware(report)
    yield from ("", "chip")
    yield from _chip(report)


def _summary(report: SnpReport) -> Iterator[str]:
    product = likely_product(report)
    if report.cpuid_fam_id is None:
        named = "not named before version 3; the certificate chain tells"
        cpu = named if product is None else f"{product.value}, judged by the chip id; {named}"
    else:
        name = product.value if product else "no known product"
        cpu = f"{name}: family {report.cpuid_fam_id:#x} model {report.cpuid_mod_id:#x} stepping {report.cpuid_step}"
    by = f"VMPL {report.vmpl}" if report.vmpl != _HOST else "the HOST, not the guest: never believe it"
    yield f"report version {report.version}"
    yield word_line("product", cpu)
    yield word_line("requested by", by)
    algorithm = (
        "ECDSA P-384 with SHA-384" if report.signature_algo == 1 else f"unknown algorithm {report.signature_algo}"
    )
    yield word_line("signed with", f"{report.signing_key.name}, {algorithm}")
    masked = "  the host masked the chip's key" if report.key_info.mask_chip_key else ""
    yield word_line("key_info", f"{report.key_info:#x}{masked}")


def _id_block(report: SnpReport) -> Iterator[str]:
    if not any(report.id_key_digest):
        yield word_line("id block", "none: guest_svn, family_id and image_id say nothing")
    yield word_line("guest_svn", f"{report.guest_svn}   security version of the image")
    yield from byte_lines("family_id", report.family_id, "")
    yield from byte_lines("image_id", report.image_id, "")
    yield from byte_lines("id_key_digest", report.id_key_digest, "SHA-384 of the key that signed the ID block")
    meaning = "SHA-384 of the key that signed the ID key"
    if not report.key_info.author_key_en:
        meaning += "; not used"
    yield from byte_lines("author_key_digest", report.author_key_digest, meaning)


def _tcb_table(report: SnpReport) -> Iterator[str]:
    """The four versions in rows, parts in columns; ``*`` marks a part below the current one."""
    product = likely_product(report)
    parsed = {name: tcb_for_display(getattr(report, f"{name}_tcb"), product) for name, _ in TCBS}
    first = next((tcb for tcb in parsed.values() if tcb is not None), None)
    columns = () if first is None else tuple(first.parts())
    yield " " * 13 + "".join(f"{name:>11}" for name in columns)
    current, marked = parsed["current"], False
    for name, meaning in TCBS:
        tcb = parsed[name]
        if tcb is None:
            yield f"  {name:<11}  {getattr(report, f'{name}_tcb').hex()}, which does not fit this layout; {meaning}"
            continue
        low = () if current is None else tcb.parts_below(current)
        marked = marked or bool(low)
        cells = "".join(f"{value:>10}{'*' if part in low else ' '}" for part, value in tcb.parts().items())
        yield f"  {name:<11}{cells}  {meaning}"
    if marked:
        yield "  * lower than what runs now"


def _firmware(report: SnpReport) -> Iterator[str]:
    current, committed = _version(report, "current"), _version(report, "committed")
    note = "" if current == committed else "   PROVISIONAL: the host can go back"
    yield word_line("version", f"current {current}, committed {committed}{note}")
    if report.current_mit_vector is None or report.launch_mit_vector is None:
        yield word_line("mitigations", "not in a report before version 5")
    else:
        yield word_line(
            "mitigations", f"current {report.current_mit_vector:#x}, at launch {report.launch_mit_vector:#x}"
        )


def _chip(report: SnpReport) -> Iterator[str]:
    if not any(report.chip_id):
        yield word_line("chip_id", "zero: masked, or signed by a VLEK, which names a cloud instead")
    elif not any(report.chip_id[8:]):
        yield word_line("chip_id", f"{report.chip_id[:8].hex()} and 56 zero bytes")
    else:
        yield from byte_lines("chip_id", report.chip_id, "the chip's hardware id")
    yield word_line("signed part, SHA-256", report.signed_sha256.hex())


def _version(report: SnpReport, which: str) -> str:
    return ".".join(str(getattr(report, f"{which}_{part}")) for part in ("major", "minor", "build"))
