"""One function, one broken knob, on a world where everything else is right. Each says which step must notice, and why.

Add a case: write a function that returns a function to call, and decorate it with the step that has to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from attest.endorsement.anchors import TrustAnchors
from policy.snp import SigningKey, TcbVersion
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import CHIP, Ca, FakeAmdPki, Leaf

Attempt = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """``attempt`` must fail in ``step``; ``clause`` is what it violates."""

    name: str
    step: str
    clause: str
    attempt: Attempt


CASES: list[Case] = []


def case(step: str, clause: str) -> Callable[[Callable[[], Attempt]], Callable[[], Attempt]]:
    """Register a case."""

    def register(make: Callable[[], Attempt]) -> Callable[[], Attempt]:
        CASES.append(Case(make.__name__, step, clause, lambda: make()()))
        return make

    return register


@case("format", "AMD 56860, Guest Policy: bit 17 is reserved and must be 1")
def policy_without_its_reserved_one() -> Attempt:
    return FakeAmdPki(report={"policy": 0x10000}).verify


@case("vmpl", "AMD 56860, SNP_HV_REPORT_REQ: VMPL is 0xFFFFFFFF in a report the host asked for")
def report_requested_by_the_host() -> Attempt:
    return FakeAmdPki(report={"vmpl": 0xFFFFFFFF}).verify


@case("vmpl", "AMD 56860, MSG_REPORT_REQ: VMPL is 0 to 3")
def vmpl_beyond_the_last() -> Attempt:
    return FakeAmdPki(report={"vmpl": 4}).verify


@case("signing-key", "AMD 56860, SIGNING_KEY 7: signed by no key")
def report_that_says_it_is_unsigned() -> Attempt:
    return FakeAmdPki(report={"key_info": 7 << 2}).verify


@case("signing-key", "AMD 56860, SIGNING_KEY: the report names a VLEK, a VCEK signed")
def vlek_named_but_a_vcek_came_along() -> Attempt:
    return FakeAmdPki(report={"key_info": 1 << 2}).verify


@case("signing-key", "AMD 56860, SIGNING_KEY: the report names a VCEK, a VLEK signed")
def vcek_named_but_a_vlek_came_along() -> Attempt:
    return FakeAmdPki(kind=SigningKey.VLEK, report={"key_info": 0, "chip_id": CHIP}).verify


@case("product", "AMD 57230: the product decides the chain; CPUID says Milan, the chain is Genoa's")
def cpuid_of_another_product() -> Attempt:
    return FakeAmdPki(report={"cpuid_mod_id": 0x01}).verify


@case("root", "the root's key is not among the anchors")
def root_nobody_named() -> Attempt:
    return lambda: FakeAmdPki().verify(anchors=TrustAnchors.amd())


@case("root", "a root is trusted for its own product only")
def root_trusted_for_another_product() -> Attempt:
    other = TrustAnchors.test_only(FakeAmdPki(product=SnpProduct.MILAN, ark=Ca(key="ark-Genoa")).ark_der)
    return lambda: FakeAmdPki().verify(anchors=other)


@case("root", "RFC 5280, 4.2.1.9: a CA says so")
def root_that_is_no_ca() -> Attempt:
    return FakeAmdPki(ark=Ca(ca=False)).verify


@case("root", "RFC 5280, 4.2.1.9: path length 0 leaves no room for an ASK")
def root_with_path_length_zero() -> Attempt:
    return FakeAmdPki(ark=Ca(path_length=0)).verify


@case("root", "RFC 5280, 4.2.1.3: keyCertSign")
def root_that_may_not_sign_certificates() -> Attempt:
    return FakeAmdPki(ark=Ca(key_cert_sign=False)).verify


@case("root", "the self-signature covers dates and extensions; the pin covers the key only")
def root_whose_self_signature_is_not_its_own() -> Attempt:
    return FakeAmdPki(ark=Ca(signer="somebody")).verify


@case("root", "a root is self-issued")
def root_issued_in_another_name() -> Attempt:
    return FakeAmdPki(ark=Ca(issuer_cn="ARK-Milan")).verify


@case("root", "RFC 5280, 4.2: unknown critical extension")
def root_with_a_critical_name_constraint() -> Attempt:
    constraint = x509.NameConstraints([x509.DNSName("example")], None)
    return FakeAmdPki(ark=Ca(extra=[constraint])).verify


@case("intermediate", "signed by the root's key")
def ask_signed_by_somebody_else() -> Attempt:
    return FakeAmdPki(ask=Ca(signer="somebody")).verify


@case("intermediate", "issued in the root's name")
def ask_issued_in_another_name() -> Attempt:
    return FakeAmdPki(ask=Ca(issuer_cn="ARK-Turin")).verify


@case("intermediate", "RFC 5280, 4.2.1.9: a CA says so")
def ask_that_is_no_ca() -> Attempt:
    return FakeAmdPki(ask=Ca(ca=False)).verify


@case("intermediate", "RFC 5280, 4.2.1.9: basicConstraints is there")
def ask_without_basic_constraints() -> Attempt:
    return FakeAmdPki(ask=Ca(basic_constraints=False)).verify


@case("intermediate", "RFC 5280, 4.2.1.9: basicConstraints is critical in a CA")
def ask_whose_constraints_are_not_critical() -> Attempt:
    return FakeAmdPki(ask=Ca(critical=False)).verify


@case("intermediate", "AMD 57230: path length 0, below it are leaves only")
def ask_with_path_length_one() -> Attempt:
    return FakeAmdPki(ask=Ca(path_length=1)).verify


@case("intermediate", "AMD 57230: path length 0, not absent")
def ask_without_path_length() -> Attempt:
    return FakeAmdPki(ask=Ca(path_length=None)).verify


@case("intermediate", "RFC 5280, 4.2.1.3: keyCertSign")
def ask_that_may_not_sign_certificates() -> Attempt:
    return FakeAmdPki(ask=Ca(key_cert_sign=False)).verify


@case("intermediate", "RFC 5280, 4.2.1.3: keyUsage is there")
def ask_without_key_usage() -> Attempt:
    return FakeAmdPki(ask=Ca(key_usage=False)).verify


@case("intermediate", "AMD 57230: RSASSA-PSS with SHA-384")
def ask_signed_with_sha256() -> Attempt:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 48)
    return FakeAmdPki(ask=Ca(hash=hashes.SHA256(), padding=pss)).verify


@case("intermediate", "AMD 57230: salt length 48")
def ask_signed_with_a_short_salt() -> Attempt:
    return FakeAmdPki(ask=Ca(padding=padding.PSS(padding.MGF1(hashes.SHA384()), 32))).verify


@case("intermediate", "AMD 57230: PSS, not PKCS #1 v1.5")
def ask_signed_with_pkcs1() -> Attempt:
    return FakeAmdPki(ask=Ca(padding=padding.PKCS1v15())).verify


@case("leaf", "signed by the intermediate's key")
def vcek_signed_by_somebody_else() -> Attempt:
    return FakeAmdPki(leaf=Leaf(signer="somebody")).verify


@case("leaf", "signed by the intermediate, not by the root")
def vcek_signed_by_the_root() -> Attempt:
    return FakeAmdPki(leaf=Leaf(signer="ark-Genoa")).verify


@case("leaf", "issued in the intermediate's name: a VLEK chain has an ASVK, not an ASK")
def vlek_issued_in_the_name_of_the_ask() -> Attempt:
    return FakeAmdPki(kind=SigningKey.VLEK, leaf=Leaf(issuer_cn="SEV-Genoa")).verify


@case("leaf", "issued in the intermediate's name: a VCEK chain has an ASK, not an ASVK")
def vcek_issued_in_the_name_of_the_asvk() -> Attempt:
    return FakeAmdPki(leaf=Leaf(issuer_cn="SEV-VLEK-Genoa")).verify


@case("leaf", "AMD 57230: productName is of the line whose ASK signed")
def vcek_named_after_another_product_line() -> Attempt:
    return FakeAmdPki(leaf=Leaf(product_name="Milan-B0")).verify


@case("leaf", "AMD 57230: ECDSA on P-384")
def vcek_with_a_p256_key() -> Attempt:
    return FakeAmdPki(leaf=Leaf(curve="secp256r1")).verify


@case("leaf", "a leaf is no CA")
def vcek_that_is_a_ca() -> Attempt:
    return FakeAmdPki(leaf=Leaf(extra=[x509.BasicConstraints(True, None)])).verify


@case("leaf", "AMD 57230: RSASSA-PSS with SHA-384")
def vcek_signed_with_sha512() -> Attempt:
    pss = padding.PSS(padding.MGF1(hashes.SHA512()), 48)
    return FakeAmdPki(leaf=Leaf(hash=hashes.SHA512(), padding=pss)).verify


@case("validity", "RFC 5280, 6.1.3 (a)(2)")
def root_not_yet_valid() -> Attempt:
    return FakeAmdPki(ark=Ca(not_before=datetime(2027, 1, 1, tzinfo=UTC))).verify


@case("validity", "RFC 5280, 6.1.3 (a)(2)")
def ask_expired() -> Attempt:
    return FakeAmdPki(ask=Ca(not_after=datetime(2026, 5, 1, tzinfo=UTC))).verify


@case("validity", "RFC 5280, 6.1.3 (a)(2)")
def vcek_expired() -> Attempt:
    return FakeAmdPki(leaf=Leaf(not_after=datetime(2026, 5, 1, tzinfo=UTC))).verify


@case("validity", "RFC 5280, 6.1.3 (a)(2)")
def vcek_not_yet_valid() -> Attempt:
    return FakeAmdPki(leaf=Leaf(not_before=datetime(2026, 7, 1, tzinfo=UTC))).verify


@case("revocation", "RFC 5280, 6.3: the root's list names the ASK")
def ask_revoked() -> Attempt:
    world = FakeAmdPki(ask=Ca(serial=0x20001))
    return lambda: world.verify(crls=[world.crl(revoked=[0x20001])])


@case("revocation", "a revocation does not expire with the list")
def ask_revoked_by_a_stale_list() -> Attempt:
    world = FakeAmdPki(ask=Ca(serial=0x20001))
    stale = world.crl(
        revoked=[0x20001],
        this_update=datetime(2025, 5, 1, tzinfo=UTC),
        next_update=datetime(2025, 6, 1, tzinfo=UTC),
    )
    return lambda: world.verify(crls=[stale])


@case("tcb", "AMD 57230: the VCEK is issued for REPORTED_TCB")
def vcek_of_an_older_tcb() -> Attempt:
    return FakeAmdPki(leaf=Leaf(tcb=TcbVersion(10, 0, 23, 84))).verify


@case("tcb", "AMD 57230: REPORTED_TCB, not CURRENT_TCB")
def vcek_of_the_current_instead_of_the_reported_tcb() -> Attempt:
    older = TcbVersion(9, 0, 23, 72).to_bytes()
    return FakeAmdPki(report={"reported_tcb": older}).verify


@case("chip-id", "AMD 57230: hwID is the chip's CHIP_ID")
def vcek_of_another_chip() -> Attempt:
    return FakeAmdPki(leaf=Leaf(hwid=b"\x77" * 64)).verify


@case("chip-id", "AMD 57230: Turin's hwID fills 8 bytes, the rest of CHIP_ID is zero")
def turin_chip_id_with_a_tail() -> Attempt:
    return FakeAmdPki(product=SnpProduct.TURIN, report={"chip_id": CHIP}).verify


@case("chip-id", "AMD 56860, MASK_CHIP_ID: a report without chip id matches no VCEK")
def masked_chip_id() -> Attempt:
    return FakeAmdPki(report={"chip_id": bytes(64)}).verify


@case("signature", "AMD 56860: the leaf's key signed the report")
def report_signed_by_another_key() -> Attempt:
    return FakeAmdPki(signed_with="another").verify


@case("binding", "RFC 9334, section 10: the report answers this challenge")
def report_data_of_another_challenge() -> Attempt:
    return lambda: FakeAmdPki().verify(expected_report_data=b"\x5b" * 64)


@case("binding", "RFC 9334, section 10: all 64 bytes count")
def report_data_that_differs_in_its_last_byte() -> Attempt:
    return lambda: FakeAmdPki().verify(expected_report_data=b"\x5a" * 63 + b"\x00")
