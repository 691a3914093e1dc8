"""A libvirt domain (XML) -> a VM file (TOML), and a list of everything that could not be carried over, with the reason.

The XML is a stranger's (:mod:`launcher.config.xml`). Nothing in it is executed or opened. An element that is not
understood is reported, with all it holds; of attributes only those that choose something else than cvm would.
Source: libvirt "Domain XML format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from launcher.config import libvirt_disk
from launcher.config.libvirt_host import HANDLED, HostParts
from launcher.config.libvirt_lifecycle import HANDLED as LIFECYCLE
from launcher.config.libvirt_lifecycle import lifecycle
from launcher.config.libvirt_net import interface
from launcher.config.sizes import parse_size, show_size
from launcher.config.toml_text import array_lines, lines
from launcher.config.xml import DomainMalformed, Element, parse_xml
from policy.named import NamedTuple

_UNITS = {"b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20,
          "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40, "TiB": 1 << 40}  # fmt: skip


class Left(NamedTuple):
    """Something that was not carried over, and why. ``where`` is a path such as ``devices/disk[2]``."""

    where: str
    why: str


class Imported(NamedTuple):
    """The VM file's text and what it lacks."""

    toml: str
    left: tuple[Left, ...]


def import_domain(data: bytes) -> Imported:
    """Read a domain. Raises :class:`DomainMalformed` only when it is no domain at all; all else is in ``left``."""
    root = parse_xml(data)
    if root.name != "domain":
        raise DomainMalformed(f"domain: the root element is <{root.name[:40]}>, want <domain>")
    return _Importer(root).result()


