"""The appraisal policy: a TOML document in which every comparison is a written decision.

There are no defaults. A key that is missing is a problem; whoever does not want a comparison writes ``"ignore"`` (or
``"any"``), and that word is what the decision record shows later. See ``policy/documents/`` for commented examples.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from policy.errors import ConfigInvalid, MalformedInput
from policy.snp_rules import SnpRules
from policy.snp_table import snp_rules
from policy.table import Problems, Table
from policy.vocab import LaunchDigest

MAX_BYTES = 1 << 20
_ROOT = re.compile(r"amd|test:[0-9a-f]{64}")


class PolicyInvalid(ConfigInvalid):
    """A policy document with problems; ``problems`` lists all of them."""

    code = "policy.invalid"


@dataclass(frozen=True, slots=True, eq=False)
class PolicyDocument:
    """One appraisal policy. ``measurement`` is ``registered``, ``listed`` or ``any``.

    Compared by identity; whether two documents say the same is a question about ``raw``.
    """

    name: str
    description: str
    roots: tuple[str, ...]
    measurement: str
    launch_digests: tuple[LaunchDigest, ...]
    snp: SnpRules
    raw: bytes

    @property
    def emulated_allowed(self) -> bool:
        """Whether any trusted root is not AMD's."""
        return any(root != "amd" for root in self.roots)


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
    measurement, digests = _measurement(root)
    snp_table = root.table("snp")
    rules = None if snp_table is None else snp_rules(snp_table)
    root.finish()
    if problems.found or rules is None:
        raise PolicyInvalid("policy", tuple(problems.found))
    return PolicyDocument(name, description, roots, measurement, digests, rules, bytes(data))


def _toml(data: bytes) -> dict[str, object]:
    if len(data) > MAX_BYTES:
        raise PolicyInvalid("policy", (f"$: {len(data)} bytes, want at most {MAX_BYTES}",))
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise PolicyInvalid("policy", (f"$: byte {exc.start} is not UTF-8",)) from None
    except (ValueError, RecursionError) as exc:  # TOMLDecodeError, or an integer of absurd length
        raise PolicyInvalid("policy", (f"$: not TOML: {exc}",)) from None


def _roots(root: Table) -> tuple[str, ...]:
    trust = root.table("trust")
    if trust is None:
        return ()
    roots = trust.strings("roots")
    for entry in roots:
        if not _ROOT.fullmatch(entry):
            trust.problem("roots", f'got "{entry[:80]}", want "amd" or "test:<SHA-256 of the root key, 64 hex digits>"')
    if trust.has("roots") and not roots:
        trust.problem("roots", "empty: a policy that trusts nobody accepts nothing; name at least one root")
    trust.finish()
    return roots


def _measurement(root: Table) -> tuple[str, tuple[LaunchDigest, ...]]:
    table = root.table("measurement")
    if table is None:
        return "registered", ()
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
