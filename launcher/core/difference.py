"""What differs between two VMs, and what of it their hardware will measure. Pure: two plans in, a list of changes out.

Three effects are told apart. ``measured``: part of the launch digest, MRTD or an RTMR. ``shown``: a field of its own in
every report or quote, which an appraisal policy checks, but not part of the digest. ``unmeasured``: the host can change
it and no evidence will tell. Sources: SEV-SNP firmware ABI (56860), SNP_LAUNCH_UPDATE and table "attestation report";
TDX module base specification, "Measurement and attestation".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.core.vm import POLICY_SWITCHES, TD_SWITCHES, Disk, VmConfig
from policy.measured import MeasuredEvent
from policy.named import NamedTuple
from policy.reference import LaunchRecipe
from policy.vocab import Platform

MEASURED, SHOWN, UNMEASURED = "measured", "shown", "unmeasured"
_SNP = (Platform.SEV_SNP, Platform.EMULATED_SNP)
_TD = (Platform.TDX, Platform.EMULATED_TDX)


class Change(NamedTuple):
    """One thing that differs: ``before`` and ``after`` as text (``-`` for absent), its effect and the reason."""

    what: str
    before: str
    after: str
    effect: str
    why: str


def settings_changed(before: VmConfig, after: VmConfig) -> tuple[Change, ...]:
    """Every setting of the VM files that differs, by its path, sorted."""
    old, new = _flat("", before), _flat("", after)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    found = []
    for name in names:
        comes_or_goes = name not in old or name not in new
        if comes_or_goes and _DISK_DEFAULTS.get(name.rpartition("].")[2]) == (old | new)[name]:
            continue  # an option that nobody wrote, of a disk that comes or goes
        effect, why = _effect(name, after.platform, comes_or_goes=comes_or_goes)
        found.append(Change(name, old.get(name, "-"), new.get(name, "-"), effect, why))
    return tuple(found)


def recipe_changed(before: LaunchRecipe, after: LaunchRecipe) -> tuple[Change, ...]:
    """Inputs of the SEV-SNP launch digest that differ. Hashes in hexadecimal."""
    rows = (
        ("firmware", _firmware(before), _firmware(after), "its pages are the first the chip measures"),
        ("vCPUs", str(before.vcpus), str(after.vcpus), "one VMSA page is measured for each"),
        ("CPU signature", hex(before.vcpu_sig), hex(after.vcpu_sig), "in EDX of every VMSA at reset"),
        ("guest features", hex(before.guest_features), hex(after.guest_features), "SEV_FEATURES of every VMSA"),
        ("VMM", before.vmm, after.vmm, "decides the registers in the VMSAs"),
        ("kernel", _hex(before.kernel_sha256), _hex(after.kernel_sha256), _TABLE),
        ("initrd", _hex(before.initrd_sha256), _hex(after.initrd_sha256), _TABLE),
        ("command line", _hex(before.cmdline_sha256), _hex(after.cmdline_sha256), _TABLE),
    )
    return tuple(Change(what, old, new, MEASURED, why) for what, old, new, why in rows if old != new)


_TABLE = "its hash is in the measured boot hash table"


def events_changed(before: Sequence[MeasuredEvent], after: Sequence[MeasuredEvent]) -> tuple[Change, ...]:
    """Predicted events of a TD that differ, register by register in their order."""
    from difflib import SequenceMatcher

    old, new = [_event(item) for item in before], [_event(item) for item in after]
    found: list[Change] = []
    for kind, low, high, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for number in range(max(high - low, end - start)):
            left = before[low + number] if low + number < high else None
            right = after[start + number] if start + number < end else None
            found.append(_event_change(left, right))
    return tuple(found)


def command_line_changed(before: str | None, after: str | None) -> tuple[tuple[str, str], ...]:
    """Words of the kernel command line that went (``-``) or came (``+``), in order."""
    from difflib import SequenceMatcher

    old, new = (before or "").split(), (after or "").split()
    found: list[tuple[str, str]] = []
    for kind, low, high, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            found += [("-", word) for word in old[low:high]] + [("+", word) for word in new[start:end]]
    return tuple(found)


def _event(item: MeasuredEvent) -> tuple[int, str, bytes]:
    return item.register, item.name, item.digest


def _event_change(left: MeasuredEvent | None, right: MeasuredEvent | None) -> Change:
    some = left or right
    if some is None:
        raise TypeError("one of the two exists")
    same = left is None or right is None or left.name == right.name
    name = some.name if same or left is None or right is None else f"{left.name} / {right.name}"
    return Change(f"RTMR{some.register} {name}", _shown(left), _shown(right), MEASURED, "extended into the register")


def _shown(item: MeasuredEvent | None) -> str:
    return "-" if item is None else f"{item.digest.hex()[:16]}…{f' {item.detail}' if item.detail else ''}"


def _effect(name: str, platform: Platform, *, comes_or_goes: bool) -> tuple[str, str]:
    """The effect of one setting by itself; what it does to the command line is told by the command line."""
    if platform is Platform.NONE:
        return UNMEASURED, "nothing measures an ordinary VM"
    if name == "platform":
        return MEASURED, "another platform measures in another way"
    head, _, rest = name.partition(".")
    leaf = name.rpartition(".")[2]
    if head == "net" or head.startswith("disks["):
        return _device_effect(name, platform, comes_or_goes=comes_or_goes)
    for prefix, platforms, effect, why in _RULES:
        if platform in platforms and (name == prefix or name.startswith((f"{prefix}.", f"{prefix}["))):
            return effect, why
    if name.startswith("snp.abi_min") or (head == "snp" and rest in (*POLICY_SWITCHES, "host_data")):
        return SHOWN, "a field of every report, checked by the appraisal policy; not part of the launch digest"
    if head == "tdx" and leaf in (*TD_SWITCHES, "mrconfigid", "mrowner", "mrownerconfig"):
        return SHOWN, "a field of every quote, checked by the appraisal policy; not part of MRTD"
    return UNMEASURED, _HOST


def _device_effect(name: str, platform: Platform, *, comes_or_goes: bool) -> tuple[str, str]:
    """Devices are part of a TD's ACPI tables; what the guest must know of them is in the command line. A plain disk's
    name follows from its place, so one that differs is an encrypted disk's.
    """
    if name == "net.kind" or name.startswith("net.guest."):
        return MEASURED, _WORDS
    if ".verity." in name or name.endswith("].resource") or (name.endswith("].name") and not comes_or_goes):
        return MEASURED, _WORDS
    if platform in _TD and ((comes_or_goes and _DISK_PATH.fullmatch(name)) or _DISK_BUS.fullmatch(name)):
        return MEASURED, "the device is in the ACPI tables, which RTMR0 takes"
    return UNMEASURED, _HOST


_DISK_PATH = re.compile(r"disks\[\d+\]\.path")
_DISK_BUS = re.compile(r"disks\[\d+\]\.bus")
_DISK_DEFAULTS = {
    name: str(value).lower() for name, value in Disk._field_defaults.items() if isinstance(value, (bool, str))
}
_DISK_DEFAULTS.pop("readonly")
_HOST = "no input of the measurement: the host can change it"
_CONTENT = "the path is not measured, the content is: see the inputs"
_WORDS = "reaches the guest through the measured command line"
_SHAPE = "processors are numbered in the ACPI tables, which RTMR0 takes"
_SLOTS = "the device is in the ACPI tables, which RTMR0 takes"
_RULES: tuple[tuple[str, tuple[Platform, ...], str, str], ...] = (
    ("cpu.vcpus", _SNP, MEASURED, "one VMSA page for each vCPU"),
    ("cpu.vcpus", _TD, MEASURED, "in the ACPI tables, which RTMR0 takes"),
    ("cpu.sockets", _TD, MEASURED, _SHAPE),
    ("cpu.threads", _TD, MEASURED, _SHAPE),
    ("devices", _TD, MEASURED, _SLOTS),
    ("passthrough", _TD, MEASURED, _SLOTS),
    ("cpu.model", _SNP, MEASURED, "its signature is in every VMSA"),
    ("memory", _TD, MEASURED, "in the TD HOB, ACPI and SMBIOS tables, which RTMR0 takes"),
    ("boot.cmdline", (*_SNP, *_TD), MEASURED, "the command line is measured"),
    ("boot.firmware_sha256", (*_SNP, *_TD), UNMEASURED, "only compared by the launcher"),
    ("boot", (*_SNP, *_TD), UNMEASURED, _CONTENT),
    ("snp.guest_features", _SNP, MEASURED, "SEV_FEATURES of every VMSA"),
    ("snp.id_block", _SNP, SHOWN, "the chip refuses a launch that does not match; its key is in every report"),
    ("snp.id_auth", _SNP, SHOWN, "the chip refuses a launch that does not match; its key is in every report"),
    ("snp.vcek_disabled", _SNP, SHOWN, "every report says whether a VCEK or a VLEK signed it"),
    ("tdx.processor_id", _TD, MEASURED, "in SMBIOS, which RTMR0 takes"),
    ("attestation", (*_SNP, *_TD), MEASURED, _WORDS),
    ("guest", (*_SNP, *_TD), MEASURED, _WORDS),
    ("operators", (*_SNP, *_TD), MEASURED, _WORDS),
    ("init_data", (*_SNP, *_TD), SHOWN, "its digest is in every report or quote (HOST_DATA, MRCONFIGID)"),
)


def _flat(path: str, value: object) -> dict[str, str]:
    """``{"cpu.vcpus": "2", "disks[0].path": "…"}``"""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        pairs = ((f"{path}.{name}" if path else name, item) for name, item in value._asdict().items())
    elif isinstance(value, tuple):
        pairs = ((f"{path}[{number}]", item) for number, item in enumerate(value))
    else:
        return {} if value is None else {path: _text(value)}
    return {name: text for where, item in pairs for name, text in _flat(where, item).items()}


def _text(value: object) -> str:
    if isinstance(value, Platform):
        return value.value
    if isinstance(value, bool):
        return str(value).lower()
    return value.hex() if isinstance(value, bytes) else str(value)


def _firmware(recipe: LaunchRecipe) -> str:
    return f"sha256:{recipe.firmware_sha256.hex()}"


def _hex(digest: bytes | None) -> str:
    return "-" if digest is None else digest.hex()