class _Importer:
    """Walks the domain once; ``_known`` tells for each element who understands it."""

    def __init__(self, root: Element) -> None:
        self._root = root
        self._left: list[Left] = []
        self._top: dict[str, object] = {"schema": 1}
        self._tables: dict[str, dict[str, object]] = {}
        self._disks: list[dict[str, object]] = []
        self._throttles: dict[str, dict[str, object]] = {}
        self._net: dict[str, object] | None = None
        self._arrays: list[tuple[str, dict[str, object]]] = []

    def result(self) -> Imported:
        """The file and what is missing from it."""
        self._platform()
        self._top["name"] = self._name()
        self._top["memory"] = self._memory()
        self._cpu()
        self._boot()
        for number, device in enumerate(self._devices()):
            self._device(device, number)
        self._host()
        for item in self._root.children:
            if item.name not in _HANDLED:
                self._leave(item.name, _REASONS.get(item.name, "cvm has no such setting"))
        return Imported(self._written(), tuple(self._left))

    def _host(self) -> None:
        """What it wants of its host: placement, memory's backing, limits, devices."""
        count = self._table("cpu").get("count", 1)
        memory = parse_size(str(self._top["memory"])) or 0
        found = HostParts(count if isinstance(count, int) else 1, memory, confidential=self._top["platform"] != "none")
        found.read(self._root)
        found.finish()
        self._tables["lifecycle"], ends = lifecycle(self._root, confidential=self._top["platform"] != "none")
        for name, table in (("placement", found.placement), ("ram", found.ram), ("limits", found.limits)):
            self._table(name).update(table)
        self._arrays = [("passthrough", item) for item in found.passthrough]
        self._arrays += [("share", item) for item in found.shares]
        for where, why in (*found.left, *ends):
            self._leave(where, why)

    def _leave(self, where: str, why: str) -> None:
        self._left.append(Left(where[:120], why))

    def _platform(self) -> None:
        security = self._root.child("launchSecurity")
        kind = "" if security is None else security.attributes.get("type", "")
        self._top["platform"] = {"sev-snp": "sev-snp", "tdx": "tdx"}.get(kind, "none")
        if security is None:
            return
        if kind not in ("sev-snp", "tdx"):
            self._leave("launchSecurity", f"type {kind!r}: cvm launches SEV-SNP and TDX only")
        if kind == "sev-snp" and security.attributes.get("vcek") == "no":
            self._table("snp")["vcek_disabled"] = True
        for item in security.children:
            self._security(kind, item)

    def _security(self, kind: str, item: Element) -> None:
        if kind == "sev-snp" and item.name == "policy":
            self._guest_policy(item.words)
        elif kind == "sev-snp" and item.name == "hostData" and (raw := _base64(item.words, 32)) is not None:
            self._table("snp")["host_data"] = raw.hex()
        elif kind == "tdx" and item.name.lower() in _TD_FIELDS and (raw := _base64(item.words, 48)) is not None:
            self._table("tdx")[item.name.lower()] = raw.hex()
        elif kind == "tdx" and item.name == "quoteGenerationService" and "path" in item.attributes:
            self._table("tdx")["quote_socket"] = f"unix:{item.attributes['path']}"
        elif item.name in ("cbitpos", "reducedPhysBits"):
            return  # the launcher asks the processor
        else:
            self._leave(f"launchSecurity/{item.name}", _REASONS.get(item.name, "not understood, or not of its length"))

    def _guest_policy(self, words: str) -> None:
        """Bits of the Guest Policy as switches; a bit without a name is reported."""
        try:
            value = int(words, 0)
        except ValueError:
            self._leave("launchSecurity/policy", f"got {words[:40]!r}, want a number")
            return
        table = self._table("snp")
        table["smt"] = bool(value >> 16 & 1)
        for name, bit in _SWITCHES.items():
            if value >> bit & 1:
                table[name] = True
        if value & 0xFFFF:
            table["abi_min"] = f"{value >> 8 & 0xFF}.{value & 0xFF}"
        known = 0xFFFF | 1 << 16 | 1 << 17 | sum(1 << bit for bit in _SWITCHES.values())
        if value & ~known:
            self._leave("launchSecurity/policy", f"bits {value & ~known:#x} have no switch in cvm")

    def _name(self) -> str:
        found = self._root.child("name")
        text = "" if found is None else found.words
        name = re.sub("-+", "-", re.sub("[^a-z0-9-]", "-", text.lower()))[:63].strip("-") or "imported"
        if name != text:
            self._leave("name", f"{text[:63]!r} became {name!r}: names here have a-z 0-9 and inner '-'")
        return name

    def _memory(self) -> str:
        found = self._root.child("memory")
        size = None if found is None else _size(found, "KiB")
        if size is None or not 128 << 20 <= size <= 16 << 40:
            self._leave("memory", "missing or out of range: 1GiB was written, change it")
            return "1GiB"
        whole = -(-size >> 20) << 20
        if whole != size:
            self._leave("memory", "rounded up to whole MiB")
        return show_size(whole)

    def _cpu(self) -> None:
        vcpu = self._root.child("vcpu")
        if vcpu is not None:
            count = int(vcpu.words) if vcpu.words.isascii() and vcpu.words.isdigit() and len(vcpu.words) < 5 else 0
            if 1 <= count <= 4096:
                self._table("cpu")["count"] = count
            else:
                self._leave("vcpu", f"got {vcpu.words[:20]!r}, want 1 to 4096")
            for name in vcpu.attributes:
                self._leave(f"vcpu@{name[:40]}", "placement is not carried over")
        cpu = self._root.child("cpu")
        if cpu is None:
            return
        model = cpu.child("model")
        if self._top["platform"] == "tdx":
            if model is not None:
                self._leave("cpu/model", "a TD's model is always the host's")
        elif model is not None and re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", model.words):
            self._table("cpu")["model"] = model.words
        else:
            mode = cpu.attributes.get("mode", "")
            self._leave(
                "cpu",
                f"mode {mode[:30]!r}: no named model; cvm's default stands, for a digest must not depend on the host",
            )
        for item in cpu.children:
            if item.name != "model":
                self._leave(f"cpu/{item.name}", "single features and topology are not carried over")

    def _boot(self) -> None:
        os = self._root.child("os")
        boot = self._table("boot")
        for item in () if os is None else os.children:
            if item.name in ("kernel", "initrd", "cmdline") and item.words:
                boot[item.name] = item.words
            elif item.name == "loader" and item.words:
                boot["firmware"] = item.words
            elif item.name not in ("type", "kernel", "initrd", "cmdline", "loader"):
                self._leave(f"os/{item.name}", _REASONS.get(item.name, "cvm has no such setting"))
        if self._top["platform"] == "sev-snp" and "kernel" not in boot:
            self._leave("os", "no kernel: cvm measures the kernel of an SEV-SNP VM, so it needs kernel and initrd")
        cmdline = str(boot.get("cmdline", ""))
        if not all(" " <= char <= "~" for char in cmdline):
            boot.pop("cmdline", None)
            self._leave("os/cmdline", "has characters beside printable ASCII")

    def _devices(self) -> Iterator[Element]:
        devices = self._root.child("devices")
        return iter(() if devices is None else devices.children)

    def _device(self, item: Element, number: int) -> None:
        if item.name == "disk":
            self._disk(item, number)
        elif item.name == "interface":
            self._interface(item, number)
        elif item.name == "vsock":
            self._vsock(item)
        elif item.name not in ("emulator", "console", "serial", "hostdev", "memballoon", "filesystem"):
            self._leave(f"devices/{item.name}", _REASONS.get(item.name, "cvm gives a VM no such device"))

    def _disk(self, item: Element, number: int) -> None:
        table, group, left = libvirt_disk.disk(item)
        for part, why in left:
            self._leave(f"devices/disk[{number}]{part}", why or _REASONS.get(part.lstrip("/"), "not carried over"))
        if table is not None:
            self._disks.append(table)
        if group is not None:
            self._throttles.setdefault(*group)

    def _interface(self, item: Element, number: int) -> None:
        where = f"devices/interface[{number}]"
        if self._net is not None:
            self._leave(where, "more than one network")
            return
        self._net, left = interface(item)
        for part, why in left:
            self._leave(where + part, why)

    def _vsock(self, item: Element) -> None:
        cid = item.child("cid")
        address = "" if cid is None or cid.attributes.get("auto") == "yes" else cid.attributes.get("address", "")
        number = int(address) if address.isascii() and address.isdigit() and len(address) < 11 else 0
        self._tables["vsock"] = {"cid": number} if 3 <= number < 0xFFFFFFFF else {}

    def _table(self, name: str) -> dict[str, object]:
        return self._tables.setdefault(name, {})

    def _written(self) -> str:
        parts = [lines(self._top)]
        parts += [f"[{name}]\n{lines(values)}" for name, values in self._tables.items() if values or name == "vsock"]
        parts += [f'[[throttle]]\nname = "{name}"\n{lines(values)}' for name, values in self._throttles.items()]
        parts += [array_lines("disk", values) for values in self._disks]
        parts += [f"[[{name}]]\n{lines(values)}" for name, values in self._arrays]
        if self._net is not None:
            parts.append(f"[[net]]\n{lines(self._net)}")
        return "\n".join(parts)


