"""Trust anchors: the keys in which a chain may end.

AMD's roots are pinned by the SHA-256 of their SubjectPublicKeyInfo, never by name: anyone can issue a certificate
in the name of ``ARK-Milan``. A root certificate that arrives with the evidence is accepted only if its key is
pinned *and* its self-signature verifies, so its dates and extensions are AMD's too. The product decides the root: a
Genoa chain under AMD's own Milan root is refused. Source of the roots: AMD KDS,
``/vcek/v1/{Milan,Genoa,Turin}/cert_chain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.errors import EvidenceMalformed
from policy.claims import AMD_ROOT
from policy.vocab import SnpProduct

AMD_ROOT_KEYS: Mapping[SnpProduct, bytes] = {
    SnpProduct.MILAN: bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
    SnpProduct.GENOA: bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
    SnpProduct.TURIN: bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
}

AMD_AUTHORITIES: frozenset[bytes] = frozenset(
    bytes.fromhex(intermediate + root)
    for root, *intermediates in (
        (  # Genoa: ARK, ASK, ASVK
            "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
            "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
            "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
        ),
        (  # Milan: ARK, ASK, ASVK
            "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
            "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
            "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
        ),
        (  # Turin: ARK, ASK, ASVK
            "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
            "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
            "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
        ),
    )
    for intermediate in intermediates
)
"""SHA-256 of an intermediate certificate and of the ARK that issued it, joined: AMD's pairs as published.

Constraints and signatures of these bytes were verified once, and a test verifies them again; a pair on this list is not
verified anew in every process. Trust, dates and revocation are judged on each use like those of any other pair.
"""


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Which root keys are trusted, for which product, and under which name claims report them.

    ``test_roots`` are certificates that were named by a person for a test PKI; what they vouch for is emulated.
    """

    keys: Mapping[tuple[SnpProduct, bytes], str]
    test_roots: tuple[AmdCertificate, ...] = field(default=())

    @classmethod
    def amd(cls) -> TrustAnchors:
        """AMD's roots and no other."""
        return cls(dict.fromkeys(AMD_ROOT_KEYS.items(), AMD_ROOT))

    @classmethod
    def test_only(cls, *roots: bytes) -> TrustAnchors:
        """Test roots (DER) and not AMD's."""
        anchors = cls({})
        for root in roots:
            anchors = anchors.with_test_root(root)
        return anchors

    def with_test_root(self, der: bytes) -> TrustAnchors:
        """Also trust this self-issued certificate, whose common name must be ``ARK-<product>``.

        Claims under it carry ``test:<SHA-256 of its SubjectPublicKeyInfo>``. Naming one of AMD's own roots changes
        nothing. Raises :class:`EvidenceMalformed` for anything but a root certificate.
        """
        root = AmdCertificate.parse(der)
        if root.role is not Role.ARK:
            raise EvidenceMalformed(
                f"test root: subject is {root.subject_cn!r}, want ARK-Milan, ARK-Genoa or ARK-Turin"
            )
        place = (root.product, root.spki_sha256)
        name = AMD_ROOT if AMD_ROOT_KEYS[root.product] == root.spki_sha256 else f"test:{root.spki_sha256.hex()}"
        return TrustAnchors({**self.keys, place: name}, (*self.test_roots, root))

    def name_of(self, root: AmdCertificate) -> str | None:
        """``amd``, ``test:…``, or ``None`` for a key that is not trusted for this product."""
        return self.keys.get((root.product, root.spki_sha256))
