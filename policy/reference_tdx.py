"""What a reference-value file says about a TD beyond MRTD: four RTMRs and the events they are made of.

``rtmr`` is a list of four registers, hexadecimal or null; ``events`` lists what is known of every register in order;
``unpredicted`` says, register by register, what could not be known. With a recipe the three must agree: a register is
null exactly if something of it is unpredicted, and any other equals the replay of its events. A file that contradicts
itself is refused. MRTD cannot be recomputed here: that takes the firmware's pages; ``firmware_sha256`` names the file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from policy.measured import REGISTERS, MeasuredEvent, replay
from policy.reference_fields import ReferenceMalformed, hex_bytes, integer, json_object, only, word

if TYPE_CHECKING:
    from policy.reference import LaunchRecipe, MeasuredInput

SINGLE_PASS, TWO_PASS = "single-pass", "two-pass"
"""Orders in which a VMM adds and measures pages: page by page (QEMU 9 and later, KVM 6.16), or section by section."""
FLAVOUR_TDX, FLAVOUR_EMULATED = "tdx", "emulated"
"""Who extends the registers: the TDX module, or a TPM whose PCRs are mapped to RTMRs."""

_MOST_EVENTS = 4096
_MOST_WORDS = 64
_UNPREDICTED = re.compile(r"RTMR([0-3]): .+")
_RECIPE = ("firmware_sha256", "order", "flavour", "layout", "memory_bytes", "vcpus")
_EVENT = ("register", "type", "digest", "name", "detail")


class TdRecipe(NamedTuple):
    """Everything that determines a TD's MRTD and RTMRs, as far as it is known.

    ``firmware_sha256``: 32 bytes. ``layout``: words for what the firmware's build decides (`ovmf.td_layout`).
    ``events`` in the order of each register; ``unpredicted``: strings ``RTMR<n>: what and why``.
    """

    firmware_sha256: bytes
    order: str
    flavour: str
    layout: tuple[str, ...]
    memory_bytes: int
    vcpus: int
    events: tuple[MeasuredEvent, ...]
    unpredicted: tuple[str, ...] = ()
    inputs: tuple[MeasuredInput, ...] = ()


def registers_of(events: tuple[MeasuredEvent, ...], unpredicted: tuple[str, ...]) -> tuple[bytes | None, ...]:
    """The four registers after ``events``; ``None`` for one of which something is unpredicted.

    Raises :class:`ReferenceMalformed` for an entry of ``unpredicted`` that names no register.
    """
    matches = [(text, _UNPREDICTED.fullmatch(text)) for text in unpredicted]
    wrong = next((text for text, match in matches if match is None), None)
    if wrong is not None:
        raise ReferenceMalformed(f"reference: unpredicted: got {wrong[:80]!r}, want 'RTMR<n>: …'")
    open_ones = {int(match[1]) for _, match in matches if match is not None}
    return tuple(None if index in open_ones else value for index, value in enumerate(replay(events)))


def td_members(rtmrs: tuple[bytes | None, ...], recipe: LaunchRecipe | TdRecipe | None) -> dict[str, Any]:
    """The members of the file that only a TD has."""
    events, unpredicted = (recipe.events, recipe.unpredicted) if isinstance(recipe, TdRecipe) else ((), ())
    return {
        "rtmr": [None if register is None else register.hex() for register in rtmrs],
        "events": [event_to_json(event) for event in events],
        "unpredicted": list(unpredicted),
    }


def td_recipe_to_json(recipe: TdRecipe) -> dict[str, Any]:
    """The recipe without events, unpredicted and inputs, which stand beside it in the file."""
    return {
        "firmware_sha256": recipe.firmware_sha256.hex(),
        "order": recipe.order,
        "flavour": recipe.flavour,
        "layout": list(recipe.layout),
        "memory_bytes": recipe.memory_bytes,
        "vcpus": recipe.vcpus,
    }


def event_to_json(event: MeasuredEvent) -> dict[str, Any]:
    """One expected event; whether it was ``proven`` is a word about logs and not written."""
    return {
        "register": event.register,
        "type": event.type,
        "digest": event.digest.hex(),
        "name": event.name,
        "detail": event.detail,
    }


def td_recipe_from_json(
    document: dict[str, Any], inputs: tuple[MeasuredInput, ...]
) -> tuple[TdRecipe | None, tuple[bytes | None, ...]]:
    """The recipe and the four registers of a parsed file, or :class:`ReferenceMalformed`.

    Without a recipe the registers are somebody's word, so events would prove nothing: they must be absent then.
    """
    rtmrs = _registers(document.get("rtmr"))
    events = tuple(_event(item) for item in _list(document, "events", _MOST_EVENTS))
    unpredicted = _texts(document, "unpredicted")
    recipe = document.get("recipe")
    if recipe is None:
        if events or unpredicted or inputs:
            raise ReferenceMalformed("reference: events, unpredicted, inputs: want them empty without a recipe")
        return None, rtmrs
    _check_registers(rtmrs, registers_of(events, unpredicted))
    return _recipe(json_object(recipe, "recipe"), events, unpredicted, inputs), rtmrs


def _recipe(
    table: dict[str, Any],
    events: tuple[MeasuredEvent, ...],
    unpredicted: tuple[str, ...],
    inputs: tuple[MeasuredInput, ...],
) -> TdRecipe:
    only(table, "recipe", _RECIPE)
    return TdRecipe(
        firmware_sha256=hex_bytes(table, "firmware_sha256", 32),
        order=_one_of(table, "order", (SINGLE_PASS, TWO_PASS)),
        flavour=_one_of(table, "flavour", (FLAVOUR_TDX, FLAVOUR_EMULATED)),
        layout=_texts(table, "layout"),
        memory_bytes=integer(table, "memory_bytes", 2**63, least=1),
        vcpus=integer(table, "vcpus", 4097, least=1),
        events=events,
        unpredicted=unpredicted,
        inputs=inputs,
    )


def _check_registers(stated: tuple[bytes | None, ...], computed: tuple[bytes | None, ...]) -> None:
    for index, (ours, theirs) in enumerate(zip(computed, stated, strict=True)):
        if ours != theirs:
            shown = ["null" if value is None else value.hex() for value in (theirs, ours)]
            raise ReferenceMalformed(
                f"reference: rtmr[{index}]: got {shown[0]}, but its events and unpredicted give {shown[1]}",
                code="reference.inconsistent",
            )


def _registers(value: object) -> tuple[bytes | None, ...]:
    if not isinstance(value, list) or len(value) != REGISTERS:
        raise ReferenceMalformed(f"reference: rtmr: want a list of {REGISTERS}, each 96 hex digits or null")
    return tuple(None if item is None else hex_bytes({"rtmr": item}, "rtmr", 48) for item in value)


def _event(item: object) -> MeasuredEvent:
    table = json_object(item, "events")
    only(table, "events", _EVENT)
    return MeasuredEvent(
        register=integer(table, "register", REGISTERS),
        type=integer(table, "type", 2**32),
        digest=hex_bytes(table, "digest", 48),
        name=word(table, "name"),
        detail=word(table, "detail"),
    )


def _texts(table: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(word({key: item}, key) for item in _list(table, key, _MOST_WORDS))


def _list(table: dict[str, Any], key: str, most: int) -> list[object]:
    value = table.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise ReferenceMalformed(f"reference: {key}: want a list of at most {most}")
    return value


def _one_of(table: dict[str, Any], key: str, words: tuple[str, ...]) -> str:
    value = word(table, key)
    if value not in words:
        raise ReferenceMalformed(f"reference: {key}: got {value[:40]!r}, want {' or '.join(words)}")
    return value
