"""The text form of messaging device path nodes (type 3). Source: UEFI 2.10, sections 10.3.4 and 10.6.1.6."""

from __future__ import annotations

from collections.abc import Callable

from attest.evidence.event_text import guid, shown
from policy.wire import ByteReader

_VENDORS = {
    "E0C14753-F9BE-11D2-9A0C-0090273FC14D": "VenPcAnsi",
    "DFA66065-B419-11D3-9A2D-0090273FC14D": "VenVt100",
    "7BAEC70B-57E0-4C76-8E87-2F9E28088343": "VenVt100Plus",
    "AD15A0D6-8BEC-4ACF-A073-D01DE77E2D88": "VenUtf8",
    "37499A9D-542F-4C89-A026-35DA142094E4": "UartFlowCtrl",
    "D487DDB4-008B-11D9-AFDC-001083FFCA4D": "SAS",
    "EBF8ED7C-0DD1-4787-84F1-F48D537DCACF": "DebugPort",
}


def _ata(reader: ByteReader) -> str:
    secondary, slave, lun = reader.u8("channel"), reader.u8("device"), reader.u16("LUN")
    if secondary > 1 or slave > 1:
        raise reader.fail("channel and device are 0 or 1")
    return f"Ata({('Primary', 'Secondary')[secondary]},{('Master', 'Slave')[slave]},0x{lun:X})"


def _scsi(reader: ByteReader) -> str:
    return f"Scsi(0x{reader.u16('target'):X},0x{reader.u16('LUN'):X})"


def _fibre(reader: ByteReader) -> str:
    reader.skip(4, "reserved")
    return f"Fibre(0x{reader.u64('WWN'):X},0x{reader.u64('LUN'):X})"


def _fibre_ex(reader: ByteReader) -> str:
    reader.skip(4, "reserved")
    return f"FibreEx(0x{reader.take(8, 'WWN').hex().upper()},0x{reader.take(8, 'LUN').hex().upper()})"


def _i1394(reader: ByteReader) -> str:
    reader.skip(4, "reserved")
    return f"I1394({reader.u64('GUID'):016X})"


def _usb(reader: ByteReader) -> str:
    return f"USB(0x{reader.u8('port'):X},0x{reader.u8('interface'):X})"


def _i2o(reader: ByteReader) -> str:
    return f"I2O(0x{reader.u32('TID'):X})"


def _infiniband(reader: ByteReader) -> str:
    flags, port = reader.u32("flags"), guid(reader.take(16, "port GID"))
    service, target, device = (reader.u64(name) for name in ("service", "target", "device"))
    return f"Infiniband(0x{flags:X},{port},0x{service:X},0x{target:X},0x{device:X})"


def _vendor(reader: ByteReader) -> str:
    vendor, rest = guid(reader.take(16, "vendor")), reader.take(reader.remaining, "data").hex().upper()
    name = _VENDORS.get(vendor)
    if name and (name.startswith("Ven") or name == "DebugPort") and not rest:
        return f"{name}()"
    return f"{name}({rest})" if name else f"VenMsg({vendor}{',' + rest if rest else ''})"


def _mac(reader: ByteReader) -> str:
    address, kind = reader.take(32, "address"), reader.u8("interface type")
    length = 6 if kind in (0, 1) else 32
    return f"MAC({address[:length].hex().upper()},0x{kind:X})"


def _dotted(raw: bytes) -> str:
    return ".".join(str(octet) for octet in raw)


def _colons(raw: bytes) -> str:
    return ":".join(raw[at : at + 2].hex().upper() for at in range(0, 16, 2))


def _protocol(number: int) -> str:
    return {6: "TCP", 17: "UDP"}.get(number, f"0x{number:X}")


def _ipv4(reader: ByteReader) -> str:
    local, remote = _dotted(reader.take(4, "local")), _dotted(reader.take(4, "remote"))
    reader.skip(4, "ports")
    protocol, static = _protocol(reader.u16("protocol")), reader.u8("static")
    gateway, mask = _dotted(reader.take(4, "gateway")), _dotted(reader.take(4, "mask"))
    return f"IPv4({remote},{protocol},{'Static' if static else 'DHCP'},{local},{gateway},{mask})"


def _ipv6(reader: ByteReader) -> str:
    local, remote = _colons(reader.take(16, "local")), _colons(reader.take(16, "remote"))
    reader.skip(4, "ports")
    protocol, origin, prefix = _protocol(reader.u16("protocol")), reader.u8("origin"), reader.u8("prefix length")
    gateway = _colons(reader.take(16, "gateway"))
    source = {0: "Static", 1: "StatelessAutoConfigure", 2: "StatefulAutoConfigure"}.get(origin, f"0x{origin:X}")
    return f"IPv6({remote},{protocol},{source},{local},0x{prefix:X},{gateway})"


def _uart(reader: ByteReader) -> str:
    reader.skip(4, "reserved")
    baud, bits, parity, stop = reader.u64("baud"), reader.u8("bits"), reader.u8("parity"), reader.u8("stop bits")
    stop_text = {0: "D", 1: "1", 2: "1.5", 3: "2"}.get(stop, "x")
    return f"Uart({baud or 'DEFAULT'},{bits or 'DEFAULT'},{'DNEOMS'[parity] if parity < 6 else 'x'},{stop_text})"