_HANDLED = frozenset(("name", "memory", "vcpu", "cpu", "os", "devices", "launchSecurity", *HANDLED, *LIFECYCLE))
_TD_FIELDS = ("mrconfigid", "mrowner", "mrownerconfig")
_SWITCHES = {"migrate_ma": 18, "debug": 19, "single_socket": 20, "cxl_allow": 21, "mem_aes_256_xts": 22, "rapl_dis": 23,
             "ciphertext_hiding": 24, "page_swap_disable": 25}  # fmt: skip
_REASONS: Mapping[str, str] = {
    "uuid": "cvm names VMs by name only",
    "currentMemory": "a VM starts with all its memory; `cvm memory` gives an ordinary one less",
    "features": "machine features are decided by cvm, the same for every VM",
    "clock": "UTC, always",
    "graphics": "no graphics: the host would see the guest's screen",
    "video": "no graphics: the host would see the guest's screen",
    "input": "no graphics, so no input devices",
    "channel": "an agent's channel would be a way in that nobody measured",
    "tpm": "[devices] tpm gives an ordinary VM a new one; what this one remembers stays where it is",
    "nvram": "variables are not measured; the kernel is booted directly",
    "bootmenu": "the kernel is booted directly",
    "boot": "the kernel is booted directly",
    "smbios": "not measured, so nothing may depend on it",
    "encryption": "the host would hold the key: encrypt inside the guest (cvm disk create)",
    "mirror": "a copy that is being made; copies that stay are [[disk.replica]]",
    "backingStore": "an image over another file is refused: qemu-img convert makes a whole one",
    "idBlock": "write it to a file with idAuth and name both under [snp]",
    "idAuth": "write it to a file with idBlock and name both under [snp]",
    "dhCert": "of SEV before SNP",
    "session": "of SEV before SNP",
    "policy": "TD attributes are switches under [tdx]",
    "commandline": "arguments for QEMU behind the launcher's back would make the plan untrue",
}


def _size(item: Element, default: str) -> int | None:
    unit = _UNITS.get(item.attributes.get("unit", default))
    words = item.words
    return int(words) * unit if unit is not None and words.isascii() and words.isdigit() and len(words) < 18 else None


def _base64(words: str, size: int) -> bytes | None:
    from binascii import Error, a2b_base64

    try:
        raw = a2b_base64("".join(words.split()), strict_mode=True)
    except (Error, ValueError):
        return None
    return raw if len(raw) == size else None
