"""The table ``[tdx]`` of a VM file. Sizes are checked here: QEMU looks at them only when the first vCPU is made."""

from __future__ import annotations

from launcher.core.vm import TD_SWITCHES, TdxSettings
from policy.late import fullmatch
from policy.table import Table

_SOCKET = r"unix:(/[^\0,]{1,106})|vsock:([0-9]{1,10}):([0-9]{1,5})"
_NO_SOCKET = "none"


def tdx(table: Table) -> TdxSettings:
    """``[tdx]``"""
    default = TdxSettings()
    switches = {name: table.value(name, bool, getattr(default, name)) or False for name in TD_SWITCHES}
    if not switches["sept_ve_disable"]:
        table.problem("sept_ve_disable", "want true: without it the host can inject faults, and Linux refuses to boot")
    if table.value("debug", bool, default=False):
        table.problem("debug", "QEMU starts no TD with attribute DEBUG; the host could read and change all of it")
    settings = TdxSettings(
        **switches,
        mrconfigid=_bytes(table, "mrconfigid", 48) or default.mrconfigid,
        mrowner=_bytes(table, "mrowner", 48) or default.mrowner,
        mrownerconfig=_bytes(table, "mrownerconfig", 48) or default.mrownerconfig,
        quote_socket=_socket(table, default.quote_socket or _NO_SOCKET),
        processor_id=_bytes(table, "processor_id", 8),
    )
    table.finish()
    return settings


def _bytes(table: Table, key: str, size: int) -> bytes | None:
    """Bytes in hexadecimal; ``None`` when absent or wrong."""
    text = table.value(key, str) if table.has(key) else None
    if text is None:
        return None
    if not fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        table.problem(key, f"want {2 * size} lower-case hexadecimal digits ({size} bytes)")
        return None
    return bytes.fromhex(text)


def _socket(table: Table, default: str) -> str | None:
    text = table.value("quote_socket", str, default) or _NO_SOCKET
    if text == _NO_SOCKET:
        return None
    match = fullmatch(_SOCKET, text)
    too_large = match is not None and match[2] is not None and (int(match[2]) >= 1 << 32 or int(match[3]) >= 1 << 16)
    if match is None or too_large:
        table.problem(
            "quote_socket", f'got {text[:80]!r}, want "unix:/path", "vsock:CID:PORT" (CID 2 is this host) or "none"'
        )
        return None
    return text
