"""Which products are asked about for a report."""

from __future__ import annotations

import json

import pytest

from attest.collateral.supply import products_of
from attest.evidence.recognise import parse_snp_evidence
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import FakeAmdPki

NAMELESS = {"version": 2, "cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}
EITHER = (SnpProduct.MILAN, SnpProduct.GENOA)


def nameless(product: SnpProduct) -> SnpReport:
    """A report of version 2, which does not name its CPU."""
    return SnpReport.parse(FakeAmdPki(product=product, report=NAMELESS).raw)


@pytest.mark.parametrize("product", SnpProduct)
def test_a_report_that_names_its_cpu_is_of_that_product_only(product: SnpProduct) -> None:
    assert products_of(SnpReport.parse(FakeAmdPki(product=product).raw)) == (product,)


def test_a_report_of_an_unknown_cpu_is_of_none() -> None:
    assert products_of(SnpReport.parse(FakeAmdPki(report={"cpuid_fam_id": 0x1B}).raw)) == ()


def test_of_reports_that_name_no_cpu_a_short_chip_id_is_turins() -> None:
    assert products_of(nameless(SnpProduct.TURIN)) == (SnpProduct.TURIN,)
    assert products_of(nameless(SnpProduct.MILAN)) == EITHER
    assert products_of(SnpReport.parse(FakeAmdPki(report={**NAMELESS, "chip_id": bytes(64)}).raw)) == EITHER


def test_a_nameless_report_of_turin_verifies_and_is_spelled_as_it_was() -> None:
    world = FakeAmdPki(product=SnpProduct.TURIN, report=NAMELESS)
    assert world.verify().snp.product is SnpProduct.TURIN
    spelled = json.dumps(encode_snp_json(SnpReport.parse(world.raw))).encode()
    assert parse_snp_evidence(spelled).report.raw == world.raw
