"""The appraisal policy: a TOML document in which every comparison is a written decision.

There are no defaults. A key that is missing is a problem; whoever does not want a comparison writes ``"ignore"`` (or
``"any"``), and that word is what the decision record shows later. See ``policy/documents/`` for commented examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from policy.errors import ConfigInvalid, MalformedInput
from policy.rego_rules import RegoRules, rego_rules
from policy.sgx_rules import SgxRules
from policy.sgx_table import sgx_rules
from policy.snp_rules import SnpRules
from policy.snp_table import snp_rules
from policy.table import Problems, Table
from policy.tdx_rules import REGISTERED, TdxRules
from policy.tdx_table import tdx_rules
from policy.toml import TomlInvalid, strict_toml
from policy.vocab import LaunchDigest

_VENDORS = ("amd", "intel")
_ROOT = re.compile(r"amd|intel|test:[0-9a-f]{64}")
TeeRules = SnpRules | TdxRules | SgxRules


class PolicyInvalid(ConfigInvalid):
    """A policy document with problems; ``problems`` lists all of them."""

    code = "policy.invalid"


@dataclass(frozen=True, slots=True, eq=False)
class PolicyDocument:
    """One appraisal policy: a table per kind of evidence, at least one; evidence without its table is refused.

    ``measurement`` is ``registered``, ``listed`` or ``any``, and is about launch digests of SEV-SNP and TDX; enclaves
    are named in ``[sgx]``. ``rego`` are further rules, which can only refuse. Compared by identity; whether two
    documents say the same is a question about ``raw``.
    """

    name: str
    description: str
    roots: tuple[str, ...]
    measurement: str
    launch_digests: tuple[LaunchDigest, ...]
    snp: SnpRules | None
    tdx: TdxRules | None
    sgx: SgxRules | None
    raw: bytes
    rego: RegoRules | None = None

    @property
    def emulated_allowed(self) -> bool:
        """Whether any trusted root is not a vendor's."""
        return any(root not in _VENDORS for root in self.roots)


def parse_policy(data: bytes) -> PolicyDocument:
    """Decode a policy document, or raise :class:`PolicyInvalid` with every problem."""
    problems = Problems()
    root = Table(_toml(data), problems)
    schema = root.value("schema", int)
    if schema not in (None, 1):
        root.problem("schema", f"got {schema}, want 1")
    name = root.value("name", str) or ""
    description = root.value("description", str) or ""
    roots = _roots(root)
    snp, tdx, sgx, rego = (root.table(key, required=False) for key in ("snp", "tdx", "sgx", "rego"))
    if snp is tdx is sgx is None:
        root.problem("snp", "missing, and so are tdx and sgx: want a table for at least one kind of evidence")
    measurement, digests = _measurement(root, needed=sgx is None or snp is not None or tdx is not None)
    document = PolicyDocument(
        name=name,
        description=description,
        roots=roots,
        measurement=measurement,
        launch_digests=digests,
        snp=None if snp is None else snp_rules(snp),
        tdx=None if tdx is None else _tdx(tdx, measurement),
        sgx=None if sgx is None else sgx_rules(sgx),
        raw=bytes(data),
        rego=None if rego is None else rego_rules(rego),
    )
    root.finish()
    if problems.found:
        raise PolicyInvalid("policy", tuple(problems.found))
    return document


def _tdx(table: Table, measurement: str) -> TdxRules:
    rules = tdx_rules(table)
    for index, rule in enumerate(rules.rtmrs):
        if rule == REGISTERED and measurement != "registered":
            table.problem(f"rtmr{index}", '"registered" needs measurement.accept = "registered"; list values, or "any"')
    return rules


def _toml(data: bytes) -> dict[str, object]:
    try:
        return strict_toml(data)
    except TomlInvalid as exc:
        raise PolicyInvalid("policy", (f"$: {exc.message}",)) from None


def _roots(root: Table) -> tuple[str, ...]:
    trust = root.table("trust")
    if trust is None:
        return ()
    roots = trust.strings("roots")
    for entry in roots:
        if not _ROOT.fullmatch(entry):
            trust.problem("roots", f'got "{entry[:80]}", want "amd", "intel" or "test:<SHA-256 of the root key>"')
    if trust.has("roots") and not roots:
        trust.problem("roots", "empty: a policy that trusts nobody accepts nothing; name at least one root")
    trust.finish()
    return roots


def _measurement(root: Table, *, needed: bool) -> tuple[str, tuple[LaunchDigest, ...]]:
    table = root.table("measurement", required=needed)
    if table is None:
        return "registered", ()
    if not needed:
        root.problem("measurement", "says nothing without [snp] or [tdx]; an enclave is named in sgx.mrenclaves")
    mode = table.choice("accept", ("registered", "listed", "any")) or "registered"
    found: list[LaunchDigest] = []
    for text in table.strings("launch_digests", ()):
        try:
            found.append(LaunchDigest.from_hex(text))
        except MalformedInput as exc:
            table.problem("launch_digests", exc.message)
    if (mode == "listed") != bool(found):
        table.problem("launch_digests", 'want at least one with accept = "listed", and none otherwise')
    if mode == "any" and not table.value("reason", str):
        table.problem("reason", 'accept = "any" releases to every guest of these chips; write the reason')
    elif mode != "any" and table.has("reason"):
        table.problem("reason", 'only with accept = "any"')
    table.finish()
    return mode, tuple(found)
