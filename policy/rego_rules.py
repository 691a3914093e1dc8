"""``[rego]`` of a policy document: rules in Rego beside the tables, as Trustee writes them. Text here, run elsewhere.

They can only refuse what the tables accept. ``attestation`` gives AR4SI claims (``data.policy``), ``resource`` says for
each resource whether it is released (``data.policy.allow``), ``reference_values`` is what
``query_reference_value("name")`` answers.

What a policy decides must follow from what it is shown, or a decision could not be made again later: the built-in
functions that read a clock, roll dice or reach outside are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from policy.errors import MalformedInput
from policy.strictjson import strict_json
from policy.table import Table

MAX_REGO = 64 * 1024
MAX_VALUES = 256 * 1024
BEGIN = "# ---- Rego set over the administration API; replaced as a whole ----"
END = "# ---- end of Rego ----"
_PACKAGE = re.compile(r"^\s*package\s+policy\s*(#.*)?$", re.MULTILINE)
_OUTSIDE = re.compile(
    r"\b(time\s*\.\s*now_ns|rand\s*\.\s*intn|uuid\s*\.\s*rfc4122|http\s*\.\s*send|net\s*\.\s*lookup_ip_addr"
    r"|opa\s*\.\s*runtime)\b"
)


@dataclass(frozen=True, slots=True)
class RegoRules:
    """``None`` where there is no policy of the kind."""

    attestation: str | None = None
    resource: str | None = None
    reference_values: Mapping[str, object] = field(default_factory=dict)


def rego_rules(table: Table) -> RegoRules:
    """Decode the table; problems are its own. Whether the text is Rego only the engine can say."""
    found = RegoRules(
        attestation=_text(table, "attestation"),
        resource=_text(table, "resource"),
        reference_values=_values(table),
    )
    if found.attestation is found.resource is None:
        table.problem("attestation", "missing, and so is resource: want at least one")
    table.finish()
    return found


def rego_problem(text: str) -> str | None:
    """What is wrong with a policy's text before anybody runs it."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_REGO:
        return f"more than {MAX_REGO} bytes"
    if not _PACKAGE.search(text):
        return 'want "package policy"'
    if (outside := _OUTSIDE.search(text)) is not None:
        return f"{''.join(outside[1].split())} is not available: a decision must follow from what the policy is shown"
    return None


def split_rego(data: bytes) -> tuple[bytes, bool]:
    """A document without the block the service added, and whether there was one."""
    rest, begin, _ = data.partition(f"\n{BEGIN}\n".encode())
    return rest, bool(begin)


def with_rego_block(rest: bytes, rules: RegoRules) -> bytes:
    """``rest`` and a block with ``rules``. Reading it gives the same rules again; control characters it cannot hold."""
    lines = [BEGIN, "[rego]"]
    lines += [
        f"{key} = {_quoted(text)}"
        for key, text in (("attestation", rules.attestation), ("resource", rules.resource))
        if text is not None
    ]
    lines += [f"reference_values = {_quoted(json.dumps(dict(rules.reference_values)))}", END, ""]
    return rest + ("\n" + "\n".join(lines)).encode()


def _quoted(text: str) -> str:
    """A multi-line basic string (TOML 1.0.0). A quotation mark is escaped wherever three could meet."""
    body = text.replace("\\", "\\\\").replace('""', '\\"\\"').replace("\r", "\\r")
    return f'"""\n{body}"""'


def _text(table: Table, key: str) -> str | None:
    text = table.value(key, str) if table.has(key) else None
    if text is not None and (problem := rego_problem(text)) is not None:
        table.problem(key, problem)
    return text


def _values(table: Table) -> Mapping[str, object]:
    if not table.has("reference_values"):
        return {}
    text = table.value("reference_values", str, "{}", want="JSON in a string") or "{}"
    try:
        found = strict_json(text, "JSON", max_bytes=MAX_VALUES)
    except MalformedInput as exc:
        table.problem("reference_values", exc.message)
        return {}
    if not isinstance(found, dict):
        table.problem("reference_values", "want a JSON object: values by name")
        return {}
    return found