_USB_CLASSES = {
    1: "UsbAudio", 2: "UsbCDCControl", 3: "UsbHID", 6: "UsbImage", 7: "UsbPrinter", 8: "UsbMassStorage", 9: "UsbHub",
    10: "UsbCDCData", 11: "UsbSmartCard", 14: "UsbVideo", 220: "UsbDiagnostic", 224: "UsbWireless",
}  # fmt: skip


def _usb_class(reader: ByteReader) -> str:
    vendor, product = reader.u16("vendor"), reader.u16("product")
    device, subclass, protocol = reader.u8("class"), reader.u8("subclass"), reader.u8("protocol")
    name = _USB_CLASSES.get(device)
    if name:
        return f"{name}(0x{vendor:X},0x{product:X},0x{subclass:X},0x{protocol:X})"
    return f"UsbClass(0x{vendor:X},0x{product:X},0x{device:X},0x{subclass:X},0x{protocol:X})"


def _usb_wwid(reader: ByteReader) -> str:
    interface, vendor, product = reader.u16("interface"), reader.u16("vendor"), reader.u16("product")
    serial = shown(reader.take(reader.remaining, "serial number").decode("utf-16-le", "surrogatepass").rstrip("\0"))
    return f'UsbWwid(0x{vendor:X},0x{product:X},0x{interface:X},"{serial}")'


def _sata(reader: ByteReader) -> str:
    return f"Sata(0x{reader.u16('HBA port'):X},0x{reader.u16('multiplier port'):X},0x{reader.u16('LUN'):X})"


def _iscsi(reader: ByteReader) -> str:
    protocol, options, lun = reader.u16("protocol"), reader.u16("options"), reader.take(8, "LUN")
    group = reader.u16("portal group")
    name = shown(reader.take(reader.remaining, "target").rstrip(b"\0").decode("utf-8"))
    header = "CRC32C" if options & 2 else "None"
    data = "CRC32C" if options & 8 else "None"
    auth = "None" if options & 0x800 else "CHAP_UNI" if options & 0x1000 else "CHAP_BI"
    kind = "TCP" if protocol == 0 else f"0x{protocol:X}"
    return f"iSCSI({name},0x{group:X},0x{lun.hex().upper()},{header},{data},{auth},{kind})"


def _sas_ex(reader: ByteReader) -> str:
    address, lun = reader.take(8, "address").hex().upper(), reader.take(8, "LUN").hex().upper()
    return f"SasEx(0x{address},0x{lun},0x{reader.u16('topology'):X},0x{reader.u16('port'):X})"


def _nvme(reader: ByteReader) -> str:
    namespace, unique = reader.u32("namespace"), reader.take(8, "EUI-64")
    return f"NVMe(0x{namespace:X},{'-'.join(f'{octet:02X}' for octet in reversed(unique))})"


def _uri(reader: ByteReader) -> str:
    return f"Uri({shown(reader.take(reader.remaining, 'URI').decode('utf-8'))})"


def _bluetooth_le(reader: ByteReader) -> str:
    return f"BluetoothLE({reader.take(6, 'address').hex().upper()},0x{reader.u8('address type'):02X})"


def _wifi(reader: ByteReader) -> str:
    return f"Wi-Fi({shown(reader.take(32, 'SSID').rstrip(bytes(1)).decode('utf-8'))})"


def _dns(reader: ByteReader) -> str:
    six = reader.u8("is IPv6")
    if six > 1 or not reader.remaining or reader.remaining % 16:
        raise reader.fail("want addresses of 16 bytes")
    servers = []
    while reader.remaining:
        raw = reader.take(16, "server")
        servers.append(_colons(raw) if six else _dotted(raw[:4]))
    return f"Dns({','.join(servers)})"


def _rest_service(reader: ByteReader) -> str:
    service, mode = reader.u8("service"), reader.u8("access mode")
    rest = reader.take(reader.remaining, "vendor data")
    return f"RestService(0x{service:X},0x{mode:X}{',' + rest.hex().upper() if rest else ''})"


def _nvme_over_fabrics(reader: ByteReader) -> str:
    kind, identifier = reader.u8("NID type"), reader.take(16, "NID")
    name = shown(reader.take(reader.remaining, "subsystem").rstrip(b"\0").decode("utf-8"))
    return f"NVMEoF({name},0x{kind:X},{identifier.hex().upper()})"


MESSAGING: dict[int, Callable[[ByteReader], str]] = {
    1: _ata,
    2: _scsi,
    3: _fibre,
    4: _i1394,
    5: _usb,
    6: _i2o,
    9: _infiniband,
    10: _vendor,
    11: _mac,
    12: _ipv4,
    13: _ipv6,
    14: _uart,
    15: _usb_class,
    16: _usb_wwid,
    17: lambda reader: f"Unit(0x{reader.u8('LUN'):X})",
    18: _sata,
    19: _iscsi,
    20: lambda reader: f"Vlan({reader.u16('VLAN')})",
    21: _fibre_ex,
    22: _sas_ex,
    23: _nvme,
    24: _uri,
    25: lambda reader: f"UFS(0x{reader.u8('target'):X},0x{reader.u8('LUN'):02X})",
    26: lambda reader: f"SD(0x{reader.u8('slot'):X})",
    27: lambda reader: f"Bluetooth({reader.take(6, 'address').hex().upper()})",
    28: _wifi,
    29: lambda reader: f"eMMC(0x{reader.u8('slot'):X})",
    30: _bluetooth_le,
    31: _dns,
    32: lambda reader: f"NVDIMM({guid(reader.take(16, 'UUID'))})",
    33: _rest_service,
    34: _nvme_over_fabrics,
}
"""Forms by subtype."""
