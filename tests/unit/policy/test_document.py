"""Policy documents: no defaults, every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.document import PolicyInvalid, parse_policy

DOCUMENTS = Path(__file__).resolve().parents[3] / "policy" / "documents"
STRICT = (DOCUMENTS / "strict.toml").read_text()
SNP_ONLY = (DOCUMENTS / "cloud-aws.toml").read_text()


@pytest.mark.parametrize("line", [
    line for line in STRICT.splitlines()
    if "=" in line and not line.startswith("#") and line.split(" = ")[0] not in ("models", "steppings")
])  # fmt: skip
def test_no_line_of_a_policy_may_be_left_out(line: str) -> None:
    text = STRICT.replace(line + "\n", "", 1)
    if line.split(" = ")[0] in ("bootloader", "tee", "snp", "microcode", "fmc", "reason", "product", "applies_to"):
        text = STRICT.replace(line + "\n", "")
    with pytest.raises(PolicyInvalid, match="missing"):
        parse_policy(text.encode())


def test_every_problem_is_reported_at_once_with_its_path_and_a_suggestion() -> None:
    text = STRICT.replace('debug = "forbid"', 'debgu = "forbid"').replace("vmpl = [0]", "vmpl = [4]")
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text.encode())
    assert any(problem.startswith("$.snp.debug: missing") for problem in caught.value.problems)
    assert '$.snp.debgu: unknown key (did you mean "debug"?)' in caught.value.problems
    assert any(problem.startswith("$.snp.vmpl: got [4]") for problem in caught.value.problems)


def test_a_listed_measurement_without_digests_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="launch_digests"):
        parse_policy(STRICT.replace('accept = "registered"', 'accept = "listed"').encode())


def test_accepting_any_measurement_demands_a_written_reason() -> None:
    text = SNP_ONLY.replace('accept = "registered"', 'accept = "any"')
    with pytest.raises(PolicyInvalid, match="reason"):
        parse_policy(text.encode())
    text = SNP_ONLY.replace('accept = "registered"', 'accept = "any"\nreason = "a lab"')
    assert parse_policy(text.encode()).measurement == "any"


def test_a_policy_that_trusts_nobody_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="trusts nobody"):
        parse_policy(STRICT.replace('roots = ["amd", "intel"]', "roots = []").encode())


def test_a_product_without_a_floor_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match="no entry for Milan"):
        parse_policy(STRICT.replace('products = ["Genoa", "Turin"]', 'products = ["Milan", "Genoa", "Turin"]').encode())


@pytest.mark.parametrize("data", [b"\xff", b"a = ", b"=" * 100, b"[" * 5000, b"x" * (2 << 20), b"a = " + b"9" * 5000])
def test_bytes_that_are_no_toml_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        parse_policy(data)


def test_the_demo_policy_differs_from_strict_only_where_the_emulated_chip_demands_it() -> None:
    def settings(name: str) -> dict[str, str]:
        lines = [line.split("#")[0].strip() for line in (DOCUMENTS / name).read_text().splitlines()]
        snp = lines[lines.index("[snp]") : lines.index("[[snp.firmware]]")]
        return dict(line.split(" = ", 1) for line in snp if " = " in line)

    strict, demo = settings("strict.toml"), settings("demo.toml")
    differing = {key for key in strict if strict[key] != demo[key]}
    assert differing == {"products", "revocation", "unknown_platform_bits"}
