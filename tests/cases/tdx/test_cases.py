"""Every rule of the verifier of quotes refuses what only it can notice, and nothing else is wrong in the case."""

from __future__ import annotations

import pytest

from attest.verifier import quote as verifier
from policy.errors import CvmError
from policy.vocab import Platform
from tests.cases.tdx.cases import CASES, Case
from tests.fakes.intel_pki import FakeIntelPki

LAYOUTS = [(3, "sgx"), (4, "sgx"), (5, "sgx"), (4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5-extended")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rule_that_must_notice_notices(case: Case) -> None:
    with pytest.raises(CvmError) as caught:
        case.attempt()
    assert caught.value.code == case.code, caught.value


def test_every_step_of_the_verifier_has_a_case() -> None:
    documented = {line.split()[1] for line in (verifier.__doc__ or "").splitlines() if line[:6].strip().isdigit()}
    documented -= {"format", "certification"}  # the parser's, and what only shows as unsupported
    assert {f"verification.{name}" for name in documented} <= {case.code for case in CASES}


@pytest.mark.parametrize(("version", "layout"), LAYOUTS)
@pytest.mark.parametrize("ca", ["PLATFORM_CA", "PROCESSOR_CA"])
def test_the_unbroken_platform_is_genuine(version: int, layout: str, ca: str) -> None:
    claims = FakeIntelPki(version=version, layout=layout, ca=ca).verify(report_data=b"\x22" * 64)
    assert claims.platform is (Platform.EMULATED_SGX if layout == "sgx" else Platform.EMULATED_TDX)
    assert claims.revocation == "good"
    assert claims.tee.root.startswith("test:")
