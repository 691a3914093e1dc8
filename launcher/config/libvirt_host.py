"""What a libvirt domain says about its host -> ``[placement]``, ``[ram]``, ``[limits]``, ``[[passthrough]]``,
``[[share]]``.

Only what the VM file can hold is carried over; everything else is named with its reason.
Source: libvirt "Domain XML format": CPU and NUMA tuning, memory backing, block I/O tuning, host devices.
"""

from __future__ import annotations

from launcher.config.hardware_parts import is_tag
from launcher.config.sizes import parse_size
from launcher.config.xml import Element
from launcher.core.limits import cpu_list

HANDLED = ("cputune", "numatune", "memoryBacking", "blkiotune")
_PAGES = {("2", "M"): "2MiB", ("2048", "K"): "2MiB", ("2048", "KiB"): "2MiB", ("2", "MiB"): "2MiB",
          ("1", "G"): "1GiB", ("1", "GiB"): "1GiB", ("1048576", "KiB"): "1GiB"}  # fmt: skip
_PRIVATE = "the host cannot take a confidential VM's private memory back"


class HostParts:
    """The tables, filled by :meth:`read`, and what was left."""

    def __init__(self, vcpus: int, memory: int, *, confidential: bool) -> None:
        self._vcpus = vcpus
        self._memory = memory
        self._confidential = confidential
        self.placement: dict[str, object] = {}
        self.ram: dict[str, object] = {}
        self.limits: dict[str, object] = {}
        self.passthrough: list[dict[str, object]] = []
        self.shares: list[dict[str, object]] = []
        self.left: list[tuple[str, str]] = []

    def read(self, root: Element) -> None:
        """All of a domain's elements named in ``HANDLED``, its balloon and its host devices."""
        readers = {"cputune": self._cputune, "numatune": self._numatune, "memoryBacking": self._backing,
                   "blkiotune": self._blkiotune}  # fmt: skip
        for item in root.children:
            if item.name in readers:
                for part in item.children:
                    readers[item.name](part)
        devices = root.child("devices")
        for item in () if devices is None else devices.children:
            if item.name == "hostdev":
                self._hostdev(item)
            elif item.name == "memballoon":
                self._balloon(item)
            elif item.name == "filesystem":
                self._filesystem(item)

    def _leave(self, where: str, why: str) -> None:
        self.left.append((where, why))

    def _cputune(self, part: Element) -> None:
        where, cpus = f"cputune/{part.name}", part.attributes.get("cpuset", "")
        number = _number(part.words)
        if part.name == "vcpupin" and _is_list(cpus):
            self._pin(_number(part.attributes.get("vcpu", "")), cpus)
        elif part.name == "emulatorpin" and _is_list(cpus):
            self.placement["emulator"] = cpus
        elif part.name == "iothreadpin" and _is_list(cpus) and self.placement.get("io", cpus) == cpus:
            self.placement["io"] = cpus
        elif part.name == "shares" and number is not None and 1 <= number <= 10_000:
            self.limits["cpu_weight"] = number
            self._leave(where, "taken as cgroup v2's weight, as libvirt does on such a host: 100 is usual")
        elif part.name in ("vcpupin", "emulatorpin", "iothreadpin"):
            self._leave(where, "no list of processors that can be carried over")
        else:
            self._leave(where, "see [limits] cpu_max: one limit for the whole VM, in percent of one processor")

    def _pin(self, vcpu: int | None, cpus: str) -> None:
        """Complete only when every vCPU has its own; `finish` sees to that."""
        pins = self.placement.setdefault("vcpus", [""] * self._vcpus)
        if isinstance(pins, list) and vcpu is not None and vcpu < self._vcpus:
            pins[vcpu] = cpus
        else:
            self._leave("cputune/vcpupin", "names a vCPU that is not there")

    def finish(self) -> None:
        """Pins of some vCPUs only are left: a list says where each one is."""
        pins = self.placement.get("vcpus")
        if isinstance(pins, list) and "" in pins:
            del self.placement["vcpus"]
            self._leave("cputune/vcpupin", "does not pin every vCPU")

    def _numatune(self, part: Element) -> None:
        nodes = part.attributes.get("nodeset", "")
        if part.name == "memory" and part.attributes.get("mode", "strict") == "strict" and _is_list(nodes):
            self.placement["mems"] = nodes
        else:
            self._leave(f"numatune/{part.name}", "only one strict set of nodes for all memory can be carried over")

    def _backing(self, part: Element) -> None:
        where = f"memoryBacking/{part.name}"
        if part.name == "hugepages" and not self._confidential:
            page = part.child("page")
            attributes = {} if page is None else page.attributes
            size = _PAGES.get((attributes.get("size", "2"), attributes.get("unit", "KiB" if page else "M")))
            if size is None or "nodeset" in attributes or self._memory % (parse_size(size) or 1):
                self._leave(where, "want one size, 2 MiB or 1 GiB, of which memory is a multiple")
            else:
                self.ram["huge_pages"] = size
        elif part.name == "allocation" and part.attributes.get("mode") == "immediate" and not self._confidential:
            self.ram["prealloc"] = True
        elif part.name in ("hugepages", "allocation"):
            self._leave(where, "would double a confidential VM's memory (ram.allow_double_memory)")
        elif part.name not in ("source", "access", "nosharepages"):
            self._leave(where, "locking is decided by cvm")

    def _blkiotune(self, part: Element) -> None:
        number = _number(part.words)
        if part.name == "weight" and number is not None and 1 <= number <= 10_000:
            self.limits["io_weight"] = number
        else:
            self._leave(f"blkiotune/{part.name}", "see [[limits.io]], by device of this host")

    def _balloon(self, item: Element) -> None:
        if item.attributes.get("model") == "none":
            return
        if self._confidential:
            self._leave("devices/memballoon", _PRIVATE)
            return
        self.ram["balloon"] = True
        if item.attributes.get("freePageReporting") == "on":
            self.ram["free_page_reporting"] = True

    def _hostdev(self, item: Element) -> None:
        source = item.child("source")
        address = None if source is None else source.child("address")
        if item.attributes.get("type") != "pci" or address is None:
            self._leave("devices/hostdev", "only PCI functions can be passed through")
            return
        found = _pci(address)
        if found is None or found in [entry["address"] for entry in self.passthrough] or len(self.passthrough) == 16:
            self._leave("devices/hostdev", "no address that can be carried over")
            return
        self.passthrough.append({"address": found})
        if item.child("rom") is not None or item.child("boot") is not None:
            self._leave("devices/hostdev", "its ROM and boot order are not carried over")

    def _filesystem(self, item: Element) -> None:
        where = "devices/filesystem"
        if self._confidential:
            self._leave(where, "a shared folder is visible to and changeable by the host")
            return
        driver, source, target = (item.child(name) for name in ("driver", "source", "target"))
        path = "" if source is None else source.attributes.get("dir", "")
        tag = "" if target is None else target.attributes.get("dir", "")
        if driver is None or driver.attributes.get("type") != "virtiofs":
            self._leave(where, "only virtiofs is offered: mount -t virtiofs in the guest")
        elif not path or not is_tag(tag) or tag in [share["tag"] for share in self.shares]:
            self._leave(where, "its folder or its name cannot be carried over")
        else:
            self.shares.append({"path": path, "tag": tag, "readonly": item.child("readonly") is not None})


def _pci(address: Element) -> str | None:
    parts = []
    for name, limit in (("domain", 0xFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7)):
        text = address.attributes.get(name, "0x0")
        number = _number(text) if not text.lower().startswith("0x") else _hexadecimal(text[2:])
        if number is None or number > limit:
            return None
        parts.append(number)
    return f"{parts[0]:04x}:{parts[1]:02x}:{parts[2]:02x}.{parts[3]}"


def _hexadecimal(text: str) -> int | None:
    return int(text, 16) if 0 < len(text) <= 4 and set(text.lower()) <= set("0123456789abcdef") else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _is_list(text: str) -> bool:
    """A list as the VM file wants it: libvirt's ``^3`` (but not 3) is none."""
    try:
        cpu_list(text)
    except ValueError:
        return False
    return True
