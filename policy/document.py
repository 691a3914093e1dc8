"""The appraisal policy: a TOML document in which every comparison is a written decision.

There are no defaults. A key that is missing is a problem; whoever does not want a comparison writes ``"ignore"`` (or
``"any"``), and that word is what the decision record shows later. See ``policy/documents/`` for commented examples.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from policy.errors import ConfigInvalid, MalformedInput
from policy.snp import SigningKey, TcbVersion
from policy.table import Problems, Table
from policy.vocab import LaunchDigest, SnpProduct

MAX_BYTES = 1 << 20
_ROOT = re.compile(r"amd|test:[0-9a-f]{64}")


class PolicyInvalid(ConfigInvalid):
    """A policy document with problems; ``problems`` lists all of them."""

    code = "policy.invalid"


@dataclass(frozen=True, slots=True)
class MinimumTcb:
    """A floor for REPORTED_TCB (and thereby the certificate's): ``models`` are CPUID model numbers, empty for all."""

    product: SnpProduct
    models: tuple[int, ...]
    floor: TcbVersion
    reason: str


@dataclass(frozen=True, slots=True)
class SnpRules:
    """The ``[snp]`` table. ``None`` means the author wrote ``"ignore"`` or ``"any"``."""

    products: tuple[SnpProduct, ...]
    signing_keys: tuple[SigningKey, ...]
    report_version_min: int
    vmpl: tuple[int, ...]
    permissions: dict[str, bool]
    """Guest-policy permissions (``debug``, ``migrate_ma``, ``smt``, ``cxl_allow``): True where allowed."""
    demands: dict[str, bool]
    """Guest-policy demands (``single_socket`` …): True where required."""
    abi_min: tuple[int, int]
    alias_check: bool
    ecc: bool
    unknown_platform_bits: bool
    """True where undefined PLATFORM_INFO bits are tolerated."""
    provisional_firmware: bool
    """True where firmware that is loaded but not committed is tolerated."""
    minimum_tcb: tuple[MinimumTcb, ...]
    guest_svn_min: int
    host_data: bytes | None
    id_key_digests: tuple[bytes, ...] | None
    author_key_digests: tuple[bytes, ...] | None
    chip_ids: tuple[bytes, ...] | None
    denied_chip_ids: tuple[bytes, ...]
    csp_ids: tuple[str, ...] | None
    revocation: str
    """``good`` (only a checked, current CRL passes) or ``not-checked`` (absence or staleness is tolerated)."""


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """One appraisal policy. ``measurement`` is ``registered``, ``listed`` or ``any``."""

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


PERMISSIONS = {
    "debug": "the host may decrypt guest memory",
    "migrate_ma": "a migration agent may move the guest",
    "smt": "sibling threads may run other code",
    "cxl_allow": "memory may lie behind CXL",
}
DEMANDS = {
    "single_socket": "the guest stays on one socket",
    "mem_aes_256_xts": "memory encryption is AES-256-XTS",
    "rapl_dis": "the power meter side channel is off",
    "ciphertext_hiding": "the host cannot read ciphertext",
    "page_swap_disable": "the host cannot move guest pages",
}


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
    rules = None if snp_table is None else _snp(snp_table)
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


def _snp(table: Table) -> SnpRules:
    rules = SnpRules(
        products=_enums(table, "products", {product.value: product for product in SnpProduct}),
        signing_keys=_enums(table, "signing_keys", {"VCEK": SigningKey.VCEK, "VLEK": SigningKey.VLEK}),
        report_version_min=_int(table, "report_version_min", 2, 5),
        vmpl=_vmpl(table),
        permissions={key: table.choice(key, ("allow", "forbid")) == "allow" for key in PERMISSIONS},
        demands={key: table.choice(key, ("require", "ignore")) == "require" for key in DEMANDS},
        abi_min=_abi(table),
        alias_check=table.choice("alias_check", ("require", "ignore")) != "ignore",
        ecc=table.choice("ecc", ("require", "ignore")) != "ignore",
        unknown_platform_bits=table.choice("unknown_platform_bits", ("forbid", "ignore")) == "ignore",
        provisional_firmware=table.choice("provisional_firmware", ("allow", "forbid")) == "allow",
        minimum_tcb=tuple(found for entry in table.tables("minimum_tcb") if (found := _minimum(entry)) is not None),
        guest_svn_min=_int(table, "guest_svn_min", 0, 2**32 - 1),
        host_data=_one_hex(table, "host_data", 32),
        id_key_digests=_hex_list(table, "id_key_digests", (48,)),
        author_key_digests=_hex_list(table, "author_key_digests", (48,)),
        chip_ids=_hex_list(table, "chip_ids", (64, 8)),
        denied_chip_ids=_hex_list(table, "denied_chip_ids", (64, 8)) or (),
        csp_ids=_csp(table),
        revocation=table.choice("revocation", ("good", "not-checked")) or "good",
    )
    for product in rules.products:
        if not any(entry.product is product for entry in rules.minimum_tcb):
            table.problem("minimum_tcb", f"no entry for {product.value}; write one (a floor of zeros, too)")
    table.finish()
    return rules


def _enums(table: Table, key: str, words: dict[str, object]) -> tuple:  # type: ignore[type-arg]  # typed by the caller
    found = table.strings(key)
    for word in found:
        if word not in words:
            table.problem(key, f'got "{word[:40]}", want some of {", ".join(words)}')
    if table.has(key) and not found:
        table.problem(key, f"empty, want some of {', '.join(words)}")
    return tuple(words[word] for word in found if word in words)


def _int(table: Table, key: str, least: int, most: int) -> int:
    value = table.value(key, int)
    if value is not None and not least <= value <= most:
        table.problem(key, f"got {value}, want {least}..{most}")
    return value or 0


def _vmpl(table: Table) -> tuple[int, ...]:
    value = table.value("vmpl", list, want="a list of privilege levels 0..3")
    if value is None:
        return ()
    good = tuple(item for item in value if type(item) is int and 0 <= item <= 3)
    if len(good) != len(value) or not good:
        table.problem("vmpl", f"got {value!r}, want a non-empty list of 0..3")
    return good


def _abi(table: Table) -> tuple[int, int]:
    text = table.value("abi_min", str, want='a string such as "1.51"') or "0.0"
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text)
    if match is None or max(int(match[1]), int(match[2])) > 255:
        table.problem("abi_min", f'got "{text[:20]}", want "major.minor"')
        return 0, 0
    return int(match[1]), int(match[2])


