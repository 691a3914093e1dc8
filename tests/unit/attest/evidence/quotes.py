"""Quotes and TDREPORTs put together by hand for parser tests: right in every length, signed by nobody."""

from __future__ import annotations

import hashlib
import struct

VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
PEM = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
CHAIN = PEM * 3 + b"\0"
BODY_SIZES = {"sgx": 384, "1.0": 584, "1.5": 648, "1.5-extended": 885}
BODY_TYPES = {"sgx": 1, "1.0": 2, "1.5": 3, "1.5-extended": 4}


def sgx_body(**fields: bytes) -> bytes:
    """384 bytes, zero but for ``fields``."""
    offsets = {"cpusvn": 0, "attributes": 48, "mrenclave": 64, "isvsvn": 258, "report_data": 320}
    body = bytearray(384)
    for name, value in fields.items():
        body[offsets[name] : offsets[name] + len(value)] = value
    return bytes(body)


def header(version: int, tee_type: int, key_type: int = 2) -> bytes:
    """48 bytes."""
    return struct.pack("<HHIHH", version, key_type, tee_type, 0, 0) + VENDOR + bytes(range(20))


def qe_material(kind: int = 5, data: bytes = CHAIN, auth: bytes = b"a" * 32, after: bytes = b"") -> bytes:
    """QE report, signature, authentication and certification data."""
    return (
        sgx_body(isvsvn=b"\x07\0") + b"Q" * 64 + struct.pack("<H", len(auth)) + auth
        + struct.pack("<HI", kind, len(data)) + data + after
    )  # fmt: skip


def make_quote(
    version: int = 4,
    layout: str = "1.0",
    *,
    head: bytes | None = None,
    body: bytes | None = None,
    outer: int = 6,
    material: bytes | None = None,
    size: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """A quote of ``layout`` with any one part replaced; ``size`` is what the signature data claim to have."""
    tee = 0 if layout == "sgx" else 0x81
    material = qe_material() if material is None else material
    if version > 3:
        material = struct.pack("<HI", outer, len(material)) + material
    signature_data = b"S" * 64 + b"K" * 64 + material
    body = bytes(BODY_SIZES[layout]) if body is None else body
    described = struct.pack("<HI", BODY_TYPES[layout], len(body)) if version == 5 else b""
    claimed = struct.pack("<I", len(signature_data) if size is None else size)
    return (head or header(version, tee)) + described + body + claimed + signature_data + tail


def make_tdreport(*, version: int = 0, report_data: bytes = bytes(64), **fields: bytes) -> bytes:
    """A TDREPORT whose two hashes fit; ``fields`` by their names, in the TEE_TCB_INFO and TDINFO parts."""
    tcb, info = bytearray(239), bytearray(512)
    places = {
        "tcb_info_valid": (tcb, 0), "tee_tcb_svn": (tcb, 8), "mrseam": (tcb, 24), "mrsignerseam": (tcb, 72),
        "seamattributes": (tcb, 120), "tee_tcb_svn2": (tcb, 128), "td_attributes": (info, 0), "xfam": (info, 8),
        "mrtd": (info, 16), "mrconfigid": (info, 64), "mrowner": (info, 112), "mrownerconfig": (info, 160),
        "rtmrs": (info, 208), "mrservicetd": (info, 400), "newer": (info, 448),
    }  # fmt: skip
    for name, value in fields.items():
        part, offset = places[name]
        part[offset : offset + len(value)] = value
    mac = bytes([0x81, 0, version]) + bytes(13) + bytes(range(16))
    mac += hashlib.sha384(tcb).digest() + hashlib.sha384(info).digest() + report_data + bytes(32) + b"M" * 32
    return mac + bytes(tcb) + bytes(17) + bytes(info)
