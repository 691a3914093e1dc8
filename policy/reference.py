"""Reference values: the launch digests an operator expects, with the recipe that makes each of them checkable.

The file ``cvm measure -o`` writes and ``attest reference add`` reads (schema ``cvm.reference/1``). The recipe holds
every input of the digest in the smallest form that still reproduces it: the digest state after the firmware's pages,
the firmware's metadata sections, the three boot hashes, the vCPUs. So a receiver recomputes the digest without the
files, a file whose digest does not follow from its recipe is refused, and a mismatch can be explained input by input.
On the start-up path of ``cvm measure``: no dataclasses here.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from policy.errors import UnsupportedInput
from policy.reference_fields import (
    ReferenceMalformed,
    hex_bytes,
    hex_or_none,
    integer,
    json_object,
    only,
    optional_hex,
    word,
)
from policy.stage import Stage
from policy.vocab import LaunchDigest, Platform

if TYPE_CHECKING:
    from policy.reference_tdx import TdRecipe

__all__ = [
    "LaunchRecipe",
    "MeasuredInput",
    "ReferenceMalformed",
    "ReferenceValue",
    "Section",
    "reference_from_bytes",
    "reference_from_json",
    "reference_to_bytes",
    "reference_to_json",
]

SCHEMA = "cvm.reference/1"
FORMULA = 1
"""Version of the digest computation; raised when the same inputs would give another digest."""

TD_PLATFORMS = (Platform.TDX, Platform.EMULATED_TDX)
"""Platforms whose launch is MRTD and four RTMRs."""

_MAX_BYTES = 1 << 20
_MEMBERS = ("schema", "formula", "name", "platform", "launch_digest", "created", "expires", "recipe", "inputs")
_TD_MEMBERS = ("rtmr", "events", "unpredicted")


class Section(NamedTuple):
    """One SEV metadata section of the firmware: guest physical address, size in bytes, type."""

    gpa: int
    size: int
    type: int


class MeasuredInput(NamedTuple):
    """A file (or text) that is measured; ``sha256`` is lower-case hex, ``path`` as the operator wrote it."""

    name: str
    path: str
    sha256: str


class LaunchRecipe(NamedTuple):
    """Everything that determines an SEV-SNP launch digest.

    ``firmware_ld``: 48 bytes, GCTX.LD after the firmware's NORMAL pages. ``hash_table_gpa``: where the firmware's
    footer puts the boot hash table, ``None`` if it has none. The three boot hashes are raw SHA-256 (32 bytes; the
    command line's covers its trailing NUL) and all ``None`` when no kernel is measured. ``vcpu_sig`` is CPUID 1
    EAX, ``guest_features`` is SEV_FEATURES of the VMSA.
    """

    firmware_sha256: bytes
    firmware_ld: bytes
    sections: tuple[Section, ...]
    hash_table_gpa: int | None
    ap_eip: int
    vcpus: int
    vcpu_sig: int
    guest_features: int
    vmm: str
    kernel_sha256: bytes | None
    initrd_sha256: bytes | None
    cmdline_sha256: bytes | None
    inputs: tuple[MeasuredInput, ...] = ()


class ReferenceValue(NamedTuple):
    """One expected launch digest. ``created`` and ``expires`` are aware datetimes.

    For a TD ``launch_digest`` is MRTD and ``rtmrs`` are the four RTMRs of 48 bytes, ``None`` for one without an
    expected value; for SEV-SNP, which has no such registers, ``rtmrs`` is empty. ``stage`` is not in the file: what
    operators say about it during an upgrade.
    """

    name: str
    platform: Platform
    launch_digest: LaunchDigest
    created: datetime
    expires: datetime | None = None
    recipe: LaunchRecipe | TdRecipe | None = None
    rtmrs: tuple[bytes | None, ...] = ()
    stage: Stage | None = None


def reference_to_json(value: ReferenceValue) -> dict[str, Any]:
    """As the JSON object of the file."""
    recipe = value.recipe
    document = {
        "schema": SCHEMA,
        "formula": FORMULA,
        "name": value.name,
        "platform": value.platform.value,
        "launch_digest": value.launch_digest.hex(),
        "created": value.created.isoformat(),
        "expires": value.expires.isoformat() if value.expires else None,
        "recipe": None if recipe is None else _recipe_to_json(recipe),
        "inputs": [] if recipe is None else [item._asdict() for item in recipe.inputs],
    }
    if value.platform in TD_PLATFORMS:
        from policy.reference_tdx import td_members

        document |= td_members(value.rtmrs, recipe)
    return document


def reference_to_bytes(value: ReferenceValue) -> bytes:
    """The file's bytes: UTF-8 JSON, indented, newline at the end."""
    return (json.dumps(reference_to_json(value), indent=2) + "\n").encode()


def _recipe_to_json(recipe: LaunchRecipe | TdRecipe) -> dict[str, Any]:
    """The recipe without its list of files (and events, of a TD)."""
    if not isinstance(recipe, LaunchRecipe):
        from policy.reference_tdx import td_recipe_to_json

        return td_recipe_to_json(recipe)
    return {
        "firmware_sha256": recipe.firmware_sha256.hex(),
        "firmware_ld": recipe.firmware_ld.hex(),
        "sections": [list(section) for section in recipe.sections],
        "hash_table_gpa": recipe.hash_table_gpa,
        "ap_eip": recipe.ap_eip,
        "vcpus": recipe.vcpus,
        "vcpu_sig": recipe.vcpu_sig,
        "guest_features": recipe.guest_features,
        "vmm": recipe.vmm,
        "kernel_sha256": hex_or_none(recipe.kernel_sha256),
        "initrd_sha256": hex_or_none(recipe.initrd_sha256),
        "cmdline_sha256": hex_or_none(recipe.cmdline_sha256),
    }


def reference_from_bytes(data: bytes) -> ReferenceValue:
    """Parse a reference-value file, or raise :class:`ReferenceMalformed`.

    The launch digest is *not* recomputed here; the RTMRs of a TD are, from the events the file lists.
    """
    from policy.strictjson import strict_json

    return reference_from_json(strict_json(data, "reference", max_bytes=_MAX_BYTES, error=ReferenceMalformed))


def reference_from_json(parsed: object) -> ReferenceValue:
    """The same of what was parsed already, from JSON that was read strictly."""
    document = json_object(parsed, "reference")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise UnsupportedInput(f"reference: schema {str(schema)[:60]!r}, want {SCHEMA!r}", code="reference.unsupported")
    if document.get("formula") != FORMULA:
        raise UnsupportedInput(
            f"reference: formula {str(document.get('formula'))[:20]}, want {FORMULA}", code="reference.unsupported"
        )
    platform = _platform(document.get("platform"))
    td = platform in TD_PLATFORMS
    only(document, "reference", _MEMBERS + _TD_MEMBERS if td else _MEMBERS)
    expires = document.get("expires")
    recipe, rtmrs = _of_td(document) if td else (_of_snp(document), ())
    return ReferenceValue(
        name=_name(document.get("name")),
        platform=platform,
        launch_digest=LaunchDigest(hex_bytes(document, "launch_digest", 48)),
        created=_time(document.get("created"), "created"),
        expires=None if expires is None else _time(expires, "expires"),
        recipe=recipe,
        rtmrs=rtmrs,
    )


def _of_td(document: dict[str, Any]) -> tuple[TdRecipe | None, tuple[bytes | None, ...]]:
    from policy.reference_tdx import td_recipe_from_json

    return td_recipe_from_json(document, _inputs(document.get("inputs")))


def _of_snp(document: dict[str, Any]) -> LaunchRecipe | None:
    recipe = document.get("recipe")
    return None if recipe is None else _recipe(json_object(recipe, "recipe"), document.get("inputs"))


def _recipe(table: dict[str, Any], inputs: object) -> LaunchRecipe:
    only(table, "recipe", LaunchRecipe._fields[:-1])
    sections = table.get("sections")
    if not isinstance(sections, list) or len(sections) > 256:
        raise ReferenceMalformed("recipe: sections: want a list of at most 256")
    gpa = table.get("hash_table_gpa")
    return LaunchRecipe(
        firmware_sha256=hex_bytes(table, "firmware_sha256", 32),
        firmware_ld=hex_bytes(table, "firmware_ld", 48),
        sections=tuple(_section(item) for item in sections),
        hash_table_gpa=None if gpa is None else integer(table, "hash_table_gpa", 2**32),
        ap_eip=integer(table, "ap_eip", 2**32),
        vcpus=integer(table, "vcpus", 4097, least=1),
        vcpu_sig=integer(table, "vcpu_sig", 2**32),
        guest_features=integer(table, "guest_features", 2**64),
        vmm=word(table, "vmm"),
        kernel_sha256=optional_hex(table, "kernel_sha256"),
        initrd_sha256=optional_hex(table, "initrd_sha256"),
        cmdline_sha256=optional_hex(table, "cmdline_sha256"),
        inputs=_inputs(inputs),
    )


def _section(item: object) -> Section:
    if not (
        isinstance(item, list)
        and len(item) == 3
        and all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**32 for number in item)
    ):
        raise ReferenceMalformed("recipe: sections: want [gpa, size, type] of 32-bit integers")
    return Section(*item)


def _inputs(value: object) -> tuple[MeasuredInput, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise ReferenceMalformed("reference: inputs: want a list of at most 64")
    found = []
    for item in value:
        table = json_object(item, "inputs")
        only(table, "inputs", MeasuredInput._fields)
        found.append(MeasuredInput(word(table, "name"), word(table, "path"), hex_bytes(table, "sha256", 32).hex()))
    return tuple(found)


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ReferenceMalformed(
            f"reference: name: got {str(value)[:80]!r}, want letters, digits, '_', '.', '-', at most 64"
        )
    return value


def _platform(value: object) -> Platform:
    try:
        platform = Platform(value)
    except ValueError:
        platform = Platform.NONE
    if platform in (Platform.NONE, Platform.SGX, Platform.EMULATED_SGX):
        raise ReferenceMalformed(f"reference: platform: got {str(value)[:40]!r}, want one that measures its launch")
    return platform


def _time(value: object, key: str) -> datetime:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ReferenceMalformed(f"reference: {key}: got {str(value)[:40]!r}, want RFC 3339 time with a zone")
    return when