def _minimum(table: Table) -> MinimumTcb | None:
    product = table.choice("product", [item.value for item in SnpProduct])
    models = table.value("models", list, [], want="a list of CPUID model numbers") or []
    if not all(type(model) is int and 0 <= model <= 255 for model in models):
        table.problem("models", f"got {models!r}, want CPUID model numbers 0..255")
        models = []
    names = ["bootloader", "tee", "snp", "microcode"] + (["fmc"] if product == SnpProduct.TURIN.value else [])
    parts = {part: _int(table, part, 0, 255) for part in names}
    reason = table.value("reason", str) or ""
    table.finish()
    if product is None:
        return None
    return MinimumTcb(SnpProduct(product), tuple(models), TcbVersion(**parts), reason)


def _one_hex(table: Table, key: str, length: int) -> bytes | None:
    text = table.value(key, str, want=f'"ignore" or {2 * length} hex digits')
    if text is None or text == "ignore":
        return None
    return _unhex(table, key, text, (length,))


def _hex_list(table: Table, key: str, lengths: tuple[int, ...]) -> tuple[bytes, ...] | None:
    """A list of hex strings, or the word ``"any"``; ``()`` after a problem, so that nothing is accepted by mistake."""
    if table.has(key) and table.value(key, object) == "any":
        return None
    return tuple(_unhex(table, key, text, lengths) for text in table.strings(key))


def _unhex(table: Table, key: str, text: str, lengths: tuple[int, ...]) -> bytes:
    wanted = " or ".join(str(2 * length) for length in lengths)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text) or len(text) // 2 not in lengths:
        table.problem(key, f'got "{text[:40]}", want {wanted} hex digits')
        return b""
    return bytes.fromhex(text)


def _csp(table: Table) -> tuple[str, ...] | None:
    if table.has("csp_ids") and table.value("csp_ids", object) == "any":
        return None
    return table.strings("csp_ids")
