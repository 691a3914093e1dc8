"""What ``attest collateral fetch`` means: the things that evidence, a chip, a product or a platform needs."""

from __future__ import annotations

from argparse import Namespace

from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_supply import wanted_of_quote
from attest.collateral.intel_wanted import IntelWanted, PckCa, Tee, wanted_of_platform
from attest.collateral.supply import products_of, wanted_of_report
from attest.collateral.wanted import Family, Kind, Wanted, wanted_vcek
from attest.endorsement.intel import IntelAnchors
from attest.evidence.quote import Quote
from attest.evidence.recognise import Evidence, QuoteEvidence, SnpEvidence
from policy.errors import ConfigInvalid, MalformedInput
from policy.snp import TcbVersion
from policy.vocab import SnpProduct


def is_intels(args: Namespace, evidence: Evidence | None) -> bool:
    """Whether Intel's things are meant. Raises ConfigInvalid for options of both makers."""
    if args.fmspc is None and not isinstance(evidence, QuoteEvidence):
        if args.ca is not None or args.tee is not None:
            raise ConfigInvalid("fetch", ("--ca and --tee belong to --fmspc",))
        return False
    if args.product is not None or args.chip is not None or args.tcb is not None:
        raise ConfigInvalid("fetch", ("--product, --chip and --tcb are AMD's; a quote or --fmspc names Intel's",))
    if args.fmspc is not None and evidence is not None and not isinstance(evidence, QuoteEvidence):
        raise ConfigInvalid("fetch", ("want either evidence or --fmspc, not both",))
    return True


def amd_plans(args: Namespace, evidence: Evidence | None) -> list[tuple[Wanted, ...]]:
    """What to fetch of AMD's; alternatives in order. Raises ConfigInvalid."""
    product = None if args.product is None else SnpProduct(args.product)
    if args.report is not None:
        if args.chip is not None or args.tcb is not None:
            raise ConfigInvalid("fetch", ("want either a report or --chip and --tcb, not both",))
        if not isinstance(evidence, SnpEvidence):
            raise ConfigInvalid("fetch", ("that evidence has no certificates anywhere: want a report or a quote",))
        report = evidence.report
        products = products_of(report) if product is None else (product,)
        if not products:
            raise ConfigInvalid("fetch", ("the report's CPU is of no known product: name it with --product",))
        return [wanted_of_report(report, each) for each in products]
    if product is None or (args.chip is None) != (args.tcb is None):
        raise ConfigInvalid("fetch", ("want a report, or --product with --chip and --tcb, or --product alone",))
    if args.chip is None:
        return [tuple(Wanted(kind, product, family) for family in Family for kind in (Kind.CHAIN, Kind.CRL))]
    leaf = wanted_vcek(product, args.chip, _tcb(args.tcb, product))
    return [(Wanted(Kind.CHAIN, product), leaf, Wanted(Kind.CRL, product))]


def _tcb(text: str, product: SnpProduct) -> bytes:
    """16 hex digits, or the parts in decimal with dots."""
    fmc = ("fmc",) if product is SnpProduct.TURIN else ()
    names = (*fmc, "bootloader", "tee", "snp", "microcode")
    parts = text.split(".")
    try:
        if len(parts) == 1:
            raw = bytes.fromhex(text)
            return TcbVersion.from_bytes(raw, product).to_bytes()
        return TcbVersion(**dict(zip(names, map(int, parts), strict=True))).to_bytes()
    except (ValueError, MalformedInput):
        want = f"16 hex digits, or {'.'.join(names)} in decimal"
        raise ConfigInvalid("--tcb", (f"got {text[:40]!r}, want {want} for {product.value}",)) from None


def intel_plan(
    args: Namespace, quote: Quote | None, anchors: IntelAnchors, source: PcsSource
) -> tuple[IntelWanted, ...]:
    """What a quote, or the platform of the options, needs. Raises ConfigInvalid."""
    if quote is not None:
        if args.fmspc is not None or args.ca is not None or args.tee is not None:
            raise ConfigInvalid("fetch", ("want either a quote or --fmspc, --ca and --tee, not both",))
        plan = wanted_of_quote(quote, source, anchors)
        if not plan:
            raise ConfigInvalid(
                "fetch", ("the quote's certificates do not lead to a trusted root: attest evidence verify says why",)
            )
        return plan
    if args.ca is None:
        raise ConfigInvalid("fetch", ("--fmspc wants --ca platform or --ca processor beside it",))
    return wanted_of_platform(Tee(args.tee or "tdx"), args.fmspc, PckCa(args.ca), source.channel)
