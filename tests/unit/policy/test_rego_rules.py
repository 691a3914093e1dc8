"""``[rego]`` of a policy document, decoded strictly; nothing runs here."""

from __future__ import annotations

import pytest

from policy.document import PolicyInvalid, parse_policy
from tests.fakes.service_world import demo_policy

GOOD = "package policy\nallow := true\n"


def document(table: str) -> bytes:
    return demo_policy() + b"\n" + table.encode()


def test_a_document_may_carry_rego_and_what_its_reference_values_are() -> None:
    found = parse_policy(
        document(f"[rego]\nattestation = '''{GOOD}'''\nreference_values = '{{\"m\": [1, \"x\"]}}'\n")
    ).rego
    assert found is not None
    assert (found.attestation, found.resource, dict(found.reference_values)) == (GOOD, None, {"m": [1, "x"]})
    assert parse_policy(demo_policy()).rego is None


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[rego]\n", "attestation: missing, and so is resource"),
        ("[rego]\nattestation = 5\n", "want a string"),
        ("[rego]\nattestation = 'allow := true'\n", "package policy"),
        ("[rego]\nattestation = '''package policy.other\nallow := true'''\n", "package policy"),
        ("[rego]\nresource = '''package policy\nx := time.now_ns()'''\n", "time.now_ns is not available"),
        ("[rego]\nresource = '''package policy\nx := time . now_ns()'''\n", "time.now_ns is not available"),
        ("[rego]\nresource = '''package policy\nx := http.send({})'''\n", "http.send is not available"),
        ("[rego]\nresource = '''package policy\nx := rand.intn(\"a\", 2)'''\n", "rand.intn is not available"),
        ("[rego]\nresource = '''package policy\nx := opa.runtime()'''\n", "opa.runtime is not available"),
        ("[rego]\nresource = '''package policy\nx := uuid.rfc4122(\"a\")'''\n", "uuid.rfc4122 is not available"),
        (f"[rego]\nresource = '''package policy\n#{'x' * 70000}'''\n", "more than 65536 bytes"),
        (f"[rego]\nresource = '''{GOOD}'''\nreference_values = '[]'\n", "want a JSON object"),
        (f"[rego]\nresource = '''{GOOD}'''\nreference_values = '{{\"a\":1,\"a\":2}}'\n", "appears twice"),
        (f"[rego]\nresource = '''{GOOD}'''\nreference_value = '{{}}'\n", "unknown key"),
    ],
)
def test_a_table_with_one_thing_wrong_is_refused(table: str, problem: str) -> None:
    with pytest.raises(PolicyInvalid, match=problem):
        parse_policy(document(table))
